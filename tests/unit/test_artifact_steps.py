"""How artifacts come to be: what is on the disk before what, for whose eyes, and what an error leaves."""

import errno
import os
import resource
import shutil
import signal
import stat
import subprocess
import tempfile
from pathlib import Path

import pytest
from stack_backup import artifact, catalog
from stack_backup.artifact import Lock, Partial, check_backup_dir, digest, encode, write_file
from stack_backup.errors import BackupError, Locked
from stack_backup.signing import key_of, signature_path

from tests.signers import Pair

POINT = "20261124-021500"
STEM = f"redis-{POINT}"


@pytest.fixture
def steps(monkeypatch):
    """What is synced and renamed, by name and in order. It happens too."""
    seen = []
    fsync, rename, replace = os.fsync, os.rename, os.replace

    def synced(descriptor):
        seen.append(f"sync {Path(f'/proc/self/fd/{descriptor}').readlink().name}")
        fsync(descriptor)

    def moved(real):
        def move(source, target, **more):
            seen.append(f"{Path(source).name} -> {Path(target).parent.name}/{Path(target).name}")
            real(source, target, **more)

        return move

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "rename", moved(rename))
    monkeypatch.setattr(os, "replace", moved(replace))
    return seen


@pytest.fixture
def everybody():
    """Without a umask all would be open to all."""
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def filled(folder, tree=False):
    partial = Partial(folder, "redis", "redis", POINT)
    partial.create()
    if tree:
        partial.artifact.mkdir()
        (partial.artifact / "1.dat").write_bytes(b"one")
        (partial.artifact / "2.dat").write_bytes(b"two")
    else:
        partial.artifact.write_bytes(b"data")
    partial.globals.write_bytes(b"roles")
    return partial


def test_data_is_on_disk_before_its_name_and_its_name_before_the_manifests(tmp_path, steps):
    partial = filled(tmp_path)
    partial.seal()
    assert sorted(steps) == [f"sync {STEM}.globals.sql", f"sync {STEM}.rdb"]
    steps.clear()
    assert partial.publish({"format": 1}) == tmp_path / "redis" / f"{STEM}.rdb"
    assert steps[:3] == [
        f"sync .{STEM}.json.new",
        f".{STEM}.json.new -> {STEM}.partial/{STEM}.json",
        f"sync {STEM}.partial",
    ]
    assert published(steps[3:]) == [
        *(f"{name} -> redis/{name}" for name in (f"{STEM}.globals.sql", f"{STEM}.rdb")),
        "sync redis",
        f"{STEM}.json -> redis/{STEM}.json",
        "sync redis",
    ]


def published(steps):
    """The steps in the store's folder, those before its first sync by name: their order says nothing."""
    there = [step for step in steps if "-> redis/" in step or step == "sync redis"]
    return [*sorted(there[:-3]), *there[-3:]]


def test_a_signature_is_there_before_what_it_signs(tmp_path, steps):
    (tmp_path / "backups").mkdir()
    pair = Pair(tmp_path)
    given = {"stack": "s", "backup_dir": str(tmp_path / "backups"), "sign_key": str(pair.file)}
    key = key_of({**given, "allowed_signers": [pair.public]})
    partial = filled(tmp_path / "backups")
    partial.seal()
    steps.clear()
    manifest = partial.publish({"format": 1}, key).with_suffix(".json")
    assert published(steps) == [
        *(f"{name} -> redis/{name}" for name in (f"{STEM}.globals.sql", f"{STEM}.json.sig", f"{STEM}.rdb")),
        "sync redis",
        f"{STEM}.json -> redis/{STEM}.json",
        "sync redis",
    ]
    assert f"sync .{STEM}.json.sig.new" in steps
    assert key.trust.fault(manifest.read_bytes(), signature_path(manifest).read_bytes(), "s", None) == ""


@pytest.mark.parametrize("name", ["fsync", "chmod"])
def test_a_disk_that_fails_at_the_end_is_told(tmp_path, monkeypatch, name):
    partial = filled(tmp_path)

    def failing(*_args, **_more):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, name, failing)
    with pytest.raises(BackupError, match=f"/{STEM}.partial: Input/output error: mend the backup folder's disk"):
        partial.seal()


