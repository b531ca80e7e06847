"""What a database is, beside what is in it: read for the manifest, and made again from there."""

from __future__ import annotations

from typing import Any, Mapping

from .names import identifier, literal, unquoted

__all__ = ["PROPERTIES", "create", "differences", "finish"]

# The manifest's "database": one line of JSON, read in the database itself.
PROPERTIES = """SELECT json_build_object(
 'name', d.datname, 'owner', pg_get_userbyid(d.datdba), 'encoding', pg_encoding_to_char(d.encoding),
 'tablespace', (SELECT spcname FROM pg_tablespace t WHERE t.oid = d.dattablespace),
 'comment', shobj_description(d.oid, 'pg_database'), 'acl', d.datacl::text[], 'catalog', to_jsonb(d) - 'datacl',
 'settings', (SELECT coalesce(json_agg(json_build_object('role', nullif(s.setrole, 0)::regrole::text, 'config', s.setconfig)), '[]')
              FROM pg_db_role_setting s WHERE s.setdatabase = d.oid),
 'extensions', (SELECT coalesce(json_object_agg(extname, extversion), '{}') FROM pg_extension),
 'subscriptions', (SELECT coalesce(json_agg(subname), '[]') FROM pg_subscription WHERE subdbid = d.oid),
 'tablespaces', (SELECT coalesce(json_agg(spcname), '[]') FROM pg_tablespace t
                 WHERE t.oid IN (SELECT reltablespace FROM pg_class WHERE NOT relisshared)),
 'large_objects', (SELECT count(*) FROM pg_largeobject_metadata),
 'size', pg_database_size(d.oid))
FROM pg_database d WHERE d.datname = current_database();"""
_COMPARED = ("owner", "encoding", "comment", "large_objects")
# Settings that are lists of names. As one quoted text they would become a list of one name.
# Source: variable_is_guc_list_quote() of pg_dump; two more are the whole server's.
_LISTS = ("search_path", "temp_tablespaces", "local_preload_libraries", "session_preload_libraries")
_PROVIDERS = {"c": "libc", "i": "icu", "b": "builtin"}


def create(database: Mapping[str, Any], name: str, version: int, *, hold: bool, tablespace: bool) -> str:
    """CREATE DATABASE ``name`` as the manifest's ``database`` was, for a server of ``version``.

    ``hold`` keeps everybody but superusers out until ``finish``. The catalog's row has its names from the
    version that was dumped: datlocale was daticulocale before 17.
    """
    row = database["catalog"]
    provider = row.get("datlocprovider", "c")
    options = [
        f"TEMPLATE template0 OWNER {identifier(database['owner'])} ENCODING {literal(database['encoding'])}",
        f"LC_COLLATE {literal(row['datcollate'])} LC_CTYPE {literal(row['datctype'])}",
    ]
    if version >= 150000:
        options.append(f"LOCALE_PROVIDER {_PROVIDERS[provider]}")
    if provider == "i":
        options.append(f"ICU_LOCALE {literal(row.get('datlocale') or row['daticulocale'])}")
        if row.get("daticurules") is not None:
            options.append(f"ICU_RULES {literal(row['daticurules'])}")
    if provider == "b":
        options.append(f"BUILTIN_LOCALE {literal(row['datlocale'])}")
    if tablespace:
        options.append(f"TABLESPACE {identifier(database['tablespace'])}")
    if hold:
        options.append("CONNECTION LIMIT 0")
    return f"CREATE DATABASE {identifier(name)} {' '.join(options)};"


def finish(database: Mapping[str, Any], name: str) -> list[str]:
    """What gives ``name`` the privileges, comment, settings and connection limit of the manifest's ``database``."""
    quoted = identifier(name)
    statements = []
    if database["acl"] is not None:
        statements += [f"REVOKE ALL ON DATABASE {quoted} FROM PUBLIC, {identifier(database['owner'])};"]
        statements += [_grants(database["acl"], name)] if database["acl"] else []
    if database["comment"] is not None:
        statements.append(f"COMMENT ON DATABASE {quoted} IS {literal(database['comment'])};")
    for entry in database["settings"]:
        target = f"ALTER DATABASE {quoted}"
        if entry["role"] is not None:
            target = f"ALTER ROLE {identifier(unquoted(entry['role']))} IN DATABASE {quoted}"
        statements += [_setting(target, *config.split("=", 1)) for config in entry["config"]]
    row = database["catalog"]
    template = "true" if row["datistemplate"] else "false"
    statements.append(f"ALTER DATABASE {quoted} CONNECTION LIMIT {int(row['datconnlimit'])} IS_TEMPLATE {template};")
    return statements


def _grants(acl: list[str], name: str) -> str:
    """The recorded privileges, in their order; each granted by whom it was granted by."""
    items = ", ".join(literal(item) for item in acl)
    return rf"""SELECT
 CASE WHEN a.grantor <> d.datdba THEN format('SET ROLE %I', pg_get_userbyid(a.grantor)) END,
 format('GRANT %s ON DATABASE %I TO %s%s', a.privilege_type, d.datname,
        CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END,
        CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' END),
 CASE WHEN a.grantor <> d.datdba THEN 'RESET ROLE' END
 FROM pg_database d, aclexplode(ARRAY[{items}]::aclitem[]) WITH ORDINALITY a WHERE d.datname = {literal(name)}
 ORDER BY a.ordinality \gexec"""


def _setting(target: str, name: str, value: str) -> str:
    quoted = ".".join(identifier(part) for part in name.split("."))
    if name.lower() in _LISTS:
        return (
            f"BEGIN; SELECT set_config({literal(name)}, {literal(value)}, true); "
            f"{target} SET {quoted} FROM CURRENT; COMMIT;"
        )
    return f"{target} SET {quoted} TO {literal(value)};"


def differences(recorded: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """What of ``found`` is not as ``recorded``, in words; extensions by their names."""
    told = [f"its {key} is {found[key]!r}, was {recorded[key]!r}" for key in _COMPARED if found[key] != recorded[key]]
    if recorded["acl"] is not None and sorted(found["acl"] or []) != sorted(recorded["acl"]):
        told.append(f"its privileges are {found['acl']}, were {recorded['acl']}")
    if _settings(found) != _settings(recorded):
        told.append("its settings are others than were recorded")
    lacking = sorted(set(recorded["extensions"]) - set(found["extensions"]))
    if lacking:
        told.append(f"it lacks the extensions {', '.join(lacking)}")
    return told


def _settings(database: Mapping[str, Any]) -> dict[Any, list[str]]:
    return {entry["role"]: sorted(entry["config"]) for entry in database["settings"]}
