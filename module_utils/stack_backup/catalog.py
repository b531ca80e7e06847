"""Reads what is under a backup folder: recovery points, and what is wrong there. Changes nothing."""

from __future__ import annotations

import calendar
import gc
import hashlib
import os
import re
import stat
import time
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Iterator, Mapping, Optional

from . import age, chain, content
from .artifact import SUFFIX, check_backup_dir, manifest_path
from .errors import BackupError
from .manifest import check_files, drill_of
from .process import Deadline, Readable
from .signing import LARGEST, Signers, signature_path, signers_of
from .signing import SUFFIX as SIGNATURE
from .stores import ID_PATTERN, NAME_PATTERN

__all__ = [
    "FORMAT",
    "UNTRUSTED",
    "Backup",
    "Catalog",
    "Folder",
    "ids_in",
    "info",
    "read",
    "read_of",
    "removed_name",
    "stem",
    "verified_path",
]

FORMAT = 1
UNTRUSTED = ("untrusted", "removed", "unchained")  # the problems that signatures and the chain show
_HEAD = 64 * 1024
_ROLES = 128 * 1024 * 1024  # bytes: half a million roles
_STEM = rf"(?P<store>.+)-(?P<point>{ID_PATTERN.pattern})"
_ARTIFACT = "|".join(map(re.escape, (*SUFFIX.values(), ".globals.sql")))
# Every name that this program writes into a store's folder; hidden ones are a draft of write_json and a removal's mark.
_FILE = re.compile(
    rf"{_STEM}(?P<rest>\.partial|(?:\.verified)?\.json|\.json{re.escape(SIGNATURE)}"
    rf"|(?:{_ARTIFACT})(?:{re.escape(age.SUFFIX)})?)"
)
_DATA = re.compile(rf"{_STEM}(?:{_ARTIFACT})(?:{re.escape(age.SUFFIX)})?")
_HIDDEN = re.compile(rf"\.{_STEM}(?P<rest>(?:\.verified)?\.json\.new|\.json\.removed)")


@dataclass(frozen=True)
class Backup:
    """One artifact with its manifest, both where they belong."""

    store: str
    point: str
    artifact: Path
    manifest: dict[str, Any]
    verified: Optional[dict[str, Any]] = None  # what the last drill of it found
    identity: Optional[age.Identity] = field(default=None, repr=False)  # what decrypts it, where that is known
    signature: Optional[int] = None  # bytes of the manifest's signature, where one lies beside it

    @property
    def encrypted(self) -> bool:
        """Whether its files can be read with the identity of a recipient only."""
        return bool(self.manifest["artifact"].get("encryption"))

    @property
    def size(self) -> int:
        """Bytes of the plain artifact."""
        artifact = self.manifest["artifact"]
        return int(artifact["encryption"]["plain"]["size"] if self.encrypted else artifact["size"])

    @property
    def _globals(self) -> Path:
        suffix = age.SUFFIX if self.encrypted else ""
        return self.artifact.parent / f"{self.store}-{self.point}.globals.sql{suffix}"

    def files(self) -> dict[Path, dict[str, Any]]:
        """Every file of the backup with the digest that the manifest gives it."""
        found = {self.artifact: self.manifest["artifact"]}
        if self.manifest.get("globals"):
            found[self._globals] = self.manifest["globals"]
        return found

    def key(self) -> age.Identity:
        """What decrypts it. Raises BackupError where that is not known."""
        if self.identity is None:
            raise BackupError(
                f"{self.artifact} is encrypted: give the identity that decrypts it (age_identity; "
                "restore_age_identity, verify_age_identity)"
            )
        return self.identity

    def stream(self, deadline: Deadline) -> AbstractContextManager[Readable]:
        """The plain data of an encrypted artifact, as ``age.unseal`` gives it."""
        return age.unseal(self.artifact, self.key(), deadline, self.manifest["artifact"]["encryption"]["plain"])

    def head(self, deadline: Deadline) -> bytes:
        """The first bytes of the plain artifact, 64 KiB at most."""
        if self.encrypted:
            return age.peek(self.artifact, self.key(), deadline, _HEAD)
        try:
            with self.artifact.open("rb") as file:
                return file.read(_HEAD)
        except OSError as error:
            raise BackupError(f"{self.artifact} can't be read: {error.strerror}") from None

    def globals(self, deadline: Deadline) -> Optional[str]:
        """The SQL that makes the server's roles, if the backup has it."""
        if not self.manifest.get("globals"):
            return None
        told = self.manifest["globals"]
        if (told["encryption"]["plain"] if self.encrypted else told)["size"] > _ROLES:
            raise BackupError(f"{self._globals} has more than {_ROLES} bytes of roles: create them by hand")
        if not self.encrypted:
            try:
                data = content.read(self._globals, _ROLES)
            except (OSError, ValueError) as error:
                raise BackupError(f"{self._globals} can't be read: {error}") from None
        else:
            parts = []
            with age.unseal(
                self._globals, self.key(), deadline, self.manifest["globals"]["encryption"]["plain"]
            ) as file:
                while part := file.read(_HEAD):
                    parts.append(part)
            data = b"".join(parts)
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            raise BackupError(
                f"{self._globals} is not in UTF-8: convert it, client_encoding in it too, or create its roles by hand"
            ) from None

    def report(self) -> dict[str, Any]:
        """The backup in a person's terms."""
        artifact = self.manifest["artifact"]
        return {
            "store": self.store,
            "engine": self.manifest["engine"],
            "file": str(self.artifact),
            "size": artifact["size"],
            "sha256": artifact["sha256"],
            "encrypted": self.encrypted,
            "signed": self.signature is not None,
            "pinned_at": self.manifest["pin"]["at"],
            "seconds": self.manifest["seconds"]["total"],
            "verified": self.verified,
        }


