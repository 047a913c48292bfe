"""Through which time the data is complete: lag and silence apart, and at constant cost."""

from dataclasses import dataclass
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.structs import OffsetAndMetadata
from clickhouse_connect.driver.client import Client
from hypothesis import given
from hypothesis import strategies as st

from analytics.metrics import SinkMetrics
from analytics.sink.progress import Progress, lags, through
from schemas.errors import Unavailable
from schemas.settings import Settings
from schemas.topics import ENRICHED, MINUTES, RAW

NOW_MS = 1_795_000_000_000
PLACES = {topic: TopicPartition(topic, 0) for topic in (RAW, ENRICHED, MINUTES)}
offsets = st.integers(0, 3)


def told(
    committed: dict[str, int],
    ends: dict[str, int],
    stored: int,
    last_ms: int = NOW_MS - 9_000,
    before: dict[str, int] | None = None,
) -> tuple[int, int]:
    """Of one partition: through which time events and rates are complete; 0: unknown."""
    found = through(
        [0],
        {PLACES[topic]: at for topic, at in committed.items()},
        {PLACES[topic]: at for topic, at in ends.items()},
        {PLACES[ENRICHED]: stored},
        {PLACES[ENRICHED]: last_ms},
        NOW_MS,
        {PLACES[topic]: at for topic, at in (before or {}).items()},
    )
    return found.get(PLACES[ENRICHED], 0), found.get(PLACES[MINUTES], 0)


def test_a_quiet_pipeline_is_complete_through_now() -> None:
    """Nothing has come for hours, or ever: silence is no lag. It once counted as lag."""
    assert told({RAW: 7, MINUTES: 3}, {RAW: 7, ENRICHED: 5, MINUTES: 3}, 5) == (NOW_MS, NOW_MS)
    assert told({RAW: -1, MINUTES: -1}, {RAW: 0, ENRICHED: 0, MINUTES: 0}, 0) == (NOW_MS, NOW_MS)


def test_what_was_not_worked_off_is_lag() -> None:
    """By the workers, or by the sink: complete through the last record stored."""
    ends = {RAW: 7, ENRICHED: 5, MINUTES: 3}
    for committed, stored in (({RAW: 6, MINUTES: 3}, 5), ({RAW: 7, MINUTES: 3}, 4), ({}, 5)):
        assert told(committed, ends, stored)[0] == NOW_MS - 9_000
    assert told({RAW: 7, MINUTES: 2}, ends, 5)[1] == 0


@given(offsets, offsets, offsets, offsets, offsets, offsets, offsets, st.booleans())
def test_it_claims_nothing_that_is_not_so(
    worked: int, counted: int, raw: int, enriched: int, minutes: int, stored: int, ago: int,
    known: bool,
) -> None:  # fmt: skip
    """Now only when every step has reached its end; it never goes back."""
    before = {ENRICHED: NOW_MS - 5_000, MINUTES: NOW_MS - 5_000} if known else {}
    events, rates = told(
        {RAW: worked, MINUTES: counted}, {RAW: raw, ENRICHED: enriched, MINUTES: minutes}, stored,
        NOW_MS - ago * 4_000 - 1, before,
    )  # fmt: skip
    assert (events == NOW_MS) == (worked >= raw and stored >= enriched)
    assert (rates == NOW_MS) == (worked >= raw and counted >= minutes)
    assert events >= before.get(ENRICHED, 0)
    assert rates >= before.get(MINUTES, 0)


def test_lag_is_what_the_group_has_not_committed() -> None:
    """Before its first commit, all of the partition; a partition without a known end is unknown."""
    committed = {PLACES[RAW]: 4, PLACES[MINUTES]: -1, TopicPartition(RAW, 1): 9}
    ends = {PLACES[RAW]: 7, PLACES[MINUTES]: 3}
    assert lags(committed, ends) == {PLACES[RAW]: 3, PLACES[MINUTES]: 3}
    assert lags({PLACES[RAW]: 7}, {PLACES[RAW]: 5}) == {PLACES[RAW]: 0}, "asked for in this order"


@dataclass
class FakeConsumer:
    """A consumer with one partition of the enriched topic, or none."""

    ends: dict[TopicPartition, int]
    assigned: bool = True

    def assignment(self) -> set[TopicPartition]:
        return {PLACES[ENRICHED]} if self.assigned else set()

    async def end_offsets(self, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        return {place: self.ends[place] for place in places}


@dataclass
class FakeAdmin:
    """Kafka's word on what the workers have committed."""

    committed: dict[TopicPartition, int]

    async def list_consumer_group_offsets(
        self, group: str, partitions: list[TopicPartition]
    ) -> dict[TopicPartition, OffsetAndMetadata]:
        return {place: OffsetAndMetadata(self.committed[place], "") for place in partitions}


def shown(metrics: SinkMetrics) -> dict[str, float]:
    """What of the progress is exported, without the topics' partition."""
    return {
        sample.name + sample.labels.get("topic", ""): sample.value
        for gauge in (metrics.workers_lag, metrics.complete_through)
        for family in gauge.collect()
        for sample in family.samples
    }


async def test_metrics_tell_the_lag_of_workers_that_are_away() -> None:
    """By Kafka's account; they say nothing of partitions that this sink no longer reads, and
    whether ClickHouse took the last row."""

    def away() -> Client:
        raise Unavailable("ClickHouse: no")

    metrics = SinkMetrics()
    consumer = FakeConsumer({PLACES[RAW]: 9, PLACES[ENRICHED]: 5, PLACES[MINUTES]: 2})
    times = {PLACES[ENRICHED]: NOW_MS - 9_000}
    progress = Progress(
        Settings(), away, lambda: (consumer, {PLACES[ENRICHED]: 5}, times), metrics,
        lambda: NOW_MS / 1000,
    )  # fmt: skip
    assert progress.told
    admin: Any = FakeAdmin({PLACES[RAW]: 4, PLACES[MINUTES]: 2})
    with pytest.raises(Unavailable):
        await progress.tell(admin)
    assert not progress.told
    lag, through = "mailpulse_sink_workers_lag_records", "mailpulse_sink_complete_through_seconds"
    assert shown(metrics) == {
        lag + RAW: 5, lag + MINUTES: 0, through: (NOW_MS - 9_000) / 1000
    }  # fmt: skip
    consumer.assigned = False
    await progress.tell(admin)
    assert shown(metrics) == {}
