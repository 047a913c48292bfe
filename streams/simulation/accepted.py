"""Accepted events on disk, for runs whose ledger would not fit into memory.

Invariants:
1. Memory is bounded (``CACHE_BYTES``), whatever the number of events.
2. The file is unlinked at once, so it vanishes with the process, however that ends.
3. Only what the recount needs is kept: no address, user agent, IP or link.
"""

import sqlite3
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import cast

import orjson

from streams.simulation.simulator import Happening

CACHE_BYTES = 32 << 20


class AcceptedOnDisk(MutableMapping[str, Happening]):
    """Native id -> event; iterates in order of message ids.

    Args:
        folder: where the file is created, and unlinked at once.

    Raises:
        OSError, sqlite3.Error: the file can't be created or written.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / ".accepted"
        path.unlink(missing_ok=True)
        self._file = sqlite3.connect(path)
        # one transaction without end: nobody else reads the file, and it needs no recovery
        self._file.executescript(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA locking_mode = EXCLUSIVE;"
            f" PRAGMA cache_size = -{CACHE_BYTES >> 10};"
            "CREATE TABLE events (id TEXT PRIMARY KEY, message TEXT NOT NULL, event BLOB NOT NULL)"
            " WITHOUT ROWID;"
            "CREATE INDEX by_message ON events (message, id);"
        )
        path.unlink()
        self._count = 0

    def __contains__(self, native_id: object) -> bool:
        found = self._file.execute("SELECT 1 FROM events WHERE id = ?", (native_id,))
        return found.fetchone() is not None

    def __getitem__(self, native_id: str) -> Happening:
        found = self._file.execute("SELECT event FROM events WHERE id = ?", (native_id,)).fetchone()
        if found is None:
            raise KeyError(native_id)
        return _unpacked(native_id, found[0])

    def __setitem__(self, native_id: str, event: Happening) -> None:
        row = (native_id, event.message_id, _packed(event))
        self._count += native_id not in self
        self._file.execute("INSERT OR REPLACE INTO events VALUES (?, ?, ?)", row)

    def __delitem__(self, native_id: str) -> None:
        if native_id not in self:
            raise KeyError(native_id)
        self._file.execute("DELETE FROM events WHERE id = ?", (native_id,))
        self._count -= 1

    def __iter__(self) -> Iterator[str]:
        return (row[0] for row in self._file.execute("SELECT id FROM events ORDER BY message, id"))

    def __len__(self) -> int:
        return self._count

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def _packed(event: Happening) -> bytes:
    return orjson.dumps(
        (event.source, event.kind, event.at_s, event.campaign, event.told, event.message_id,
         event.bounce, event.doubt, event.unsubscribe)
    )  # fmt: skip


def _unpacked(native_id: str, packed: bytes) -> Happening:
    source, kind, at_s, campaign, told, message, bounce, doubt, unsubscribe = cast(
        tuple[str, str, int, str, bool, str, str, int, bool], orjson.loads(packed)
    )
    return Happening(
        native_id, source, kind, at_s, campaign, told, message, "",
        bounce=bounce, doubt=doubt, unsubscribe=unsubscribe,
    )  # fmt: skip
