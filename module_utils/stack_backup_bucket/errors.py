"""What boto3 and an endpoint say, in words that name the cure."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any, Iterator

from ..stack_backup.errors import BackupError

__all__ = ["Unreadable", "boto_errors", "code_of", "explained", "need_boto3", "reason"]

_KEYS = "see access_key and secret_key (offsite_info_access_key, offsite_info_secret_key), or the profile"
_REGION = "the bucket is of another region: set region (offsite_info_region)"
_REACH = "see endpoint_url (offsite_info_endpoint_url), the network and its firewalls"
# Codes of ClientError, and classes of BotoCoreError: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
_CURES = {
    "NoSuchBucket": "there is no such bucket at this endpoint: see bucket (offsite_info_bucket) and endpoint_url",
    "InvalidBucketName": "see bucket (offsite_info_bucket)",
    "InvalidAccessKeyId": _KEYS,
    "SignatureDoesNotMatch": _KEYS,
    "ExpiredToken": f"the keys have expired, make new ones; {_KEYS}",
    "InvalidToken": _KEYS,
    "AccessDenied": "give the keys s3:ListBucket on the bucket and s3:GetObject on its objects, no more",
    "403": "give the keys s3:ListBucket on the bucket and s3:GetObject on its objects, no more",
    "AuthorizationHeaderMalformed": _REGION,
    "PermanentRedirect": _REGION,
    "301": _REGION,
    "RequestTimeTooSkewed": "set the control node's clock (timedatectl)",
    "NoCredentialsError": _KEYS,
    "PartialCredentialsError": _KEYS,
    "ProfileNotFound": "see profile (offsite_info_profile)",
    "EndpointConnectionError": _REACH,
    "ConnectTimeoutError": _REACH,
    "ReadTimeoutError": _REACH,
    "ConnectionClosedError": _REACH,
    "ResponseStreamingError": _REACH,
    "SSLError": "the endpoint's certificate is not trusted: set ca_bundle (offsite_info_ca_bundle) to its CA's",
    "ParamValidationError": "see bucket (offsite_info_bucket)",
    "ResponseParserError": "that is no S3 service: see endpoint_url (offsite_info_endpoint_url)",
    "InvalidObjectState": "it is in an archive: restore it from there before it is needed",
}
_OF_ONE_OBJECT = ("NoSuchKey", "404", "InvalidObjectState")


class Unreadable(BackupError):
    """One object that is listed can't be read; others may be."""


def need_boto3() -> Any:
    """The package. Raises BackupError where it is missing."""
    try:
        import boto3
    except ImportError:
        raise BackupError(
            "boto3 is missing: offsite_info runs on the control node (delegate_to: localhost), in the Python that has "
            'requirements.txt (ansible_python_interpreter: "{{ ansible_playbook_python }}"): pip install boto3 there'
        ) from None
    return boto3


def boto_errors() -> tuple[type[Exception], ...]:
    """What a request raises; they have no class in common."""
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    return BotoCoreError, ClientError, ResponseParserError


def code_of(error: Exception) -> str:
    """What kind of error it is: the endpoint's code, else the exception's class."""
    answer = getattr(error, "response", None) or {}
    return str(answer.get("Error", {}).get("Code") or type(error).__name__)


def reason(error: Exception) -> str:
    """What the error says, shortly."""
    answer = getattr(error, "response", None) or {}
    said = str(answer.get("Error", {}).get("Message") or error).strip().rstrip(".") or "no reason given"
    code = code_of(error)
    return said if code in said else f"{code}: {said}"


@contextmanager
def explained(where: str) -> Iterator[None]:
    """Whatever boto3 raises becomes a BackupError that names ``where`` and the cure."""
    expected: tuple[type[Exception], ...] = (*boto_errors(), OSError, ValueError)
    try:
        yield
    except expected as error:
        code = code_of(error)
        cure = f": {_CURES[code]}" if code in _CURES else ""
        kind = Unreadable if code in _OF_ONE_OBJECT else BackupError
        raise kind(f"{where}: {reason(error)}{cure}") from None
