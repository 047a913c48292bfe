"""Metrics of a worker: names, units and what an operator reads from them.

Invariant: no campaign, recipient or event id is ever a label.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class StreamMetrics:
    """One registry per worker, so that tests and several workers in a process don't mix."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self.records = Counter(
            "mailpulse_enrich_records_total",
            "Raw records, by result: enriched, duplicate, replayed, dead_letter; lost means that "
            "retention removed them before they were read.",
            ["result"],
            registry=registry,
        )
        self.corrections = Counter(
            "mailpulse_enrich_corrections_total",
            "Events written again because later news changed their campaign or verdict.",
            registry=registry,
        )
        self.partials = Counter(
            "mailpulse_campaign_partials_total",
            "Minute counts: written by enrich, merged or stale in campaigns.",
            ["result"],
            registry=registry,
        )
        self.rates = Counter(
            "mailpulse_campaign_rates_total", "Rate records published.", registry=registry
        )
        self.alerts = Counter(
            "mailpulse_campaign_alerts_total",
            "Alert records published, by state: raised or cleared.",
            ["state"],
            registry=registry,
        )
        self.checkpoint_seconds = Histogram(
            "mailpulse_checkpoint_seconds",
            "Time of a checkpoint: outputs acknowledged, state stored.",
            ["stage"],
            registry=registry,
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
        )
        self.event_age_seconds = Gauge(
            "mailpulse_enrich_event_age_seconds",
            "Age of the newest record read, by its arrival; grows when the worker falls behind.",
            ["partition"],
            registry=registry,
        )
        self.lag_records = Gauge(
            "mailpulse_consumer_lag_records",
            "Records between what was read and the end of the log.",
            ["topic", "partition"],
            registry=registry,
        )
        self.state_bytes = Gauge("mailpulse_state_bytes", "Live state on disk.", registry=registry)
        self.state_keys = Gauge(
            "mailpulse_state_keys", "Keys in the state store, estimated.", registry=registry
        )
        self.restoring = Gauge(
            "mailpulse_restoring_partitions",
            "Partitions whose state is being rebuilt; not ready while above 0.",
            registry=registry,
        )
        self.damaged = Counter(
            "mailpulse_state_damaged_total",
            "Stores of state that were found damaged, set aside and built again: look at the disk.",
            ["stage"],
            registry=registry,
        )
        self.restored = Counter(
            "mailpulse_restored_records_total",
            "Records folded while rebuilding state.",
            registry=registry,
        )
