"""Alerts reach real servers: once for each change, daily while it lasts, once when all is well; and hold no secret."""

import json
import time

import pytest
from stack_backup import monitor
from stack_backup.errors import BackupError
from stack_backup.monitor import alert, facts, metrics, send
from stack_backup.monitor import state as memory

from tests.receivers import certificate, http, smtp
from tests.world import DAY, HOUR, World

MINUTE = 60.0


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    monkeypatch.setattr(facts, "_AGAIN", 0.0)
    monkeypatch.setattr(memory, "_RUN", tmp_path / "run")


@pytest.fixture
def mailbox():
    with smtp() as server:
        yield server


@pytest.fixture
def hooks():
    with http() as server:
        yield server


@pytest.fixture(scope="module")
def cert(tmp_path_factory):
    return certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def world(tmp_path, mailbox, hooks):
    world = World(tmp_path)
    mail = {"to": ["ops@example.com", "b@example.com"], "host": "localhost", "port": mailbox.port, "security": "none"}
    world.more = {
        "email": mail,
        "webhooks": [
            {"url": f"{hooks.url}/json/T0KEN", "format": "json"},
            {"url": f"{hooks.url}/slack/T0KEN", "format": "slack"},
        ],
        "pings": [{"job": "backup", "url": f"{hooks.url}/ping/T0KEN?rid=1"}],
    }
    return world


def told(server, path):
    return [json.loads(body) for _method, where, body in server.requests if where.startswith(path)]


def kinds(server):
    return [message["kind"] for message in told(server, "/json")]


def test_a_change_once_then_daily_then_well_once(world, mailbox, hooks):
    made = world.well()
    assert world.check()["alerted"] == {}
    assert (mailbox.mails, hooks.requests) == ([], [])
    made[-3]["postgres"].write_bytes(b"cut")
    answer = world.check(15 * MINUTE)
    assert answer["changed"]
    assert answer["alerted"] == {"e-mail": "problem", "webhook 1": "problem", "webhook 2": "problem"}
    (mail,) = mailbox.mails
    assert mail["to"] == ["ops@example.com", "b@example.com"]
    assert mail["mail"]["Subject"].startswith("[stack-backup] CRITICAL: shop on ")
    assert "has 3 bytes, its manifest says 10000" in mail["mail"].get_content()
    (data,) = told(hooks, "/json")
    assert (data["stack"], data["status"], data["findings"][0]["check"]) == ("shop", 2, "catalog")
    assert "CRITICAL" in told(hooks, "/slack")[0]["text"]
    for quarter in range(2, 20):
        assert world.check(quarter * 15 * MINUTE)["alerted"] == {}
    # Something else, beside it: told at once, with both.
    world.record("verify", world.now - HOUR, ok=False, error="no image")
    assert world.check(5 * HOUR)["alerted"]["e-mail"] == "problem"
    assert {item["check"] for item in told(hooks, "/json")[-1]["findings"]} == {"catalog", "job_verify"}
    # The first is mended: no news worth a mail while the other lasts; that is told again a day later.
    for backup in (made[-3]["postgres"], made[-3]["redis"]):
        backup.unlink()
        backup.with_suffix(".json").unlink()
    world.more["max_age_hours"] = world.more["max_drill_days"] = 1000
    world.more["jobs"] = {}
    assert world.check(6 * HOUR)["alerted"] == {}
    assert world.check(5 * HOUR + DAY - MINUTE)["alerted"] == {}
    assert world.check(5 * HOUR + DAY)["alerted"]["e-mail"] == "reminder"
    assert mailbox.mails[-1]["mail"]["Subject"].startswith("[stack-backup] still CRITICAL")
    assert world.check(6 * HOUR + DAY)["alerted"] == {}
    assert world.check(5 * HOUR + 2 * DAY)["alerted"]["e-mail"] == "reminder"
    world.record("verify", world.now)
    assert world.check(6 * HOUR + 2 * DAY)["alerted"]["e-mail"] == "recovery"
    assert world.check(7 * HOUR + 2 * DAY)["alerted"] == {}
    assert kinds(hooks) == ["problem", "problem", "reminder", "reminder", "recovery"]
    assert "all is well again" in mailbox.mails[-1]["mail"]["Subject"]


