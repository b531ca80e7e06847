"""Watches the backups of a stack, and shouts when they do not work."""

from .run import check, job_ended, job_started

__all__ = ["check", "job_ended", "job_started"]
