"""Encryption at rest by the program age: streams on their way to disk, and back. The one place that knows of it.

Plain data passes through pipes and memory only. A Python thread in the middle counts and hashes it.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import os
import re
import select
import shutil
import threading
from contextlib import ExitStack, contextmanager
from io import BytesIO
from pathlib import Path
from typing import IO, Any, Callable, Iterator, Mapping, Optional, Sequence, Union

from .errors import BackupError
from .process import Deadline, Readable, Result, run

__all__ = [
    "PROGRAM",
    "SUFFIX",
    "Identity",
    "Sealing",
    "check_pair",
    "check_recipients",
    "identity_of",
    "peek",
    "unseal",
]

PROGRAM = "age"
SUFFIX = ".age"
_BLOCK = 1024 * 1024
_WAKE = 200  # ms: how long a reader sleeps before it looks at the deadline again
_HEAD = 64 * 1024
_SET_PIPE_SIZE = 1031  # fcntl.h, F_SETPIPE_SZ: Python has the name from 3.10 on
_RECIPIENT = re.compile(r"age1[02-9ac-hj-np-z]+|ssh-(ed25519|rsa) [A-Za-z0-9+/]+={0,3}( [^\n\r]*)?")
_SECRET = re.compile(r"AGE-(SECRET-KEY|PLUGIN)|PRIVATE KEY", re.IGNORECASE)
_PEM = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----\n(.*?)-----END \1-----\n?", re.DOTALL)
_IDENTITY_MAX = 32 * 1024  # it is handed over in a pipe, which holds twice as much


def _widen(descriptor: int) -> None:
    """Let a pipe hold more: fewer switches between the programs at its ends. As much as the kernel allows."""
    try:
        fcntl.fcntl(descriptor, _SET_PIPE_SIZE, _BLOCK)
    except OSError:
        pass


def _said(result: Result) -> str:
    """age's own words, without its prefix and the address for reports."""
    lines = [line for line in result.err.splitlines() if line.strip() and "filippo.io" not in line]
    return "; ".join(line.replace("age: error: ", "") for line in lines[-3:]) or result.reason()


def _need_program(why: str) -> None:
    if shutil.which(PROGRAM) is None:
        raise BackupError(f"the program age is not on this host's PATH, and {why}: install it (apt-get install age)")


def check_recipients(given: Sequence[str], deadline: Deadline) -> tuple[str, ...]:
    """The public keys to encrypt to, each proven by a run of age. Raises BackupError that names the one that is none."""
    recipients = tuple(item.strip() for item in given)
    for number, item in enumerate(recipients, 1):
        if _SECRET.search(item):
            raise BackupError(
                f"recipient {number} of backup_age_recipients is a secret key: put its public key there, "
                "and take the secret one for disclosed"
            )
        if not _RECIPIENT.fullmatch(item):
            raise BackupError(
                f"{item!r} in backup_age_recipients is no recipient: give public keys, age1…, ssh-ed25519 … or ssh-rsa …"
            )
    if recipients:
        _need_program("backups are to be encrypted (backup_age_recipients)")
        if _trial(recipients, deadline).code:
            for item in recipients:
                result = _trial([item], deadline)
                if result.code:
                    raise BackupError(f"age does not take {item!r} in backup_age_recipients: {_said(result)}")
    return recipients


def _encrypt(recipients: Sequence[str]) -> list[str]:
    return [PROGRAM, "--encrypt", *(arg for item in recipients for arg in ("--recipient", item))]


def _trial(recipients: Sequence[str], deadline: Deadline) -> Result:
    return run(_encrypt(recipients), deadline=deadline, at_most=60)


class Identity:
    """The secret keys that decrypt, held in memory: handed to age by a pipe, never by disk, argv or environment."""

    def __init__(self, text: str) -> None:
        text = text.replace("\r\n", "\n").strip() + "\n"
        if len(text.encode()) > _IDENTITY_MAX:
            raise BackupError(f"the age identity is longer than {_IDENTITY_MAX} bytes: it is not one")
        if "-----BEGIN AGE ENCRYPTED" in text or text.startswith("age-encryption.org/"):
            raise BackupError("the age identity has a passphrase, which nobody could type here: give one without")
        # age takes one SSH key per file, and any number of its own.
        blocks = [match.group() for match in _PEM.finditer(text)]
        for block in blocks:
            _refuse_passphrase(block)
        rest = _PEM.sub("", text)
        keys = [line for line in rest.splitlines() if line.strip() and not line.startswith("#")]
        if any(not line.startswith("AGE-SECRET-KEY-1") for line in keys) or not (keys or blocks):
            raise BackupError(
                "the age identity is none: give the text of AGE-SECRET-KEY-1… or of an SSH private key without passphrase"
            )
        self._files = [*(["\n".join(keys) + "\n"] if keys else []), *blocks]

    @contextmanager
    def files(self) -> Iterator[list[int]]:
        """Descriptors from which the keys can be read, once."""
        with ExitStack() as opened:
            descriptors = []
            for text in self._files:
                read, write = os.pipe()
                opened.callback(os.close, read)
                with os.fdopen(write, "wb") as file:
                    file.write(text.encode())
                descriptors.append(read)
            yield descriptors


