"""Ten people, one forgotten, on real Kafka and chDB: gone where that is promised, figures as
before, and nothing brings the person back. About a minute."""

import asyncio
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from schemas import topics
from schemas.codec import Codec
from schemas.erasure import digest
from schemas.event import Event, message_key
from schemas.identity import address_identity
from schemas.recipient_hash import keyed_hash
from streams.kafka.clients import producer
from streams.simulation.readout import ClickHouse
from streams.worker.store import StateDirectory
from tests.builders import event
from tests.live.fixtures import KafkaCluster
from tests.live.recount import merged_minutes, read_topic
from tests.live.roles import Pipeline, clean_environ
from tests.live.test_reprocess import Operator

pytestmark = [pytest.mark.timeout(480), pytest.mark.live]

CODEC = Codec()
ADA = "Ada@Lovelace.example"
OTHERS = [f"user{number}@gmail.com" for number in range(9)]
LATE = "f" * 31 + "1"
KEY = "0123456789abcdef0123456789abcdef"
KINDS = ("delivered", "opened", "clicked", "bounced", "unsubscribed")


def course(address: str, number: int, begin_us: int) -> list[Event]:
    """What happened to a message: everything, one kind a second."""
    out = []
    for position, kind in enumerate(KINDS):
        at = begin_us + position * 1_000_000
        out.append(
            event(
                event_id=f"{number:028x}{position:04x}", event_type=kind, occurred_at=at,
                received_at=at + 1_000_000, recipient=address, message_id=f"adas-{number}",
                recipient_domain=address.partition("@")[2].lower(), ip="198.51.100.7",
                campaign_id=f"c{number % 2}", user_agent="Mozilla/5.0",
                click_url=f"https://s.example/a?who={address}" if kind == "clicked" else None,
                bounce_class="hard" if kind == "bounced" else "none",
                suppression_scope="group:1" if kind == "unsubscribed" else None,
                diagnostic=f"550 5.1.1 {address}" if kind == "bounced" else None,
            )
        )  # fmt: skip
    return out


async def send(pipeline: Pipeline, events: Iterable[Event]) -> None:
    """Writes events to the raw topic, as ingress does."""
    async with producer(pipeline.settings) as client:
        for one in events:
            await client.send_and_wait(topics.RAW, CODEC.encode("raw_event", one), message_key(one))


class Command:
    """``mailpulse`` as an operator runs it."""

    def __init__(self, pipeline: Pipeline) -> None:
        given = {**pipeline._environ, "RECIPIENT_HASH_KEY": KEY}
        self.environ = clean_environ() | {
            f"MAILPULSE_{name}": value for name, value in given.items()
        }
        self.folder = pipeline.folder

    def begin(self, *given: str) -> "subprocess.Popen[str]":
        """Starts a command."""
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "streams.cli", *given], env=self.environ,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=self.folder,
        )  # fmt: skip

    def run(self, *given: str, code: int = 0) -> str:
        """Runs it to its end; returns its stdout."""
        process = self.begin(*given)
        out, said = process.communicate(timeout=180)
        assert process.returncode == code, said + out
        return out

    def json(self, *given: str) -> Any:
        """The document that it prints."""
        return json.loads(self.run(*given, "--json"))


async def rows(pipeline: Pipeline, sql: str) -> list[Any]:
    """Rows of a query of any table."""
    clickhouse = ClickHouse(pipeline.all_rights_dsn)
    try:
        return [tuple(row) for row in await clickhouse.rows(sql)]
    finally:
        await clickhouse.close()


FIGURES = (
    "SELECT * FROM campaign_summary ORDER BY campaign_id",
    "SELECT campaign_id, event_type, actor, bounce_class, bounce_reason, first_of_kind,"
    " first_human, count(), uniqExact(message_key), uniqExact(event_id) FROM events FINAL"
    " GROUP BY ALL ORDER BY ALL",
)
OF_OTHERS = (
    "SELECT * EXCEPT (version, revision, rules_version, is_deleted) FROM events FINAL"
    " WHERE recipient_identity LIKE 'user%' ORDER BY event_id",
    "SELECT recipient, reason, since FROM suppressions FINAL ORDER BY ALL",
    "SELECT recipient, source, scope, reason FROM scoped_suppressions FINAL ORDER BY ALL",
)


