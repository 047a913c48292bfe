"""The certificate of an erasure: what was found where, what became of it, and when the rest ends.

Invariants:
1. Pure. What it follows from is noted once, before anything is erased, in the erasure's record:
   whoever repeats an erasure that was interrupted gets the same one.
2. It names nobody: it holds counts, times and names of stores.
3. No date is earlier than the truth. Kafka removes whole segments, and only those that are closed:
   a record is gone at the latest one segment and one retention after it was written.
"""

import json
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from datetime import UTC, datetime
from typing import Any

from schemas import topics

FOREVER = -1
"""What Kafka calls a time without end."""
_MAX_MS = 1 << 53
OLD_PARTS_S = 480
"""ClickHouse's ``old_parts_lifetime``: files of a part that was replaced stay so long."""


@dataclass(frozen=True, slots=True)
class Keeping:
    """How long a topic keeps a record.

    Attributes:
        retention_ms: of a plain topic; ``FOREVER``: no end.
        segment_ms: longest time over which one segment is written.
        compaction_lag_ms: of a compacted topic; ``FOREVER`` or larger than a million years: Kafka
            compacts whenever it comes to it.
    """

    retention_ms: int
    segment_ms: int
    compaction_lag_ms: int

    def gone_after_ms(self, compacted: bool) -> int | None:
        """How long after it was written, or replaced, a record is gone; ``None``: no date."""
        kept = self.compaction_lag_ms if compacted else self.retention_ms
        if kept < 0 or kept > _MAX_MS:
            return None
        return kept + self.segment_ms


@dataclass(frozen=True, slots=True)
class Found:
    """What is known of a person before an erasure.

    Attributes:
        events: in ClickHouse, each once.
        on_raw, on_enriched: those of them that the topics still hold.
        suppressions, scoped: that hold or held, on their topics.
    """

    events: int = 0
    on_raw: int = 0
    on_enriched: int = 0
    suppressions: int = 0
    scoped: int = 0

    def __bool__(self) -> bool:
        return bool(self.events or self.suppressions or self.scoped)


@dataclass(frozen=True, slots=True)
class Terms:
    """What the dates of a certificate follow from.

    Attributes:
        keeping: of each topic that there is.
        message_ttl_hours: how long the workers know a message.
        spool: whether ingress keeps requests on disk while Kafka is away.
        kept: whether suppressions survive as keyed hashes.
    """

    keeping: Mapping[str, Keeping]
    message_ttl_hours: int
    spool: bool = False
    kept: bool = False


PERSONAL = (
    topics.RAW, topics.ENRICHED, topics.ENGAGEMENT, topics.DEAD_LETTERS, topics.SUPPRESSIONS,
    topics.SCOPED_SUPPRESSIONS, topics.ERASURES, topics.HISTORY,
)  # fmt: skip
"""Topics whose records may name people."""


def facts(found: Found, terms: Terms) -> str:
    """What a certificate follows from, as it stands in the erasure's record: JSON."""
    keeping = {name: astuple(one) for name, one in terms.keeping.items() if name in PERSONAL}
    return json.dumps(
        {
            "found": astuple(found), "keeping": keeping, "ttl_hours": terms.message_ttl_hours,
            "spool": terms.spool, "kept": terms.kept,
        },
        separators=(",", ":"),
    )  # fmt: skip


def certificate_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """The certificate of an erasure's record."""
    noted = json.loads(record["certificate"])
    keeping = {name: Keeping(*one) for name, one in noted["keeping"].items()}
    terms = Terms(keeping, noted["ttl_hours"], noted["spool"], noted["kept"])
    return certificate(record["erasure_id"], record["at"], Found(*noted["found"]), terms)


def iso(micros: int) -> str:
    """A time in UTC, to the second above."""
    return f"{datetime.fromtimestamp(-(-micros // 1_000_000), UTC):%Y-%m-%dT%H:%M:%SZ}"


