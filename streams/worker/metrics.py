"""Metrics of a worker: names, units and what an operator reads from them.

Invariant: no campaign, recipient or event id is ever a label.
"""

from collections.abc import Callable
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class StreamMetrics:
    """One registry per worker, so that tests and several workers in a process don't mix."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        counter, gauge = partial(Counter, registry=registry), partial(Gauge, registry=registry)
        self.records = counter(
            "mailpulse_enrich_records_total",
            "Raw records, by result: enriched, duplicate, replayed, dead_letter; lost means that "
            "retention removed them before they were read.",
            ["result"],
        )
        self.corrections = counter(
            "mailpulse_enrich_corrections_total",
            "Events that a later event changed: written again, or lost because the raw topic does "
            "not hold them any more.",
            ["result"],
        )
        self.scopes_beyond = counter(
            "mailpulse_enrich_scopes_beyond_limit_total",
            "Unsubscribes, returns and list entries for a list or group beyond the limit of scopes "
            "of one address: what suppresses holds for all mail to it, a return lifts nothing.",
        )
        self.ambiguous = counter(
            "mailpulse_enrich_ambiguous_message_ids_total",
            "Message-IDs of a sender that stand for several messages to one recipient: what names "
            "its message by such a one alone is counted as a message by itself.",
        )
        self.partials = counter(
            "mailpulse_campaign_partials_total",
            "Minute counts: written by enrich, merged or stale in campaigns.",
            ["result"],
        )
        self.rates = counter("mailpulse_campaign_rates_total", "Rate records published.")
        self.alerts = counter(
            "mailpulse_campaign_alerts_total",
            "Records of incidents published: opened, escalated, eased, closed, or refreshed (newer"
            " figures of an open one).",
            ["state"],
        )
        self.checkpoint_seconds = Histogram(
            "mailpulse_checkpoint_seconds",
            "Time of a round of checkpoints: outputs acknowledged, states stored.",
            ["stage"], registry=registry,
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
        )  # fmt: skip
        self.event_age_seconds = gauge(
            "mailpulse_enrich_event_age_seconds",
            "Age of the newest record read, by its arrival; grows when the worker falls behind.",
            ["partition"],
        )
        self.lag_records = gauge(
            "mailpulse_consumer_lag_records",
            "Records between what was read and the end of the log.",
            ["topic", "partition"],
        )
        self.state_bytes = gauge("mailpulse_state_bytes", "Live state on disk.")
        self.state_keys = gauge("mailpulse_state_keys", "Keys in the state store, estimated.")
        self._make_reprocessing(counter, gauge)
        self.restoring = gauge(
            "mailpulse_restoring_partitions",
            "Partitions whose state is being rebuilt; not ready while above 0.",
        )
        self.damaged = counter(
            "mailpulse_state_damaged_total",
            "State stores that were found damaged, set aside and rebuilt: look at the disk.",
            ["stage"],
        )
        self._make_snapshots(counter, gauge)
        self._declare()

    def _declare(self) -> None:
        """Shows counters as 0 from the start: ``rate`` misses the value at which a series is
        born."""
        for result in ("enriched", "duplicate", "replayed", "dead_letter", "lost"):
            self.records.labels(result)
        for result in ("written", "lost"):
            self.corrections.labels(result)
        for stage in ("enrich", "campaigns"):
            self.damaged.labels(stage)
            for result in ("made", "uploaded", "used", "refused", "failed"):
                self.snapshots.labels(stage, result)

    def _make_reprocessing(
        self, counter: Callable[..., Counter], gauge: Callable[..., Gauge]
    ) -> None:
        self.reprocessed = counter(
            "mailpulse_reprocessed_records_total",
            "Records folded by newer rules beside the live state.",
            ["partition"],
        )
        self.reprocess_left = gauge(
            "mailpulse_reprocess_left_records",
            "Records between what newer rules have folded and what live rules have.",
            ["partition"],
        )

    def _make_snapshots(self, counter: Callable[..., Counter], gauge: Callable[..., Gauge]) -> None:
        self.restored = counter(
            "mailpulse_restored_records_total",
            "Records folded while rebuilding state.",
        )
        self.snapshots = counter(
            "mailpulse_state_snapshots_total",
            "Snapshots of state, by result: made, uploaded, used for lost state, refused for it "
            "(damaged, or of another log, epoch or version), failed.",
            ["stage", "result"],
        )
        self.snapshot_bytes = gauge(
            "mailpulse_state_snapshot_bytes",
            "Disk that only snapshots of state take.",
        )
        self.snapshot_seconds = Histogram(
            "mailpulse_state_snapshot_seconds",
            "Time to make a snapshot of one partition, checksums included.",
            ["stage"], registry=self.registry,
            buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
        )  # fmt: skip
