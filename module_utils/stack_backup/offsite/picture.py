"""A remote's listing as a backup folder, so that a remote is judged by the very rules of the catalog on disk."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Any, Callable, Mapping, Optional

from .. import catalog, content
from ..kinds import text
from ..signing import LARGEST, Signers
from ..signing import SUFFIX as SIGNATURE
from ..stores import ID_PATTERN

__all__ = ["MARK", "MARK_FORMAT", "entries", "manifests", "owner", "read", "signature", "signatures"]

MARK = "stack-backup.json"  # whose prefix it is
MARK_FORMAT = 1
_MANIFEST = re.compile(rf"(?P<store>[^/]+)/(?P=store)-{ID_PATTERN.pattern}\.json")
_DEPTH = 3  # store/directory-format dump/file
_LONGEST = 200  # bytes of a name: a store's has 63 at most, and rclone adds to it while it copies


def manifests(sizes: Mapping[str, int]) -> list[str]:
    """The names that are manifests and worth reading."""
    return [
        name for name, size in sizes.items() if _is_safe(name) and _MANIFEST.fullmatch(name) and size <= content.MOST
    ]


def signatures(sizes: Mapping[str, int]) -> list[str]:
    """The names that are signatures of manifests and worth reading."""
    names = [name + SIGNATURE for name in manifests(sizes)]
    return [name for name in names if sizes.get(name, LARGEST + 1) <= LARGEST]


def signature(backup: catalog.Backup) -> dict[str, int]:
    """The signature of a backup, where it has one, as a path below the folder of all backups, with its bytes."""
    name = f"{backup.store}/{backup.store}-{backup.point}.json{SIGNATURE}"
    return {} if backup.signature is None else {name: backup.signature}


def owner(mark: bytes) -> str:
    """The stack that a prefix's mark names. Raises ValueError when it is not as this program writes it."""
    try:
        told = content.parse(mark)
        if told["format"] == MARK_FORMAT and text(told["stack"]):
            return str(told["stack"])
    except (ValueError, KeyError, TypeError):
        pass
    raise ValueError(f"{MARK} is not as stack-backup writes it")


def entries(backup: catalog.Backup) -> dict[str, dict[str, Any]]:
    """The files of a backup but for its manifest, as paths below the folder of all backups, with size and sha256."""
    root = backup.artifact.parent.parent
    found: dict[str, dict[str, Any]] = {}
    for path, entry in backup.files().items():
        name = str(path.relative_to(root))
        found.update({f"{name}/{file}": told for file, told in entry.get("files", {}).items()} or {name: entry})
    return found


class _Listing(catalog.Folder):
    """Names and sizes of a listing below a root that is not on disk; ``content``: that of a manifest or its signature."""

    def __init__(self, root: Path, sizes: Mapping[str, int], content: Callable[[str], bytes]) -> None:
        super().__init__(root)
        self._sizes: dict[Path, int] = {}
        self._content = content
        self._inside: dict[Path, list[str]] = {root: []}
        # Files first: what a foreign name makes a folder of our file is left out.
        for name in sorted(filter(_is_safe, sizes), key=lambda name: name.count("/")):
            path = root / name
            if not any(parent in self._sizes for parent in path.parents):
                self._sizes[path] = sizes[name]
                self._enter(path)

    def _enter(self, path: Path) -> None:
        inside = self._inside.setdefault(path.parent, [])
        if not inside and path.parent != self.root:
            self._enter(path.parent)
        inside.append(path.name)

    def foreign(self, sizes: Mapping[str, int]) -> list[str]:
        """The names that can't be files of a backup folder."""
        return sorted(name for name in sizes if name != MARK and self.root / name not in self._sizes)

    def kinds(self, folder: Path) -> dict[str, str]:
        return {name: "file" if folder / name in self._sizes else "folder" for name in self._inside[folder]}

    def sizes(self, path: Path) -> Optional[dict[str, int]]:
        if path in self._sizes:
            return {path.name: self._sizes[path]}
        return {name: self._sizes[path / name] for name in self._inside[path]} if path in self._inside else None

    def content(self, path: Path) -> bytes:
        return self._content(str(path.relative_to(self.root))) if path in self._sizes else b""

    def small(self, path: Path, size: int) -> bytes:
        return self.content(path) if self._sizes.get(path, size + 1) <= size else b""


def read(
    root: Path,
    sizes: Mapping[str, int],
    content: Callable[[str], bytes],
    stack: Optional[str],
    signers: Optional[Signers] = None,
) -> catalog.Catalog:
    """The catalog of a listing, by paths below ``root``; ``content``: that of a manifest or its signature."""
    listing = _Listing(root, sizes, content)
    found = catalog.read_of(listing, stack, signers=signers)
    found.problems += [
        {"path": f"{root}/{name}", "problem": "foreign", "message": "not written by stack-backup"}
        for name in listing.foreign(sizes)
    ]
    return found


def _is_safe(name: str) -> bool:
    """Whether a remote's name, which may be anything, can be a path below a folder of ours."""
    path = PurePosixPath(name)
    return (
        name == str(path)
        and 2 <= len(path.parts) <= _DEPTH
        and not path.is_absolute()
        and not any(part.startswith(".") or len(part.encode()) > _LONGEST for part in path.parts)
        and name.isprintable()
    )
