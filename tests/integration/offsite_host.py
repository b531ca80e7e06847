"""A host with backups and a remote of its own prefix, for the tests of offsite copies."""

import hashlib
import json
import os
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path

from stack_backup import arguments
from stack_backup.artifact import Partial
from stack_backup.offsite import copy

from tests.world import DAY, STORES, World, iso, point_id

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = """
name: {project}
services:
  rclone:
    image: {image}
    network_mode: host
    secrets: [rclone_conf]
    volumes:
      - {{type: bind, source: {backups}, target: {backups}, read_only: true}}
    read_only: true
    tmpfs: [/tmp]
    cap_drop: [ALL]
    cap_add: [DAC_OVERRIDE]
    security_opt: ["no-new-privileges:true"]
secrets:
  rclone_conf: {{file: ./rclone.conf}}
"""


def sha(data):
    return hashlib.sha256(data).hexdigest()


def files(folder):
    """Every file below a folder by its relative path, with its digest."""
    return {str(path.relative_to(folder)): sha(path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


def objects(remote, prefix):
    """What the remote really holds: asked of the disk below it, of S3 by boto3, of Google's API."""
    if remote.folder:
        return files(remote.folder / prefix)
    if remote.options["type"] == "s3":
        client, bucket = remote.client(), remote.root
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{prefix}/")
        keys = [item["Key"] for page in pages for item in page.get("Contents", [])]
        data = {key: client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}
    else:
        base = f"{remote.options['endpoint']}b/{remote.root}/o"
        with urllib.request.urlopen(f"{base}?prefix={prefix}/") as answer:
            keys = [item["name"] for item in json.load(answer).get("items", [])]
        data = {}
        for key in keys:
            with urllib.request.urlopen(f"{base}/{urllib.parse.quote(key, safe='')}?alt=media") as answer:
                data[key] = answer.read()
    return {key[len(prefix) + 1 :]: sha(value) for key, value in data.items()}


class OffsiteHost:
    """``remote`` may be changed, the prefix stays. With ``image``, rclone runs in a container."""

    def __init__(self, folder, remote, prefix, image=None):
        self.world, self.remote, self.prefix, self.image = World(folder), remote, prefix, image
        self.backups, self.config = self.world.backups, folder / "offsite"
        self.config.mkdir(mode=0o700)
        self.project = f"stack-backup-offsite-{sha(str(folder).encode())[:8]}"
        if image:
            text = COMPOSE.format(project=self.project, image=image, backups=self.backups)
            (self.config / "compose.yml").write_text(text)

    def point(self, days=0.0, size=10000):
        """A point of that many days ago; its id."""
        self.world.point(self.world.now - days * DAY, size)
        return point_id(self.world.now - days * DAY)

    def folder_point(self, days=0.0):
        """A point whose Postgres dump is a folder."""
        when = self.world.now - days * DAY
        self.world.publish(when, "redis")
        partial = Partial(self.backups, "postgres", "postgres", point_id(when))
        partial.create()
        partial.artifact.mkdir()
        for name in ("toc.dat", "3001.dat.zst", "3002.dat.zst"):
            (partial.artifact / name).write_bytes(os.urandom(5000))
        manifest = {"format": 1, "stack": "shop", "store": "postgres", "engine": "postgres"}
        artifact = {"name": partial.artifact.name, **partial.seal()[partial.artifact.name]}
        point = {"id": point_id(when), "purpose": "backup", "stores": list(STORES), "failed": {}}
        partial.publish(
            {**manifest, "artifact": artifact, "point": point, "pin": {"at": iso(when)}, "seconds": {"total": 1.5}}
        )
        return point_id(when)

    def params(self, **given):
        (self.config / "rclone.conf").write_text(self.remote.config)
        (self.config / "rclone.conf").chmod(0o600)
        params = {name: option.get("default") for name, option in arguments.OFFSITE_COPY.items()}
        params.update(stack="shop", backup_dir=str(self.backups), config_dir=str(self.config), timeout=120.0)
        params.update(remote=self.remote.path(self.prefix), runner="container" if self.image else "host")
        return {**params, **given}

    def copy(self, check_mode=False, **given):
        return copy.copy(self.params(**given), check_mode)

    def start(self, **given):
        """A copy in a process of its own."""
        program = (
            f"import sys; sys.path.insert(0, {str(ROOT / 'module_utils')!r})\n"
            "from stack_backup.offsite import copy\nfrom stack_backup.errors import BackupError\n"
            f"try:\n copy.copy({self.params(**given)!r})\nexcept BackupError as error:\n sys.exit(str(error))\n"
        )
        return subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True)

    def here(self, *points):
        """What should be at the remote of these points."""
        found = {name: digest for name, digest in files(self.backups).items() if not name.startswith(".")}
        return {
            name: found[name] for name in found if any(point in name for point in points) and "verified" not in name
        }

    def there(self):
        """What is at the remote, without the mark of whose it is."""
        return {
            name: digest for name, digest in objects(self.remote, self.prefix).items() if name != "stack-backup.json"
        }

    def state(self):
        try:
            return json.loads((self.backups / ".offsite" / "state.json").read_text())
        except FileNotFoundError:
            return {"at": 0.0, "points": {}}

    def processes(self):
        """Programs that still run with this host's configuration."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if str(self.config) in line or str(self.backups) in line:
                found.append((int(path.parent.name), line))
        return [item for item in found if item[0] != os.getpid()]

    def containers(self):
        filters = ["--filter", f"label=stack-backup.dir={self.backups}/.offsite"]
        argv = ["docker", "ps", "--all", "--no-trunc", *filters, "--format", "{{.ID}}"]
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()

    def left(self):
        """What a job leaves behind, when what is at its end has ended."""
        end = time.monotonic() + 10
        while (left := self._left()) and time.monotonic() < end:
            time.sleep(0.05)
        return left

    def _left(self):
        work = [str(path) for path in (self.backups / ".offsite").glob("work-*")]
        return work + self.processes() + (self.containers() if self.image else [])
