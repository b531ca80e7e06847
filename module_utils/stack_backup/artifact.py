"""Writes artifacts: partial folder → digest → fsync → rename → manifest → fsync of the folder."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any, Optional

from .errors import BackupError

__all__ = ["Lock", "Partial", "check_backup_dir", "digest", "free_bytes", "manifest_path"]

SUFFIX = {"postgres": ".dump", "redis": ".rdb"}
_BLOCK = 1024 * 1024


def manifest_path(backup_dir: Path, store: str, point: str) -> Path:
    """Where the manifest of a backup is."""
    return backup_dir / store / f"{store}-{point}.json"


def check_backup_dir(backup_dir: Path) -> None:
    """The backup folder must be there and writable: it may be a mount that is missing."""
    if not backup_dir.is_absolute():
        raise BackupError(f"the backup folder {str(backup_dir)!r} must be an absolute path: set stack_backup_dir")
    if not backup_dir.is_dir():
        raise BackupError(f"the backup folder {backup_dir} is missing: create it, or mount its disk (stack_backup_dir)")
    if not os.access(backup_dir, os.W_OK | os.X_OK) or os.statvfs(backup_dir).f_flag & os.ST_RDONLY:
        raise BackupError(
            f"the backup folder {backup_dir} is not writable by uid {os.getuid()}: mend its owner, mode or mount"
        )


def free_bytes(path: Path) -> int:
    """Bytes that this user can still write there."""
    stat = os.statvfs(path)
    return stat.f_bavail * stat.f_frsize


def digest(path: Path) -> dict[str, Any]:
    """``size`` (bytes) and ``sha256`` of a file; of a folder also ``files``, and the digest of their list.

    A folder's digest is that of the lines that ``sha256sum`` prints for its files in order of name.
    """
    if path.is_symlink():
        raise BackupError(f"{path} is a symbolic link: a backup is a file or a folder")
    if not path.is_dir():
        sha, size = hashlib.sha256(), 0
        buffer = bytearray(_BLOCK)
        view = memoryview(buffer)
        with path.open("rb", buffering=0) as file:
            while count := file.readinto(buffer):
                sha.update(view[:count])
                size += count
        return {"size": size, "sha256": sha.hexdigest()}
    files = {item.name: digest(item) for item in sorted(path.iterdir())}
    lines = "".join(f"{entry['sha256']}  {name}\n" for name, entry in files.items())
    return {
        "size": sum(entry["size"] for entry in files.values()),
        "sha256": hashlib.sha256(lines.encode()).hexdigest(),
        "files": files,
    }


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Lock:
    """One job per stack at a time: a lock on the backup folder that dies with its process."""

    def __init__(self, backup_dir: Path) -> None:
        self._path = backup_dir / ".lock"
        self._descriptor: Optional[int] = None

    def __enter__(self) -> None:
        try:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise BackupError(f"the lock {self._path} can't be opened: {error.strerror}") from None
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._descriptor, 32).decode("ascii", "replace").strip()
            os.close(self._descriptor)
            raise BackupError(
                f"another job of this stack is running (process {holder}): wait for its end; {self._path} holds the lock"
            ) from None
        try:
            os.ftruncate(self._descriptor, 0)
            os.write(self._descriptor, f"{os.getpid()}\n".encode())
        except OSError:  # a full disk must not keep the job from telling so itself
            pass

    def __exit__(self, *_exc: object) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)


class Partial:
    """A backup in the making: a folder ``<store>-<id>.partial`` that nothing takes for a backup."""

    def __init__(self, backup_dir: Path, store: str, engine: str, point: str) -> None:
        self.store_dir = backup_dir / store
        self.stem = f"{store}-{point}"
        self.folder = self.store_dir / f"{self.stem}.partial"
        self.artifact = self.folder / f"{self.stem}{SUFFIX[engine]}"
        self.globals = self.folder / f"{self.stem}.globals.sql"
        self._manifest = manifest_path(backup_dir, store, point)

    def taken(self) -> Optional[Path]:
        """What already has this id, if anything."""
        mine = (self.folder, self.store_dir / self.artifact.name, self.store_dir / self.globals.name, self._manifest)
        return next((path for path in mine if os.path.lexists(path)), None)

    def create(self) -> None:
        """Make the folder. Raises BackupError where something of this id is there already."""
        if self.store_dir.is_symlink():
            raise BackupError(f"{self.store_dir} is a symbolic link: the folder of a store must be a folder")
        try:
            self.store_dir.mkdir(mode=0o700, exist_ok=True)
            there = self.taken()
            if there:
                raise BackupError(f"{there} is there already: a backup is never overwritten, take another id")
            self.folder.mkdir(mode=0o700)
        except OSError as error:
            raise self.explain(error) from None

    def seal(self) -> dict[str, Any]:
        """Modes, digest and fsync of all files; returns the digests by file name."""
        sealed = {}
        try:
            for path in sorted(self.folder.iterdir()):
                for file in sorted(path.iterdir()) if path.is_dir() else [path]:
                    file.chmod(0o600)
                    _sync(file)
                if path.is_dir():
                    path.chmod(0o700)
                    _sync(path)
                sealed[path.name] = digest(path)
        except OSError as error:
            raise self.explain(error) from None
        return sealed

    def publish(self, manifest: dict[str, Any]) -> Path:
        """Rename the files to their names, then write the manifest: from then on it is a backup."""
        try:
            draft = self.folder / self._manifest.name
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
                json.dump(manifest, file, indent=1, sort_keys=True)
                file.write("\n")
                file.flush()
                os.fsync(file.fileno())
            for path in sorted(self.folder.iterdir(), key=lambda item: item == draft):
                if path == draft:
                    _sync(self.store_dir)  # the artifact's name is on disk before its manifest is
                path.rename(self.store_dir / path.name)
            self.folder.rmdir()
            _sync(self.store_dir)
        except OSError as error:
            raise self.explain(error) from None
        return self.store_dir / self.artifact.name

    def discard(self) -> None:
        """Remove what was written; the store's folder too when nothing else is in it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        try:
            self.store_dir.rmdir()
        except OSError:
            pass

    def explain(self, error: OSError) -> BackupError:
        """An operating system's error in this folder, with its cure."""
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return BackupError(
                f"no space left under {self.store_dir}: free some, or move stack_backup_dir to a larger disk"
            )
        return BackupError(
            f"{error.filename or self.folder}: {error.strerror}: mend the backup folder's disk, owner or mode"
        )
