"""Tells how to restore a recovery point by hand: a shell script of docker, age and the databases' own programs. Pure."""

from __future__ import annotations

import re
from pathlib import Path
from shlex import quote
from typing import Any, Iterator, Mapping, Sequence

from .catalog import Backup
from .errors import BackupError
from .postgres.connection import conninfo
from .postgres.names import identifier, literal, suffixed
from .postgres.properties import create, finish
from .report import size_text
from .stores import Store, parse_stores

__all__ = ["script"]

_HEAD = """\
# The manual way back: stack {stack}, recovery point {point}, without stack-backup.
# It needs docker and sha256sum{age}.
# Read it first. Then run it on the stack's host, as root:
#   stack-backup restore-help >restore.sh
#   {run}sh restore.sh
# Or paste it step by step, but not the next line: it would close your shell at the first error.
set -eu
"""
_KEY = """
# {step}. The key opens them. It is not on this host: IDENTITY is a file with one of the secret keys.
: "${{IDENTITY:?is not set: the file with a secret key of backup_age_recipients}}"
"""
_STOP = """
# {step}. Bring up the databases where they are missing, and stop every other service.
docker compose up --detach --no-deps --no-recreate {services}
others=$(docker compose ps --services --status running | grep -vxF {names} || true)
[ -z "$others" ] || docker compose stop $others
"""
_START = """
# {step}. Start what was stopped. Nothing was there before? Then: docker compose up --detach
[ -z "$others" ] || docker compose start $others
"""
_IN = """\
# {name} PROGRAM runs it in the database's container.
{name}() {{
  if [ -t 0 ]; then {name} "$@" </dev/null; return; fi  # it must not take what you paste for its input
  {enter} sh -c {login} sh "$@"
}}
"""
_ROLES = r"""# The roles that are missing. "already exists" is no fault: those come back as they were, by their own dump.
before=$(pg pg_dumpall --globals-only{passwords})
saved=$({globals})
# psql takes a backslash outside of quotes for a command, which may run anything (CVE-2025-8714): none gets there.
for roles in "$saved" "$before"; do
  roles=$(printf '%s\n' "$roles" | grep -v -E '^\\(un)?restrict [A-Za-z0-9]+$')
  case $roles in
    *\\*) echo "there are backslashes in the roles: read them, and make those that are missing by hand" >&2; false ;;
    *) printf '%s\n' "$roles" | pg psql -Xq -d {home} >/dev/null ;;
  esac
done
"""
_BARE_ROLES = """\
# The roles that this adopted dump needs; nothing else of them was saved. "already exists" is no fault.
pg psql -Xq -d {home} <<'{end}'
{roles}
{end}
"""
_FILL = """\
# A new database beside the live one. Nothing is live yet.
pg psql -Xq -v ON_ERROR_STOP=1 -d {home} <<'{end}'
{create}
{end}
{restore}
pg psql -Xq -v ON_ERROR_STOP=1 -d {home} <<'{end}'
{finish}
{end}
pg psql -Xq -d {target} -c ANALYZE
"""
_SWAP = """\
# The switch. The old database stays, as {old}, and takes no connections. Drop it when all is well: pg dropdb
pg psql -Xq -v ON_ERROR_STOP=1 -d {home} <<'{end}'
SELECT format('ALTER DATABASE %I ALLOW_CONNECTIONS false', datname) FROM pg_database WHERE datname = {name} \\gexec
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname IN ({name}, {new});
BEGIN;
SELECT format('ALTER DATABASE %I RENAME TO %I', datname, {old_name}) FROM pg_database WHERE datname = {name} \\gexec
ALTER DATABASE {new_id} RENAME TO {id};
COMMIT;
{end}
# To go back instead, rename both the other way round, and give the old one ALLOW_CONNECTIONS true.
"""
_REDIS = """\
answers() {{ said=$(rd {cli} PING) || true; echo "redis says: $said"; [ "$said" = PONG ]; }}
until answers; do sleep 1; done
# How the server keeps its data. If it does not run, leave out the line above, and set these from its redis.conf.
says() {{ rd {cli} CONFIG GET "$1" | tail -n 1; }}
dir=$(says dir) aof=$(says appendonly) rdb=$(says dbfilename)
aof_dir=$(says appenddirname) aof_name=$(says appendfilename)
server=$({container})
image=$(docker inspect --format '{{{{.Image}}}}' "$server")
# beside SCRIPT runs it in a throw-away container of the same image that has the server's data folder.
beside() {{
  if [ -t 0 ]; then beside "$@" </dev/null; return; fi
  docker run --rm --interactive --network none --user 0 --volumes-from "$server" --entrypoint sh "$image" \\
    -euc 'dir=$1 aof=$2 rdb=$3 aof_dir=$4 aof_name=$5; cd "$dir"; umask 077; eval "$6"' \\
    sh "$dir" "$aof" "$rdb" "$aof_dir" "$aof_name" "$1"
}}
# The new data goes into the folder .new-{point}, and is read to its end there. Nothing is live yet.
{feed} beside 'mkdir .new-{point}; cat >.new-{point}/rdb; {check} .new-{point}/rdb'
# Stop the server first: it would save the old data over the new when it ends. Then exchange them.
{stop}
beside '
  mkdir .before-{point}
  for old in "$rdb" "$aof_dir" "$aof_name"; do [ ! -e "$old" ] || mv "$old" .before-{point}/; done
  if [ "$aof" = yes ]; then
    # With appendonly on dump.rdb is not read: the RDB becomes the base of a new append-only file.
{append}
  else
    mv .new-{point}/rdb "$rdb"; new=$rdb
  fi
  # As the data folder: uid 999 in the official image.
  chown -R "$(stat -c %u:%g .)" "$new"
  rmdir .new-{point}'
{start}
until answers; do sleep 1; done
rd {cli} DBSIZE  # {keys}
# The old files are in .before-{point} of the data folder. When all is well: beside 'rm -r .before-{point}'
"""
_FOLDER = """\
    mkdir "$aof_dir"; mv .new-{point}/rdb "$aof_dir/$aof_name.1.base.rdb"; new=$aof_dir
    echo "file $aof_name.1.base.rdb seq 1 type b" >"$aof_dir/$aof_name.manifest\""""
