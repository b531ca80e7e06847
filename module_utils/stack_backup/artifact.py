"""Writes artifacts: partial folder → (encrypt →) digest → fsync → rename → manifest → fsync of the folder."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import stat
import time
from pathlib import Path
from typing import Any, Mapping, Optional, Sequence, Union

from . import age
from .errors import BackupError, Locked
from .process import Deadline
from .signing import SUFFIX as SIGNATURE
from .signing import Key, signature_path

__all__ = [
    "Lock",
    "Partial",
    "Slot",
    "check_backup_dir",
    "digest",
    "encode",
    "free_bytes",
    "hand_over",
    "hand_over_tree",
    "manifest_path",
    "settle",
    "sync",
    "write_file",
    "write_json",
]

SUFFIX = {"postgres": ".dump", "redis": ".rdb"}
_BLOCK = 1024 * 1024
_WAIT = 0.5  # seconds between two looks for a free slot


def manifest_path(backup_dir: Path, store: str, point: str) -> Path:
    """Where the manifest of a backup is."""
    return backup_dir / store / f"{store}-{point}.json"


def check_backup_dir(backup_dir: Path, *, writable: bool = True) -> None:
    """The backup folder must be there, and ``writable`` unless it is only read: it may be a mount that is missing."""
    if not backup_dir.is_absolute():
        raise BackupError(f"the backup folder {str(backup_dir)!r} must be an absolute path: set stack_backup_dir")
    try:
        mode = backup_dir.stat().st_mode
    except FileNotFoundError:
        raise BackupError(
            f"the backup folder {backup_dir} is missing: create it, or mount its disk (stack_backup_dir)"
        ) from None
    except OSError as error:
        raise BackupError(
            f"the backup folder {backup_dir} can't be seen by uid {os.getuid()}: {error.strerror}: "
            "mend the mode of its parents, or set stack_backup_dir"
        ) from None
    if not stat.S_ISDIR(mode):
        raise BackupError(f"the backup folder {backup_dir} is not a folder: set stack_backup_dir to one")
    if not os.access(backup_dir, os.R_OK | os.X_OK):
        raise BackupError(
            f"the backup folder {backup_dir} is not readable by uid {os.getuid()}: mend its owner or mode"
        )
    if writable and (not os.access(backup_dir, os.W_OK) or os.statvfs(backup_dir).f_flag & os.ST_RDONLY):
        raise BackupError(
            f"the backup folder {backup_dir} is not writable by uid {os.getuid()}: mend its owner, mode or mount"
        )


def free_bytes(path: Path) -> int:
    """Bytes that this user can still write there."""
    disk = os.statvfs(path)
    return disk.f_bavail * disk.f_frsize


def digest(path: Path) -> dict[str, Any]:
    """``size`` (bytes) and ``sha256`` of a file; of a folder also ``files``, and the digest of their list.

    A folder's digest is that of the lines that ``sha256sum`` prints for its files in order of name.
    """
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        raise BackupError(f"{path} is a symbolic link: a backup is a file or a folder")
    if not stat.S_ISDIR(mode):
        if not stat.S_ISREG(mode):  # a named pipe would be waited for
            raise BackupError(f"{path} is a pipe or a device: a backup is a file or a folder")
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


def sync(path: Path) -> None:
    """What a file holds, or the names in a folder, is on the disk when this returns."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def hand_over(file: Union[int, Path], folder: Path) -> None:
    """What root writes below ``folder`` belongs to its owner, who may be the user that runs the scheduled jobs."""
    if os.geteuid() == 0:
        owner = folder.stat()
        os.chown(file, owner.st_uid, owner.st_gid, **({} if isinstance(file, int) else {"follow_symlinks": False}))


def hand_over_tree(top: Path) -> None:
    """As ``hand_over``, for a file or folder and all that is below it."""
    if os.geteuid() == 0:
        for path in (top, *top.rglob("*")):
            hand_over(path, top.parent)


def encode(data: Mapping[str, Any]) -> bytes:
    """What a JSON file of ours holds."""
    return f"{json.dumps(data, indent=1, sort_keys=True)}\n".encode()


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write or replace a JSON file, as ``write_file``."""
    write_file(path, encode(data))


def write_file(path: Path, content: bytes) -> None:
    """Write or replace a small file, for its owner alone, so that a crash leaves the old one or the new one."""
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)  # one that is left may be a pipe, or another name of a file elsewhere
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as file:
        hand_over(file.fileno(), path.parent)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    sync(path.parent)


def settle(paths: Sequence[Path]) -> None:
    """Files and folders are their owner's alone, and on the disk."""
    for path in paths:
        for file in sorted(path.iterdir()) if path.is_dir() else [path]:
            file.chmod(0o600)
            sync(file)
        if path.is_dir():
            path.chmod(0o700)
            sync(path)


def uncache(folder: Path) -> None:
    """Nobody reads these files soon: the page cache is the live databases'. They are on the disk already."""
    for file in folder.rglob("*"):
        if file.is_file():
            descriptor = os.open(file, os.O_RDONLY)
            try:
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)


def _open_lock(path: Path) -> int:
    descriptor = None
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
        told = os.fstat(descriptor)
        if not stat.S_ISREG(told.st_mode) or told.st_nlink != 1:
            raise OSError(errno.EINVAL, "it is no file of its own")
        hand_over(descriptor, path.parent)
    except OSError as error:
        if descriptor is not None:
            os.close(descriptor)
        raise BackupError(f"the lock {path} can't be opened: {error.strerror}: mend its owner or mode") from None
    return descriptor


