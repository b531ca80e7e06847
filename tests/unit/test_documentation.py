"""DOCUMENTATION of every module says what its argument spec says."""

import importlib.util
from pathlib import Path

import pytest
import yaml
from ansible.plugins.loader import fragment_loader
from ansible.utils.plugin_docs import get_docstring
from stack_backup import arguments

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = ROOT / "library"
MODULES = sorted(path.stem for path in LIBRARY.glob("*.py"))
SPECS = {name: getattr(arguments, name.upper()) for name in MODULES}


def load(name):
    spec = importlib.util.spec_from_file_location(name, LIBRARY / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def told(options):
    return {
        name: {key: option.get(key) for key in ("type", "required", "default", "choices", "elements")}
        for name, option in options.items()
    }


@pytest.mark.parametrize("name", MODULES)
def test_documentation_matches_the_argument_spec(name):
    module = load(name)
    fragment_loader.add_directory(str(ROOT / "doc_fragments"))
    documented = get_docstring(str(LIBRARY / f"{name}.py"), fragment_loader, is_module=True)[0]
    assert documented["module"] == name
    assert told(documented["options"]) == told(SPECS[name])
    for option, spec in SPECS[name].items():
        if "options" in spec:
            assert told(documented["options"][option]["suboptions"]) == told(spec["options"])
    assert yaml.safe_load(module.RETURN)
    examples = yaml.safe_load(module.EXAMPLES)
    assert set(examples[0][name]) <= set(SPECS[name])
