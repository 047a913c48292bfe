"""A fleet of scanners on real Kafka and chDB: proposed, accepted, and taken out of past figures.

A worker and the command are killed in the middle. In the end every figure, on Kafka's topic and in
ClickHouse, equals a brute-force recount by the accepted rules. About 40 seconds.
"""

import asyncio
import json
import subprocess
import sys
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import murmur2

from schemas import topics
from schemas.event import Event, message_key
from streams.classify.actor_rules import Rules
from streams.simulation.readout import ClickHouse
from tests.builders import event
from tests.live.fixtures import KafkaCluster
from tests.live.recount import CODEC, merged_minutes
from tests.live.roles import Pipeline, clean_environ
from tests.streams.reference import Counts, count

pytestmark = [pytest.mark.timeout(480), pytest.mark.live]

PARTITIONS, DAYS, MAILS = 2, 3, 60
DAY_S, AGREE_S = 86_400, 90.0
BROWSER = "Mozilla/5.0 (Windows NT 10.0) Firefox/140.0"
PROXY = "Mozilla/5.0 (via ggpht.com GoogleImageProxy)"
GATEWAY = "192.0.2.10"


def season() -> Iterator[Event]:
    """A campaign a day: readers who take hours, and a gateway that checks one link in a minute."""
    first = int(time.time()) - (DAYS + 1) * DAY_S
    for number in range(DAYS * MAILS):
        day, place = divmod(number, MAILS)
        sent = first + day * DAY_S + place
        made = Maker(f"day-{day}", number, sent)
        yield made("delivered", 0.25)
        if place % 3 == 0:
            yield made("opened", 3_000.5 + 60 * place, PROXY, "66.249.93.73")
        if place % 4 == 0:
            yield made("clicked", 4_000.5 + 60 * place, BROWSER, f"198.51.{place}.7")
        if place % 5 == 1:
            yield made("clicked", 30.5 + place, BROWSER, GATEWAY)


class Maker:
    """Events of one message."""

    def __init__(self, campaign: str, number: int, sent_s: int) -> None:
        self._campaign, self._number, self._sent_s = campaign, number, sent_s

    def __call__(self, kind: str, after_s: float, agent: str = "", ip: str = "") -> Event:
        """One of them, received a second later."""
        at = int((self._sent_s + after_s) * 1_000_000)
        link = f"https://shop.example/{self._campaign}" if kind == "clicked" else None
        return event(
            event_id=uuid.uuid5(uuid.NAMESPACE_OID, f"{self._number} {kind} {ip}").hex,
            event_type=kind, native_type=kind, occurred_at=at, received_at=at + 1_000_000,
            campaign_id=self._campaign, message_id=f"message-{self._number}",
            recipient=f"reader{self._number}@example.com", user_agent=agent or None,
            ip=ip or None, click_url=link,
        )  # fmt: skip


async def write(bootstrap: str, events: Sequence[Event]) -> None:
    """Writes events to the raw topic, keyed and placed as ingress does."""
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all") as producer:
        for one in sorted(events, key=lambda each: each["received_at"]):
            key = message_key(one)
            await producer.send_and_wait(
                topics.RAW, CODEC.encode("raw_event", one), key=key,
                partition=(murmur2(key) & 0x7FFFFFFF) % PARTITIONS,
                timestamp_ms=one["received_at"] // 1_000,
            )  # fmt: skip


def by_campaign(counts: Counts) -> dict[str, Counter[str]]:
    """Counts of whole campaigns."""
    out: dict[str, Counter[str]] = defaultdict(Counter)
    for (campaign, _, _), row in counts.items():
        out[campaign].update(row)
    return {campaign: +row for campaign, row in out.items()}


async def wait_for(dsn: str, wanted: dict[str, Counter[str]]) -> dict[str, Counter[str]]:
    """ClickHouse's counts, asked for until they are the wanted ones or time is up."""
    clickhouse, end = ClickHouse(dsn), time.monotonic() + AGREE_S
    try:
        while True:
            counters = await clickhouse.counters(sorted(wanted))
            found = {campaign: +row for campaign, row in counters.items()}
            if found == wanted or time.monotonic() > end:
                return found
            await asyncio.sleep(0.5)
    finally:
        await clickhouse.close()


class Operator:
    """Runs ``mailpulse rules`` as an operator does."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._environ = clean_environ() | {
            f"MAILPULSE_{name}": value for name, value in pipeline._environ.items()
        }

    def begin(self, *given: str) -> "subprocess.Popen[str]":
        """Starts a command."""
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "streams.cli", "rules", *given], env=self._environ,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def run(self, *given: str, code: int = 0) -> str:
        """Runs a command to its end; returns its output."""
        process = self.begin(*given)
        said, _ = process.communicate(timeout=120)
        assert process.returncode == code, said
        return said

    def json(self, *given: str) -> Any:
        """The same; the document that it ends with."""
        return json.loads(self.run(*given, "--json").strip().splitlines()[-1])


def test_a_fleet_is_proposed_accepted_and_taken_out_of_history(
    kafka_cluster: KafkaCluster, tmp_path: Path
) -> None:
    """Over kill -9 of the worker and of the command."""
    (broker,) = kafka_cluster()
    events = list(season())
    file = tmp_path / "new.toml"
    with Pipeline(
        broker.bootstrap, tmp_path, "", {}, partitions=PARTITIONS, ingests=0
    ) as pipeline:  # fmt: skip
        operator, dsn = Operator(pipeline), pipeline.clickhouse_dsn
        asyncio.run(write(broker.bootstrap, events))
        pipeline.wait_caught_up()
        before = by_campaign(count(events))
        assert asyncio.run(wait_for(dsn, before)) == before

        told = operator.json("propose", "--output", str(file))
        assert [one["networks"] for one in told["fleets"]] == [[f"{GATEWAY}/32"]]
        rules = Rules.load(file.read_text(encoding="utf-8"))
        wanted = count(events, rules)
        after = by_campaign(wanted)
        assert after != before
        foretold = {
            one["campaign"]: one["clicked"]["after"]["with_unknown"] for one in told["campaigns"]
        }
        assert foretold == {name: row["cohort_clicked_or_unknown"] for name, row in after.items()}

        command = operator.begin("accept", str(file))
        said = ""
        while "%" not in (line := (command.stdout or sys.stdin).readline()):
            assert line, "the command ended"
            said += line
        assert "Corrects everything" in said
        pipeline["worker-1"].kill()
        command.kill()
        command.wait()
        pipeline["worker-1"].start()
        assert operator.json("accept", str(file))["records"] == len(events)
        pipeline.wait_caught_up()
        assert asyncio.run(wait_for(dsn, after)) == after
        assert asyncio.run(merged_minutes(broker.bootstrap)) == wanted

        listed = operator.json("ls")
        assert [(one["rules_version"], one["fleets"], one["in_force"]) for one in listed["rules"]] \
            == [(rules.version - 1, 0, False), (rules.version, 1, True)]  # fmt: skip
        assert operator.json("propose")["fleets"] == []
        file.write_text(file.read_text(encoding="utf-8") + "# edited\n", encoding="utf-8")
        assert "raise `version`" in operator.run("accept", str(file), code=1)
