"""Metrics of the front door.

Invariants:
1. One object per app, each with its own registry: nothing is global, two apps never mix.
2. Label values are sources of ``mailpulse.toml`` and codes of this program, so their number is
   bounded; never campaigns, recipients or addresses.
3. Base units: seconds, bytes; counters end in ``_total``.
"""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

OUR_FAULT = ("unavailable", "overloaded", "internal")
"""Results of requests that are refused because of problems on our side."""
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0)
CONTENT_TYPE = b"text/plain; version=1.0.0; charset=utf-8"


class IngestMetrics:
    """Every metric of the front door; the help texts say what an operator should do.

    Args:
        sources: names; what is counted for each is shown as 0 from the start.
    """

    def __init__(self, sources: Iterable[str] = ()) -> None:
        self.registry = CollectorRegistry()
        r = self.registry
        self.requests = Counter(
            "mailpulse_ingest_requests",
            "Requests to hooks by result: accepted, or the code of the refusal. A rise of "
            "unauthorized is a wrong or rotated key, or an attack.",
            ("source", "result"),
            registry=r,
        )
        self.events = Counter("mailpulse_ingest_events", "Events kept.", ("source",), registry=r)
        self.dead_letters = Counter(
            "mailpulse_ingest_dead_letters",
            "Items of verified requests that could not be made events. List them with "
            "'mailpulse dlq ls'.",
            ("source", "reason"),
            registry=r,
        )
        self.request_seconds = Histogram(
            "mailpulse_ingest_request_seconds",
            "From a request's headers to its answer. Providers give up after 3 s.",
            buckets=_SECONDS,
            registry=r,
        )
        self.ack_seconds = Histogram(
            "mailpulse_ingest_kafka_ack_seconds",
            "From handing a parcel to the producer to Kafka's acknowledgement of all of it.",
            buckets=_SECONDS,
            registry=r,
        )
        self.capture_until = Gauge(
            "mailpulse_ingest_capture_until_seconds",
            "While 'mailpulse capture' reads a source's requests: when it ends, in seconds since "
            "1970. Absent without a capture.",
            ("source",),
            registry=r,
        )
        self._children: dict[tuple[str, str], Counter] = {}
        self._declare_keeping(r)
        self._declare(sources)

    def _declare_keeping(self, r: CollectorRegistry) -> None:
        """Metrics of the connection to Kafka, of memory and of the spool."""
        self.kafka_up = Gauge(
            "mailpulse_ingest_kafka_up", "1 while Kafka acknowledges, else 0.", registry=r
        )
        self.kafka_failures = Counter(
            "mailpulse_ingest_kafka_failures",
            "Times the connection to Kafka was replaced by a new one.",
            registry=r,
        )
        self.inflight_events = Gauge(
            "mailpulse_ingest_inflight_events", "Events waiting for Kafka.", registry=r
        )
        self.inflight_bytes = Gauge(
            "mailpulse_ingest_inflight_bytes", "Bytes waiting for Kafka.", registry=r
        )
        self.body_bytes = Gauge(
            "mailpulse_ingest_body_bytes", "Bytes of request bodies in memory.", registry=r
        )
        self.spool_bytes = Gauge(
            "mailpulse_ingest_spool_bytes",
            "Bytes on the spool. Above 0 for long: Kafka is down or too slow.",
            registry=r,
        )
        self.spooled = Counter(
            "mailpulse_ingest_spooled", "Requests answered from the spool.", registry=r
        )
        self.spool_damaged_bytes = Counter(
            "mailpulse_ingest_spool_damaged_bytes",
            "Bytes of the spool that could not be read; they are kept in a file beside it.",
            registry=r,
        )
        self.connections = Gauge("mailpulse_ingest_connections", "Open connections.", registry=r)
        self.connections_refused = Counter(
            "mailpulse_ingest_connections_refused",
            "Connections closed for a limit (too_many, displaced by a newer one while waiting for "
            "its client, header_timeout, header_too_large, body_timeout, framing_too_large, "
            "answer_timeout), or for a request that is not accepted (not_http, host_invalid, "
            "transfer_coding, upgrade, too_many_ahead, too_many_headers).",
            ("reason",),
            registry=r,
        )
        self.trailers_dropped = Counter(
            "mailpulse_ingest_trailers_dropped",
            "Header fields after a body (trailers). No provider sends any: they are an attempt to "
            "forge the proxy's headers.",
            registry=r,
        )
        self.rate_store_failures = Counter(
            "mailpulse_ingest_rate_store_failures",
            "Times the shared rate-limit store failed and the process counted for itself.",
            registry=r,
        )

    def _declare(self, sources: Iterable[str]) -> None:
        """``rate`` misses the value at which a series is born, and a source without any series
        looks like one that does not exist."""
        for source in sources:
            self.events.labels(source)
            for result in ("accepted", "unauthorized", *OUR_FAULT):
                self.requests.labels(source, result)

    def request(self, source: str, result: str, seconds: float, events: int = 0) -> None:
        """Counts one request to a hook; ``source`` is empty for one that does not exist."""
        key = (source, result)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = self.requests.labels(source, result)
        child.inc()
        self.request_seconds.observe(seconds)
        if events:
            key = (source, "")
            child = self._children.get(key)
            if child is None:
                child = self._children[key] = self.events.labels(source)
            child.inc(events)

    def exposition(self) -> bytes:
        """The registry in Prometheus' text format."""
        return generate_latest(self.registry)
