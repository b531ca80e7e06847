"""Takes dumps that others made into the catalog: each is read to its end and restored on trial, then published as a backup."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import time
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Callable, Iterator, Optional, Sequence

from . import __version__, catalog, chain, postgres, progress, redis
from .age import check_recipients
from .artifact import (
    Lock,
    Partial,
    check_backup_dir,
    digest,
    encode,
    free_bytes,
    hand_over_tree,
    manifest_path,
    settle,
    sync,
    write_file,
)
from .containers import Docker
from .errors import BackupError
from .process import Deadline, raise_on_signals, run
from .signing import key_of, signature_path, signers_of
from .site import Site
from .stores import ID_PATTERN, Store, parse_stores

__all__ = ["adopt"]

_LEARN: dict[str, Callable[..., dict[str, Any]]] = {"postgres": postgres.learn, "redis": redis.learn}
_SUFFIXES = (".dump", ".rdb")  # of a file in a folder that must be a backup, or is told of
_RESERVE = 64 * 1024 * 1024
_STAMP_SECONDS = 600.0  # how far the time in a file's name may be from the time in it, to be its id
_MAGIC = ((b"PGDMP", "postgres"), (b"REDIS", "redis"), (b"VALKEY", "redis"))
_NEVER = (
    (
        b"\x1f\x8b",
        "is compressed by gzip: unpack it; plain SQL is not taken either, as nothing tells whether it is whole",
    ),
    (
        b"--\n-- PostgreSQL database",
        "is plain SQL, and nothing tells whether it is whole: restore it by hand, then back that up",
    ),
    (b"age-encryption.org", "is encrypted by age: decrypt it first"),
    (b"<", "is a page of HTML or XML, such as a download's error page: fetch the file again"),
)


@dataclass
class _File:
    """One file, or folder of pg_dump's directory format, on its way into the catalog."""

    path: Path
    store: Store
    told: dict[str, Any] = field(default_factory=dict)
    sealed: dict[str, Any] = field(default_factory=dict)  # its digest, as ``artifact.digest`` gives it
    pinned: float = 0.0  # seconds since 1970
    seen_by: str = ""
    mtime: float = 0.0
    seconds: float = 0.0


def adopt(params: dict[str, Any], check_mode: bool = False) -> dict[str, Any]:
    """Take the dumps at ``params['paths']`` into the catalog; the parameters are those of the module backup_adopt.

    Returns what was adopted. Raises BackupError, with the same as details, when one was refused: the others are adopted.
    """
    backup_dir = Path(params["backup_dir"])
    check_backup_dir(backup_dir)
    docker = Docker(Deadline(float(params["timeout"])))
    with raise_on_signals(docker.deadline), Lock(backup_dir):
        docker.remove_leftovers(str(backup_dir))
        return _Adoption(docker, params, check_mode).run()


