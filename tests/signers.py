"""Keys of OpenSSH as a person makes them, and hosts whose backups they sign."""

import subprocess

from stack_backup import catalog, chain, signing

from tests.world import STORES, World, point_id


class Pair:
    """A key pair in a folder."""

    def __init__(self, folder, name="key", passphrase="", kind="ed25519"):
        self.file = folder / name
        argv = ["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", "who@where", "-f", str(self.file)]
        subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)
        self.public = self.file.with_suffix(".pub").read_text().strip()

    def sign(self, path, namespace="stack-backup"):
        """By hand, as docs/signing.md tells."""
        signing.signature_path(path).unlink(missing_ok=True)
        argv = ["ssh-keygen", "-q", "-Y", "sign", "-f", str(self.file), "-n", namespace, str(path)]
        subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, capture_output=True)


class SignedWorld(World):
    """Backups that are signed, and their chain."""

    def __init__(self, folder, now=None):
        super().__init__(folder, now)
        self.keys = folder / "keys"
        self.keys.mkdir()
        self.pair = Pair(self.keys)
        self.signed = {"sign_key": str(self.pair.file), "allowed_signers": [self.pair.public]}
        self.more = {"allowed_signers": [self.pair.public]}
        self.key = signing.key_of({**self.signed, "stack": "shop", "backup_dir": str(self.backups)})

    def point(self, when, size=10000):
        """As a backup publishes it."""
        chain.begin(self.backups, "shop", self.key, when)
        made = super().point(when, size)
        listed = self.read().manifests[point_id(when)]
        chain.extend(self.backups, "shop", self.key, when, {point_id(when): listed})
        return made

    def read(self, **given):
        signers = signing.signers_of({"allowed_signers": [self.pair.public], **given})
        return catalog.read(self.backups, "shop", signers=signers)

    def manifest(self, when, store):
        return self.backups / store / f"{store}-{point_id(when)}.json"

    def wrong(self):
        """What signatures and the chain show, by kind and file."""
        return {(item["problem"], item["path"].rpartition("/")[2]) for item in self.read().problems}

    def remove(self, when, stores=tuple(STORES)):
        """As somebody does who is no prune."""
        for store in stores:
            for path in (self.backups / store).glob(f"*{point_id(when)}*"):
                path.unlink()
