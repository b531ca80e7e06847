"""The chain of recovery points: what is taken away is noticed, and what goes by right is not."""

import json
import os
import shutil

import pytest
from stack_backup import catalog, chain, prune, signing
from stack_backup.errors import BackupError
from stack_backup.monitor import facts
from stack_backup.monitor import state as memory

from tests.signers import Pair, SignedWorld
from tests.world import DAY, HOUR, STORES, point_id


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A week of signed points."""
    monkeypatch.setattr(facts, "_AGAIN", 0.0)
    monkeypatch.setattr(memory, "_RUN", tmp_path / "run")
    world = SignedWorld(tmp_path)
    world.well()
    world.newest = world.now - 3 * HOUR
    world.file = world.backups / ".chain.json"
    return world


def load(world):
    trust = signing.signers_of({"allowed_signers": [world.pair.public]})
    return chain.load(world.backups, trust, "shop")


def run(world, check_mode=False, **given):
    rules = {"keep_last": 2, **given}
    return prune.prune({"backup_dir": str(world.backups), "stack": "shop", **rules, **world.signed}, check_mode)


def at(world, days):
    return world.newest - days * DAY


def test_it_lists_every_manifest_and_its_signature_is_openssh_s(world, tmp_path):
    found, fault = load(world)
    assert not fault and found.points == world.read().manifests and found.serial == 8
    held = json.loads(world.file.read_text())
    (tmp_path / "sig").write_text(held["signature"])
    (tmp_path / "allowed").write_text(f"shop {world.pair.public}\n")
    argv = f"ssh-keygen -Y verify -f {tmp_path}/allowed -I shop -n stack-backup -s {tmp_path}/sig"
    (tmp_path / "list").write_text(held["list"])
    assert os.system(f"{argv} <{tmp_path}/list >/dev/null") == 0
    assert world.file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("stores", [("postgres", "redis"), ("redis",)])
@pytest.mark.parametrize("days", [0, 3])
def test_a_point_that_was_taken_away_is_told(world, stores, days):
    world.remove(at(world, days), stores)
    gone = {("removed", f"{store}-{point_id(at(world, days))}.json") for store in stores}
    assert world.wrong() == gone
    bad, said = world.bad()
    assert bad["signatures"] == 2 and "is gone, and no prune removed it" in said
    found = world.read()
    chosen = found.choose("latest")
    passed = [text for text in found.passed_over(chosen) if "no prune removed it" in text]
    assert len(passed) == (len(stores) if days == 0 else 0)
    # Backups and prunes go on, and tell of it for a week.
    world.point(world.now - HOUR)
    run(world, keep_last=0, keep_daily=7)
    assert gone <= world.wrong()
    chain.extend(world.backups, "shop", world.key, world.now + 8 * DAY, {})
    assert not gone & world.wrong()


def test_another_manifest_of_the_same_name_is_told(world):
    path = world.manifest(at(world, 2), "redis")
    told = json.loads(path.read_text())
    path.write_text(json.dumps(told))
    world.pair.sign(path)
    assert world.wrong() == {("removed", path.name)}
    run(world, keep_last=0, keep_daily=7)
    assert world.wrong() == {("removed", path.name)}


def test_a_link_in_the_place_of_a_manifest_is_told(world):
    path = world.manifest(at(world, 2), "redis")
    path.rename(world.keys / "manifest")
    path.symlink_to(world.keys / "manifest")
    assert ("removed", path.name) in world.wrong()


def test_a_prune_is_no_alarm_and_a_second_one_changes_nothing(world):
    assert run(world, check_mode=True)["removed"] and load(world)[0].serial == 8
    assert len(run(world)["removed"]) == 5
    assert world.wrong() == set() and world.bad(max_drill_days=0) == ({}, "")
    assert not [path for path in world.backups.glob("*/*") if point_id(at(world, 6)) in path.name]
    before = world.file.read_bytes()
    assert not run(world)["changed"] and world.file.read_bytes() == before


class Died(BaseException):
    """As a power cut."""


def die_at(monkeypatch, step):
    done = []

    def dying(real):
        def call(*args, **named):
            done.append(real)
            if len(done) == step:
                raise Died
            return real(*args, **named)

        return call

    for name in ("rename", "replace", "unlink", "rmdir", "fsync"):
        monkeypatch.setattr(os, name, dying(getattr(os, name)))


def crashes(world, folder, monkeypatch, work):
    """The world after a crash at each step of ``work``, until it comes to its end."""
    step, original = 0, world.backups
    while True:
        step += 1
        world.backups = folder / str(step)
        shutil.copytree(original, world.backups, symlinks=True)
        with monkeypatch.context() as patch:
            die_at(patch, step)
            try:
                work()
            except Died:
                yield step
            else:
                return


def test_a_crash_of_a_prune_at_each_step_is_no_alarm(world, tmp_path, monkeypatch):
    for days in (3, 4, 5, 6):
        world.remove(at(world, days))
    for path in (world.backups / ".chain.json",):
        path.unlink()  # four of its points were not taken away: they never were
    for days in (2, 1, 0):
        listed = {point_id(at(world, days)): world.read().manifests[point_id(at(world, days))]}
        chain.extend(world.backups, "shop", world.key, world.now, listed)
    assert world.wrong() == set()
    steps = 0
    for steps in crashes(world, tmp_path / "crash", monkeypatch, lambda: run(world, keep_last=1)):
        assert not {kind for kind, _name in world.wrong()} & set(catalog.UNTRUSTED), steps
        run(world, keep_last=1)
        assert world.wrong() == set() and len(world.read().points) == 2, steps  # the drilled one too
        assert not list(world.backups.glob(f"*/*{point_id(at(world, 2))}*")), steps
    assert steps > 15


def test_a_crash_of_a_publication_at_each_step_is_no_alarm(world, tmp_path, monkeypatch):
    """The very first signed backup: there is no chain yet."""
    shutil.rmtree(world.backups)
    world.backups.mkdir()
    steps = 0
    for steps in crashes(world, tmp_path / "crash", monkeypatch, lambda: world.point(world.now)):
        assert not {kind for kind, _name in world.wrong()} & set(catalog.UNTRUSTED), steps
    assert steps > 20


def test_what_goes_between_two_looks_is_no_alarm(world, monkeypatch):
    """A prune at work: the list was read before it, the folder after."""
    read = catalog.read_of

    def pruned_meanwhile(*args, **given):
        monkeypatch.undo()
        assert run(world)["removed"]
        return read(*args, **given)

    monkeypatch.setattr(catalog, "read_of", pruned_meanwhile)
    assert world.read().problems == []


def cut(world):
    world.file.write_text(world.file.read_text()[:-200])


def by_another_key(world):
    other = signing.key_of({"sign_key": str(Pair(world.keys, "other").file), "stack": "shop", "backup_dir": "/b"})
    world.file.unlink()
    chain.begin(world.backups, "shop", other, world.now)


def of_another_stack(world):
    world.file.unlink()
    chain.begin(world.backups, "other", world.key, world.now)


def with_a_name_less(world):
    held = json.loads(world.file.read_text())
    told = json.loads(held["list"])
    del told["points"][point_id(at(world, 3))]
    held["list"] = json.dumps(told)
    world.file.write_text(json.dumps(held))


def a_manifest_for_a_list(world):
    path = world.manifest(at(world, 0), "redis")
    signature = signing.signature_path(path).read_text()
    world.file.write_text(json.dumps({"list": path.read_text(), "signature": signature}))


def linked(world):
    world.file.rename(world.keys / "chain")
    world.file.symlink_to(world.keys / "chain")


def pipe(world):
    world.file.unlink()
    os.mkfifo(world.file)


def huge(world):
    os.truncate(world.file, 10**12)


def deep(world):
    world.file.write_text("[" * 100_000)


@pytest.mark.parametrize(
    "spoil",
    [cut, by_another_key, of_another_stack, with_a_name_less, a_manifest_for_a_list, linked, pipe, huge, deep],
)
def test_a_chain_that_is_not_ours_is_told_and_begun_anew(world, spoil):
    spoil(world)
    assert world.wrong() == {("untrusted", ".chain.json")}
    assert world.bad()[0] == {"signatures": 2} and "chain" in world.bad()[1]
    assert world.read().choose("latest") == point_id(at(world, 0))  # the backups are what they are
    world.file.unlink() if spoil in (pipe,) else None
    chain.extend(world.backups, "shop", world.key, world.now, {})
    assert world.wrong() == set() and load(world)[0].serial == 1
    run(world, keep_last=0, keep_daily=7)
    assert load(world)[0].points == world.read().manifests


def test_a_chain_that_is_missing_is_told(world):
    world.file.unlink()
    assert world.wrong() == {("unchained", ".chain.json")}
    assert world.bad()[0] == {"signatures": 1}
    world.remove(at(world, 0))  # with it, this one
    world.point(world.now - HOUR)
    assert world.wrong() == set()


def test_a_folder_that_was_set_back_chain_and_all_is_told_for_a_week(world, tmp_path):
    assert world.bad() == ({}, "")
    shutil.copytree(world.backups, tmp_path / "old")
    world.point(world.now - HOUR)
    assert world.bad() == ({}, "")
    shutil.rmtree(world.backups)
    shutil.copytree(tmp_path / "old", world.backups)
    assert world.wrong() == set()  # by itself it shows nothing
    bad, said = world.bad(check_mode=True)
    assert bad == {"signatures": 2} and "number 8, does not follow the one that was here, number 9" in said
    world.point(world.now - HOUR / 2)
    world.point(world.now - HOUR / 3)
    assert load(world)[0].serial == 10  # further than it was, and still another
    assert world.bad()[0] == {"signatures": 2}
    limits = {"max_age_hours": 10**4, "max_drill_days": 0, "jobs": {}}
    assert world.bad(6 * DAY, **limits)[0] == {"signatures": 2}
    assert world.bad(8 * DAY, **limits) == ({}, "")


def test_a_chain_that_cannot_be_written_keeps_a_prune_from_removing(world, monkeypatch):
    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(chain, "write_json", full)
    with pytest.raises(BackupError, match="chain of recovery points .* can't be written: No space left"):
        run(world)
    assert len(world.read().points) == 7 and world.wrong() == set()


def test_without_a_key_there_is_no_chain(tmp_path):
    from tests.world import World

    world = World(tmp_path)
    world.well()
    prune.prune({"backup_dir": str(world.backups), "stack": "shop", "keep_last": 1})
    assert not (world.backups / ".chain.json").exists() and set(STORES) == {"postgres", "redis"}
