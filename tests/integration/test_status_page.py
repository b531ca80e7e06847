"""playbooks/status.yml on real recovery points, and its page in a real browser: against what lies on disk."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from browser import PROGRAM, browser
from conftest import PG, PROJECT, REDIS
from endpoints import RCLONE
from stack_backup import arguments, catalog, drill
from stack_backup.artifact import Partial
from stack_backup.offsite import copy
from stack_backup.validate import complete

from tests.world import DAY, point_id

ROOT = Path(__file__).resolve().parents[2]
EVIL = "<script>document.title='taken'</script>"
LONG = "a-very-long-name-without-a-place-to-break-it-" * 5
HOSTS = {"whole", "late", "evil", "away", "unmounted", LONG}


class Fleet:
    """A run of the playbook: its exit code, what it said, the page and the JSON."""

    def __init__(self, folder, stack):
        self.folder, self.stack, self.page, self.json = folder, stack, folder / "page.html", folder / "all.json"
        self.backups = folder / "whole"

    def make(self):
        """Points of three days, drilled and copied; a day's second store failed; and stacks that are not well."""
        now = time.time()
        for name in ("whole", "late", "evil", LONG[:40], "remote"):
            (self.folder / name).mkdir()
        for days in (3, 2, 1):
            self.stack.take(self.backups, [PG, REDIS], id=point_id(now - days * DAY))
        self.stack.fail(self.backups, [{**PG, "service": "gone"}, REDIS], id=point_id(now - 2.5 * DAY))
        self.stack.take(self.backups, [PG, REDIS])
        given = {"backup_dir": str(self.backups), "stack": "test"}
        drilled = drill.drill(complete(arguments.BACKUP_DRILL, {**given, "point": point_id(now - DAY)}, "drill"))
        assert drilled["complete"]
        (self.folder / "rclone.conf").write_text("")
        to = {**given, "remote": str(self.folder / "remote"), "runner": "host", "config_dir": str(self.folder)}
        assert len(copy.copy(complete(arguments.OFFSITE_COPY, to, "copy"))["copied"]) == 4
        self.stack.take(self.folder / "late", [REDIS], id=point_id(now - 5 * DAY))
        self.stack.take(self.folder / LONG[:40], [REDIS])
        (self.folder / "evil" / EVIL.replace("/", "")).write_text("")
        partial = Partial(self.folder / "evil", "redis", "redis", point_id(now - 3 * DAY))
        partial.create()
        return self

    def play(self, *args):
        hosts = {
            "whole": {"offsite_remote": str(self.folder / "remote"), "offsite_runner": "host"},
            "late": {},
            "evil": {"stack_name": EVIL},
            "away": {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1},
            "unmounted": {"stack_backup_dir": "/nowhere/at/all"},
            LONG: {"stack_backup_dir": str(self.folder / LONG[:40])},
        }
        shared = {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "stack_name": "test",
            "stack_project_dir": str(self.stack.folder),
            "stack_project_name": PROJECT,
            "stack_stores": [PG, REDIS],
            "monitor_max_drill_days": 8,
            "monitor_min_free_share": 0,
            "retention_keep_daily": 2,
            "retention_keep_weekly": 0,
            "retention_keep_monthly": 0,
        }
        given = {name: {"stack_backup_dir": str(self.folder / name), **more} for name, more in hosts.items()}
        inventory = {"stacks": {"hosts": given, "vars": shared}}
        (self.folder / "hosts.yml").write_text(yaml.safe_dump(inventory))
        argv = ["ansible-playbook", "-i", str(self.folder / "hosts.yml"), "playbooks/status.yml", *args]
        env = {**os.environ, "ANSIBLE_HOME": str(self.folder / "home"), "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
        done = subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
        self.code, self.said = done.returncode, done.stdout + done.stderr
        return self

    def files(self):
        return {
            path: path.stat().st_mtime_ns for path in self.folder.rglob("*") if self.folder / "home" not in path.parents
        }

    def points(self):
        return catalog.read(self.backups, "test")


@pytest.fixture(scope="module")
def fleet(stack, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{Path(RCLONE).parent}:{os.environ['PATH']}")
        made = Fleet(tmp_path_factory.mktemp("fleet"), stack).make()
    before = made.files()
    made.play("-e", f"status_page={made.page}", "-e", f"status_json={made.json}")
    made.changed = {path for path, at in made.files().items() if before.get(path) != at and path.is_file()}
    return made


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    if not PROGRAM:
        pytest.skip("this machine has no browser: scripts/setup/browser.sh")
    with browser(tmp_path_factory.mktemp("profile")) as tab:
        yield tab


@pytest.fixture
def shown(tab, fleet):
    """The page as a phone has it, everything unfolded."""
    tab.media()
    tab.screen(390, 844, mobile=True)
    tab.open(fleet.page)
    tab.js("document.querySelectorAll('details').forEach(item => item.open = true)")
    return tab


def rows(said):
    """The table on the terminal: cells by stack."""
    lines = said[said.index("STACK ") :].splitlines()
    head = lines[0]
    begins = [match.start() for match in re.finditer(r"\S+(?: \S+)*", head)]
    found = {}
    for line in lines[1:]:
        cells = [line[begin:end].strip() for begin, end in zip(begins, [*begins[1:], None])]
        if "stacks:" in line:
            return found, line.strip()
        found[cells[0]] = dict(zip(re.findall(r"\S+(?: \S+)*", head), cells))
    raise AssertionError(said)


def test_the_playbook_shows_every_stack_and_fails_where_it_is_critical(fleet):
    assert fleet.code == 2, fleet.said
    found, counts = rows(fleet.said)
    assert {name.split(" (")[0]: row["VERDICT"] for name, row in found.items()} == {
        "whole": "ok",
        "late": "critical",
        "evil": "critical",
        "away": "unreachable",
        "unmounted": "critical",
        f"{LONG[:39]}…": "ok",
    }
    assert (
        list(found)[-2:] == [f"{LONG[:39]}…", "whole (test)"] and counts == "6 stacks: 3 critical, 1 unreachable, 2 ok"
    )
    whole = found["whole (test)"]
    newest = fleet.points().choose("latest")
    size = sum(backup.artifact.stat().st_size for backup in fleet.points().points[newest].values())
    assert whole["SIZE"] == f"{size / 1000:.1f} kB" and whole["NEXT BACKUP"] == "not scheduled"
    assert whole["OFFSITE"].startswith("4 points, ") and "took" in whole["LAST DRILL"]
    failed = [line for line in fleet.said.splitlines() if "Fail where it is critical: " in line]
    assert {line.split("]")[0] for line in failed} == {
        f"fatal: [{name}" for name in ("late", "evil", "away", "unmounted")
    }
    assert any("Connection refused" in line for line in failed)


def test_no_host_is_changed(fleet):
    assert fleet.changed == {fleet.page, fleet.json, fleet.folder / "hosts.yml"}


def test_check_mode_writes_no_file(fleet, tmp_path):
    page, before = tmp_path / "page.html", fleet.folder
    fleet = Fleet(before, fleet.stack)
    fleet.play("--check", "-e", f"status_page={page}", "--limit", "whole")
    assert fleet.code == 0 and "1 stacks: 1 ok" in fleet.said, fleet.said
    assert not page.exists()


def test_a_fleet_of_which_nobody_answers_has_its_table_too(fleet):
    """Ansible itself ends a run with the play after which no host is left."""
    again = Fleet(fleet.folder, fleet.stack)
    again.play("--limit", "away")
    assert again.code == 2 and "1 stacks: 1 unreachable" in again.said, again.said


def test_a_page_that_can_not_be_written_fails_the_run_after_the_table(fleet):
    again = Fleet(fleet.folder, fleet.stack)
    again.play("-e", "status_page=/proc/none/page.html", "--limit", "whole")
    assert again.code == 2 and "1 stacks: 1 ok" in again.said
    assert "/proc/none/page.html can't be written: No such file or directory: " in " ".join(again.said.split())


def test_the_json_is_what_lies_on_disk(fleet):
    told = {item["host"]: item for item in json.loads(fleet.json.read_text())["stacks"]}
    assert set(told) == HOSTS
    found, whole = fleet.points(), told["whole"]
    assert [point["id"] for point in whole["points"]] == list(found.points)
    for point in whole["points"]:
        backups = found.points[point["id"]]
        assert point["bytes"] == sum(backup.artifact.stat().st_size for backup in backups.values())
        assert point["complete"] == (len(backups) == 2)
        assert (point["offsite"] is not None) == point["complete"]
    (drilled,) = whole["drills"]
    records = [json.loads(path.read_text()) for path in fleet.backups.rglob("*.verified.json")]
    assert len(records) == 2 and drilled["ok"]
    assert drilled["seconds"] == pytest.approx(sum(record["seconds"] for record in records), abs=0.1)
    alone = sum(record["checked"]["seconds"]["total"] for record in records)
    assert drilled["restore_seconds"] == pytest.approx(alone, abs=0.1) and 0 < alone < drilled["seconds"]
    assert told["away"]["verdict"] == "unreachable" and "points" not in told["away"]


def test_what_will_go_is_what_a_prune_would_remove(fleet):
    """Nothing is scheduled: retention as of now says why each stays, and the days to come let go of the oldest first."""
    whole = next(item for item in json.loads(fleet.json.read_text())["stacks"] if item["host"] == "whole")
    stays = {point["id"]: point["keeps"] for point in whole["points"]}
    oldest, failed, *_, newest = stays
    assert stays[newest].startswith("newest, daily") and "stays for 7d" in stays[failed]
    assert stays[oldest] == "" and whole["retention"]["supposed"]
    assert whole["retention"]["goes"][0]["ids"][0] == oldest


def test_the_page_shows_it(shown, fleet):
    found = fleet.points()
    text = shown.js("document.body.innerText")
    assert all(name in text for name in HOSTS) and "4 of 6 stacks need a look" in text
    section = shown.js("document.evaluate(\"//section[h3[contains(., 'whole')]]\", document).iterateNext().innerText")
    assert all(point in section for point in found.points)
    assert str(fleet.folder / "remote") in section and "has no service gone" in section
    assert shown.js("document.title") == "Backups: 4 of 6 stacks need a look" and EVIL in text


@pytest.mark.parametrize("width", [320, 390, 800, 970, 1280])
def test_nothing_is_wider_than_the_screen(shown, width):
    shown.screen(width, 844, mobile=width < 500)
    assert shown.js("document.documentElement.scrollWidth") <= width
    wide = "[...document.querySelectorAll('main :not(thead, thead *)')].filter(e => e.getBoundingClientRect().right > innerWidth + 1)"
    assert shown.js(f"{wide}.map(e => e.outerHTML.slice(0, 200))") == []


def test_what_is_touched_is_large_enough(shown):
    shown.screen(1280, 844)  # where no line breaks
    heights = shown.js("[...document.querySelectorAll('summary')].map(e => e.getBoundingClientRect().height)")
    assert heights and min(heights) >= 44
    assert shown.js("parseFloat(getComputedStyle(document.body).fontSize)") >= 16


def test_light_and_dark(shown):
    def colours():
        return shown.js("(s => [s.backgroundColor, s.color])(getComputedStyle(document.body))")

    shown.media(prefers_color_scheme="light")
    light = colours()
    shown.media(prefers_color_scheme="dark")
    dark = colours()
    assert light == ["rgb(255, 255, 255)", "rgb(27, 31, 36)"] and dark == ["rgb(15, 19, 24)", "rgb(232, 237, 242)"]


def test_by_keyboard(shown):
    shown.open(Path(shown.js("decodeURI(location.pathname)")))
    where = "(e => [e.tagName, e.innerText, getComputedStyle(e).outlineStyle, e.getBoundingClientRect().left >= 0])"
    shown.press("Tab", 9)
    assert shown.js(f"{where}(document.activeElement)") == ["A", "Skip to all stacks", "solid", True]
    shown.press("Enter", 13)
    assert shown.js("location.hash") == "#all"
    # On from there, not from the top: the table's links, then each stack's disclosure.
    seen = []
    while len(seen) < 20 and "SUMMARY" not in seen:
        shown.press("Tab", 9)
        tag, _, outline, on_screen = shown.js(f"{where}(document.activeElement)")
        assert outline == "solid" and on_screen
        seen.append(tag)
    assert seen == ["A"] * 6 + ["SUMMARY"]
    assert not shown.js("document.activeElement.parentElement.open")
    shown.press("Enter", 13)
    assert shown.js("document.activeElement.parentElement.open")


def names(tree, role):
    return [node.get("name", {}).get("value") for node in tree if node["role"]["value"] == role]


@pytest.mark.parametrize("width", [390, 1280])
def test_by_screen_reader(shown, width):
    """What it is given stays the same where CSS makes cards of the rows."""
    shown.screen(width, 844, mobile=width < 500)
    tree = shown.tree()
    assert names(tree, "RootWebArea") == ["Backups: 4 of 6 stacks need a look"]
    tables, count = names(tree, "table"), shown.js("document.querySelectorAll('table').length")
    assert len(tables) == count and all(tables)
    overview = {"Stack", "Verdict", "Newest point", "Size", "Trend", "Last drill", "Offsite", "Next backup"}
    assert overview <= set(names(tree, "columnheader"))
    assert len(names(tree, "rowheader")) == shown.js("document.querySelectorAll('tbody th').length")
    assert len(names(tree, "row")) == shown.js("document.querySelectorAll('tr').length")
    pictures = [node for node in tree if node["role"]["value"] in ("image", "img", "graphics-document")]
    assert len(pictures) == shown.js("document.querySelectorAll('svg').length") > 3
    assert all("days have a complete point" in node["name"]["value"] for node in pictures[:1])
    assert {"banner", "main", "contentinfo"} <= {node["role"]["value"] for node in tree}
    assert len(names(tree, "DisclosureTriangle")) == shown.js("document.querySelectorAll('summary').length")


def test_nothing_is_loaded_and_nothing_runs(shown, fleet):
    asked = [
        event["params"]["request"]["url"] for event in shown.events if event["method"] == "Network.requestWillBeSent"
    ]
    assert asked == [fleet.page.as_uri()]
    assert [event for event in shown.events if event["method"].startswith(("Log.", "Runtime.exc"))] == []
    assert shown.js("document.scripts.length") == 0
    # Should a script get in all the same, it does not run.
    shown.js("document.body.append(Object.assign(document.createElement('script'), {text: 'document.title = 1'}))")
    assert shown.js("document.title") != "1"


def test_on_paper(shown):
    shown.media("print", prefers_color_scheme="dark")
    assert shown.js("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert shown.js("getComputedStyle(document.querySelector('summary')).display") == "none"
    assert shown.js("getComputedStyle(document.querySelector('tbody tr')).display") == "table-row"
    assert shown.pdf().count(b"/Type /Page\n") >= 2


def test_two_hundred_stacks_with_two_thousand_points_each(tab, fleet, tmp_path):
    """The page's parts are those of the real points, told as if there were so many."""
    from module_utils.stack_backup_page import report

    (whole,) = (item for item in json.loads(fleet.json.read_text())["stacks"] if item["host"] == "whole")
    days = [
        {**whole["days"][-1], "day": time.strftime("%Y%m%d", time.gmtime(whole["at"] - day * DAY))}
        for day in range(182)
    ]
    months = [
        {"month": f"{2021 + n // 12}{1 + n % 12:02}", "points": 30, "bytes": 9000 + n, "seconds": 2} for n in range(60)
    ]
    told = {**whole, "days": days, "months": months, "points": whole["points"] * 5, "drills": whole["drills"] * 20}
    stacks = [
        {
            "host": f"stack-{n:03}",
            "stack": None,
            "reachable": n % 50 > 0,
            "failure": "",
            "told": told,
            "findings": whole["findings"],
        }
        for n in range(200)
    ]
    page = tmp_path / "large.html"
    report({"stacks": stacks, "page": str(page), "json_file": None, "title": "Backups"})
    assert page.stat().st_size < 200 * 30_000
    tab.media()
    tab.screen(390, 844, mobile=True)
    assert tab.open(page) < 30
    assert tab.js("document.querySelectorAll('details').length") == 200
    assert tab.js("document.documentElement.scrollWidth") == 390
    tab.js("document.querySelectorAll('summary')[150].click()")
    assert tab.js("document.querySelectorAll('details')[150].open")
