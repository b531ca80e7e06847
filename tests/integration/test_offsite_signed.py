"""Signatures at the remote: they come along, and what is there and not signed as it should be is never taken."""

import shutil
from pathlib import Path

import endpoints
import pytest
from ansible.module_utils.stack_backup_bucket import look
from offsite_host import OffsiteHost
from stack_backup import arguments, catalog, signing
from stack_backup.errors import BackupError
from stack_backup.offsite import fetch
from stack_backup.offsite import prune as offsite_prune
from stack_backup.offsite.rclone import Rclone
from stack_backup.signing import signature_path

from tests.signers import Pair
from tests.world import DAY, point_id

pytestmark = pytest.mark.usefixtures("own_rclone")


class Site:
    """A host that signs and copies, and an empty one that fetches."""

    def __init__(self, folder, disk):
        self.disk, self.pair = disk, Pair(folder)
        self.source = OffsiteHost(folder / "source", disk, "shop")
        self.empty = OffsiteHost(folder / "empty", disk, "shop")
        given = {"sign_key": str(self.pair.file), "stack": "shop", "backup_dir": str(self.source.backups)}
        self.key = self.source.world.key = signing.key_of(given)
        self.trust = {"allowed_signers": [f"shop {self.pair.public}"]}
        self.there = disk.folder / "shop"

    def copy(self, **given):
        return self.source.copy(**{**self.trust, **given})

    def options(self, spec, host, **given):
        mine = {name: value for name, value in host.params().items() if name in spec}
        return {**{name: option.get("default") for name, option in spec.items()}, **mine, **self.trust, **given}

    def fetch(self, **given):
        return fetch.fetch(self.options(arguments.OFFSITE_FETCH, self.empty, **given))

    def found(self, host=None):
        signers = signing.signers_of(self.trust)
        return catalog.read((host or self.empty).backups, "shop", signers=signers)

    def manifest(self, point, store="redis"):
        return self.there / store / f"{store}-{point}.json"

    def refused(self, work):
        with pytest.raises(BackupError) as caught:
            work()
        return str(caught.value)


@pytest.fixture
def site(tmp_path):
    with endpoints.local(tmp_path / "disk") as disk:
        yield Site(tmp_path, disk)


def plant(site, days=0.0):
    """A point at the remote that somebody without the key has made."""
    host = OffsiteHost(site.pair.file.parent / f"plant{days}", site.disk, "shop")
    point = host.point(days)
    shutil.copytree(host.backups, site.there, dirs_exist_ok=True)
    return point


def test_signatures_go_before_manifests_come_back_and_go_with_their_point(site, monkeypatch):
    old, new = site.source.point(2), site.source.folder_point(1)
    brought, copy_to = [], Rclone.copy_to

    def noted(self, folder, files):
        brought.append(list(files))
        return copy_to(self, folder, files)

    monkeypatch.setattr(Rclone, "copy_to", noted)
    site.copy()
    # A dump in a folder was published without a key: signed by hand it is as the other.
    assert site.copy()["missing"] == [] and site.source.there() == site.source.here(old)
    site.pair.sign(site.source.backups / "postgres" / f"postgres-{new}.json")
    site.copy()
    assert (
        site.source.there() == site.source.here(old, new) and sum(".sig" in name for name in site.source.there()) == 4
    )
    for files in brought:
        assert len({name.endswith(".json") for name in files}) == 1, files  # manifests by themselves
    (there,) = [number for number, files in enumerate(brought) if f"redis/redis-{old}.json.sig" in files]
    (manifests,) = [number for number, files in enumerate(brought) if f"redis/redis-{old}.json" in files]
    assert there < manifests
    assert sorted(site.copy(check_points=2)["checked"]) == [old, new]  # signatures too

    assert site.fetch()["point"] == new and site.found().choose(new) == new and not site.found().fault(new)
    site.fetch(point=old)
    assert set(site.found().manifests) == {old, new}
    assert not [item for item in site.found().problems if item["problem"] != "unchained"]
    assert site.fetch()["changed"] is False

    thin = site.options(arguments.OFFSITE_PRUNE, site.source, keep_last=1, max_age_hours=0)
    assert [item["id"] for item in offsite_prune.prune(thin)["removed"]] == [old]
    assert site.source.there() == site.source.here(new)


