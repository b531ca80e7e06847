"""When a backup is suspiciously small."""

import pytest
from stack_backup.sizes import usual


@pytest.mark.parametrize(
    ("sizes", "share", "found"),
    [
        ([100], 0.5, None),
        ([100, 50], 0.5, (100, 1, True)),
        ([100, 49], 0.5, (100, 1, False)),
        ([100, 300, 49], 0.25, (200, 2, False)),
        ([100, 0], 0, (100, 1, True)),
        # Of nine predecessors the last seven count.
        ([9000, 9000, 10, 10, 10, 10, 90, 90, 90, 6], 0.5, (10, 7, True)),
        ([10, 10, 10, 90, 90, 90, 90, 44], 0.5, (90, 7, False)),
    ],
)
def test_the_newest_against_those_before_it(sizes, share, found):
    assert usual(sizes, share) == found
