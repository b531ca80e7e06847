"""What the lying proxy does is what rclone meets: each fault shows, and without one nothing is changed."""

import endpoints
import lying
import pytest

DATA = bytes(range(256)) * 5000


@pytest.fixture(scope="module")
def remote(tmp_path_factory):
    with endpoints.s3(tmp_path_factory.mktemp("remote")) as remote:
        yield remote


@pytest.fixture
def liar(remote):
    with lying.proxy(remote) as liar:
        yield liar


@pytest.fixture
def source(tmp_path):
    (tmp_path / "a.dump").write_bytes(DATA)
    return tmp_path


@pytest.fixture
def prefix(request, remote):
    """Each test's own place at the remote, and where it lies on disk."""
    return request.node.name, remote.folder / request.node.name


def put(method, _path):
    return method == "PUT"


def get(method, path):
    return method == "GET" and "a.dump" in path


def test_without_a_fault_all_is_passed_on(liar, source, prefix):
    name, folder = prefix
    assert liar.remote.rclone("copy", source, liar.remote.path(name)).returncode == 0
    assert (folder / "a.dump").read_bytes() == DATA
    assert liar.remote.rclone("check", "--download", source, liar.remote.path(name)).returncode == 0
    wrong = liar.remote.having(**liar.remote.wrong)
    assert "SignatureDoesNotMatch" in wrong.rclone("lsf", wrong.path(name)).stderr


def test_an_object_is_dropped_and_only_the_listing_tells(liar, source, prefix):
    name, folder = prefix
    liar.fault = lying.drop
    result = liar.remote.rclone("copy", source, liar.remote.path(name))
    assert result.returncode == 0, result.stderr
    assert not (folder / "a.dump").exists()
    assert "1 differences" in liar.remote.rclone("check", source, liar.remote.path(name)).stderr


def test_an_upload_is_cut_and_goes_through_later(liar, source, prefix):
    name, folder = prefix
    liar.fault, liar.when = lying.cut, put
    assert liar.remote.rclone("copy", source, liar.remote.path(name)).returncode != 0
    assert not (folder / "a.dump").exists() or (folder / "a.dump").read_bytes() != DATA
    liar.fault = lying.honest
    assert liar.remote.rclone("copy", source, liar.remote.path(name)).returncode == 0
    assert (folder / "a.dump").read_bytes() == DATA


@pytest.mark.parametrize("fault", [lying.cut, lying.alter, lying.truncate])
def test_a_download_is_not_what_is_there(liar, source, prefix, fault):
    name, _ = prefix
    assert liar.remote.rclone("copy", source, liar.remote.path(name)).returncode == 0
    liar.fault, liar.when = fault, get
    result = liar.remote.rclone("copy", liar.remote.path(name), source / "back")
    assert result.returncode != 0 and not (source / "back/a.dump").exists()


@pytest.mark.parametrize(("status", "code"), [(403, "AccessDenied"), (507, "QuotaExceeded")])
def test_an_upload_is_refused(liar, source, prefix, status, code):
    name, folder = prefix
    liar.fault, liar.when = lying.refuse(status, code), put
    result = liar.remote.rclone("copy", source, liar.remote.path(name))
    assert result.returncode != 0 and code in result.stderr and str(status) in result.stderr
    assert not (folder / "a.dump").exists()


def test_a_slow_remote_is_slow(liar, source, prefix):
    name, _ = prefix
    liar.fault, liar.when = lying.slow(5), put
    result = liar.remote.rclone("copy", "--max-duration", "1s", "--cutoff-mode", "hard", source, liar.remote.path(name))
    assert result.returncode == 10, result.stderr
