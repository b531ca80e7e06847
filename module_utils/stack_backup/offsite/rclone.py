"""The one place that runs rclone: the host's own, or one in a container of a small Compose project that holds its secret."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import tempfile
from pathlib import Path
from typing import Any, Iterable, Iterator, NamedTuple, Optional, Sequence

from .. import content
from ..artifact import free_bytes
from ..containers import LABEL, LIFELINE, Docker
from ..errors import BackupError
from ..kinds import named, text, whole
from ..process import Deadline, Result, run

__all__ = ["CONFIG", "Comparison", "Rclone", "flags"]

CONFIG = "rclone.conf"
_SECRET = "/run/secrets/rclone_conf"  # noqa: S105 - where Compose puts the secret
_SERVICE = "rclone"
_MAX_LISTING = 256 * 1024 * 1024  # bytes: a million files
_NO_DIRECTORY = 3  # rclone's manual, "Exit code"
_FIXED = (
    # A bucket or prefix that is missing is a mistake to tell, not one to hide by making it.
    *("--s3-no-check-bucket", "--gcs-no-check-bucket"),
    *("--contimeout", "15s", "--timeout", "60s", "--stats", "0"),
)
_REMOTE = re.compile(r"(?:[\w.+@][\w.+@ -]*:|/).*")  # a section's name, or a folder; options are the section's own
_TIME = re.compile(r"^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d ")
_LEVEL = re.compile(r"^(ERROR|CRITICAL|NOTICE|Fatal error)\s*:?\s*")
_NOISE = re.compile(
    r"(https response error )?StatusCode: \d+, RequestID: [^,]*, HostID: [^,]*, "
    r"|^Failed to \w+( with \d+ errors)?: (last error was: )?"
)
_UNCHECKED = re.compile(r"(\d+) hashes could not be checked")
_CURES = (
    (r"RequestTimeTooSkewed", "this host's clock is wrong: set it, and keep it by NTP"),
    (
        r"(?i)quota|no space left|remaining disk space|insufficient storage|status code: 507|StatusCode: 507|EntityTooLarge",
        "the remote is full, or its quota is used up: make room there, or let it prune (offsite_keep_*)",
    ),
    (
        r"InvalidAccessKeyId|SignatureDoesNotMatch|AccessDenied|ExpiredToken|InvalidToken|unable to authenticate"
        r"|(?i:permission denied)|status code: 40[13]|StatusCode: 40[13]|Error 40[13]|invalid_grant|Forbidden",
        "the remote refuses these keys, or what they may do: put the right ones into offsite_rclone_config, then run "
        "playbooks/install.yml",
    ),
    (
        r"didn't find section in config|not found in config",
        "offsite_rclone_config has no section of the name that offsite_remote begins with",
    ),
    (
        r"NoSuchBucket|bucket.*(?:not found|does not exist|doesn't exist)|notFound",
        "make the bucket, or mend offsite_remote",
    ),
    (
        r"no such host|connection refused|i/o timeout|deadline exceeded|no route to host|network is unreachable"
        r"|connection reset|TLS handshake|lookup |Client\.Timeout|awaiting response headers|unexpected EOF|: EOF",
        "the remote can't be reached from this host: see its address, the network and the firewall",
    ),
    (
        r"object not found|corrupted on transfer",
        "the remote does not hold what it was given: see whether it keeps what it says that it keeps",
    ),
    (r"(?i)immutable", "what is at the remote differs from what is here, and is never overwritten: see what it is"),
)


def flags(params: dict[str, Any]) -> list[str]:
    """What rclone is told whatever it does; ``params`` as ``Rclone`` takes them."""
    given = ["--retries", str(params["retries"]), "--low-level-retries", "3", "--transfers", str(params["transfers"])]
    return [*_FIXED, *given, *(["--bwlimit", str(params["bwlimit"])] if params.get("bwlimit") else [])]


class Comparison(NamedTuple):
    """Names of files, and how many of those that are the same had no hash in common."""

    same: list[str]
    different: list[str]
    missing: list[str]  # at the remote
    gone: list[str]  # here
    unhashed: int


class Rclone:
    """One remote path. Every method raises BackupError, with the remote's own words and a cure.

    ``params``: ``remote``, ``runner`` ("host" or "container"), ``config_dir`` (holds ``rclone.conf``, for containers
    also ``compose.yml``), ``backup_dir``, ``bwlimit``, ``transfers``, ``retries``. Paths of files are relative to the
    remote, and to the local folder.
    """

    def __init__(self, params: dict[str, Any], deadline: Deadline, work: Path) -> None:
        """``work``: a folder below the backup folder for the lists of files that rclone is told to read."""
        self.remote, self._deadline, self._work = str(params["remote"]), deadline, work
        self._container = params["runner"] == "container"
        self._config, self._dir = Path(params["config_dir"]), Path(params["backup_dir"])
        self._flags = flags(params)
        self._refuse_unusable()
        # Without a slash rclone asks first whether it is a file, and takes a refusal to tell for yes.
        self._root = self.remote if self.remote.endswith((":", "/")) else f"{self.remote}/"
        if self._container:
            self._label = str(work.parent)  # not the backup folder's: a nightly backup removes what has that
            Docker(Deadline(60)).remove_leftovers(self._label)

    def _refuse_unusable(self) -> None:
        if not _REMOTE.fullmatch(self.remote) or not self.remote.isprintable():
            raise BackupError(
                f"offsite_remote {self.remote!r} is not an rclone path: the name of a section of offsite_rclone_config "
                "and what lies there, as in s3:bucket/trading, or a folder of this host, as in /mnt/nas/trading"
            )
        if self._container and self.remote.startswith("/"):
            raise BackupError(
                f"offsite_remote {self.remote} is a folder of the host: rclone sees it with offsite_runner: host"
            )
        file = self._config / ("compose.yml" if self._container else CONFIG)
        if not os.access(file, os.R_OK):
            raise BackupError(f"{file} is missing or not readable: run playbooks/install.yml, which writes it")
        if not self._container and not shutil.which("rclone"):
            raise BackupError(
                "the program rclone is not on this host's PATH: install it, or set offsite_runner: container"
            )

    def list(self) -> dict[str, int]:
        """Every file of the remote with its size, in one listing; nothing where the folder is not there."""
        with tempfile.TemporaryFile(dir=self._work) as out:
            result = self._run(
                "lsjson",
                "--recursive",
                "--files-only",
                "--no-modtime",
                "--no-mimetype",
                "--fast-list",
                self._root,
                out=out,
            )
            if result.code == _NO_DIRECTORY:
                return {}
            self._expect(result)
            out.seek(0)
            try:
                found = {item["Path"]: item["Size"] for item in content.parse(out.read(_MAX_LISTING + 1))}
                if out.tell() > _MAX_LISTING or not named(text, whole)(found):
                    raise ValueError("it is not of names and sizes, or too long")
                return found
            except (ValueError, KeyError, TypeError) as error:
                raise BackupError(f"rclone's listing of {self.remote} can't be read: {error}") from None

    def copy_to(self, folder: Path, files: Iterable[str]) -> None:
        """Copy files of a local folder to the remote; one that is there and differs is an error, never replaced."""
        self._expect(self._by_list("copy", files, str(folder), self._root, "--immutable", "--no-traverse"))

    def copy_from(self, files: Iterable[str], folder: Path) -> None:
        """Copy files of the remote into a local folder below the backup folder; what is not there is passed over."""
        result = self._by_list("copy", files, self._root, str(folder), "--no-traverse", writes=folder)
        if result.code and "no space left on device" in result.err and not free_bytes(folder):
            raise BackupError(f"no space left under {folder}: free some, or move stack_backup_dir to a larger disk")
        self._expect(result)

    def check(self, folder: Path, files: Sequence[str], *, download: bool = False, listed: bool = False) -> int:
        """Compare as ``compare`` does; how many had no hash in common. Raises BackupError that names what differs."""
        found = self.compare(folder, files, download=download, listed=listed)
        wrong = [f"{name} differs" for name in found.different] + [f"{name} is not there" for name in found.missing]
        if wrong:
            raise BackupError(
                f"offsite_remote {self.remote} does not hold what was copied: {'; '.join(wrong[:3])}"
                f"{f' and {len(wrong) - 3} more' if wrong[3:] else ''}: see who changed it, or whether it keeps what it "
                "is given; remove it there, and the next copy brings it anew if it is here still"
            )
        if found.gone:
            raise BackupError(f"{folder}/{found.gone[0]} is gone: it was removed while it was copied")
        return found.unhashed

    def compare(
        self, folder: Path, files: Sequence[str], *, download: bool = False, listed: bool = False
    ) -> Comparison:
        """Compare files by size and hash, or by content, with ``download``.

        Whether they are there is asked of the remote's listing: one that dropped a file may still say that it has it.
        ``listed``: a listing showed them already, and each is asked for by itself. Raises BackupError where that can't
        be done.
        """
        more = [*(["--download"] if download else []), *(["--no-traverse"] if listed else [])]
        result = self._by_list(
            "check", files, str(folder), self._root, "--one-way", "--combined", "-", "--retries", "1", *more
        )
        # rclone's manual, "check --combined": one file a line, = same, * different, + not at the remote, ! error.
        said: dict[str, list[str]] = {"=": [], "*": [], "+": [], "!": []}
        for line in result.out.splitlines():
            said.get(line[:1], []).append(line[2:])
        if said["!"]:
            raise BackupError(f"offsite_remote {self.remote}: {said['!'][0]} can't be compared: {_reason(result)}")
        if result.code and not said["*"] and not said["+"]:
            raise self._error(result)
        gone = sorted({*files} - {name for names in said.values() for name in names})
        unchecked = _UNCHECKED.search(result.err)
        return Comparison(said["="], said["*"], said["+"], gone, int(unchecked[1]) if unchecked else 0)

    def delete(self, files: Iterable[str]) -> str:
        """Delete files of the remote; what it said where it refused some."""
        result = self._by_list("delete", files, self._root)
        return _reason(result) if result.code else ""

    # --- how it is run ------------------------------------------------------------------------------------------------

    def _by_list(self, command: str, files: Iterable[str], *args: str, writes: Optional[Path] = None) -> Result:
        """A command for the files of a list: names reach rclone as they are, however many."""
        with tempfile.NamedTemporaryFile("w", dir=self._work, encoding="utf-8", suffix=".files") as names:
            names.writelines(f"{name}\n" for name in files)
            names.flush()
            return self._run(command, "--files-from-raw", names.name, *args, writes=writes)

    def _run(self, *args: str, out: Any = None, writes: Optional[Path] = None) -> Result:
        try:
            return run(self._argv(args, writes), deadline=self._deadline, out=out, hold_stdin=True)
        except BaseException as error:  # a signal too
            if self._container:
                Docker(Deadline(30)).remove_leftovers(self._label)
            if not isinstance(error, BackupError) or not self._deadline.over:
                raise
            raise BackupError(
                f"offsite_remote {self.remote}: rclone {args[0]} was ended when the job's {self._deadline.seconds:g} s "
                "were over: raise offsite_timeout, or see what is slow; the next copy goes on from there"
            ) from None

    def _argv(self, args: Sequence[str], writes: Optional[Path]) -> Sequence[str]:
        """rclone on a lifeline: it ends when we do, also by SIGKILL."""
        config = _SECRET if self._container else str(self._config / CONFIG)
        rclone = ["-c", LIFELINE, "sh", "rclone", "--config", config, *self._flags, *args]
        if not self._container:
            return ["sh", *rclone]
        return [
            *("docker", "compose", "--progress", "quiet", "--project-directory", str(self._config)),
            *(
                "run",
                "--rm",
                "--no-TTY",
                "--quiet-pull",
                "--name",
                f"stack-backup-offsite-{secrets.token_hex(4)}",
                "--label",
                f"{LABEL}={self._label}",
            ),
            *("--user", f"{os.getuid()}:{os.getgid()}"),
            *(("--volume", f"{writes}:{writes}") if writes else ()),
            *("--entrypoint", "sh", _SERVICE, *rclone),
        ]

    def _expect(self, result: Result) -> None:
        if result.code:
            raise self._error(result)

    def _error(self, result: Result) -> BackupError:
        return BackupError(f"offsite_remote {self.remote}: {_reason(result)}")


def _lines(text: str) -> Iterator[str]:
    """What rclone said, without times and levels."""
    for line in text.splitlines():
        line = _LEVEL.sub("", _TIME.sub("", line.strip())).strip()
        if line:
            yield line


def _reason(result: Result) -> str:
    """rclone's last words, and the cure where it is known."""
    said = next(iter(reversed([_NOISE.sub("", line) for line in _lines(result.err)])), "")
    if result.killed:
        return "rclone was killed, perhaps for want of memory: see the host's log; the next copy goes on from there"
    said = said or f"rclone ended with status {result.code} and said nothing"
    cure = next((cure for pattern, cure in _CURES if re.search(pattern, result.err)), "")
    return f"{cure} ({said})" if cure else said
