"""The spool: parcels on disk while Kafka is down.

Invariants:
1. ``append`` returns only after an fsync that covers its frame. Appends that come while an fsync
   is under way share the next one (group commit).
2. Frames are read in the order in which they were appended, also across restarts. After a crash, a
   frame is read again unless its segment was released: at least once.
3. Damage costs only the bytes that it covers: these are kept as ``*.damaged`` for a person, counted
   and logged. So is a torn tail: it was never acknowledged, but a frame whose length is damaged
   looks the same.
4. Never more than ``bytes_max`` on disk; over that ``append`` refuses.
5. After a failed write or fsync a segment is not written any more: the state of the page cache is
   unknown.
6. One process per directory (``flock``).

Segments are ``00000000000000000001.spool`` and up. All file work is done in one thread.
"""

import asyncio
import fcntl
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from ingest.spool_frames import HEAD_BYTES, frame, is_torn, next_frame, read_frames
from schemas.errors import ConfigError, Unavailable

SEGMENT_BYTES = 8_000_000
"""Above this size the next append opens a new segment."""
ROOM_BYTES = 65_536
"""A request of usual size, with what is around it."""
SUFFIX = ".spool"


class SpoolFull(Unavailable):
    """The spool has reached its size limit."""


@dataclass(slots=True)
class _Segment:
    number: int
    path: Path
    size: int
    """Bytes that were fsynced."""
    read_at: int = 0
    """Where the next read starts."""


