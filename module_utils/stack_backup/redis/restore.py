"""One server as the target of a restore: proven in a throw-away server, staged beside the live data, exchanged with it."""

from __future__ import annotations

import re
import time
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Optional

from ..catalog import Backup
from ..containers import Container, Docker
from ..errors import BackupError
from ..report import age_text
from ..stores import Store
from .check import count_of
from .connection import Busy, Connection
from .facts import compare, summary
from .files import Files
from .layout import Layout
from .rdb import number, read_head
from .scratch import Scratch
from .server import Server, unready

__all__ = ["Target"]

State = dict[str, Any]
_NEEDS = (
    "+ping +info +config|get +client|list +client|id +select +exists +xinfo|stream +xinfo|groups +save, and all keys"
)
_RESERVE = 16 * 1024 * 1024
_SCRATCH_EXTRA = 128 * 1024 * 1024
# What is free, who the server is (its own files may not exist yet), and how its own files are.
_LOOK = """df -P -k "$1" | tail -n 1
sed -n 's/^\\([UG]\\)id:[^0-9]*\\([0-9]*\\).*/\\1 \\2/p' "/proc/$2/status"
for f in "$1/$3" "$1/$4" "$1/$5"; do
  if [ -f "$f" ]; then stat -c 'file %u:%g %a' -- "$f"; elif [ -d "$f" ]; then stat -c 'folder %u:%g %a' -- "$f"; fi
done
:"""


