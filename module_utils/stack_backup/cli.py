"""``stack-backup``: the jobs of a stack on its own host, without Ansible."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any, Optional, Sequence

from . import __version__, arguments, catalog, config, record, report
from .errors import BackupError
from .offsite import state as offsite

__all__ = ["main"]

_DESCRIPTION = """\
Runs the backup jobs of a Docker Compose stack on its own host, as cron does, and shows what they made.
A stack's jobs are in /etc/stack-backup/<stack>.json, written by playbooks/install.yml; restores are made from the
control node by playbooks/restore.yml.
"""
_EPILOG = """\
exit status:
  run, verify   0 done, 1 the job failed
  adopt         0 all are in the catalog, 1 one was refused; the others are in it
  list, status, restore-help
                0 shown; status: 1 when a job failed at its last run
  check         as monitoring plugins: 0 ok, 1 warning, 2 critical, 3 unknown (not configured, or it failed itself)
  any           2 wrong usage or configuration (check: 3)

examples:
  stack-backup run backup                 a recovery point now
  stack-backup list --stack trading       what there is to restore
  stack-backup status --json              for a program
  stack-backup restore-help               how to restore the newest point by hand, without this program

files:
  /etc/stack-backup/<stack>.json          the jobs (another folder: STACK_BACKUP_ETC)
  /var/lib/stack-backup/<stack>/          how each job went last (another folder: STACK_BACKUP_VAR)
  /var/log/stack-backup/<stack>.log       what the scheduled jobs said
"""
_WAIT = 600.0
_STATUS = ("OK", "WARNING", "CRITICAL", "UNKNOWN")


def _parser() -> argparse.ArgumentParser:
    shown = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("stack-backup", description=_DESCRIPTION, epilog=_EPILOG, formatter_class=shown)
    parser.add_argument("--version", action="version", version=f"stack-backup {__version__}")
    named = argparse.ArgumentParser(add_help=False)
    named.add_argument("--stack", metavar="NAME", help="which stack; may be left out where the host has one")
    common = argparse.ArgumentParser(add_help=False, parents=[named])
    common.add_argument("--json", action="store_true", help="answer in JSON")
    runs = argparse.ArgumentParser(add_help=False)
    runs.add_argument(
        "--wait",
        metavar="SECONDS",
        type=float,
        default=_WAIT,
        help="how long to wait for another job of the stack to end (%(default)g)",
    )
    runs.add_argument("--log", metavar="FILE", type=Path, help="append what the job says to this file too")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    run = commands.add_parser("run", parents=[common, runs], help="run a job: backup, verify, …")
    run.add_argument("job", metavar="JOB", help="one of the jobs in the stack's configuration; status names them")
    commands.add_parser("list", parents=[common], help="show the recovery points, and what is wrong in the catalog")
    commands.add_parser("status", parents=[common], help="show how each job went last, and the newest recovery point")
    commands.add_parser("check", parents=[common, runs], help="look whether all is well, as a monitoring plugin")
    commands.add_parser("verify", parents=[common, runs], help="run the job verify: a drill of the newest point")
    manual = commands.add_parser(
        "restore-help", parents=[named], help="print the commands that restore a point by hand, as a shell script"
    )
    manual.add_argument("--point", metavar="ID", default="latest", help="which recovery point (%(default)s)")
    adopt = commands.add_parser(
        "adopt", parents=[common], help="take dumps that others made (pg_dump -Fc or -Fd, RDB) into the catalog"
    )
    adopt.add_argument("paths", metavar="PATH", nargs="+", type=Path, help="a dump, or a folder that holds some")
    adopt.add_argument(
        "--store", metavar="NAME", action="append", help="whose they are, where the stack has several of their engine"
    )
    adopt.add_argument(
        "--pair-minutes",
        metavar="N",
        type=float,
        default=arguments.BACKUP_ADOPT["pair_minutes"]["default"],
        help="dumps of several stores within so many minutes are one recovery point (%(default)g)",
    )
    adopt.add_argument("--move", action="store_true", help="remove each original when it is in the catalog")
    adopt.add_argument("--check", action="store_true", help="prove them, and say what would be done; change nothing")
    validate = commands.add_parser("validate", help="only read a configuration file, and say what is wrong in it")
    validate.add_argument("file", metavar="FILE", type=Path)
    return parser


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run one command; returns the exit status."""
    asked = _parser().parse_args(argv)
    job = asked.job if asked.command == "run" else asked.command
    try:
        if asked.command == "validate":
            config.read(asked.file)
            return 0
        stack = config.find(asked.stack)
        if asked.command == "list":
            return _list(stack, asked.json)
        if asked.command == "restore-help":
            return _restore_help(stack, asked.point)
        if asked.command == "status":
            return _status(stack, asked.json)
        if asked.command == "adopt":
            return _adopt(stack, asked)
        return _run(stack, job, asked)
    except BackupError as error:
        print(f"stack-backup: {error}", file=sys.stderr)
        return 3 if job == "check" else 2
    except BrokenPipeError:  # `stack-backup list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _warn(text: str) -> None:
    print(f"stack-backup: {text}", file=sys.stderr)


