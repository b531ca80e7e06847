"""The benchmark's own arithmetic, its page and its plot."""

import gzip
import io
import json
import tarfile
import xml.etree.ElementTree as ElementTree
from dataclasses import asdict

import pytest
from stack_backup import catalog

from benchmarks import backup, fleet_page, live, page, plot, redis_client
from benchmarks.control import Spent
from benchmarks.load import parse_pgbench
from benchmarks.points import write_points
from benchmarks.proofs import prove, size
from benchmarks.samples import Sample, longest_gap, percentile, ratio, summaries, within
from benchmarks.servers import Server
from benchmarks.ways import ways_for

MIB = 1024 * 1024
PG, REDIS, BOTH = "Postgres 17", "Redis 8.0", "Postgres 17 + Redis 8.0"


def samples():
    steps = {"stream": 3.0, "seal": 0.5, "total": 9.0}
    return [
        *(Sample(PG, "bare", seconds, MIB) for seconds in (4.0, 100.0, 5.0)),
        *(Sample(PG, "ours", seconds, MIB, steps, peak=30 * MIB, child=50 * MIB) for seconds in (5.2, 4.9, 6.0)),
        *(Sample(PG, "runbook", seconds, MIB) for seconds in (20.0, 21.0, 22.0)),
        Sample(REDIS, "ours", 2.0, MIB, steps, peak=65 * MIB),
        Sample(BOTH, "both", 5.72, MIB, steps, peak=30 * MIB),
    ]


def backups():
    servers = [
        {"engine": name.split()[0].lower(), "title": name, "size": 1000 * MIB, "version": "1.2.3"}
        for name in (PG, REDIS)
    ]
    told = {"rounds": 3, "servers": servers, "both": BOTH, "module_peak": 31 * MIB}
    return {**told, "samples": [asdict(sample) for sample in samples()]}


def table_rows(text):
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]


def run(told, **given):
    return {"machine": "2 cores", "options": "--rounds 3", "seconds": 60, "told": told, **given}


def test_medians_extremes_and_ratios():
    done = summaries(samples())
    ours = done[(PG, "ours")]
    assert (ours.seconds, ours.low, ours.high) == (5.2, 4.9, 6.0)
    assert ours.rest == 5.2 - 3.5  # `total` is no step
    assert ratio(done, PG, "ours", "bare") == 5.2 / 5.0
    assert ratio(done, PG, "runbook", "ours") == 21.0 / 5.2
    assert ratio(done, REDIS, "ours", "bare") is None


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [([], 0.99, 0.0), ([7.0], 0.5, 7.0), (range(1, 101), 0.99, 99), (range(1, 101), 0.5, 50), ([3, 1, 2], 1.0, 3)],
)
def test_a_percentile_is_the_nearest_rank(values, share, expected):
    assert percentile(values, share) == expected


@pytest.mark.parametrize(
    ("begin", "end", "expected"),
    [
        (0.0, 1.0, 0.5),  # all of it is seen
        (2.0, 3.0, 6.0),  # began inside, ended after it
        (5.0, 6.0, 3.0),  # nothing came inside; what was before does not count
        (9.5, 10.0, 0.5),  # nothing is known of the time after the last answer
        (20.0, 21.0, 1.0),
    ],
)
def test_the_longest_time_without_an_answer(begin, end, expected):
    answers = [(when, 0.001) for when in (0.0, 0.5, 1.0, 1.5, 2.0, 8.0, 8.5, 9.0, 9.5)]
    assert longest_gap(answers, begin, end) == expected


def test_without_any_answer_all_of_the_time_is_the_gap():
    assert longest_gap([], 10.0, 14.0) == 4.0


def test_what_clients_felt_counts_in_milliseconds_and_inside_the_time_alone():
    answers = [(0.5, 9.0), *((1 + number / 100, number / 1000) for number in range(100)), (2.0, 9.0)]
    assert len(within(answers, 1.0, 2.0)) == 100
    felt = live.summary(answers, 1.0, 2.0)
    assert (felt["rate"], felt["p50"], felt["p99"]) == (100, 49.0, 98.0)
    assert felt["stall"] == pytest.approx(10)


