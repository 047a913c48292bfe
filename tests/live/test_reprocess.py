"""Reprocessing by new rules on real Kafka and chDB, while events arrive and workers are killed.

One in eight opens and clicks is a scanner's by the new rules. In the end every figure, on Kafka's
topics and in ClickHouse, equals a brute-force recount by the new rules. About 45 seconds.
"""

import asyncio
import json
import subprocess
import sys
import time
from collections import Counter, defaultdict
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from schemas import topics
from schemas.event import Event
from schemas.versions import REVISION_EPOCH_SHIFT
from streams.classify.actor_rules import Rules
from streams.simulation.readout import ClickHouse
from tests.bench.traffic import Shape, fill
from tests.live.fixtures import KafkaCluster
from tests.live.recount import CODEC, identities, merged_minutes, raw_events, read_topic
from tests.live.roles import Pipeline, clean_environ
from tests.streams.reference import Counts, count, unique_in_order

pytestmark = [pytest.mark.timeout(480), pytest.mark.live]

PARTITIONS = 4
HISTORY, SLOW_HISTORY, NEWS = 20_000, 6_000, 3_000
SHAPE = Shape(campaigns=12, unattributed=0.1, events_per_s=200)
BEGINNING = "2h"
AGREE_S = 150.0
NETWORK = """
[[networks]]
reason = "scanner_network"
cidrs = ["203.0.113.0/27"]
"""
OLD_RULES = files("streams.classify.tables").joinpath("machines.toml").read_text("utf-8")
NEW_RULES = OLD_RULES.replace("version = 2", "version = 3", 1) + NETWORK


class Operator:
    """Runs ``mailpulse reprocess`` as an operator does."""

    def __init__(self, pipeline: Pipeline, folder: Path) -> None:
        self.rules = folder / "machines.toml"
        self.rules.write_text(NEW_RULES, encoding="utf-8")
        self._environ = clean_environ() | {
            f"MAILPULSE_{name}": value for name, value in pipeline._environ.items()
        }

    def begin(self, *more: str) -> "subprocess.Popen[str]":
        """Starts the command."""
        return self._start("--from", BEGINNING, "--rules", str(self.rules), *more)

    def _start(self, *given: str) -> "subprocess.Popen[str]":
        given = ("reprocess", *given)
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "streams.cli", *given], env=self._environ,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def run(self, *more: str, code: int = 0) -> str:
        """Runs the command to its end; returns its output."""
        return self._end(self.begin(*more), code)

    def say(self, name: str, *more: str, code: int = 0) -> str:
        """Runs one of the commands below it; returns its output."""
        return self._end(self._start(name, *more), code)

    @staticmethod
    def _end(process: "subprocess.Popen[str]", code: int) -> str:
        said, _ = process.communicate(timeout=120)
        assert process.returncode == code, said
        return said


def feed(bootstrap: str, events: int, seed: int) -> None:
    """Writes events to the raw topic, as ingress does."""
    asyncio.run(fill(bootstrap, topics.RAW, events, PARTITIONS, SHAPE, seed=seed))


def by_campaign(counts: Counts) -> dict[str, Counter[str]]:
    """Counts of whole campaigns."""
    out: dict[str, Counter[str]] = defaultdict(Counter)
    for (campaign, _, _), row in counts.items():
        out[campaign].update(row)
    return {campaign: +row for campaign, row in out.items()}


async def found_in(dsn: str, wanted: dict[str, Counter[str]], humans: int) -> dict[str, Any]:
    """ClickHouse's answer, queried until it is the wanted one or time is up."""
    clickhouse = ClickHouse(dsn)
    end = time.monotonic() + AGREE_S
    try:
        while True:
            counters = await clickhouse.counters(sorted(wanted))
            found = {campaign: +row for campaign, row in counters.items()}
            rows = await clickhouse.rows(
                "SELECT count(), uniqExact(event_id), countIf(actor = 'human'),"
                " countIf(rules_version = 3 AND actor != 'none'), countIf(actor != 'none')"
                " FROM events FINAL"
            )
            said = dict(zip(("rows", "ids", "human", "new", "judged"), rows[0], strict=True))
            said["human"], said["rows"] = int(said["human"]), int(said["rows"])
            agrees = found == wanted and said["human"] == humans
            if agrees or time.monotonic() > end:
                return {**said, "counts": found}
            await asyncio.sleep(0.5)
    finally:
        await clickhouse.close()


async def told(bootstrap: str) -> set[str]:
    """Engagement that stands, for a consumer that knows ids; publishing one twice is an error."""
    seen: set[str] = set()
    out: set[str] = set()
    for record in await read_topic(bootstrap, topics.ENGAGEMENT):
        identity = dict(record.headers)["ce_id"].decode()
        if identity in seen:
            continue
        seen.add(identity)
        value = CODEC.decode(record.value, "engagement")
        if value["withdrawn"]:
            out.discard(value["event_id"])
        else:
            assert value["event_id"] not in out, "told twice"
            out.add(value["event_id"])
    return out


async def first_humans(bootstrap: str) -> set[str]:
    """Events that are a first human open or click, by their last revision on the enriched topic."""
    last: dict[str, tuple[int, bool]] = {}
    for record in await read_topic(bootstrap, topics.ENRICHED):
        value = CODEC.decode(record.value, "enriched_event")
        added = value["enrichment"]
        version = (added["revision"] << 40) + added["version"]
        identity = value["event"]["event_id"]
        if identity not in last or version >= last[identity][0]:
            last[identity] = (version, added["first_human"])
    return {identity for identity, (_, first) in last.items() if first}