_FILE = """\
    mv .new-{point}/rdb "$aof_name"; new=$aof_name"""
_DIGEST = re.compile(r"[0-9a-f]{64}")
_PLAIN_WORD = re.compile(r"[A-Za-z0-9_-]+")


def script(params: Mapping[str, Any], point: str, backups: Mapping[str, Backup]) -> Iterator[str]:
    """The parts of the script, in their order. ``params``: of a job that knows the stack's stores and its project."""
    configured = {store.name: store for store in parse_stores(params["stores"])}
    stores = [configured.get(name) or _former(backup) for name, backup in backups.items()]
    encrypted = any(backup.encrypted for backup in backups.values())
    run = "IDENTITY=/path/to/key.txt " if encrypted else ""
    yield _HEAD.format(stack=params["stack"], point=point, age=", and age" if encrypted else "", run=run)
    services = sorted({store.service for store in stores if store.service})
    if services:
        yield _project(params)
    steps = iter(range(1, 100))
    yield f"\n# {next(steps)}. The files are what was written.\nsha256sum -c - <<'END'\n"
    for backup in backups.values():
        yield from _digests(backup)
    yield "END\n"
    if encrypted:
        yield _KEY.format(step=next(steps))
        yield "".join(
            f"{_open(backup, path)} >/dev/null\n"
            for backup in backups.values()
            if backup.encrypted
            for path in backup.files()
        )
    if services:
        names = " ".join(f"-e {quote(name)}" for name in services)
        yield _STOP.format(step=next(steps), services=" ".join(map(quote, services)), names=names)
    else:
        yield f"\n# {next(steps)}. Stop by hand what uses the databases: they are in no Compose project.\n"
    for store in stores:
        backup = backups[store.name]
        yield f"\n# {next(steps)}. Store {store.name}, {_shown(store.where)}: {size_text(backup.size)} of {store.engine} data.\n"
        yield from (_postgres if store.engine == "postgres" else _redis)(store, backup)
    if services:
        yield _START.format(step=next(steps))
    else:
        yield f"\n# {next(steps)}. Start what was stopped.\n"


