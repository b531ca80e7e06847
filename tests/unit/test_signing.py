"""Backups whose manifests are signed: what is refused, before anything reads it, and what is told."""

import json
import os
import re
import subprocess
from datetime import datetime, timezone
from pathlib import Path

import pytest
from stack_backup import catalog, retention, signing
from stack_backup.artifact import digest, encode
from stack_backup.errors import BackupError
from stack_backup.monitor import facts
from stack_backup.monitor import state as memory
from stack_backup.signing import signature_path
from stack_backup.verify import refuse_damaged

from tests.signers import Pair, SignedWorld
from tests.world import DAY, HOUR, point_id


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A week of signed points."""
    monkeypatch.setattr(facts, "_AGAIN", 0.0)
    monkeypatch.setattr(memory, "_RUN", tmp_path / "run")
    world = SignedWorld(tmp_path)
    world.well()
    world.newest = world.now - 3 * HOUR
    return world


# --- the key ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def given(tmp_path):
    """Parameters of a job; the backup folder and the keys lie side by side."""
    (tmp_path / "backups").mkdir()
    pair = Pair(tmp_path)
    return {
        "stack": "shop",
        "backup_dir": str(tmp_path / "backups"),
        "sign_key": str(pair.file),
        "allowed_signers": [pair.public],
    }


def refused(params):
    with pytest.raises(BackupError) as caught:
        signing.key_of(params)
    return str(caught.value)


@pytest.mark.parametrize("kind", ["ed25519", "rsa", "ecdsa"])
def test_a_key_signs_what_ssh_keygen_itself_takes(tmp_path, given, kind):
    pair = Pair(tmp_path, kind, kind=kind)
    key = signing.key_of({**given, "sign_key": str(pair.file), "allowed_signers": [f"sho* {pair.public}"]})
    data = b"\0any bytes\xff"
    (tmp_path / "sig").write_bytes(key.sign(data))
    (tmp_path / "allowed").write_text(f"shop {pair.public}\n")
    argv = ["ssh-keygen", "-Y", "verify", "-f", "allowed", "-I", "shop", "-n", "stack-backup", "-s", "sig"]
    assert subprocess.run(argv, cwd=tmp_path, input=data, capture_output=True).returncode == 0
    assert subprocess.run(argv, cwd=tmp_path, input=data + b" ", capture_output=True).returncode != 0


def test_neither_is_asked_for(given):
    assert signing.key_of({**given, "sign_key": None, "allowed_signers": []}) is None
    assert signing.signers_of({}) is None


def test_a_key_that_cannot_sign_unattended_is_refused(tmp_path, given):
    locked = Pair(tmp_path, "locked", passphrase="secret word")
    assert "has a passphrase" in refused({**given, "sign_key": str(locked.file)})
    open_ = Pair(tmp_path, "open")
    open_.file.chmod(0o644)
    assert f"chmod 600 {open_.file}" in refused({**given, "sign_key": str(open_.file)})
    assert "No such file" in refused({**given, "sign_key": str(tmp_path / "none")})
    assert "absolute path" in refused({**given, "sign_key": "key"})
    (tmp_path / "text").write_text("no key\n")
    (tmp_path / "text").chmod(0o600)
    assert "is no private key" in refused({**given, "sign_key": str(tmp_path / "text")})
    inside = Pair(tmp_path / "backups", "inside")
    assert "is in the backup folder" in refused({**given, "sign_key": str(inside.file)})
    (tmp_path / "link").symlink_to(inside.file)
    assert "is in the backup folder" in refused({**given, "sign_key": str(tmp_path / "link")})


def test_nobody_is_asked_for_a_passphrase(tmp_path, given, monkeypatch):
    """Neither at a terminal nor by a program: a job of the night would wait for ever."""
    locked = Pair(tmp_path, "locked", passphrase="secret word")
    ask = tmp_path / "ask"
    ask.write_text(f"#!/bin/sh\ntouch {tmp_path}/asked\necho secret word\n")
    ask.chmod(0o755)
    for name, value in {"SSH_ASKPASS": str(ask), "SSH_ASKPASS_REQUIRE": "force", "DISPLAY": ":0"}.items():
        monkeypatch.setenv(name, value)
    assert "has a passphrase" in refused({**given, "sign_key": str(locked.file)})
    assert not (tmp_path / "asked").exists()


def test_a_key_whose_backups_would_be_refused_is_refused(tmp_path, given):
    other = Pair(tmp_path, "other")
    said = refused({**given, "allowed_signers": [other.public]})
    assert "does not name the key of backup_sign_key" in said
    assert " ".join((tmp_path / "key.pub").read_text().split()[:2]) in said
    public = (tmp_path / "key.pub").read_text()
    assert "for stack shop" in refused({**given, "allowed_signers": [f"trading {public}"]})
    assert "for stack shop" in refused({**given, "allowed_signers": [f'* valid-before="20200101" {public}']})
    assert "for stack shop" in refused({**given, "allowed_signers": [f'* namespaces="file" {public}']})
    assert "backup_sign_key is not" in refused({**given, "sign_key": None})
    assert signing.key_of({**given, "allowed_signers": [f"# ours\n\n  shop,trading {public}\n{other.public}"]})


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("ssh-ed25519", "is no public key"),
        ("shop", "is no public key"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----", "take the private one for disclosed"),
        ("# nobody", "holds no key"),
    ],
)
def test_what_is_no_signer_is_refused(line, said):
    with pytest.raises(BackupError, match=said):
        signing.signers_of({"allowed_signers": [line]})


def test_a_host_without_ssh_keygen(world, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    for work in (world.read, lambda: signing.key_of({**world.signed, "stack": "s", "backup_dir": "/b"})):
        with pytest.raises(BackupError, match="apt-get install openssh-client"):
            work()
    assert world.bad()[0]["folder"] == 2


# --- what is signed ---------------------------------------------------------------------------------------------------


def test_signed_points_are_good_and_unsigned_ones_are_where_nobody_asks(world):
    found = world.read()
    assert found.problems == [] and len(found.points) == 7 and found.choose("latest") == point_id(world.newest)
    assert all(backup.report()["signed"] for backup in found.points[point_id(world.newest)].values())
    assert world.bad() == ({}, "")
    finding = next(item for item in world.check()["findings"] if item["check"] == "signatures")
    assert finding["message"] == "all 7 recovery points are signed, and none is missing"
    for path in world.backups.glob("*/*.sig"):
        assert path.stat().st_mode & 0o777 == 0o600
        path.unlink()
    plain = catalog.read(world.backups, "shop")
    assert (
        plain.problems == [] and len(plain.points) == 7 and not plain.points[point_id(world.newest)]["redis"].signature
    )


def recompute(path, change):
    """The manifest of a changed artifact, with the digest that fits."""
    manifest = json.loads(path.read_text())
    artifact = path.parent / manifest["artifact"]["name"]
    change(artifact)
    manifest["artifact"].update(digest(artifact))
    path.write_bytes(encode(manifest))


def changed_artifact(world, path):
    recompute(path, lambda artifact: artifact.write_bytes(b"x" * 10000))


def changed_fact(world, path):
    path.write_text(path.read_text().replace('"total": 1.5', '"total": 1.6'))


def of_another_point(world, path):
    other = world.manifest(world.newest - DAY, "redis")
    for source, target in ((other, path), (signature_path(other), signature_path(path))):
        target.write_bytes(source.read_bytes())


def of_another_point_renamed(world, path):
    of_another_point(world, path)
    path.write_text(path.read_text().replace(point_id(world.newest - DAY), point_id(world.newest)))


def of_another_store(world, path):
    other = world.manifest(world.newest, "postgres")
    for source, target in ((other, path), (signature_path(other), signature_path(path))):
        target.write_bytes(source.read_bytes())


def by_another_key(world, path):
    changed_artifact(world, path)
    Pair(world.keys, "other").sign(path)


def for_another_purpose(world, path):
    world.pair.sign(path, namespace="git")


def signature_of_another(world, path):
    signature_path(path).write_bytes(signature_path(world.manifest(world.newest, "postgres")).read_bytes())


def unsigned(world, path):
    signature_path(path).unlink()


def empty_signature(world, path):
    signature_path(path).write_bytes(b"")


def huge_signature(world, path):
    with signature_path(path).open("r+b") as file:
        file.truncate(10**12)


def linked_signature(world, path):
    signature = signature_path(path)
    signature.rename(world.keys / "signature")
    signature.symlink_to(world.keys / "signature")


def pipe_for_a_signature(world, path):
    signature_path(path).unlink()
    os.mkfifo(signature_path(path))


def folder_for_a_signature(world, path):
    signature_path(path).unlink()
    signature_path(path).mkdir()


ATTACKS = [
    changed_artifact,
    changed_fact,
    of_another_point,
    of_another_point_renamed,
    of_another_store,
    by_another_key,
    for_another_purpose,
    signature_of_another,
    unsigned,
    empty_signature,
    huge_signature,
    linked_signature,
    pipe_for_a_signature,
    folder_for_a_signature,
]


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_was_changed_is_refused_told_and_not_counted(world, attack):
    newest, before = point_id(world.newest), point_id(world.newest - DAY)
    attack(world, world.manifest(world.newest, "redis"))
    found = world.read()
    assert "redis" not in found.points.get(newest, {})
    assert found.choose("latest") == before
    assert any("redis" in text and newest in text for text in found.passed_over(before))
    with pytest.raises(BackupError, match=newest):
        refuse_damaged(found, newest)
    assert found.fault(newest)
    points = {point.id: point for point in retention.points_of(found, {})}
    assert not points[newest].good
    policy = retention.Policy.parse({"keep_last": 1})
    plan = retention.plan(list(points.values()), policy, datetime.fromtimestamp(world.now, timezone.utc))
    assert newest in plan.keep and newest in plan.held
    bad, said = world.bad()
    assert 2 in (bad.get("signatures"), bad.get("catalog")) and f"redis-{newest}" in said


def test_a_planted_point_is_no_choice(world):
    """Newer than all, by another key, and unsigned."""
    world.key = signing.key_of({"sign_key": str(Pair(world.keys, "other").file), "stack": "shop", "backup_dir": "/b"})
    foreign, bare = world.now - 2 * HOUR, world.now - HOUR
    for when in (foreign, bare):
        for store in ("postgres", "redis"):
            world.publish(when, store)
        world.key = None
    found = world.read()
    assert found.choose("latest") == point_id(world.newest)
    passed = " | ".join(found.passed_over(point_id(world.newest)))
    assert re.search(
        rf"{point_id(foreign)}.json: it is signed by the key SHA256:\S+, which backup_allowed_signers", passed
    )
    assert f"{point_id(bare)}.json: it is not signed" in passed
    for when in (foreign, bare):
        with pytest.raises(BackupError, match="sign it .docs/signing.md.|this once"):
            found.choose(point_id(when))
    assert set(found.untrusted) == {point_id(foreign), point_id(bare)}


def test_what_is_planted_beside_good_backups_does_not_hide_them(world):
    """A store more, as a safety backup: of a point that is a good one."""
    when = world.newest
    world.key = None
    partial = {"purpose": "safety", "stores": ["cache", "postgres", "redis"]}
    from tests import world as module

    module.STORES["cache"] = "redis"
    try:
        world.publish(when, "cache", **partial)
    finally:
        del module.STORES["cache"]
    found = world.read()
    assert not found.safety(point_id(when)) and "cache is not signed" in found.fault(point_id(when))
    assert found.choose("latest") == point_id(when - DAY) and "cache-" in found.passed_over(point_id(when - DAY))[0]


def test_a_signed_point_of_another_stack_is_foreign(world):
    signers = signing.signers_of({"allowed_signers": [world.pair.public]})
    assert catalog.read(world.backups, "other", signers=signers).points == {}
    bound = signing.signers_of({"allowed_signers": [f"other {world.pair.public}"]})
    found = catalog.read(world.backups, None, signers=bound)
    assert found.points == {} and len(found.untrusted) == 7
    with pytest.raises(BackupError, match="no recovery point that can be trusted.*does not name for stack shop"):
        found.choose("latest")


def test_a_key_is_valid_for_what_was_made_in_its_time(world):
    day = point_id(world.newest - 3 * DAY)[:8]
    old = f'* valid-before="{day}" {world.pair.public}'
    found = world.read(allowed_signers=[old])
    good = [point for point in found.points if not found.fault(point)]
    assert good and all(point < day + "-99" for point in good) and len(found.untrusted) >= 3


def test_all_points_that_are_older_than_signing_stay(world):
    """Who turns signing on, or drops an old key, must not lose the points of before by retention."""
    for path in world.backups.glob("*/*.sig"):
        path.unlink()
    world.point(world.now - HOUR)
    found = world.read()
    policy = retention.Policy.parse({"keep_last": 1, "keep_incomplete": "1h"})
    plan = retention.plan(retention.points_of(found, {}), policy, datetime.fromtimestamp(world.now, timezone.utc))
    assert not plan.remove and not plan.held and len(plan.keep) == 8
    for path in world.backups.glob("*/*[0-9].json"):
        if not signature_path(path).exists():
            world.pair.sign(path)  # by hand
    assert world.wrong() == set()


def test_a_check_proves_what_is_new_or_changed_and_no_more(world, monkeypatch):
    runs, run = [], signing.run

    def counted(argv, **given):
        runs.append(argv[2])
        return run(argv, **given)

    monkeypatch.setattr(signing, "run", counted)
    assert world.bad() == ({}, "") and len(runs) > 14
    runs.clear()
    assert world.bad() == ({}, "") and runs == []
    world.point(world.now - HOUR)
    runs.clear()
    assert world.bad() == ({}, "") and runs.count("verify") in (3, 4)  # two manifests, and the chain
    changed_fact(world, world.manifest(world.newest, "redis"))
    assert world.bad()[0]["signatures"] == 2
    assert world.bad()[0]["signatures"] == 2  # what is wrong is not remembered as well
    unsigned(world, world.manifest(world.newest, "postgres"))
    assert "postgres" in world.bad()[1]
    # Another list of who may sign proves nothing of what this one did.
    assert world.bad(allowed_signers=[f"other {world.pair.public}"])[0]["signatures"] == 2
    memory_file = world.state / "monitor-check.json"
    memory_file.write_text(json.dumps({"signatures": {"not": "a list"}}))
    assert "signatures" in world.bad()[0]


def test_what_is_verified_is_what_is_used(world, monkeypatch):
    """A manifest that is exchanged after it was read, for the moment of the look at its signature, changes nothing."""
    read, path = [], world.manifest(world.newest, "redis")
    content = catalog.Folder.content

    def once(self, file):
        read.append(str(file))
        data = content(self, file)
        if file == path:
            path.write_bytes(data.replace(b'"total": 1.5', b'"total": 6.6'))
        return data

    monkeypatch.setattr(catalog.Folder, "content", once)
    found = world.read()
    assert found.points[point_id(world.newest)]["redis"].manifest["seconds"]["total"] == 1.5
    assert len(read) == len(set(read)) >= 14


def documented(begins):
    """The command of docs/signing.md that begins so."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "signing.md").read_text()
    return next(line.strip() for line in page.splitlines() if line.strip().startswith(begins))


