"""What others subscribe to: the pages' consumers as written, and the headers of every record."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
import yaml
from aiokafka import AIOKafkaProducer, ConsumerRecord

from schemas import topics
from schemas.cloudevents import BOOKS, DELIVER, SOURCES
from schemas.codec import Codec
from tests.asyncapi import PATH
from tests.live import story
from tests.live.fixtures import or_skip
from tests.live.kafka import Kafka
from tests.live.log_reading import all_records
from tests.live.roles import Pipeline, clean_environ
from tests.readme import ROOT, all_blocks

pytestmark = pytest.mark.timeout(480)

PATIENCE_S = 150.0


def until(holds: Callable[[], bool], what: Callable[[], object]) -> None:
    """Waits until ``holds``; ``what`` describes the state otherwise."""
    end = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end, what()
        time.sleep(0.1)


async def _send_broken(bootstrap: str) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    await producer.start()
    try:
        await producer.send_and_wait(topics.RAW, b"no event", b"nobody")
    finally:
        await producer.stop()


def told(pipeline: Pipeline) -> bool:
    """Whether every topic has the records of the story; nobody changes rules in it, pauses a
    destination, falls silent, forgets anybody or imports history, and requests are counted by the
    minute."""
    found = all_records(pipeline)
    del found[topics.RULES], found[topics.DESTINATIONS], found[topics.SOURCE_ALERTS]
    del found[topics.ERASURES], found[topics.SOURCE_REQUESTS], found[topics.HISTORY]
    alerts = found[topics.ALERTS]
    letters = found[topics.DEAD_LETTERS]
    lifted = any(record.value is None for record in found[topics.SUPPRESSIONS])
    return all(found.values()) and bool(alerts) and len(letters) >= 2 and lifted


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    """A pipeline that got the story, facts about its campaign, and a bad record."""
    with or_skip(Kafka) as broker:
        folder = tmp_path_factory.mktemp("consumers")
        with Pipeline(broker.bootstrap, folder, story.CONFIG, story.SECRETS) as running:
            story.tell(running.ingest_url)
            asyncio.run(_send_broken(broker.bootstrap))
            environ = {**clean_environ(), "MAILPULSE_KAFKA_BOOTSTRAP": broker.bootstrap}
            for words in (
                ("campaigns", "set", "spring", "--name", "S"),
                (
                    "suppressions",
                    "add",
                    story.address("list"),
                    "--source",
                    "shop",
                    "--scope",
                    "l:1",
                ),
            ):
                subprocess.run(
                    [sys.executable, "-P", "-m", "streams.cli", *words],
                    check=True, timeout=60, cwd=folder, env=environ,
                )  # fmt: skip
            until(lambda: told(running), running.log_tails)
            yield running


def headers_of(record: ConsumerRecord) -> dict[str, str]:
    """A record's headers as text; none may occur twice."""
    headers = {name: value.decode() for name, value in record.headers}
    assert len(headers) == len(record.headers)
    return headers


def test_every_record_carries_the_headers_that_asyncapi_describes(pipeline: Pipeline) -> None:
    """By the published JSON schema, with the type of its topic, from every stage that writes."""
    document = yaml.safe_load(PATH.read_text(encoding="utf-8"))
    schema = document["components"]["schemas"]["CloudEvents"]
    check = jsonschema.Draft202012Validator(
        schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )
    sources = set()
    for name, records in all_records(pipeline).items():
        for record in records:
            if record.value == b"no event":
                continue  # not written by mailpulse
            headers = headers_of(record)
            check.validate(headers)
            assert headers["ce_type"] == f"io.mailpulse.{topics.BY_NAME[name].schema}.v1"
            sources.add(headers["ce_source"])
    assert sources == set(SOURCES) - {DELIVER, BOOKS}, "each stage of the story wrote something"


def test_ids_differ_unless_the_same_is_written_again(pipeline: Pipeline) -> None:
    """Corrections, withdrawals, lifts and revisions have their own ids."""
    found = all_records(pipeline)
    for name, records in found.items():
        by_id: dict[str, set[tuple[Any, Any]]] = {}
        for record in records:
            if record.headers:
                identity = headers_of(record)["ce_id"]
                by_id.setdefault(identity, set()).add((record.key, record.value))
        assert all(len(values) == 1 for values in by_id.values()), name
    codec = Codec()
    ids = {headers_of(record)["ce_id"] for record in found[topics.ENRICHED]}
    events = [codec.decode(record.value, "enriched_event") for record in found[topics.ENRICHED]]
    assert {one["event"]["event_id"] for one in events} < ids
    assert any(one["enrichment"]["revision"] for one in events)
    told = [codec.decode(record.value, "engagement") for record in found[topics.ENGAGEMENT]]
    assert {one["withdrawn"] for one in told} == {True, False}


class Example:
    """A consumer from the page for consumers, run as its reader would.

    Args:
        name: after ``consumer:`` on the page.
        environ: the variables that it reads.
    """

    def __init__(self, name: str, folder: Path, environ: dict[str, str]) -> None:
        found = all_blocks("consumer")
        script = folder / f"consumer_{name}.py"
        script.write_text(found[name], encoding="utf-8")
        self._out = folder / f"{name}.out"
        with self._out.open("wb") as stream:
            self._process = subprocess.Popen(
                [sys.executable, str(script)], stdout=stream, stderr=subprocess.STDOUT, cwd=folder,
                env={**clean_environ(), "PYTHONPATH": str(ROOT), **environ},
            )  # fmt: skip

    def said(self) -> list[str]:
        """Lines so far."""
        return self._out.read_text(encoding="utf-8").splitlines()

    def wait_for(self, *lines: str) -> None:
        """Waits until each of ``lines`` was said, in this order."""

        def all_said() -> bool:
            assert self._process.poll() is None, self.said()
            rest = iter(self.said())
            return all(line in rest for line in lines)

        until(all_said, self.said)

    def __enter__(self) -> "Example":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()


def test_readme_consumer_with_aiokafka(pipeline: Pipeline, tmp_path: Path) -> None:
    """It prints who is suppressed and why, and who may be mailed again."""
    with Example("aiokafka", tmp_path, {"KAFKA": pipeline.settings.kafka_bootstrap}) as example:
        full = story.address("full")
        example.wait_for(f"{full} soft_bounces", f"{full} may be mailed again")
        example.wait_for(f"{story.address('gone7')} hard_bounce")


def test_readme_consumer_with_confluent(pipeline: Pipeline, tmp_path: Path) -> None:
    """Decoded only with our registry endpoint: whom to follow up, and whom no longer."""
    environ = {
        "KAFKA": pipeline.settings.kafka_bootstrap,
        "REGISTRY": f"{pipeline.ingest_url}/registry",
    }
    with Example("confluent", tmp_path, environ) as example:
        example.wait_for(
            "follow up open spring None",
            f"follow up click spring https://shop.example/sale?to={story.address('ada')}",
        )
        example.wait_for(
            "follow up click spring https://shop.example/0",
            "withdraw click spring https://shop.example/0",
        )


def test_registry_of_the_ingress_is_read_only(pipeline: Pipeline) -> None:
    """Subjects of all topics; nobody changes them."""
    base = f"{pipeline.ingest_url}/registry"
    answer = httpx.get(f"{base}/subjects", trust_env=False)
    assert set(answer.json()) == {topic.subject for topic in topics.TOPICS}
    body = json.dumps({"schema": '"string"'})
    refused = httpx.post(f"{base}/subjects/x-value/versions", content=body, trust_env=False)
    assert (refused.status_code, refused.json()["error_code"]) == (422, 42205)