def _digests(backup: Backup) -> Iterator[str]:
    """What sha256sum reads, of every file."""
    for path, told in backup.files().items():
        inner = {path / name: one for name, one in (told.get("files") or {}).items()}
        for file, one in (inner or {path: told}).items():
            if not _DIGEST.fullmatch(one["sha256"]) or not str(file).isprintable():
                raise BackupError(f"{str(file)!r} in the manifest of {path} is no file of a backup")
            yield f"{one['sha256']}  {file}\n"


def _shown(text: str) -> str:
    """For a comment, which a line's end would end."""
    return " ".join(text.split())


def _former(backup: Backup) -> Store:
    """A store that the stack does not have any more, as its backup tells of it."""
    source = backup.manifest["source"]
    container = None if source.get("service") else source["container"]
    return Store(backup.store, backup.manifest["engine"], service=source.get("service"), container=container)


def _project(params: Mapping[str, Any]) -> str:
    folder = params.get("project_dir") or "."
    lines = [f"cd {quote(folder)}"]
    if params.get("compose_files"):
        files = ":".join(str(Path(folder) / file) for file in params["compose_files"])
        lines.append(f"export COMPOSE_FILE={quote(files)}")
    if params.get("project_name"):
        lines.append(f"export COMPOSE_PROJECT_NAME={quote(params['project_name'])}")
    return "".join(f"{line}\n" for line in lines)


def _open(backup: Backup, path: Path) -> str:
    """What prints a file, decrypted."""
    return f'age -d -i "$IDENTITY" {quote(str(path))}' if backup.encrypted else f"cat {quote(str(path))}"


def _enter(store: Store, *environment: str) -> str:
    """What runs a program in the store's container."""
    given = "".join(f" -e {quote(item)}" for item in environment)
    if store.service:
        return f"docker compose exec -T{given} {quote(store.service)}"
    return f"docker exec -i{given} {quote(store.container or '')}"


def _function(store: Store, name: str, variable: str, login: Sequence[str], *environment: str) -> str:
    """The function that runs a program in the store's container, logged in; ``variable`` takes the password."""
    lines = list(login)
    told = ""
    if store.host_password_file:
        told = f'export {variable}="$(cat {quote(store.host_password_file)})"\n'
        environment = (*environment, variable)
    elif store.password_file:
        lines = [f'export {variable}="$(cat {quote(store.password_file)})"', *lines]
    inner = "\n    ".join([*lines, 'exec "$@"'])
    return told + _IN.format(name=name, enter=_enter(store, *environment), login=quote(inner))


