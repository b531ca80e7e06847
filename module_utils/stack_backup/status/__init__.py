"""What people ask of a stack's backups: what is there, how it grew, what was proven, what goes when. Changes nothing."""

from .look import look

__all__ = ["look"]
