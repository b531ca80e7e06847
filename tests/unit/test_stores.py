"""What a store may be called and hold."""

import pytest
from stack_backup.errors import BackupError
from stack_backup.stores import parse_stores, select_stores

GOOD = {"name": "main", "engine": "postgres", "service": "db"}


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "-x", "a\n", "a b", "x" * 64, None, 5])
def test_a_name_that_is_no_folder_name_is_refused(name):
    with pytest.raises(BackupError, match="not usable as a folder's name"):
        parse_stores([{**GOOD, "name": name}])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"service": None}, "name its Compose service"),
        ({"container": "x"}, "not both"),
        ({"engine": "mysql"}, "engine is 'mysql'"),
        ({"method": "save"}, "method is no option of a postgres store"),
        ({"databse": "x"}, "databse is no option"),
        ({"format": "plain"}, "format is 'plain'"),
        ({"jobs": 0}, "jobs must be 1 or more"),
        ({"host_password_file": "relative"}, "absolute path"),
    ],
)
def test_a_wrong_option_is_named(change, message):
    with pytest.raises(BackupError, match=message):
        parse_stores([{**GOOD, **change}])


def test_two_stores_of_one_name_and_none_at_all_are_refused():
    with pytest.raises(BackupError, match="share the name main"):
        parse_stores([GOOD, GOOD])
    with pytest.raises(BackupError, match="no stores"):
        parse_stores([])


def test_only_names_known_stores():
    stores = parse_stores([GOOD, {"name": "cache", "engine": "redis", "container": "c"}])
    assert [store.name for store in select_stores(stores, ["cache"])] == ["cache"]
    assert select_stores(stores, []) == stores
    with pytest.raises(BackupError, match="'cahce'.*main, cache"):
        select_stores(stores, ["cahce"])