def _refuse_passphrase(block: str) -> None:
    """Raise BackupError for an SSH key with a passphrase. Source: OpenSSH PROTOCOL.key; RFC 1421, "Proc-Type"."""
    locked = "ENCRYPTED" in block
    if "BEGIN OPENSSH PRIVATE KEY" in block:
        try:
            data = base64.b64decode("".join(block.splitlines()[1:-1]))
        except ValueError:
            raise BackupError("the age identity is a damaged SSH key: give the whole text of its file") from None
        magic = b"openssh-key-v1\0"
        length = int.from_bytes(data[len(magic) : len(magic) + 4], "big")
        locked = data[len(magic) + 4 : len(magic) + 4 + length] != b"none"
    if locked:
        raise BackupError("the SSH key has a passphrase, which nobody could type here: give an identity without")


def identity_of(params: Mapping[str, Any]) -> Optional[Identity]:
    """The identity of a job: the text that it was given, or the file on this host that holds it."""
    text, path = params.get("age_identity"), params.get("age_identity_file")
    if text and path:
        raise BackupError("give age_identity or age_identity_file, not both")
    if path:
        try:
            if Path(path).stat().st_mode & 0o077:
                raise BackupError(f"age_identity_file {path} can be read by others: chmod 600 {path}")
            text = Path(path).read_text(encoding="utf-8")
        except OSError as error:
            raise BackupError(
                f"age_identity_file {path}: {error.strerror}: set the path of the secret key's file"
            ) from None
        except UnicodeDecodeError:
            raise BackupError(f"age_identity_file {path} is no text, so no identity") from None
    if not text:
        return None
    _need_program("encrypted backups are to be read (age_identity)")
    return Identity(text)


class _Plain:
    """Plain data on its way through this process: read once, counted and hashed."""

    def __init__(self, descriptor: int, deadline: Deadline) -> None:
        self._descriptor, self._deadline = descriptor, deadline
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)
        self._sha = hashlib.sha256()
        self._size = 0
        self.ended = False  # the end was read

    def _next(self, size: int) -> bytes:
        while not self._poll.poll(_WAKE):
            self._deadline.left()
        return os.read(self._descriptor, size)

    def _count(self, chunk: bytes) -> bytes:
        self._sha.update(chunk)
        self._size += len(chunk)
        return chunk

    def read(self, size: int = _BLOCK) -> bytes:
        """The next bytes; none at the end."""
        chunk = self._count(self._next(size))
        self.ended = not chunk
        return chunk

    @property
    def digest(self) -> dict[str, Any]:
        """``size`` and ``sha256`` of what was read."""
        return {"size": self._size, "sha256": self._sha.hexdigest()}


class _Witness:
    """Somebody who reads the plain data too, for as long as they like, and has something to say about it."""

    def __init__(self, work: Callable[[Readable], Any]) -> None:
        self._work = work
        self._answer: Any = None
        self._error: Optional[Exception] = None
        read, write = os.pipe()
        _widen(write)
        self._read, self._write = os.fdopen(read, "rb", buffering=0), os.fdopen(write, "wb", buffering=0)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            with self._read:
                self._answer = self._work(self._read)
        except (BackupError, OSError) as error:
            self._error = error

    def tell(self, chunk: bytes) -> None:
        """Hand on what they still want to hear."""
        rest = memoryview(chunk)
        try:
            while rest and not self._write.closed:
                rest = rest[self._write.write(rest) :]
        except BrokenPipeError:
            self._write.close()

    def close(self) -> None:
        """Nothing more comes: wait for their end."""
        self._write.close()
        self._thread.join()

    def answer(self) -> Any:
        """What they say in the end. Raises what went wrong with them."""
        self.close()
        if self._error:
            raise self._error
        return self._answer


