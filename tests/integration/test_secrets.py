"""Secrets that are known are looked for wherever they could be: arguments and environments of every process of the
machine while jobs run, what was said at -vvv, what was written, what was sent."""

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from conftest import PROJECT, ROOT, answers, sh, until
from endpoints import RCLONE, moto

from tests.receivers import certificate, http, smtp

SECRETS = {
    name: f"zq{name}{os.urandom(6).hex()}" for name in ("redis", "postgres", "smtp", "webhook", "ping", "offsite")
}
CANARY = f"zqcanary{os.urandom(6).hex()}"
# What logs in to a database is given its password in its own environment, inside the database's container.
CLIENTS = {"redis-cli", "psql", "pg_dump", "pg_dumpall", "pg_restore", "sh"}
SAMPLER = """
import json, pathlib, sys
secrets, found = [item.encode() for item in json.loads(sys.stdin.readline())], set()
print("ready", flush=True)
import selectors
ready = selectors.DefaultSelector()
ready.register(sys.stdin, selectors.EVENT_READ)
rounds = 0
while not ready.select(0):
    rounds += 1
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        for part in ("cmdline", "environ"):
            try:
                data = (process / part).read_bytes()
                for secret in secrets:
                    if secret in data:
                        found.add((part, (process / "comm").read_text().strip(), secret.decode()))
            except OSError:
                pass
print(json.dumps([rounds, sorted(found)]))
"""


@pytest.fixture(autouse=True)
def program(monkeypatch):
    """The host's own rclone."""
    monkeypatch.setenv("PATH", str(Path(RCLONE).parent), prepend=os.pathsep)


@pytest.fixture(scope="module")
def remote():
    """A bucket, and our key for it: of a server that takes any, and so is not told it by its arguments."""
    with moto() as remote:
        yield remote.having(secret_access_key=SECRETS["offsite"])


def copied(remote, prefix):
    """How many objects there are: two of Redis, three of Postgres, and whose they are."""
    return remote.client().list_objects_v2(Bucket=remote.root, Prefix=f"{prefix}/")["KeyCount"]


@contextmanager
def sampled():
    """What of all processes is seen while the block runs: (cmdline or environ, program, secret)."""
    argv = [sys.executable, "-c", SAMPLER]
    sampler = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    seen = []
    try:
        sampler.stdin.write(json.dumps([*SECRETS.values(), CANARY]) + "\n")
        sampler.stdin.flush()
        assert sampler.stdout.readline() == "ready\n"
        canary = subprocess.Popen(["sleep", "30"], env={"X": CANARY})
        yield seen
        canary.kill()
        canary.wait()
        rounds, found = json.loads(sampler.communicate("stop\n", timeout=60)[0])
        assert rounds > 5
        seen.extend(tuple(item) for item in found)
        assert ("environ", "sleep", CANARY) in seen  # it does see
        seen.remove(("environ", "sleep", CANARY))
    finally:
        sampler.kill()
        sampler.wait()


def shown(seen):
    """What must not have been seen."""
    return [item for item in seen if not (item[0] == "environ" and item[1] in CLIENTS)]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """Two servers that ask everyone for a password, given to them by files."""
    conf = tmp_path_factory.mktemp("conf")
    for name in ("redis", "postgres"):
        (conf / name).write_text(SECRETS[name] + "\n")
    (conf / "redis.conf").write_text(f"requirepass {SECRETS['redis']}\n")
    conf.chmod(0o755)
    redis, postgres = f"{PROJECT}-secret-redis", f"{PROJECT}-secret-postgres"
    sh("docker", "rm", "-fv", redis, postgres)
    mount = ["--detach", "--volume", f"{conf}:/conf:ro"]
    try:
        sh("docker", "run", "--name", redis, *mount, "redis:8.0", "redis-server", "/conf/redis.conf")
        argv = ["--env", "POSTGRES_PASSWORD=secret", "--env", "POSTGRES_USER=owner", "--env", "POSTGRES_DB=shop"]
        argv += ["--env", "POSTGRES_INITDB_ARGS=--auth=scram-sha-256"]
        sh("docker", "run", "--name", postgres, *mount, *argv, "postgres:17")
        assert until(lambda: answers(postgres))
        # The image leaves the password that it began with in its server's own environment: take another.
        psql = ["docker", "exec", "-i", "-e", "PGPASSWORD=secret", postgres, "psql", "-q", "-U", "owner", "-d", "shop"]
        sh(*psql, stdin=f"ALTER ROLE owner PASSWORD '{SECRETS['postgres']}'")
        yield [
            {"name": "redis", "engine": "redis", "container": redis, "password_file": "/conf/redis"},
            {
                "name": "postgres",
                "engine": "postgres",
                "container": postgres,
                "host_password_file": str(conf / "postgres"),
            },
        ]
    finally:
        sh("docker", "rm", "-fv", redis, postgres)