def test_what_goes_to_and_fro_makes_no_storm(world, hooks):
    world.well()
    for quarter in range(16):  # four hours
        world.record("verify", world.now - HOUR, ok=bool(quarter % 2), error="flaps")
        world.check(quarter * 15 * MINUTE)
    assert kinds(hooks) == ["problem", "recovery"] * 4


def test_what_gets_worse_is_told_at_once(world):
    channel = {}
    for minute, status, kind in (
        (0, 1, "problem"),
        (1, 1, ""),
        (2, 2, "problem"),
        (3, 1, ""),
        (4, 2, ""),
        (90, 2, "problem"),
    ):
        findings = [{"check": "disk", "status": status, "message": "x"}]
        assert alert.due(channel, findings, minute * MINUTE) == kind, minute
        alert.accept(channel, findings, minute * MINUTE, kind)


def test_a_clock_that_was_wrong_silences_nothing(world):
    channel, bad = {}, [{"check": "disk", "status": 2, "message": "x"}]
    alert.accept(channel, bad, 1000 * DAY, "problem")
    assert alert.due(channel, bad, 10 * DAY) == "reminder"


def test_a_failed_job_is_told_at_once_with_its_log(world, mailbox, hooks):
    made = world.well()
    log = [f"line {number}" for number in range(100)] + [
        "postgres://shop:hunter2@db/shop refused",
        "PGPASSWORD=hunter3",
    ]
    error = "store postgres: the server is gone: start it"
    record = world.record("backup", world.now, ok=False, error=error, log=log)
    monitor.job_started(world.params(), "backup")
    monitor.job_ended(world.params(), record)
    text = mailbox.mails[0]["mail"].get_content()
    assert f"CRITICAL job_backup: job backup failed: {error}" in text
    assert "line 99" in text and "line 50" not in text
    assert "postgres://***@db/shop refused" in text and "PGPASSWORD=***" in text
    pings = [(method, path) for method, path, _body in hooks.requests if path.startswith("/ping")]
    assert pings == [("GET", "/ping/T0KEN/start?rid=1"), ("POST", "/ping/T0KEN/fail?rid=1")]
    assert [body for method, path, body in hooks.requests if "/fail" in path][0].count("line 99") == 1
    assert kinds(hooks) == ["job_failed"]
    # The check that finds the same, and the point that it left, has no news; the day after is another matter.
    world.publish(world.now + 1, "redis", failed={"postgres": error})
    assert world.bad(MINUTE)[0] == {"job_backup": 2, "incomplete": 2}
    assert kinds(hooks) == ["job_failed"]
    monitor.job_ended(world.params(), record)
    assert kinds(hooks) == ["job_failed"]
    record = world.record("backup", world.now + 60)
    made = world.point(world.now + 100)
    monitor.job_ended(world.params(), record)
    assert hooks.requests[-1][:2] == ("GET", "/ping/T0KEN?rid=1")
    assert world.check(10 * MINUTE)["alerted"]["e-mail"] == "recovery", made


