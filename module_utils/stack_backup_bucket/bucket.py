"""Reads a bucket below one prefix: the only place that calls boto3."""

from __future__ import annotations

import base64
import hashlib
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Callable, Iterable, Optional, TypeVar

from ..stack_backup.errors import BackupError
from .errors import boto_errors, explained, need_boto3, reason

__all__ = ["Bucket", "Head", "Unknown"]

_THREADS = 16
_STREAMS = 4  # downloads at a time
_BLOCK = 1024 * 1024
_ATTEMPTS = 3
_CONNECT_SECONDS, _READ_SECONDS = 5, 30
_In = TypeVar("_In")
_Out = TypeVar("_Out")


class Unknown(Exception):
    """A question that the keys may not ask, or that the endpoint does not know."""

    def __init__(self, error: Exception) -> None:
        super().__init__(reason(error))
        self.error = error


@dataclass(frozen=True)
class Head:
    """What a bucket keeps of an object beside its data. Times are ISO 8601 in UTC; None is not told."""

    sha256: Optional[str]  # of the whole object, in hex
    lock_mode: Optional[str]
    locked_until: Optional[str]


def _iso(when: Any) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(when.timestamp()))


class Bucket:
    """A bucket below ``params['prefix']``; names are those behind it. Every method raises BackupError."""

    def __init__(self, params: dict[str, Any]) -> None:
        boto3 = need_boto3()
        from botocore.config import Config

        prefix = str(params.get("prefix") or "").strip("/")
        self.name = str(params["bucket"])
        self._prefix = f"{prefix}/" if prefix else ""
        self._timeout = float(params["timeout"])
        self._end = time.monotonic() + self._timeout
        self._heads: dict[str, Head] = {}
        if bool(params.get("access_key")) != bool(params.get("secret_key")):
            raise BackupError("access_key and secret_key belong together: give both, or neither for boto3's own chain")
        config = Config(
            connect_timeout=_CONNECT_SECONDS,
            read_timeout=_READ_SECONDS,
            retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
            max_pool_connections=_THREADS,
            # Endpoints that are not Amazon's keep checksums that they can't tell of parts of objects.
            response_checksum_validation="when_required",
        )
        with explained(self.url()):
            session = boto3.Session(
                aws_access_key_id=params.get("access_key") or None,
                aws_secret_access_key=params.get("secret_key") or None,
                region_name=params.get("region") or None,
                profile_name=params.get("profile") or None,
            )
            self._client = session.client(
                "s3",
                endpoint_url=params.get("endpoint_url") or None,
                verify=params.get("ca_bundle") or None,
                config=config,
            )

    def url(self, name: str = "") -> str:
        """Where the bucket, or an object in it, is in a person's words."""
        return f"s3://{self.name}/{self._prefix}{name}"

    def _left(self) -> None:
        if time.monotonic() > self._end:
            raise BackupError(
                f"{self.url()}: not read within {self._timeout:g} s: raise timeout (offsite_info_timeout), "
                "or download less"
            )

    def sizes(self) -> dict[str, int]:
        """Bytes of every object, by name. What consoles make to show a folder is none."""
        found: dict[str, int] = {}
        with explained(self.url()):
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=self._prefix):
                self._left()
                for item in page.get("Contents", ()):
                    name = str(item["Key"])[len(self._prefix) :]
                    if name and not (name.endswith("/") and item["Size"] == 0):
                        found[name] = int(item["Size"])
        return found

    def _body(self, name: str) -> Any:
        self._left()
        return self._client.get_object(Bucket=self.name, Key=self._prefix + name)["Body"]

    def read(self, name: str) -> bytes:
        """A small object's content."""
        with explained(self.url(name)):
            return bytes(self._body(name).read())

    def digest(self, name: str) -> str:
        """The sha256 (hex) of an object's data, as it streams by."""
        sha = hashlib.sha256()
        with explained(self.url(name)):
            for part in self._body(name).iter_chunks(_BLOCK):
                self._left()
                sha.update(part)
        return sha.hexdigest()

    def head(self, name: str) -> Head:
        """What the bucket keeps of an object; a checksum of parts says nothing of the whole and counts as none."""
        if name not in self._heads:
            self._heads[name] = self._head(name)
        return self._heads[name]

    def _head(self, name: str) -> Head:
        with explained(self.url(name)):
            self._left()
            told = self._client.head_object(Bucket=self.name, Key=self._prefix + name, ChecksumMode="ENABLED")
            sha = told.get("ChecksumSHA256") or ""
            until = told.get("ObjectLockRetainUntilDate")
            return Head(
                base64.b64decode(sha).hex() if sha and "-" not in sha else None,
                told.get("ObjectLockMode"),
                _iso(until) if until else None,
            )

    def retention(self, name: str) -> tuple[str, str]:
        """Mode of an object's lock, and until when. Raises Unknown."""
        told = self.ask("get_object_retention", Key=self._prefix + name).get("Retention") or {}
        return (str(told["Mode"]), _iso(told["RetainUntilDate"])) if told.get("RetainUntilDate") else ("", "")

    def ask(self, call: str, **what: str) -> dict[str, Any]:
        """What the bucket says of itself. Raises Unknown for whatever kept it from saying so."""
        self._left()
        try:
            return dict(getattr(self._client, call)(Bucket=self.name, **what))
        except boto_errors() as error:
            raise Unknown(error) from None

    @staticmethod
    def _each(threads: int, work: Callable[[_In], _Out], items: Iterable[_In]) -> list[_Out]:
        pool = ThreadPoolExecutor(threads)
        try:
            return list(pool.map(work, items))
        finally:
            pool.shutdown(cancel_futures=True)  # the first error ends it

    def side_by_side(self, work: Callable[[_In], _Out], items: Iterable[_In]) -> list[_Out]:
        """``work`` for each item, many at a time: small requests."""
        return self._each(_THREADS, work, items)

    def few(self, work: Callable[[_In], _Out], items: Iterable[_In]) -> list[_Out]:
        """``work`` for each item, few at a time: downloads."""
        return self._each(_STREAMS, work, items)