@dataclass(slots=True)
class _Append:
    data: bytes
    done: asyncio.Future[None] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Stretch:
    """Some payloads in order, and the position of the first."""

    payloads: list[bytes]
    segment: int
    start: int


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class Spool:
    """A bounded queue of byte strings on disk.

    Args:
        directory: created if it does not exist.
        bytes_max: limit of bytes on disk.
        segment_bytes: size at which a new file is started.
        on_damage: called with the number of bytes of a segment that could not be read.
    """

    def __init__(
        self,
        directory: Path,
        bytes_max: int,
        segment_bytes: int = SEGMENT_BYTES,
        on_damage: Callable[[int], None] = lambda size: None,
    ) -> None:
        self._directory = directory
        self._bytes_max = bytes_max
        self._segment_bytes = segment_bytes
        self._on_damage = on_damage
        self._log = structlog.get_logger("mailpulse.ingest.spool")
        self._segments: list[_Segment] = []
        self._next_number = 1
        self._writing: int | None = None
        self._lock: int | None = None
        self._pending: list[_Append] = []
        self._pending_bytes = 0
        self._size = 0
        self._wake = asyncio.Event()
        self._filled = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="spool")

    # --- opening and closing ---------------------------------------------------------------------

    async def open(self) -> None:
        """Locks the directory and finds the segments of an earlier process.

        Raises:
            ConfigError: it can't be created or written, or another process holds it.
        """
        try:
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(["MAILPULSE_SPOOL_DIR: another process uses it"]) from None
        except OSError as error:
            raise ConfigError([f"MAILPULSE_SPOOL_DIR: {error.strerror}"]) from None
        for path in sorted(self._directory.glob(f"*{SUFFIX}")):
            if not path.stem.isdecimal():  # a copy made by a person
                continue
            size = path.stat().st_size
            self._segments.append(_Segment(int(path.stem), path, size))
            self._size += size
        names = [p.name.partition(".")[0] for p in self._directory.glob(f"*{SUFFIX}*")]
        self._next_number = max([int(one) for one in names if one.isdecimal()], default=0) + 1
        if self._segments:
            self._filled.set()
        self._writer = asyncio.create_task(self._write_for_ever(), name="spool-writer")

    async def close(self) -> None:
        """Writes what is pending and unlocks the directory."""
        waiting = [one.done for one in self._pending]
        if waiting and self._writer is not None and not self._writer.done():
            await asyncio.wait(waiting)
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.gather(self._writer, return_exceptions=True)
        self._thread.shutdown()
        for handle in (self._writing, self._lock):
            if handle is not None:
                os.close(handle)
        self._writing = self._lock = None

    # --- state -----------------------------------------------------------------------------------

    @property
    def size(self) -> int:
        """Bytes on disk or pending."""
        return self._size + self._pending_bytes

    @property
    def busy(self) -> bool:
        """Whether anything is on it or pending: then new parcels have to go to the spool too."""
        return bool(self._pending or self._segments)

    @property
    def has_room(self) -> bool:
        """Whether limit and disk have room for a request of usual size (``ROOM_BYTES``).

        Asks the disk, so only who has no Kafka should ask.
        """
        if self._bytes_max - self.size < ROOM_BYTES:
            return False
        try:
            disk = os.statvfs(self._directory)
        except OSError:
            return False  # nothing can be written there either
        return disk.f_bavail * disk.f_frsize >= ROOM_BYTES

    async def wait_filled(self) -> None:
        """Waits until there may be something to read."""
        await self._filled.wait()

    # --- writing ---------------------------------------------------------------------------------

    async def append(self, payload: bytes) -> None:
        """Puts ``payload`` at the end and returns once it is on disk.

        Raises:
            SpoolFull: over ``bytes_max``.
            Unavailable: the disk refused.
        """
        data = frame(payload)
        if self.size + len(data) > self._bytes_max:
            raise SpoolFull(f"{self.size} bytes on the spool")
        one = _Append(data, asyncio.get_running_loop().create_future())
        self._pending.append(one)
        self._pending_bytes += len(data)
        self._wake.set()
        # A caller that is cancelled must not cancel the commit of the others.
        await asyncio.shield(one.done)

    async def _write_for_ever(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._pending:
                group = list(self._pending)
                data = b"".join(one.data for one in group)
                error = await self._commit(data)
                del self._pending[: len(group)]
                self._pending_bytes -= len(data)
                self._filled.set()
                for one in group:
                    if one.done.done():
                        continue
                    if error is None:
                        one.done.set_result(None)
                    else:
                        one.done.set_exception(Unavailable(f"spool: {error.strerror}"))
                        one.done.exception()

    async def _commit(self, data: bytes) -> OSError | None:
        """Writes and fsyncs ``data``; the segment list changes only after success."""
        loop = asyncio.get_running_loop()
        last = self._segments[-1] if self._segments else None
        fresh = self._writing is None or last is None or last.size >= self._segment_bytes
        try:
            if fresh:
                await loop.run_in_executor(self._thread, self._open_segment)
                path = self._directory / f"{self._next_number:020d}{SUFFIX}"
                last = _Segment(self._next_number, path, 0)
                self._next_number += 1
            await loop.run_in_executor(self._thread, self._write, data)
        except OSError as error:
            await loop.run_in_executor(self._thread, self._abandon, last)
            return error
        assert last is not None
        if fresh:
            self._segments.append(last)
        last.size += len(data)
        self._size += len(data)
        return None

    def _open_segment(self) -> None:
        if self._writing is not None:
            os.close(self._writing)
            self._writing = None
        path = self._directory / f"{self._next_number:020d}{SUFFIX}"
        self._writing = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        _sync_directory(self._directory)

    def _write(self, data: bytes) -> None:
        assert self._writing is not None
        view = memoryview(data)
        while view:
            view = view[os.write(self._writing, view) :]
        os.fdatasync(self._writing)

    def _abandon(self, segment: _Segment | None) -> None:
        """Cuts off what was not acknowledged, if the disk allows it, and closes (invariant 5)."""
        if self._writing is None:
            return
        try:
            if segment is not None:
                os.ftruncate(self._writing, segment.size)
        except OSError:
            pass  # then its tail is torn, and the reader sets it aside
        finally:
            os.close(self._writing)
            self._writing = None

    # --- reading ---------------------------------------------------------------------------------

    async def read(self, bytes_most: int) -> Stretch | None:
        """The next payloads, about ``bytes_most`` bytes and at least one; ``None`` when empty.

        For one reader, that calls ``release`` or ``rewind`` before it reads again.
        """
        loop = asyncio.get_running_loop()
        for segment in list(self._segments):
            while segment.read_at < segment.size:
                start = segment.read_at
                payloads, segment.read_at = await loop.run_in_executor(
                    self._thread, _read_stretch, segment.path, start, segment.size, bytes_most
                )
                if payloads:
                    return Stretch(payloads, segment.number, start)
                await self._skip_damage(segment)
        self.release()
        if all(segment.read_at == segment.size for segment in self._segments):
            self._filled.clear()
        return None

    async def _skip_damage(self, segment: _Segment) -> None:
        """Invariant 3: continues at the next whole frame; the bytes before it are set aside."""
        name = f"{segment.path.name}.{segment.read_at}.damaged"
        size, torn = await asyncio.get_running_loop().run_in_executor(
            self._thread, self._set_damage_aside, segment, name
        )
        self._on_damage(size)
        event = "spool_torn" if torn else "spool_damaged"
        self._log.warning(event, file=str(self._directory / name), bytes=size)
        segment.read_at += size

    def _set_damage_aside(self, segment: _Segment, name: str) -> tuple[int, bool]:
        """How many bytes were damaged, and whether they may be the end of an unfinished write."""
        rest = _bytes_of(segment.path, segment.read_at, segment.size)
        damaged = rest[: next_frame(rest)]
        self.set_aside(name, damaged)
        return len(damaged), len(damaged) == len(rest) and is_torn(rest)

    def set_aside(self, name: str, content: bytes) -> None:
        """Writes bytes that can't be used to a file beside the segments; blocks until its fsync.

        Raises:
            OSError: the disk refused.
        """
        with (self._directory / name).open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        _sync_directory(self._directory)

    def rewind(self, stretch: Stretch) -> None:
        """``stretch`` could not be forwarded: it is read again."""
        for segment in self._segments:
            if segment.number == stretch.segment:
                segment.read_at = stretch.start
        self._filled.set()

    def release(self) -> None:
        """Everything that was read is forwarded: deletes the segments that were read to the end."""
        while self._segments and self._segments[0].read_at == self._segments[0].size:
            segment = self._segments[0]
            if len(self._segments) == 1 and self._writing is not None:
                if self._pending:
                    return  # the writer is about to append to this file
                os.close(self._writing)
                self._writing = None
            del self._segments[0]
            self._size -= segment.size
            segment.path.unlink(missing_ok=True)


def _bytes_of(path: Path, start: int, end: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(end - start)


def _read_stretch(path: Path, start: int, size: int, bytes_most: int) -> tuple[list[bytes], int]:
    """Whole frames from ``start``, and where they end; none when the first is torn or damaged."""
    with path.open("rb") as file:
        file.seek(start)
        data = file.read(min(size - start, max(bytes_most, HEAD_BYTES)))
        frames = read_frames(data)
        if not frames.payloads and start + len(data) < size:
            # One frame that is larger than the stretch.
            data += file.read(size - start - len(data))
            frames = read_frames(data)
            return frames.payloads, start + frames.end
    return frames.payloads, start + frames.end
