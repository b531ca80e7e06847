"""Some faults at steps of each job; ``make faults`` lets them come at every step (tests/faults)."""

import pytest

from tests.faults.inject import inject
from tests.faults.stack import running


@pytest.fixture(scope="module")
def hurt(tmp_path_factory):
    with running(tmp_path_factory.mktemp("hurt")) as stack:
        yield stack


@pytest.mark.timeout(600)
@pytest.mark.parametrize("job", ["backup", "prune", "offsite", "drill", "restore"])
def test_a_fault_leaves_all_as_it_was(hurt, job):
    rows = inject(hurt, job, 5, seed=1, tell=print)
    assert [row for row in rows if row[4]] == []
    assert len({row[3] for row in rows}) == 6
