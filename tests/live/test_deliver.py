"""``mailpulse deliver`` on real Kafka: killed again and again, and what operators order of it."""

import asyncio
import os
import random
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from standardwebhooks import Webhook

from schemas import topics
from schemas.settings import Settings
from streams.kafka import admin
from tests.live.delivering import (
    DeliverProcess,
    engagement,
    produce,
    receiving,
)
from tests.live.fixtures import or_skip
from tests.live.kafka import Kafka, create_mailpulse_topics
from tests.streams.receiving import Got, answering

KILLS = int(os.environ.get("MAILPULSE_TEST_KILLS", "2"))
"""The full proof takes 100."""
RECORDS_PER_KILL = 400
KEYS = 40
TOML = """
[destinations.crm]
url = "{url}"
topics = {topics}
secret = "env:DELIVER_SECRET"
allow_networks = "127.0.0.1"
begin = "{begin}"
tries = 1
"""


@pytest.fixture(scope="module")
def bootstrap() -> Iterator[str]:
    """One broker with mailpulse's topics for this file."""
    with or_skip(Kafka) as broker:
        create_mailpulse_topics(broker.bootstrap)
        yield broker.bootstrap


def in_order(got: Sequence[Got]) -> dict[str, list[int]]:
    """Number of each record that arrived, by recipient; the ids of repeats are compared."""
    by_key: dict[str, list[int]] = defaultdict(list)
    ids: dict[tuple[str, int], str] = {}
    for one in got:
        data = one.document["data"]
        place = data["recipient"], data["offset"]
        assert ids.setdefault(place, one.headers["webhook-id"]) == one.headers["webhook-id"]
        by_key[data["recipient"]].append(data["offset"])
    return by_key


def assert_contiguous(arrived: Sequence[int]) -> None:
    """Each is the next of its key, or a repeat of one before."""
    seen = arrived[0] - KEYS
    for number in arrived:
        assert number <= seen + KEYS, "one of its key went past another"
        seen = max(seen, number)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_again_and_again_nothing_is_lost_and_order_is_kept(
    bootstrap: str, tmp_path: Path
) -> None:
    """SIGKILL under load: each record arrives, a repeat goes on from a repeat, ids are the same."""
    dice = random.Random(7)
    toml = TOML.format(url="{url}", topics='"engagement"', begin="earliest")
    total = RECORDS_PER_KILL * KILLS
    settings = Settings(kafka_bootstrap=bootstrap)
    with receiving() as there:
        process = DeliverProcess(bootstrap, tmp_path, toml.format(url=there.url))
        for kill in range(KILLS):
            numbers = range(kill * RECORDS_PER_KILL, (kill + 1) * RECORDS_PER_KILL)
            records = [engagement(f"k{n % KEYS:02}@example.com", n) for n in numbers]
            asyncio.run(produce(bootstrap, records))
            before = len(there.got)
            with process:
                some = before + dice.randrange(1, RECORDS_PER_KILL // 2)
                process.wait_for(partial(there.has, some), f"kill {kill}")
                time.sleep(dice.random() * 1.5)  # so that some commits come before the kill
                process.kill()

        def all_there() -> bool:
            return len({one.headers["webhook-id"] for one in list(there.got)}) == total

        def committed() -> bool:
            """Repeats too: all may have arrived before the last kill, which cut off the commit."""
            rows = asyncio.run(admin.lag(settings, {"mailpulse-deliver-crm": (topics.ENGAGEMENT,)}))
            return all(row.lag == 0 for row in rows)

        with process:
            process.wait_for(process.is_ready, "ready")
            process.wait_for(all_there, "the end", 120.0)
            process.wait_for(committed, "the last commit", 120.0)
            assert process.stop() == 0
        got = list(there.got)
        with process:
            process.wait_for(process.is_ready, "ready once more")
            asyncio.run(produce(bootstrap, [engagement("last@example.com", total)]))
            process.wait_for(partial(there.has, len(got) + 1), "the last")
        assert [one.document["data"]["offset"] for one in there.got[len(got) :]] == [total], (
            "what was committed is not repeated"
        )
    for key, arrived in in_order(got).items():
        assert set(arrived) == {n for n in range(total) if n % KEYS == int(key[1:3])}
        assert_contiguous(arrived)


def test_two_processes_share_the_work_and_one_leaves(bootstrap: str, tmp_path: Path) -> None:
    """Partitions move while records are under way: none is lost, order by key is kept."""
    records = [engagement(f"m{n % KEYS:02}@example.org", n) for n in range(1_200)]
    with receiving() as there:
        text = TOML.format(url=there.url, topics='"engagement"', begin="now")
        folders = [tmp_path / "one", tmp_path / "two"]
        for folder in folders:
            folder.mkdir()
        first, second = (
            DeliverProcess(bootstrap, folder, text.replace(".crm", ".shared")) for folder in folders
        )
        second.environ["MAILPULSE_GROUP_INSTANCE_ID"] = ""
        with first:
            first.wait_for(first.is_ready, "the first")
            asyncio.run(produce(bootstrap, records[:600]))
            with second:
                second.wait_for(second.is_ready, "the second")
                asyncio.run(produce(bootstrap, records[600:]))
                second.wait_for(partial(there.has, 700), "some of the rest")
                assert second.stop() == 0

            def all_there() -> bool:
                return len({one.headers["webhook-id"] for one in list(there.got)}) == len(records)

            first.wait_for(all_there, "the rest")
            assert first.stop() == 0
        got = list(there.got)
    for key, arrived in in_order(got).items():
        assert set(arrived) == {n for n in range(len(records)) if n % KEYS == int(key[1:3])}
        assert_contiguous(arrived)


def test_a_destination_is_given_other_topics(bootstrap: str, tmp_path: Path) -> None:
    """Of a static member Kafka remembers the partitions: those of the former topics."""
    with receiving() as there:
        for chosen in ('"engagement"', '"suppressions"'):
            text = TOML.format(url=there.url, topics=chosen, begin="now")
            with DeliverProcess(bootstrap, tmp_path, text.replace(".crm", ".other")) as process:
                process.wait_for(process.is_ready, chosen)
                process.kill()


def test_parked_paused_resent(bootstrap: str, tmp_path: Path) -> None:
    """A refused record is a dead letter that can be resent there; orders are followed."""
    toml = TOML.format(url="{url}", topics='["suppressions", "alerts"]', begin="now")
    key = b"ada@example.com"
    with receiving() as there:
        with DeliverProcess(bootstrap, tmp_path, toml.format(url=there.url)) as process:
            process.wait_for(process.is_ready, "ready")
            there.answer = answering(422, b"no such contact")
            began_s = int(time.time())
            asyncio.run(produce(bootstrap, [(topics.SUPPRESSIONS, key, None, f"{key!r}-lifted-1")]))

            def parked() -> bool:
                return "no such contact" in process.command("dlq", "ls", "--json")

            process.wait_for(parked, "its dead letter")
            there.answer = answering(204)
            process.command("dlq", "resend", "--reason", "not_delivered", "--yes")
            assert len(there.got) == 2

            process.command("deliver", "pause", "crm")
            process.wait_for(lambda: process.figure("mailpulse_deliver_paused") == 1, "paused")
            asyncio.run(produce(bootstrap, [(topics.SUPPRESSIONS, key, None, f"{key!r}-lifted-2")]))
            shown = process.command("deliver", "ls", "--json")
            assert "paused" in shown
            assert len(there.got) == 2
            process.command("deliver", "resume", "crm")
            process.wait_for(lambda: len(there.got) == 3, "what came while it was paused")

            told = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(began_s))
            process.command("deliver", "resend", "crm", "--from", told)
            assert len(there.got) == 3, "without --yes nothing is sent"
            process.command("deliver", "resend", "crm", "--from", told, "--yes")
            process.wait_for(lambda: len(there.got) == 5, "both again")
            process.command("deliver", "test", "crm")
            assert process.stop() == 0
        ids = [one.headers["webhook-id"] for one in there.got]
        assert ids[0] == ids[1] == ids[3]
        assert ids[2] == ids[4]
        assert [one.document["type"] for one in there.got[2:]] == [
            "suppression.lifted", "suppression.lifted", "suppression.lifted", "test",
        ]  # fmt: skip
        secret = process.environ["DELIVER_SECRET"]
        for one in there.got:
            assert Webhook(secret).verify(one.body, one.headers)


