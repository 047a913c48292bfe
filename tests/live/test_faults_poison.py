"""Poison in one of a hundred records, with good traffic: other records and figures are unaffected.

Over HTTP comes what an authenticated sender may send; onto the topic what only a broken or hostile
producer would write. Each piece becomes one dead letter or is refused, never an event; of an event
with an invalid time only the time is dropped.
"""

import asyncio
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from schemas import topics
from schemas.codec import Codec
from streams.simulation.accounts import open_accounts
from streams.simulation.readout import ClickHouse
from tests.builders import record
from tests.live import story
from tests.live.faults import Trial
from tests.live.fixtures import KafkaCluster
from tests.live.poison import RECORD_BYTES_MAX, poisoned
from tests.live.roles import Pipeline

pytestmark = pytest.mark.timeout(480)

RATE_PER_S, SECONDS = 300.0, 15.0
ROUNDS = int(RATE_PER_S * SECONDS / 100 / 5)
"""Each puts five poisoned records beside the good ones: 1 %."""
_NAN = record("alert", campaign_id="poison") | {"value": float("nan"), "incident_id": "ef" * 16}


def by_http(url: str, number: int) -> Counter[int]:
    """What an authenticated sender may send; returns how it was answered.

    An event with an invalid time (NaN, which readers take for null), invalid JSON, too much of it.
    """
    odd = story.event("delivered", f"nan-{number}", "nan", 0)
    answers = [
        story.post(url, str(odd).replace("'", '"').replace(": 0,", ": NaN,").encode()),
        story.post(url, b'[{"event": "\xff\xfe"}] %d' % number),
        story.post(url, b"[" + b" " * 6_000_000 + b"]"),
    ]
    return Counter(answer.status_code for answer in answers)


class Poisoner:
    """Puts poison into a trial's traffic; knows the expected number of dead letters."""

    def __init__(self, bootstrap: str) -> None:
        self.on_topic = 0
        self.answered: Counter[int] = Counter()
        self._bootstrap = bootstrap

    def __call__(self, trial: Trial) -> None:
        """See ``Fault``."""
        asyncio.run(self._put(trial.pipeline.ingest_url))

    async def _put(self, url: str) -> None:
        producer = AIOKafkaProducer(
            bootstrap_servers=self._bootstrap, max_request_size=RECORD_BYTES_MAX
        )
        await producer.start()
        try:
            for number in range(ROUNDS):
                begun = time.monotonic()
                for place, value in enumerate(poisoned(number)):
                    await producer.send_and_wait(topics.RAW, value, partition=place)
                    self.on_topic += 1
                nan = Codec().encode("alert", _NAN)
                await producer.send_and_wait(topics.ALERTS, nan, key=b"poison")
                self.answered += await asyncio.to_thread(by_http, url, number)
                await asyncio.sleep(max(0.0, SECONDS / ROUNDS - time.monotonic() + begun))
        finally:
            await producer.stop()


async def ask(dsn: str, query: str) -> list[list[Any]]:
    """Rows of a query."""
    clickhouse = ClickHouse(dsn)
    try:
        return await clickhouse.rows(query)
    finally:
        await clickhouse.close()


def test_poison_in_one_of_a_hundred(kafka_cluster: KafkaCluster, tmp_path: Path) -> None:
    """Every good event once, every figure right, every poisoned record one dead letter."""
    (broker,) = kafka_cluster()
    accounts = open_accounts()
    with Pipeline(
        broker.bootstrap, tmp_path, accounts.toml + story.CONFIG,
        accounts.environ | story.SECRETS,
    ) as pipeline:  # fmt: skip
        trial = Trial(pipeline, accounts, tmp_path, rate_per_s=RATE_PER_S)
        poison = Poisoner(broker.bootstrap)
        outcome = trial.run(SECONDS, poison)
        trial.check(outcome)
        assert not outcome.restarts, "poison ends nobody"
        assert poison.on_topic == 4 * ROUNDS
        assert poison.answered == {200: 2 * ROUNDS, 413: ROUNDS}
        dsn = pipeline.clickhouse_dsn
        letters = "SELECT stage, toUInt32(sum(letters)) FROM dead_letter_counts GROUP BY stage"
        by_stage = dict(asyncio.run(ask(dsn, letters)))
        assert by_stage["enrich"] == poison.on_topic
        assert by_stage["ingest"] >= ROUNDS, "the simulated providers send some as well"
        odd = "SELECT countIf(source = 'shop' AND time_suspect), countIf(recipient LIKE 'm%rk@%')"
        assert asyncio.run(ask(dsn, f"{odd} FROM events FINAL")) == [[ROUNDS, 0]]
        balance = "SELECT sum(missing), sum(unexplained), sum(accepted) > 0 FROM reconciliation"
        deadline = time.monotonic() + 90  # the sink's next pass
        while (found := asyncio.run(ask(dsn, balance))) != [[0, 0, 1]]:
            assert time.monotonic() < deadline, found
            time.sleep(1)
