"""Postgres, by the server's own programs."""

from .adopt import learn
from .check import check
from .dump import Source
from .restore import Target
from .scratch import drill

__all__ = ["Source", "Target", "check", "drill", "learn"]