class Lock:
    """One job per stack at a time: a lock on the backup folder that dies with its process."""

    def __init__(self, backup_dir: Path) -> None:
        self._path = backup_dir / ".lock"
        self._descriptor: Optional[int] = None

    def __enter__(self) -> None:
        self._descriptor = _open_lock(self._path)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._descriptor, 32).decode("ascii", "replace").strip()
            os.close(self._descriptor)
            raise Locked(
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


class Slot:
    """One of ``count`` places in a folder that stacks share, also of several machines: who finds none free waits.

    A place is a lock that dies with its process, so nobody need count or clean up.
    """

    def __init__(self, folder: Path, count: int, deadline: Deadline) -> None:
        if count < 1:
            raise BackupError(f"backup_slots is {count}: it must be 1 or more")
        self._paths = [folder / f".stack-backup-slot-{number}" for number in range(1, count + 1)]
        self._deadline = deadline
        self._descriptor: Optional[int] = None

    def __enter__(self) -> None:
        while self._descriptor is None:
            for path in self._paths:
                descriptor = _open_lock(path)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    os.close(descriptor)
                except OSError as error:
                    os.close(descriptor)
                    raise BackupError(f"{path} can't be locked there: {error.strerror}: set backup_slots_dir") from None
                else:
                    self._descriptor = descriptor
                    return
            time.sleep(self._deadline.left(_WAIT))

    def __exit__(self, *_exc: object) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)


class Partial:
    """A backup in the making: a folder ``<store>-<id>.partial`` that nothing takes for a backup."""

    def __init__(self, backup_dir: Path, store: str, engine: str, point: str, recipients: Sequence[str] = ()) -> None:
        """``recipients``: public keys that the files are encrypted to; see ``sealing``."""
        self.store_dir = backup_dir / store
        self.stem = f"{store}-{point}"
        self.folder = self.store_dir / f"{self.stem}.partial"
        self.recipients = tuple(recipients)
        suffix = age.SUFFIX if recipients else ""
        self.artifact = self.folder / f"{self.stem}{SUFFIX[engine]}{suffix}"
        self.globals = self.folder / f"{self.stem}.globals.sql{suffix}"
        self._names = [
            f"{self.stem}{ending}{more}" for ending in (SUFFIX[engine], ".globals.sql") for more in ("", age.SUFFIX)
        ]
        self._names.append(f"{self.stem}.json{SIGNATURE}")
        self._sealings: dict[Path, age.Sealing] = {}
        self._manifest = manifest_path(backup_dir, store, point)
        self._placed: list[Path] = []  # renamed, but no backup yet: the manifest comes last

    def taken(self) -> Optional[Path]:
        """What already has this id, if anything."""
        mine = (self.folder, *(self.store_dir / name for name in self._names), self._manifest)
        return next((path for path in mine if os.path.lexists(path)), None)

    def create(self) -> None:
        """Make the folder. Raises BackupError where something of this id is there already."""
        if self.store_dir.is_symlink():
            raise BackupError(f"{self.store_dir} is a symbolic link: the folder of a store must be a folder")
        try:
            self.store_dir.mkdir(mode=0o700, exist_ok=True)
            hand_over(self.store_dir, self.store_dir.parent)
            there = self.taken()
            if there:
                raise BackupError(f"{there} is there already: a backup is never overwritten, take another id")
            self.folder.mkdir(mode=0o700)
        except OSError as error:
            raise self.explain(error) from None

    def sealing(self, target: Path, deadline: Deadline, **more: Any) -> age.Sealing:
        """What encrypts ``target`` on its way to disk, the last attempt of it if there are several."""
        self._sealings[target] = age.Sealing(target, self.recipients, deadline, **more)
        return self._sealings[target]

    def encryption(self, target: Path) -> Optional[dict[str, Any]]:
        """What the manifest tells of a file's encryption."""
        return self._sealings[target].describe() if self.recipients else None

    def seal(self) -> dict[str, Any]:
        """Modes, digest and fsync of all files; returns the digests by file name."""
        from concurrent.futures import ThreadPoolExecutor  # who only reads the catalog needs none of it

        try:
            files = sorted(self.folder.iterdir())
            with ThreadPoolExecutor(1) as pool:
                written = pool.submit(settle, files)  # the disk writes what the processor reads from memory
                sealed = {path.name: digest(path) for path in files}
                written.result()
        except OSError as error:
            raise self.explain(error) from None
        return sealed

    def publish(self, manifest: dict[str, Any], key: Optional[Key] = None) -> Path:
        """Rename the files to their names, then the manifest: from then on it is a backup. ``key`` signs it first."""
        try:
            draft, content = self.folder / self._manifest.name, encode(manifest)
            write_file(draft, content)
            if key:
                write_file(signature_path(draft), key.sign(content))
            for path in sorted(self.folder.iterdir(), key=lambda item: item == draft):
                if path == draft:
                    sync(self.store_dir)  # the artifact's name is on disk before its manifest is
                for file in (*(path.iterdir() if path.is_dir() else ()), path):
                    hand_over(file, self.store_dir)
                self._placed.append(self.store_dir / path.name)
                path.rename(self._placed[-1])
            self._placed.clear()
            self.folder.rmdir()
            sync(self.store_dir)
        except OSError as error:
            raise self.explain(error) from None
        return self.store_dir / self.artifact.name

    def discard(self) -> None:
        """Remove what was written; the store's folder too when nothing else is in it."""
        for path in self._placed:
            try:
                path.rename(self.folder / path.name)
            except OSError:
                pass
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
