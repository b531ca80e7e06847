"""The moves in a server's data folder, by a throw-away container that has the server's volumes.

``<data folder>/.stack-backup-<id>/`` holds ``new/`` (staged), ``old/`` (moved out of the way) and, while a restore is
undone, ``aside/``. Every move is one rename within the volume, and what has been done is read from where things lie:

- no ``old/``: the switch has not begun, whatever lies in the data folder is the old data;
- ``new/<top>`` is there: the new data was not put in place yet; it is not there: it was;
- ``undone`` is there: the new data is out of the way again, the old is on its way back.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

from ..catalog import Backup
from ..containers import MOUNT, Container, Docker, SideContainer
from ..errors import BackupError
from ..process import Readable, Result
from .layout import Layout

__all__ = ["BACK", "SWITCH", "Files"]

# busybox has neither `sync -f` everywhere nor `mv -T`; no target exists when something is moved.
_HEAD = """set -eu
there() { [ -e "$1" ] || [ -L "$1" ]; }
settle() { sync -f "$1" 2>/dev/null || sync; }
home=$1 dir=${1%/*}; shift
"""
_STAGE = (
    _HEAD
    + """rdb=$1 target=$2 manifest=$3 line=$4 owner=$5 mode=$6 folder_mode=$7
umask 077
mkdir "$home" "$home/new"
case $target in */*) mkdir "$home/new/${target%/*}"; chmod "$folder_mode" "$home/new/${target%/*}" ;; esac
if [ "$rdb" = - ]; then cat >"$home/new/$target"; else cp -- "$rdb" "$home/new/$target"; fi
chmod "$mode" "$home/new/$target"
if [ -n "$manifest" ]; then printf '%s\\n' "$line" >"$home/new/$manifest"; chmod "$mode" "$home/new/$manifest"; fi
chown -R "$owner" "$home"
settle "$home"
"""
)
SWITCH = (
    _HEAD
    + """top=$1; shift
there "$home/new/$top" || { echo "nothing is staged there" >&2; exit 1; }
mkdir "$home/old"
for name; do if there "$dir/$name"; then mv "$dir/$name" "$home/old/$name"; fi; done
settle "$home"
mv "$home/new/$top" "$dir/$top"
settle "$home"
"""
)
BACK = (
    _HEAD
    + """stopped=$1 top=$2; shift 2
if [ -d "$home/old" ]; then
  if [ -z "$stopped" ]; then exit 4; fi
  mkdir -p "$home/aside"
  placed=; if ! there "$home/new/$top" && ! there "$home/undone"; then placed=1; fi
  for name; do
    # Where the old one waits in old/, or the new data was live, what lies here is not the old one.
    if there "$dir/$name" && { [ -n "$placed" ] || there "$home/old/$name"; }; then
      n=0; while there "$home/aside/$n-$name"; do n=$((n + 1)); done
      mv "$dir/$name" "$home/aside/$n-$name"
    fi
  done
  : >"$home/undone"
  settle "$home"
  for name; do if there "$home/old/$name"; then mv "$home/old/$name" "$dir/$name"; fi; done
  settle "$home"
  rmdir "$home/old"
fi
rm -rf "$home"
"""
)
_DROP = (
    _HEAD
    + """if there "$home/old" && { there "$home/new/$1" || there "$home/undone"; }; then exit 3; fi
# Half removed it would be taken for the old data: so it loses its name first.
if there "$home"; then mv "$home" "$home.dropped"; fi
rm -rf "$home.dropped"
"""
)


class Files:
    """What one restore does in one data folder, as its ``state`` names it."""

    def __init__(
        self, docker: Docker, container: Container, backup_dir: Path, store: str, state: dict[str, Any]
    ) -> None:
        self._docker, self._container = docker, container
        self._backup_dir, self._store = backup_dir, store
        self._home = str(state["home"])
        self._state = state
        self._layout = Layout(**state["layout"])

    def stage(self, backup: Backup) -> None:
        """Copy the RDB into ``new/``, as the server's own files are; decrypted on its way there."""
        layout, state = self._layout, self._state
        rest = [layout.rdb, layout.manifest, layout.manifest_line, state["owner"], state["mode"], state["folder_mode"]]
        failure = "the new data can't be staged"
        if backup.encrypted:
            with backup.stream(self._docker.deadline) as feed:
                self._must(self._run(_STAGE, "-", *rest, feed=feed), failure)
            return
        rdb = f"{MOUNT}/{backup.artifact.name}"
        self._must(self._run(_STAGE, rdb, *rest, folder=backup.artifact.parent), failure)

    def switch(self) -> None:
        """Move the old data to ``old/``, the new into its place. The server must be stopped."""
        self._must(self._run(SWITCH, self._layout.top, *self._layout.names), "the data can't be exchanged")

    def back(self, *, stopped: bool) -> bool:
        """Undo ``switch``, whatever of it was done, and remove what was staged.

        False, and nothing was done, when files were moved and the server is not ``stopped`` yet.
        """
        names = self._layout.names
        result = self._run(BACK, "yes" if stopped else "", self._layout.top, *names)
        if result.code == 4:
            return False
        self._must(result, "the old data can't be put back")
        return True

    def drop(self) -> None:
        """Remove the old data."""
        result = self._run(_DROP, self._layout.top)
        if result.code == 3:
            raise BackupError(
                f"store {self._store}: {self._home} holds the only copy of the old data, the restore was not finished: "
                "undo it first"
            )
        self._must(result, "the old data can't be removed")

    def _run(self, script: str, *args: str, folder: Optional[Path] = None, feed: Optional[Readable] = None) -> Result:
        side = SideContainer(
            self._docker,
            image=self._container.image_id,
            backup_dir=str(self._backup_dir),
            store=self._store,
            folder=folder,
            read_only=True,
            volumes_from=self._container.id,
            volumes_writable=True,
            user="0:0",
            capabilities=("DAC_OVERRIDE", "CHOWN", "FOWNER"),
        )
        return side.run(["sh", "-c", script, "sh", self._home, *args], feed=feed)

    def _must(self, result: Result, what: str) -> None:
        if result.code:
            raise BackupError(f"store {self._store}: {what} in {self._home}: {result.reason()}")
