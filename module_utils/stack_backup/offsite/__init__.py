"""Copies of recovery points at an rclone remote: made, proven, thinned out, and fetched back."""

from .copy import copy
from .fetch import fetch
from .prune import prune

__all__ = ["copy", "fetch", "prune"]
