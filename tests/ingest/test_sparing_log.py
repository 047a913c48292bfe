"""What outside callers cause is in the log, and does not fill the disk."""

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka.errors import KafkaConnectionError
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from ingest.accepted_lines import LINES_PER_S
from ingest.delivery import Keeper
from ingest.metrics import IngestMetrics
from ingest.parcel import Parcel
from ingest.partition_queue import Connection
from ingest.producer import Producer
from ingest.sparing_log import SparingLog
from ingest.spool import Spool
from schemas.errors import Unavailable
from schemas.serving.sparing import KINDS_MAX
from schemas.settings import Settings
from streams.cli.logs import configure
from tests.ingest.front_door import MemoryLog, front_door
from tests.ingest.sockets import head, listening

REFUSALS = 10_000
"""What the issue wants a deployment to bear in a second."""


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """What the role's log writes, as JSON; put back afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    configure(Settings(log_format="json"), "ingest", stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)


async def test_ten_thousand_refusals_are_some_lines(written: io.StringIO) -> None:
    """Each kind once and then its count: none is lost, and the log stays small."""
    request = head("X-Key: no", "Content-Length: 2", path="/hooks/%s") + b"{}"
    paths = (b"news", b"other", b"nothing%d")
    async with listening(echo=False) as door:
        client = await door.connect()
        for first in range(0, REFUSALS, 50):
            numbers = range(first, first + 50)
            names = [paths[n % 3].replace(b"%d", b"%d" % n) for n in numbers]
            await client.send(b"".join([request % name for name in names]))
            assert set(await client.answers(50)) <= {401, 404}
        client.writer.close()
    lines = [json.loads(line) for line in written.getvalue().splitlines()]
    hooks = [line for line in lines if line["event"] == "hook"]
    assert len(hooks) == 4
    assert sum(1 - ("suppressed" in line) + line.get("suppressed", 0) for line in hooks) == REFUSALS
    assert {(line["source"], line["result"], line.get("reason")) for line in hooks} == {
        ("news", "unauthorized", "wrong_key"), ("", "not_found", None),
    }  # fmt: skip
    assert len(written.getvalue()) < 5_000


async def test_what_is_kept_has_a_line_each_or_is_counted_in_one(written: io.StringIO) -> None:
    """Also what came last before the end; a request with an item that is no event has a line."""
    async with front_door() as door:
        for number in range(40):
            items = [{"id": f"m{number}"}, *(["no event"] if number == 30 else [])]
            assert (await door.post(items)).status_code == 200
    lines = [json.loads(line) for line in written.getvalue().splitlines()]
    hooks = [line for line in lines if line["event"] == "hook"]
    logged = [line for line in hooks if "status" in line]
    assert LINES_PER_S < len(logged) < 40
    assert [line for line in logged if "rejected" in line]
    events = sum(line["events"] for line in logged)
    for figure, counted in (("unlogged_requests", len(logged)), ("unlogged_events", events)):
        assert counted + sum(line.get(figure, 0) for line in hooks) == 40


@pytest.mark.parametrize("body", [b"[]", b"x" * 200_000])
async def test_a_module_that_fails_on_what_anybody_sends_is_no_flood(
    written: io.StringIO, body: bytes
) -> None:
    """One traceback, in the loop and in the thread for large bodies alike."""
    async with front_door() as door:
        for _ in range(50):
            assert (await door.post(body, key="explode")).status_code == 401
    lines = [json.loads(line) for line in written.getvalue().splitlines()]
    failed = [line for line in lines if line["event"] == "provider_module_failed"]
    assert [line.get("suppressed", 1) for line in failed] == [1, 49]
    assert "ZeroDivisionError" in failed[0]["exception"]


async def test_bad_requests_and_connections_write_nothing(written: io.StringIO) -> None:
    """They are counted in the metrics."""
    async with listening(connections_max=5) as door:
        for _ in range(20):
            await (await door.connect()).exchange(b"no http\r\n\r\n")
        assert door.refused("not_http") == 20
        clients = [await door.connect() for _ in range(20)]
        await asyncio.sleep(0.05)
        assert door.refused("displaced") == 15
        for client in clients:
            client.writer.close()
    assert "warning" not in written.getvalue()


@given(kinds=st.lists(st.integers(0, 4), max_size=40))
def test_every_line_is_written_or_counted(kinds: list[int]) -> None:
    """Whatever comes in whatever order: lines and counts add up, and each kind's first is whole."""

    async def run() -> None:
        log = SparingLog("test", lambda: 0.0, pause_s=1_000)
        for number, kind in enumerate(kinds):
            log.say("info", "said", {"kind": str(kind)}, number=number)
        log.close()

    with capture_logs() as lines:
        asyncio.run(run())
    for kind in set(kinds):
        own = [line for line in lines if line["kind"] == str(kind)]
        assert own[0]["number"] == kinds.index(kind)
        assert sum(line.get("suppressed", 1) for line in own) == kinds.count(kind)
        assert len(own) <= 2


