"""Metrics of the sink.

Invariants:
1. They have a registry of their own; nothing is global.
2. Labels are topics, partitions and reason codes, so their number is bounded.
3. Base units: seconds, bytes, records.
"""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class SinkMetrics:
    """Every metric of the sink; the help texts say what an operator should do."""

    def __init__(self) -> None:
        self.registry = r = CollectorRegistry()
        self.records = Counter(
            "mailpulse_sink_records",
            "Records stored and committed, by topic.",
            ("topic",),
            registry=r,
        )
        self.dead_letters = Counter(
            "mailpulse_sink_dead_letters",
            "Records that could not be stored. 'mailpulse dlq ls' lists them.",
            ("topic", "reason"),
            registry=r,
        )
        self.insert_seconds = Histogram(
            "mailpulse_sink_insert_seconds",
            "Time to store a batch in ClickHouse, including the search for bad records.",
            ("topic",),
            buckets=SECONDS,
            registry=r,
        )
        self.batch_records = Histogram(
            "mailpulse_sink_batch_records",
            "Records per batch. Always at sink_rows_max: the sink is behind; add one.",
            ("topic",),
            buckets=(1, 10, 100, 1_000, 10_000, 50_000, 100_000),
            registry=r,
        )
        self.retries = Counter(
            "mailpulse_sink_retries",
            "Retries of a batch because ClickHouse was unavailable, too slow or refused in bulk.",
            ("topic",),
            registry=r,
        )
        self.clickhouse_up = Gauge(
            "mailpulse_sink_clickhouse_up",
            "1 if ClickHouse took the last insert of every topic, and answers while nothing comes;"
            " else 0.",
            registry=r,
        )
        self.held_bytes = Gauge(
            "mailpulse_sink_held_bytes",
            "Bytes of records in memory that wait for ClickHouse. Bounded by pausing partitions.",
            registry=r,
        )
        self.lag = Gauge(
            "mailpulse_sink_lag_records",
            "Records on the partition that are not stored yet.",
            ("topic", "partition"),
            registry=r,
        )
        self.newest = Gauge(
            "mailpulse_sink_newest_record_seconds",
            "Timestamp of the newest stored record, seconds since 1970.",
            ("topic",),
            registry=r,
        )
        self.partitions = Gauge(
            "mailpulse_sink_partitions", "Partitions that this sink reads.", registry=r
        )
        self._reconciliation()
        self._progress()
        self.silence = Gauge(
            "mailpulse_source_silence_seconds",
            "Since when nothing came from a source, or nothing of one of its event types, for"
            " longer than its rhythm explains; absent for other sources, and in sinks that do not"
            " read partition 0 of the raw topic. 'mailpulse alerts ls' says what is silent.",
            ("source",),
            registry=r,
        )

    def declare(self, topic: str) -> None:
        """Shows what is counted for a topic as 0: ``rate`` misses the value at which a series is
        born."""
        self.records.labels(topic)
        self.retries.labels(topic)

    def _progress(self) -> None:
        r = self.registry
        self.workers_lag = Gauge(
            "mailpulse_sink_workers_lag_records",
            "Records that the workers have not committed yet, by Kafka's own account: also while no"
            " worker runs, or one rebuilds its state.",
            ("topic", "partition"),
            registry=r,
        )
        self.complete_through = Gauge(
            "mailpulse_sink_complete_through_seconds",
            "Through which time everything accepted is stored, seconds since 1970. It goes on while"
            " nothing comes.",
            ("partition",),
            registry=r,
        )

    def _reconciliation(self) -> None:
        r = self.registry
        self.reconciles = Gauge(
            "mailpulse_sink_reconciliation_active",
            "1 if this sink compares accepted with stored events: it reads partition 0 of the raw"
            " topic. Else 0.",
            registry=r,
        )
        self.difference = Gauge(
            "mailpulse_sink_reconciliation_difference_events",
            "Accepted by ingress, but neither stored nor a repeat nor a dead letter; of the last"
            " three days except the last five minutes. 0 in sinks that do not compare. If it stays"
            " above 0: see view reconciliation.",
            registry=r,
        )
        self.unexplained = Gauge(
            "mailpulse_sink_reconciliation_unexplained_events",
            "Stored, but not accepted by ingress; of the same minutes. If it stays above 0: see"
            " view reconciliation.",
            registry=r,
        )
        self.reconciled = Gauge(
            "mailpulse_sink_reconciled_seconds",
            "When they were last compared with success, seconds since 1970; 0 if never, and in"
            " sinks that do not compare.",
            registry=r,
        )

    def show_silence(self, seconds: Mapping[str, float]) -> None:
        """Takes the seconds that each source has been silent without an explanation."""
        self.silence.clear()
        for source, value in seconds.items():
            self.silence.labels(source).set(value)

    def render(self) -> bytes:
        """The exposition text."""
        return bytes(generate_latest(self.registry))
