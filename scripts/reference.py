"""Writes docs/reference/ from what Ansible itself reads: the roles' argument specs, the modules' DOCUMENTATION.

And into docs/manual-restore.md what ``stack-backup restore-help`` prints of an example.

python scripts/reference.py: write.   --check: say what is not current, and fail.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Iterable, Iterator

import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from module_utils.stack_backup import manual  # noqa: E402
from module_utils.stack_backup.catalog import Backup  # noqa: E402

__all__ = ["inventory", "manual_restore", "modules", "pages"]

_ROLES = (
    "stack",
    "backup",
    "restore",
    "verify",
    "retention",
    "offsite",
    "offsite_info",
    "schedule",
    "monitor",
    "status",
)
# Variables whose items a module's options describe.
_ITEMS = {
    "stack_stores": ("recovery_point", "stores"),
    "stack_health_checks": ("stack_restore", "health_checks"),
    "stack_smoke_queries": ("stack_restore", "smoke_queries"),
    "monitor_alert_email": ("stack_check", "email"),
    "monitor_alert_webhooks": ("stack_check", "webhooks"),
}
_MARKUP = (
    (r"\b(?:[CIOV]|RV)\(([^)]*)\)", r"`\1`"),
    (r"\bB\(([^)]*)\)", r"**\1**"),
    (r"\bM\(([^)]*)\)", r"[`\1`](modules.md#\1)"),
)


def _text(given: Any) -> str:
    """A description in Markdown, on one line."""
    text = " ".join(given) if isinstance(given, list) else str(given)
    text = " ".join(text.split())
    for pattern, becomes in _MARKUP:
        text = re.sub(pattern, becomes, text)
    return text


def _value(value: Any) -> str:
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)


def _code(value: Any) -> str:
    """A value as YAML has it, on one line."""
    return f"`{' '.join(_value(value).split())}`"


def _table(*rows: Iterable[str]) -> Iterator[str]:
    for number, row in enumerate(rows):
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"
        if number == 0:
            yield "|" + " --- |" * len(tuple(row))


def _type(option: dict[str, Any]) -> str:
    kind = str(option.get("type", "str"))
    return f"{kind} of {option['elements']}" if option.get("elements") else kind


def _described(option: dict[str, Any]) -> str:
    chosen = f" One of {', '.join(f'`{item}`' for item in option['choices'])}." if option.get("choices") else ""
    text = _text(option["description"])
    return text + ("" if text.endswith(".") else ".") + chosen


def _options(options: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str, str, str]]:
    for name, option in options.items():
        default = "required" if option.get("required") else ""
        if option.get("default") is not None:
            default = _code(option["default"])
        yield f"`{prefix}{name}`", _type(option), default, _described(option)
        mark = "[]." if option.get("type") == "list" else "."
        yield from _options(option.get("suboptions") or {}, f"{prefix}{name}{mark}")


def _documented() -> dict[str, dict[str, Any]]:
    """What ansible-doc tells of every module, with its fragments."""
    names = sorted(path.stem for path in (ROOT / "library").glob("*.py"))
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
    argv = [str(Path(sys.executable).parent / "ansible-doc"), "--json", "--module-path", "library", *names]
    told = subprocess.run(argv, cwd=ROOT, env=environment, check=True, capture_output=True, text=True).stdout
    found: dict[str, dict[str, Any]] = json.loads(told)
    return {name: found[name] for name in names}


_HEAD = "<!-- Written by scripts/reference.py: do not edit, run `make docs`. -->"


def modules(documented: dict[str, dict[str, Any]]) -> str:
    """docs/reference/modules.md"""
    lines = ["# Modules", "", _HEAD, ""]
    lines += [
        "The modules are in `library/`. The roles call them, and so does the command `stack-backup` on a host, with the",
        "same parameters. `ansible-doc NAME` shows the same as this page.",
        "",
    ]
    lines += [f"- [`{name}`](#{name}): {item['doc']['short_description']}" for name, item in documented.items()]
    for name, item in documented.items():
        doc = item["doc"]
        lines += ["", f"## {name}", ""]
        lines += [f"{_text(text)}\n" for text in doc["description"]]
        lines += _table(("option", "type", "default", "meaning"), *_options(doc["options"]))
        lines += ["", "Ansible's check mode and diff:", ""]
        for title, attribute in doc["attributes"].items():
            lines.append(f"- {title}: {attribute['support']}. {_text(attribute['description'])}")
        lines += ["", "```yaml", item["examples"].strip(), "```", ""]
        rows = [
            (f"`{key}`", _type(value), f"{_text(value['description'])} Returned: {_text(value['returned'])}.")
            for key, value in (item["return"] or {}).items()
        ]
        lines += _table(("returned", "type", "meaning"), *rows)
    return "\n".join(lines) + "\n"


def _playbooks() -> dict[str, list[str]]:
    """Which playbooks use a role."""
    used: dict[str, list[str]] = {}
    for path in sorted((ROOT / "playbooks").glob("*.yml")):
        name = f"`{path.relative_to(ROOT)}`"
        for play in yaml.safe_load(path.read_text()):
            for role in [*(role["role"] for role in play.get("roles", [])), *_imported(play.get("tasks", []))]:
                if name not in used.setdefault(role, []):
                    used[role].append(name)
    return used


def _imported(tasks: list[dict[str, Any]]) -> Iterator[str]:
    """The roles that tasks import, those in blocks too."""
    for task in tasks:
        if "ansible.builtin.import_role" in task:
            yield task["ansible.builtin.import_role"]["name"]
        for part in ("block", "rescue", "always"):
            yield from _imported(task.get(part, []))


def inventory(documented: dict[str, dict[str, Any]]) -> str:
    """docs/reference/inventory.md"""
    lines = ["# Inventory variables", "", _HEAD, ""]
    lines += [
        "Set them in `inventories/<environment>/group_vars/` or for one host in `hosts.yml`; for one run with `-e`.",
        "The comments in each role's `defaults/main.yml` say more, with examples.",
    ]
    used = _playbooks()
    for role in _ROLES:
        folder = ROOT / "roles" / role
        specs = yaml.safe_load((folder / "meta/argument_specs.yml").read_text())["argument_specs"]
        defaults = yaml.safe_load((folder / "defaults/main.yml").read_text())
        options = {name: option for spec in specs.values() for name, option in spec["options"].items()}
        lines += ["", f"## Role {role}", "", f"{specs['main']['short_description']}.", ""]
        lines += [f"- Playbooks: {', '.join(used[role])}"] if role in used else []
        lines += [f"- Defaults: [`roles/{role}/defaults/main.yml`](../../roles/{role}/defaults/main.yml)", ""]
        rows = []
        for name, option in options.items():
            default = defaults.get(name)
            rows.append((f"`{name}`", _type(option), "" if default is None else _code(default), _described(option)))
        lines += _table(("variable", "type", "default", "meaning"), *rows)
        for name in (name for name in options if name in _ITEMS):
            module, option = _ITEMS[name]
            given = documented[module]["doc"]["options"][option]
            lines += ["", f"### {name}", "", f"As [`{option}` of `{module}`](modules.md#{module}).", ""]
            lines += _table(("field", "type", "default", "meaning"), *_options(given["suboptions"]))
    return "\n".join(lines) + "\n"


_POINT = "20261124-021500"
_SITE = {
    "stack": "trading",
    "project_dir": "/srv/trading",
    "stores": [
        {"name": "postgres", "engine": "postgres", "service": "postgres"},
        {"name": "redis", "engine": "redis", "service": "redis", "password_file": "/run/secrets/redis_password"},
    ],
}
_ROW = {"datcollate": "en_US.utf8", "datctype": "en_US.utf8", "datlocprovider": "c"}
_DATABASE = {
    "name": "trading",
    "owner": "trading",
    "encoding": "UTF8",
    "tablespace": "pg_default",
    "comment": None,
    "acl": ["=Tc/trading", "trading=CTc/trading", "trading_reader=c/trading"],
    "catalog": {**_ROW, "datistemplate": False, "datconnlimit": -1},
    "settings": [{"role": None, "config": ["timezone=UTC"]}],
}
_POSTGRES = {
    "engine": "postgres",
    "server_version": 170006,
    "artifact": {"format": "custom", "size": 394000000, "sha256": "3f" * 32},
    "globals": {"passwords": True, "sha256": "9a" * 32},
    "database": _DATABASE,
    "counts": {"rows": {"public.orders": 1204117}},
}
_REDIS = {
    "engine": "redis",
    "server_version": "8.0.2",
    "artifact": {"format": "rdb", "size": 21000000, "sha256": "c5" * 32, "rdb": {"redis-ver": "8.0.2"}},
    "counts": {"keys": 40213},
}


def manual_restore() -> str:
    """docs/manual-restore.md, with the script of an example between its marks."""
    folder = Path("/var/backups/trading")
    backups = {
        name: Backup(name, _POINT, folder / name / f"{name}-{_POINT}{suffix}", manifest)
        for name, suffix, manifest in (("postgres", ".dump", _POSTGRES), ("redis", ".rdb", _REDIS))
    }
    page = (ROOT / "docs/manual-restore.md").read_text()
    begin, end = "<!-- restore-help -->\n", "<!-- end -->"
    before, after = page[: page.index(begin)], page[page.index(end) :]
    return f"{before}{begin}```sh\n{''.join(manual.script(_SITE, _POINT, backups))}```\n{after}"


def pages() -> dict[Path, str]:
    """Every page that is written, by its path."""
    documented = _documented()
    return {
        ROOT / "docs/reference/inventory.md": inventory(documented),
        ROOT / "docs/reference/modules.md": modules(documented),
        ROOT / "docs/manual-restore.md": manual_restore(),
    }


def main() -> int:
    """Write the pages, or look whether they are current."""
    old = {path: text for path, text in pages().items() if not path.exists() or path.read_text() != text}
    if "--check" in sys.argv[1:]:
        for path in old:
            print(f"{path.relative_to(ROOT)} is not current: make docs", file=sys.stderr)
        return 1 if old else 0
    for path, text in old.items():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