async def test_what_was_suppressed_is_said_later_without_another() -> None:
    """By a timer that ends when there is nothing left to say."""
    with capture_logs() as lines:
        log = SparingLog("test", asyncio.get_running_loop().time, pause_s=0.05)
        for _ in range(3):
            log.say("warning", "said", {"kind": "a"}, more=1)
        async with asyncio.timeout(10):
            while log._timer is not None:  # noqa: ASYNC110 - bounded above
                await asyncio.sleep(0.01)
    assert lines == [
        {"event": "said", "log_level": "warning", "kind": "a", "more": 1},
        {"event": "said", "log_level": "warning", "kind": "a", "suppressed": 2, "period_s": 0.05},
    ]


async def test_too_many_kinds_share_a_line() -> None:
    """Nobody can make a line each by making kinds up."""
    with capture_logs() as lines:
        log = SparingLog("test", lambda: 0.0)
        for number in range(10 * KINDS_MAX):
            log.say("info", "said", {"kind": str(number)})
        log.close()
    assert len(lines) <= KINDS_MAX + 2
    assert sum(line.get("suppressed", 1) for line in lines) == 10 * KINDS_MAX


async def test_a_kafka_that_is_away_is_said_at_once_and_then_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A line at the change, and one with the count of the tries after it."""
    monkeypatch.setattr("ingest.producer.RETRY_MAX_S", 0.001)
    tries = asyncio.Semaphore(0)

    class Away(Producer):
        async def _connect(self) -> Connection:
            tries.release()
            raise KafkaConnectionError

    with capture_logs() as lines:
        one = Away(Settings(), IngestMetrics(), lambda: 0.0)
        await one.start()
        for _ in range(20):
            await tries.acquire()
        await one.stop()
    assert [(line["event"], line.get("suppressed")) for line in lines] == [
        ("kafka_away", None), ("kafka_away", 19),
    ]  # fmt: skip


async def test_forwarding_that_stops_again_and_again_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As is what goes to the spool because Kafka, though up, did not take it."""
    monkeypatch.setattr("ingest.delivery.RETRY_S", 0.001)
    log = MemoryLog(fails=Unavailable("flapping"))
    one = Keeper(log, Spool(tmp_path, 10**6), 1.0, IngestMetrics(), lambda: 0.0)
    with capture_logs() as lines:
        await one.start()
        await one.keep(Parcel(1, [(b"k", b"v")]), 1)
        async with asyncio.timeout(20):
            while log.tried < 20:  # noqa: ASYNC110 - bounded by the line above
                await asyncio.sleep(0.001)
        await one.stop()
    said = [(line["event"], "suppressed" in line) for line in lines]
    assert said == [
        ("to_spool", False),
        ("forwarding_stopped", False),
        ("forwarding_stopped", True),
    ]