class _Adoption:
    def __init__(self, docker: Docker, params: dict[str, Any], check_mode: bool) -> None:
        self._docker, self._params, self._check_mode = docker, params, check_mode
        self._dir = Path(params["backup_dir"])
        self._recipients = check_recipients(params.get("age_recipients") or [], docker.deadline)
        self._site = Site(docker, params, running=False, absent=True)
        self._names = [store.name for store in parse_stores(params["stores"])]
        self._key = key_of(params)
        self._catalog = catalog.read(self._dir, params["stack"], signers=signers_of(params))
        self._refused: dict[str, str] = {}
        self._adopted: list[dict[str, Any]] = []
        self._there: list[str] = []
        self._others: list[Path] = []  # neither .dump nor .rdb
        self._passed: list[str] = []

    def run(self) -> dict[str, Any]:
        """Look at each file, put those that belong together into points, and publish these."""
        good: list[_File] = []
        for path in self._candidates():
            try:
                file = self._look(path)
                if self._known(file):
                    self._there.append(str(path))
                    continue
                self._learn(file)
                good.append(file)
            except (BackupError, OSError) as error:
                self._refuse(path, error)
        for group in self._paired(good):
            self._publish(group)
        if not (self._adopted or self._there or self._refused):
            raise BackupError(
                f"no dump is in {', '.join(self._params['paths'])}: name files, or folders that hold .dump or .rdb"
            )
        answer = {
            "changed": bool(self._adopted),
            "points": self._adopted,
            "there": self._there,
            "passed_over": self._passed,
            "refused": [{"path": path, "why": why} for path, why in self._refused.items()],
        }
        if self._refused:
            told = " | ".join(f"{path}: {why}" for path, why in self._refused.items())
            others = sum(len(point["stores"]) for point in self._adopted)
            raise BackupError(f"{len(self._refused)} not adopted ({others} others were): {told}", **answer)
        return answer

    def _refuse(self, path: Path, error: Exception) -> None:
        self._refused[str(path)] = f"can't be read: {error.strerror}" if isinstance(error, OSError) else str(error)

    # --- what is there ----------------------------------------------------------------------------------------------

    def _candidates(self) -> list[Path]:
        """What is to be adopted, without what the catalog has."""
        ours = {path for backups in self._catalog.points.values() for item in backups.values() for path in item.files()}
        found: dict[Path, None] = {}
        for given in self._params["paths"]:
            path = Path(given)
            if not path.is_absolute():
                raise BackupError(f"{given} is no absolute path")
            if not os.path.lexists(path):
                self._refused[given] = "is not there"
            elif path.is_dir() and not path.is_symlink() and not _is_archive(path):
                found.update(dict.fromkeys(self._within(path)))
            else:
                found[path] = None
        for name, backups in self._catalog.points.items():
            for store in backups:
                manifest = manifest_path(self._dir, store, name)
                ours.update((manifest, catalog.verified_path(manifest), signature_path(manifest)))
        self._passed = [str(path) for path in self._others if path not in ours]
        return [path for path in found if path not in ours]

    def _within(self, folder: Path) -> Iterator[Path]:
        for path in sorted(folder.iterdir()):
            if path.name.startswith(".") or path.name.endswith(".partial"):
                continue
            if path.is_dir() and not path.is_symlink():
                yield from [path] if _is_archive(path) else self._within(path)
            elif path.suffix in _SUFFIXES:
                yield path
            else:
                self._others.append(path)

    def _look(self, path: Path) -> _File:
        """Which store's it is, and what it says on its first bytes."""
        if path.is_symlink():
            raise BackupError("is a symbolic link: name the file itself")
        engine = "postgres" if path.is_dir() else _engine(path)
        stores = [store for store in self._site.stores if store.engine == engine]
        if not stores:
            raise BackupError(f"is of {engine}, and no store of that is meant: this stack has {', '.join(self._names)}")
        mine = stores if len(stores) == 1 else [store for store in stores if store.name == path.parent.name]
        if not mine:
            told = ", ".join(store.name for store in stores)
            raise BackupError(
                f"may be of {told}: name one (--store, only), or put it into a folder of the store's name"
            )
        return _File(path, mine[0], mtime=path.stat().st_mtime)

    def _known(self, file: _File) -> bool:
        """Whether the catalog has it by an earlier adoption."""
        for backups in self._catalog.points.values():
            backup = backups.get(file.store.name)
            told = (backup.manifest.get("adopted") if backup else None) or {}
            if told.get("source") == str(file.path) and told.get("mtime") == _iso(file.mtime):
                return True
        return False

    def _learn(self, file: _File) -> None:
        """Prove that it restores, and learn what a manifest needs. Raises BackupError."""
        began = time.monotonic()
        progress.step(file.store.name, "prove")
        progress.detail(file.store.name, file.path.name)
        file.sealed = digest(file.path)
        image, _id = self._image(file.store)
        learn = _LEARN[file.store.engine]
        file.told = learn(self._docker, image, file.store.name, file.path, self._dir, memory=self._params["memory"])
        pinned = file.told.pop("pinned")
        file.seen_by = "mtime" if pinned is None else "ctime" if file.store.engine == "redis" else "archive"
        file.pinned = file.mtime if pinned is None else pinned
        self._refuse_other_database(file)
        file.seconds = round(time.monotonic() - began, 3)

    def _image(self, store: Store) -> tuple[str, str]:
        """Name and id of the image that the store's server has, or would be given."""
        container = self._site.containers.get(store.name)
        if container:
            return container.image, container.image_id
        image = self._site.image(store)
        found = self._docker.image_id(image)
        if not found:
            raise BackupError(
                f"the image {image} of service {store.service}, which would read it, is not here: docker compose pull"
            )
        return image, found

    def _refuse_other_database(self, file: _File) -> None:
        container = self._site.containers.get(file.store.name)
        if file.store.engine != "postgres" or not container:
            return
        env = container.env
        mine = file.store.database or env.get("POSTGRES_DB") or env.get("POSTGRES_USER")
        name = file.told["database"]["name"]
        if mine and mine != name and not env.get("POSTGRES_DB_FILE"):
            raise BackupError(
                f"is of database {name}, store {file.store.name} is {mine}: name the store of that database (--store, only), "
                "or set its database"
            )

    # --- points -----------------------------------------------------------------------------------------------------

    def _paired(self, files: Sequence[_File]) -> list[list[_File]]:
        """Files in points: of each store one, all within some minutes of the first."""
        groups: list[list[_File]] = []
        for file in sorted(files, key=lambda item: item.pinned):
            last = groups[-1] if groups else []
            near = last and file.pinned - last[0].pinned <= float(self._params["pair_minutes"]) * 60
            if near and file.store not in [item.store for item in last]:
                last.append(file)
            else:
                groups.append([file])
        return groups

    def _publish(self, group: list[_File]) -> None:
        """Publish one point; a store whose file can't be published makes it an incomplete one."""
        point, began = _id_of(group[0]), time.monotonic()
        ready: list[tuple[_File, Optional[Partial]]] = []
        failed = {name: f"no dump of {name} was adopted with it" for name in self._names}
        for file in group:
            try:
                ready.append((file, self._stage(file, point)))
                del failed[file.store.name]
            except (BackupError, OSError) as error:
                self._refuse(file.path, error)
                failed[file.store.name] = f"store {file.store.name}: {file.path}: {self._refused[str(file.path)]}"
        spread = (max(file.pinned for file in group) - group[0].pinned) * 1000
        told: dict[str, Any] = {
            "id": point,
            "purpose": "adopted",
            "stores": self._names,
        }
        told.update(omitted=[], failed=failed, pin_distance_ms=round(spread, 3), quiesced=[], quiesce_seconds=0.0)
        stores = []
        manifests: dict[str, str] = {}
        if ready and self._key and not self._check_mode:
            chain.begin(self._dir, self._params["stack"], self._key, time.time())
        for file, partial in ready:
            try:
                if not self._check_mode:
                    seconds = file.seconds + time.monotonic() - began
                    manifests[file.store.name] = self._publish_one(file, partial, told, seconds)
                stores.append({"store": file.store.name, "source": str(file.path), "size": file.sealed["size"]})
            except (BackupError, OSError) as error:
                self._refuse(file.path, error)
                if partial:
                    partial.discard()
        if manifests and self._key:
            chain.extend(self._dir, self._params["stack"], self._key, time.time(), {point: manifests})
        if self._params["move"]:
            for file in [file for file, partial in ready if partial and file.store.name in manifests]:
                self._remove(file.path)
        if stores:
            self._adopted.append({"id": point, "complete": not failed and len(stores) == len(group), "stores": stores})

    def _remove(self, path: Path) -> None:
        """Remove an original that is in the catalog now. Where that fails, the backup stays one."""
        try:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
            sync(path.parent)
        except OSError as error:
            self._refused[str(path)] = f"is adopted, and can't be removed: {error.strerror}: remove it by hand"

    def _place(self, file: _File, point: str) -> Path:
        """Where its artifact will be."""
        suffix = ".dump" if file.store.engine == "postgres" else ".rdb"
        return self._dir / file.store.name / f"{file.store.name}-{point}{suffix}"

    def _stage(self, file: _File, point: str) -> Optional[Partial]:
        """Put a copy where it becomes a backup; nothing, and None, for one that lies where it is to be. Raises BackupError."""
        in_place = file.path.resolve() == self._place(file, point).resolve()
        if in_place and self._recipients:
            raise BackupError(
                "is to be encrypted, and lies where its backup will be: move it out of the backup folder first"
            )
        if in_place:
            if os.path.lexists(manifest_path(self._dir, file.store.name, point)):
                raise BackupError("has a manifest beside it that does not fit it: move that away")
            return None
        partial = Partial(self._dir, file.store.name, file.store.engine, point, self._recipients)
        there = partial.taken()
        if there:
            raise BackupError(f"would become {there.name}, which is there already")
        if self._check_mode:
            return None
        free = free_bytes(self._dir)
        if free < file.sealed["size"] + _RESERVE:
            raise BackupError(
                f"takes {file.sealed['size']} bytes, the backup folder {self._dir} has {free} free: free some, or --move"
            )
        partial.create()
        try:
            progress.step(file.store.name, "copy")
            self._fill(file, partial)
        except BaseException:
            partial.discard()
            raise
        return partial

    def _fill(self, file: _File, partial: Partial) -> None:
        """Its data, as it was proven, into the folder of a backup in the making."""
        try:
            if self._recipients:
                if file.path.is_dir():
                    raise BackupError(
                        "is a folder, which can't be encrypted as one file: leave backup_age_recipients empty"
                    )
                sealing = partial.sealing(partial.artifact, self._docker.deadline)
                sealing.run(
                    lambda _pipe, out: run(["cat", "--", str(file.path)], deadline=self._docker.deadline, out=out)
                )
                copied = sealing.describe()["plain"]["sha256"]
                sealed = partial.seal()[partial.artifact.name]
            else:
                _copy(file.path, partial.artifact, link=self._params["move"])
                sealed = partial.seal()[partial.artifact.name]
                copied = sealed["sha256"]
        except OSError as error:
            raise partial.explain(error) from None
        if copied != file.sealed["sha256"]:
            raise BackupError("changed while it was adopted: take it when nobody writes to it")
        file.sealed = sealed

    def _publish_one(self, file: _File, partial: Optional[Partial], point: dict[str, Any], seconds: float) -> str:
        """Publish it; the sha256 of its manifest."""
        final = self._place(file, point["id"])
        manifest = self._manifest(file, partial, point, seconds)
        content = encode(manifest)
        if partial:
            partial.publish(manifest, self._key)
        else:
            settle([final])
            hand_over_tree(final)
            sync(final.parent)
            path = manifest_path(self._dir, file.store.name, point["id"])
            if self._key:
                write_file(signature_path(path), self._key.sign(content))
            write_file(path, content)
        return hashlib.sha256(content).hexdigest()

    def _manifest(
        self, file: _File, partial: Optional[Partial], point: dict[str, Any], seconds: float
    ) -> dict[str, Any]:
        store, told = file.store, dict(file.told)
        roles = told.pop("roles")
        artifact = partial.artifact if partial else self._place(file, point["id"])
        image, image_id = self._image(store)
        container = self._site.containers.get(store.name)
        encryption = partial.encryption(partial.artifact) if partial else None
        return {
            **told,
            "format": catalog.FORMAT,
            "stack": self._params["stack"],
            "store": store.name,
            "engine": store.engine,
            "point": point,
            "artifact": {"name": artifact.name, "encryption": encryption, **told["artifact"], **file.sealed},
            "pin": {
                "method": "adopted",
                "at": _iso(file.pinned),
                "seen_by": file.seen_by,
                "approximate": file.seen_by != "ctime",
            },
            "source": {
                "service": store.service,
                "container": container.name if container else "",
                "image": image,
                "image_id": image_id,
                "host": platform.node(),
            },
            "via": {"used": "adopted", "reason": ""},
            "seconds": {"total": round(seconds, 3)},
            "adopted": {"source": str(file.path), "mtime": _iso(file.mtime), "at": _iso(time.time()), "roles": roles},
            "made_by": {
                "tool": "stack-backup",
                "version": __version__,
                "python": platform.python_version(),
                "uid": os.getuid(),
            },
        }


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="microseconds")


