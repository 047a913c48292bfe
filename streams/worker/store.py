"""Where a worker keeps its state: one RocksDB per input partition.

Invariants:
1. A checkpoint is one write batch: values and the offset they belong to, or nothing.
2. One process owns a state directory; a second one stops with an error.
3. State that can't be read, or that holds less than was noted, is never used: the store is set
   aside (``StateDirectory.set_aside``), and its owner rebuilds it from the log.
4. Every write has a number, and leaves a link with that number in the store; the note beside the
   store (``streams.worker.notes``) says the newest number. A store is complete if it has reached
   the noted number and no link is missing.

Why links: RocksDB's newest writes are in its log, older ones in files that its MANIFEST names. A
truncated MANIFEST forgets files, and the log is replayed on what is left: the newest offset is
there, but writes just before it are missing. RocksDB opens such a store without an error.

RocksDB by rocksdict in raw mode (keys and values are bytes), bloom filters on whole keys (most
look-ups are for messages never seen), zstd on the last level.
"""

import fcntl
import os
import shutil
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import structlog
from rocksdict import (
    BlockBasedOptions,
    Cache,
    Checkpoint,
    DBCompressionType,
    Options,
    Rdict,
    ReadOptions,
    WriteBatch,
    WriteOptions,
)

from schemas.errors import ConfigError, MailpulseError
from streams.worker.damage import DamagedState, error_of
from streams.worker.notes import Held, Note
from streams.worker.setting_aside import MARK, SetAside, set_aside

log = structlog.get_logger(__name__)

BLOCK_CACHE_BYTES = 48 << 20
"""Shared by all partitions of a worker."""
MEMTABLE_BYTES = 8 << 20
LINKS_MAX = 1_000
"""Links that a store keeps. Beyond it, everything is first flushed into files that the MANIFEST
names; the newest link then stands for all before it."""
_BLOOM_BITS_PER_KEY = 10
SNAPSHOTS = "snapshots"
"""The folder of a state directory that holds no store (``streams.worker.snapshots``)."""

OWN_END = b"\x01"
"""The first key of a store's users; those below are the store's own."""
_HELD_KEY = b"\x00held"
_HELD = struct.Struct(">8sQQ")  # store, number of the newest write, number of the first link
_LINK = struct.Struct(">5sQ")


def _link(number: int) -> bytes:
    return _LINK.pack(b"\x00link", number)


