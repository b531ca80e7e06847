"""One database as the target of a restore: filled beside the live one, then exchanged with it."""

from __future__ import annotations

import json
import re
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from ..catalog import Backup
from ..containers import Container, Docker
from ..errors import BackupError
from ..report import age_text
from ..stores import Store
from . import switch
from .connection import Connection
from .dump import TABLES
from .fill import Fill
from .names import literal, suffixed

__all__ = ["Target"]

State = dict[str, Any]
_RESERVE = 64 * 1024 * 1024
_REACH_SECONDS = 60.0  # crash recovery after a kill may take a while
_SERVER = """SELECT jsonb_build_object('replica', pg_is_in_recovery(),
 'primary', (SELECT format('%s:%s', sender_host, sender_port) FROM pg_stat_wal_receiver),
 'createdb', (SELECT rolsuper OR rolcreatedb FROM pg_roles WHERE rolname = current_user),
 'data', (SELECT setting FROM pg_settings WHERE name = 'data_directory'),
 'wal', (SELECT setting::bigint * 1024 * 1024 FROM pg_settings WHERE name = 'max_wal_size'));"""
_LIVE = """SELECT jsonb_build_object('size', pg_database_size(d.oid), 'mine', pg_has_role(d.datdba, 'MEMBER'),
 'prepared', (SELECT coalesce(jsonb_agg(gid), '[]') FROM pg_prepared_xacts WHERE database = d.datname),
 'slots', (SELECT coalesce(jsonb_agg(slot_name), '[]') FROM pg_replication_slots WHERE database = d.datname),
 'subscriptions', (SELECT coalesce(jsonb_agg(subname), '[]') FROM pg_subscription WHERE subdbid = d.oid AND subenabled))
FROM pg_database d WHERE d.datname = {name};"""
# When a checkpoint last wrote a file that is no catalog's: their numbers begin at FirstNormalObjectId, 16384.
_WRITTEN = """SELECT to_char(max((pg_stat_file(format('base/%s/%s', d.oid, f), true)).modification) AT TIME ZONE 'UTC',
 'YYYY-MM-DD"T"HH24:MI:SS"+00:00"') FROM pg_database d, pg_ls_dir(format('base/%s', d.oid), true, false) f
WHERE d.datname = {name} AND CASE WHEN f ~ '^[0-9]{{5,10}}([.][0-9]+)?$' THEN split_part(f, '.', 1)::bigint >= 16384 END;"""


