"""Compares what ingress accepted with what is stored, by minutes that changed since the last pass.

Invariants:
1. A record belongs to the minute and source of its own raw record, on both sides: the streams keep
   one raw record of an event, the first in its partition, and its row in ``events`` has that
   record's time and source. The others are repeats, recognised by the id.
2. A pass compares the minutes that got rows since the last one, and up to ``OPEN_MAX`` of those
   that did not balance, longest unchecked first. Its cost depends on what these minutes
   hold, not on what the tables hold.
3. A result replaces the previous one of its minute and source, so that a pass can be repeated, and
   two sinks may make one at the same time.
4. A pass is recorded when all its results are stored. The next one begins ``overlap_s`` before it,
   as an insert may become visible later than the time in its rows.
5. One query looks at ``ROWS_MAX`` rows and ``MINUTES_MAX`` minutes at most; a minute with more rows
   is compared in shares of its ids.
6. Blocking; no clock but ClickHouse's.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clickhouse_connect.driver.client import Client

from analytics.client import check_origin

SETTLED_S = 300
"""Age from which on a minute should balance, seconds: younger events may be on their way."""
OPEN_MAX = 60
ROWS_MAX = 500_000
MINUTES_MAX = 150
"""They are parameters of a query: clickhouse-connect puts up to 4 kB of them into the URL, and more
into a form, which the role ``warehouse`` doesn't read."""

BEGUN = """
SELECT toUnixTimestamp(now()), (SELECT max(toUnixTimestamp(through)) FROM reconciliation_passes)
"""
CHANGED = """
SELECT DISTINCT toUnixTimestamp(minute) FROM
(
    SELECT minute FROM accepted WHERE inserted_at >= toDateTime({since:UInt32}, 'UTC')
    UNION ALL
    SELECT minute FROM stored WHERE inserted_at >= toDateTime({since:UInt32}, 'UTC')
)
WHERE minute > now() - INTERVAL 3 DAY
"""
OPEN = """
SELECT toUnixTimestamp(minute) FROM reconciled FINAL
WHERE minute > now() - INTERVAL 3 DAY AND (missing > 0 OR unexplained > 0)
GROUP BY minute ORDER BY min(checked_at), minute LIMIT {most:UInt32}
"""
_CHOSEN = "minute IN (SELECT toDateTime(arrayJoin({minutes:Array(UInt32)}), 'UTC'))"
SIZES = f"""
SELECT toUnixTimestamp(minute), count() FROM
(
    SELECT minute FROM accepted WHERE {_CHOSEN} UNION ALL SELECT minute FROM stored WHERE {_CHOSEN}
)
GROUP BY minute ORDER BY minute
"""
_SHARE = f"{_CHOSEN} AND cityHash64(event_id) % {{shares:UInt32}} = {{share:UInt32}}"
_BOTH_SIDES = f"""
    SELECT minute, source, event_id, max(came) AS came, max(kept) AS kept FROM
    (
        SELECT minute, source, event_id, 1 AS came, 0 AS kept FROM accepted WHERE {_SHARE}
        UNION ALL
        SELECT minute, source, event_id, 0 AS came, 1 AS kept FROM stored WHERE {_SHARE}
    )
    GROUP BY minute, source, event_id
"""
BALANCE = f"""
SELECT toUnixTimestamp(minute), source, sum(came), sum(came AND kept), sum(kept AND NOT came)
FROM ({_BOTH_SIDES}) GROUP BY minute, source
"""
_OPEN_IDS = f"SELECT event_id FROM ({_BOTH_SIDES}) WHERE NOT kept"
EXPLAINED = f"""
SELECT toUnixTimestamp(minute), source, sum(again), sum(told AND NOT again) FROM
(
    SELECT minute, source,
        event_id GLOBAL IN
            (SELECT event_id FROM stored_ids WHERE event_id GLOBAL IN ({_OPEN_IDS})) AS again,
        event_id GLOBAL IN
        (
            SELECT event_id FROM dead_letters
            WHERE occurred_at > now() - INTERVAL 4 DAY AND event_id GLOBAL IN ({_OPEN_IDS})
        ) AS told
    FROM ({_BOTH_SIDES}) WHERE NOT kept
)
GROUP BY minute, source
"""
"""What became of records that are not stored as they came: repeats first, then dead letters."""
TOTALS = """
SELECT sum(missing), sum(unexplained) FROM reconciliation
WHERE minute < now() - toIntervalSecond({settled_s:UInt32})
"""
RESULT = (
    "minute", "source", "accepted", "stored", "repeated", "dead_letters", "missing", "unexplained",
)  # fmt: skip
QUERIES = (BEGUN, CHANGED, OPEN, SIZES, BALANCE, EXPLAINED, TOTALS)