@dataclass
class Catalog:
    """Backups by recovery point, oldest first, and problems: ``{path, problem, message}``."""

    points: dict[str, dict[str, Backup]] = field(default_factory=dict)
    problems: list[dict[str, str]] = field(default_factory=list)
    # For retention: backups whose files are not what their manifest says; manifests of which that can't be told; what
    # a job left that did not end; and points whose removal did not end.
    broken: dict[str, dict[str, Backup]] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    leftovers: dict[str, list[Path]] = field(default_factory=dict)
    begun: set[str] = field(default_factory=set)
    # Where signatures are asked for: backups without a good one, which are in nothing else here; sha256 of every
    # manifest, by point and store; and the chain, where it can be believed.
    untrusted: dict[str, dict[str, Backup]] = field(default_factory=dict)
    manifests: dict[str, dict[str, str]] = field(default_factory=dict)
    chain: Optional[chain.Chain] = None

    def known(self, point: str) -> dict[str, Backup]:
        """The point's backups whose manifests can be read, whole or not."""
        return {**self.broken.get(point, {}), **self.points.get(point, {})}

    def asked(self, point: str) -> set[str]:
        """The stores that the point was taken of."""
        return {name for backup in self.known(point).values() for name in backup.manifest["point"]["stores"]}

    def fault(self, point: str) -> str:
        """Why the point does not count as a good one; empty when it does."""
        if point in self.unreadable:
            return self.unreadable[point]
        if point in self.untrusted:
            return f"store {', '.join(sorted(self.untrusted[point]))} is not signed by who may sign"
        known, whole = self.known(point), self.points.get(point, {})
        for store in sorted(self.asked(point) | set(known)):
            failed = next(backup.manifest["point"].get("failed") or {} for backup in known.values())
            if store in known and store not in whole:
                return f"store {store} is damaged"
            if store not in known:
                return f"incomplete, {failed.get(store) or f'store {store} is missing'}"
            verified = whole[store].verified
            if verified and not verified["ok"]:
                return f"store {store} did not restore in its drill"
        return ""

    def complete(self, point: str) -> bool:
        """Whether the point has every store that it was taken of, and nothing that is not signed as it should be."""
        return self.asked(point) == set(self.points[point]) and point not in self.untrusted

    def safety(self, point: str) -> bool:
        """Whether a restore took the point of what it was about to replace."""
        return any(backup.manifest["point"].get("purpose") == "safety" for backup in self.known(point).values())

    def choose(self, point: str) -> str:
        """``latest`` is the newest complete point; an id is itself. Raises BackupError.

        A safety backup shows what a restore was to replace: only its id chooses it.
        """
        if point == "latest":
            whole = [name for name in self.points if self.complete(name) and not self.safety(name)]
            if not whole and self.untrusted:
                raise BackupError(
                    f"there is no recovery point that can be trusted; the newest: {self._distrust(max(self.untrusted))}"
                )
            if not whole:
                partly = [f"{name} has {', '.join(self.points[name])} only" for name in list(self.points)[-1:]]
                raise BackupError(
                    "there is no complete recovery point here; "
                    + (f"{partly[0]}: restore that by its id, with restore_stores; " if partly else "")
                    + "fetch one (-e restore_from=offsite), or, if nothing is lost, take one (playbooks/backup.yml)"
                )
            return whole[-1]
        if point in self.untrusted:
            raise BackupError(self._distrust(point))
        if point not in self.points:
            raise BackupError(
                f"there is no recovery point {point}: newest are {', '.join(list(self.points)[-3:]) or 'none'} "
                "(stack-backup list shows all, also those offsite)"
            )
        return point

    def _distrust(self, point: str) -> str:
        """Why a point of ``untrusted`` is not trusted."""
        wrong = [
            f"{item['path']}: {item['message']}"
            for item in self.problems
            if item["problem"] == "untrusted" and point in ids_in(item["path"])
        ]
        return f"recovery point {point}: {wrong[0]}"

    def passed_over(self, point: str) -> list[str]:
        """What is newer than a point and no choice: a person may want to know before they lose a day."""
        skipped = [
            f"the newer recovery point {name} is incomplete"
            for name in self.points
            if name > point and not self.complete(name) and not self.safety(name) and name not in self.untrusted
        ]
        skipped += [
            f"newer, and not usable: {item['path']}: {item['message']}"
            for item in self.problems
            if item["problem"] != "foreign" and any(part > point for part in ids_in(item["path"]))
        ]
        return skipped


