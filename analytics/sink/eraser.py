"""Carries erasures out on the tables: the loader of the topic of erasures.

Invariants:
1. An erasure that is carried out again finds nothing and changes nothing, so after a crash the
   record is read again.
2. Rows of events are found by the person's identity and changed by their message keys: a mutation's
   text is kept by the server, and holds no address so.
3. A mutation goes on when its client goes away. One that is under way is waited for, never ordered
   twice.
4. An order is about what happened before it, so it may be read again at any time.
5. When ``load`` returns, no such row of the tables names the person; parts that the mutations
   replaced are inactive, and ClickHouse removes their files after ``old_parts_lifetime`` (8
   minutes).
"""

import time
from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import Any

import structlog
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from analytics.batches import batches
from analytics.client import judged
from analytics.cluster import for_cluster, table_on_server
from analytics.sink.loading import Reject
from analytics.sink.redaction import ERASED_COLUMNS
from analytics.sink.rows import Polled
from schemas.codec import Codec
from schemas.errors import DecodeError, Unavailable

log = structlog.get_logger("mailpulse.sink")

NAMES_CHARS_MAX = 1_000
"""Of the people whose events are looked for by one query: clickhouse-connect puts parameters of up
to 4 kB into the URL, and more into a form, which the role ``warehouse`` doesn't read. Characters
that are escaped there may take more than three times as much."""
KEYS_AT_ONCE = 10_000
"""Message keys in one mutation: about 400 kB of text."""
QUERY_BYTES_MAX = 1 << 20
WAITING_MAX = 100
"""Mutations that wait at once; ClickHouse applies what waits in one pass over a part, and refuses
more than a thousand."""
MUTATION_S_MAX = 300.0
"""Longest wait for mutations in one try; the next try goes on waiting."""
POLL_S = 0.1

_KEYS = """
SELECT DISTINCT toString(message_key) FROM events WHERE recipient_identity IN {names:Array(String)}
"""
_BEFORE = "toUnixTimestamp64Milli(least(occurred_at, received_at)) < {at_ms}"
"""Condition of erased events (``schemas.erasure.Erasures.covers``)."""
_SINCE_BEFORE = (
    "if(is_deleted = 1, toInt64(bitShiftRight(version, 20)), toUnixTimestamp64Milli(since))"
    " < {at_ms}"
)
"""The same of suppressions; of lifted ones the time is in their version."""
_PENDING = """
SELECT count() FROM system.mutations
WHERE database = currentDatabase() AND table IN {tables:Array(String)} AND NOT is_done
"""
_FAILED = """
SELECT any(latest_fail_reason) FROM system.mutations
WHERE database = currentDatabase() AND table IN {tables:Array(String)} AND NOT is_done
    AND latest_fail_reason != ''
"""
_LISTS = ("suppressions", "scoped_suppressions")


class Eraser:
    """Erases people from the tables.

    Args:
        client: from ``analytics.client.connect``; used by one thread at a time.
        cluster: name of the cluster; empty: one server.
    """

    def __init__(self, client: Client, codec: Codec, cluster: str) -> None:
        self._client = client
        self._codec = codec
        self._cluster = cluster

    def load(self, records: Sequence[Polled]) -> list[Reject]:
        """Carries the erasures of some records out.

        Returns:
            Records that can't be read.

        Raises:
            Unavailable: ClickHouse is unavailable, or has not done it yet.
        """
        orders: dict[int, dict[str, None]] = {}
        rejects = []
        for record in records:
            if record.value is None:
                continue
            try:
                order = self._codec.decode(record.value, "erasure")
                names = dict.fromkeys(order["identities"])
                orders.setdefault(order["at"] // 1_000, {}).update(names)
            except DecodeError as error:
                rejects.append(Reject(record, error.reason, error.detail))
        for at_ms, names in orders.items():
            if not names:
                continue
            self.erase(list(names), at_ms)
            log.info("people erased from the tables", people=len(names))
        return rejects

    def erase(self, names: Sequence[str], at_ms: int) -> None:
        """Erases people from the tables.

        Args:
            names: their identities.
            at_ms: of the erasure, milliseconds since 1970: what happened before is erased.

        Raises:
            Unavailable: ClickHouse is unavailable, or has not done it yet.
        """
        try:
            self._erase(names, at_ms)
        except (ClickHouseError, OSError) as error:
            raise _unavailable(error) from error

    def _erase(self, names: Sequence[str], at_ms: int) -> None:
        self._settle()
        ordered = 0
        for keys in batches(self._keys(names), KEYS_AT_ONCE):
            changes = ", ".join(f"`{name}` = {value}" for name, value in ERASED_COLUMNS.items())
            chosen = ", ".join(f"'{key}'" for key in keys)
            before = _BEFORE.format(at_ms=at_ms)
            self._mutate("events", f"UPDATE {changes} WHERE message_key IN ({chosen}) AND {before}")
            ordered += 1
            if ordered % WAITING_MAX == 0:
                self._settle()
        for some in batches(names, KEYS_AT_ONCE):
            chosen = ", ".join(f"'{sha256(one.encode()).hexdigest()}'" for one in some)
            for table in _LISTS:
                theirs = f"lower(hex(SHA256(recipient))) IN ({chosen})"
                before = _SINCE_BEFORE.format(at_ms=at_ms)
                self._mutate(table, f"DELETE WHERE {theirs} AND {before}")
        self._settle()

    def _keys(self, names: Sequence[str]) -> Iterator[str]:
        """Keys of all messages to some people."""
        for some in batches(names, NAMES_CHARS_MAX, size_of=len):
            rows = self._client.query(_KEYS, parameters={"names": some}).result_rows
            yield from (str(row[0]) for row in rows)

    def _mutate(self, table: str, change: str) -> None:
        name = table_on_server(table, self._cluster)
        for statement in for_cluster(f"ALTER TABLE {name} {change}", self._cluster):
            self._client.command(
                statement, settings={"mutations_sync": 0, "max_query_size": QUERY_BYTES_MAX}
            )

    def _settle(self) -> None:
        """Waits for the mutations of the tables (invariant 3)."""
        tables = [table_on_server(table, self._cluster) for table in ("events", *_LISTS)]
        given = {"tables": tables}
        end = time.monotonic() + MUTATION_S_MAX
        while int(self._client.query(_PENDING, parameters=given).result_rows[0][0]):
            failed: Any = self._client.query(_FAILED, parameters=given).result_rows[0][0]
            if failed or time.monotonic() > end:
                raise Unavailable(f"ClickHouse: a mutation is not done: {failed or 'it goes on'}")
            time.sleep(POLL_S)


def _unavailable(error: Exception) -> Unavailable:
    """Erasures are never given up: what the server refuses now is tried again."""
    found = judged(error)
    return found if isinstance(found, Unavailable) else Unavailable(f"ClickHouse: {found}")
