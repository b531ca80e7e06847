"""Lets faults come at the steps of real jobs on a real stack, and judges what is left. ``--help``."""

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "module_utils"))

from .inject import OUTCOMES, inject  # noqa: E402
from .stack import running  # noqa: E402


def page(rows, seconds, options):
    """What came of it, for people."""
    jobs = list(dict.fromkeys(row[0] for row in rows))
    kinds = list(dict.fromkeys(row[1] for row in rows if row[1] != "none"))
    counts = Counter((row[0], row[1], row[2]) for row in rows)
    wrong = [row for row in rows if row[4]]
    lines = ["| fault | " + " | ".join(jobs) + " |", "|---" * (len(jobs) + 1) + "|"]
    for kind in sorted(kinds):
        cells = [
            ", ".join(f"{counts[job, kind, word]} {word}" for word in OUTCOMES if counts[job, kind, word])
            for job in jobs
        ]
        lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    injected = len([row for row in rows if row[1] != "none"])
    complaints = "\n".join(f"- {row[0]}, {row[1]} at `{row[3]}`: {'; '.join(row[4])}" for row in wrong)
    return (
        f"# Faults\n\n`make faults` let {injected} faults come in {seconds / 60:.0f} minutes\n(`{options}`), at steps that were found by "
        "tracing each job: files made, synced, renamed, removed, programs started.\n\n"
        "*done*: the job did its work all the same; *told*: it failed and said so; *killed*: by the fault itself; *not met*: the\n"
        "step did not come in this run. Each was judged: the catalog has whole backups or named partials, the next run\n"
        "succeeds, live data, services, databases and temporary files are as they were, and what said ok was ok.\n\n"
        + "\n".join(lines)
        + f"\n\n{len(wrong)} of them did not pass.\n\n{complaints}\n"
    )


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument(
        "--jobs",
        nargs="+",
        default=["backup=90", "prune=90", "offsite=90", "fetch=40", "drill=40", "restore=50"],
        metavar="JOB[=NUMBER]",
        help="so many faults of each job (default %(default)s); all that there are without a number",
    )
    parser.add_argument("--only", metavar="KIND", help="faults whose kinds begin so, such as dockerd or network")
    parser.add_argument("--seed", type=int, default=1, help="another seed chooses others (default 1)")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "faults.md", help="the table")
    options = parser.parse_args()
    began, rows = time.monotonic(), []

    def tell(row, steps):
        verdict = "; ".join(row[4]) or "well"
        print(f"{row[0]} ({steps} steps) {row[1]} at {row[3]}: {row[2]}: {verdict}", file=sys.stderr, flush=True)

    with (
        tempfile.TemporaryDirectory(prefix="stack-backup-faults-") as folder,
        running(Path(folder), engine=True) as stack,
    ):
        for asked in options.jobs:
            name, _, number = asked.partition("=")
            rows += inject(stack, name, int(number or 10**6), options.seed, tell, options.only)
    text = page(rows, time.monotonic() - began, f"--jobs {' '.join(options.jobs)} --seed {options.seed}")
    options.out.write_text(text, encoding="utf-8")
    print(text)
    return 1 if any(row[4] for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