def _say_json(data: dict[str, Any]) -> None:
    print(json.dumps(data, indent=1, sort_keys=True))


def _run(stack: config.Config, job: str, asked: argparse.Namespace) -> int:
    from . import progress, runner  # list and status answer at once: they need none of what these import

    with progress.Line(sys.stderr, job, stack.backup_dir):
        done = runner.run(stack, job, wait=asked.wait, log=asked.log, warn=_warn)
    checked = done["result"].get("stack_check") if done["ok"] else None
    if asked.json:
        _say_json(done)
    elif checked:
        for finding in checked["findings"]:
            print(f"{_STATUS[finding['status']]} {finding['check']}: {finding['message']}")
    else:
        said = report.summary(done["result"]) if done["ok"] else done["error"]
        verdict = "ok" if done["ok"] else "FAILED"
        print(f"{stack.stack}: {job} {verdict} in {done['seconds']:.1f} s{': ' if said else ''}{said}")
    if job == "check":
        return int(checked["status"]) if checked else 3
    return 0 if done["ok"] else 1


def _catalog(stack: config.Config) -> dict[str, Any]:
    asked = {"backup_dir": str(stack.backup_dir), "stack": stack.stack, "allowed_signers": stack.allowed_signers}
    found = catalog.info(asked)
    return {**found, "offsite": offsite.load(stack.backup_dir)}


def _list(stack: config.Config, as_json: bool) -> int:
    found = _catalog(stack)
    if as_json:
        _say_json({"stack": stack.stack, **found})
    else:
        print("\n".join(report.listing(found)))
    return 0


def _restore_help(stack: config.Config, point: str) -> int:
    from . import manual  # as _run
    from .manifest import require_whole
    from .signing import signers_of

    found = catalog.read(stack.backup_dir, stack.stack, signers=signers_of({"allowed_signers": stack.allowed_signers}))
    chosen = found.choose(point)
    for backup in found.points[chosen].values():
        require_whole(backup.manifest, backup.artifact)
    print("".join(manual.script(stack.site, chosen, found.points[chosen])), end="")
    return 0


def _adopt(stack: config.Config, asked: argparse.Namespace) -> int:
    from . import adopt, progress, validate  # as _run

    site = stack.site
    given = {name: site[name] for name in arguments.BACKUP_ADOPT if site.get(name) is not None}
    given.update(paths=[str(path.absolute()) for path in asked.paths], only=asked.store or [])
    given.update(pair_minutes=asked.pair_minutes, move=asked.move)
    params = validate.complete(arguments.BACKUP_ADOPT, given, "adopt")
    try:
        with progress.Line(sys.stderr, "adopt", stack.backup_dir):
            done = adopt.adopt(params, asked.check)
    except BackupError as error:
        if "refused" not in error.details:
            raise
        done = error.details
    if asked.json:
        _say_json(done)
    else:
        print("\n".join(report.adopted(done, asked.check)))
    return 1 if done["refused"] else 0


def _status(stack: config.Config, as_json: bool) -> int:
    found = _catalog(stack)
    jobs = {job: record.last(stack, job) or {"state": "never"} for job in stack.jobs}
    for last in jobs.values():
        if "state" not in last:
            last["state"] = _state(last)
    told = {"stack": stack.stack, "jobs": jobs, **{name: found[name] for name in ("latest", "problems", "offsite")}}
    if as_json:
        _say_json(told)
    else:
        print("\n".join(report.status(told)))
    return 1 if any(last["state"] in ("failed", "died") for last in jobs.values()) else 0


def _state(last: dict[str, Any]) -> str:
    if last.get("ended_at"):
        return "ok" if last["ok"] else "failed"
    # It writes its end whatever comes, but for SIGKILL and a power cut.
    return "running" if Path(f"/proc/{last.get('pid')}").exists() else "died"
