"""A host with backups as the engine writes them, jobs that ran, a schedule: all well, until a test spoils it."""

import json
import os
import time
from datetime import datetime, timezone

from stack_backup import arguments, monitor
from stack_backup.artifact import Partial, write_json
from stack_backup.catalog import verified_path
from stack_backup.journal import Journal

HOUR, DAY = 3600.0, 86400.0
STORES = {"postgres": "postgres", "redis": "redis"}
CRON = "15 2 * * * root /opt/stack-backup/bin/stack-backup run backup --stack shop\n0 4 * * 0 root x run verify\n"


def iso(when):
    return datetime.fromtimestamp(when, timezone.utc).isoformat(timespec="seconds")


def point_id(when):
    return time.strftime("%Y%m%d-%H%M%S", time.gmtime(when))


class World:
    def __init__(self, folder, now=None):
        self.now = now or time.time()
        self.backups, self.state, self.cron = folder / "backups", folder / "state", folder / "cron"
        self.metrics = folder / "metrics" / "shop.prom"
        for made in (self.backups, self.state, self.metrics.parent):
            made.mkdir(parents=True)
        self.cron.write_text(CRON)
        os.utime(self.cron, (self.now - 30 * DAY,) * 2)
        self.more = {}
        self.key = None  # what signs, as backup_sign_key does

    def publish(self, when, store, size=10000, stores=tuple(STORES), **point):
        partial = Partial(self.backups, store, STORES[store], point_id(when))
        partial.create()
        partial.artifact.write_bytes(os.urandom(size))
        sealed = partial.seal()
        manifest = {
            "format": 1,
            "stack": "shop",
            "store": store,
            "engine": STORES[store],
            "point": {"id": point_id(when), "purpose": "backup", "stores": list(stores), "failed": {}, **point},
            "artifact": {"name": partial.artifact.name, **sealed[partial.artifact.name]},
            "pin": {"at": iso(when)},
            "seconds": {"total": 1.5},
        }
        return partial.publish(manifest, self.key)

    def point(self, when, size=10000):
        return {store: self.publish(when, store, size) for store in STORES}

    def drill(self, artifact, when, ok=True, error=""):
        result = {"ok": ok, "error": error, "at": iso(when), "seconds": 2.5}
        write_json(verified_path(artifact.with_suffix(".json")), result)

    def record(self, job, when, ok=True, ended=True, **more):
        data = {"job": job, "started_at": iso(when), "ended_at": iso(when + 60) if ended else None, "ok": ok}
        data.update({"error": "", "seconds": 60.0, "log": [], "result": {}, **more})
        write_json(self.state / f"last-{job}.json", data)
        return data

    def well(self):
        """A week of nightly points, the last three hours ago; the one of yesterday was drilled."""
        made = [self.point(self.now - 3 * HOUR - day * DAY) for day in reversed(range(7))]
        for artifact in made[-2].values():
            self.drill(artifact, self.now - 20 * HOUR)
        self.record("backup", self.now - 3 * HOUR)
        self.record("verify", self.now - 20 * HOUR)
        return made

    def journal(self, phase, began):
        data = {"id": point_id(began), "stack": "shop", "point": "20261120-020000", "stores": [], "began_at": began}
        journal = Journal.begin(self.backups, **data)
        journal.mark(phase, **({"downtime_seconds": 4.25} if phase == "done" else {}))

    def copied(self, remote, points, at, pruned=()):
        """As a copy to the remote leaves it that ended well."""
        (self.backups / ".offsite").mkdir(exist_ok=True)
        known = {point: {"since": at, "checked": at} for point in points}
        data = {"remote": remote, "at": at, "points": known, "pruned": list(pruned)}
        write_json(self.backups / ".offsite" / "state.json", data)

    def params(self, **given):
        params = {name: option.get("default") for name, option in arguments.STACK_CHECK.items()}
        params.update(stack="shop", backup_dir=str(self.backups), state_dir=str(self.state))
        params.update(schedule_file=str(self.cron), metrics_file=str(self.metrics), min_free_share=0.0)
        return {**params, **self.more, **given}

    def check(self, later=0.0, check_mode=False, **given):
        return monitor.check(self.params(**given), check_mode, now=self.now + later)

    def bad(self, later=0.0, **given):
        """Status by check of what is not well, and every message."""
        answer = self.check(later, **given)
        found = [item for item in answer["findings"] if item["status"]]
        assert answer["status"] == max((item["status"] for item in found), default=0)
        return {item["check"]: item["status"] for item in found}, " | ".join(item["message"] for item in found)

    def remembered(self, name):
        return json.loads((self.state / f"monitor-{name}.json").read_text())
