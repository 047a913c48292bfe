"""Metrics of the warehouse (invariants: ``analytics.metrics``)."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from analytics.metrics import SECONDS


class WarehouseMetrics:
    """Every metric of the warehouse process; the help texts say what an operator should do."""

    def __init__(self) -> None:
        self.registry = r = CollectorRegistry()
        self.queries = Counter(
            "mailpulse_door_queries",
            "Queries through the analysts' door, by result: ok or ClickHouse's error code.",
            ("result",),
            registry=r,
        )
        self.query_seconds = Histogram(
            "mailpulse_door_query_seconds",
            "From a query's arrival to its last byte, waiting for a place included.",
            buckets=SECONDS,
            registry=r,
        )
        self.statements = Counter(
            "mailpulse_warehouse_statements",
            "The sink's inserts and questions, by result: ok or ClickHouse's error code.",
            ("result",),
            registry=r,
        )
        self.statement_seconds = Histogram(
            "mailpulse_warehouse_statement_seconds",
            "From the arrival of a statement of the sink's to its last byte.",
            buckets=SECONDS,
            registry=r,
        )
        self.kills = Counter(
            "mailpulse_warehouse_kills",
            "Queries killed: past their limit, or nobody waited for them any more.",
            registry=r,
        )
        self.ends = Counter(
            "mailpulse_warehouse_ends",
            "Times the process ended because a query did not when it was killed; the sink waits"
            " meanwhile. The log has the query's id.",
            registry=r,
        )
        self.under_way = Gauge(
            "mailpulse_warehouse_running_statements",
            "Queries and statements that the engine works on.",
            registry=r,
        )
        self.unsent = Gauge(
            "mailpulse_door_unsent_bytes",
            "Bytes of results over 1 MiB that analysts have not read yet; none finds room beyond"
            " DOOR_UNSENT_BYTES_MAX.",
            registry=r,
        )

    def render(self) -> bytes:
        """The exposition text."""
        return bytes(generate_latest(self.registry))
