"""The reconciliation's figures, from ClickHouse to the metrics."""

import asyncio
from collections.abc import Iterator
from itertools import count

import pytest
from clickhouse_connect.driver.client import Client

from analytics.metrics import SinkMetrics
from analytics.sink.reconciling import Reconciler
from schemas.errors import Unavailable
from streams.cli.doctor import RECONCILED
from tests.analytics.test_books import accepted, enriched, raw
from tests.contracts.test_warehouse import embedded
from tests.contracts.warehouse import Warehouse


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    """A migrated database with an event that was accepted only and one that was stored only."""
    for warehouse in embedded(tmp_path_factory.mktemp("reconciling")):
        warehouse.load([accepted(raw(1, "news", 0), 0), enriched(raw(2, "news", 1), 1)])
        yield warehouse


def shown(metrics: SinkMetrics) -> dict[str, float | None]:
    """What Prometheus would scrape."""
    names = ("active", "difference_events", "unexplained_events")
    found = {
        name: metrics.registry.get_sample_value(f"mailpulse_sink_reconciliation_{name}")
        for name in names
    }
    return found | {"at": metrics.registry.get_sample_value("mailpulse_sink_reconciled_seconds")}


async def test_one_sink_tells_both_differences(warehouse: Warehouse) -> None:
    """They don't cancel each other out; when another sink takes over, it tells them."""
    metrics, mine = SinkMetrics(), True
    reconciler = Reconciler(warehouse.settings, lambda: warehouse.client, metrics, lambda: mine)
    await reconciler.ask()
    assert shown(metrics) | {"at": 0} == {
        "active": 1, "difference_events": 1, "unexplained_events": 1, "at": 0,
    }  # fmt: skip
    assert shown(metrics)["at"]
    mine = False
    await reconciler.ask()
    assert set(shown(metrics).values()) == {0}


def test_doctor_asks_what_every_supported_engine_answers(warehouse: Warehouse) -> None:
    """ClickHouse 26.3 gives a date that may be NULL, and 0 instead, a type that is no number."""
    [[passes, age_s, missing, unexplained]] = warehouse.client.query(RECONCILED).result_rows
    assert (missing, unexplained) == ((1, 1) if passes else (0, 0))
    assert age_s > 0


async def test_a_figure_stays_while_clickhouse_does_not_answer(warehouse: Warehouse) -> None:
    """Its age is shown."""
    metrics = SinkMetrics()
    await Reconciler(warehouse.settings, lambda: warehouse.client, metrics, lambda: True).ask()
    before = shown(metrics)
    await Reconciler(warehouse.settings, _away, metrics, lambda: True).ask()
    assert shown(metrics) == before


async def test_a_comparison_that_never_succeeds_can_be_told(warehouse: Warehouse) -> None:
    """The sink says that it compares and that it never did: «Stale» compares both."""
    metrics = SinkMetrics()
    await Reconciler(warehouse.settings, _away, metrics, lambda: True).ask()
    assert shown(metrics)["active"] == 1
    assert shown(metrics)["at"] == 0


async def test_a_sink_compares_as_soon_as_it_is_the_one(warehouse: Warehouse) -> None:
    """Partitions come after the start: it does not let a whole interval pass."""
    metrics, asked, passed = SinkMetrics(), count(1), asyncio.Event()

    def mine() -> bool:
        """Asked before and after each pass; becomes true after the first, which is none."""
        number = next(asked)
        if number == 4:
            passed.set()
        return number > 2

    settings = warehouse.settings.model_copy(update={"sink_reconcile_interval_s": 3_600})
    reconciler = Reconciler(settings, lambda: warehouse.client, metrics, mine)
    running = asyncio.create_task(reconciler.run())
    async with asyncio.timeout(60):
        await passed.wait()
    running.cancel()
    assert shown(metrics)["at"]


def _away() -> Client:
    raise Unavailable("away")
