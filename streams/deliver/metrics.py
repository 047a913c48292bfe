"""Metrics of the role ``deliver``.

Invariants:
1. They have a registry of their own; nothing is global.
2. Labels are destinations, topics, partitions and results, so their number is bounded.
3. Base units: seconds, records.
"""

from contextlib import suppress

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from streams.deliver.outcomes import Blame

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
DELAYS = (0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 60.0, 600.0, 3_600.0, 86_400.0)
RESULTS = {
    None: "delivered", Blame.RECORD: "refused", Blame.UNKNOWN: "failed",
    Blame.DESTINATION: "unavailable",
}  # fmt: skip
"""Whom a failure is about -> the label of its request."""


class DeliverMetrics:
    """Every metric of the role; the help texts say what an operator should do."""

    def __init__(self) -> None:
        self.registry = r = CollectorRegistry()
        by = ("destination",)
        self.requests = Counter(
            "mailpulse_deliver_requests",
            "Requests by result: delivered, refused (4xx about the record), failed (5xx or no"
            " answer), unavailable (no connection, or an answer about the destination).",
            ("destination", "result"),
            registry=r,
        )
        self.records = Counter(
            "mailpulse_deliver_records",
            "Records by result: delivered, filtered, parked ('mailpulse dlq ls' lists them).",
            ("destination", "result"),
            registry=r,
        )
        self.request_seconds = Histogram(
            "mailpulse_deliver_request_seconds",
            "Time from sending a request to its answer.",
            by,
            buckets=SECONDS,
            registry=r,
        )
        self.delay_seconds = Histogram(
            "mailpulse_deliver_delay_seconds",
            "Time from a record's timestamp to its delivery.",
            by,
            buckets=DELAYS,
            registry=r,
        )
        self.suppressions = Counter(
            "mailpulse_deliver_suppressions",
            "Suppressions to a provider: put and lifted (entries), in a dry run would_put and"
            " would_lift; left out (records): own, reason, not_held, not_mapped, no_address,"
            " not_lifted.",
            ("destination", "result"),
            registry=r,
        )
        self._gauges()

    def count_suppressions(self, destination: str, result: str, number: int) -> None:
        """Counts what was done of suppressions to a provider."""
        self.suppressions.labels(destination, result).inc(number)

    def _gauges(self) -> None:
        r, by = self.registry, ("destination",)
        self.last_success = Gauge(
            "mailpulse_deliver_last_success_seconds",
            "When a request was last delivered, seconds since 1970; 0 if not since the start.",
            by,
            registry=r,
        )
        self.open = Gauge(
            "mailpulse_deliver_breaker_open",
            "1 if the destination does not work and is only probed; nothing is lost meanwhile.",
            by,
            registry=r,
        )
        self.paused = Gauge(
            "mailpulse_deliver_paused",
            "1 if an operator paused the destination: 'mailpulse deliver resume'.",
            by,
            registry=r,
        )
        self.waits = Gauge(
            "mailpulse_deliver_waits_seconds",
            "How much longer the destination asked to be left alone (Retry-After); 0: it did not.",
            by,
            registry=r,
        )
        self.held = Gauge(
            "mailpulse_deliver_held_records",
            "Records in memory that wait for the destination. Bounded.",
            by,
            registry=r,
        )
        self.lag = Gauge(
            "mailpulse_deliver_lag_records",
            "Records on the partition from the first that is not delivered.",
            ("destination", "topic", "partition"),
            registry=r,
        )
        self.expires = Gauge(
            "mailpulse_deliver_expires_seconds",
            "Time until retention removes the first record that is not delivered. Only where one"
            " waits that will be removed. Below two days: repair the destination, or raise"
            " retention.ms of the topic.",
            ("destination", "topic", "partition"),
            registry=r,
        )
        self.expired = Counter(
            "mailpulse_deliver_expired_records",
            "Records that retention removed before they were delivered. Above 0: they are lost to"
            " this destination.",
            by,
            registry=r,
        )

    def show_lag(self, destination: str, topic: str, partition: int, records: int) -> None:
        """Records from the first that is not delivered."""
        self.lag.labels(destination, topic, str(partition)).set(records)

    def show_expiry(
        self, destination: str, topic: str, partition: int, left_s: float | None
    ) -> None:
        """Seconds until the first record that waits may be removed; ``None``: none will be."""
        where = (destination, topic, str(partition))
        if left_s is not None:
            self.expires.labels(*where).set(max(0.0, left_s))
        else:
            with suppress(KeyError):
                self.expires.remove(*where)

    def forget(self, destination: str, topic: str, partition: int) -> None:
        """Removes what is shown of a partition."""
        for gauge in (self.lag, self.expires):
            with suppress(KeyError):
                gauge.remove(destination, topic, str(partition))

    def render(self) -> bytes:
        """The exposition text."""
        return bytes(generate_latest(self.registry))
