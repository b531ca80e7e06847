"""A small disk of its own for the backups: it gets full, and it loses what was not synced when the power goes."""

import subprocess

SIZE = "192M"  # a backup wants 64 MiB free beside what it writes


def sh(*argv):
    subprocess.run(argv, check=True, capture_output=True)


class Disk:
    """An ext4 in a file, mounted on a folder."""

    def __init__(self, folder):
        self.image, self.crashed, self.mount = folder / "disk.img", folder / "crashed.img", folder / "disk"
        self.mount.mkdir()

    def make(self):
        sh("truncate", "--size", SIZE, str(self.image))
        sh("mkfs.ext4", "-q", "-F", "-m", "0", str(self.image))
        self._mount()

    def _mount(self):
        # Nothing is written but what was synced, as far as that can be: no commit of the journal by the clock.
        sh("mount", "-o", "loop,commit=3600", str(self.image), str(self.mount))

    def unmount(self):
        subprocess.run(["umount", "--lazy", str(self.mount)], capture_output=True, check=False)

    def come_back(self):
        """The machine starts again: the disk is what it was when the power went."""
        sh("umount", str(self.mount))
        self.crashed.replace(self.image)
        self._mount()

    def hands(self):
        """Shell commands: see Stack.hands."""
        free = f"$(df --output=avail --block-size=1 {self.mount} | tail -1)"
        return {
            "disk full": f"fallocate --length {free} {self.mount}/filler",
            "power": f"cp --sparse=always {self.image} {self.crashed}",
        }

    def empty(self):
        """Room again."""
        (self.mount / "filler").unlink(missing_ok=True)