def test_a_manifest_that_was_changed_at_the_remote_is_refused_before_anything_is_fetched(site):
    old, new = site.source.point(2), site.source.point(1)
    site.copy()
    path = site.manifest(new)
    path.write_text(path.read_text().replace('"total": 1.5', '"total": 9.5'))
    assert "its signature is not of what it says" in site.refused(lambda: site.fetch(point=new))
    said = site.fetch()
    assert said["point"] == old and any(new in note and "not usable" in note for note in said["notes"])
    assert not list(site.empty.backups.rglob(f"*{new}*"))
    said = site.refused(lambda: site.copy())
    assert f"redis-{new}.json" in said


def test_what_is_planted_or_has_lost_its_signature_is_refused_and_told(site):
    old, new = site.source.point(2), site.source.point(1)
    site.copy()
    planted = plant(site)
    signature_path(site.manifest(new)).unlink()
    for point in (planted, new):
        assert "it is not signed" in site.refused(lambda point=point: site.fetch(point=point))
    said = site.fetch()
    assert said["point"] == old and all(any(point in note for note in said["notes"]) for point in (planted, new))
    # The copy brings back the signature that is here still, and says what it can't mend.
    said = site.refused(lambda: site.copy())
    assert planted in said and new not in said and signature_path(site.manifest(new)).is_file()
    thin = site.options(arguments.OFFSITE_PRUNE, site.source, keep_last=1, max_age_hours=0)
    assert f"{planted} is the newest of its stores and not good" in site.refused(lambda: offsite_prune.prune(thin))
    assert len(list(site.there.glob("redis/*.rdb"))) == 3


def test_a_planted_point_here_is_not_copied(site):
    good = site.source.point(1)
    site.source.world.key = None
    bad = site.source.point(0.5)
    said = site.copy()
    assert [item["id"] for item in said["copied"]] == [good] and bad not in str(site.source.there())


def test_what_was_copied_before_signing_gets_its_signature_when_it_has_one_here(site):
    site.source.world.key = None
    point = site.source.point(1)
    site.source.copy()
    assert point in site.refused(lambda: site.copy())
    for path in site.source.backups.glob("[!.]*/*[0-9].json"):
        site.pair.sign(path)
    site.source.copy(check_points=5)  # where nobody asks for signatures nothing is amiss
    site.copy()
    assert site.source.there() == site.source.here(point)
    site.fetch()
    assert not site.found().fault(point)


def test_a_signature_that_is_gone_here_is_fetched_and_another_one_is_left_alone(site):
    point = site.source.point(1)
    site.copy()
    site.fetch()
    mine = site.empty.backups / "redis" / f"redis-{point}.json"
    signature_path(mine).unlink()
    assert site.fetch()["changed"] and not site.found().fault(point)
    signature_path(mine).write_text("other\n")
    said = site.fetch()
    assert said["dir"].endswith(".from/shop") and "is another signature" in said["notes"][0]
    assert signature_path(mine).read_text() == "other\n"
    beside = catalog.read(Path(said["dir"]), "shop", signers=signing.signers_of(site.trust))
    assert not beside.fault(point)


def test_the_control_node_sees_what_is_not_signed_in_the_bucket(site, tmp_path, monkeypatch):
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    old, new = site.source.point(2 / 24), site.source.point(1 / 24)
    with endpoints.moto() as bucket:
        site.source.remote = bucket
        site.copy()
        given = {"stack": "shop", "bucket": endpoints.BUCKET, "prefix": "shop", "region": "us-east-1", **site.trust}
        given.update(endpoint_url=bucket.options["endpoint"], access_key=bucket.options["access_key_id"])
        given.update(secret_key=bucket.options["secret_access_key"], download="none", max_age_hours=26.0, timeout=60.0)

        def objects():
            told = look(given, site.source.world.now)
            return told["newest"], {item["check"]: item for item in told["findings"]}["offsite_objects"]

        assert objects()[0] == new and objects()[1]["status"] == 0
        name = f"shop/redis/redis-{new}.json.sig"
        bucket.client().delete_object(Bucket=endpoints.BUCKET, Key=name)
        newest, finding = objects()
        assert newest == old and finding["status"] == 2 and "it is not signed" in finding["message"]
        given["allowed_signers"] = []
        assert objects()[0] == new and objects()[1]["status"] == 0
    assert point_id(site.source.world.now - DAY / 24) == new