def seen(pipeline: Pipeline, queries: Iterable[str]) -> list[Any]:
    """Answers of queries, as text that can be compared."""
    return [str(asyncio.run(rows(pipeline, sql))) for sql in queries]


def dump(pipeline: Pipeline) -> str:
    """All rows of the tables that may name people, in lower case; replaced versions too."""
    tables = ("events", "suppressions", "scoped_suppressions", "dead_letters")
    return str([asyncio.run(rows(pipeline, f"SELECT * FROM {table}")) for table in tables]).lower()


def newest_suppressions(pipeline: Pipeline) -> dict[bytes, bytes | None]:
    """Key -> newest value, on both topics of suppressions."""
    out: dict[bytes, bytes | None] = {}
    for topic in (topics.SUPPRESSIONS, topics.SCOPED_SUPPRESSIONS):
        for record in asyncio.run(read_topic(pipeline.settings.kafka_bootstrap, topic)):
            out[record.key] = record.value
    return out


class Story:
    """The pipeline, and what was seen of it when it was last as it should be."""

    def __init__(self, pipeline: Pipeline, folder: Path) -> None:
        self.pipeline, self.folder = pipeline, folder
        self.command = Command(pipeline)
        self.begin_us = int(time.time() * 1_000_000) - 3_600_000_000
        self.mine = course(ADA, 0, self.begin_us)
        self.tell(self.mine)
        for number, other in enumerate(OTHERS, 1):
            self.tell(course(other, number, self.begin_us))
        self.look()

    def tell(self, events: list[Event]) -> None:
        """Events arrive."""
        asyncio.run(send(self.pipeline, events))

    def look(self) -> None:
        """Notes all figures."""
        self.pipeline.wait_caught_up()
        bootstrap = self.pipeline.settings.kafka_bootstrap
        self.figures = seen(self.pipeline, FIGURES), asyncio.run(merged_minutes(bootstrap))
        self.others = seen(self.pipeline, OF_OTHERS)

    def check_gone(self) -> None:
        """Nothing names her, and no figure has changed since the last look."""
        figures, others = self.figures, self.others
        self.look()
        assert "lovelace" not in dump(self.pipeline)
        ids = "SELECT message_id FROM events WHERE message_id LIKE 'adas-0%'"
        assert asyncio.run(rows(self.pipeline, ids)) == []
        assert self.figures == figures
        assert self.others == others


def forget_her(story: Story) -> Any:
    """By a command that is killed, and one in another spelling; returns the certificate."""
    command = story.command
    killed = command.begin("forget", '"ada"@lovelace.EXAMPLE', "--yes")
    while "ordered" not in (line := (killed.stderr or sys.stdin).readline()):
        assert line, "the command ended"
    killed.kill()
    killed.wait()
    certificate = command.json("forget", ADA, "--yes")
    assert command.json("forget", ADA.lower(), "--yes") == certificate
    counted = {one["store"]: one["count"] for one in certificate["certificates"][0]["stores"]}
    assert counted["ClickHouse: events"] == 5
    assert counted[f"Kafka: {topics.SUPPRESSIONS}"] == 1
    assert "lovelace" not in json.dumps(certificate).lower()
    files = (story.folder / "data").rglob("*.json")
    assert not any("lovelace" in file.read_text(encoding="utf-8") for file in files)
    held = newest_suppressions(story.pipeline)
    assert not [key for key, value in held.items() if b"lovelace" in key and value is not None]
    verified = command.json("forget", ADA, "--verify")
    assert verified["gone"]
    by_store = {one["store"]: one["count"] for one in verified["stores"]}
    assert by_store[f"Kafka: {topics.RAW}"] == 5
    return certificate