def test_a_way_that_is_down_stops_nothing_and_is_seen(world, mailbox, hooks, capfd):
    made = world.well()
    hooks.answers["/json/T0KEN"] = (500, {})
    hooks.answers["/ping/T0KEN?rid=1"] = (503, {})
    monitor.job_ended(world.params(), world.record("backup", world.now - HOUR))
    made[0]["redis"].write_bytes(b"")
    assert world.check()["alerted"] == {"e-mail": "problem", "webhook 2": "problem"}
    logged = capfd.readouterr().err
    assert "webhook 1 could not be reached: http://localhost answers 500" in logged
    assert "ping 1 of backup could not be reached: http://localhost answers 503" in logged
    assert 'stack_backup_alert_failed{stack="shop",channel="webhook 1"} 1.0' in world.metrics.read_text()
    bad, said = world.bad(HOUR)
    assert bad == {"catalog": 2, "alerts": 1}
    assert "webhook 1 could not be reached since 60 min" in said and "ping 1 of backup" in said
    assert len(told(hooks, "/json")) == 2 and len(mailbox.mails) == 1 + 0
    assert "T0KEN" not in said + logged + (world.state / "monitor-alerts.json").read_text() + world.metrics.read_text()
    # It is tried again at each check, and is told what is so when it is back; the others hear nothing twice.
    hooks.answers.clear()
    assert world.check(HOUR + 15 * MINUTE)["alerted"] == {"webhook 1": "problem"}
    monitor.job_ended(world.params(), world.record("backup", world.now - HOUR))
    assert world.bad(HOUR + 30 * MINUTE)[0] == {"catalog": 2}


def test_nobody_answers_and_nothing_hangs(world, monkeypatch, capfd):
    monkeypatch.setattr(send, "_SECONDS", 0.3)
    monkeypatch.setattr(send, "_IN_ALL", 0.6)
    world.well()
    with http() as gone:
        url = gone.url
    world.more["webhooks"] = [
        {"url": f"{url}/x"},
        {"url_file": str(world.state / "none")},
        {"url": "file:///etc/passwd"},
    ]
    world.more["email"] = {**world.more["email"], "host": "192.0.2.1"}
    monkeypatch.setattr(send.HTTPHandler, "http_open", lambda *_: time.sleep(5))  # a server that never says a word
    record = world.record("backup", world.now, ok=False, error="x")
    began = time.monotonic()
    monitor.job_ended(world.params(), record)
    assert time.monotonic() - began < 3
    logged = capfd.readouterr().err
    assert "webhook 1 could not be reached: no end within 0.6 s" in logged
    assert "e-mail could not be reached" in logged
    assert "webhook 2 could not be reached: the secret's file" in logged
    assert "webhook 3 could not be reached: the address is no http:// or https:// one" in logged
    assert world.bad()[0] == {"job_backup": 2, "alerts": 1}


def test_a_job_never_fails_of_its_alerts(world, capfd):
    monitor.job_ended({}, {"job": "backup", "ok": True})
    monitor.job_started({"stack": "x", "pings": [{}]}, "backup")
    assert capfd.readouterr().err.count("no alert could be sent: KeyError") == 2


def test_a_state_that_cannot_be_written_makes_no_storm(world, hooks):
    world.well()
    world.state.rename(world.state.with_name("away"))
    world.state.write_text("in the way")
    for quarter in range(4):
        assert world.bad(quarter * 15 * MINUTE)[0]["state"] == 1
    assert kinds(hooks) == ["problem"]
    world.state.unlink()
    world.state.with_name("away").rename(world.state)
    assert world.bad(HOUR)[0] == {}
    assert kinds(hooks) == ["problem", "recovery"]


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_mail_over_tls_with_a_login(world, cert, tmp_path, monkeypatch, security):
    world.well()
    password = tmp_path / "password"
    password.write_text("s3cret\n")
    world.record("verify", world.now, ok=False)
    with smtp(cert, implicit=security == "tls", login=("ops", "s3cret")) as server:
        mail = {"to": ["a@x.org"], "from": "b@x.org", "host": "localhost", "port": server.port, "security": security}
        world.more["email"] = {**mail, "user": "ops", "password_file": str(password)}
        # Its certificate is not one that this host trusts.
        assert "e-mail" not in world.check()["alerted"]
        assert "certificate verify failed" in world.bad(MINUTE)[1]
        assert server.mails == []
        monkeypatch.setenv("SSL_CERT_FILE", str(cert))
        assert world.check(2 * MINUTE)["alerted"] == {"e-mail": "problem"}
        assert [(item["tls"], item["user"], item["to"]) for item in server.mails] == [(True, "ops", ["a@x.org"])]
        password.write_text("wr0ng\n")
        with pytest.raises(BackupError, match="535 5.7.8 wrong password"):
            send.email(world.more["email"], "s", "t")