class Target:
    """One database as the target of one restore: answers, open, plan, prepare, query, switch, check; back or drop; close."""

    def __init__(
        self, docker: Docker, store: Store, container: Container, backup_dir: Path, *, folder: Path, jobs: int
    ) -> None:
        """``folder`` holds the store's backups; a way back does without it."""
        self._docker, self._store, self._container = docker, store, container
        self._jobs = jobs
        self._connection = Connection(
            docker,
            store,
            container,
            backup_dir=backup_dir,
            folder=folder if folder.is_dir() else None,
            read_only=True,
        )
        self._server: dict[str, Any] = {}

    def answers(self) -> bool:
        """Whether a server that was just made takes connections.

        Over TCP: the official images' first start runs a server for the init scripts that has the socket only.
        """
        port = str(self._store.port or 5432)
        return not self._docker.exec(self._container.id, ["pg_isready", "-q", "-h", "127.0.0.1", "-p", port]).code

    def open(self) -> None:
        """Log in beside the live database. Raises BackupError where a restore can't go."""
        self._server = json.loads(self._connection.open(maintenance=True).ask(_SERVER)[0])
        if self._server["replica"]:
            raise self._error(
                f"this server is a replica of {self._server['primary'] or 'another'}: restore into that one, "
                "its replicas follow"
            )

    def _error(self, text: str) -> BackupError:
        return BackupError(f"store {self._store.name}: {text}")

    def plan(self, backup: Backup, restore_id: str, method: str) -> dict[str, Any]:
        """What a restore of ``backup`` would do: names, sizes in bytes, sessions to end, warnings. Changes nothing.

        Raises BackupError, with the cure, for everything that is known not to work.
        """
        connection = self._connection
        live = connection.database
        state: State = {
            "method": method,
            "live": live,
            "side": suffixed(live, f"_restore_{restore_id}"),
            "previous": suffixed(live, f"_before_{restore_id}"),
        }
        psql = connection.held
        there = switch.databases(psql)
        now = json.loads(psql.ask(_LIVE.format(name=literal(live)))[0]) if there.get(live) else {}
        state["replaces"] = live in there
        state["subscriptions"] = now.get("subscriptions", [])
        if not self._server["createdb"]:
            raise self._error(
                f"role {connection.user} may not create databases: give the store a superuser as its user"
            )
        if there.get(live) is False and method == "side_by_side":
            raise self._error(
                f"database {live!r} is what an interrupted DROP DATABASE left: drop it again, then restore"
            )
        taken = [state[key] for key in ("side", "previous") if state[key] in there]
        if taken:
            raise self._error(f"there is a database {taken[0]!r} already: drop it, or just run the restore again")
        fill = Fill(connection, backup, state["side"], jobs=self._jobs)
        server = fill.server()
        fill.check(server)
        self._check_live(live, now, method)
        warnings = self._warnings(backup, now)
        roles, _statements = fill.missing(server)
        if roles and not connection.superuser:
            raise self._error(
                f"the server lacks the roles {', '.join(map(repr, roles))}, which only a superuser makes as they were: "
                "create them, or give the store a superuser as its user"
            )
        if roles and backup.manifest.get("adopted"):
            warnings.append(
                f"the roles {', '.join(map(repr, roles))} are made without LOGIN, password and memberships, as nothing "
                "of them was saved with the dump: ALTER ROLE each afterwards"
            )
        elif roles and not backup.manifest["globals"]["passwords"]:
            warnings.append(f"the roles {', '.join(map(repr, roles))} come back without passwords: none were saved")
        size = int(now.get("size", 0))
        needs, free = self._space(backup, server, size, method)
        return {
            "state": state,
            "size": size,
            "needs": needs,
            "free": free,
            "sessions": switch.clients(psql, live),
            "warnings": warnings,
            "replaces": state["replaces"],
            "last_change": self._last_change(live) if now else "",
        }

    def _last_change(self, live: str) -> str:
        """When the live data last changed, as far as that can be seen at once; only a superuser sees it."""
        told = self._connection.held.ask(_WRITTEN.format(name=literal(live))) if self._connection.superuser else []
        if not told or not told[0]:
            return ""
        return f"its tables were last written to disk {age_text(datetime.fromisoformat(told[0]))} ago"

    def _check_live(self, live: str, now: dict[str, Any], method: str) -> None:
        if now.get("prepared"):
            gids = ", ".join(map(repr, now["prepared"]))
            verb = "dropped" if method == "in_place" else "renamed"
            raise self._error(
                f"database {live!r} has prepared transactions and can't be {verb} while it has: {gids}: "
                "COMMIT PREPARED or ROLLBACK PREPARED each"
            )
        if now and not now["mine"] and not self._connection.superuser:
            raise self._error(
                f"role {self._connection.user} does not own database {live!r}: give the store a superuser as its user"
            )

    def _warnings(self, backup: Backup, now: dict[str, Any]) -> list[str]:
        store, told = self._store.name, []
        subscribed = backup.manifest["database"].get("subscriptions") or now.get("subscriptions")
        if subscribed:
            told.append(
                f"store {store}: subscriptions come back disabled ({', '.join(subscribed)}): their publishers went on "
                "since the backup, so refresh or enable each by hand"
            )
        if now.get("slots"):
            told.append(
                f"store {store}: the logical replication slots {', '.join(now['slots'])} stay with the old database "
                "and keep its WAL: drop them, and let their consumers begin anew"
            )
        if self._connection.outdated:
            told.append(f"store {store}: {self._connection.outdated}")
        if not self._connection.superuser:
            told.append(
                f"store {store}: role {self._connection.user} is no superuser: "
                "owners and privileges that it may not give end the restore, with nothing changed"
            )
        return told

    def _space(self, backup: Backup, server: dict[str, Any], size: int, method: str) -> tuple[int, int]:
        """Bytes needed and free where the database will be. Raises BackupError where they are too few."""
        database = backup.manifest["database"]
        saved = int(database["size"])
        # Restored data is written to the WAL once, of which about max_wal_size is kept at a time.
        needs = saved * 6 // 5 + min(self._server["wal"], saved * 3 // 2) + _RESERVE
        folder = self._server["data"] or self._container.env.get("PGDATA", "/var/lib/postgresql/data")
        folder = server["tablespaces"].get(database["tablespace"]) or folder
        free = self._free(folder)
        net = max(needs - size, 0)
        if method == "in_place":
            needs = net
        if free < needs:
            cure = "free some, or enlarge it"
            if method != "in_place" and free >= net:
                cure += ", or drop the live database before the backup is loaded: restore_method: in_place"
            raise self._error(
                f"{folder} in {self._container.name} has {free} bytes free, a restore needs {needs}: {cure}"
            )
        return needs, free

    def _free(self, folder: str) -> int:
        result = self._docker.exec(self._container.id, ["df", "-P", "-k", "--", folder])
        # POSIX, "df -P": file system, blocks, used, available, capacity, mount point; the first and last may have spaces.
        found = re.search(r"\s\d+\s+\d+\s+(\d+)\s+\d+%\s", result.out)
        if result.code or not found:
            raise self._error(f"df {folder} in {self._container.name} does not tell what is free: {result.reason()}")
        return int(found[1]) * 1024

    def prepare(self, backup: Backup, state: State) -> dict[str, Any]:
        """Fill and prove the side database; ``in_place``, the live one is dropped first, once the side one is made.

        Adds to ``state`` the ``oid`` of what was made.
        """
        fill = Fill(self._connection, backup, state["side"], jobs=self._jobs)
        began = time.monotonic()
        roles = fill.make_roles()
        state["oid"] = fill.create()
        if state["method"] == "in_place":
            switch.remove(self._connection, state["live"])
        fill.load()
        proven = fill.prove()
        return {
            "seconds": {**fill.seconds, "total": round(time.monotonic() - began, 3)},
            "roles": roles,
            **proven,
        }

    def query(self, statement: str, state: State, *, live: bool) -> str:
        """What psql -At prints for ``statement``, with the database's own settings."""
        return self._connection.query(state["live"] if live else state["side"], statement)

    def clients(self) -> list[str]:
        """Who is connected to the live database now, but us."""
        return switch.clients(self._connection.held, self._connection.database)

    def switch(self, state: State) -> dict[str, Any]:
        """Make the side database the live one. Milliseconds, whatever the size."""
        began = time.monotonic()
        there = switch.databases(self._connection.held)
        old = state["previous"] if state["live"] in there else None
        if old is not None:
            # They would try for ever to apply changes to a database that takes no connections.
            switch.subscriptions(self._connection, state["live"], state["subscriptions"], False)
        ended = switch.exchange(self._connection, live=state["live"], new=state["side"], old=old)
        return {"seconds": round(time.monotonic() - began, 3), "ended": ended}

    def check(self, backup: Backup, state: State) -> None:
        """The live database is the one that was prepared, and lets clients in. Raises BackupError otherwise."""
        with self._connection.session(state["live"]) as psql:
            oid = int(psql.ask("SELECT oid FROM pg_database WHERE datname = current_database();")[0])
            tables = int(psql.ask(f"SELECT count(*) {TABLES};")[0])
        expected = backup.manifest["counts"]["tables"]
        if oid != state["oid"] or tables != expected:
            raise self._error(
                f"database {state['live']!r} is not what was restored: its oid is {oid}, that one's was {state['oid']}; "
                f"it has {tables} tables, was saved with {expected}"
            )

    def back(self, state: State) -> None:
        """Make the old data live again, and remove what ``prepare`` made; roles that it made stay.

        Decided by what the server has, so it may be done at any time, and again. What ``in_place`` dropped it
        can't bring back: a restore of the safety backup does.
        """
        live, side, previous = state["live"], state["side"], state["previous"]
        there = self._reach()
        kept, replaces, in_place = previous in there, state["replaces"], state["method"] == "in_place"
        if kept:
            switch.exchange(self._connection, live=live, new=previous, old=side if live in there else None)
        elif side not in there and live in there and self._made(state):
            if not replaces:
                switch.remove(self._connection, live)
            elif not in_place:
                raise self._error(
                    f"{previous!r} is not kept any more, so {live!r} can't go back to it: restore the safety backup (stack-backup list)"
                )
        elif replaces and not in_place and live not in there:
            raise self._error(
                f"neither {live!r} nor {previous!r} is on the server, so nothing is removed: see psql -l, and rename what holds the data to {live!r}"
            )
        switch.remove(self._connection, side)
        if replaces and (kept or there.get(live)):
            with self._connection.session(self._connection.home) as psql:
                switch.allow(psql, live, True)
            if not in_place:
                switch.subscriptions(self._connection, live, state["subscriptions"], True)

    def _made(self, state: State) -> bool:
        """Whether what is live is what ``prepare`` made."""
        answer = self._connection.held.ask(f"SELECT oid FROM pg_database WHERE datname = {literal(state['live'])};")
        return bool(answer) and int(answer[0]) == state.get("oid")

    def _reach(self) -> dict[str, bool]:
        """The server's databases; logs in anew where the session, or the server, was lost on the way."""
        end = time.monotonic() + _REACH_SECONDS
        while True:
            try:
                return switch.databases(self._connection.held)
            except BackupError:
                if time.monotonic() > end:
                    raise
            self._connection.close()
            try:
                self._connection.open(maintenance=True)
            except BackupError:
                time.sleep(0.5)

    def keep(self, state: State) -> list[str]:
        """What is kept of the old data, in words."""
        if state["previous"] not in self._reach():
            return []
        return [f"database {state['previous']!r} holds the data of before the restore, and takes no connections"]

    def drop(self, state: State) -> None:
        """Remove what is kept of the old data."""
        there = self._reach()
        if state["previous"] in there and state["live"] not in there:
            raise self._error(
                f"there is no database {state['live']!r}, so {state['previous']!r} is not dropped: it may be all there is, rename it back"
            )
        switch.remove(self._connection, state["previous"])

    def close(self) -> None:
        """End the session, and with it the side container."""
        self._connection.close()
