"""What anybody may have written, for property tests: values, texts, and a real recovery point to spoil."""

import json
import os
from copy import deepcopy
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from stack_backup.artifact import Partial
from stack_backup.errors import BackupError

settings.register_profile(
    "hostile",
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
)
# The same examples in each run; HOSTILE_TIMES=50 for a long one by hand.
TIMES = int(os.environ.get("HOSTILE_TIMES", "1"))
FEW, SOME, MANY = (settings(settings.get_profile("hostile"), max_examples=TIMES * number) for number in (25, 60, 400))

POINT = "20261124-020000"
ENGINES = {"postgres": "postgres", "redis": "redis"}
MANIFESTS = Path(__file__).resolve().parents[2] / "benchmarks" / "manifests"  # of real backups
RAW = {"NaN": "@nan@", "1e999": "@inf@", "-1e999": "@minus@"}  # what json.dumps does not write
ODD_TEXTS = [
    *(
        "",
        ".",
        "..",
        "/",
        "../../etc/passwd",
        "/etc/passwd",
        "-rf",
        "--help",
        "--privileged",
        "a\0b",
        "\ud800",
        "\udcff",
    ),
    *(
        "a\nb",
        "x\n\\! touch MARK\n",
        "$(touch MARK)",
        "`touch MARK`",
        "';touch MARK;'",
        '"',
        "'",
        "\\",
        "x" * 5000,
        "日本",
    ),
    *(
        "99999999-999999",
        "20261124-020000",
        "00000000-000000",
        "\x1b[2J",
        "\u202e",
        "e\u0301",
        "%s",
        "{0}",
        "*",
        " ",
        "=",
        "A=B",
    ),
]
TEXTS = st.one_of(st.sampled_from(ODD_TEXTS), st.text(max_size=30))
NUMBERS = st.one_of(
    st.sampled_from([0, -1, True, 1 << 63, 10**40, 10**400, -(10**30), 0.5, 1e300, *RAW.values()]), st.integers()
)
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3), max_leaves=6
)
DEEP = "[" * 400 + "]" * 400


def told(work, *args, **options):
    """What it gives back, or the BackupError that it raises: nothing else may come out."""
    try:
        return work(*args, **options)
    except BackupError as error:
        assert str(error)
        return error


def dumps(value):
    """As JSON, with what only others write."""
    text = json.dumps(value, ensure_ascii=True)
    for raw, mark in RAW.items():
        text = text.replace(f'"{mark}"', raw)
    return text


def paths(value, at=()):
    """Every place in a JSON value."""
    found = [at] if at else []
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        found += paths(inner, (*at, key))
    return found


@st.composite
def spoiled(draw, good):
    """``good`` with up to three of its places removed, replaced, or added to."""
    bad = deepcopy(good)
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(paths(good)))
        parent = bad
        try:
            for part in path[:-1]:
                parent = parent[part]
            parent[path[-1]]
        except (KeyError, IndexError, TypeError):
            continue
        kind = draw(st.sampled_from(["replace", "replace", "replace", "remove", "add", "deep"]))
        if kind == "remove":
            del parent[path[-1]]
        elif kind == "add" and isinstance(parent, dict):
            parent[draw(TEXTS)] = draw(VALUES)
        else:
            parent[path[-1]] = json.loads(DEEP) if kind == "deep" else draw(VALUES)
    return bad


def publish(folder, store, point=POINT, size=900, tree=False, **more):
    """A backup with a real manifest of its engine, as the engine publishes one. Returns the manifest's path."""
    partial = Partial(folder, store, ENGINES[store], point)
    partial.create()
    if tree:
        partial.artifact.mkdir()
        for name in ("toc.dat", "3001.dat.zst"):
            (partial.artifact / name).write_bytes(b"t" * size)
    else:
        partial.artifact.write_bytes(b"x" * size)
    if store == "postgres":
        partial.globals.write_text("CREATE ROLE app;\n")
    sealed = partial.seal()
    manifest = json.loads((MANIFESTS / f"{store}.json").read_text())
    manifest["point"].update(id=point, stores=list(ENGINES), failed={}, purpose="backup")
    manifest.update(stack="s", store=store, **more)
    for part, path in (("artifact", partial.artifact), ("globals", partial.globals)):
        if path.name in sealed:
            manifest[part] = {**manifest[part], "name": path.name, **sealed[path.name]}
    if tree:
        manifest["artifact"]["format"] = "directory"
    partial.publish(manifest)
    return folder / store / f"{store}-{point}.json"


def good(folder, **more):
    """A whole point, and an older one. Returns the manifests of the newer by store."""
    for store in ENGINES:
        publish(folder, store, "20261123-020000")
    return {store: publish(folder, store, **(more if store == "postgres" else {})) for store in ENGINES}
