"""Signatures of manifests by OpenSSH's ssh-keygen. The one place that knows of it.

A manifest has the sha256 of all that belongs to its backup, so that its signature is one of the whole backup. What is
signed or verified is the very bytes that are written or used: they go in by a pipe, signature and keys by memory files.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import time
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path
from typing import Any, Mapping, Optional, Sequence

from .errors import BackupError
from .process import Deadline, Result, run

__all__ = ["LARGEST", "SUFFIX", "Key", "Signers", "key_of", "signature_path", "signers_of"]

PROGRAM = "ssh-keygen"
NAMESPACE = "stack-backup"  # what else the key signs is no signature of a backup
SUFFIX = ".sig"
LARGEST = 64 * 1024  # bytes of a signature; the longest keys' have less than 3 KiB
_TIME = 600.0  # seconds for all signatures of a catalog, where a job has no time limit of its own
_ONE = 60.0  # seconds for one
_PUBLIC = re.compile(r"(?:^|\s)(?:sk-)?(?:ssh|ecdsa)-[a-z0-9-]+(?:@openssh\.com)?\s+[A-Za-z0-9+/]+={0,3}(?=\s|$)")
_FINGERPRINT = re.compile(r"key (SHA256:\S+)")


def signature_path(manifest: Path) -> Path:
    """Where the signature of a manifest is."""
    return manifest.with_name(manifest.name + SUFFIX)


def _need_program(why: str) -> None:
    if shutil.which(PROGRAM) is None:
        raise BackupError(
            f"the program ssh-keygen is not on this host's PATH, and {why}: install it (apt-get install openssh-client)"
        )


def _deadline(params: Mapping[str, Any]) -> Deadline:
    return Deadline(float(params.get("timeout") or _TIME))


class Signers:
    """Who may sign the backups of a stack. Safe to use from several threads.

    ``proven``: the names of the proofs that were made. Who looks again and again keeps them, where nobody else writes, and
    gives them as ``known``: what was proven need not be proven again.
    """

    def __init__(self, lines: Sequence[str], deadline: Deadline) -> None:
        """``lines``: as in an ``allowed_signers`` file; a principal is a stack's name or a pattern of it, ``*`` is any."""
        self.lines = tuple(lines)
        self._deadline = deadline
        self.known: set[str] = set()
        self.proven: set[str] = set()

    def fault(self, data: bytes, signature: bytes, stack: str, at: Optional[float]) -> str:
        """Why this is no signature of ``data`` by who may sign for ``stack``, then; empty when it is one.

        ``at``: when it was made, seconds since 1970, for keys that are valid for a time only.
        """
        if not stack.isprintable():
            return "it names no stack"
        digests = [hashlib.sha256(part).hexdigest() for part in (data, signature)]
        proof = hashlib.sha256(repr((digests, stack, at, self.lines)).encode()).hexdigest()
        fault = "" if proof in self.known else self._fault(data, signature, stack, at)
        if not fault:
            self.proven.add(proof)
        return fault

    def _fault(self, data: bytes, signature: bytes, stack: str, at: Optional[float]) -> str:
        # verify-time is the host's local time: ssh-keygen(1) before OpenSSH 9.1 takes no other.
        when = time.strftime("%Y%m%d%H%M%S", time.localtime(at)) if at is not None else ""
        valid = (f"-Overify-time={when}",) if when and any("valid-" in line for line in self.lines) else ()
        done = self._run("verify", data, signature, "-I", stack, *valid)
        if not done.code:
            return ""
        # Whose it is, where it is one at all.
        by = self._run("check-novalidate", data, signature)
        if by.code:
            return "its signature is not of what it says: it was changed, or the signature was"
        key = _FINGERPRINT.search(by.out)
        return (
            f"it is signed by the key {key[1] if key else '?'}, which backup_allowed_signers does not name for stack "
            f"{stack} at that time"
        )

    def _run(self, action: str, data: bytes, signature: bytes, *more: str) -> Result:
        with ExitStack() as opened:
            files = []
            for content in (signature, "".join(f"{line}\n" for line in self.lines).encode()):
                files.append(os.memfd_create(NAMESPACE))
                opened.callback(os.close, files[-1])
                with os.fdopen(files[-1], "wb", closefd=False) as file:
                    file.write(content)
            allowed = ("-f", f"/dev/fd/{files[1]}") if action == "verify" else ()
            argv = [PROGRAM, "-Y", action, "-n", NAMESPACE, "-s", f"/dev/fd/{files[0]}", *allowed, *more]
            done = run(argv, deadline=self._deadline, feed=BytesIO(data), at_most=_ONE, holds=files)
        if done.code < 0:
            raise BackupError(f"ssh-keygen was ended by signal {-done.code} while it verified a signature: try again")
        return done