class _Outgoing(_Plain):
    """What a program writes, on its way to age. It never raises: an error ends it, and ``error`` tells."""

    def __init__(
        self,
        descriptor: int,
        deadline: Deadline,
        *,
        witness: Optional[_Witness],
        hold: int,
        cut: Optional[Callable[[bytes, int, Any], int]],
    ) -> None:
        super().__init__(descriptor, deadline)
        self._witness, self._hold, self._cut = witness, hold, cut
        self._held = b""
        self._stopped = False
        self.arrived = 0
        self.head = b""
        self.seen: Any = None
        self.error: Optional[Exception] = None

    def stop(self) -> None:
        """What comes now is for nobody: the writer failed."""
        self._stopped = True

    def _next(self, size: int) -> bytes:
        while not self._poll.poll(_WAKE):
            self._deadline.left()
            if self._stopped:
                return b""
        return b"" if self._stopped else os.read(self._descriptor, size)

    def read(self, size: int = _BLOCK) -> bytes:
        try:
            while not self.ended and not self._stopped:
                chunk = self._pass(self._next(size))
                if chunk:
                    return self._count(chunk)
        except (BackupError, OSError) as error:
            self.error = error
        return b""

    def _pass(self, chunk: bytes) -> bytes:
        """Of what has arrived, what can go on to age."""
        if not chunk:
            if self._stopped:
                return b""
            if self._witness:
                self.seen = self._witness.answer()
            cut = self._cut(self._held, self.arrived, self.seen) if self._cut else 0
            self.ended = True
            return self._held[: len(self._held) - cut]
        self.arrived += len(chunk)
        if len(self.head) < _HEAD:
            self.head += chunk[: _HEAD - len(self.head)]
        if self._witness:
            self._witness.tell(chunk)
        if not self._hold:
            return chunk
        chunk = self._held + chunk
        self._held = chunk[-self._hold :]
        return chunk[: len(chunk) - len(self._held)]