def test_a_store_whose_folder_can_not_be_made_is_told(tmp_path):
    (tmp_path / "redis").write_text("x")
    with pytest.raises(BackupError, match="/redis: File exists: mend the backup folder's disk, owner or mode$"):
        Partial(tmp_path, "redis", "redis", POINT).create()


def test_a_dump_of_many_files_is_on_disk_with_its_names(tmp_path, steps, everybody):
    partial = filled(tmp_path, tree=True)
    assert mode(partial.store_dir) == mode(partial.folder) == 0o700
    partial.seal()
    assert steps == [f"sync {name}" for name in (f"{STEM}.globals.sql", "1.dat", "2.dat", f"{STEM}.rdb")]  # files first
    dump = partial.publish({"format": 1})
    assert mode(dump) == 0o700
    files = [*dump.iterdir(), *(path for path in dump.parent.iterdir() if path.is_file())]
    assert len(files) == 4 and {mode(path) for path in files} == {0o600}


def test_a_file_is_its_owners_alone_and_replaced_at_once(tmp_path, steps, everybody):
    path = tmp_path / "state.json"
    path.write_bytes(b"old")
    write_file(path, b"new")
    assert path.read_bytes() == b"new" and mode(path) == 0o600
    assert steps == ["sync .state.json.new", f".state.json.new -> {tmp_path.name}/state.json", f"sync {tmp_path.name}"]


def test_what_is_synced_is_written(tmp_path, monkeypatch):
    """What is still in the program's memory when it syncs is lost with the power, behind a name that is there."""
    fsync, sizes = os.fsync, []

    def synced(descriptor):
        sizes.append(os.fstat(descriptor).st_size)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", synced)
    artifact.write_json(tmp_path / "state.json", {"a": 1})
    assert (tmp_path / "state.json").read_bytes() == encode({"a": 1})
    assert sizes[0] == len(encode({"a": 1}))


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "state.json"
    path.write_bytes(b"old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[0][1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            write_file(path, b"x" * 2000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before[0])
        signal.signal(signal.SIGXFSZ, before[1])
    assert path.read_bytes() == b"old"
    write_file(path, b"new")  # over the draft that is left
    assert path.read_bytes() == b"new" and list(tmp_path.iterdir()) == [path]


def test_how_a_json_file_looks():
    assert encode({"b": 1, "a": ["é"]}) == b'{\n "a": [\n  "\\u00e9"\n ],\n "b": 1\n}\n'


@pytest.mark.parametrize(
    "name", ["partial", "rdb", "rdb.age", "globals.sql", "globals.sql.age", "json", "json.sig"], ids=str
)
def test_whatever_has_the_id_already_stays(tmp_path, name):
    there = tmp_path / "redis" / f"{STEM}.{name}"
    there.parent.mkdir()
    there.symlink_to("nowhere")
    partial = Partial(tmp_path, "redis", "redis", POINT)
    assert partial.taken() == there
    with pytest.raises(BackupError) as caught:
        partial.create()
    assert str(caught.value) == f"{there} is there already: a backup is never overwritten, take another id"
    assert list(there.parent.iterdir()) == [there]


def test_a_store_that_is_a_link_is_refused(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "redis").symlink_to("elsewhere")
    with pytest.raises(BackupError, match="redis is a symbolic link: the folder of a store must be a folder$"):
        Partial(tmp_path, "redis", "redis", POINT).create()
    assert not list((tmp_path / "elsewhere").iterdir())


def test_encrypted_files_have_names_of_their_own(tmp_path):
    assert Partial(tmp_path, "redis", "redis", POINT).encryption(tmp_path) is None
    sealed = Partial(tmp_path, "pg", "postgres", POINT, ["age1x"])
    assert (sealed.artifact.name, sealed.globals.name) == (f"pg-{POINT}.dump.age", f"pg-{POINT}.globals.sql.age")
    assert sealed.artifact.parent == sealed.folder == tmp_path / "pg" / f"pg-{POINT}.partial"


@pytest.mark.parametrize("step", [f"{STEM}.rdb", f"{STEM}.json"])
def test_what_is_discarded_half_published_leaves_nothing(tmp_path, monkeypatch, step):
    partial, rename = filled(tmp_path), os.rename

    def failing(source, target, **more):
        if Path(source).name == step and Path(target).parent == partial.store_dir:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(source))
        rename(source, target, **more)

    monkeypatch.setattr(os, "rename", failing)
    with pytest.raises(
        BackupError, match=f"/{step}: Input/output error: mend the backup folder's disk, owner or mode$"
    ):
        partial.publish({"format": 1})
    partial.discard()
    assert not list(tmp_path.iterdir())