def _line(text: str) -> str:
    """One line of ``allowed_signers``; a public key alone may sign for any stack. Raises BackupError."""
    if "PRIVATE KEY" in text:
        raise BackupError(
            "backup_allowed_signers holds a private key: put its public key there, and take the private one for disclosed"
        )
    found = _PUBLIC.search(text)
    if not found:
        raise BackupError(
            f"{text!r} in backup_allowed_signers is no public key and no line of an allowed_signers file: give "
            "ssh-ed25519 …, or a stack's name and that"
        )
    return text if found.start() else f"* {text}"


def signers_of(params: Mapping[str, Any]) -> Optional[Signers]:
    """Who may sign, by the parameters of a job; None where signatures are not asked for. Raises BackupError."""
    given = [line.strip() for item in params.get("allowed_signers") or [] for line in str(item).splitlines()]
    lines = [_line(text) for text in given if text and not text.startswith("#")]
    if not lines:
        if params.get("allowed_signers"):
            raise BackupError(
                "backup_allowed_signers holds no key: give one, or an empty list to ask for no signatures"
            )
        return None
    _need_program("signatures are to be verified (backup_allowed_signers)")
    return Signers(lines, _deadline(params))


class Key:
    """The private key that signs, without a passphrase. ``trust``: itself, and who else may sign."""

    def __init__(self, path: Path, public: str, allowed: Optional[Signers], deadline: Deadline) -> None:
        self.path, self.public, self._deadline = path, public, deadline
        self.trust = Signers((f"* {public}", *(allowed.lines if allowed else ())), deadline)

    def sign(self, data: bytes) -> bytes:
        """The signature of ``data``. Raises BackupError."""
        argv = [PROGRAM, "-q", "-Y", "sign", "-f", str(self.path), "-n", NAMESPACE]
        done = run(argv, deadline=self._deadline, feed=BytesIO(data), at_most=_ONE)
        if done.code or not done.out.startswith("-----BEGIN SSH SIGNATURE-----"):
            raise BackupError(f"ssh-keygen does not sign with backup_sign_key {self.path}: {done.reason()}")
        return done.out.encode()


def key_of(params: Mapping[str, Any]) -> Optional[Key]:
    """The key of a job, proven by a signature that who reads the backups would take; None where there is none.

    Raises BackupError for a key that can't sign unattended, or whose signatures would be refused.
    """
    allowed, given = signers_of(params), params.get("sign_key")
    if not given:
        if allowed:
            raise BackupError(
                "backup_allowed_signers is set and backup_sign_key is not, so that a backup made now would be refused at its "
                "restore: set backup_sign_key, or leave backup_allowed_signers empty"
            )
        return None
    _need_program("backups are to be signed (backup_sign_key)")
    path, deadline = Path(given), _deadline(params)
    _check_file(path, Path(params["backup_dir"]))
    # With -P it never asks; to sign it would, at a terminal or by what SSH_ASKPASS names.
    done = run([PROGRAM, "-y", "-P", "", "-f", str(path)], deadline=deadline, at_most=_ONE)
    if done.code and "passphrase" in done.err:
        raise BackupError(
            f"backup_sign_key {path} has a passphrase, which nobody could type at night: give a key without "
            f"(ssh-keygen -p -N '' -f {path})"
        )
    if done.code:
        raise BackupError(
            f"backup_sign_key {path} is no private key: {done.reason()}: see docs/signing.md for how to make one"
        )
    key = Key(path, " ".join(done.out.split()[:2]), allowed, deadline)
    trial = b"stack-backup\n"
    signature = key.sign(trial)
    stack = str(params["stack"])
    if allowed and allowed.fault(trial, signature, stack, time.time()):
        raise BackupError(
            f"backup_allowed_signers does not name the key of backup_sign_key {path} for stack {stack}, so that a backup made "
            f"now would be refused at its restore: add its public key there: {key.public}"
        )
    return key


def _check_file(path: Path, backup_dir: Path) -> None:
    if not path.is_absolute():
        raise BackupError(f"backup_sign_key {str(path)!r} must be an absolute path")
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise BackupError(
            f"backup_sign_key {path} can't be read by uid {os.getuid()}: {error.strerror}: see docs/signing.md for how to "
            "make one"
        ) from None
    if mode & 0o077:
        raise BackupError(f"backup_sign_key {path} can be read by others: chmod 600 {path}")
    if backup_dir.resolve() in path.resolve().parents:
        raise BackupError(
            f"backup_sign_key {path} is in the backup folder, where who may change backups would have it too: move it away"
        )
