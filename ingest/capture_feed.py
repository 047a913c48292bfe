"""Hands requests to ``mailpulse capture``, while that asks for them.

The command listens on a Unix socket in a folder that it and every ingress of the same data
directory derive from its path (``folder_of``); ingress looks there once a second. So a capture
needs no restart and no setting, several processes of one machine feed one capture, and it ends with
the command, however that ends. Requests are renamed there, not here: they reach no disk before.

Invariants:
1. Without a capture a request costs one look-up in an empty dict.
2. A request is offered after its answer was sent. Nothing here waits for the command: what does not
   fit into ``UNSENT_BYTES_MAX`` is dropped and counted; the next frame that fits tells how many
   were, within ``LOOK_S`` one without a request. No error leaves ``offer``.
3. Only a folder and a socket of this process's own user are used, closed to others.

A frame is two lengths (of a JSON head and of a body, 4 bytes each, big-endian), head and body. A
head without a method only tells what was dropped.
"""

import asyncio
import contextlib
import hashlib
import json
import os
import stat
import struct
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from ingest.metrics import IngestMetrics
from ingest.providers.base import Request

LOOK_S = 1.0
UNSENT_BYTES_MAX = 8_000_000
"""Of frames that a command has not read yet."""
BODY_BYTES_MAX = 1_000_000
"""Larger bodies are told without their content."""
HELLO_BYTES_MAX = 4_096
HELLO_S_MAX = 5.0
LENGTHS = struct.Struct(">II")
_PLACE = "/tmp"
SUFFIX = ".sock"


def folder_of(data_dir: Path, user: int | None = None) -> Path:
    """Where the captures of a data directory are announced; ``user`` is this process's own.

    In a place that is writable also in a container whose own file system is not. With the longest
    name of a source the socket's path has 101 bytes, whatever the user's number: 103 is the most
    that every system takes (``sun_path`` of macOS; Linux takes 107).
    """
    owner = os.getuid() if user is None else user
    name = hashlib.sha256(b"%d/%s" % (owner, os.fsencode(data_dir.resolve()))).hexdigest()[:16]
    return Path(_PLACE) / f"mailpulse-{name}"


def is_ours(path: Path, kind: Callable[[int], bool]) -> bool:
    """Whether a path is of this user, of that kind, and closed to others."""
    try:
        found = path.lstat()
    except OSError:
        return False
    return found.st_uid == os.getuid() and kind(found.st_mode) and not found.st_mode & 0o077


def sockets(folder: Path) -> dict[str, Path]:
    """Source -> its socket."""
    if not is_ours(folder, stat.S_ISDIR):
        return {}
    with contextlib.suppress(OSError):
        return {
            one.name.removesuffix(SUFFIX): one
            for one in folder.iterdir()
            if one.name.endswith(SUFFIX) and is_ours(one, stat.S_ISSOCK)
        }
    return {}


@dataclass(slots=True)
class _Listening:
    """A connected command."""

    writer: asyncio.StreamWriter
    until: float
    dropped: int = 0
    told: int = 0


def _has_room(found: _Listening, size: int) -> bool:
    """Whether a frame of this size fits into what a command has not read yet."""
    return found.writer.transport.get_write_buffer_size() + size <= UNSENT_BYTES_MAX


class Feed:
    """The captures that are on.

    Args:
        data_dir: names the folder.
        sources: names of the configured sources.
        metrics: where it is shown that a capture is on.
        now: seconds since 1970.
    """

    def __init__(
        self,
        data_dir: Path,
        sources: Collection[str],
        metrics: IngestMetrics,
        now: Callable[[], float],
    ) -> None:
        self._folder = folder_of(data_dir)
        self._sources = sources
        self._metrics = metrics
        self._now = now
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._looking: asyncio.Task[None] | None = None
        self.listening: dict[str, _Listening] = {}

    def start(self) -> None:
        """Begins to look for captures."""
        self._looking = asyncio.create_task(self._look())

    async def stop(self) -> None:
        """Closes every connection."""
        tasks = [*self._tasks.values(), *([self._looking] if self._looking else ())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def offer(
        self, source: str, request: Request, *, received_at: float, status: int, code: str,
        proven: bool, whole: bool,
    ) -> None:  # fmt: skip
        """Hands a request to the capture of its source, if there is room; never raises."""
        found = self.listening.get(source)
        if found is None or self._now() > found.until:
            return
        if len(request.body) > BODY_BYTES_MAX:
            request, whole = _without_body(request), False
        with contextlib.suppress(Exception):  # invariant 2
            self._write(found, request, {
                "method": request.method, "path": request.path, "query": request.query,
                "headers": request.headers, "received_at": received_at, "status": status,
                "code": code, "proven": proven, "whole": whole, "dropped": found.dropped,
            })  # fmt: skip

    @staticmethod
    def _write(found: _Listening, request: Request, about: dict[str, object]) -> None:
        """Writes a frame, or counts it as dropped."""
        head = json.dumps(about).encode()
        if not _has_room(found, len(head) + len(request.body)):
            found.dropped += 1
            return
        found.writer.write(LENGTHS.pack(len(head), len(request.body)) + head + request.body)
        found.told = found.dropped

    @staticmethod
    def _tell(found: _Listening) -> None:
        """Tells what was dropped, if no request came since that could."""
        head = json.dumps({"dropped": found.dropped}).encode()
        if found.dropped > found.told and _has_room(found, len(head)):
            found.writer.write(LENGTHS.pack(len(head), 0) + head)
            found.told = found.dropped

    # --- looking ---------------------------------------------------------------------------------

    async def _look(self) -> None:
        while True:
            with contextlib.suppress(OSError):
                for name, path in sockets(self._folder).items():
                    if name in self._sources and name not in self._tasks:
                        self._tasks[name] = asyncio.create_task(self._feed(name, path))
                for found in self.listening.values():
                    self._tell(found)
            await asyncio.sleep(LOOK_S)

    async def _feed(self, name: str, path: Path) -> None:
        """Keeps a connection to a command until that ends it."""
        writer = None
        try:
            async with asyncio.timeout(HELLO_S_MAX):
                reader, writer = await asyncio.open_unix_connection(
                    str(path), limit=HELLO_BYTES_MAX
                )
                until = float(json.loads(await reader.readline())["until"])
            self.listening[name] = _Listening(writer, until)
            self._metrics.capture_until.labels(name).set(until)
            async with asyncio.timeout(max(0.0, until - self._now())):
                await reader.read(1)  # it says nothing more: this is its end
        except (OSError, ValueError, KeyError, TypeError, TimeoutError, OverflowError):
            pass  # a socket that nobody listens on, or no capture's: looked at again
        finally:
            if self.listening.pop(name, None) is not None:
                with contextlib.suppress(KeyError):
                    self._metrics.capture_until.remove(name)
            self._tasks.pop(name, None)
            if writer is not None:  # what a stopped command has not read is not kept for it
                writer.transport.abort()


def _without_body(request: Request) -> Request:
    return Request(
        request.method, request.query, request.headers, b"", request.client_ip, request.path
    )
