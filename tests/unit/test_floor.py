"""The engine runs on a host's own Python: its standard library alone, from 3.9 on."""

import ast
import sys

import pytest
from conftest import ROOT

ENGINE = ROOT / "module_utils" / "stack_backup"
FILES = sorted(ENGINE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ENGINE)))
def test_a_file_is_of_python_3_9_and_imports_nothing_else(path):
    tree = ast.parse(path.read_text(), feature_version=(3, 9))
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module]
        strangers = {name.split(".")[0] for name in names} - set(sys.stdlib_module_names)
        assert not strangers, f"{path} imports {strangers}"
