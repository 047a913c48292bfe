"""The reconciliation's figure, from ClickHouse to the metric."""

from collections.abc import Iterator

import pytest
from clickhouse_connect.driver.client import Client

from analytics.metrics import SinkMetrics
from analytics.sink.reconciling import Reconciler
from schemas import topics
from schemas.errors import Unavailable
from tests.contracts.test_warehouse import embedded
from tests.contracts.warehouse import Warehouse


@pytest.fixture
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    """A migrated database of one test."""
    yield from embedded(tmp_path_factory.mktemp("reconciling"))


def accept(warehouse: Warehouse, number: int, minutes_ago: int, *, stored: bool) -> None:
    """An event that came in, and whether it arrived."""
    identity = f"toUUID('00000000-0000-0000-0000-{number:012}')"
    at = f"now64(3) - INTERVAL {minutes_ago} MINUTE"
    warehouse.client.command(
        "INSERT INTO accepted (source, event_id, received_at, earliness)"
        f" VALUES ('news', {identity}, {at}, 1)"
    )
    if stored:
        warehouse.client.command(
            "INSERT INTO events (source, event_id, received_at, event_time)"
            f" VALUES ('news', {identity}, {at}, {at})"
        )


def letter(warehouse: Warehouse, number: int, stage: str, topic: str) -> None:
    """A dead letter of an hour ago."""
    identity = f"00000000-0000-0000-0000-{number:012}"
    warehouse.client.command(
        "INSERT INTO dead_letters (dead_letter_id, stage, topic, occurred_at)"
        f" VALUES ('{identity}', '{stage}', '{topic}', now64(3) - INTERVAL 60 MINUTE)"
    )


def shown(metrics: SinkMetrics) -> float | None:
    """What Prometheus would scrape."""
    return metrics.registry.get_sample_value("mailpulse_sink_reconciliation_difference_events")


async def test_the_metric_is_what_is_missing_of_settled_minutes(warehouse: Warehouse) -> None:
    """Dead letters are accounted for, unreadable records too; events that just arrived do not
    count."""
    metrics, mine = SinkMetrics(), True
    reconciler = Reconciler(
        warehouse.settings, lambda: warehouse.client, metrics, lambda: mine
    )  # fmt: skip
    accept(warehouse, 1, 60, stored=True)
    accept(warehouse, 2, 1, stored=False)
    letter(warehouse, 1, "enrich", topics.RAW)  # nobody could read it: a letter of each stage
    letter(warehouse, 2, "sink", topics.RAW)
    letter(warehouse, 3, "ingress", topics.CAMPAIGNS)  # of another topic: no event
    await reconciler.ask()
    assert shown(metrics) == 0
    accept(warehouse, 3, 60, stored=False)
    accept(warehouse, 4, 60, stored=False)
    letter(warehouse, 4, "sink", topics.ENRICHED)  # ClickHouse refused the one of them
    await reconciler.ask()
    assert shown(metrics) == 1
    mine = False
    await reconciler.ask()
    assert shown(metrics) == 0, "another sink tells it now"


async def test_a_figure_stays_while_clickhouse_does_not_answer(warehouse: Warehouse) -> None:
    """Its age is shown; the next answer replaces it."""
    metrics, away = SinkMetrics(), False

    def client() -> Client:
        if away:
            raise Unavailable("away")
        return warehouse.client

    accept(warehouse, 1, 60, stored=False)
    await Reconciler(warehouse.settings, client, metrics, lambda: True).ask()
    asked = metrics.registry.get_sample_value("mailpulse_sink_reconciled_seconds")
    away = True
    await Reconciler(warehouse.settings, client, metrics, lambda: True).ask()
    assert shown(metrics) == 1
    assert metrics.registry.get_sample_value("mailpulse_sink_reconciled_seconds") == asked
