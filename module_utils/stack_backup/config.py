"""Reads ``/etc/stack-backup/<stack>.json``: a stack's jobs, each a list of modules with their parameters."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from . import content
from .errors import BackupError
from .modules import MODULES
from .validate import complete

__all__ = ["FORMAT", "Config", "Invocation", "find", "read"]

FORMAT = 1
Invocation = tuple[str, dict[str, Any]]
_INSTALL = "run playbooks/install.yml"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


@dataclass(frozen=True)
class Config:
    """One stack on this host. Parameters are checked and complete."""

    stack: str
    backup_dir: Path
    state_dir: Path
    jobs: dict[str, list[Invocation]]

    def job(self, name: str) -> list[Invocation]:
        """What a job does. Raises BackupError that names the jobs that there are."""
        if name not in self.jobs:
            raise BackupError(f"stack {self.stack} has no job {name}: it has {', '.join(self.jobs)}")
        return self.jobs[name]

    @property
    def site(self) -> dict[str, Any]:
        """The parameters of a job that knows the stack's stores and its Compose project. Raises BackupError."""
        every = (params for job in self.jobs.values() for _module, params in job)
        found = next((params for params in every if params.get("stores")), None)
        if found is None:
            raise BackupError(f"no job of stack {self.stack} names its stores: {_INSTALL} again")
        return found

    @property
    def allowed_signers(self) -> list[str]:
        """Who must have signed the backups, as every job of the stack has it; nobody in particular when empty."""
        every = (params for job in self.jobs.values() for _module, params in job)
        return next((params["allowed_signers"] for params in every if params.get("allowed_signers")), [])

    @property
    def check(self) -> Optional[dict[str, Any]]:
        """The parameters of its monitoring, if it has one."""
        return next((params for module, params in self.jobs.get("check", []) if module == "stack_check"), None)


def _folder(variable: str, default: str) -> Path:
    return Path(os.environ.get(variable) or default)


def find(stack: Optional[str]) -> Config:
    """The configuration of a stack of this host; of the only one when none is named. Raises BackupError."""
    folder = _folder("STACK_BACKUP_ETC", "/etc/stack-backup")
    if stack is not None and not _NAME.fullmatch(stack):
        raise BackupError(f"{stack!r} is no name of a stack: letters, digits, '_', '-' and '.'")
    if stack is None:
        try:
            names = sorted(path.stem for path in folder.iterdir() if path.suffix == ".json" and path.name[0] != ".")
        except FileNotFoundError:
            names = []
        except OSError as error:
            raise BackupError(f"{folder} can't be read: {error.strerror}: run this as its owner") from None
        if not names:
            raise BackupError(f"no stack is set up on this host, {folder} has none: {_INSTALL}")
        if len(names) > 1:
            raise BackupError(f"this host has {len(names)} stacks, name one: --stack {'|'.join(names)}")
        stack = names[0]
    config = read(folder / f"{stack}.json")
    if config.stack != stack:
        raise BackupError(
            f"{folder / stack}.json is of stack {config.stack}: a file is named like its stack: {_INSTALL}"
        )
    return config


def read(path: Path) -> Config:
    """A configuration file, checked to the last parameter. Raises BackupError with the cure."""
    try:
        data = content.load(path)
    except FileNotFoundError:
        raise BackupError(f"{path} is missing: {_INSTALL}") from None
    except OSError as error:
        raise BackupError(
            f"{path} can't be read: {error.strerror}: run this as its owner, root or schedule_user"
        ) from None
    except ValueError as error:
        raise BackupError(f"{path} is no JSON ({error}): {_INSTALL} again") from None
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        made = data.get("format") if isinstance(data, dict) else None
        raise BackupError(
            f"{path} is of format {made}, this version reads {FORMAT}: {_INSTALL} again, it installs both"
        )
    stack = data.get("stack")
    if not isinstance(stack, str) or not _NAME.fullmatch(stack):
        raise BackupError(f"{path}: stack is {stack!r}, no name of a stack: {_INSTALL} again")
    jobs = {name: _job(given, f"{path}: {name}") for name, given in data.items() if name not in ("format", "stack")}
    if not jobs:
        raise BackupError(f"{path} has no jobs: {_INSTALL} again")
    return _whole(path, stack, jobs)


def _job(given: Any, where: str) -> list[Invocation]:
    if not isinstance(given, list) or not given:
        raise BackupError(f"{where} is not a list of modules: {_INSTALL} again")
    done = []
    for item in given:
        if not isinstance(item, list) or len(item) != 2 or not isinstance(item[0], str):
            raise BackupError(f"{where}: {item!r} is not a module and its parameters: {_INSTALL} again")
        module, params = item
        if module not in MODULES:
            raise BackupError(f"{where}: this version has no module {module}: {_INSTALL} again, it installs both")
        done.append((module, complete(MODULES[module].spec, params, f"{where}: {module}")))
    return done


def _whole(path: Path, stack: str, jobs: dict[str, list[Invocation]]) -> Config:
    every = [params for job in jobs.values() for _module, params in job]
    strangers = sorted({str(params["stack"]) for params in every if params.get("stack") not in (None, stack)})
    if strangers:
        raise BackupError(
            f"{path} is of stack {stack}, but has jobs of {strangers[0]}: give each stack a name of its own"
        )
    folders = sorted({str(params["backup_dir"]) for params in every if params.get("backup_dir")})
    if len(folders) != 1:
        raise BackupError(
            f"{path} has {' and '.join(folders) or 'none'} as the backup folder of stack {stack}: one stack has one"
        )
    state = next((str(params["state_dir"]) for params in every if params.get("state_dir")), "")
    state_dir = Path(state) if state else _folder("STACK_BACKUP_VAR", "/var/lib/stack-backup") / stack
    for params in every:
        if "state_dir" in params:
            params["state_dir"] = str(state_dir)
    return Config(stack, Path(folders[0]), state_dir, jobs)
