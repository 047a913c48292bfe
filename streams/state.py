"""Where a worker keeps its state: one RocksDB per input partition.

Laws of this file:
1. A checkpoint is one write batch: values and the offset they belong to, or nothing.
2. One process owns a state directory; a second one is told so and stops.
3. State that can't be read is never guessed at: the caller deletes it and rebuilds from the log.

RocksDB by rocksdict in raw mode (keys and values are bytes), bloom filters on whole keys (most
look-ups are for messages never seen), zstd on the last level.
"""

import fcntl
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType

from rocksdict import (
    BlockBasedOptions,
    Cache,
    DBCompressionType,
    Options,
    Rdict,
    ReadOptions,
    WriteBatch,
    WriteOptions,
)

from schemas.errors import ConfigError, Unavailable

BLOCK_CACHE_BYTES = 48 << 20
"""Shared by all partitions of a worker."""
MEMTABLE_BYTES = 8 << 20
_BLOOM_BITS_PER_KEY = 10


class Store:
    """Key-value state of one partition; keys and values are bytes, keys are sorted."""

    def __init__(self, path: Path, cache: Cache) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        try:
            self._db = Rdict(str(path), _options(cache))
        except Exception as error:  # rocksdict raises bare Exception with RocksDB's text
            raise Unavailable(f"state directory {path}: {error}") from error
        self._write_options = WriteOptions()
        # The log is the write-ahead log: after a power cut state is rebuilt from Kafka. A crash of
        # the process alone loses nothing, since the operating system still has what was written.
        self._write_options.sync = False

    def get_many(self, keys: list[bytes]) -> list[bytes | None]:
        """Values of ``keys``, in their order; ``None`` where nothing is stored."""
        if not keys:
            return []
        values: list[bytes | None] = self._db.get(keys)  # type: ignore[arg-type, assignment]
        return values  # rocksdict's hints know only its pickling mode

    def write(self, changes: Iterable[tuple[bytes, bytes | None]]) -> None:
        """Stores all changes or none; ``None`` deletes.

        Raises:
            Unavailable: the disk is full or broken; nothing was stored.
        """
        batch = WriteBatch(raw_mode=True)
        for key, value in changes:
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        try:
            self._db.write(batch, self._write_options)
        except Exception as error:
            raise Unavailable(f"state directory {self.path}: {error}") from error

    def delete_range(self, begin: bytes, end: bytes) -> None:
        """Deletes every key from ``begin`` up to but without ``end``."""
        self._db.delete_range(begin, end)

    def scan(self, begin: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Keys and values from ``begin`` up to but without ``end``, in order."""
        options = ReadOptions()
        options.set_iterate_upper_bound(end)
        iterator = self._db.iter(options)
        iterator.seek(begin)
        while iterator.valid():
            yield iterator.key(), iterator.value()
            iterator.next()

    def compact(self) -> None:
        """Compacts everything (measuring and tests; RocksDB compacts by itself as it goes)."""
        self._db.flush()
        self._db.compact_range(None, None)

    def disk_bytes(self) -> int:
        """Bytes of live data on disk."""
        return int(self._db.property_int_value("rocksdb.live-sst-files-size") or 0)

    def keys_estimate(self) -> int:
        """About how many keys are stored."""
        return int(self._db.property_int_value("rocksdb.estimate-num-keys") or 0)

    def close(self) -> None:
        """Flushes and closes; the store can't be used afterwards."""
        self._db.close()


def _options(cache: Cache) -> Options:
    table = BlockBasedOptions()
    table.set_bloom_filter(_BLOOM_BITS_PER_KEY, False)
    table.set_block_cache(cache)
    # Filters and indexes live in the bounded cache, or memory would grow with the state.
    table.set_cache_index_and_filter_blocks(True)
    table.set_pin_l0_filter_and_index_blocks_in_cache(True)
    table.set_format_version(5)
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
    """The directory of one worker: locked, one store per name in it.

    Raises:
        ConfigError: another process holds it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(path / "LOCK", os.O_RDWR | os.O_CREAT, 0o644)
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
        """The store called ``name``, opened once."""
        if name not in self._open:
            self._open[name] = Store(self.path / name, self._cache)
        return self._open[name]

    def names(self) -> list[str]:
        """Names of the stores that lie here, opened or not."""
        return sorted(entry.name for entry in self.path.iterdir() if entry.is_dir())

    def release(self, name: str) -> None:
        """Closes the store called ``name``; its data stays."""
        store = self._open.pop(name, None)
        if store is not None:
            store.close()

    def discard(self, name: str) -> None:
        """Deletes the store called ``name``."""
        self.release(name)
        shutil.rmtree(self.path / name, ignore_errors=True)

    def disk_bytes(self) -> int:
        """Bytes of live data on disk, of the open stores."""
        return sum(store.disk_bytes() for store in self._open.values())

    def keys_estimate(self) -> int:
        """About how many keys the open stores hold."""
        return sum(store.keys_estimate() for store in self._open.values())

    def close(self) -> None:
        """Closes every store and lets the directory go."""
        for name in list(self._open):
            self.release(name)
        os.close(self._lock)

    def __enter__(self) -> "StateDirectory":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
