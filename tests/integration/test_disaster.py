"""The machine is gone. What is left is the bucket, the Compose project from its repository, and the control node."""

import json
import re
import shutil
import subprocess
from datetime import datetime

import pytest
import trading as example
from conftest import PROJECT, sh
from endpoints import s3
from stack_backup import catalog
from test_restore import HEALTHY, RUNNING

NAME, PORT = f"{example.NAME}-gone", example.PORT + 6
ROWS = "select id || ':' || o::text from orders o order by id"


class Host:
    """A container as the machine that Ansible works on: Debian with Python and the docker command, nothing else."""

    def __init__(self, number, folder):
        self.name = f"{PROJECT}-gone-host-{number}"
        self.etc = folder / f"etc-{number}"  # where the engine, too, sees what it hands to rclone's container
        sh("docker", "rm", "-fv", self.name)
        mounts = [f"--volume={path}:{path}" for path in ("/var/run/docker.sock", folder)]
        sh("docker", "run", "--detach", "--name", self.name, "--network=host", *mounts, "stack-backup-host:13")

    def lose(self):
        sh("docker", "rm", "-fv", self.name)
        shutil.rmtree(self.etc, ignore_errors=True)


def entries(stack):
    """The stream: milliseconds of each entry, and what it says."""
    lines = stack.redis("XRANGE", "orders", "-", "+").splitlines()
    starts = [number for number, line in enumerate(lines) if re.fullmatch(r"\d{13}-\d+", line)]
    return [
        (int(lines[at].split("-")[0]), tuple(lines[at:until]))
        for at, until in zip(starts, [*starts[1:], len(lines)], strict=True)
    ]


@pytest.mark.timeout(900)
def test_the_stack_comes_back_from_the_bucket(tmp_path):
    (tmp_path / "backups").mkdir(mode=0o700)
    stack = example.start(tmp_path / "stack", NAME, PORT)
    host = Host(1, tmp_path)
    with s3(tmp_path / "remote") as remote:

        def play(playbook, *args, **more):
            code, said = stack.play(
                tmp_path / "backups",
                *args,
                playbook=playbook,
                ansible_connection="community.docker.docker",
                ansible_host=host.name,
                ansible_python_interpreter="auto_silent",
                backup_quiesce=["orchestrator", "agents"],
                offsite_remote=remote.path("trading"),
                offsite_rclone_config=remote.config,
                offsite_config_dir=str(host.etc / "offsite"),
                **more,
            )
            assert code == 0, said
            return said

        try:
            stack.sql("create role auditor login password 'x'")
            play("backup")
            play("offsite")
            stack.compose("stop", "orchestrator", "agents")
            rows = dict(line.split(":", 1) for line in stack.sql(ROWS).splitlines())
            stream = entries(stack)

            stack.compose("down", "--volumes", "--timeout", "1")
            shutil.rmtree(tmp_path / "backups")
            host.lose()
            host = Host(2, tmp_path)
            said = play("restore", "-e", "restore_from=offsite", "-e", "restore_confirm=trading")

            assert "brought up: agents, orchestrator, postgres, redis" in said
            point = catalog.read(tmp_path / "backups", "trading")
            (id_,) = point.points
            dump = point.points[id_]["postgres"]
            reader = ["pg_restore", "--data-only", "--table=orders", "--file=-"]
            with dump.artifact.open("rb") as file:
                argv = ["docker", "exec", "-i", f"{NAME}-postgres-1", *reader]
                text = subprocess.run(argv, stdin=file, capture_output=True, text=True, check=True).stdout
            ids = [line.split("\t")[0] for line in text.splitlines() if re.match(r"\d+\t", line)]
            restored = dict(line.split(":", 1) for line in stack.sql(ROWS).splitlines())
            assert len(ids) > 50 and len(ids) < len(rows)  # taken under traffic
            assert [restored[number] for number in ids] == [rows[number] for number in ids]
            pin = json.loads(dump.artifact.with_suffix(".json").read_text())["pin"]["at"]
            before = datetime.fromisoformat(pin).timestamp() * 1000 - 100
            then, now = ([entry for at, entry in items if at < before] for items in (stream, entries(stack)))
            assert len(now) > 50 and now == then
            assert stack.sql("select rolpassword is not null from pg_authid where rolname = 'auditor'") == "t"
            assert stack.health() == HEALTHY and stack.states() == RUNNING
            count = stack.sql("select count(*) from orders")
            assert stack.sql(f"select pg_sleep(0.5); select count(*) > {count} from orders").split()[-1] == "t"
        finally:
            host.lose()
            stack.down()
