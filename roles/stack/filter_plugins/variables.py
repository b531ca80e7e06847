"""Misspelt variables: names that look like ours, and are none."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Any, Callable

from ansible.module_utils.common.yaml import yaml_load

_ROLES = Path(__file__).resolve().parents[2]
# A role's own variables and results, which others may read: `name:` in its vars, `register: name` in its tasks.
_OWN = (("vars/main.yml", r"^(\w+):"), ("tasks/*.yml", r"^\s*register: (\w+)"))
_NEAR = 0.75  # of two words as alike as dayly and daily are
_SAME = 0.9  # of two names that are one letter or two apart


@lru_cache
def _known() -> tuple[frozenset[str], frozenset[str]]:
    """The variables that the roles' argument specs know, and all names that are theirs."""
    options: set[str] = set()
    for path in _ROLES.glob("*/meta/argument_specs.yml"):
        specs = yaml_load(path.read_text(encoding="utf-8"))
        options.update(name for spec in specs["argument_specs"].values() for name in spec.get("options") or ())
    own = {
        name
        for pattern, line in _OWN
        for path in _ROLES.glob(f"*/{pattern}")
        for name in re.findall(line, path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    return frozenset(options), frozenset(options | own)


@lru_cache
def _prefixes() -> frozenset[str]:
    return frozenset(name.partition("_")[0] for name in _known()[0])


@lru_cache(maxsize=4096)
def _nearly(word: str) -> bool:
    """Whether a name's first word is nearly a prefix of ours."""
    return bool(get_close_matches(word, _prefixes(), n=1, cutoff=_NEAR))


def _meant(first: str, rest: str) -> str:
    """The variable of ours that a name is a misspelt one of; empty where none is near."""
    options = _known()[0]
    if first not in _prefixes():
        near = get_close_matches(f"{first}_{rest}", options, n=1, cutoff=_SAME) if _nearly(first) else []
        return near[0] if near else ""
    near = get_close_matches(
        rest, [name.partition("_")[2] for name in options if name.startswith(f"{first}_")], n=1, cutoff=_NEAR
    )
    others = sorted(name for name in options if name.partition("_")[2] == rest)  # of another role's
    return f"{first}_{near[0]}" if near else (others or [""])[0]


def _fault(name: str) -> str:
    """What is wrong with a name that is not known; empty for one that does not look like ours."""
    first, _, rest = name.partition("_")
    meant = _meant(first, rest)
    if meant:
        return f"{name} is no variable of this project: did you mean {meant}?"
    return f"{name} is no variable of this project" if first in _prefixes() else ""


def unknown_variables(names: Iterable[str], allowed: Iterable[str] = ()) -> list[str]:
    """What is wrong with each of the ``names`` that look like a variable of these roles and are none.

    ``allowed``: names of other roles' variables that begin as ours do; ``*`` stands for anything.
    """
    patterns = list(allowed)
    # None of ours is a single word: `status` may well be what somebody's own play registers.
    strange = sorted(name for name in names if name not in _known()[1] and "_" in name[1:] and name[0] != "_")
    faults = (_fault(name) for name in strange if not any(fnmatchcase(name, pattern) for pattern in patterns))
    return [fault for fault in faults if fault]


class FilterModule:
    """The filters, as Ansible looks for them."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """By name."""
        return {"unknown_variables": unknown_variables}
