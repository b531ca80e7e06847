"""The benchmark's own arithmetic."""

from benchmarks import fleet_page
from benchmarks.control import Spent
from benchmarks.report import Run, page
from benchmarks.samples import Sample, ratio, summaries

MIB = 1024 * 1024


class Server:
    """What a report asks of a server."""

    def __init__(self, engine, title):
        self.engine, self.title, self.size = engine, title, 100 * MIB

    def exact_version(self):
        return "1.2.3"


PG, REDIS = Server("postgres", "Postgres 17"), Server("redis", "Redis 8.0")


def samples():
    steps = {"stream": 3.0, "seal": 0.5, "total": 9.0}
    return [
        *(Sample(PG.title, "bare", seconds, MIB) for seconds in (4.0, 100.0, 5.0)),
        *(Sample(PG.title, "ours", seconds, MIB, steps, peak=30 * MIB, child=50 * MIB) for seconds in (5.2, 4.9, 6.0)),
        *(Sample(PG.title, "runbook", seconds, MIB) for seconds in (20.0, 21.0, 22.0)),
        Sample(REDIS.title, "ours", 2.0, MIB, steps, peak=65 * MIB),
        Sample(f"{PG.title} + {REDIS.title}", "both", 5.72, MIB, steps, peak=30 * MIB),
    ]


def test_medians_extremes_and_ratios():
    done = summaries(samples())
    ours = done[(PG.title, "ours")]
    assert (ours.seconds, ours.low, ours.high) == (5.2, 4.9, 6.0)
    assert ours.rest == 5.2 - 3.5  # `total` is no step
    assert ratio(done, PG.title, "ours", "bare") == 5.2 / 5.0
    assert ratio(done, PG.title, "runbook", "ours") == 21.0 / 5.2
    assert ratio(done, REDIS.title, "ours", "bare") is None


def rows_of(text):
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]


def test_the_page_tells_which_goals_are_met():
    run = Run("--rounds 3", 3, [PG, REDIS], f"{PG.title} + {REDIS.title}", "2 cores", 31 * MIB, 60.0)
    text = page(run, summaries(samples()))
    rows = rows_of(text)
    goals = {row[0]: row[2:] for row in rows if len(row) == 4}
    assert goals["Postgres 17: stack-backup ÷ bare"] == ["1.04", "yes"]
    assert goals["Postgres 17: runbook ÷ stack-backup"] == ["4.04", "**no**"]
    assert goals["Postgres 17 + Redis 8.0: together ÷ the longer alone"] == ["1.10", "yes"]
    assert goals["peak memory of the engine"] == ["65.00 MiB", "**no**"]
    assert "Redis 8.0: stack-backup ÷ bare" not in goals
    assert [row[5] for row in rows if row[0] == "Postgres 17" and row[1] == "stack-backup"] == ["1"]


def test_a_fleets_page_divides_by_its_hosts():
    runs = [fleet_page.Measured(50, 20, Spent(0, "", 100.0, 25.0, 300 * MIB), 6.0)]
    idle = [
        fleet_page.Idle("first", 20, Spent(0, "", 10.0, 8.0, MIB)),
        fleet_page.Idle("slow", 20, Spent(0, "", 25.0, 9.0, MIB)),
    ]
    text = fleet_page.page("2 cores", runs, runs, idle, {"h001": "no\nroute"}, Spent(2, "", 60.0, 1.0, MIB))
    rows = rows_of(text)
    assert rows.count(["50", "20", "100", "2.00", "6.0", "0.50", "300"]) == 2
    assert ["slow", "25.0", "2.50", "0.45", "1"] in rows and ["h001", "no route"] in rows
    assert "1 of 50 hosts, 20 forks: 60 s, exit code 2" in text