async def _deleted(bootstrap: str, topic: str) -> None:
    """Deletes a topic, and waits until it is gone."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.delete_topics([topic])
        async with asyncio.timeout(60):
            while topic in await admin.list_topics():  # noqa: ASYNC110  # nothing tells it
                await asyncio.sleep(0.1)
    finally:
        await admin.close()


@pytest.mark.parametrize("running", [True, False], ids=["while it runs", "while it is down"])
def test_a_topic_that_is_made_anew_is_delivered_from_its_start(
    bootstrap: str, tmp_path: Path, running: bool
) -> None:
    """Its offsets begin again; records of the old one say nothing of the new one's."""
    name = "anew" if running else "newer"
    with receiving() as there:
        toml = TOML.format(url=there.url, topics='["engagement"]', begin="earliest")
        toml = toml.replace(".crm", f".{name}")
        process = DeliverProcess(bootstrap, tmp_path, toml)
        with process:
            process.wait_for(process.is_ready, "ready")
            old = [engagement(f"{name}{n % 5}@x.example", n) for n in range(30)]
            asyncio.run(produce(bootstrap, old))
            mine = partial(_of, there.got, name)
            process.wait_for(lambda: len(mine()) >= 30, "the old ones")
            if not running:
                assert process.stop() == 0
            asyncio.run(_deleted(bootstrap, topics.ENGAGEMENT))
            create_mailpulse_topics(bootstrap)
            new = [engagement(f"new-{name}{n % 5}@x.example", n) for n in range(10)]
            asyncio.run(produce(bootstrap, new))
            if not running:
                process.start()
            arrived = partial(_of, there.got, f"new-{name}")
            process.wait_for(lambda: len(set(arrived())) == 10, "the new ones", 120.0)


def _of(got: Sequence[Got], begins: str) -> list[tuple[str, int]]:
    """Recipient and number of what arrived of some recipients."""
    found = [one.document["data"] for one in got]
    return [(one["recipient"], one["offset"]) for one in found
            if one["recipient"].startswith(begins)]  # fmt: skip