def ids_in(path: str) -> list[str]:
    """The recovery points that a path names."""
    return ID_PATTERN.findall(Path(path).name)


class Folder:
    """What a catalog is read of: a backup folder on disk, or what answers the same questions of another place."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def kinds(self, folder: Path) -> dict[str, str]:
        """What is in a folder, by name: "file", "folder" or "other" (a link too). Raises OSError."""
        with os.scandir(folder) as items:
            return {item.name: _kind(item) for item in items}

    def sizes(self, path: Path) -> Optional[dict[str, int]]:
        """Bytes of a file by its name, or of each file in a folder; None where neither is. What is no file has -1."""
        # Asked anew, and once: what is listed may be gone by now, and a catalog may have tens of thousands of files.
        try:
            info = path.lstat()
            if stat.S_ISREG(info.st_mode):
                return {path.name: info.st_size}
            if not stat.S_ISDIR(info.st_mode):
                return None
            inside = {file.name: file.lstat() for file in path.iterdir()}
        except OSError:
            return None
        return {name: info.st_size if stat.S_ISREG(info.st_mode) else -1 for name, info in inside.items()}

    def text(self, path: Path) -> str:
        """A file's content. Raises OSError or ValueError."""
        return self.content(path).decode("utf-8")

    def content(self, path: Path) -> bytes:
        """A file's content. Raises OSError."""
        return content.read(path)

    def small(self, path: Path, size: int) -> bytes:
        """The content of a file of at most ``size`` bytes; none of a larger one, or of what is no file. Raises OSError."""
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            info = os.fstat(descriptor)
            return file.read(size) if stat.S_ISREG(info.st_mode) and info.st_size <= size else b""


def _kind(item: os.DirEntry[str]) -> str:
    if item.is_file(follow_symlinks=False):
        return "file"
    return "folder" if item.is_dir(follow_symlinks=False) else "other"


