"""The table and the page of all stacks: what they say, that no name becomes markup, that nothing is loaded."""

import json
import os
import re
import stat
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest

from module_utils.stack_backup import arguments, status
from module_utils.stack_backup.errors import BackupError
from module_utils.stack_backup.monitor import facts
from module_utils.stack_backup_page import html, report, style
from tests.world import DAY, HOUR, World, point_id

VOID = {"meta", "br", "path", "circle", "line"}
HOSTILE = "<script>alert('x')</script>\"&{{ 7 * 7 }}\x1b[31m\u202e\x00"


class Page(HTMLParser):
    """Elements in order, each with its attributes, its path from the top, and the text below it; fails where tags cross."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements, self._open = [], []
        self.feed(text)
        self.close()
        assert self._open == [], f"never closed: {self._open}"

    def handle_starttag(self, tag, attributes):
        names = [name for name, _ in attributes]
        assert len(names) == len(set(names)), (tag, names)
        element = {"tag": tag, **dict(attributes), "text": "", "path": [item["tag"] for item in self._open]}
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)

    def handle_endtag(self, tag):
        assert self._open and self._open[-1]["tag"] == tag, f"</{tag}> closes {self._open[-1:]}"
        self._open.pop()

    def handle_data(self, data):
        for element in self._open:
            element["text"] += data

    def all(self, tag, **wanted):
        return [
            element
            for element in self.elements
            if element["tag"] == tag and all(element.get(name) == value for name, value in wanted.items())
        ]


def finding(status, check="point", message="the newest complete recovery point is 3 h old"):
    return {"status": status, "check": check, "message": message}


WELL = [finding(0)]


def given(host, told=None, findings=WELL, **more):
    item = {"host": host, "stack": None, "reachable": True, "failure": "", "findings": list(findings)}
    return {**item, "told": told or {}, **more}


def asked(*stacks, **more):
    return {"stacks": list(stacks), "page": None, "json_file": None, "title": "Backups", **more}


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.setattr(facts, "_AGAIN", 0.0)
    return World(tmp_path / "world")


def look(world, **given):
    params = {name: option.get("default") for name, option in arguments.STACK_STATUS.items()}
    params.update(stack="shop", backup_dir=str(world.backups), state_dir=str(world.state))
    params.update(schedule_file=str(world.cron), offsite_remote="s3:bucket/shop")
    return status.look({**params, **given}, world.now)


@pytest.fixture
def told(world):
    """A week; one point failed its drill, one is incomplete, one was of a restore, five are offsite."""
    made = world.well()
    world.drill(made[2]["redis"], world.now - 50 * HOUR, ok=False, error=f"no {HOSTILE}")
    for ago in (2 * HOUR, 12 * DAY):
        world.publish(world.now - ago, "postgres", failed={"redis": f"refused {HOSTILE}"})
    world.publish(world.now - HOUR, "postgres", stores=("postgres",), purpose="safety")
    world.journal("done", world.now - 30 * HOUR)
    world.copied(
        "s3:bucket/shop", [point_id(world.now - 3 * HOUR - day * DAY) for day in range(1, 6)], world.now - HOUR
    )
    return look(world)


def page(tmp_path, *stacks, now=None, **more):
    file = tmp_path / "out" / "page.html"
    report(asked(*stacks, page=str(file), **more), now=now)
    return Page(file.read_text()), file.read_text()


# The table


def test_the_worst_first_and_every_stack():
    answer = report(
        asked(
            given("b-well"),
            given("a-well"),
            given("late", findings=[finding(0), finding(2, message="it is 3 d old")]),
            given("away", findings=(), reachable=False, failure="Connection refused"),
            given("slow", findings=[finding(1, "disk", "full soon")]),
            given("odd", findings=[finding(3, "catalog", "ended in an error")]),
            given("mute", findings=()),
            given("broken", findings=(), failure="its inventory is not whole"),
        )
    )
    rows = [line.split() for line in answer["table"].splitlines()]
    assert [row[:2] for row in rows[1:-1]] == [
        ["broken", "critical"],
        ["late", "critical"],
        ["away", "unreachable"],
        ["mute", "unknown"],
        ["odd", "unknown"],
        ["slow", "warning"],
        ["a-well", "ok"],
        ["b-well", "ok"],
    ]
    assert answer["table"].endswith("8 stacks: 2 critical, 1 unreachable, 2 unknown, 1 warning, 2 ok")
    assert answer["failures"] == {
        "late": "point: it is 3 d old",
        "away": "Connection refused",
        "odd": "catalog: ended in an error",
        "mute": "nothing was found out: see what the playbook says of this host",
        "broken": "its inventory is not whole",
    }
    assert set(answer["verdicts"].values()) == {"critical", "unreachable", "unknown", "warning", "ok"}
    assert not answer["changed"]


def test_a_line_of_the_table(told, world):
    head, line, _ = report(asked(given("trading", told, stack="shop")))["table"].splitlines()
    cells = dict(zip(re.split(r"\s{2,}", head), re.split(r"\s{2,}", line)))
    assert cells["STACK"] == "trading (shop)" and cells["VERDICT"] == "ok"
    assert (cells["NEWEST POINT"], cells["SIZE"], cells["TREND"]) == ("3 h", "20.0 kB", "+0%")
    assert (cells["LAST DRILL"], cells["OFFSITE"]) == ("20 h ago, took 5 s", "5 points, 60 min ago, 2 lacking")
    assert cells["NEXT BACKUP"].startswith("in ")


def test_a_trend_of_next_to_nothing_has_no_sign_of_its_own(told):
    for change, text in ((-0.004, "+0%"), (0.004, "+0%"), (-0.006, "-1%"), (1.5, "+150%")):
        answer = report(asked(given("one", {**told, "trend": {**told["trend"], "change": change}})))
        assert f"  {text}  " in answer["table"]


def test_a_name_does_nothing_to_a_terminal():
    answer = report(asked(given(HOSTILE), given("x" * 300)))
    assert all(line.isprintable() and len(line) < 160 for line in answer["table"].splitlines())
    assert HOSTILE in answer["verdicts"]  # what a playbook looks up is the name itself


# The page


def test_the_page_is_whole(told, tmp_path):
    found, text = page(tmp_path, given("trading", told), given("away", reachable=False, failure="refused"))
    assert text.startswith("<!doctype html>")
    assert found.elements[0]["tag"] == "html" and found.elements[0]["lang"] == "en"
    assert found.all("title")[0]["text"] == "Backups: 1 of 2 stacks needs a look"
    ids = [element["id"] for element in found.elements if "id" in element]
    assert len(ids) == len(set(ids))
    assert {link["href"][1:] for link in found.all("a")} <= set(ids)
    assert found.all("a")[0]["class"] == "skip"
    assert all(set(element.get("aria-labelledby", "").split()) <= set(ids) for element in found.elements)
    levels = [int(element["tag"][1]) for element in found.elements if re.fullmatch("h[1-6]", element["tag"])]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(later <= before + 1 for before, later in zip(levels, levels[1:]))


def test_tables_say_what_they_are(told, tmp_path):
    found, _ = page(tmp_path, given("trading", told))
    tables = found.all("table")
    assert len(tables) >= 4 and len(found.all("caption")) == len(tables)
    assert all(element["text"] for element in found.all("caption"))
    heads = [element for element in found.all("th") if "thead" in element["path"]]
    names = [element for element in found.all("th") if "tbody" in element["path"]]
    assert {element["scope"] for element in heads} == {"col"} and {element["scope"] for element in names} == {"row"}
    # On a phone rows are cards: each cell names its column itself.
    assert all(element["data-l"] and element["role"] == "cell" for element in found.all("td"))
    # CSS that makes cards of rows would take their roles from them in some browsers.
    assert len(found.all("tr", role="row")) == len(found.all("tr"))
    assert found.all("table", role="table") == tables


def test_pictures_say_what_they_show(told, tmp_path, world):
    found, _ = page(tmp_path, given("trading", told))
    pictures = found.all("svg")
    assert len(pictures) == 3 and {picture["role"] for picture in pictures} == {"img"}
    told_of = {
        element["id"]: element["text"] for tag in ("title", "desc") for element in found.all(tag) if "id" in element
    }
    for picture in pictures:
        title, described = (told_of[key] for key in picture["aria-labelledby"].split())
        assert "trading" in title and described
    calendar, sizes, seconds = (told_of[picture["aria-labelledby"].split()[1]] for picture in pictures)
    days = {day["day"]: day["complete"] for day in told["days"]}
    assert f": {sum(map(bool, days.values()))} days have a complete point" in calendar
    assert "smallest 20.0 kB, largest 20.0 kB, newest 20.0 kB" in sizes and "newest 1.5 s" in seconds


def test_the_calendar_has_a_mark_for_each_day(told, tmp_path):
    found, _ = page(tmp_path, given("trading", told))
    marks = {path["class"]: path["d"].count("v") for path in found.all("path") if path["class"] in ("good", "part")}
    assert marks["good"] == sum(bool(day["complete"]) for day in told["days"])
    alone = sum(not day["complete"] for day in told["days"])
    assert alone and marks["part"] == alone
    assert "filled square" in found.all("figcaption")[0]["text"]  # its shapes are told in words


def test_every_fact_is_there(told, tmp_path):
    found, text = page(tmp_path, given("trading", told, findings=[finding(2, "disk", "full"), finding(0)]))
    shown = " ".join(found.all("main")[0]["text"].split())
    assert all(point["id"] in shown for point in told["points"])
    assert "store redis did not restore in its drill" in shown and "safety backup of a restore" in shown
    assert "4.25 s" in shown and "s3:bucket/shop" in shown and "newest, daily" in shown
    assert "critical disk: full" in shown and "1 checks are well" in shown
    assert time.strftime("%Y-%m-%d %H:%M", time.gmtime(told["next"]["backup"])) in shown
    drilled = [row for row in found.all("tr") if row["text"].startswith("20") and "restored" in row["text"]]
    assert any("5 s" in row["text"] for row in drilled)


def test_what_goes_when_is_there(world, tmp_path):
    world.well()
    world.cron.write_text("15 2 * * * root x run backup\n15 3 * * * root x run prune\n")
    told = look(world, keep_daily=3, keep_weekly=0, keep_monthly=0)
    found, _ = page(tmp_path, given("trading", told))
    text = found.all("main")[0]["text"]
    for item in told["retention"]["goes"]:
        assert time.strftime("%Y-%m-%d %H:%M", time.gmtime(item["at"])) in text
        assert all(name in text for name in item["ids"])
    assert "if each scheduled job goes well" in text
    world.cron.write_text("15 2 * * * root x run backup\n")
    found, _ = page(tmp_path, given("trading", look(world)))
    assert "Nothing in the next 30 days: no prune is scheduled." in found.all("main")[0]["text"]


def test_no_name_becomes_markup(told, tmp_path):
    told = {**told, "offsite": {**told["offsite"], "remote": HOSTILE}, "next": {HOSTILE: told["at"] + 60}}
    told["retention"] = {**told["retention"], "held": HOSTILE}
    bad = [finding(2, HOSTILE, HOSTILE), finding(0, HOSTILE, HOSTILE)]
    found, text = page(
        tmp_path,
        given(HOSTILE, told, findings=bad, stack=HOSTILE),
        given("away", reachable=False, failure=HOSTILE),
        title=HOSTILE,
    )
    assert "<script" not in text.lower() and found.all("script") == []
    assert not re.search(r"[\x00-\x08\x0b-\x1f\u202e]", text)
    assert found.all("h1")[0]["text"].startswith("<script>alert('x')</script>\"&{{ 7 * 7 }}")
    assert {element["tag"] for element in found.elements} <= {
        *(
            "html",
            "head",
            "meta",
            "title",
            "style",
            "body",
            "a",
            "header",
            "h1",
            "h2",
            "h3",
            "h4",
            "p",
            "strong",
            "time",
        ),
        *("main", "section", "ul", "li", "span", "table", "caption", "thead", "tbody", "tr", "th", "td", "details"),
        *("summary", "div", "figure", "figcaption", "svg", "desc", "path", "circle", "text", "code", "dl", "dt", "dd"),
        "footer",
    }
    # No attribute that acts or loads: only these.
    names = {name for element in found.elements for name in element} - {"tag", "text", "path"}
    assert names <= {
        *(
            "lang",
            "charset",
            "http-equiv",
            "content",
            "name",
            "class",
            "id",
            "href",
            "datetime",
            "scope",
            "role",
            "data-l",
        ),
        *("aria-labelledby", "open", "viewbox", "d", "x", "y", "cx", "cy", "r", "text-anchor"),
    }


def test_what_is_no_element_is_text():
    assert html.el("p", HOSTILE[:8], html.el("br"), id='"><b>') == '<p id="&quot;&gt;&lt;b&gt;">&lt;script&gt;<br></p>'


@pytest.mark.parametrize(
    "odd",
    [
        {"told": {"at": "noon"}},
        {"told": {"at": 1, "days": None}},
        {"findings": [{"status": 9, "check": "point", "message": "?"}]},
        {"findings": [{"status": 0}]},
        {"findings": [[]]},
    ],
    ids=str,
)
def test_a_host_that_tells_nonsense_hides_no_other(told, tmp_path, odd):
    found, _ = page(tmp_path, given("trading", told), {**given("odd"), **odd})
    text = found.all("main")[0]["text"]
    assert all(point["id"] in text for point in told["points"])
    assert "critical: what its host told can't be shown" in text


def test_a_time_that_no_calendar_has(told, tmp_path):
    far = {**told, "next": {"backup": 10**30}, "offsite": {**told["offsite"], "at": 10**30}}
    found, _ = page(tmp_path, given("far", far), given("trading", told))
    assert "trading" in found.all("main")[0]["text"]


def test_nothing_is_loaded(told, tmp_path):
    found, text = page(tmp_path, given("trading", told))
    assert not re.search(r"https?:|src=|url\(|@import|javascript:|//", text.replace("<!doctype html>", ""))
    (policy,) = found.all("meta", **{"http-equiv": "Content-Security-Policy"})
    assert policy["content"].startswith("default-src 'none'; style-src 'unsafe-inline'")
    order = [element["tag"] for element in found.elements]
    assert order.index("meta") < order.index("style") and "script" not in order and "link" not in order


def test_no_stack_and_one_without_points(world, tmp_path):
    found, _ = page(tmp_path)
    assert "All 0 stacks are well" in found.all("header")[0]["text"]
    for told in (look(world), look(world, backup_dir="/nowhere")):
        found, _ = page(tmp_path, given("new", told, findings=[finding(2)]))
        assert "1 of 1 stacks needs a look" in found.all("title")[0]["text"]
        assert found.all("section", **{"class": "stack"})


def test_few_stacks_are_open_and_many_are_not(told, tmp_path):
    for count, opened in ((5, 5), (6, 0)):
        found, _ = page(tmp_path, *(given(f"stack-{number}", told) for number in range(count)))
        assert sum("open" in element for element in found.all("details")) == opened


def luminance(colour):
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("palette", [style.LIGHT, style.DARK], ids=["light", "dark"])
def test_contrast(palette):
    """WCAG 2.2 AA: 4.5 for text, 3 for what is drawn."""
    for name in set(palette) - {"bg"}:
        assert contrast(palette[name], palette["bg"]) >= (3 if name == "line" else 4.5), name


# The files


def test_the_files(told, tmp_path):
    files = {"page": str(tmp_path / "new" / "page.html"), "json_file": str(tmp_path / "new" / "all.json")}
    registered = {**told, "failed": False, "invocation": {"module_args": {}}}
    stacks = [given("trading", registered), given("away", reachable=False, failure="refused")]
    assert report(asked(*stacks, **files), check_mode=True)["changed"]
    assert not (tmp_path / "new").exists()
    assert report(asked(*stacks, **files), now=told["at"] + 5)["changed"]
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["all.json", "page.html"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "new").iterdir()} == {0o600}
    data = json.loads(Path(files["json_file"]).read_text())
    assert data["format"] == 1 and data["at"] == told["at"] + 5
    by_host = {item["host"]: item for item in data["stacks"]}
    ours = {"host", "stack", "verdict", "failure", "findings"}
    assert set(by_host["trading"]) - ours == set(told) - {"changed", "stack"}
    assert all(by_host["trading"][name] == told[name] for name in set(told) - {"changed", "stack"})
    assert by_host["away"]["verdict"] == "unreachable" and by_host["away"]["failure"] == "refused"


def test_a_file_keeps_its_mode_and_is_replaced_whole(tmp_path, monkeypatch):
    file = tmp_path / "page.html"
    file.write_text("before")
    file.chmod(0o644)
    report(asked(given("one"), page=str(file)))
    assert stat.S_IMODE(file.stat().st_mode) == 0o644 and file.read_text().startswith("<!doctype html>")
    before = file.read_text()

    def fail(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(BackupError, match=r"page.html can't be written: No space left on device: .*\(status_page\)"):
        report(asked(given("two"), page=str(file)))
    assert file.read_text() == before and [path.name for path in tmp_path.iterdir()] == ["page.html"]


def test_a_file_that_can_not_be(tmp_path):
    with pytest.raises(BackupError, match=r"status_json is 'all.json': give an absolute path"):
        report(asked(given("one"), json_file="all.json"))
    (tmp_path / "file").write_text("")
    with pytest.raises(BackupError, match="can't be written: File exists"):
        report(asked(given("one"), page=str(tmp_path / "file" / "page.html")))
    with pytest.raises(BackupError, match="can't be written: Is a directory"):
        report(asked(given("one"), page=str(tmp_path)))
    with pytest.raises(BackupError, match="Is a directory.*all.json': give") as caught:
        report(asked(given("one"), page=str(tmp_path), json_file="all.json"))
    assert "one    ok" in caught.value.details["table"]  # which is shown all the same
    assert caught.value.details["changed"] is False
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_many_stacks_with_many_points(told, tmp_path):
    """Its size is told by the stacks, not by their points: 25 kB for each at most."""
    days = [{**told["days"][0], "day": f"2026{1 + day // 28:02}{1 + day % 28:02}"} for day in range(182)]
    months = [
        {"month": f"{2020 + month // 12}{1 + month % 12:02}", "points": 30, "bytes": 9, "seconds": 1.5}
        for month in range(60)
    ]
    full = {**told, "days": days, "months": months, "points": told["points"] * 7, "drills": told["drills"] * 10}
    began = time.monotonic()
    report(asked(*(given(f"stack-{number:03}", full) for number in range(200)), page=str(tmp_path / "page.html")))
    assert (tmp_path / "page.html").stat().st_size < 200 * 25_000
    assert time.monotonic() - began < 60