def test_a_log_of_pgbench_is_read_but_for_what_the_kill_cut_off():
    log = "0 199 2241 0 1175850568 995598 1020\n3 200 1500000 0 1175850569 608 0\n1 201 24"
    assert parse_pgbench(log) == [(1175850568.995598, 0.002241), (1175850569.000608, 1.5)]


def test_answers_of_redis_are_whole_when_all_of_them_came():
    assert redis_client._command("GET", "a") == b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n"
    for answer in (b":12\r\n", b"-ERR no\r\n", b"$-1\r\n", b"$4\r\na\r\nb\r\n"):
        assert redis_client._whole(answer)
        assert not any(redis_client._whole(answer[:length]) for length in range(len(answer)) if answer != b"$-1\r\n")


def test_a_second_version_is_measured_by_what_the_goals_are_about(tmp_path):
    new, old = Server("postgres", "17", tmp_path), Server("postgres", "15", tmp_path)
    assert {way.name for way in ways_for(old, [], first=False)} == {"runbook", "bare", "ours"}
    assert {way.name for way in ways_for(new, [], first=True)} - {
        way.name for way in ways_for(old, [], first=True)
    } == {"databasus"}
    assert [way.name for way in ways_for(old, ["databasus", "exec"], first=False)] == ["exec"]


def test_the_page_tells_which_goals_are_met():
    rows = table_rows(page.page({"backup": run(backups())}))
    goals = {row[0]: row[2:] for row in rows if len(row) == 4}
    assert goals["Postgres 17, 1000 MiB: bare ÷ stack-backup"] == ["0.96", "yes"]
    assert goals["Postgres 17, 1000 MiB: runbook ÷ stack-backup"] == ["4.04", "**no**"]
    assert goals[f"{BOTH}: together ÷ the longer alone"] == ["1.10", "yes"]
    assert goals["peak memory of the engine"] == ["65.00 MiB", "**no**"]
    assert not any("BGSAVE" in name for name in goals)  # one of the two was not measured
    assert [row[5] for row in rows if row[0] == PG and row[1] == "stack-backup"] == ["1"]


def test_small_data_meets_no_goal_and_misses_none():
    told = backups()
    for server in told["servers"]:
        server["size"] = 999 * MIB
    goals = {row[0]: row[3] for row in table_rows(page.page({"backup": run(told)})) if len(row) == 4}
    assert goals["Postgres 17, 999 MiB: runbook ÷ stack-backup"] == "too small to tell"
    assert goals["peak memory of the engine"] == "**no**"


def test_a_section_measured_alone_loses_no_other(tmp_path):
    (tmp_path / "benchmarks").mkdir()
    restores = {"rounds": 1, "seconds": {}}
    for mib, downtime in (("10", 3.0), ("1000", 4.5)):
        restores["seconds"][mib] = {
            "runbook": [20.0],
            "downtime": [downtime],
            "switch": [0.5],
            "safety": [3.0],
            "total": [12.0],
        }
    (tmp_path / "benchmarks" / "backup.json").write_text(json.dumps(run(backups())))
    page.write(tmp_path)
    (tmp_path / "benchmarks" / "restore.json").write_text(json.dumps(run(restores, options="")))
    page.write(tmp_path)
    text = (tmp_path / "benchmarks.md").read_text()
    assert text.index("## Goals") < text.index("## Backup") < text.index("## Restore")
    assert "with `--rounds 3`" in text and "with the default options" in text and "## Growth" not in text
    goals = {row[0]: row[2:] for row in table_rows(text) if len(row) == 4}
    assert goals["restore of 1000 MiB: stack-backup in all ÷ runbook"] == ["0.60", "yes"]
    assert goals["restore: downtime at 1000 MiB ÷ at 10 MiB"] == ["1.50", "**no**"]
    assert "(benchmarks.svg)" in text and (tmp_path / "benchmarks.svg").exists()


