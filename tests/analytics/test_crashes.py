"""The sink's batchers killed between any two of their steps: every view agrees with the recount.

The product's own ``Batcher`` and ``Loader`` run on the real engine, over a log that each run reads
from the committed offsets on. A run ends as with ``kill -9``: whatever was in progress stays as it
is, and nothing of it is committed afterwards. With real Kafka and real processes:
``tests/live/test_sink_kills.py``.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import pytest
from aiokafka import TopicPartition
from clickhouse_connect.driver.client import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analytics.metrics import SinkMetrics
from analytics.sink.batcher import Batcher, BatchLimits
from analytics.sink.loading import Loader, Reject
from analytics.sink.rows import Polled
from schemas.codec import Codec
from tests.analytics.scenario import History, Sent, histories
from tests.contracts.views import check_views
from tests.warehouses import migrated_warehouse

STEPS = ("before_insert", "half_inserted", "after_insert", "before_commit", "after_commit")
DEATHS_MAX = 4
PARTITIONS = 2
Logs = Mapping[TopicPartition, Sequence[Sent]]


class Died(Exception):
    """The process was killed."""


@dataclass
class Life:
    """One run of a sink's process.

    Attributes:
        step: where it is killed; empty: nowhere.
        reaches: which time of reaching ``step`` kills it.
        cuts: sizes of the polls, in turn.
        dead: whether it was killed.
    """

    step: str = ""
    reaches: int = 1
    cuts: Sequence[int] = (3,)
    dead: bool = field(default=False, compare=False)

    def reached(self, step: str) -> None:
        """Kills the process here if it is time; a dead process gets no further.

        Raises:
            Died: it was killed, now or before.
        """
        if step == self.step:
            self.reaches -= 1
            self.dead = self.dead or self.reaches <= 0
        if self.dead:
            raise Died(step)


class MortalLoader(Loader):
    """The product's loader, with steps at which it can be killed."""

    life: Life

    def load(self, records: Sequence[Polled]) -> list[Reject]:
        """As the product's, unless it is killed."""
        self.life.reached("before_insert")
        if self.life.step == "half_inserted":
            super().load(records[: len(records) // 2])
            self.life.reached("half_inserted")
        rejects = super().load(records)
        self.life.reached("after_insert")
        return rejects


async def live(
    life: Life, logs: Logs, committed: dict[TopicPartition, int], client: Client, executor: Executor
) -> None:
    """Polls, stores and commits from ``committed`` on, until the logs end or it is killed."""

    def loader(topic: str) -> Loader:
        made = MortalLoader(client, Codec(), topic)
        made.life = life
        return made

    async def commit(offsets: Mapping[TopicPartition, int]) -> None:
        life.reached("before_commit")
        committed.update(offsets)
        life.reached("after_commit")

    async def dead_letter(rejects: Sequence[Reject]) -> None:
        raise AssertionError(rejects)

    limits = BatchLimits(records_max=4, bytes_max=1 << 20, interval_s=0.0)
    batchers = {
        topic: Batcher(
            topic, partial(loader, topic), executor, limits, SinkMetrics(), commit,
            dead_letter,
        )
        for topic in {partition.topic for partition in logs}
    }  # fmt: skip
    places = {partition: committed.get(partition, 0) for partition in logs}
    for turn in range(10_000):
        for partition, log in logs.items():
            batcher = batchers[partition.topic]
            size = life.cuts[turn % len(life.cuts)]
            records = log[places[partition] : places[partition] + size]
            if records and not batcher.full:
                batcher.add(partition, records, 0.0)
                places[partition] += len(records)
            batcher.launch(0.0, force=True)
        await asyncio.sleep(0)
        if turn % 3 == 0 or life.dead:
            try:
                await asyncio.gather(*(batcher.settle(60) for batcher in batchers.values()))
            except Died:
                break
        if all(batcher.idle for batcher in batchers.values()) and places == _ends(logs):
            return
    life.dead = True
    # inserts under way may still land, as they do in a server whose client was killed
    await asyncio.gather(
        *(batcher.settle(60) for batcher in batchers.values()), return_exceptions=True
    )


def _ends(logs: Logs) -> dict[TopicPartition, int]:
    return {partition: len(log) for partition, log in logs.items()}


@st.composite
def lives(draw: st.DrawFn) -> list[Life]:
    """Some that are killed, and a last one that is not."""
    cuts = st.lists(st.integers(1, 7), min_size=1, max_size=4)
    doomed = draw(
        st.lists(
            st.builds(Life, st.sampled_from(STEPS), st.integers(1, 3), cuts), max_size=DEATHS_MAX
        )
    )
    return [*doomed, Life(cuts=draw(cuts))]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A client of a migrated database."""
    with migrated_warehouse(tmp_path_factory.mktemp("crashes")) as (_, made):
        yield made


@pytest.mark.timeout(400)  # a busy machine is no defect
@given(history=histories(), lifetimes=lives(), data=st.data())
@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
def test_views_are_the_recount_whatever_died_when(
    client: Client, history: History, lifetimes: list[Life], data: st.DataObject
) -> None:
    """Records twice, in any order, on any partition, in any batches; killed at any step."""
    for table in ("events", "campaign_minutes", "source_newest"):
        client.command(f"TRUNCATE TABLE {table}")
    sent = history.sent()
    logs: dict[TopicPartition, list[Sent]] = defaultdict(list)
    for each in data.draw(st.permutations(sent + sent), label="order"):
        number = data.draw(st.integers(0, PARTITIONS - 1), label="partition")
        log = logs[TopicPartition(each.topic, number)]
        log.append(replace(each, partition=number, offset=len(log)))
    committed: dict[TopicPartition, int] = {}
    with ThreadPoolExecutor(1) as executor:
        for life in lifetimes:
            asyncio.run(live(life, logs, committed, client, executor))
    assert committed == _ends(logs)

    def rows(sql: str) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in client.query(sql).result_rows]

    check_views(rows, history)