def come_late(story: Story) -> None:
    """One event once more, one that is new but of before, and an open of old mail: they count, and
    name nobody."""
    late = course(ADA, 0, story.begin_us)[2]
    late["event_id"] = LATE
    opened = course(ADA, 0, int(time.time() * 1_000_000) - 2_000_000)[1]
    opened["event_id"] = LATE[::-1]
    story.tell([story.mine[1], late, opened])
    others = story.others
    story.look()
    assert "lovelace" not in dump(story.pipeline)
    assert story.others == others
    ids = f"'{UUID(LATE)}', '{UUID(LATE[::-1])}'"
    sql = f"SELECT recipient, ip, click_url FROM events FINAL WHERE event_id IN ({ids})"
    assert asyncio.run(rows(story.pipeline, sql)) == [("", "", "")] * 2


def lose_state_and_tables(story: Story) -> None:
    """State is rebuilt, and another group stores everything once more."""
    worker, sink = story.pipeline["worker-1"], story.pipeline["sink-1"]
    worker.stop()
    folder = story.folder / "state" / "worker-1"
    check_state(folder / "mailpulse")
    shutil.rmtree(folder)
    worker.start()
    worker.wait_ready()
    sink.stop()
    assert sink._env is not None
    sink._env["MAILPULSE_SINK_GROUP"] = story.pipeline._environ["SINK_GROUP"] = "again"
    sink.start()
    sink.wait_ready()
    story.command = Command(story.pipeline)


def check_state(path: Path) -> None:
    """The workers' state has no evidence about her, but about the others."""
    directory = StateDirectory(path)
    try:
        keys = [b"r" + digest(address_identity(one)) for one in (ADA, *OTHERS)]
        names = [name for name in directory.names() if name.startswith("enrich-")]
        found = [directory.store(name).get_many(keys) for name in names]
    finally:
        directory.close()
    known = [any(one) for one in zip(*found, strict=True)]
    assert known == [False, *[True] * len(OTHERS)]


def test_a_person_is_forgotten_and_nothing_brings_them_back(
    kafka_cluster: KafkaCluster, tmp_path: Path
) -> None:
    """Also after kill -9, late and repeated webhooks, a reprocessing, a rebuild, a refill."""
    (broker,) = kafka_cluster()
    with Pipeline(broker.bootstrap, tmp_path, "", {}, ingests=0) as pipeline:
        story = Story(pipeline, tmp_path)
        command = story.command
        exported = json.loads(command.run("export-person", "ADA@LOVELACE.EXAMPLE"))
        parts = ("events", "suppressions", "scoped_suppressions")
        assert [len(exported[part]) for part in parts] == [5, 1, 1]
        assert "nothing known" in command.begin("forget", "x@y.example", "--yes").communicate()[1]

        certificate = forget_her(story)
        story.others[1:] = seen(pipeline, OF_OTHERS[1:])
        assert [one.count("user") for one in story.others[1:]] == [9, 9]
        story.check_gone()
        come_late(story)
        Operator(pipeline, tmp_path).run("--json")
        story.check_gone()
        lose_state_and_tables(story)
        story.check_gone()

        # mail sent after the erasure is new, and so is what it suppresses
        story.tell(course(ADA, 99, int(time.time() * 1_000_000) - 10_000_000))
        story.look()
        known = json.loads(story.command.run("export-person", ADA))
        assert [len(known[part]) for part in (*parts, "erasures")] == [5, 1, 1, 1]
        # forgotten once more; that they must not be mailed stays known, as a hash
        kept = story.command.json("forget", ADA, "--yes", "--keep-suppression")
        assert kept != certificate
        held = newest_suppressions(pipeline)
        assert held[keyed_hash(ADA, KEY.encode()).encode()] is not None
        assert held[address_identity(ADA).encode()] is None
