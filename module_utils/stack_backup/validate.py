"""Completes and checks parameters against an argument spec, as Ansible does for a module."""

from __future__ import annotations

from math import isfinite
from typing import Any, Mapping

from .errors import BackupError

__all__ = ["KNOWN", "complete"]

# What a spec may say of an option.
KNOWN = {
    "type",
    "elements",
    "choices",
    "required",
    "default",
    "options",
    "mutually_exclusive",
    "required_one_of",
    "no_log",
}
_TRUE = {"yes", "true", "on", "1", "y", "t"}
_FALSE = {"no", "false", "off", "0", "n", "f"}


def complete(spec: Mapping[str, Any], params: Any, where: str) -> dict[str, Any]:
    """``params`` converted to the spec's types, with its defaults. Raises BackupError that names ``where`` and the option."""
    if not isinstance(params, dict):
        raise BackupError(f"{where}: parameters are a mapping, not {params!r}")
    unknown = sorted(set(params) - set(spec), key=str)
    if unknown:
        raise BackupError(f"{where}: there is no parameter {unknown[0]}{_known(str(unknown[0]), spec)}")
    done: dict[str, Any] = {}
    for name, option in spec.items():
        value = params.get(name)
        if option.get("required") and value is None:
            raise BackupError(f"{where}: {name} is missing")
        if name not in params:
            value = option.get("default")
        done[name] = value if value is None else _option(option, value, f"{where}: {name}")
    return done


def _known(name: str, spec: Mapping[str, Any]) -> str:
    from difflib import get_close_matches  # who reads what is right needs none of it

    near = get_close_matches(name, spec, n=1, cutoff=0.75)
    return f": did you mean {near[0]}?" if near else f"; known are {', '.join(sorted(spec))}"


def _option(option: Mapping[str, Any], value: Any, where: str) -> Any:
    value = _convert(option, option["type"], value, where)
    if "choices" in option and value not in option["choices"]:
        raise BackupError(
            f"{where} is {_shown(option, value)}, must be one of {', '.join(map(str, option['choices']))}"
        )
    if option["type"] == "list":
        return [_item(option, item, f"{where}[{number}]") for number, item in enumerate(value)]
    return _item({**option, "elements": option["type"]}, value, where)


def _item(option: Mapping[str, Any], value: Any, where: str) -> Any:
    value = _convert(option, option["elements"], value, where)
    if "options" not in option:
        return value
    value = complete(option["options"], value, where)
    for group in option.get("mutually_exclusive", ()):
        if sum(value[name] is not None for name in group) > 1:
            raise BackupError(f"{where}: give only one of {', '.join(group)}")
    for group in option.get("required_one_of", ()):
        if all(value[name] is None for name in group):
            raise BackupError(f"{where}: give one of {', '.join(group)}")
    return value


def _shown(option: Mapping[str, Any], value: Any) -> str:
    return "not shown here" if option.get("no_log") else repr(value)


def _convert(option: Mapping[str, Any], kind: str, value: Any, where: str) -> Any:
    """A number may come as text and text as a number: inventories are YAML, ``-e`` gives text."""
    try:
        if kind == "str" and isinstance(value, (str, int, float)):
            return str(value)
        if kind == "bool" and isinstance(value, (bool, str, int)):
            text = str(value).lower()
            if text in _TRUE | _FALSE:
                return text in _TRUE
        if kind == "int" and not isinstance(value, (bool, dict, list)) and float(value) == int(float(value)):
            return int(float(value))
        if kind == "float" and not isinstance(value, (bool, dict, list)) and isfinite(float(value)):
            return float(value)
    except (TypeError, ValueError, OverflowError):
        pass
    if kind == "list" and isinstance(value, list):
        return value
    if kind == "dict" and isinstance(value, dict):
        return value
    raise BackupError(f"{where} is {_shown(option, value)}, must be of type {kind}")
