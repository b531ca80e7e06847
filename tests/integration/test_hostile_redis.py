"""A Redis whose keys attack, and a file that becomes a thousand times its size: asked of real servers."""

import hashlib
import json
import subprocess

import pytest
from conftest import PROJECT, sh, until
from stack_backup import arguments, catalog, drill, point
from stack_backup.errors import BackupError

NAME = f"{PROJECT}-hostile-redis"
KEYS = [
    "-r",
    "k\"'$(touch /tmp/owned)`x`",
    "a\nPING\r\nb",
    "\x00\xff\x1b[2J",
    "ü 日",
    '1) "stream"',
    "(empty array)",
    "\\x41",
    "ERR x",
    "NOAUTH",
]


@pytest.fixture(scope="module")
def backups(tmp_path_factory):
    """A recovery point of a server with such keys: as strings that expire, and as streams with groups."""
    sh("docker", "rm", "-fv", NAME)
    sh("docker", "run", "--detach", "--name", NAME, "redis:8.0")
    folder = tmp_path_factory.mktemp("hostile-redis")
    try:
        assert until(lambda: sh("docker", "exec", NAME, "redis-cli", "PING", check=False).strip() == "PONG")
        commands = []
        for key in map(quoted, KEYS):
            commands += [
                f'SETEX "s{key[1:]} 90000 {key}',
                f"XADD {key} 1-1 {key} {key}",
                f"XGROUP CREATE {key} {key} 0",
            ]
        said = sh("docker", "exec", "-i", NAME, "redis-cli", stdin="\n".join(commands) + "\n")
        assert "ERR" not in said, said
        point.take(
            params(arguments.RECOVERY_POINT, folder, stores=[{"name": "r", "engine": "redis", "container": NAME}])
        )
        yield folder
    finally:
        sh("docker", "rm", "-fv", NAME)


def quoted(key):
    """As redis-cli reads it."""
    return (
        '"'
        + "".join(f"\\x{byte:02x}" for byte in key.encode("latin-1" if key.isascii() or "\xff" in key else "utf-8"))
        + '"'
    )


def params(spec, folder, **given):
    return {
        **{name: option.get("default") for name, option in spec.items()},
        "stack": "t",
        "backup_dir": str(folder),
        "timeout": 120,
        **given,
    }


def run(folder, **given):
    return drill.drill(params(arguments.BACKUP_DRILL, folder, point="latest", **given))["stores"][0]


def test_keys_whose_names_attack_come_back(backups):
    counts = run(backups)["checked"]["counts"]
    assert (counts["keys"], counts["streams"], counts["groups"]) == (2 * len(KEYS), len(KEYS), len(KEYS))
    assert subprocess.run(["docker", "exec", NAME, "test", "-e", "/tmp/owned"], check=False).returncode


def bomb(size):
    """An RDB with one string of ``size`` bytes, of which each 264 take three. Source: lzf_d.c, rdb.c, rdbLoadLzfStringObject()."""
    data = b"\x00A" + b"\xe0\xff\x00" * (size // 264)
    length = 1 + size // 264 * 264
    return b"".join(
        [
            b"REDIS0009\xfe\x00\x00\x01k\xc3\x80",
            len(data).to_bytes(4, "big"),
            b"\x80",
            length.to_bytes(4, "big"),
            data,
            b"\xff",
            bytes(8),
        ]
    )


@pytest.mark.parametrize(("size", "well"), [(1_000_000, True), (400_000_000, False)])
def test_a_file_that_grows_stays_within_the_drills_memory(backups, tmp_path, size, well):
    found = catalog.read(backups, "t")
    backup = found.points[found.choose("latest")]["r"]
    data, manifest = bomb(size), json.loads(json.dumps(backup.manifest))
    manifest["artifact"].update(size=len(data), sha256=hashlib.sha256(data).hexdigest())
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / backup.artifact.name).write_bytes(data)
    (tmp_path / "r" / f"r-{backup.point}.json").write_text(json.dumps(manifest))
    if well:
        assert run(tmp_path, memory="100m")["checked"]["counts"]["keys"] == 1
        return
    with pytest.raises(BackupError, match=r"does it need more memory than 100m\?"):
        run(tmp_path, memory="100m")
    assert sh("docker", "ps", "-aq", "--filter", f"label=stack-backup.dir={tmp_path}") == ""