def hits(folder):
    """Files below a folder that hold a secret."""
    return [
        (str(path.relative_to(folder)), name)
        for path in folder.rglob("*")
        if path.is_file()
        for name, secret in SECRETS.items()
        if secret.encode() in path.read_bytes()
    ]


def said(text):
    return [name for name, secret in SECRETS.items() if secret in text]


JOB = """
import json, sys
sys.path.insert(0, {engine!r})
from stack_backup import arguments, drill, monitor, point
from stack_backup.offsite import copy
def full(spec, given):
    return {{**{{name: option.get("default") for name, option in spec.items()}}, **given}}
given = json.load(open({given!r}))
check = full(arguments.STACK_CHECK, given["check"])
monitor.job_started(check, "backup")
print(point.take(full(arguments.RECOVERY_POINT, given["backup"])))
print(copy.copy(full(arguments.OFFSITE_COPY, given["offsite"])))
print(drill.drill(full(arguments.BACKUP_DRILL, given["drill"])))
record = {{"job": "backup", "ok": False, "error": "at " + given["leak"], "log": [given["leak"]], "started_at": "x"}}
monitor.job_ended(check, record)
print(monitor.check(check))
"""


def given(stores, tmp_path, mail, hook, files, remote):
    backup_dir = str(tmp_path / "backups")
    check = {"stack": "shop", "backup_dir": backup_dir, "state_dir": str(tmp_path / "state"), "min_free_share": 1.0}
    check["schedule_file"], check["metrics_file"] = str(tmp_path / "none"), str(tmp_path / "shop.prom")
    check["email"] = {"to": ["a@b"], "host": "localhost", "port": mail.port, "user": "ops"}
    check["email"]["password_file"] = str(files / "smtp")
    check["email"]["security"] = "starttls"
    check["webhooks"] = [{"url_file": str(files / "webhook"), "format": "json"}]
    check["pings"] = [{"job": "backup", "url_file": str(files / "ping")}]
    common = {"stack": "shop", "backup_dir": backup_dir}
    return {
        "check": check,
        "backup": {**common, "stores": stores, "timeout": 120},
        "offsite": {**common, "remote": remote.path("engine"), "runner": "host", "config_dir": str(files)},
        "drill": {**common, "timeout": 120},
        "leak": f"{hook.url}/h/{SECRETS['webhook']}",
    }


@pytest.fixture
def receivers(tmp_path, monkeypatch):
    cert = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(cert))
    with smtp(cert, login=("ops", SECRETS["smtp"])) as mail, http(cert) as hook:
        yield mail, hook


def received(mail, hook):
    """Everything that was told, but for the addresses, which are the secrets."""
    return "".join([*(item["mail"].as_string() for item in mail.mails), *(body for _, _, body in hook.requests)])