class Store:
    """Key-value state of one partition; keys and values are bytes, keys are sorted.

    Attributes:
        number: of the newest write, 0 for none.
        is_noted: whether there was a note when the store was opened.

    Raises:
        DamagedState: see invariant 3; from the constructor and from every method that reads or
           writes.
        Unavailable: the disk is full, or may not be read or written; nothing was stored.
    """

    def __init__(self, path: Path, cache: Cache, note: Path | None = None) -> None:
        self.path = path
        self._note = Note(note or path.with_name(f"{path.name}.note"))
        with self._judged():
            noted = self._note.read()
            if noted is not None and not path.exists():
                raise DamagedState(path, f"it is gone, with {noted.number} writes in it")
            path.mkdir(parents=True, exist_ok=True)
            self._db = Rdict(str(path), _options(cache))
        try:
            self._check(noted)
        except BaseException:
            self.close(flush=False)
            raise
        self._write_options = WriteOptions()
        # Kafka is the write-ahead log: after a power cut state is rebuilt from it. A crash of the
        # process alone loses nothing, since the operating system still has what was written.
        self._write_options.sync = False

    @contextmanager
    def _judged(self) -> Iterator[None]:
        """Raises what an error of RocksDB or of the disk means (``streams.worker.damage``)."""
        try:
            yield
        except DamagedState:
            raise
        except Exception as error:  # rocksdict raises bare Exception with RocksDB's text
            raise error_of(self.path, error) from error

    def _check(self, noted: Held | None) -> None:
        """Invariant 4."""
        self.is_noted = noted is not None
        data = self.get_many([_HELD_KEY])[0]
        if data is None:  # new, or written by a version that kept no note
            self._store, self.number, self._first = os.urandom(8), 0, 1
        else:
            self._store, self.number, self._first = _HELD.unpack(data)
        if noted is not None and noted.store != self._store:
            raise DamagedState(self.path, "the note beside it belongs to another store")
        if noted is not None and noted.number > self.number:
            said = f"it holds {self.number} of the {noted.number} writes that it had"
            raise DamagedState(self.path, said)
        links = sum(1 for _ in self.scan(_link(self._first), _link(self.number + 1)))
        missing = self.number + 1 - self._first - links
        if missing:
            said = f"{missing} of its last {links + missing} writes are gone"
            raise DamagedState(self.path, said)

    @property
    def id(self) -> bytes:
        """Identity of the store, 8 random bytes from when it was created."""
        return self._store

    def get_many(self, keys: list[bytes]) -> list[bytes | None]:
        """Values of ``keys``, in their order; ``None`` where nothing is stored."""
        if not keys:
            return []
        with self._judged():  # rocksdict's hints know only its pickling mode
            values: list[bytes | None] = self._db.get(keys)  # type: ignore[arg-type, assignment]
        return values

    def write(
        self,
        changes: Iterable[tuple[bytes, bytes | None]],
        *,
        offset: int = -1,
        cleared: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        """Stores all changes or none; ``None`` deletes.

        Args:
            offset: of the last record that the state holds, for the note.
            cleared: ranges whose keys are deleted before, without their ends.
        """
        number, first = self.number + 1, self._first
        batch = WriteBatch(raw_mode=True)
        if number - first > LINKS_MAX:
            with self._judged():
                self._db.flush(True)
            batch.delete_range(_link(first), _link(number - 1))
            first = number - 1
        for begin, end in cleared:
            batch.delete_range(begin, end)
        for key, value in changes:
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        batch.put(_link(number), b"")
        batch.put(_HELD_KEY, _HELD.pack(self._store, number, first))
        with self._judged():
            self._db.write(batch, self._write_options)
            self.number, self._first = number, first
            self._note.write(Held(self._store, number, offset))

    def flush_soon(self) -> None:
        """Begins to write the memtable to a file, in the background.

        Raises:
            Exception: RocksDB's own, a bare one.
        """
        self._db.flush(False)

    def link_to(self, path: Path) -> Held:
        """Makes a RocksDB checkpoint in a folder that is not there; nobody may write meanwhile.

        What fails here is no damage to the store.

        Returns:
            What it holds, as in a note; the offset is not known here.

        Raises:
            Exception: RocksDB's own, a bare one.
        """
        Checkpoint(self._db).create_checkpoint(str(path))
        return Held(self._store, self.number, -1)

    def delete_range(self, begin: bytes, end: bytes) -> None:
        """Deletes every key from ``begin`` up to but without ``end``.

        It has no number: a store may lose the deletion unnoticed, so that must do no harm.
        """
        with self._judged():
            self._db.delete_range(begin, end)

    def clear(self) -> None:
        """Deletes everything."""
        self.write((), cleared=[(OWN_END, b"\xff")])

    def scan(self, begin: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Keys and values from ``begin`` up to but without ``end``, in order."""
        options = ReadOptions()
        options.set_iterate_upper_bound(end)
        with self._judged():
            iterator = self._db.iter(options)
            iterator.seek(begin)
            while iterator.valid():
                yield iterator.key(), iterator.value()
                iterator.next()
            iterator.status()  # an iterator that meets damage just ends; the status says why

    def disk_bytes(self) -> int:
        """Bytes of live data on disk."""
        return int(self._db.property_int_value("rocksdb.live-sst-files-size") or 0)

    def keys_estimate(self) -> int:
        """About how many keys are stored."""
        return int(self._db.property_int_value("rocksdb.estimate-num-keys") or 0)

    def close(self, *, flush: bool = True) -> None:
        """Flushes and closes; the store can't be used afterwards.

        Args:
            flush: whether a failure is raised.
        """
        with self._judged() if flush else suppress(Exception):
            self._note.close()
            self._db.close()


def _options(cache: Cache) -> Options:
    table = BlockBasedOptions()
    table.set_bloom_filter(_BLOOM_BITS_PER_KEY, False)
    table.set_block_cache(cache)
    # Filters and indexes are in the bounded cache; otherwise memory would grow with the state.
    table.set_cache_index_and_filter_blocks(True)
    table.set_pin_l0_filter_and_index_blocks_in_cache(True)
    table.set_format_version(6)  # with a checksum over the footer, too
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_block_based_table_factory(table)
    options.set_write_buffer_size(MEMTABLE_BYTES)
    options.set_max_write_buffer_number(3)
    # Most look-ups are for messages never seen: the memtable's filter answers them, too.
    options.set_memtable_whole_key_filtering(True)
    options.set_memtable_prefix_bloom_ratio(0.1)
    options.set_max_background_jobs(2)
    options.set_compression_type(DBCompressionType.lz4())
    options.set_bottommost_compression_type(DBCompressionType.zstd())
    options.set_keep_log_file_num(2)
    options.set_max_open_files(256)
    return options


class StateDirectory:
    """The state directory of one worker: locked, with one store per name.

    Raises:
        ConfigError: another process holds it, or it can't be used.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(path / "LOCK", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise ConfigError([f"MAILPULSE_STATE_DIR: {path}: {error.strerror}"]) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise ConfigError(
                [f"MAILPULSE_STATE_DIR: {path} is in use by another worker; give each its own"]
            ) from None
        self._cache = Cache(BLOCK_CACHE_BYTES)
        self._open: dict[str, Store] = {}

    def store(self, name: str) -> Store:
        """The store called ``name``, opened once.

        Raises:
            DamagedState, Unavailable: see ``Store``.
        """
        if name not in self._open:
            self._open[name] = Store(self.path / name, self._cache)
        return self._open[name]

    def names(self) -> list[str]:
        """Names of the stores in the directory, opened or not."""
        return sorted(
            entry.name
            for entry in self.path.iterdir()
            if entry.is_dir() and MARK not in entry.name and entry.name != SNAPSHOTS
        )

    def is_there(self, name: str) -> bool:
        """Whether there is something of a store called ``name``; it may be damaged."""
        return os.path.lexists(self.path / name) or (self.path / f"{name}.note").exists()

    def release(self, name: str) -> None:
        """Closes the store called ``name``; its data stays, and is checked when opened again."""
        store = self._open.pop(name, None)
        if store is None:
            return
        try:
            store.close()
        except MailpulseError as error:
            log.warning("a store was not flushed when it was closed", reason=str(error))

    def discard(self, name: str) -> None:
        """Deletes the store called ``name``, if it exists.

        Raises:
            Unavailable: it can't be deleted.
        """
        self.release(name)
        path = self.path / name
        try:
            (self.path / f"{name}.note").unlink(missing_ok=True)
            if path.exists():
                shutil.rmtree(path)
        except OSError as error:
            raise error_of(path, error) from error

    def replace(self, name: str, other: str) -> Store:
        """Puts the store called ``other`` in the place of the one called ``name``; opens it.

        Cut off at any moment, it leaves a complete store under one of the names, or both, and can
        be repeated. A store without its note is complete too.

        Raises:
            Unavailable: one of them can't be renamed.
        """
        self.release(name)
        self.release(other)
        path, gone = self.path / name, self.path / f"{name}.replaced"
        note = self.path / f"{name}.note"
        try:
            shutil.rmtree(gone, ignore_errors=True)
            note.unlink(missing_ok=True)  # a note without its store would mean damage
            if path.exists():
                path.rename(gone)
            (self.path / other).rename(path)
            (self.path / f"{other}.note").replace(note)
            shutil.rmtree(gone, ignore_errors=True)
        except OSError as error:
            raise error_of(path, error) from error
        return self.store(name)

    def set_aside(self, name: str, stamp: str) -> SetAside:
        """Closes the store called ``name`` and renames it; an empty one can be opened in its place.

        Args:
            stamp: of the time, see ``streams.worker.setting_aside``.

        Raises:
            Unavailable: it can't be renamed.
        """
        store = self._open.pop(name, None)
        if store is not None:
            store.close(flush=False)
        path = self.path / name
        try:
            return set_aside(path, self.path / f"{name}.note", stamp)
        except OSError as error:
            raise error_of(path, error) from error

    def disk_bytes(self) -> int:
        """Bytes of live data on disk, of the open stores."""
        return sum(store.disk_bytes() for store in self._open.values())

    def keys_estimate(self) -> int:
        """About how many keys the open stores hold."""
        return sum(store.keys_estimate() for store in self._open.values())

    def close(self) -> None:
        """Closes every store and unlocks the directory."""
        for name in list(self._open):
            self.release(name)
        os.close(self._lock)

    def __enter__(self) -> "StateDirectory":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
