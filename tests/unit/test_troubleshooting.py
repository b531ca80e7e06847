"""docs/troubleshooting.md quotes what the program really says."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
QUOTED = re.findall(r"^\*\*`(.+?)`\*\*", (ROOT / "docs/troubleshooting.md").read_text(), re.MULTILINE)


def said(tree):
    """Every text of a program, with … for what is put in."""
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


@pytest.fixture(scope="module")
def texts():
    programs = [*(ROOT / "module_utils").rglob("*.py"), *(ROOT / "roles").glob("*/filter_plugins/*.py")]
    found = [text for path in programs for text in said(ast.parse(path.read_text()))]
    for path in (ROOT / "roles").glob("*/tasks/*.yml"):
        found.append(" ".join(re.sub(r"\{\{.*?\}\}", "…", path.read_text(), flags=re.DOTALL).split()))
    return found


def test_there_is_much_to_quote():
    assert len(QUOTED) > 60 and len(QUOTED) == len(set(QUOTED))


@pytest.mark.parametrize("quote", QUOTED)
def test_the_message_is_what_the_program_says(texts, quote):
    assert any(quote in text for text in texts), f"nothing says {quote!r}"