def test_the_commands_of_the_page_do_what_it_says(world, tmp_path):
    """A key is made, what is there already is signed by it, and a signature is verified by hand."""
    keys = tmp_path / "new"
    keys.mkdir()

    def run(command):
        for there, here in (("/etc/stack-backup-keys", str(keys)), ("/srv/trading/backups", str(world.backups))):
            command = command.replace(there, here)
        return subprocess.run(["sh", "-c", command], cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True)

    assert run(documented("ssh-keygen -t ed25519")).returncode == 0
    for path in world.backups.glob("*/*.sig"):
        path.unlink()
    before = {path for path in world.backups.rglob("*") if path.is_file()}
    assert run(documented("find ")).returncode == 0
    new = {path for path in world.backups.rglob("*") if path.is_file()} - before
    assert new == {signature_path(path) for path in world.backups.glob("[!.]*/*[0-9].json")} and len(new) == 14
    public = (keys / "trading-a.pub").read_text()
    assert world.read(allowed_signers=[f"shop {public}"]).untrusted == {}
    path = world.manifest(world.newest, "redis")
    (tmp_path / "allowed_signers").write_text(f"trading-a {public}")
    by_hand = documented("ssh-keygen -Y verify").replace("redis-20261124-021500.json", str(path))
    assert run(by_hand).returncode == 0
    path.write_text(path.read_text() + " ")
    assert run(by_hand).returncode != 0
    # The keys of the page are keys.
    page = (Path(__file__).resolve().parents[2] / "docs" / "signing.md").read_text()
    listed = [line.strip()[2:] for line in page.splitlines() if line.strip().startswith("- trading-")]
    assert len(listed) == 4 and signing.signers_of({"allowed_signers": listed})
    for line in listed:
        run_key = subprocess.run(["ssh-keygen", "-lf", "/dev/stdin"], input=line[line.index("ssh-") :].encode())
        assert run_key.returncode == 0, line
