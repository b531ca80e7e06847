"""What an Ansible module calls is what the host's own command calls."""

import importlib

import pytest
from ansible.module_utils.stack_backup.modules import MODULES
from test_documentation import MODULES as LIBRARY_MODULES
from test_documentation import SPECS, load

# No jobs of a host: one puts the command there, one looks from outside, one tells of all hosts.
CONTROL = {"host_command", "offsite_info", "status_report"}


class Module:
    """AnsibleModule, as far as a module's main() may know it."""

    given = None
    _diff = False

    def __init__(self, argument_spec, supports_check_mode=False, **options):
        type(self).given = (argument_spec, options)
        self.params, self.check_mode = {"stack": "s", "name": "one"}, supports_check_mode


def test_every_module_of_the_library_is_known_and_no_other():
    assert set(MODULES) == set(LIBRARY_MODULES) - CONTROL


@pytest.mark.parametrize("name", sorted(MODULES))
def test_both_doors_call_the_same_function_with_the_same_parameters(name, monkeypatch):
    module, known, calls = load(name), MODULES[name], []
    home = known.function.__module__
    for place in map(importlib.import_module, (home, home.rpartition(".")[0])):  # a package may hand it on
        if getattr(place, known.function.__name__, None) is known.function:
            monkeypatch.setattr(place, known.function.__name__, lambda *args: calls.append(args))
    monkeypatch.setattr(module, "AnsibleModule", Module)
    monkeypatch.setattr(module.edge, "answer", lambda _module, job: job())
    module.main()
    assert calls == [known.positional(*(({"stack": "s", "name": "one"}, True)[: 1 + known.check_mode]))]
    assert Module.given[0] == known.spec == SPECS[name]
