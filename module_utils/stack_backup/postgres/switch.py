"""Exchanges and removes databases, with connections held off. Each step is whole or did not happen."""

from __future__ import annotations

import json
import time
from typing import Any, Callable, Optional, Sequence

from ..errors import BackupError
from .connection import APPLICATION, Connection, Psql
from .names import identifier, literal

__all__ = ["allow", "clients", "databases", "exchange", "remove", "subscriptions"]

_SECONDS = 30.0  # how long a backend may take to die, and the server to come back
# Errors of a statement that the same statement need not meet again; all others it will.
_PASSING = ("is being accessed by other users", "tuple concurrently updated", "deadlock detected")
_CLIENTS = """SELECT coalesce(jsonb_agg(jsonb_build_object('pid', pid, 'words',
 format('%s %L as %s from %s', CASE backend_type WHEN 'client backend' THEN 'app' ELSE backend_type END, application_name, coalesce(usename, 'nobody'),
        coalesce(host(client_addr), 'a local socket')), 'ours', application_name = {us})), '[]')
 FROM pg_stat_activity WHERE datname = {name} AND pid <> pg_backend_pid()"""
_NOT_CLIENTS = ("autovacuum worker", "parallel worker")


def databases(psql: Psql) -> dict[str, bool]:
    """The server's databases, and whether each is whole: an interrupted DROP DATABASE leaves one that is not."""
    # datconnlimit -2: DATCONNLIMIT_INVALID_DB of pg_database.h, since the minor releases of August 2023.
    answer: dict[str, bool] = json.loads(
        psql.ask("SELECT jsonb_object_agg(datname, datconnlimit <> -2) FROM pg_database;")[0]
    )
    return answer


def _connected(psql: Psql, name: str) -> list[dict[str, Any]]:
    sql = _CLIENTS.format(us=literal(APPLICATION), name=literal(name))
    found: list[dict[str, Any]] = json.loads(psql.ask(f"{sql};")[0])
    return found


def clients(psql: Psql, name: str) -> list[str]:
    """Who is connected to a database, but us and the server's own maintenance."""
    return [
        item["words"]
        for item in _connected(psql, name)
        if not item["ours"] and not item["words"].startswith(_NOT_CLIENTS)
    ]


def allow(psql: Psql, name: str, connections: bool) -> None:
    """Let clients in, or, superusers too, keep new ones out."""
    psql.ask(f"ALTER DATABASE {identifier(name)} ALLOW_CONNECTIONS {'true' if connections else 'false'};")


def _empty(psql: Psql, name: str) -> list[str]:
    """Keep new sessions out, end those that are there. Returns whose they were."""
    allow(psql, name, False)
    ended: dict[int, str] = {}
    end = time.monotonic() + _SECONDS
    while True:
        found = _connected(psql, name)
        ended.update((item["pid"], item["words"]) for item in found if not item["ours"])
        if not found:
            return [words for words in ended.values() if not words.startswith(_NOT_CLIENTS)]
        if time.monotonic() > end:
            left = "; ".join(item["words"] for item in found)
            raise BackupError(
                f"database {name!r} can't be freed, these sessions do not end within {_SECONDS:g} s: {left}: "
                "end them by hand, then restore again"
            )
        psql.ask(f"SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = {literal(name)};")
        time.sleep(0.02)


def _passes(error: BackupError) -> bool:
    """Whether it can be well the next time: a server that is away or coming back says FATAL, or nothing at all."""
    said = str(error)
    final = "ERROR: " in said or "No such container" in said
    return not final or any(words in said for words in _PASSING)


def _insist(
    connection: Connection, names: Sequence[str], sql: str, done: Callable[[dict[str, bool]], bool]
) -> list[str]:
    """Free databases of sessions and run ``sql``. Again while one is still dying that no view shows any more.

    And again when the server was lost, unless ``done`` says of its databases that only its answer was.
    """
    ended: list[str] = []
    end = time.monotonic() + _SECONDS
    sent = False
    while True:
        try:
            with connection.session(connection.home) as psql:
                there = databases(psql)
                if sent and done(there):
                    return ended
                for name in names:
                    if there.get(name):
                        ended += _empty(psql, name)
                sent = True
                psql.ask(sql, at_most=None)
                return ended
        except BackupError as error:
            if time.monotonic() > end or not _passes(error):
                raise
            connection.deadline.left()
        time.sleep(0.2)


def exchange(connection: Connection, *, live: str, new: str, old: Optional[str]) -> list[str]:
    """``new`` becomes ``live``, and what was ``live`` becomes ``old``, in one transaction.

    ``old`` is None where nothing is live. The old one takes no connections from then on.
    Returns whose sessions were ended.
    """
    steps = [f"ALTER DATABASE {identifier(new)} RENAME TO {identifier(live)};"]
    if old is not None:
        steps.insert(0, f"ALTER DATABASE {identifier(live)} RENAME TO {identifier(old)};")
    steps.append(f"ALTER DATABASE {identifier(live)} ALLOW_CONNECTIONS true;")
    names = [new] if old is None else [live, new]
    sql = f"BEGIN; {' '.join(steps)} COMMIT;"
    return _insist(connection, names, sql, lambda there: new not in there and live in there)


def subscriptions(connection: Connection, name: str, names: Sequence[str], enabled: bool) -> None:
    """Enable or disable those of the named subscriptions that a database has."""
    if names:
        with connection.session(name) as psql:
            found = json.loads(
                psql.ask(
                    "SELECT coalesce(jsonb_agg(subname), '[]') FROM pg_subscription WHERE "
                    "subdbid = (SELECT oid FROM pg_database WHERE datname = current_database());"
                )[0]
            )
            for item in sorted(set(names) & set(found)):
                psql.ask(f"ALTER SUBSCRIPTION {identifier(item)} {'ENABLE' if enabled else 'DISABLE'};")


def remove(connection: Connection, name: str) -> None:
    """Drop a database with whoever is connected to it; nothing to do where it is not.

    Its subscriptions go without their slots on the publishing servers: another database may use them.
    """
    with connection.session(connection.home) as psql:
        there = databases(psql)
        if name not in there:
            return
        answer = psql.ask(
            "SELECT coalesce(jsonb_agg(subname), '[]') FROM pg_subscription WHERE subdbid = "
            f"(SELECT oid FROM pg_database WHERE datname = {literal(name)});"
        )
        subscribed = json.loads(answer[0])
        if there[name]:
            psql.ask(f"ALTER DATABASE {identifier(name)} IS_TEMPLATE false;")
        if subscribed:
            # A setting such as session_preload_libraries may be what keeps sessions out.
            psql.ask(f"ALTER DATABASE {identifier(name)} RESET ALL;")
            allow(psql, name, True)
    if subscribed:
        with connection.session(name) as psql:
            for item in map(identifier, subscribed):
                psql.ask(
                    f"ALTER SUBSCRIPTION {item} DISABLE; ALTER SUBSCRIPTION {item} SET (slot_name = NONE); "
                    f"DROP SUBSCRIPTION {item};"
                )

    _insist(connection, [name], f"DROP DATABASE {identifier(name)} WITH (FORCE);", lambda there: name not in there)
