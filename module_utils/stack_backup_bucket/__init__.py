"""An independent look at an S3 bucket of backups. Needs boto3: it runs on the control node, never on a stack's host."""

from .look import look

__all__ = ["look"]
