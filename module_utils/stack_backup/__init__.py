"""The engine of stack-backup: Python's standard library only, Python 3.9 or newer."""

__version__ = "0.1.0"
