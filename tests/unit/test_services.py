"""In which order the dependents stop."""

import pytest
from stack_backup.errors import BackupError
from stack_backup.services import stop_order
from stack_backup.stores import parse_stores

STORES = parse_stores(
    [
        {"name": "pg", "engine": "postgres", "service": "db"},
        {"name": "cache", "engine": "redis", "service": "redis"},
    ]
)
CONFIG = {
    "db": {},
    "redis": {},
    "api": {"depends_on": {"db": {"condition": "service_healthy"}, "redis": {}}},
    "gateway": {"depends_on": {"auth": {}}},
    "auth": {"depends_on": {"api": {}}},
    "agents": {"depends_on": {"redis": {}}},
    "docs": {"depends_on": None},
}


def test_depends_on_leads_to_the_dependents_and_their_order():
    assert stop_order(CONFIG, STORES, None) == [["gateway"], ["auth"], ["agents", "api"]]


def test_given_ones_keep_their_order_also_through_one_that_is_not_given():
    assert stop_order(CONFIG, STORES, ["api", "gateway"]) == [["gateway"], ["api"]]
    assert stop_order(CONFIG, STORES, []) == []


@pytest.mark.parametrize(("name", "message"), [("gone", "no service: compose.yml has db"), ("db", "which is a store")])
def test_a_wrong_name_is_told(name, message):
    with pytest.raises(BackupError, match=message):
        stop_order(CONFIG, STORES, [name])
