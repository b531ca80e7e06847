"""Where an RDB ends, and what may follow it."""

import pytest
from stack_backup.errors import BackupError
from stack_backup.redis.check import told
from stack_backup.redis.sync import cut_mark

SAID = """[offset 0] Checking RDB file /x
[offset 182] Checksum OK
[offset 182] \\o/ RDB looks OK! \\o/
[info] 7 keys read
[info] 3 expires
[info] 1 already expired
[info] 2 subexpires
"""


def test_what_redis_check_rdb_tells():
    assert told(SAID) == {"keys": 7, "expires": 3, "already_expired": 1, "subexpires": 2, "end": 182}
    with pytest.raises(BackupError, match="does not say where"):
        told("[info] 7 keys read")


@pytest.mark.parametrize("mark", [b"", b"0123456789abcdef0123456789abcdef01234567"])
def test_the_end_mark_is_cut(tmp_path, mark):
    path = tmp_path / "a.rdb"
    path.write_bytes(b"R" * 50 + mark)
    cut_mark(path, 50)
    assert path.read_bytes() == b"R" * 50


@pytest.mark.parametrize("rest", [b"x", b"0" * 39, b"0" * 41, b"0" * 39 + b"\xff"])
def test_nothing_else_may_follow(tmp_path, rest):
    path = tmp_path / "a.rdb"
    path.write_bytes(b"R" * 50 + rest)
    with pytest.raises(BackupError, match="no end mark"):
        cut_mark(path, 50)
    assert path.read_bytes() == b"R" * 50 + rest
