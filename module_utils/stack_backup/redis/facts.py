"""What a server holds, in numbers that two servers with the same data share."""

from __future__ import annotations

import re
import time
from typing import Any

from ..errors import BackupError
from .connection import Connection

__all__ = ["collect", "compare", "summary"]

Facts = dict[str, Any]
_STREAMS = 1000
_EXPIRING = 100
_MARGIN = 5.0  # seconds: no answer is older than this when it is compared
# One step through a database: the next cursor, then kind, name and expiry (ms since 1970, 0 for none) of what counts.
_STEP = """local reply = redis.call('SCAN', ARGV[1], 'COUNT', '5000')
local now = redis.call('TIME') local ms = now[1] * 1000 + math.floor(now[2] / 1000)
local out, streams, expiring = {reply[1]}, tonumber(ARGV[2]), tonumber(ARGV[3])
for _, key in ipairs(reply[2]) do
  local kind, left = redis.call('TYPE', key)['ok'], redis.call('PTTL', key)
  local keep = false
  if kind == 'stream' then keep = streams > 0 streams = streams - 1
  elseif left > 60000 and expiring > 0 then keep = true expiring = expiring - 1 kind = 'expiring' end
  if keep then
    out[#out + 1] = kind out[#out + 1] = key out[#out + 1] = left > 0 and string.format('%.0f', ms + left) or '0'
  elseif kind == 'stream' then out[#out + 1] = 'left out' out[#out + 1] = '' out[#out + 1] = '0' end
end
return out""".replace("\n", " ")
_KEYSPACE = re.compile(r"keys=([0-9]{1,19}),expires=([0-9]{1,19})\b(?:.*,subexpiry=([0-9]{1,19})\b)?")
_DATABASE = re.compile(r"db[0-9]{1,9}")
_INDEX = re.compile(r"^(?:\s*\d+\)\s+)+|^\s+")


def _values(lines: list[str]) -> list[str]:
    """The values of a formatted answer, without the numbers that it puts before them; strings stay quoted."""
    found = (re.sub(_INDEX, "", line) for line in lines)
    return [value for value in found if value and not value.startswith("(empty")]


def _plain(value: str) -> str:
    return value[9:].strip() if value.startswith("(integer)") else value


def _databases(connection: Connection) -> dict[str, dict[str, int]]:
    databases = {}
    for name, text in connection.info("keyspace").items():
        found = _KEYSPACE.match(text)
        if not found or not _DATABASE.fullmatch(name):
            raise BackupError(f"the server's INFO keyspace can't be read: {name}:{text}")
        databases[name[2:]] = {"keys": int(found[1]), "expires": int(found[2])}
        # Hashes of which fields expire, with Redis >= 7.4: with its last field such a key is gone too.
        if found[3] and int(found[3]):
            databases[name[2:]]["subexpiry"] = int(found[3])
    return databases


def _present(connection: Connection, keys: list[str]) -> list[str]:
    answers = connection.commands([f"EXISTS {key}" for key in keys])
    return [key for key, answer in zip(keys, answers) if answer == ["(integer) 1"]]


def _streams(connection: Connection, keys: list[str]) -> dict[str, dict[str, Any]]:
    """The named streams of the selected database; those that are not there are left out."""
    keys = _present(connection, keys)
    streams = connection.commands([f"XINFO STREAM {key}" for key in keys])
    groups = connection.commands([f"XINFO GROUPS {key}" for key in keys])
    return {key: _stream(_values(told), _values(pairs)) for key, told, pairs in zip(keys, streams, groups)}


def _stream(told: list[str], pairs: list[str]) -> dict[str, Any]:
    """What XINFO STREAM and XINFO GROUPS told of one."""
    groups: list[dict[str, str]] = []
    try:
        for name, value in zip(pairs[::2], pairs[1::2]):
            if name == '"name"':
                groups.append({})
            if name in ('"name"', '"consumers"', '"pending"', '"last-delivered-id"'):
                groups[-1][name.strip('"')] = _plain(value)
        return {
            "length": int(_plain(told[told.index('"length"') + 1])),
            "last_id": told[told.index('"last-generated-id"') + 1].strip('"'),
            "groups": groups,
        }
    except (ValueError, IndexError):
        raise BackupError(f"the server's XINFO can't be read: {' '.join((told or pairs)[:9])}") from None


