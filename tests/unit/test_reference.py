"""The pages that scripts/reference.py writes are those that are committed."""

import re

import pytest

from scripts import reference

PAGES = reference.pages()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_the_page_is_current(path):
    assert path.read_text() == PAGES[path], f"{path.relative_to(reference.ROOT)} is not current: make docs"


def test_every_role_and_module_is_there():
    text = "".join(PAGES.values())
    assert all(f"## Role {path.name}\n" in text for path in (reference.ROOT / "roles").iterdir())
    assert all(f"## {path.stem}\n" in text for path in (reference.ROOT / "library").glob("*.py"))
    text = "".join(PAGES[path] for path in PAGES if path.parent.name == "reference")
    assert not re.findall(r"\b(?:[BCIMOV]|RV)\(", text)
