"""Canaries: a file, a folder and a port that show when something touches them."""

import ctypes
import os
import re
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SECRET = "canary-7f3a9c"
_LIBC = ctypes.CDLL(None, use_errno=True)
# inotify(7): opened, read, written, closed after writing, created, deleted, moved in or out
_EVENTS = 0x20 | 0x1 | 0x2 | 0x8 | 0x100 | 0x200 | 0x40 | 0x80
_REPEAT = re.compile(r"REPEAT\((.*?),(\d+)\)")
_HEADER = struct.Struct("iIII")


@dataclass(frozen=True, slots=True)
class Canaries:
    """What an attack would touch.

    Attributes:
        folder: no file in it may be opened.
        file: in the folder; contains ``SECRET``.
        listener: nothing may connect to it.
        watch: inotify's descriptor for the folder.
    """

    folder: Path
    file: Path
    listener: socket.socket
    watch: int

    @property
    def port(self) -> int:
        """Of the listener, on 127.0.0.1."""
        return int(self.listener.getsockname()[1])

    def filled(self, text: str) -> str:
        """A query of the corpus with the real paths, port and repetitions inserted."""
        target = str(self.folder / "written")
        for name, value in (
            ("CANARY", self.file), ("FOLDER", self.folder), ("TARGET", target), ("PORT", self.port),
        ):  # fmt: skip
            text = text.replace(name, str(value))
        return _REPEAT.sub(lambda found: found[1] * int(found[2]), text)

    def touched(self) -> list[str]:
        """What was touched since the last call."""
        found = list(self._files())
        try:
            connection, _ = self.listener.accept()
        except BlockingIOError:
            return found
        connection.close()
        return [*found, f"a connection to port {self.port}"]

    def _files(self) -> Iterator[str]:
        try:
            events = os.read(self.watch, 1 << 16)
        except BlockingIOError:
            return
        at = 0
        while at < len(events):
            _, mask, _, size = _HEADER.unpack_from(events, at)
            at += _HEADER.size
            name = events[at : at + size].rstrip(b"\0").decode()
            at += size
            yield f"{name or self.folder} (inotify {mask & 0xFFF:#x})"


@contextmanager
def canaries(folder: Path) -> Iterator[Canaries]:
    """Canaries in an empty folder."""
    file = folder / "canary.csv"
    file.write_text(f"{SECRET}\n")
    watch = int(_LIBC.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
    assert watch >= 0, os.strerror(ctypes.get_errno())
    added = _LIBC.inotify_add_watch(watch, os.fsencode(folder), _EVENTS)
    assert added >= 0, os.strerror(ctypes.get_errno())
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    try:
        yield Canaries(folder, file, listener, watch)
    finally:
        listener.close()
        os.close(watch)