def obeyed_until(at_us: int, terms: Terms) -> int:
    """When the last record of a person is gone from the topics that are read again: what state and
    tables are made of and ``deliver`` sends, and dead letters, which may be resent.

    Returns:
        Microseconds since 1970; 0: no date, as a topic keeps its records for ever.
    """
    ends = [_end_us(at_us, name, terms) for name in _PLAIN]
    return 0 if None in ends else max(end for end in ends if end is not None)


def _end_us(at_us: int, topic: str, terms: Terms) -> int | None:
    keeping = terms.keeping.get(topic)
    if keeping is None:
        return at_us
    after_ms = keeping.gone_after_ms(topics.BY_NAME[topic].compacted)
    return None if after_ms is None else at_us + after_ms * 1_000


_PLAIN = {
    topics.RAW: "can't be changed: removed by retention; whoever reads them again obeys this",
    topics.ENRICHED: "can't be changed: removed by retention; whoever reads them again obeys this",
    topics.HISTORY: "can't be changed: removed by retention; whoever reads them again obeys this",
    topics.ENGAGEMENT: "can't be changed: removed by retention",
    topics.DEAD_LETTERS: "can't be changed: removed by retention; what is sent again obeys this",
}


def certificate(erasure_id: str, at_us: int, found: Found, terms: Terms) -> dict[str, Any]:
    """The certificate, as plain values.

    Each store has ``store``, ``how``, ``count`` (``null``: not counted) and ``until`` (a time in
    UTC, ``null``: no date).
    """
    now = iso(at_us)
    counts = {
        topics.RAW: found.on_raw, topics.ENRICHED: found.on_enriched,
        topics.SUPPRESSIONS: found.suppressions, topics.SCOPED_SUPPRESSIONS: found.scoped,
    }  # fmt: skip
    parts = iso(at_us + OLD_PARTS_S * 1_000_000)
    rows = [
        _store("ClickHouse: events", "address, ids, links, client, texts and data taken out; the"
               " row stays for figures", found.events, parts),
        _store("ClickHouse: suppressions", _deleted(terms), found.suppressions, parts),
        _store("ClickHouse: scoped_suppressions", _deleted(terms), found.scoped, parts),
    ]  # fmt: skip
    for topic in PERSONAL:
        end = _end_us(at_us, topic, terms)
        how = _PLAIN.get(topic, "tombstones; older values are removed by compaction")
        if topic == topics.ERASURES:
            how = "the order holds the address until it is carried out; removed by compaction"
        rows.append(_store(f"Kafka: {topic}", how, counts.get(topic), iso(end) if end else None))
    ttl = iso(at_us + terms.message_ttl_hours * 3_600_000_000)
    rows.append(_store("workers' state: suppressions", "removed", None, now))
    rows.append(_store("workers' state: messages", "hashes of providers' ids, for exact figures;"
                       " they expire", None, ttl))  # fmt: skip
    rows.append(_store("workers' snapshots of state", "deleted once a partition has made another,"
                       " within a minute; of a worker that is stopped, when it is back", None,
                       None))  # fmt: skip
    if terms.spool:
        rows.append(_store("ingress's spool", "goes to Kafka when that is back, and is removed",
                           None, None))  # fmt: skip
    rows.append(_store("log of look-ups", "has keyed hashes of whom operators looked for; stays",
                       None, None))  # fmt: skip
    rows.append(_store("files of your own: exports, shell history", "not reached", None,
                       None))  # fmt: skip
    rows.append(_store("backups of your own", "not reached, and listed if made from here; a restore"
                       " erases again while Kafka knows of this, later forget again",
                       None, None))  # fmt: skip
    rows.append(_store("systems that deliver has sent to, providers", "not reached: ask them",
                       None, None))  # fmt: skip
    last = obeyed_until(at_us, terms)
    return {
        "erasure_id": erasure_id, "at": now, "obeyed_until": iso(last) if last else None,
        "suppressions_kept_as_hashes": terms.kept, "stores": rows,
    }  # fmt: skip


def _deleted(terms: Terms) -> str:
    return "deleted; kept as keyed hashes" if terms.kept else "deleted"


def _store(store: str, how: str, count: int | None, until: str | None) -> dict[str, Any]:
    return {"store": store, "how": how, "count": count, "until": until}
