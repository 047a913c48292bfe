"""Recipients hashed or dropped: no address anywhere behind ingress, and the same figures."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from ingest.privacy import Privacy
from schemas import topics
from schemas.codec import Codec
from tests.live import story
from tests.live.fixtures import KafkaCluster
from tests.live.log_reading import Records, all_records
from tests.live.roles import Pipeline, clean_environ
from tests.spellings import ADDRESSES, CODINGS, traces

pytestmark = pytest.mark.timeout(480)

KEY = "a key of this test"
PEOPLE = re.compile(rb"(ada|scan|full|gone[0-9]*|letter)(@|%40|\\\\u0040)recipients", re.IGNORECASE)
"""Whoever is named in the story. A dead letter's body keeps its form: a stand-in, @ and domain."""
PATIENCE_S = 150.0
EXPECTED = {
    "delivered": 3, "opened": 1, "clicked": 1, "clicked_any": 2, "machine_clicks": 3,
    "bounced_hard": story.BOUNCES, "bounced_soft": 5,
}  # fmt: skip


def ask(pipeline: Pipeline, sql: str) -> list[dict[str, Any]]:
    """Rows of a query, asked as an analyst would."""
    answer = httpx.post(
        pipeline.clickhouse_dsn.replace("/mailpulse", "/?database=mailpulse"),
        content=f"{sql} FORMAT JSONEachRow",
        trust_env=False,
        timeout=30,
    )
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


def wait_for_figures(pipeline: Pipeline) -> None:
    """Waits until the campaign's counts are those of the story."""
    names = ", ".join(EXPECTED)
    end = time.monotonic() + PATIENCE_S
    while True:
        rows = ask(pipeline, f"SELECT {names} FROM campaign_summary WHERE campaign_id = 'spring'")
        found = {name: int(value) for row in rows for name, value in row.items()}
        if found == EXPECTED:
            return
        assert time.monotonic() < end, f"{found}\n{pipeline.log_tails()}"
        time.sleep(0.3)


def plant(pipeline: Pipeline) -> None:
    """Posts canaries in every coding: of an event's recipient, of others, and in a dead letter.

    They are of a campaign of their own, so that the story's figures stay.
    """
    texts = [coding(one) for one in ADDRESSES for coding in CODINGS.values()]
    events = [
        {
            "event": "clicked", "id": f"canary{number}", "time": int(time.time()) - 60,
            "recipient": address, "campaign_id": "canaries", "message_id": f"{number}-{text}",
            "url": text, "diagnostic": text, "tags": [text], "metadata": {text: text, "a": text},
        }
        for number, text in enumerate(texts)
        for address in [ADDRESSES[number // len(CODINGS)]]
    ]  # fmt: skip
    answer = story.post(pipeline.ingest_url, json.dumps(events).encode())
    assert answer.json() == {"accepted": len(texts), "rejected": 0}
    letter = json.dumps({"nonsense": texts}).encode()
    assert story.post(pipeline.ingest_url, letter).json() == {"accepted": 0, "rejected": 1}
    sql = "SELECT count() AS stored FROM events FINAL WHERE campaign_id = 'canaries'"
    end = time.monotonic() + PATIENCE_S
    while int(ask(pipeline, sql)[0]["stored"]) < len(texts):
        assert time.monotonic() < end, pipeline.log_tails()
        time.sleep(0.3)


def every_text(pipeline: Pipeline, found: Records) -> dict[str, bytes]:
    """Every place where an address could be -> its content."""
    places: dict[str, bytes] = {}
    for topic, records in found.items():
        parts: list[bytes] = []
        for record in records:
            parts += [record.key or b"", record.value or b"", *dict(record.headers).values()]
        places[f"topic {topic}"] = b"\n".join(parts)
    tables = ask(pipeline, "SELECT name FROM system.tables WHERE database = 'mailpulse'")
    for table in [row["name"] for row in tables]:
        try:
            rows = ask(pipeline, f"SELECT * FROM {table}")
        except AssertionError:
            continue  # a view with parameters: it reads the tables
        places[f"table {table}"] = json.dumps(rows).encode()
    for role in pipeline:
        places[f"log of {role.name}"] = role.log.read_bytes()
    for path in (pipeline.folder / "state").rglob("*"):
        if path.is_file():
            places[f"state {path.name}"] = path.read_bytes()
    return places


def check(pipeline: Pipeline, address: str) -> subprocess.CompletedProcess[str]:
    """``mailpulse suppressions check``."""
    environ = {
        **clean_environ(), "MAILPULSE_CLICKHOUSE_DSN": pipeline.clickhouse_dsn,
        "MAILPULSE_RECIPIENTS": pipeline.settings.recipients,
        "MAILPULSE_RECIPIENT_HASH_KEY": KEY,
    }  # fmt: skip
    return subprocess.run(
        [sys.executable, "-P", "-m", "streams.cli", "suppressions", "check", address, "--json"],
        capture_output=True, text=True, check=False, timeout=60, cwd=pipeline.folder, env=environ,
    )  # fmt: skip


@pytest.mark.parametrize("mode", ["hashed", "dropped"])
def test_no_address_passes_the_front_door(
    mode: str, kafka_cluster: KafkaCluster, tmp_path: Path
) -> None:
    """Not on a topic, in a table, a log or a worker's state; counts are as with plain addresses."""
    (broker,) = kafka_cluster()
    settings = {"RECIPIENTS": mode, "RECIPIENT_HASH_KEY": KEY}
    with Pipeline(
        broker.bootstrap, tmp_path, story.CONFIG, story.SECRETS, settings=settings
    ) as pipeline:
        story.tell(pipeline.ingest_url)
        wait_for_figures(pipeline)
        plant(pipeline)
        pipeline.wait_caught_up()
        found = all_records(pipeline)
        places = every_text(pipeline, found)
        for place, text in places.items():
            assert not PEOPLE.search(text), f"{place}: {PEOPLE.search(text)}"
            assert not traces(text.decode("utf-8", "replace")), place
        assert {f"topic {name}" for name in topics.BY_NAME} < set(places)
        suppressed = {record.key.decode() for record in found[topics.SUPPRESSIONS]}
        if mode == "dropped":
            assert suppressed == set()
            assert check(pipeline, story.address("gone7")).returncode == 3
            return
        hash_of = Privacy("hashed", KEY.encode()).hash
        assert hash_of(story.address("gone7")) in suppressed
        asked = check(pipeline, story.address("Gone7"))
        assert (asked.returncode, json.loads(asked.stdout)["reason"]) == (1, "hard_bounce")
        assert check(pipeline, hash_of(story.address("gone7"))).returncode == 1
        assert check(pipeline, story.address("ada")).returncode == 0
        codec = Codec()
        events = [codec.decode(r.value, "raw_event") for r in found[topics.RAW]]
        bounced = [one for one in events if one["campaign_id"] != "canaries"]
        texts = {event["diagnostic"] for event in bounced if event["diagnostic"]}
        assert texts == {f"550 5.1.1 <{hash_of(story.address('gone'))}>: no such user"}