def test_what_is_published_stays_whatever_fails_after_it(tmp_path, monkeypatch):
    partial, rmdir = filled(tmp_path), os.rmdir

    def failing(path, **more):
        if Path(path) == partial.folder:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        rmdir(path, **more)

    monkeypatch.setattr(os, "rmdir", failing)
    with pytest.raises(BackupError, match="Input/output error"):
        partial.publish({"format": 1})
    monkeypatch.undo()
    partial.discard()
    names = {f"{STEM}.rdb", f"{STEM}.globals.sql", f"{STEM}.json"}
    assert {path.name for path in partial.store_dir.iterdir()} == names


def test_what_was_not_begun_can_be_discarded(tmp_path):
    Partial(tmp_path, "redis", "redis", POINT).discard()
    assert not list(tmp_path.iterdir())


def test_a_discarded_backup_takes_no_other_with_it(tmp_path):
    filled(tmp_path).publish({"format": 1})
    before = set(tmp_path.rglob("*"))
    partial = Partial(tmp_path, "redis", "redis", "20261124-031500")
    partial.create()
    partial.artifact.write_bytes(b"half")
    partial.discard()
    assert set(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_called_so(tmp_path, number):
    said = str(Partial(tmp_path, "redis", "redis", POINT).explain(OSError(number, "x")))
    assert said == f"no space left under {tmp_path}/redis: free some, or move stack_backup_dir to a larger disk"


def test_an_error_without_a_name_is_of_the_folder(tmp_path):
    said = str(Partial(tmp_path, "redis", "redis", POINT).explain(OSError(errno.EIO, "broken")))
    assert said == f"{tmp_path}/redis/{STEM}.partial: broken: mend the backup folder's disk, owner or mode"


@pytest.mark.parametrize("size", [0, 1, 1024 * 1024, 1024 * 1024 + 1, 3 * 1024 * 1024 - 1])
def test_a_digest_is_what_sha256sum_says(tmp_path, size):
    (tmp_path / "b").write_bytes(os.urandom(size))
    (tmp_path / "a").write_bytes(b"other")
    lines = subprocess.run(["sha256sum", "a", "b"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    whole = subprocess.run(["sha256sum"], input=lines, capture_output=True, text=True, check=True).stdout.split()[0]
    a, b = (line.split()[0] for line in lines.splitlines())
    assert digest(tmp_path / "b") == {"size": size, "sha256": b}
    files = {"a": {"size": 5, "sha256": a}, "b": {"size": size, "sha256": b}}
    assert digest(tmp_path) == {"size": size + 5, "sha256": whole, "files": files}


def test_a_digest_is_of_files_and_folders_alone(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(BackupError, match="/link is a symbolic link: a backup is a file or a folder$"):
        digest(tmp_path / "link")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BackupError, match="/pipe is a pipe or a device: a backup is a file or a folder$"):
        digest(tmp_path / "pipe")


def test_what_is_free_is_what_a_user_may_write(tmp_path):
    assert artifact.free_bytes(tmp_path) == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.2)


def cached(path):
    """Bytes of a file that are in the page cache."""
    told = subprocess.run(["fincore", "-b", "-n", "-o", "RES", path], capture_output=True, text=True, check=True)
    return int(told.stdout)


@pytest.mark.skipif(not shutil.which("fincore"), reason="no fincore (util-linux)")
def test_what_nobody_reads_soon_leaves_the_page_cache(tmp_path):
    kind = subprocess.run(["stat", "-f", "-c", "%T", tmp_path], capture_output=True, text=True, check=True).stdout
    if kind.strip() == "tmpfs":
        pytest.skip("a tmpfs is memory")
    (tmp_path / "tree").mkdir()
    path = tmp_path / "tree" / "file"
    path.write_bytes(b"x" * 4 * 1024 * 1024)
    artifact.sync(path)
    assert cached(path) >= 3 * 1024 * 1024
    artifact.uncache(tmp_path)
    assert cached(path) <= 1024 * 1024


def test_the_lock_names_its_holder_alone(tmp_path, everybody):
    with Lock(tmp_path):
        assert mode(tmp_path / ".lock") == 0o600
    (tmp_path / ".lock").write_text("12345678901234567890\n")
    with Lock(tmp_path):
        assert (tmp_path / ".lock").read_text() == f"{os.getpid()}\n"
        with pytest.raises(Locked) as caught, Lock(tmp_path):
            pass
    assert str(caught.value) == (
        f"another job of this stack is running (process {os.getpid()}): wait for its end; {tmp_path}/.lock holds the lock"
    )


@pytest.mark.parametrize(
    ("named", "said"), [(os.symlink, "Too many levels of symbolic links"), (os.link, "it is no file of its own")]
)
def test_a_lock_that_is_another_file_is_left_alone(tmp_path, named, said):
    (tmp_path / "precious").write_text("mine")
    named(tmp_path / "precious", tmp_path / ".lock")
    before = set(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for _ in range(3):
        with (
            pytest.raises(BackupError, match=f"/.lock can't be opened: {said}: mend its owner or mode$"),
            Lock(tmp_path),
        ):
            pass
    assert (tmp_path / "precious").read_text() == "mine"
    assert set(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_locks_and_files_leave_nothing_open(tmp_path):
    before = set(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for _ in range(3):
        write_file(tmp_path / "file", b"x")
        digest(tmp_path / "file")
        artifact.uncache(tmp_path)
        with Lock(tmp_path), pytest.raises(Locked), Lock(tmp_path):
            pass
    assert set(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def owner(path):
    told = path.lstat()
    return told.st_uid, told.st_gid


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root writes for others, or asks as somebody else")


@as_root
def test_what_is_handed_over_is_the_link_not_what_it_names(tmp_path):
    (tmp_path / "mine").write_text("x")
    folder = tmp_path / "folder"
    (folder / "tree" / "deep").mkdir(parents=True)
    (folder / "tree" / "deep" / "file").write_text("x")
    (folder / "tree" / "link").symlink_to(tmp_path / "mine")
    os.chown(folder, 4242, 4243)
    artifact.hand_over(folder / "tree" / "link", folder)
    assert owner(folder / "tree" / "link") == (4242, 4243) and owner(tmp_path / "mine")[0] == 0
    assert owner(folder / "tree")[0] == 0
    artifact.hand_over_tree(folder / "tree")
    assert {owner(path) for path in folder.rglob("*")} == {(4242, 4243)} and owner(tmp_path / "mine")[0] == 0


def refusal(folder, asked=check_backup_dir, **more):
    """What is said of a folder to somebody who isn't root."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setresgid(4243, 4243, 4243)
            os.setresuid(4242, 4242, 4242)
            asked(folder, **more)
        except BaseException as error:
            os.write(write, str(error).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return said


@as_root
def test_a_backup_folder_that_can_not_be_used_is_told_with_the_cure():
    with tempfile.TemporaryDirectory() as made:
        top = Path(made)
        top.chmod(0o755)
        folder = top / "backups"
        folder.mkdir()
        assert refusal(top / "gone") == (
            f"the backup folder {top}/gone is missing: create it, or mount its disk (stack_backup_dir)"
        )
        folder.chmod(0o777)
        assert refusal(folder) == ""
        folder.chmod(0o755)
        unwritable = f"the backup folder {folder} is not writable by uid 4242: mend its owner, mode or mount"
        assert refusal(folder) == unwritable and refusal(folder, writable=False) == ""
        assert refusal(folder, catalog.read) == ""  # who only reads needs no more
        for bits in (0o744, 0o711, 0o700):
            folder.chmod(bits)
            assert refusal(folder, writable=False) == (
                f"the backup folder {folder} is not readable by uid 4242: mend its owner or mode"
            )
        top.chmod(0o700)
        assert refusal(folder) == (
            f"the backup folder {folder} can't be seen by uid 4242: Permission denied: "
            "mend the mode of its parents, or set stack_backup_dir"
        )


def test_a_backup_folder_is_a_folder_by_its_whole_path(tmp_path):
    with pytest.raises(
        BackupError, match="^the backup folder 'backups' must be an absolute path: set stack_backup_dir$"
    ):
        check_backup_dir(Path("backups"))
    (tmp_path / "file").write_text("x")
    with pytest.raises(BackupError, match="/file is not a folder: set stack_backup_dir to one$"):
        check_backup_dir(tmp_path / "file")
