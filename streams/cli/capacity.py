"""Calculates the resources that a load needs from measured figures, each a named constant.

Invariants:
1. Pure. Every measured figure says what it is, in which unit, and how it was measured.
2. Results are rounded up and leave room: processes are planned for a utilisation of ``BUSY_SHARE``
   in the busiest minute.

Measured with ``python -m tests.bench.capacity`` (one core per role, real Kafka 4.1, chDB in the
sink's process, signed SendGrid requests, every event with another recipient, which is the most
expensive case) on two shared cores of a cloud machine, 2026-11-24. CPU time was counted, so other
work on the machine hardly matters; the speed of the machine does.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from schemas.settings import Settings
from schemas.topics import ENGAGEMENT, ENRICHED, MINUTES, RATES, RAW, SUPPRESSIONS

INGEST_US = 25.0
"""CPU microseconds of the ingress per event, in requests of 100 events."""
WORKER_US = 72.0
"""CPU microseconds of a worker per event, including all stages, RocksDB and acks=all."""
SINK_US = 87.0
"""CPU microseconds of the sink per event, including ClickHouse's own work (chDB)."""
BROKER_US = 94.0
"""CPU microseconds of one Kafka broker per event for all reads and writes of ingress, worker and
sink, without replication."""
STATE_BYTES = 283.0
"""Bytes of a worker's state per event, before compaction; less if several events share a message,
as most do."""
CLICKHOUSE_BYTES = 65.0
"""Bytes per event in table ``events``, merged and compressed, 32 of them ids; less if several
events share a message (``make bench``: 53)."""
TOPIC_BYTES: Mapping[str, float] = {
    RAW: 553.0,
    ENRICHED: 710.0,
    MINUTES: 76.0,
    RATES: 27.0,
    SUPPRESSIONS: 73.0,
    ENGAGEMENT: 140.0,
}
"""Bytes per event of each topic, uncompressed, as stored by the broker."""

BUSY_SHARE = 0.6
"""Planned utilisation in the busiest minute; the rest is for catching up after a rebalance."""
PARTITIONS_PER_WORKER = 3
"""Allows three times as many workers before partitions must be added, which moves keys."""
PARTITIONS_STEP = 12
"""Numbers of partitions are multiples of this: it has many divisors."""
DAYS_KEPT: Mapping[str, int] = {RAW: 10, ENRICHED: 32, ENGAGEMENT: 7, MINUTES: 2, RATES: 1,
                                SUPPRESSIONS: 30}  # fmt: skip
"""Retention in days; for compacted topics about how many days' records remain."""
BROKER_BYTES_PER_S = 50e6
"""Planned writes of one broker, replicas included. Measured: 127 MB/s acknowledged, one copy,
uncompressed, with the client on the same two busy cores; the rest is for reads and replication."""
STATE_BYTES_PER_WORKER = 200e9
"""Largest planned state of one worker: it can be copied or rebuilt in an hour or two."""
DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Plan:
    """The resources for a load, of the whole pipeline; sizes in bytes."""

    events_per_s: float
    events_per_s_peak: float
    ingests: int
    workers: int
    sinks: int
    partitions: int
    kafka_bytes: float
    kafka_bytes_per_s_peak: float
    brokers: int
    broker_cores: int
    state_bytes: float
    clickhouse_bytes_per_year: float
    bottleneck: str

    def lines(self) -> list[tuple[str, str]]:
        """The plan for people: what, how much."""
        return [
            ("events a second, average", f"{self.events_per_s:,.0f}"),
            ("events a second, busiest minute", f"{self.events_per_s_peak:,.0f}"),
            ("mailpulse ingest, processes of one core", f"{self.ingests:,}"),
            ("mailpulse worker, processes of one core", f"{self.workers:,}"),
            ("mailpulse sink, processes of one core", f"{self.sinks:,}"),
            ("MAILPULSE_PARTITIONS", f"{self.partitions:,}"),
            ("Kafka brokers", f"{self.brokers:,}"),
            ("Kafka brokers' cores, all together", f"{self.broker_cores:,}"),
            ("Kafka writes a second, all replicas, peak", _size(self.kafka_bytes_per_s_peak)),
            ("Kafka disk, all replicas", _size(self.kafka_bytes)),
            ("workers' state, all together, at most", _size(self.state_bytes)),
            ("ClickHouse, table events, a year", _size(self.clickhouse_bytes_per_year)),
        ]  # fmt: skip


def _size(value: float) -> str:
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000:
            return f"{value:,.3g} {unit}"
        value /= 1000
    return f"{value:,.0f} PB"


def _processes(rate: float, cpu_us: float, at_least: int = 1) -> int:
    return max(at_least, math.ceil(rate * cpu_us / 1e6 / BUSY_SHARE))


def plan(events_per_day: int, *, peak: float = 5.0, replicas: int = 3) -> Plan:
    """The plan for a load.

    Args:
        events_per_day: of all types, duplicates included.
        peak: ratio of the busiest minute to the day's average.
        replicas: copies that Kafka keeps.
    """
    rate = events_per_day / DAY_S
    busiest = rate * peak
    ingests = _processes(busiest, INGEST_US, at_least=2)
    message_days = Settings.model_fields["message_ttl_hours"].default / 24
    state = events_per_day * STATE_BYTES * message_days
    by_state = math.ceil(state / STATE_BYTES_PER_WORKER)
    workers = _processes(busiest, WORKER_US, at_least=by_state)
    sinks = _processes(busiest, SINK_US)
    wished = max(PARTITIONS_STEP, PARTITIONS_PER_WORKER * workers)
    partitions = PARTITIONS_STEP * math.ceil(wished / PARTITIONS_STEP)
    written = busiest * sum(TOPIC_BYTES.values()) * replicas
    return Plan(
        events_per_s=rate,
        events_per_s_peak=busiest,
        ingests=ingests,
        workers=workers,
        sinks=sinks,
        partitions=partitions,
        kafka_bytes=events_per_day
        * replicas
        * sum(size * DAYS_KEPT[topic] for topic, size in TOPIC_BYTES.items()),
        kafka_bytes_per_s_peak=written,
        brokers=max(replicas, math.ceil(written / BROKER_BYTES_PER_S)),
        # a follower's copy is counted like the leader's, which is more than it costs
        broker_cores=_processes(busiest, BROKER_US * replicas, at_least=replicas),
        state_bytes=state,
        clickhouse_bytes_per_year=events_per_day * CLICKHOUSE_BYTES * 365,
        bottleneck=_bottleneck(workers, sinks, written, replicas, held=workers == by_state > 1),
    )


def _bottleneck(workers: int, sinks: int, written: float, replicas: int, *, held: bool) -> str:
    """What reaches its limit first if the load grows, in words."""
    if written > replicas * BROKER_BYTES_PER_S:
        return (
            "Kafka's disks and network, beyond one broker per replica: add brokers and spread the"
            " partitions"
        )
    if held:
        return (
            "the workers' disks, not their CPU: more workers, or a shorter"
            " MAILPULSE_MESSAGE_TTL_HOURS"
        )
    if workers == 1 and sinks == 1:
        return "nothing: one process of each role carries this; more are for failover"
    if sinks >= workers:
        return "the sink, whose CPU is mostly ClickHouse's: a server of its own takes it over"
    return "the workers: add processes, up to one per partition"