class Target:
    """One server as the target of one restore: answers, open, plan, prepare, query, switch, check; back or drop; close."""

    def __init__(
        self,
        docker: Docker,
        store: Store,
        container: Container,
        backup_dir: Path,
        *,
        folder: Path,  # noqa: ARG002 - one interface for both engines
        jobs: int,  # noqa: ARG002
    ) -> None:
        self._docker, self._store, self._container = docker, store, container
        self._backup_dir = backup_dir
        self._live = Connection(docker, store, container, needs=_NEEDS)
        self._server = Server(docker, container, store.name)
        self._info: dict[str, str] = {}
        self._scratch: Optional[Scratch] = None

    def answers(self) -> bool:
        """Whether a server that was just made takes connections. Raises BackupError for any other reason not to."""
        try:
            self._live.open()
        except BackupError as error:
            if not unready(error):
                raise
            return False
        self._live.close()
        return True

    def open(self) -> None:
        """Connect. Raises BackupError where a restore can't go: a replica, a cluster, a server that does not run."""
        self._server.must_run()
        try:
            self._live.open()
        except BackupError as error:
            if "LOADING" in str(error):
                raise self._error("the server is still loading its data: wait until it has") from None
            raise
        self._info = self._live.info("server")
        role = self._live.info("replication")
        if role.get("role") != "master":
            primary = f"{role.get('master_host')}:{role.get('master_port')}"
            raise self._error(f"this server is a replica of {primary}: restore into that one, its replicas follow")
        mode = self._info.get("redis_mode") or self._info.get("server_mode")  # the second is Valkey's
        if mode != "standalone":
            raise self._error(
                f"this server runs in {mode} mode: a cluster's data is spread over its nodes, so "
                "load the backup into a server by itself and bring it in with redis-cli --cluster import"
            )

    def _error(self, text: str) -> BackupError:
        return BackupError(f"store {self._store.name}: {text}")

    def plan(self, backup: Backup, restore_id: str, method: str) -> dict[str, Any]:  # noqa: ARG002 - Postgres' choice
        """What a restore of ``backup`` would do: sizes in bytes, clients, warnings. Changes nothing.

        Raises BackupError, with the cure, for everything that is known not to work.
        """
        self._must_be_allowed()
        folder, layout = self._live.config("dir"), self._layout()
        persistent = layout.aof or self._live.command("CONFIG GET save")[1:2] != [""]
        self._must_be_mounted(folder, layout)
        head = read_head(backup.head(self._docker.deadline), backup.artifact.name)
        file = count_of(self._docker, self._container.image_id, self._backup_dir, backup)
        memory = self._live.info("memory")
        size = int(memory["used_memory"])
        takes = number(head, "used-mem") or 10 * backup.size
        self._must_fit_memory(takes, memory)
        look = self._look(folder, layout)
        needs = backup.size + _RESERVE
        if not layout.aof:
            needs += size // 2  # the save of the old data before the stop
        if look["free"] < needs:
            raise self._error(
                f"the data folder {folder} has {look['free']} bytes free, the restore needs {needs} beside the old data: "
                "free some, or enlarge its volume"
            )
        clients = self.clients()
        watched = [client for client in clients if "'sentinel-" in client]
        if watched:
            raise self._error(
                f"Sentinel watches this server ({watched[0]}) and would fail over: stop the Sentinels first"
            )
        state = {
            "home": f"{folder.rstrip('/')}/.stack-backup-{restore_id}",
            "layout": asdict(layout),
            "owner": look["owner"],
            "mode": look["mode"],
            "folder_mode": look["folder_mode"],
            "save": not layout.aof,
            "databases": int(self._live.config("databases")),
            "memory": takes * 3 // 2 + _SCRATCH_EXTRA,
            "file": {name: file[name] for name in ("keys", "expires", "subexpires")},
        }
        return {
            "state": state,
            "size": size,
            "needs": needs,
            "free": look["free"],
            "sessions": clients,
            "warnings": self._warnings(file, persistent),
            "replaces": bool(self._live.info("keyspace")),
            "last_change": self._last_change(),
        }

    def _last_change(self) -> str:
        """How much of the live data changed since when, as the server counts it."""
        state = self._live.info("persistence")
        saved = datetime.fromtimestamp(int(state.get("rdb_last_save_time", "0")), timezone.utc)
        changes = state.get("rdb_changes_since_last_save", "0")
        return f"{changes} changes since its last save or start, {age_text(saved)} ago"

    def _warnings(self, file: dict[str, int], persistent: bool) -> list[str]:
        warnings = []
        if not file["keys"]:
            warnings.append("the backup holds no keys")
        if file["already_expired"]:
            warnings.append(f"{file['already_expired']} keys of the backup have expired since: they will be gone")
        if not persistent:
            warnings.append("the server has neither an append-only file nor save points: a crash loses what follows")
        replicas = self._live.info("replication").get("connected_slaves", "0")
        if replicas != "0":
            warnings.append(f"{replicas} replicas will copy the restored data")
        return warnings

    def _must_be_allowed(self) -> None:
        """What ``check`` will ask must be allowed now, not when the new data is live."""
        for command in ("SELECT 0", "EXISTS stack-backup", "XINFO STREAM stack-backup", "XINFO GROUPS stack-backup"):
            try:
                self._live.command(command)
            except BackupError as error:
                if "NOPERM" in str(error):
                    raise

    def _layout(self) -> Layout:
        config = self._live.config
        multipart = "valkey_version" in self._info or int(self._info["redis_version"].split(".")[0]) >= 7
        return Layout(
            aof=config("appendonly") == "yes",
            multipart=multipart,
            dbfilename=config("dbfilename"),
            # Redis < 6.2 does not tell it: then it is taken to be the default.
            appendfilename=([*self._live.command("CONFIG GET appendfilename"), ""][1] or "appendonly.aof"),
            appenddirname=config("appenddirname") if multipart else "appendonlydir",
        )

    def _must_be_mounted(self, folder: str, layout: Layout) -> None:
        """What lies in the container's own layer can't be exchanged from outside, and is gone with the container."""
        mounts = self._server.inspect()["Mounts"]
        path = folder.rstrip("/") + "/"
        above = [mount for mount in mounts if path.startswith(mount["Destination"].rstrip("/") + "/")]
        mount = max(above, key=lambda item: len(item["Destination"]), default=None)
        if mount is None or mount["Type"] not in ("volume", "bind") or not mount["RW"]:
            raise self._error(
                f"the data folder {folder} of {self._container.name} is in no writable volume or mounted folder: "
                "mount one there, its data does not outlive the container"
            )
        for name in layout.names:
            if any(f"{item['Destination'].rstrip('/')}/".startswith(f"{path}{name}/") for item in mounts):
                raise self._error(
                    f"{path}{name} is a mount of its own and can't be exchanged: mount {folder} as a whole"
                )

    def _must_fit_memory(self, takes: int, memory: dict[str, str]) -> None:
        """``takes``: bytes that the data took where it was saved."""
        limit = self._server.inspect()["HostConfig"].get("Memory") or 0
        if limit and takes > limit:
            raise self._error(f"the data takes {takes} bytes of memory, the container may use {limit}: raise its limit")
        most = int(memory.get("maxmemory", "0"))
        if most and takes > most * 11 // 10:  # the buffers that are part of what it took do not count
            raise self._error(f"the data takes {takes} bytes of memory, maxmemory is {most}: raise it")
        found = re.search(r"^MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text(encoding="ascii"), re.MULTILINE)
        free = int(found[1]) * 1024 if found else takes
        if takes > free:
            raise self._error(
                f"the backup is loaded on trial while the services run, which takes {takes} bytes of memory; this host "
                f"has {free} available: free some"
            )

    def _look(self, folder: str, layout: Layout) -> dict[str, Any]:
        names = (layout.dbfilename, layout.appenddirname, layout.appendfilename)
        argv = ["sh", "-c", _LOOK, "sh", folder, self._info["process_id"], *names]
        result = self._docker.exec(self._container.id, argv)
        lines = result.out.splitlines()
        if result.code or not lines:
            raise self._error(f"the data folder {folder} can't be looked at: {result.reason()}")
        ids = dict(line.split() for line in lines[1:] if line[:2] in ("U ", "G "))
        found = {kind: line.split() for line in lines[1:] for kind in ("file", "folder") if line.startswith(f"{kind} ")}
        owner = f"{ids.get('U', '0')}:{ids.get('G', '0')}"
        return {
            "free": int(lines[0].split()[3]) * 1024,
            "owner": found.get("file", found.get("folder", ["", owner]))[1],
            "mode": found["file"][2] if "file" in found else "600",
            "folder_mode": found["folder"][2] if "folder" in found else "755",
        }

    def _files(self, state: State) -> Files:
        return Files(self._docker, self._container, self._backup_dir, self._store.name, state)

    def prepare(self, backup: Backup, state: State) -> dict[str, Any]:
        """Prove in a throw-away server that the file loads as it will be put in place, then stage it in the data folder.

        ``state`` gets the facts that ``check`` compares. The throw-away server stays for ``query`` until the switch.
        """
        began = time.monotonic()
        self._scratch = Scratch(
            self._docker,
            self._container.image_id,
            backup,
            self._backup_dir,
            memory=str(state["memory"]),
            layout=Layout(**state["layout"]),
            databases=state["databases"],
        )
        self._scratch.open()
        state["facts"] = self._scratch.facts(state["file"])
        proven = time.monotonic()
        self._files(state).stage(backup)
        ended = time.monotonic()
        seconds = {"prove": round(proven - began, 3), "stage": round(ended - proven, 3)}
        return {"seconds": seconds, "counts": summary(state["facts"]), "warnings": []}

    def query(self, statement: str, state: State, *, live: bool) -> str:  # noqa: ARG002 - one interface
        """The answer to one command, as redis-cli prints it: of the live server, or of the throw-away one."""
        if not statement.strip() or "\n" in statement:
            raise self._error(f"the smoke query {statement!r} is not one command on one line")
        if live:
            return "\n".join(self._live.command(statement, at_most=300)).strip("\n")
        if self._scratch is None:
            raise self._error("nothing is prepared that could be asked")
        return self._scratch.query(statement)

    def clients(self) -> list[str]:
        """Who is connected but us and the replicas."""
        mine = self._live.command("CLIENT ID")[0]
        told = []
        for line in self._live.command("CLIENT LIST"):
            client = dict(item.split("=", 1) for item in line.split(" ") if "=" in item)
            if not client or client.get("id") == mine or set("SM") & set(client.get("flags", "")):
                continue
            name = f"client '{client['name']}'" if client.get("name") else "a client"
            told.append(f"{name} as {client.get('user', 'default')} from {client.get('addr')}")
        return told

    def switch(self, state: State) -> dict[str, Any]:
        """Stop the server, exchange its files, start it, wait until it has loaded. Raises BackupError."""
        self._drop_scratch()
        began = time.monotonic()
        clients = self.clients()
        if state["save"]:
            self._save()
        self._live.close()
        self._server.stop()
        stopped = time.monotonic()
        self._files(state).switch()
        exchanged = time.monotonic()
        load = self._server.start(self._live.open)
        seconds = {"stop": stopped - began, "exchange": exchanged - stopped, "load": load}
        return {"seconds": {name: round(value, 3) for name, value in seconds.items()}, "ended": clients}

    def _save(self) -> None:
        """The old data must be on disk before the stop, which has a time limit and may not save at all."""
        while True:
            try:
                answer = self._live.command("SAVE", at_most=self._docker.deadline.left())
            except Busy:
                time.sleep(0.2)
                continue
            if answer != ["OK"]:
                raise self._error(
                    f"the server can't save its old data, which would be lost: {' '.join(answer)}: free its disk or memory"
                )
            return

    def check(self, backup: Backup, state: State) -> dict[str, Any]:
        """The live data is what the throw-away server loaded. Raises BackupError that says what is not."""
        began = time.monotonic()
        if "facts" not in state:
            raise self._error("what was prepared is not known: prepare was not run with this state")
        persistence = self._live.info("persistence")
        aof = Layout(**state["layout"]).aof
        if (persistence.get("aof_enabled") == "1") != aof:
            raise self._error(
                f"the append-only file was {'on' if aof else 'off'} and is not any more: the setting was made while the "
                "server ran and is not in its configuration: write it there"
            )
        for name in ("aof_last_write_status", "aof_last_bgrewrite_status", "rdb_last_bgsave_status"):
            if persistence.get(name, "ok") != "ok":
                raise self._error(
                    f"the server says {name}:{persistence[name]}, its log says why: docker logs {self._container.name}"
                )
        connection = Connection(self._docker, self._store, self._container, needs=_NEEDS, formatted=True)
        try:
            connection.open()
            wrong = compare(connection, state["facts"])
        finally:
            connection.close()
        if wrong:
            evicted = self._live.info("stats").get("evicted_keys", "0")
            if evicted != "0":
                wrong.insert(0, f"the server evicted {evicted} keys at once: raise its maxmemory")
            raise self._error(f"the restored data is not that of backup {backup.point}: {'; '.join(wrong[:5])}")
        return {"seconds": round(time.monotonic() - began, 3), "counts": summary(state["facts"])}

    def back(self, state: State) -> None:
        """Make the old data live again, whatever was done since plan, and see that the server runs. Idempotent."""
        self._drop_scratch()
        self._live.close()
        files = self._files(state)
        if not files.back(stopped=False):
            self._server.stop()
            files.back(stopped=True)
        self._server.start(self._live.open)

    def keep(self, state: State) -> list[str]:
        """Where the old data is."""
        return [f"the former data of store {self._store.name}: {state['home']}/old in {self._container.name}"]

    def drop(self, state: State) -> None:
        """Remove the old data. Idempotent."""
        self._files(state).drop()

    def _drop_scratch(self) -> None:
        if self._scratch:
            self._scratch.close()
            self._scratch = None

    def close(self) -> None:
        """End the session and the throw-away server."""
        self._drop_scratch()
        self._live.close()
