"""Redis and Valkey, by the server's own programs."""

from .adopt import learn
from .check import check
from .connection import Busy
from .dump import Source
from .restore import Target
from .scratch import drill

__all__ = ["Busy", "Source", "Target", "check", "drill", "learn"]
