"""Loads a batch of records into ClickHouse, without those that can't be stored.

Invariants:
1. When ``load`` returns, every record of the batch is stored or is a ``Reject``; when it raises
   ``Unavailable``, some may be stored, and the same batch can be loaded again: rows are idempotent
   by key (``analytics.sink.rows``).
2. A record that ClickHouse refuses is found by bisecting the batch; the others are stored. Small
   parts are decoded here first, which finds corrupt Avro without further inserts.
3. Each insert has a deduplication token made of its bytes, so the server drops an insert that is
   repeated because its answer was lost. Coordinates alone would not do, as offsets start again when
   a topic is recreated. The token includes the consumer group: if a new group stores everything
   again because a part was lost, its inserts must not be dropped.
4. If ClickHouse refuses a large share of valid records, the fault is in the table: that is
   ``Unavailable`` instead of a thousand dead letters.
5. Blocking; runs in a worker thread. It uses no clock and no Kafka.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog
from clickhouse_connect.driver.client import Client

from analytics.client import RowsRefused, insert_avro, insert_columns
from analytics.sink.avro_file import by_prefix, container
from analytics.sink.campaign_facts import Conflict, conflicts, known_facts
from analytics.sink.redaction import cleared
from analytics.sink.rows import BUILDERS, STATEMENTS, Builder, Polled, tombstone
from schemas.codec import AvroRecord, Codec
from schemas.erasure import Erasures
from schemas.errors import DecodeError, Unavailable
from schemas.topics import BY_NAME, CAMPAIGNS

log = structlog.get_logger("mailpulse.sink")

DECODE_RECORDS_MAX = 256
"""Parts of a refused batch up to this size are decoded here before they are bisected further."""
REFUSED_SHARE_MAX = 0.1
REFUSED_MIN = 100
"""Refused records of one batch, at least this share and number, from which on the fault is assumed
to be in the table."""

_SETTINGS: dict[str, Any] = {
    "async_insert": 0,  # the answer must mean «stored»
    # duplicates within an insert are left to FINAL and merges: looking for them nearly doubles the
    # cost of the insert (measured: 6.7 instead of 3.9 µs a row)
    "optimize_on_insert": 0,
    "max_partitions_per_insert_block": 0,  # a replay may span many months
    "input_format_avro_allow_missing_fields": 1,  # older schema versions
    # a repeated insert is dropped from each table by itself: it may have reached only the first
    "deduplicate_blocks_in_dependent_materialized_views": 1,
}


@dataclass(frozen=True, slots=True)
class Reject:
    """A record that was not stored.

    Attributes:
        record: from Kafka.
        reason: stable code.
        detail: for people; contains no value of the record.
    """

    record: Polled
    reason: str
    detail: str


class Loader:
    """Stores the records of one topic in its tables.

    Args:
        client: from ``analytics.client.connect``; used by one thread at a time.
        codec: with the schema ids in use.
        topic: name of the topic.
        group: the sinks' consumer group.
        erasures: to obey; they may grow meanwhile.
    """

    def __init__(
        self,
        client: Client,
        codec: Codec,
        topic: str,
        group: str = "",
        erasures: Erasures | None = None,
    ) -> None:
        self._client = client
        self._erasures = Erasures() if erasures is None else erasures
        self._codec = codec
        self._topic = topic
        self._group = hashlib.blake2b(group.encode(), digest_size=16).digest()
        self._schema = BY_NAME[topic].schema
        self._refused_max = 0
        self._refused = 0

    def load(self, records: Sequence[Polled]) -> list[Reject]:
        """Stores a batch.

        Args:
            records: of this loader's topic; in order within each partition.

        Returns:
            The records that could not be stored, and why.

        Raises:
            Unavailable: ClickHouse is unavailable, too slow, or refuses too many records.
        """
        self._refused = 0
        self._refused_max = max(REFUSED_MIN, int(len(records) * REFUSED_SHARE_MAX))
        records = cleared(records, self._erasures, self._codec)
        if self._topic in STATEMENTS:
            return self._load_busy(records)
        return self._load_quiet(records)

    def _load_busy(self, records: Sequence[Polled]) -> list[Reject]:
        kept = [record for record in records if record.value is not None]
        values = [record.value for record in kept if record.value is not None]
        rejects: list[Reject] = []
        for positions in by_prefix(values).values():
            group = kept if len(positions) == len(kept) else [kept[at] for at in positions]
            try:
                full_name = self._codec.name_of(values[positions[0]])
                if full_name.rsplit(".", 1)[0] != self._schema:
                    raise DecodeError("wrong_schema", f"{full_name} where {self._schema} belongs")
            except DecodeError as error:
                rejects += [Reject(record, error.reason, error.detail) for record in group]
                continue
            rejects += self._halving(group, partial(self._avro, full_name))
        return rejects

    def _avro(self, full_name: str, records: Sequence[Polled]) -> None:
        file = container(full_name, [record.value for record in records if record.value])
        statement = STATEMENTS[self._topic]
        insert_avro(self._client, statement, file, self._with_token(file))

    def _load_quiet(self, records: Sequence[Polled]) -> list[Reject]:
        kept, decoded, rejects = self._decoded(records)
        told = self._conflicts(decoded) if self._topic == CAMPAIGNS else []
        rows = {id(record): row for record, row in zip(kept, decoded, strict=True)}
        for table, build in BUILDERS[self._topic]:
            refused = self._halving(kept, partial(self._columns, table, build, rows))
            gone = {id(reject.record) for reject in refused}
            kept = [record for record in kept if id(record) not in gone]
            rejects += refused
        for one in told:
            log.info(
                "campaign facts replaced" if one.replaced else "older campaign facts ignored",
                campaign=one.campaign, facts=one.fields,
            )  # fmt: skip
        return rejects

    def _conflicts(self, decoded: Sequence[AvroRecord]) -> list[Conflict]:
        """Facts that differ from the stored ones, to be reported: the last writer wins."""
        known = known_facts(self._client, [record["campaign_id"] for record in decoded])
        return conflicts(known, decoded)

    def _columns(
        self, table: str, build: Builder, rows: Mapping[int, AvroRecord], records: Sequence[Polled]
    ) -> None:
        columns = build([rows[id(record)] for record in records], records)
        content = b"".join(
            b"%d-%d-%b" % (record.partition, record.offset, record.value or b"")
            for record in records
        )
        insert_columns(self._client, table, columns, self._with_token(content))

    def _decoded(
        self, records: Sequence[Polled]
    ) -> tuple[list[Polled], list[AvroRecord], list[Reject]]:
        kept: list[Polled] = []
        decoded: list[AvroRecord] = []
        rejects: list[Reject] = []
        for record in records:
            try:
                value = record.value
                row = (
                    tombstone(record) if value is None else self._codec.decode(value, self._schema)
                )
            except DecodeError as error:
                rejects.append(Reject(record, error.reason, error.detail))
                continue
            if row is not None:
                kept.append(record)
                decoded.append(row)
        return kept, decoded, rejects

    def _halving(
        self, records: Sequence[Polled], insert: Callable[[Sequence[Polled]], None]
    ) -> list[Reject]:
        """Inserts what can be inserted and returns the rest."""
        if not records:
            return []
        try:
            insert(records)
        except RowsRefused as error:
            if len(records) <= DECODE_RECORDS_MAX:
                good, _, broken = self._decoded(records)
                if broken:
                    return broken + self._halving(good, insert)
            if len(records) == 1:
                return [self._refusal(records[0], error)]
            middle = len(records) // 2
            left = self._halving(records[:middle], insert)
            return left + self._halving(records[middle:], insert)
        return []

    def _refusal(self, record: Polled, error: RowsRefused) -> Reject:
        self._refused += 1
        if self._refused > self._refused_max:
            raise Unavailable(f"ClickHouse refuses {self._topic} in bulk: {error}") from error
        return Reject(record, "refused_by_clickhouse", str(error))

    def _with_token(self, content: bytes) -> dict[str, Any]:
        token = hashlib.blake2b(content, digest_size=16, key=self._group).hexdigest()
        return {**_SETTINGS, "insert_deduplication_token": token}