def test_a_server_without_starttls_gets_no_password(world, mailbox):
    with pytest.raises(BackupError, match="STARTTLS"):
        send.email({**world.more["email"], "security": "starttls"}, "s", "t")
    assert mailbox.mails == []


def test_https_is_verified(cert, monkeypatch):
    with http(cert) as server:
        with pytest.raises(BackupError, match="certificate verify failed"):
            send.post(f"{server.url}/x", {})
        monkeypatch.setenv("SSL_CERT_FILE", str(cert))
        send.post(f"{server.url}/x", {"a": 1})
        server.answers["/down"] = (302, {"Location": f"http://localhost:{server.server_port}/x"})
        with pytest.raises(BackupError, match="a redirect to http, which is refused"):
            send.ping(f"{server.url}/down", "success")
    assert [path for _method, path, _body in server.requests] == ["/x", "/down"]


def test_redirects(hooks):
    hooks.answers["/moved"] = (302, {"Location": "/new"})
    send.ping(f"{hooks.url}/moved", "success")
    assert hooks.requests[-1][:2] == ("GET", "/new")
    with pytest.raises(BackupError, match="loses the message"):
        send.post(f"{hooks.url}/moved", {})
    for scheme in ("file:///etc/passwd", "ftp://localhost/x", "data:,x"):
        hooks.answers["/away"] = (302, {"Location": scheme})
        with pytest.raises(BackupError, match=f"a redirect to {scheme.split(':')[0]}, which is refused"):
            send.ping(f"{hooks.url}/away", "success")
    hooks.answers["/loop"] = (302, {"Location": "/loop"})
    with pytest.raises(BackupError, match="answers 302"):
        send.ping(f"{hooks.url}/loop", "success")


def test_a_switch_that_knows_one_address_only(hooks):
    for event, status in (("start", 404), ("fail", 405)):
        hooks.answers[f"/push/{event}"] = (status, {})
        send.ping(f"{hooks.url}/push", event)
    hooks.answers["/push"] = (404, {})
    with pytest.raises(BackupError, match="answers 404"):
        send.ping(f"{hooks.url}/push", "success")


def test_sendmail(tmp_path, monkeypatch):
    program = tmp_path / "sendmail"
    program.write_text(
        f'#!/bin/sh\necho "$@" > {tmp_path}/args; cat > {tmp_path}/mail; [ ! -e {tmp_path}/no ] || {{ echo no route >&2; exit 75; }}\n'
    )
    program.chmod(0o755)
    monkeypatch.setattr(send, "_SENDMAIL", str(program))
    settings = {"to": ["ops@example.com"], "sendmail": True}
    send.email(settings, "sub\nject", "text")
    assert (tmp_path / "args").read_text() == "-t -i\n"
    assert "To: ops@example.com" in (tmp_path / "mail").read_text()
    assert "Subject: sub ject" in (tmp_path / "mail").read_text()
    (tmp_path / "no").touch()
    with pytest.raises(BackupError, match="sendmail: no route"):
        send.email(settings, "s", "t")
    with pytest.raises(BackupError, match="give a host"):
        send.email({"to": ["a@b"]}, "s", "t")


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("see https://u:p@x.org/a?token=abc&b=1 now", "see https://***@x.org/a?*** now"),
        ("redis://:pw@h:6379/0", "redis://***@h:6379/0"),
        ("REDISCLI_AUTH=abc docker", "REDISCLI_AUTH=*** docker"),
        ("no password: give password_file", "no password: give password_file"),
        ("at /hooks/T0/B1/xyz", "at ***"),
    ],
)
def test_what_is_hidden(text, hidden):
    assert alert.hide(text, ["/hooks/T0/B1/xyz"]) == hidden