def _shown(name: str) -> str:
    """A name that may be anything, on one line, in what UTF-8 can say."""
    return name if name.isprintable() else name.encode("unicode_escape").decode("ascii")


def _problem(path: Path, problem: str, message: str) -> dict[str, str]:
    return {"path": str(path.with_name(_shown(path.name))), "problem": problem, "message": message}


def verified_path(manifest: Path) -> Path:
    """Where the result of a backup's drill is."""
    return manifest.with_suffix(".verified.json")


def stem(name: str) -> str:
    """``<store>-<id>`` of an artifact's name, or of that of its roles; empty for any other name."""
    match = _DATA.fullmatch(name)
    return f"{match['store']}-{match['point']}" if match else ""


def removed_name(manifest: str) -> str:
    """The name that a removal gives a manifest first: from then on the backup is none."""
    return f".{manifest}.removed"


def _verified(where: Folder, path: Path) -> Optional[dict[str, Any]]:
    """A drill's result; one that can't be read counts as none."""
    try:
        result = content.parse(where.text(path))
    except (OSError, ValueError):
        return None
    return drill_of(result)


_Problem = Optional[dict[str, str]]


@dataclass(frozen=True)
class _Asked:
    """What a catalog is read for."""

    stack: Optional[str]
    identity: Optional[age.Identity]
    signers: Optional[Signers]


def _load(
    where: Folder, path: Path, text: bytes, kinds: Mapping[str, str], store: str, point: str, asked: _Asked
) -> tuple[Optional[Backup], _Problem]:
    """The backup, when its manifest can be read, and its problem, when it has one."""
    stack = asked.stack
    try:
        manifest = content.parse(text.decode("utf-8"))
        engine, artifact = manifest["engine"], manifest["artifact"]
        described = (manifest["store"], manifest["point"]["id"], artifact["name"])
        of_stack, made = manifest["stack"], manifest["format"]
        suffix = SUFFIX[engine]
        encryption = artifact.get("encryption")
        if encryption:
            program = encryption["program"]
            suffix += age.SUFFIX
        check_files(manifest)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return None, _unreadable(path, error)
    if made != FORMAT:
        return None, _problem(path, "foreign", f"the manifest is of format {made}, this program reads {FORMAT}")
    if stack is not None and of_stack != stack:
        return None, _problem(path, "foreign", f"the backup is of stack {of_stack}, not {stack}")
    if encryption and program != age.PROGRAM:
        return None, _problem(
            path, "foreign", f"the backup is encrypted by {program}, this program knows {age.PROGRAM}"
        )
    if described != (store, point, f"{store}-{point}{suffix}"):
        return None, _problem(path, "damaged", "the manifest tells of another backup than its name does")
    drilled = kinds.get(f"{store}-{point}.verified.json") == "file"
    verified = _verified(where, verified_path(path)) if drilled else None
    signature = signature_path(path)
    size = (where.sizes(signature) or {}).get(signature.name) if kinds.get(signature.name) == "file" else None
    signed = size if size is not None and size <= LARGEST else None  # no signature is longer
    backup = Backup(store, point, path.with_name(described[2]), manifest, verified, asked.identity, signed)
    for file, expected in backup.files().items():
        sizes = where.sizes(file)
        if sizes is None:
            return backup, _problem(path, "orphaned", f"{file.name} is missing beside its manifest")
        difference = _difference(sizes, expected.get("files") or {file.name: expected})
        if difference:
            return backup, _problem(file, "damaged", difference)
    return backup, None


def _difference(sizes: dict[str, int], told: dict[str, Any]) -> str:
    """The first file that is not as its manifest says; empty when all are."""
    for name in sorted(told):
        if sizes.get(name, 0) < 0:
            return f"{name} is not a file"
        if name not in sizes:
            return f"{name} is missing"
        if sizes[name] != told[name]["size"]:
            return f"{name} has {sizes[name]} bytes, its manifest says {told[name]['size']}"
    for name in sorted(sizes.keys() - told.keys()):
        if sizes[name]:
            return f"{_shown(name)} is not of the dump that it lies in"
    return ""