def test_the_engine_shows_no_secret(guarded, receivers, remote, tmp_path):
    mail, hook = receivers
    files, out = tmp_path / "files", tmp_path / "out"
    for folder in (files, out, out / "backups"):
        folder.mkdir()
    addresses = {"webhook": f"{hook.url}/h/{SECRETS['webhook']}", "ping": f"{hook.url}/p/{SECRETS['ping']}"}
    for name, content in {"smtp": SECRETS["smtp"], **addresses}.items():
        (files / name).write_text(content)
    (files / "rclone.conf").write_text(remote.config)
    (files / "given").write_text(json.dumps(given(guarded, out, mail, hook, files, remote)))
    program = JOB.format(engine=str(ROOT / "module_utils"), given=str(files / "given"))
    with sampled() as seen:
        result = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=200
        )
    assert result.returncode == 0, result.stderr
    assert len(list((out / "backups").glob("*/*.verified.json"))) == 2
    assert copied(remote, "engine") == 6
    assert [item["user"] for item in mail.mails] == ["ops", "ops"]
    assert sorted(path.split("/")[1] for _, path, _ in hook.requests) == ["h", "h", "p", "p"]  # sent side by side
    assert "at ***" in received(mail, hook)
    assert shown(seen) == []
    assert {item[1] for item in seen} <= CLIENTS
    assert said(result.stdout + result.stderr + received(mail, hook)) == []
    assert hits(out) == []
    logs = "".join(sh("docker", "logs", store["container"], merge=True) for store in guarded)
    assert said(logs) == []


PLAY = """
- import_playbook: {root}/playbooks/backup.yml
- hosts: stacks
  gather_facts: false
  roles: [stack]
  tasks:
    - ansible.builtin.include_role: {{name: monitor, tasks_from: secrets, public: true}}
    - stack_check:
      args: "{{{{ monitor_job[0][1] | combine(check_more) }}}}"
      register: checked
    - ansible.builtin.debug: {{var: checked}}
    - ansible.builtin.debug: {{var: monitor_job}}
- import_playbook: {root}/playbooks/offsite.yml
- import_playbook: {root}/playbooks/offsite.yml
  vars: {{offsite_runner: host, offsite_remote: "{{{{ by_host }}}}"}}
- import_playbook: {root}/playbooks/status.yml
"""


def test_ansible_shows_no_secret_at_its_most_talkative(guarded, receivers, remote, tmp_path):
    mail, hook = receivers
    out, etc = tmp_path / "out", tmp_path / "etc"
    out.mkdir()
    (tmp_path / "play.yml").write_text(PLAY.format(root=ROOT))
    host = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "ansible_remote_tmp": str(out / "remote"),
        "stack_backup_dir": str(out / "backups"),
        "stack_stores": guarded,
        "backup_report_dir": str(out / "reports"),
        "monitor_secrets_dir": str(etc / "secrets"),
        "monitor_min_free_share": 0.999999,  # something to alert of
        "monitor_alert_email": {"to": ["a@b"], "host": "localhost", "port": mail.port, "user": "ops"},
        "monitor_alert_email_password": SECRETS["smtp"],
        "monitor_alert_webhooks": [{"url": f"{hook.url}/h/{SECRETS['webhook']}", "format": "slack"}],
        "monitor_alert_pings": {"backup": f"{hook.url}/p/{SECRETS['ping']}"},
        "offsite_remote": remote.path("container"),
        "by_host": remote.path("host"),
        "offsite_rclone_config": remote.config,
        "offsite_config_dir": str(etc / "offsite"),
        "check_more": {"state_dir": str(out / "state"), "metrics_file": str(out / "shop.prom")},
    }
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"stacks": {"hosts": {"shop": host}}}))
    argv = ["ansible-playbook", "-vvv", "--diff", "-i", str(tmp_path / "hosts.yml"), str(tmp_path / "play.yml")]
    env = {**os.environ, "ANSIBLE_HOME": str(out / "ansible"), "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
    env["ANSIBLE_LOG_PATH"] = str(out / "ansible.log")
    with sampled() as seen:
        result = subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=250)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    modes = {path.name: path.stat().st_mode & 0o777 for path in (etc / "secrets").rglob("*") if path.is_file()}
    assert modes == {"smtp-password": 0o600, "webhook-1": 0o600, "ping-backup": 0o600}
    assert (etc / "offsite" / "shop" / "rclone.conf").stat().st_mode & 0o777 == 0o600
    assert (copied(remote, "container"), copied(remote, "host")) == (6, 6)
    assert [item["user"] for item in mail.mails] == ["ops"]
    assert [path for _, path, _ in hook.requests] == [f"/h/{SECRETS['webhook']}"]
    assert shown(seen) == []
    assert said(result.stdout + result.stderr + received(mail, hook)) == []
    assert hits(out) == []
    assert "WARNING disk" in result.stdout
