"""Which files a server reads when it starts, by its settings."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Layout"]


@dataclass(frozen=True)
class Layout:
    """The data files of one server, relative to its data folder.

    Source: redis.conf ("appenddirname"), aof.c (loadAppendOnlyFiles, loadSingleAppendOnlyFile): with the append-only
    file on, dump.rdb is not read; from Redis 7 on it is a folder with a manifest, before that one file that may begin
    with an RDB.
    """

    aof: bool
    multipart: bool  # Redis >= 7, every Valkey
    dbfilename: str = "dump.rdb"
    appenddirname: str = "appendonlydir"
    appendfilename: str = "appendonly.aof"

    @property
    def top(self) -> str:
        """The one file or folder that is put in place: one rename makes the new data live."""
        if not self.aof:
            return self.dbfilename
        return self.appenddirname if self.multipart else self.appendfilename

    @property
    def names(self) -> list[str]:
        """All that the server may read instead, or write: it must be out of the way."""
        names = [self.dbfilename, self.appendfilename]
        if self.multipart:
            names.append(self.appenddirname)
        return names

    @property
    def rdb(self) -> str:
        """Where the RDB goes."""
        if self.aof and self.multipart:
            return f"{self.appenddirname}/{self.appendfilename}.1.base.rdb"
        return self.top

    @property
    def manifest(self) -> str:
        """Where the manifest of the append-only file goes; empty where there is none."""
        return f"{self.appenddirname}/{self.appendfilename}.manifest" if self.aof and self.multipart else ""

    @property
    def manifest_line(self) -> str:
        """What the manifest says. Source: aof.c, aofInfoFormat(): a name with blanks or quotes comes quoted."""
        name = f"{self.appendfilename}.1.base.rdb"
        if any(not char.isprintable() or char in " \"'\\" for char in name):
            escaped = name.replace("\\", "\\\\").replace('"', '\\"')
            name = f'"{escaped}"'
        return f"file {name} seq 1 type b"

    def options(self) -> list[str]:
        """The server's own options for it, each with its value."""
        options = ["--dbfilename", self.dbfilename, "--appendonly", "yes" if self.aof else "no"]
        options += ["--appendfilename", self.appendfilename]
        if self.multipart:
            options += ["--appenddirname", self.appenddirname]
        return options
