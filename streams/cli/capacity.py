"""How much of everything a load takes: arithmetic from measured figures, each a named constant.

Invariants:
1. Pure. Every figure that was measured says what it is, in which unit, and how it was had.
2. Results are rounded up, never down, and leave room: processes are planned to be busy to
   ``BUSY_SHARE`` in the busiest minute.

Measured with ``python -m tests.bench.capacity`` (one core per role, real Kafka 4.1, chDB in the
sink's process, signed SendGrid requests, every event of another recipient: the dearest case) on two
shared cores of a cloud machine, 2026-11-24. CPU time is counted, so other work on the machine
changes little; another machine changes all of it by its speed.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from schemas.settings import Settings
from schemas.topics import ENGAGEMENT, ENRICHED, MINUTES, RATES, RAW, SUPPRESSIONS

INGEST_US = 25.0
"""CPU microseconds of the ingress per event, in requests of 100 events."""
WORKER_US = 72.0
"""CPU microseconds of a worker per event: all stages, RocksDB and acks=all included."""
SINK_US = 87.0
"""CPU microseconds of the sink per event, ClickHouse's own work included (chDB)."""
BROKER_US = 94.0
"""CPU microseconds of one Kafka broker per event: everything that ingress, worker and sink write to
it and read from it, one copy."""
STATE_BYTES = 283.0
"""Bytes of a worker's state per event, before compaction; most events share a message and cost
less."""
CLICKHOUSE_BYTES = 65.0
"""Bytes per event in table events, merged and compressed. The ids alone are 32 of them; events of
messages that have several cost less (``make bench``: 53)."""
TOPIC_BYTES: Mapping[str, float] = {
    RAW: 553.0,
    ENRICHED: 710.0,
    MINUTES: 76.0,
    RATES: 27.0,
    SUPPRESSIONS: 73.0,
    ENGAGEMENT: 140.0,
}
"""Bytes per event of each topic, uncompressed, as the broker keeps them."""

BUSY_SHARE = 0.6
"""How busy a process may be in the busiest minute; the rest catches up after a rebalance."""
PARTITIONS_PER_WORKER = 3
"""So that workers can be tripled before keys would have to move."""
PARTITIONS_STEP = 12
"""A number that divides well."""
DAYS_KEPT: Mapping[str, int] = {RAW: 10, ENRICHED: 32, ENGAGEMENT: 7, MINUTES: 2, RATES: 1,
                                SUPPRESSIONS: 30}  # fmt: skip
"""Retention; for compacted topics about how many days' worth compaction leaves."""
BROKER_BYTES_PER_S = 50e6
"""What one broker is planned to write; replicas count. Measured: 127 MB/s acknowledged, one copy,
uncompressed, beside its client on two busy cores; the plan leaves room for reads and replicas."""
STATE_BYTES_PER_WORKER = 200e9
"""Largest state that one worker is planned to hold: what it takes to copy or rebuild in an hour or
two."""
DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Plan:
    """What a load takes. Rates per second, sizes in bytes, for the whole pipeline."""

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

    def document(self) -> dict[str, object]:
        """For ``--json``."""
        return {name: getattr(self, name) for name in self.__slots__}

    def lines(self) -> list[tuple[str, str]]:
        """For people."""
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
        events_per_day: all event types together, duplicates included.
        peak: the busiest minute over the day's average.
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
        # a follower's copy is counted as dear as the leader's, which is more than it costs
        broker_cores=_processes(busiest, BROKER_US * replicas, at_least=replicas),
        state_bytes=state,
        clickhouse_bytes_per_year=events_per_day * CLICKHOUSE_BYTES * 365,
        bottleneck=_bottleneck(workers, sinks, written, replicas, held=workers == by_state > 1),
    )


def _bottleneck(workers: int, sinks: int, written: float, replicas: int, *, held: bool) -> str:
    """What gives first when the load grows from here, in words."""
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