def collect(connection: Connection, file: dict[str, int]) -> Facts:
    """The facts of a loaded throw-away server, by a formatted connection: databases, streams, some keys that expire.

    ``file``: the keys, those of them that expire, and those of which fields do, that redis-check-rdb read. Of streams at most 1000 are looked
    at; keys are named as redis-cli quotes them. Raises BackupError when the server did not load what the file holds.
    """
    databases = _databases(connection)
    loaded = sum(item["keys"] - item["expires"] for item in databases.values())
    if not 0 <= file["keys"] - file["expires"] - loaded <= file.get("subexpires", 0):
        raise BackupError(
            f"the server loaded {loaded} keys that do not expire, the file holds {file['keys'] - file['expires']}"
        )
    streams: list[dict[str, Any]] = []
    expiring: list[dict[str, Any]] = []
    left_out = 0
    for database in databases:
        connection.command(f"SELECT {database}")
        cursor = '"0"'
        first = True
        while first or cursor != '"0"':
            first = False
            wanted = f"{_STREAMS - len(streams)} {_EXPIRING - len(expiring)}"
            cursor, *rest = _values(connection.command(f'EVAL "{_STEP}" 0 {cursor} {wanted}', at_most=300))
            for kind, key, due in zip(rest[::3], rest[1::3], rest[2::3]):
                item: dict[str, Any] = {"database": database, "key": key, "due": int(due.strip('"'))}
                if kind == '"stream"':
                    streams.append(item)
                elif kind == '"expiring"':
                    expiring.append(item)
                else:
                    left_out += 1
        mine = {item["key"]: item for item in streams if item["database"] == database}
        for key, told in _streams(connection, list(mine)).items():
            mine[key].update(told)
    return {
        "file": file,
        "databases": databases,
        "streams": streams,
        "streams_left_out": left_out,
        "expiring": expiring,
    }


def compare(connection: Connection, facts: Facts) -> list[str]:
    """What a live server, by a formatted connection, has otherwise than ``facts``: one sentence each.

    Keys that were to expire may be gone when they are due, nothing else.
    """
    found = _databases(connection)
    wrong = []
    for database in sorted(set(found) | set(facts["databases"]), key=int):
        nothing = {"keys": 0, "expires": 0}
        here, there = found.get(database, nothing), facts["databases"].get(database, nothing)
        lasting, expected = here["keys"] - here["expires"], there["keys"] - there["expires"]
        if not 0 <= expected - lasting <= there.get("subexpiry", 0):
            wrong.append(f"database {database} has {lasting} keys that do not expire, the backup {expected}")
    expires = sum(item["expires"] for item in found.values())
    if expires > facts["file"]["expires"]:
        wrong.append(f"{expires} keys expire, in the backup it was {facts['file']['expires']}")
    for database in facts["databases"]:
        connection.command(f"SELECT {database}")
        keys = [item for item in [*facts["streams"], *facts["expiring"]] if item["database"] == database]
        now = _streams(connection, [item["key"] for item in keys if "length" in item])
        present = {*now, *_present(connection, [item["key"] for item in keys if "length" not in item])}
        for item in keys:
            key, gone = item["key"], item["key"] not in present
            due = item["due"] and item["due"] / 1000 < time.time() + _MARGIN
            expected = {name: item[name] for name in ("length", "last_id", "groups") if name in item}
            if (gone and not due) or (not gone and now.get(key, {}) != expected):
                wrong.append(f"{key} in database {database} is {'gone' if gone else 'another stream'}")
    return wrong


def summary(facts: Facts) -> dict[str, Any]:
    """Counts for a report."""
    return {
        "databases": facts["databases"],
        "keys": sum(item["keys"] for item in facts["databases"].values()),
        "expires": sum(item["expires"] for item in facts["databases"].values()),
        "streams": len(facts["streams"]) + facts["streams_left_out"],
        "groups": sum(len(item["groups"]) for item in facts["streams"]),
        "pending": sum(int(group["pending"]) for item in facts["streams"] for group in item["groups"]),
    }
