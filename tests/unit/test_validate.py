"""Parameters of a job are completed and refused as Ansible does it for a module."""

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from stack_backup import arguments
from stack_backup.errors import BackupError
from stack_backup.modules import MODULES
from stack_backup.validate import KNOWN, complete

PG = {"name": "db", "engine": "postgres", "service": "db"}
POINT = {"stack": "s", "backup_dir": "/b", "stores": [PG]}
DRILL = {"backup_dir": "/b"}


def options(spec):
    for option in spec.values():
        yield option
        yield from options(option.get("options", {}))


def test_every_word_of_the_specs_is_understood():
    for module in MODULES.values():
        for option in options(module.spec):
            assert set(option) <= KNOWN, option


@pytest.mark.parametrize(
    ("spec", "params"),
    [
        (arguments.RECOVERY_POINT, POINT),
        (arguments.RECOVERY_POINT, {**POINT, "timeout": "60", "project_dir": None, "only": ["db"]}),
        (arguments.RECOVERY_POINT, {**POINT, "stores": [{**PG, "port": "5432", "row_counts": "no", "jobs": 3}]}),
        (arguments.STACK_RESTORE, {**POINT, "action": "expire", "keep_previous": 1}),
        (arguments.STACK_RESTORE, {**POINT, "health_checks": [{"url": "http://x", "json": {"db": 1}}]}),
        (arguments.BACKUP_DRILL, {**DRILL, "smoke_queries": [{"store": "db", "sql": "select 1", "expect": 1}]}),
    ],
)
def test_what_is_accepted_becomes_what_ansible_makes_of_it(spec, params):
    checked = ArgumentSpecValidator(spec).validate(params)
    assert not checked.error_messages
    assert complete(spec, params, "x") == checked.validated_parameters


@pytest.mark.parametrize(
    ("spec", "params", "said"),
    [
        (
            arguments.RECOVERY_POINT,
            {**POINT, "quiesced": []},
            "there is no parameter quiesced: did you mean quiesce?",
        ),
        (
            arguments.RECOVERY_POINT,
            {**POINT, "colour": ""},
            "no parameter colour; known are age_recipients, allowed_signers, backup_dir",
        ),
        (arguments.RECOVERY_POINT, {"stack": "s", "stores": [PG]}, "x: backup_dir is missing"),
        (arguments.RECOVERY_POINT, {**POINT, "timeout": "soon"}, "x: timeout is 'soon', must be of type float"),
        (arguments.RECOVERY_POINT, {**POINT, "stores": {}}, "x: stores is {}, must be of type list"),
        (arguments.RECOVERY_POINT, {**POINT, "stores": [{**PG, "engine": "mysql"}]}, "x: stores[0]: engine is 'mysql'"),
        (arguments.RECOVERY_POINT, {**POINT, "stores": [{**PG, "port": 5432.5}]}, "must be of type int"),
        (arguments.STACK_RESTORE, {**POINT, "action": "undo"}, "must be one of restore, back, drop, expire"),
        (arguments.STACK_RESTORE, {**POINT, "safety_backup": "perhaps"}, "must be of type bool"),
        (arguments.BACKUP_DRILL, {**DRILL, "smoke_queries": [{"store": "db"}]}, "give one of sql, command"),
        (
            arguments.BACKUP_DRILL,
            {**DRILL, "smoke_queries": [{"store": "db", "sql": "a", "command": "b"}]},
            "give only one of sql, command",
        ),
    ],
)
def test_what_ansible_refuses_is_refused(spec, params, said):
    assert ArgumentSpecValidator(spec).validate(params).error_messages
    with pytest.raises(BackupError) as caught:
        complete(spec, params, "x")
    assert said in str(caught.value)


def test_a_secret_is_not_shown():
    with pytest.raises(BackupError) as caught:
        complete({"token": {"type": "str", "no_log": True}}, {"token": ["secret"]}, "x")
    assert "secret" not in str(caught.value)