def read(
    backup_dir: Path,
    stack: Optional[str] = None,
    identity: Optional[age.Identity] = None,
    signers: Optional[Signers] = None,
) -> Catalog:
    """The catalog of a backup folder; with ``stack``, other stacks' backups are foreign.

    ``identity``: what decrypts the backups that are encrypted. ``signers``: who must have signed them.
    """
    check_backup_dir(backup_dir, writable=False)
    if signers is None:
        return read_of(Folder(backup_dir), stack, identity)
    before, _fault = chain.load(backup_dir, signers, stack)
    found = read_of(Folder(backup_dir), stack, identity, signers)
    after, fault = chain.load(backup_dir, signers, stack)
    found.problems += [
        _problem(manifest_path(backup_dir, store, point), "removed", what)
        for point, store, what in chain.lost(before, after, found.manifests)
    ]
    if fault:
        found.problems.append(_problem(chain.path_of(backup_dir), "untrusted", fault))
    elif after:
        found.chain = after
    elif found.points:
        text = "the chain of recovery points is missing, which shows when one is taken away: the next backup begins it anew"
        found.problems.append(_problem(chain.path_of(backup_dir), "unchained", text))
    return found


def read_of(
    where: Folder,
    stack: Optional[str] = None,
    identity: Optional[age.Identity] = None,
    signers: Optional[Signers] = None,
) -> Catalog:
    """As ``read``, of any place, which needs no chain."""
    with _uncollected():
        return _read(where, _Asked(stack, identity, signers))