def _is_archive(folder: Path) -> bool:
    """Whether a folder is a dump of pg_dump's directory format."""
    return (folder / "toc.dat").is_file()


def _engine(path: Path) -> str:
    """Whose file it is, by its first bytes. Raises BackupError for what can't be adopted."""
    if not path.is_file():
        raise BackupError("is no file")
    with path.open("rb") as file:
        head = file.read(512)
    if not head:
        raise BackupError("is empty: the dump failed when it was made")
    for magic, engine in _MAGIC:
        if head.startswith(magic):
            return engine
    for magic, why in _NEVER:
        if head.lstrip().startswith(magic):
            raise BackupError(why)
    raise BackupError("is neither an archive of pg_dump (-Fc, -Fd) nor an RDB of Redis")


def _id_of(file: _File) -> str:
    """The id of the point that the file begins: the time in its name, where that is about when it was pinned, else that."""
    stamp: str
    for stamp in ID_PATTERN.findall(file.path.name):
        try:
            named = datetime.strptime(stamp, "%Y%m%d-%H%M%S").replace(tzinfo=timezone.utc).timestamp()
        except ValueError:
            continue
        if abs(named - file.pinned) <= _STAMP_SECONDS:
            return stamp
    return time.strftime("%Y%m%d-%H%M%S", time.gmtime(file.pinned))


def _copy(source: Path, target: Path, *, link: bool) -> None:
    """Copy a file, or a folder of files; ``link``: under a second name, where the file system allows that."""
    if source.is_dir():
        target.mkdir(mode=0o700)
        for item in sorted(source.iterdir()):
            _copy(item, target / item.name, link=link)
        return
    if link:
        try:
            os.link(source, target)
        except OSError:  # another file system, or one without links
            pass
        else:
            return
    shutil.copyfile(source, target, follow_symlinks=False)