class Sealing:
    """One file on its way to disk, encrypted.

    ``witness`` reads the plain data too, as far as it likes; ``seen`` is what it returned. With ``hold``, that many
    last bytes wait until the end, where ``cut(those bytes, size of all, seen)`` says how many are to be left out.
    """

    def __init__(
        self,
        target: Path,
        recipients: Sequence[str],
        deadline: Deadline,
        *,
        witness: Optional[Callable[[Readable], Any]] = None,
        hold: int = 0,
        cut: Optional[Callable[[bytes, int, Any], int]] = None,
    ) -> None:
        self._target, self._recipients, self._deadline = target, recipients, deadline
        self._work, self._hold, self._cut = witness, hold, cut
        self._plain: Optional[_Outgoing] = None
        self._outcome: Union[Result, BackupError, OSError, None] = None

    def run(self, write: Callable[[Path, IO[bytes]], Result]) -> Result:
        """Encrypt what ``write`` has a program write: into the named pipe beside the target, or into the open file.

        Its result is given back; when that is a failure nothing of the rest counts. Raises BackupError when age, the
        witness or the cut fails.
        """
        pipe = self._target.with_name(f"{self._target.name}.pipe")  # dump and roles are written at once
        with ExitStack() as opened:
            os.mkfifo(pipe, 0o600)
            opened.callback(pipe.unlink)
            # Both ends are ours: neither waits for the other, and there is an end only when the program has ended.
            reader = os.fdopen(os.open(pipe, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0)
            opened.callback(reader.close)
            writer = os.fdopen(os.open(pipe, os.O_WRONLY), "wb", buffering=0)
            opened.callback(writer.close)
            os.set_blocking(reader.fileno(), True)
            _widen(reader.fileno())
            witness = _Witness(self._work) if self._work else None
            if witness:
                opened.callback(witness.close)
            plain = self._plain = _Outgoing(
                reader.fileno(), self._deadline, witness=witness, hold=self._hold, cut=self._cut
            )
            encrypting = threading.Thread(target=self._encrypt, args=(plain, reader), daemon=True)
            encrypting.start()
            try:
                result = write(pipe, writer)
                if result.code:
                    plain.stop()
            except BaseException:
                plain.stop()
                raise
            finally:
                writer.close()
                encrypting.join()
        self._judge(plain, result)
        return result

    def _encrypt(self, plain: _Outgoing, reader: IO[bytes]) -> None:
        try:
            # With age gone nobody reads on: a closed pipe ends the writer too.
            with reader, self._target.open("wb") as file:
                self._outcome = run(_encrypt(self._recipients), deadline=self._deadline, feed=plain, out=file)
        except (BackupError, OSError) as error:
            self._outcome = error

    def _judge(self, plain: _Outgoing, result: Result) -> None:
        outcome = self._outcome
        if not isinstance(outcome, Result):
            raise outcome or BackupError("age was not run")
        if outcome.code:
            said = _said(outcome)
            if "no space left" in said.lower():
                raise BackupError(f"no space left in the backup folder (age: {said})")
            raise BackupError(f"age did not encrypt {self._target.name} to its end: {said}")
        if not result.code and plain.error:
            raise plain.error
        if not result.code and not plain.ended:
            raise BackupError(f"{self._target.name} was not encrypted to its end")

    @property
    def _data(self) -> _Outgoing:
        if self._plain is None:
            raise BackupError(f"{self._target.name} was not encrypted yet")
        return self._plain

    @property
    def arrived(self) -> int:
        """Bytes that have come so far."""
        return self._plain.arrived if self._plain else 0

    @property
    def head(self) -> bytes:
        """The first bytes of the plain data, 64 KiB at most."""
        return self._data.head

    @property
    def seen(self) -> Any:
        """What the witness said."""
        return self._data.seen

    def describe(self) -> dict[str, Any]:
        """What the manifest tells of the encryption."""
        return {"program": PROGRAM, "recipients": list(self._recipients), "plain": self._data.digest}


def _decrypt(keys: Sequence[int]) -> list[str]:
    return [PROGRAM, "--decrypt", *(arg for key in keys for arg in ("--identity", f"/dev/fd/{key}"))]


@contextmanager
def unseal(
    path: Path, identity: Identity, deadline: Deadline, plain: Optional[Mapping[str, Any]] = None
) -> Iterator[Readable]:
    """The plain data of an encrypted file. What the block leaves is read too, and compared with the digest ``plain``.

    Raises BackupError when the identity does not fit, the file is damaged, or the digest is another. A block that
    wants no more raises: then nothing is proven.
    """
    read, write = os.pipe()
    _widen(write)
    outcome: list[Union[Result, BackupError]] = []

    def decrypt() -> None:
        with identity.files() as keys, os.fdopen(write, "wb") as out:
            try:
                outcome.append(run([*_decrypt(keys), str(path)], deadline=deadline, out=out, holds=keys))
            except BackupError as error:
                outcome.append(error)

    decrypting = threading.Thread(target=decrypt, daemon=True)
    decrypting.start()
    incoming = _Plain(read, deadline)
    try:
        yield incoming
        while incoming.read():
            pass
    except BaseException as error:
        os.close(read)
        decrypting.join()
        if incoming.ended and isinstance(error, BackupError):
            _judge(path, outcome[0])  # what its reader complains of began here
        raise
    os.close(read)
    decrypting.join()
    _judge(path, outcome[0])
    if plain is not None and incoming.digest != {"size": plain["size"], "sha256": plain["sha256"]}:
        raise BackupError(
            f"{path.name} decrypts to other data than was encrypted: its sha256 is {incoming.digest['sha256']}, "
            f"the manifest says {plain['sha256']}"
        )


def _judge(path: Path, outcome: Union[Result, BackupError]) -> None:
    if isinstance(outcome, BackupError):
        raise outcome
    if not outcome.code:
        return
    said = _said(outcome)
    if "no identity matched" in said:
        raise BackupError(f"the age identity does not decrypt {path}: give that of one of its recipients")
    if "/dev/fd/" in said:  # not its words: they may quote the key
        raise BackupError("age can't read the identity: give the whole text of the secret key")
    raise BackupError(f"age does not decrypt {path}: {said}")


class _Enough(Exception):
    pass


def peek(path: Path, identity: Identity, deadline: Deadline, size: int = 1) -> bytes:
    """The first ``size`` bytes of the plain data. Raises BackupError when the identity does not fit."""
    data = b""
    try:
        with unseal(path, identity, deadline) as plain:
            while len(data) < size and (chunk := plain.read(size - len(data))):
                data += chunk
            if len(data) == size:
                raise _Enough
    except _Enough:
        pass
    return data


def check_pair(recipients: Sequence[str], identity: Optional[Identity], deadline: Deadline) -> None:
    """Raise BackupError unless ``identity`` decrypts what is encrypted to ``recipients``."""
    if not recipients:
        return
    trial = run([*_encrypt(recipients), "--armor"], deadline=deadline, at_most=60).out.encode()
    if identity is not None:
        with identity.files() as keys:
            if not run(_decrypt(keys), deadline=deadline, feed=BytesIO(trial), holds=keys, at_most=60).code:
                return
    raise BackupError(
        "restore_method: in_place goes back by the safety backup, which is encrypted to backup_age_recipients: "
        "give the identity of one of them, beside those that the backup needs"
    )
