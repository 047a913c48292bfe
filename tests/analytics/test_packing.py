"""Compression of results: part of their query, within its slot and its time."""

import asyncio
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from analytics.door import frames
from analytics.door.frames import FRAME_BYTES_MAX, FramesTooLarge, compressed
from analytics.door.native import CUSTOM_SERIALIZATION, TEXTS_BETWEEN, Content, at_revision
from analytics.warehouse.engine import Job
from analytics.warehouse.errors import QueryError
from analytics.warehouse.limits import QueryLimits
from analytics.warehouse.packing import GoOn, asked_packing
from tests.warehouses import OpenWarehouse, open_warehouse

LARGE = "SELECT repeat('x', 1000) FROM numbers(3000)"


class EndedError(Exception):
    """The caller ended it."""


@pytest.fixture
def warehouse(tmp_path: Path) -> Iterator[OpenWarehouse]:
    """A warehouse with one slot."""
    limits = QueryLimits(seconds_max=2, concurrent_max=1, wait_s_max=0.3)
    with open_warehouse(tmp_path, limits) as opened:
        yield opened


async def test_packing_ends_at_the_limit_of_its_query(warehouse: OpenWarehouse) -> None:
    """With the engine's error; the next query is answered."""

    def step(_content: Content, go_on: GoOn) -> bytes:
        while True:
            go_on()

    with pytest.raises(QueryError, match="159"):
        await warehouse.engine.query(Job(LARGE, "RowBinary", packing=[step]))
    assert warehouse.engine.unsent.bytes == 0
    (await warehouse.engine.query(Job("SELECT 7", "RowBinary"))).release()


def ask(warehouse: OpenWarehouse, **parameters: str) -> bytes:
    """The answer of the door."""
    url = f"{warehouse.url}/?{urllib.parse.urlencode(parameters)}"
    with urllib.request.urlopen(url, timeout=60) as answer:
        return bytes(answer.read())


async def test_a_query_has_its_place_until_its_result_is_packed(warehouse: OpenWarehouse) -> None:
    """Otherwise compression would not be bounded at all."""
    begun, done = threading.Event(), threading.Event()

    def step(_content: Content, _go_on: GoOn) -> bytes:
        begun.set()
        assert done.wait(30)
        return b"packed"

    engine = warehouse.engine
    first = asyncio.create_task(engine.query(Job(LARGE, "RowBinary", packing=[step])))
    await asyncio.to_thread(begun.wait, 30)
    with pytest.raises(QueryError, match="simultaneous"):
        await engine.query(Job("SELECT 7", "RowBinary"))
    done.set()
    assert (await first).content == b"packed"
    (await engine.query(Job("SELECT 7", "RowBinary"))).release()


async def test_packing_ends_when_its_client_has_gone(warehouse: OpenWarehouse) -> None:
    """It frees the memory; so does a step that waits for a thread."""
    begun = threading.Event()

    def step(_content: Content, go_on: GoOn) -> bytes:
        begun.set()
        while True:
            go_on()

    def never(_content: Content, _go_on: GoOn) -> bytes:
        raise AssertionError

    job = Job(LARGE, "RowBinary", packing=[step, never])
    packing = asyncio.create_task(warehouse.engine.query(job))
    await asyncio.to_thread(begun.wait, 30)
    job.gone.set()
    with pytest.raises(QueryError, match="cancelled"):
        await packing
    assert warehouse.engine.unsent.bytes == 0


async def test_ending_ends_packing(warehouse: OpenWarehouse) -> None:
    """Nobody waits for it any more."""
    begun = threading.Event()

    def step(_content: Content, go_on: GoOn) -> bytes:
        begun.set()
        while True:
            go_on()

    packing = asyncio.create_task(warehouse.engine.query(Job(LARGE, "RowBinary", packing=[step])))
    await asyncio.to_thread(begun.wait, 30)
    warehouse.engine.abandon()
    with pytest.raises(QueryError, match="cancelled"):
        await packing


def ends_at(count: int) -> GoOn:
    """Lets the work run a few times."""
    left = iter(range(count))

    def go_on() -> None:
        if next(left, None) is None:
            raise EndedError

    return go_on


def test_frames_and_blocks_can_be_ended_anywhere() -> None:
    """After each frame, column, and some ten thousand texts."""
    content = bytes(3 * FRAME_BYTES_MAX)
    assert compressed(content, ends_at(3))
    with pytest.raises(EndedError):
        compressed(content, ends_at(2))
    rows = 3 * TEXTS_BETWEEN
    block = b"\x01" + b"\x80\x80\x0c" + b"\x01a\x06String" + bytes(rows)
    assert at_revision(block, CUSTOM_SERIALIZATION, ends_at(4))
    with pytest.raises(EndedError):
        at_revision(block, CUSTOM_SERIALIZATION, ends_at(3))


def test_frames_are_bounded(warehouse: OpenWarehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    """By their size; the error says how to ask instead."""
    monkeypatch.setattr(frames, "FRAMES_BYTES_MAX", 20_000)
    with pytest.raises(FramesTooLarge, match="20000"):
        compressed(bytes(FRAME_BYTES_MAX * 5))
    with pytest.raises(urllib.error.HTTPError) as caught:
        ask(warehouse, query="SELECT rand64() FROM numbers(9000) FORMAT RowBinary", compress="1")
    assert b"enable_http_compression" in caught.value.read()
    assert ask(warehouse, query="SELECT 7", compress="1")


def test_what_is_not_asked_for_is_not_done() -> None:
    """A version with too many digits is ignored."""
    assert not asked_packing({}, "gzip", "CSV").steps
    one = asked_packing({"enable_http_compression": "1"}, "br;q=0, gzip", "CSV")
    assert (len(one.steps), one.encoding) == (1, "gzip")
    packing = asked_packing({"client_protocol_version": "9" * 10}, "", "Native")
    assert packing.steps[0](b"as it is", ends_at(0)) == b"as it is"