def parse(text):
    """The samples of a textfile: (name, labels) → value. Asserts its form."""
    samples, told = {}, {}
    for line in text.splitlines():
        if line.startswith("# "):
            _, kind, name, rest = line.split(" ", 3)
            told.setdefault(name, {})[kind] = rest
            continue
        name, _, rest = line.partition("{")
        assert told[name]["TYPE"] == "gauge" and told[name]["HELP"]
        labels, at = {}, 0
        while rest[at] != "}":
            key, _, _ = rest[at:].partition('="')
            at += len(key) + 2
            value = ""
            while rest[at] != '"':
                if rest[at] == "\\":
                    at += 1
                    value += {"n": "\n"}.get(rest[at], rest[at])
                else:
                    value += rest[at]
                at += 1
            at += 2 if rest[at + 1] == "," else 1
            labels[key] = value
        key = (name.removeprefix("stack_backup_"), tuple(sorted(labels.items())))
        assert key not in samples
        samples[key] = float(rest[at + 1 :])
    return samples


def test_metrics(world):
    world.well()
    world.journal("done", world.now - 2 * DAY)
    monitor.job_ended(world.params(), world.record("backup", world.now - 3 * HOUR))
    world.record("verify", world.now - HOUR, ok=False)
    world.check()
    assert world.metrics.stat().st_mode & 0o777 == 0o644
    assert [path.name for path in world.metrics.parent.iterdir()] == [world.metrics.name]
    found = parse(world.metrics.read_text())

    def value(name, **labels):
        return found[name, tuple(sorted({"stack": "shop", **labels}.items()))]

    assert value("check_status") == 2
    assert value("finding_status", check="job_verify") == 2
    assert value("points") == 7
    assert abs(value("point_age_seconds") - 3 * HOUR) < 1
    assert value("size_bytes", store="redis") == 10000
    assert value("duration_seconds", store="redis") == 1.5
    assert (value("job_success", job="backup"), value("job_success", job="verify")) == (1, 0)
    assert abs(value("job_last_success_timestamp_seconds", job="backup") - (world.now - 3 * HOUR + 60)) < 1
    assert ("job_last_success_timestamp_seconds", (("job", "verify"), ("stack", "shop"))) not in found
    assert abs(value("drill_age_seconds", store="redis") - 20 * HOUR) < 1
    assert (value("drill_success", store="redis"), value("drill_duration_seconds", store="redis")) == (1, 2.5)
    assert abs(value("rpo_seconds") - DAY) < 2
    assert (value("rto_seconds", source="restore"), value("rto_seconds", source="drill")) == (4.25, 5)
    assert 0 < value("disk_free_bytes") < value("disk_size_bytes")
    assert value("alert_failed", channel="e-mail") == 0
    # A failed run does not forget when the last good one was.
    world.record("backup", world.now - 60, ok=False)
    world.check(MINUTE)
    assert (
        abs(
            parse(world.metrics.read_text())[
                "job_last_success_timestamp_seconds", (("job", "backup"), ("stack", "shop"))
            ]
            - (world.now - 3 * HOUR + 60)
        )
        < 1
    )


def test_labels_are_escaped():
    odd = 'a"b\\c\nd'
    ((name, labels), value) = next(iter(parse(metrics.render(odd, [("points", {"store": odd}, 1)])).items()))
    assert (name, dict(labels), value) == ("points", {"stack": odd, "store": odd}, 1)


def test_metrics_that_cannot_be_written(world):
    world.well()
    bad, said = world.bad(metrics_file=str(world.metrics.parent / "none" / "x.prom"))
    assert bad == {"metrics": 1}
    assert "No such file or directory: make its folder" in said
