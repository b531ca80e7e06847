"""What must hold after a fault, whatever came of the job: complaints in words, none when all is well."""

import json
from pathlib import Path

from stack_backup import catalog, verify
from stack_backup.artifact import digest
from stack_backup.errors import BackupError

from tests.polling import until

from .stack import run

PARTIAL = ("half-written", "half-removed", "orphaned")  # what the catalog calls what a job has left


def judge(stack, name, job, outcome, before):
    """Complaints about the state after ``outcome`` (None: it was killed), and after the next run without a fault."""
    complaints = [*_after(stack, name, outcome, before)]
    again = run(stack, job)
    if not (again and again["ok"]):
        complaints.append(f"the next run fails: {again and again['error']}")
    complaints += [f"after the next run: {text}" for text in _state(stack, before)]
    if name == "restore":
        if not stack.holds("old"):
            complaints.append(f"after the next run the stores hold {stack.marks()}, not what was restored")
        complaints += _let_go(stack, before)
    else:
        complaints += _catalog(stack)
    return complaints


def _after(stack, name, outcome, before):
    if not until(lambda: not stack.sides(), 20):
        yield f"throw-away containers are left: {stack.sides()}"
    if not until(stack.answers, 60):
        yield "a store does not answer any more"
    if outcome and outcome.get("unforeseen"):
        yield f"an error that nobody foresaw: {outcome['error']}"
    if outcome and not outcome["ok"] and len(outcome["error"]) < 20:
        yield f"an error that says nothing: {outcome['error']!r}"
    stuck = name == "restore" and (outcome is None or outcome["result"].get("outcome") == "stuck")
    if not stuck:
        yield from _state(stack, before)
        expected = "old" if name == "restore" and outcome["ok"] else "new"
        if not stack.holds(expected):
            yield f"the stores hold {stack.marks()}, expected {expected}"
    yield from _catalog(stack)
    if outcome and outcome["ok"]:
        yield from _truth(stack, name, outcome["result"])
    if name in ("offsite", "fetch"):
        yield from _remote(stack)


def _state(stack, before):
    """Services and temporary files are as they were."""
    if not until(lambda: stack.states() == before["states"], 10):
        yield f"services are {stack.states()}, were {before['states']}"
    left = [path.name for path in stack.temporary.iterdir()]
    if left:
        yield f"temporary files are left: {left}"


def _catalog(stack):
    """Whole backups, or partials that are named; the newest good one is never lost."""
    found = catalog.read(stack.backups, "shop")
    strange = [item for item in found.problems if item["problem"] not in PARTIAL or item["path"].endswith(".json")]
    if strange:
        yield f"the catalog has {strange}"
    for point, backups in found.points.items():
        for backup in backups.values():
            if backup.verified and not backup.verified["ok"]:
                yield f"the fault is held against {backup.artifact.name}: {backup.verified['error']}"
            for path, told in backup.files().items():
                if digest(path)["sha256"] != told["sha256"]:
                    yield f"{path.name} of {point} is not what its manifest says"
    if not [point for point in found.points if found.complete(point)]:
        yield "no whole recovery point is left"


def _truth(stack, name, result):
    """What a job that says ok has really done."""
    if name == "backup":
        try:
            verify.verify({"backup_dir": str(stack.backups), "stack": "shop", "timeout": 60, "point": result["id"]})
        except BackupError as error:
            yield f"the job said ok, and {error}"
    if name == "fetch" and not catalog.read(stack.backups, "shop").complete(result["point"]):
        yield "the fetch said ok, and the recovery point is not here"
    if name == "drill":
        point = catalog.read(stack.backups, "shop").points[result["point"]]
        if not all(backup.verified for backup in point.values()):
            yield "the drill said ok, and the catalog does not"


def _remote(stack):
    """A manifest at the remote promises the files that it names."""
    for path in stack.remote.glob("*/*.json"):
        if path.name.endswith(".verified.json"):
            continue
        manifest = json.loads(path.read_text())
        for told in (manifest["artifact"], manifest.get("globals")):
            file = path.parent / told["name"] if told else None
            if file and (not file.exists() or digest(Path(file))["sha256"] != told["sha256"]):
                yield f"the remote's {path.name} promises {told['name']}, which is not there as it was"


def _let_go(stack, before):
    """What restores kept goes, the live data is of before them again; nothing else has stayed."""
    drop = ("restore.restore", stack.params("STACK_RESTORE", confirm="shop", action="drop"))
    while (dropped := run(stack, drop))["ok"]:
        pass
    if "there is nothing to drop" not in dropped["error"]:
        yield f"what was kept can't be dropped: {dropped['error']}"
    stack.write("new")
    if stack.databases() != before["databases"]:
        yield f"databases are {stack.databases()}, were {before['databases']}"
