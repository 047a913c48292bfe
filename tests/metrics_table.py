"""Every metric that the roles export, read from the code, as a table for the operators' page.

``python -m tests.metrics_table`` prints it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from analytics.dashboard.metrics import DashboardMetrics
from analytics.metrics import SinkMetrics
from analytics.warehouse.metrics import WarehouseMetrics
from ingest.metrics import IngestMetrics
from streams.deliver.metrics import DeliverMetrics
from streams.worker.metrics import StreamMetrics

_SAMPLES = {
    "counter": ("_total",),
    "gauge": ("",),
    "histogram": ("_bucket", "_sum", "_count"),
}


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. ``name`` as it is queried; ``samples``: every name that Prometheus stores."""

    role: str
    name: str
    kind: str
    labels: tuple[str, ...]
    meaning: str
    samples: tuple[str, ...]


def registries() -> Mapping[str, CollectorRegistry]:
    """Role -> its registry, freshly made."""
    return {
        "ingest": IngestMetrics().registry,
        "worker": StreamMetrics().registry,
        "sink": SinkMetrics().registry,
        "deliver": DeliverMetrics().registry,
        "warehouse": WarehouseMetrics().registry,
        "dashboard": DashboardMetrics().registry,
    }


def metrics() -> Iterator[Metric]:
    """Every metric of every role, in the code's order."""
    for role, registry in registries().items():
        for collector in dict.fromkeys(registry._collector_to_names):
            labels = tuple(getattr(collector, "_labelnames", ()))
            assert isinstance(collector, MetricWrapperBase)
            for family in collector.describe():
                samples = tuple(family.name + suffix for suffix in _SAMPLES[family.type])
                name = samples[0] if family.type == "counter" else family.name
                yield Metric(role, name, family.type, labels, family.documentation, samples)


def table() -> str:
    """The table, in Markdown."""
    lines = ["| role | metric | labels | what it says |", "|---|---|---|---|"]
    for one in metrics():
        labels = ", ".join(one.labels) or "–"
        lines.append(f"| {one.role} | `{one.name}` ({one.kind}) | {labels} | {one.meaning} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(table(), end="")