@contextmanager
def _uncollected() -> Iterator[None]:
    """Leave the garbage collector out: all that is read stays, and it would look through it again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@dataclass(frozen=True)
class _Manifest:
    """What was read of one, for who signed it to be looked at."""

    path: Path
    content: bytes
    signature: Optional[bytes]
    backup: Backup
    problem: _Problem

    def fault(self, signers: Signers) -> str:
        """Why it is not to be trusted; empty when it is."""
        if self.signature is None:
            fault = "it is not signed, as backup_allowed_signers asks for"
        else:
            fault = signers.fault(
                self.content, self.signature, str(self.backup.manifest["stack"]), _seconds(self.backup.point)
            )
        return fault and (
            f"{fault}: if you know who wrote it, such as for a backup from before signing, sign it (docs/signing.md), or "
            "restore it this once with -e '{\"backup_allowed_signers\": []}'"
        )


def _seconds(point: str) -> Optional[float]:
    try:
        return float(calendar.timegm(time.strptime(point, "%Y%m%d-%H%M%S")))
    except ValueError:
        return None


def _judge(catalog: Catalog, manifests: list[_Manifest], signers: Signers) -> None:
    """Enter what was read, by who signed it: a program run for each, as many at once as there are processors."""
    from concurrent.futures import ThreadPoolExecutor  # who asks for no signatures needs none of it

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for manifest, fault in zip(manifests, pool.map(lambda item: item.fault(signers), manifests)):
            backup = manifest.backup
            if fault:
                catalog.untrusted.setdefault(backup.point, {})[backup.store] = backup
                catalog.problems.append(_problem(manifest.path, "untrusted", fault))
            else:
                _enter(catalog, backup, manifest.problem)


def _enter(catalog: Catalog, backup: Backup, problem: _Problem) -> None:
    (catalog.broken if problem else catalog.points).setdefault(backup.point, {})[backup.store] = backup
    if problem:
        catalog.problems.append(problem)


def _read(where: Folder, asked: _Asked) -> Catalog:
    catalog = Catalog()
    manifests: list[_Manifest] = []
    for name, kind in sorted(where.kinds(where.root).items()):
        folder = where.root / name
        if name.startswith("."):
            continue
        if kind != "folder" or not NAME_PATTERN.fullmatch(name):
            catalog.problems.append(_problem(folder, "foreign", "not a store's folder"))
            continue
        try:
            kinds = where.kinds(folder)
        except OSError as error:
            catalog.problems.append(_problem(folder, "damaged", f"the folder can't be read: {error.strerror}"))
            continue
        for file in sorted(kinds):
            _place(catalog, where, folder, file, kinds, asked, manifests)
    if asked.signers:
        _judge(catalog, manifests, asked.signers)
    catalog.points = {point: catalog.points[point] for point in sorted(catalog.points)}
    return catalog


def _place(
    catalog: Catalog,
    where: Folder,
    folder: Path,
    file: str,
    kinds: Mapping[str, str],
    asked: _Asked,
    manifests: list[_Manifest],
) -> None:
    """Enter one ``file`` of a store's folder, which has these ``kinds`` of things, into the catalog.

    Where signatures are asked for, a backup goes into ``manifests`` first.
    """
    match = _FILE.fullmatch(file) or _HIDDEN.fullmatch(file)
    if not match or match["store"] != folder.name:
        catalog.problems.append(_problem(folder / file, "foreign", "not written by stack-backup"))
        return
    store, point, rest = match["store"], match["point"], match["rest"]
    ended = rest != ".partial" and not rest.endswith((".new", ".removed"))
    if ended and rest != ".json" and f"{store}-{point}.json" in kinds:
        return  # its manifest tells of it
    path = folder / file
    if rest == ".json":
        _manifest(catalog, where, path, kinds, store, point, asked, manifests)
        return
    if rest == ".partial":
        problem = _problem(path, "half-written", "left by a backup that did not end")
    elif rest.endswith(".new"):
        problem = _problem(path, "half-written", "left by a job that did not end")
    elif rest.endswith(".removed"):
        problem = _problem(path, "half-removed", "left by a removal that did not end: the next prune ends it")
    else:
        cure = "; if other scripts made it: stack-backup adopt" if rest in SUFFIX.values() else ""
        problem = _problem(path, "orphaned", f"there is no manifest beside it{cure}")
    if kinds[file] == "other":
        problem = _problem(path, "foreign", "a link, a pipe or a device: not written by stack-backup")
    else:
        catalog.leftovers.setdefault(point, []).append(path)
        if problem["problem"] == "half-removed":
            catalog.begun.add(point)
    catalog.problems.append(problem)


def _manifest(
    catalog: Catalog,
    where: Folder,
    path: Path,
    kinds: Mapping[str, str],
    store: str,
    point: str,
    asked: _Asked,
    manifests: list[_Manifest],
) -> None:
    """As ``_place``, of a manifest. It is read once: what is verified is what is used."""
    if kinds[path.name] != "file":
        catalog.problems.append(_problem(path, "foreign", "not a file: not written by stack-backup"))
        return
    data, backup = b"", None
    problem: _Problem
    try:
        data = where.content(path)
        backup, problem = _load(where, path, data, kinds, store, point, asked)
    except (OSError, ValueError) as error:
        problem = _unreadable(path, error)
    if asked.signers:
        catalog.manifests.setdefault(point, {})[store] = hashlib.sha256(data).hexdigest()
    if not backup and problem:
        catalog.problems.append(problem)
        if problem["problem"] == "damaged":
            catalog.unreadable[point] = f"{path.name}: {problem['message']}"
    elif backup and asked.signers:
        signature = None
        if backup.signature is not None:
            try:
                signature = where.small(signature_path(path), LARGEST)
            except OSError:  # as good as none
                pass
        manifests.append(_Manifest(path, data, signature, backup, problem))
    elif backup:
        _enter(catalog, backup, problem)


def _unreadable(path: Path, error: Exception) -> dict[str, str]:
    return _problem(path, "damaged", f"the manifest can't be read: {type(error).__name__} {error}")


def info(params: dict[str, Any]) -> dict[str, Any]:
    """The catalog as data; the parameters are those of the module backup_info."""
    found = read(Path(params["backup_dir"]), params.get("stack"), signers=signers_of(params))
    points = [
        {
            "id": point,
            "complete": found.complete(point),
            "safety": found.safety(point),
            "backups": [backup.report() for backup in backups.values()],
        }
        for point, backups in found.points.items()
    ]
    whole = [point["id"] for point in points if point["complete"] and not point["safety"]]
    return {"changed": False, "points": points, "latest": whole[-1] if whole else None, "problems": found.problems}