def test_the_plot_is_drawn_to_scale_and_says_in_words_what_it_shows():
    bars = [plot.Bar("A & B", "slow <way>", 8.0, 7.0, 10.0), plot.Bar("A & B", "stack-backup", 4.0, 4.0, 4.0)]
    root = ElementTree.fromstring(plot.svg("Seconds", [*bars, plot.Bar("C", "stack-backup", 0.5, 0.5, 0.5)]))
    name = "{http://www.w3.org/2000/svg}"
    widths = [(item.get("class"), float(item.get("width"))) for item in root.iter(f"{name}rect")]
    assert [kind for kind, _width in widths] == ["bar", "ours", "ours"]
    assert widths[0][1] == pytest.approx(2 * widths[1][1])
    assert widths[2][1] > widths[0][1]  # a group has a scale of its own
    assert root.get("role") == "img" and root.find(f"{name}title").text == "Seconds"
    assert "slow <way>: 8.00 s (7.00 to 10.00)" in root.find(f"{name}desc").text
    assert "prefers-color-scheme: dark" in root.find(f"{name}style").text


def test_made_up_points_are_backups_to_the_catalog(tmp_path):
    write_points(tmp_path, 3)
    found = catalog.read(tmp_path, "bench")
    assert len(found.points) == 3 and not found.problems
    assert all(found.complete(point) for point in found.points)


def test_a_dump_that_ends_early_is_no_proof(tmp_path):
    file = tmp_path / "bench.sql.gz"
    with gzip.open(file, "wb") as out:
        out.write(b"x" * 3 * MIB + b"\n--\n-- PostgreSQL database dump complete\n--\n")
    prove(None, file)
    whole = file.read_bytes()
    file.write_bytes(whole[:-20])
    with pytest.raises(EOFError):
        prove(None, file)
    file.write_bytes(gzip.compress(b"-- PostgreSQL database dump\n"))
    with pytest.raises(RuntimeError, match="ends before"):
        prove(None, file)


def test_a_volume_without_its_control_file_is_no_proof(tmp_path):
    file = tmp_path / "bench.tar.gz"
    for names in (["./PG_VERSION", "./global/pg_control"], ["./PG_VERSION"]):
        with tarfile.open(file, "w:gz") as archive:
            for name in names:
                archive.addfile(tarfile.TarInfo(name), io.BytesIO())
        if len(names) == 2:
            prove(None, file)
    with pytest.raises(RuntimeError, match="no whole data folder"):
        prove(None, file)


def test_the_size_of_a_folder_is_that_of_its_files(tmp_path):
    (tmp_path / "inner").mkdir()
    (tmp_path / "a").write_bytes(b"12")
    (tmp_path / "inner" / "b").write_bytes(b"123")
    assert (size(tmp_path), size(tmp_path / "a")) == (5, 2)
    assert backup.bars(backups())[0].label == "bare: pg_dump -Fc, compressed as ours"


def test_a_fleets_page_divides_by_its_hosts():
    runs = [fleet_page.Measured(50, 20, Spent(0, "", 100.0, 25.0, 300 * MIB), 6.0)]
    idle = [
        fleet_page.Idle("first", 20, Spent(0, "", 10.0, 8.0, MIB)),
        fleet_page.Idle("slow", 20, Spent(0, "", 25.0, 9.0, MIB)),
    ]
    text = fleet_page.page("2 cores", runs, runs, idle, {"h001": "no\nroute"}, Spent(2, "", 60.0, 1.0, MIB))
    rows = table_rows(text)
    assert rows.count(["50", "20", "100", "2.00", "6.0", "0.50", "300"]) == 2
    assert ["slow", "25.0", "2.50", "0.45", "1"] in rows and ["h001", "no route"] in rows
    assert "1 of 50 hosts, 20 forks: 60 s, exit code 2" in text
