"""Some faults at steps of each job; ``make faults`` lets them come at every step (tests/faults)."""

import pytest

from tests.faults.inject import inject
from tests.faults.stack import running


@pytest.fixture(scope="module")
def hurt(tmp_path_factory):
    with running(tmp_path_factory.mktemp("hurt")) as stack:
        yield stack


def judged(stack, job, number, seed, **more):
    rows = inject(stack, job, number, seed, print, **more)
    assert [row for row in rows if row[4]] == []
    assert len({row[3] for row in rows}) == number + 1
    return rows


@pytest.mark.timeout(600)
@pytest.mark.parametrize("job", ["backup", "prune", "offsite", "fetch", "drill", "restore"])
def test_a_fault_leaves_all_as_it_was(hurt, job):
    judged(hurt, job, 5, seed=1)


@pytest.mark.timeout(600)
def test_a_clock_that_is_set_back_leaves_a_whole_backup(hurt):
    assert {row[2] for row in judged(hurt, "backup", 2, seed=7, only="clock-90000")} == {"done"}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("job", ["offsite", "fetch"])
def test_a_remote_that_is_lost_leaves_all_as_it_was(hurt, job):
    told = {row[2] for row in judged(hurt, job, 2, seed=4, only="network lost")}
    assert "told" in told


@pytest.mark.timeout(900)
def test_an_engine_that_ends_leaves_all_as_it_was(tmp_path):
    with running(tmp_path, engine=True) as stack:
        for job in ("backup", "drill", "restore"):
            judged(stack, job, 1, seed=5, only="dockerd")
