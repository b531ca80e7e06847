"""Puts the engine that a module carries onto its host, as the command ``stack-backup``; takes it away again."""

from __future__ import annotations

import fcntl
import os
import pkgutil
import shutil
import sys
from compileall import compile_dir
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Iterator

from . import adopt, cli, drill, manual, monitor, point, prune, restore, runner, status, verify
from .errors import BackupError
from .offsite import copy, fetch
from .offsite import prune as offsite_prune

# Ansible sends what a module's code imports, to any depth: by these, everything that the command imports when it runs.
_JOBS = (adopt, copy, drill, fetch, manual, monitor, offsite_prune, point, prune, restore, runner, status, verify)

__all__ = ["install"]

_LAUNCHER = """#!{python} -I
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from stack_backup.cli import main

sys.exit(main())
"""


def install(params: dict[str, Any], check_mode: bool = False) -> dict[str, Any]:
    """Make the folder ``path`` hold this engine, and ``link`` its command; parameters as of the module host_command."""
    path, link = Path(params["path"]), Path(params["link"])
    for given in (path, link):
        if not given.is_absolute() or given == Path("/"):
            raise BackupError(f"{given} must be an absolute path")
    program = path / "bin" / "stack-backup"
    try:
        change = _remove if params["state"] == "absent" else _place
        with _alone(path.parent, check_mode):
            if os.path.lexists(link) and not (link.is_symlink() and link.readlink() == program):
                raise BackupError(f"{link} is there and is not ours: move it away, or set another link")
            return {"changed": change(path, program, link, check_mode), "program": str(program)}
    except OSError as error:
        raise BackupError(f"{error.filename}: {error.strerror}: mend its folder's owner, mode or disk") from None


@contextmanager
def _alone(folder: Path, check_mode: bool) -> Iterator[None]:
    """One installation at a time: a play installs all stacks of a host at once. The lock is the folder's, and leaves no file."""
    if check_mode:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _files() -> dict[str, str]:
    """The engine's files, from where this process runs them: a folder, or the archive that Ansible sent."""
    package = import_module(cli.__package__ or "")
    files = {"stack_backup/__init__.py": _source(package.__name__, package)}
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        inner = found.name[len(package.__name__) + 1 :].replace(".", "/")
        module = import_module(found.name)
        files[f"stack_backup/{inner}{'/__init__' if found.ispkg else ''}.py"] = _source(found.name, module)
    files["bin/stack-backup"] = _LAUNCHER.format(python=sys.executable)
    return files


def _source(name: str, module: Any) -> str:
    source = module.__spec__.loader.get_source(name)
    return str(source)


def _there(path: Path) -> dict[str, str]:
    return {
        str(item.relative_to(path)): item.read_text(encoding="utf-8", errors="replace")
        for item in path.glob("**/*")
        if item.is_file() and item.parent.name != "__pycache__"
    }


def _place(path: Path, program: Path, link: Path, check_mode: bool) -> bool:
    files = _files()
    same, linked = _there(path) == files, link.is_symlink()
    if check_mode or (same and linked):
        return not (same and linked)
    if not same:
        new, old = path.with_name(f".{path.name}.new"), path.with_name(f".{path.name}.old")
        for left in (new, old):
            shutil.rmtree(left, ignore_errors=True)
        for name, text in files.items():
            file = new / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
            file.chmod(0o755 if file.parent.name == "bin" else 0o644)
        # Who may not write there would compile all of it at each start.
        compile_dir(new / "stack_backup", ddir=path / "stack_backup", quiet=2)
        for folder in (new, *(item for item in new.glob("**/*") if item.is_dir())):
            folder.chmod(0o755)
        # A job that runs goes on with the files that it has read; the next one finds all of one version.
        if path.exists():
            path.rename(old)
        new.rename(path)
        shutil.rmtree(old, ignore_errors=True)
    if not linked:
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(program)
    return True


def _remove(path: Path, _program: Path, link: Path, check_mode: bool) -> bool:
    there = path.exists() or link.is_symlink()
    if there and not check_mode:
        link.unlink(missing_ok=True)
        if path.exists():
            shutil.rmtree(path)
    return there