def human_events(counts: Counts) -> int:
    """Opens and clicks by people, unsubscribe links included."""
    names = ("opens", "clicks", "unsubscribe_clicks")
    return sum(row.get(name, 0) for row in counts.values() for name in names)


def check_figures(pipeline: Pipeline, bootstrap: str, events: list[Event]) -> None:
    """Compares topics and ClickHouse with the recount."""
    wanted = count(events, Rules.load(NEW_RULES))
    humans = human_events(wanted)
    moved = human_events(count(events)) - humans
    assert moved > 0.01 * humans, "the new rules change too little: nothing was tried"
    assert asyncio.run(merged_minutes(bootstrap)) == wanted
    campaigns = {name: row for name, row in by_campaign(wanted).items() if name}
    found = asyncio.run(found_in(pipeline.clickhouse_dsn, campaigns, humans))
    assert found["counts"] == campaigns
    assert found["human"] == humans
    assert found["rows"] == len(unique_in_order(events))
    assert found["rows"] == int(found["ids"])
    assert 0 < int(found["new"]) < int(found["judged"]), "verdicts that stay are not written again"


def test_live_figures_go_on_while_history_is_reprocessed(
    kafka_cluster: KafkaCluster, tmp_path: Path
) -> None:
    """New events are counted by the earlier rules while a slow run is under way. It is aborted, and
    has changed nothing; another one ends, although a worker is killed, with the new figures."""
    (broker,) = kafka_cluster()
    slow = {"REPROCESS_CORE_SHARE": "0.0001"}
    with Pipeline(broker.bootstrap, tmp_path, "", {}, ingests=0, settings=slow) as pipeline:
        operator = Operator(pipeline, tmp_path)
        feed(broker.bootstrap, SLOW_HISTORY, seed=1)
        pipeline.wait_caught_up()
        command = operator.begin()
        wait_beside(command)
        feed(broker.bootstrap, 500, seed=2)
        pipeline.wait_caught_up()
        check_earlier(broker.bootstrap)
        status = json.loads(operator.say("status", "--json"))
        assert {part["state"] for part in status["partitions"]} >= {"beside"}
        assert status["records_left"] > 0
        assert "the earlier rules hold" in operator.say("abort")
        assert "was aborted" in command.communicate(timeout=30)[0]
        assert "no run is under way" in operator.say("abort", code=1)

        command = operator.begin()
        wait_beside(command)
        pipeline.change("worker-1", REPROCESS_CORE_SHARE="0.5")
        feed(broker.bootstrap, 500, seed=3)
        command.kill()
        command.wait()
        operator.run("--json")
        pipeline.wait_caught_up()
        assert "No run is under way" in operator.say("status")
        check_figures(pipeline, broker.bootstrap, asyncio.run(raw_events(broker.bootstrap)))
        assert asyncio.run(told(broker.bootstrap)) <= asyncio.run(first_humans(broker.bootstrap))


def wait_beside(command: "subprocess.Popen[str]") -> None:
    """Waits until the workers process history beside live events."""
    assert command.stdout is not None
    while "earlier rules" not in (line := command.stdout.readline()):
        assert line, "the command ended"


def check_earlier(bootstrap: str) -> None:
    """Counts are those of the earlier rules, and nothing was written by the new ones."""
    events = asyncio.run(raw_events(bootstrap))
    assert asyncio.run(merged_minutes(bootstrap)) == count(events), "live figures stand still"
    for record in asyncio.run(read_topic(bootstrap, topics.ENRICHED)):
        added = CODEC.decode(record.value, "enriched_event")["enrichment"]
        assert added["revision"] < 1 << REVISION_EPOCH_SHIFT, "the second fold is not silent"


def test_reprocessing_while_events_arrive_and_a_worker_dies(
    kafka_cluster: KafkaCluster, tmp_path: Path
) -> None:
    """Plan, run, kill -9 of a worker and of the command: the figures of the new rules."""
    (broker,) = kafka_cluster()
    with Pipeline(broker.bootstrap, tmp_path, "", {}, ingests=0, workers=2) as pipeline:
        operator = Operator(pipeline, tmp_path)
        feed(broker.bootstrap, HISTORY, seed=1)
        pipeline.wait_caught_up()
        plan = json.loads(operator.run("--plan", "--json"))
        assert plan["records"] == HISTORY
        assert [part["from_offset"] for part in plan["partitions"]] == [0] * PARTITIONS

        command = operator.begin()
        feed(broker.bootstrap, NEWS, seed=2)
        while "%" not in (line := (command.stdout or sys.stdin).readline()):
            assert line, "the command ended"
        pipeline["worker-1"].kill()
        command.kill()
        command.wait()
        feed(broker.bootstrap, NEWS, seed=3)
        pipeline["worker-1"].start()

        last = json.loads(operator.run("--json").strip().splitlines()[-1])
        assert last["records"] >= HISTORY
        pipeline.wait_caught_up()
        events = asyncio.run(raw_events(broker.bootstrap))
        check_figures(pipeline, broker.bootstrap, events)
        assert set(asyncio.run(identities(broker.bootstrap))) == {e["event_id"] for e in events}
        assert asyncio.run(told(broker.bootstrap)) <= asyncio.run(first_humans(broker.bootstrap))
        assert "to watch it, use --from" in operator.run("--from", "1h", code=1)
        operator.rules.write_text(NEW_RULES + "\n", encoding="utf-8")
        assert "raise `version`" in operator.run(code=1)