@dataclass(frozen=True, slots=True)
class Totals:
    """Over all settled minutes of the last three days.

    Attributes:
        missing: accepted, but neither stored nor a repeat nor a dead letter.
        unexplained: stored, but not accepted.
        minutes: compared in this pass.
    """

    missing: int
    unexplained: int
    minutes: int


@dataclass(frozen=True, slots=True)
class Share:
    """What one query compares: minutes, or share ``number`` of ``of`` of one minute's ids."""

    minutes: tuple[int, ...]
    number: int = 0
    of: int = 1


def shares(sizes: Sequence[tuple[int, int]], rows_max: int = ROWS_MAX) -> Iterator[Share]:
    """Cuts minutes into queries of at most about ``rows_max`` rows each. Pure.

    Args:
        sizes: minute (seconds since 1970) and its rows, in order.
    """
    held: list[int] = []
    rows = 0
    for minute, size in sizes:
        if held and rows + size > rows_max:
            yield Share(tuple(held))
            held, rows = [], 0
        if size > rows_max:
            of = -(-size // rows_max)
            yield from (Share((minute,), number, of) for number in range(of))
            continue
        held.append(minute)
        rows += size
    if held:
        yield Share(tuple(held))


class Books:
    """The comparison.

    Args:
        client: of ClickHouse; used by one thread at a time.
        limits: ClickHouse settings of each query.
        overlap_s: see invariant 4.
    """

    def __init__(self, client: Client, limits: Mapping[str, Any], overlap_s: int) -> None:
        self._client = client
        self._limits = dict(limits)
        self._overlap_s = overlap_s

    def balance(self) -> Totals:
        """Makes one pass.

        Raises:
            ClickHouseError: a query failed; what was compared before stays.
            Unavailable: something else than ClickHouse answered.
        """
        [[now, through]] = self._rows(BEGUN)
        since = max(0, (through or 0) - self._overlap_s)
        changed = self._rows(CHANGED, {"since": since})
        still_open = self._rows(OPEN, {"most": OPEN_MAX})
        minutes = sorted({minute for (minute,) in [*changed, *still_open]})
        for start in range(0, len(minutes), MINUTES_MAX):
            some = minutes[start : start + MINUTES_MAX]
            self._compare(self._rows(SIZES, {"minutes": some}))
        [[missing, unexplained]] = self._rows(TOTALS, {"settled_s": SETTLED_S})
        self._insert(
            "reconciliation_passes",
            ("through", "minutes", "missing", "unexplained"),
            [[now, len(minutes), missing, unexplained]],
        )
        return Totals(int(missing), int(unexplained), len(minutes))

    def _compare(self, sizes: Sequence[tuple[int, int]]) -> None:
        """Compares the minutes and stores the results of each as soon as it is complete."""
        found: dict[tuple[int, str], Counter[str]] = {}
        for share in shares(sizes):
            for key, figures in self._figures(share):
                found.setdefault(key, Counter()).update(figures)
            if share.number + 1 == share.of:
                self._store(found)
                found = {}

    def _figures(self, share: Share) -> Iterator[tuple[tuple[int, str], dict[str, int]]]:
        asked = {"minutes": list(share.minutes), "share": share.number, "shares": share.of}
        rows = self._rows(BALANCE, asked)
        for minute, source, accepted, stored, unexplained in rows:
            counts = {"accepted": accepted, "stored": stored, "unexplained": unexplained}
            yield (minute, source), counts
        unbalanced = sorted({minute for minute, _, came, kept, _ in rows if came > kept})
        if unbalanced:
            asked["minutes"] = unbalanced
            for minute, source, again, told in self._rows(EXPLAINED, asked):
                yield (minute, source), {"repeated": again, "dead_letters": told}

    def _store(self, found: Mapping[tuple[int, str], Counter[str]]) -> None:
        rows = []
        for (minute, source), n in found.items():
            missing = n["accepted"] - n["stored"] - n["repeated"] - n["dead_letters"]
            rows.append(
                [minute, source, n["accepted"], n["stored"], n["repeated"], n["dead_letters"],
                 max(0, missing), n["unexplained"]]
            )  # fmt: skip
        if rows:
            self._insert("reconciled", RESULT, rows)

    def _rows(self, sql: str, parameters: Mapping[str, Any] | None = None) -> Sequence[Any]:
        answer = self._client.query(sql, parameters=dict(parameters or {}), settings=self._limits)
        check_origin(answer.summary)
        return answer.result_rows

    def _insert(self, table: str, names: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        answer = self._client.insert(
            table, rows, column_names=names, settings={"async_insert": 0, "insert_deduplicate": 0}
        )
        check_origin(answer.summary)
