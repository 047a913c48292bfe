"""The pages' consumer of engagement makes each task once, while it and the worker are killed."""

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from schemas import topics
from schemas.codec import Codec
from streams.kafka import admin
from tests.live import story
from tests.live.fixtures import KafkaCluster
from tests.live.process import ProcessFailed
from tests.live.recount import read_topic
from tests.live.roles import Pipeline, clean_environ
from tests.readme import all_blocks

pytestmark = pytest.mark.timeout(480)

KILLS = int(os.environ.get("MAILPULSE_TEST_KILLS", "3"))
PEOPLE = 25
"""Per kill: each opens once."""
SCANNERS = 8
"""Per kill: each clicks like a person, then like a scanner, so that the click is withdrawn."""
CHECKPOINT_MS = 2_000
"""Long, so that a kill makes the worker repeat what it wrote."""
PATIENCE_S = 90.0
CODEC = Codec()

Task = tuple[str, str]
"""What to do, and the event's id."""


class Consumer:
    """The example, killed and started again; its database stays."""

    def __init__(self, folder: Path, pipeline: Pipeline) -> None:
        self.database = folder / "follow-up.db"
        self._script = folder / "consumer.py"
        self._script.write_text(all_blocks("consumer")["confluent"], encoding="utf-8")
        self._log = folder / "consumer.log"
        self._environ = {
            **clean_environ(),
            "KAFKA": pipeline.settings.kafka_bootstrap,
            "REGISTRY": f"{pipeline.ingest_url}/registry",
            "DB": str(self.database),
        }
        self.start()

    def start(self) -> None:
        """As whoever watches over it would."""
        with self._log.open("ab") as stream:
            self._process = subprocess.Popen(
                [sys.executable, str(self._script)], stdout=stream, stderr=stream,
                env=self._environ,
            )  # fmt: skip

    def kill(self) -> None:
        """SIGKILL, at any moment."""
        assert self._process.poll() is None, self._log.read_text("utf-8")[-2000:]
        self._process.kill()
        self._process.wait()

    def tasks(self) -> Counter[Task]:
        """How often each task is in its database."""
        if not self.database.exists():
            return Counter()
        with closing(sqlite3.connect(self.database, timeout=30)) as db:
            try:
                return Counter(db.execute("SELECT what, event_id FROM tasks").fetchall())
            except sqlite3.OperationalError:  # it has only just begun
                return Counter()


@pytest.fixture
def pipeline(kafka_cluster: KafkaCluster, tmp_path: Path) -> Iterator[Pipeline]:
    """An ingress and a worker; nothing else is needed."""
    (broker,) = kafka_cluster()
    pipeline = Pipeline(
        broker.bootstrap, tmp_path, story.CONFIG, story.SECRETS, partitions=2,
        settings={"CHECKPOINT_INTERVAL_MS": str(CHECKPOINT_MS)},
    )  # fmt: skip
    asyncio.run(admin.topics_apply(pipeline.settings))
    used = [pipeline["ingest-1"], pipeline["worker-1"]]
    try:
        for role in used:
            role.start()
        for role in used:
            role.wait_ready()
        yield pipeline
    finally:
        for role in used:
            role.kill()


def post(pipeline: Pipeline, events: list[dict[str, Any]]) -> None:
    """One request."""
    answer = story.post(pipeline.ingest_url, json.dumps(events).encode())
    assert answer.json() == {"accepted": len(events), "rejected": 0}


def tell(pipeline: Pipeline, number: int) -> None:
    """People who open, and clicks that turn out to be scanners'."""
    start = int(time.time()) - 900
    people = [f"p{number}-{each}" for each in range(PEOPLE)]
    scanners = [f"s{number}-{each}" for each in range(SCANNERS)]
    delivered = [story.event("delivered", f"d-{who}", who, start) for who in people + scanners]
    opens = [
        story.event("opened", f"o-{who}", who, start + 300, user_agent=story.AGENT)
        for who in people
    ]
    clicks = [
        [
            story.event(
                "clicked", f"c{link}-{who}", who, start + 400 + (link > 0), user_agent=story.AGENT,
                url=f"https://shop.example/{link}",
            )
            for who in scanners
        ]
        for link in range(3)
    ]  # fmt: skip
    for request in (delivered, opens, *clicks):
        post(pipeline, request)


def told(pipeline: Pipeline) -> list[dict[str, Any]]:
    """Every engagement record, repeats included."""
    records = asyncio.run(read_topic(pipeline.settings.kafka_bootstrap, topics.ENGAGEMENT))
    return [CODEC.decode(record.value, "engagement") for record in records]


def once(records: list[dict[str, Any]]) -> Counter[Task]:
    """The tasks of records, each record once: told apart by all that identifies it."""
    different = {
        (one["log_id"], one["partition"], one["offset"], one["event_id"], one["withdrawn"])
        for one in records
    }
    return Counter(
        ("withdraw" if withdrawn else "follow up", event_id)
        for *_, event_id, withdrawn in different
    )


def wait(pipeline: Pipeline, holds: Any) -> list[dict[str, Any]]:
    """The records, once ``holds`` of them."""
    end = time.monotonic() + PATIENCE_S
    while True:
        records = told(pipeline)
        if holds(records):
            return records
        if time.monotonic() > end:
            raise ProcessFailed(f"{len(records)} records\n{pipeline.log_tails()}")
        time.sleep(0.3)


def test_each_task_is_made_once(pipeline: Pipeline, tmp_path: Path) -> None:
    """The worker repeats what it wrote after each kill, withdrawals too; the consumer is killed at
    other moments."""
    consumer, worker = Consumer(tmp_path, pipeline), pipeline["worker-1"]
    try:
        for number in range(KILLS):
            before = len(once(told(pipeline)))
            tell(pipeline, number)
            wait(pipeline, lambda records, before=before: len(once(records)) > before)
            worker.kill()
            if number % 2:
                consumer.kill()
                consumer.start()
            worker.start()
        expected = KILLS * (PEOPLE + 2 * SCANNERS)
        records = wait(pipeline, lambda records: len(once(records)) >= expected)
        end = time.monotonic() + PATIENCE_S
        while len(consumer.tasks()) < expected and time.monotonic() < end:
            time.sleep(0.2)
        # what the worker still repeats must change nothing
        post(
            pipeline,
            [story.event("opened", "last", "last", int(time.time()), user_agent=story.AGENT)],
        )
        records = wait(pipeline, lambda records: len(once(records)) > expected)
        while len(consumer.tasks()) <= expected and time.monotonic() < end:
            time.sleep(0.2)
        assert len(records) > len(once(records)), "nothing was repeated: the kills tried nothing"
        assert consumer.tasks() == once(records)
        assert set(consumer.tasks().values()) == {1}
    finally:
        consumer.kill()