def _postgres(store: Store, backup: Backup) -> Iterator[str]:
    login, environment = [], []
    if store.user:
        environment.append(f"PGUSER={store.user}")
    else:
        login.append('[ -z "${POSTGRES_USER_FILE:-}" ] || POSTGRES_USER=$(cat "$POSTGRES_USER_FILE")')
        login.append('export PGUSER="${POSTGRES_USER:-postgres}"')
    if not (store.password_file or store.host_password_file):
        login.append('[ -z "${POSTGRES_PASSWORD_FILE:-}" ] || POSTGRES_PASSWORD=$(cat "$POSTGRES_PASSWORD_FILE")')
        login.append('export PGPASSWORD="${POSTGRES_PASSWORD:-}"')
    if store.port:
        environment.append(f"PGPORT={store.port}")
    yield _function(store, "pg", "PGPASSWORD", login, *environment)
    yield "until pg pg_isready -h 127.0.0.1; do sleep 1; done\n"

    manifest, database = backup.manifest, backup.manifest["database"]
    name = store.database or database["name"]
    new, old = (suffixed(name, f"_{word}_{backup.point}") for word in ("new", "old"))
    home = "template1" if name == "postgres" else "postgres"
    made = create(database, new, int(manifest["server_version"]), hold=False, tablespace=True)
    ending = "\n".join(finish(database, new))
    bare = "\n".join(f"CREATE ROLE {identifier(role)};" for role in (manifest.get("adopted") or {}).get("roles", []))
    end = "END"
    while end in "\n".join((made, ending, bare, name, old)).splitlines():
        end += "_"
    files = list(backup.files())
    if manifest.get("globals"):
        passwords = "" if manifest["globals"].get("passwords", True) else " --no-role-passwords"
        yield _ROLES.format(passwords=passwords, globals=_open(backup, files[1]), home=home)
    elif bare:
        yield _BARE_ROLES.format(home=home, end=end, roles=bare)
    yield _FILL.format(
        home=home,
        end=end,
        create=made,
        restore=_restore(backup, _target(new)),
        finish=ending,
        target=_target(new),
    )
    yield from _counted(manifest, new)
    yield _SWAP.format(
        home=home,
        end=end,
        name=literal(name),
        new=literal(new),
        old=_shown(old),
        old_name=literal(old),
        new_id=identifier(new),
        id=identifier(name),
    )


def _target(name: str) -> str:
    """A database as an argument: libpq takes some names for addresses."""
    return quote(name if _PLAIN_WORD.fullmatch(name) else conninfo(dbname=name))


def _restore(backup: Backup, target: str) -> str:
    program = f"pg pg_restore --exit-on-error --enable-row-security -d {target}"
    if backup.manifest["artifact"]["format"] != "directory":
        return f"{_open(backup, backup.artifact)} | {program}"
    inside = f"/tmp/restore-{backup.point}"  # noqa: S108 - in the database's container
    return (
        f"tar -C {quote(str(backup.artifact))} -cf - . | pg sh -c 'mkdir {inside} && tar -C {inside} -xf -'\n"
        f"{program} --jobs=2 {inside}\npg rm -r {inside}"
    )


def _counted(manifest: Mapping[str, Any], name: str) -> Iterator[str]:
    """A look at the largest table, where its rows were counted."""
    rows = manifest["counts"].get("rows") or {}
    if rows:
        table = max(rows, key=lambda item: rows[item])
        asked = quote(f"SELECT count(*) FROM ONLY {table}")  # noqa: S608 - a person's to run; names as format(%I) gave them
        yield f"pg psql -XAt -d {_target(name)} -c {asked}  # {int(rows[table])}\n"


def _redis(store: Store, backup: Backup) -> Iterator[str]:
    options = ["--user", store.username] if store.username else []
    options += ["-p", str(store.port)] if store.port else []
    if store.tls:
        given = ((f"--{name}", getattr(store, name)) for name in ("cacert", "cert", "key"))
        options += ["--tls", *(part for option, value in given if value for part in (option, value))]
    maker = "valkey" if "valkey-ver" in (backup.manifest["artifact"].get("rdb") or {}) else "redis"
    yield _function(store, "rd", "REDISCLI_AUTH", [])
    service, container = quote(store.service or ""), quote(store.container or "")
    append = _FOLDER
    if maker == "redis" and int(str(backup.manifest["server_version"]).split(".")[0]) < 7:
        append = _FILE  # later servers read it too, and make their folder of it
    keys = f"{int(backup.manifest['counts']['keys'])}, less what has expired since"
    yield _REDIS.format(
        cli=" ".join([f"{maker}-cli", *map(quote, options)]),
        check=f"{maker}-check-rdb",
        point=backup.point,
        container=f"docker compose ps --all --quiet {service}" if store.service else f"echo {container}",
        stop=f"docker compose stop {service}" if store.service else f"docker stop {container}",
        start=f"docker compose start {service}" if store.service else f"docker start {container}",
        feed=f"{_open(backup, backup.artifact)} |",
        append=append.format(point=backup.point),
        keys=keys,
    )
