"""The spool and the keeper in front of it: nothing acknowledged is lost, order is kept."""

import asyncio
import os
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from ingest.delivery import Keeper, Kept
from ingest.metrics import IngestMetrics
from ingest.parcel import Parcel
from ingest.spool import ROOM_BYTES, Spool, SpoolFull
from ingest.spool_frames import CHECKED_TIMES, MAGIC, frame, next_frame
from schemas.errors import ConfigError, Unavailable
from tests.ingest.front_door import MemoryLog


@asynccontextmanager
async def spool(folder: Path, bytes_max: int = 10**9, segment: int = 200) -> AsyncIterator[Spool]:
    """An open spool with small segments."""
    made = Spool(folder, bytes_max, segment)
    await made.open()
    try:
        yield made
    finally:
        await made.close()


def files(folder: Path, pattern: str = "*.spool") -> list[Path]:
    """The files in the spool's directory."""
    return sorted(folder.glob(pattern))


async def drained(one: Spool, most: int = 64) -> list[bytes]:
    """Everything on the spool, released as it is read."""
    payloads: list[bytes] = []
    while (stretch := await one.read(most)) is not None:
        payloads += stretch.payloads
        one.release()
    return payloads


def numbered(count: int, size: int = 30) -> list[bytes]:
    """Distinct payloads."""
    return [str(n).encode().ljust(size, b".") for n in range(count)]


async def test_what_is_appended_is_read_in_order(tmp_path: Path) -> None:
    """Over several segments, which are gone once they are released."""
    payloads = numbered(50)
    async with spool(tmp_path) as one:
        for payload in payloads:
            await one.append(payload)
        assert len(files(tmp_path)) > 5
        assert await drained(one) == payloads
        assert not one.busy
        assert one.size == 0
    assert not files(tmp_path)


async def test_concurrent_appends_share_commits(tmp_path: Path) -> None:
    """A hundred requests at once need far fewer than a hundred writes, and keep their order."""
    payloads = numbered(100)
    async with spool(tmp_path, segment=10**6) as one:
        writes = 0
        write = one._write

        def counted(data: bytes) -> None:
            nonlocal writes
            writes += 1
            write(data)

        one._write = counted  # type: ignore[method-assign]
        await asyncio.gather(*[one.append(payload) for payload in payloads])
        assert writes <= 3
        assert await drained(one) == payloads


async def test_a_restart_finds_what_was_not_released(tmp_path: Path) -> None:
    """What was read but not released is read again."""
    payloads = numbered(10)
    async with spool(tmp_path) as one:
        for payload in payloads:
            await one.append(payload)
        assert await one.read(64) is not None
    async with spool(tmp_path) as one:
        await one.append(b"new")
        assert await drained(one) == [*payloads, b"new"]


async def test_rewinding_reads_the_stretch_again(tmp_path: Path) -> None:
    """For a forwarder whose Kafka went away."""
    async with spool(tmp_path) as one:
        for payload in numbered(3):
            await one.append(payload)
        first = await one.read(1)
        assert first is not None
        one.rewind(first)
        assert await drained(one) == numbered(3)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_torn_tail_costs_only_itself(tmp_path: Path, data: st.DataObject) -> None:
    """The last segment truncated at any byte: exactly the frames before that are read; the rest
    of the truncated one is kept for a person."""
    folder = tmp_path / os.urandom(8).hex()
    payloads = numbered(6)

    async def run() -> None:
        damaged: list[int] = []
        async with spool(folder, segment=10**6) as one:
            for payload in payloads:
                await one.append(payload)
        [path] = files(folder)
        whole = path.read_bytes()
        cut = data.draw(st.integers(0, len(whole)))
        path.write_bytes(whole[:cut])
        again = Spool(folder, 10**9, on_damage=damaged.append)
        await again.open()
        assert await drained(again) == payloads[: cut // (len(whole) // 6)]
        assert sum(damaged) == cut % (len(whole) // 6)
        assert sum(p.stat().st_size for p in files(folder, "*.damaged")) == sum(damaged)
        assert not again.busy
        await again.close()

    asyncio.run(run())


async def test_damage_costs_what_it_covers_and_is_kept_for_a_person(tmp_path: Path) -> None:
    """A flipped bit in one frame: the others are read, the damaged bytes are saved next to the
    spool."""
    damaged: list[int] = []
    async with spool(tmp_path, segment=10**6) as one:
        for payload in numbered(5):
            await one.append(payload)
    [path] = files(tmp_path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    again = Spool(tmp_path, 10**9, on_damage=damaged.append)
    await again.open()
    rest = await drained(again)
    await again.close()
    assert rest == [p for n, p in enumerate(numbered(5)) if n != 2]
    [kept] = files(tmp_path, "*.damaged")
    assert [kept.stat().st_size] == damaged


async def test_a_damaged_length_costs_one_frame(tmp_path: Path) -> None:
    """It reaches beyond the segment's end, like that of an incomplete frame; a copy that a
    person made in the directory is left alone."""
    async with spool(tmp_path, segment=10**6) as one:
        for payload in numbered(5):
            await one.append(payload)
    [path] = files(tmp_path)
    content = bytearray(path.read_bytes())
    (tmp_path / "backup.spool").write_bytes(content)
    content[5] ^= 1
    path.write_bytes(bytes(content))
    async with spool(tmp_path) as again:
        assert await drained(again) == numbered(5)[1:]
    assert len(files(tmp_path, "*.damaged")) == 1
    assert files(tmp_path) == [tmp_path / "backup.spool"]


@pytest.mark.parametrize(("hit", "event"), [(4, "spool_torn"), (20, "spool_damaged")])
async def test_damage_of_the_last_frame_is_kept_and_said(
    tmp_path: Path, hit: int, event: str
) -> None:
    """Whether the damage is in the length, which then looks like an incomplete write, or in the
    payload: the frame was acknowledged."""
    damaged: list[int] = []
    async with spool(tmp_path, segment=10**6) as one:
        for payload in numbered(3):
            await one.append(payload)
    [path] = files(tmp_path)
    content = bytearray(path.read_bytes())
    last = len(content) // 3 * 2
    content[last + hit] ^= 1
    path.write_bytes(bytes(content))
    again = Spool(tmp_path, 10**9, on_damage=damaged.append)
    await again.open()
    with capture_logs() as lines:
        assert await drained(again) == numbered(3)[:2]
    await again.close()
    [kept] = files(tmp_path, "*.damaged")
    assert kept.read_bytes() == content[last:]
    assert damaged == [len(content) - last]
    [line] = lines
    assert (line["event"], line["file"], line["bytes"]) == (event, str(kept), damaged[0])


def test_the_search_behind_damage_takes_no_longer_for_what_payloads_hold(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A payload of many frame headers without a complete frame: the bytes that are checksummed
    are bounded, and a frame after a plausible number of headers is found."""
    summed = 0
    crc32 = zlib.crc32

    def counted(data: Any, start: int = 0) -> int:
        nonlocal summed
        summed += len(data)
        return crc32(data, start)

    monkeypatch.setattr(zlib, "crc32", counted)
    head = MAGIC + (5_000).to_bytes(4, "big") + bytes(4)
    whole = frame(b"x" * 20_000)
    hostile = head * 3_000 + whole
    summed = 0
    assert next_frame(hostile) == len(hostile)
    assert summed <= (CHECKED_TIMES + 1) * len(hostile)
    for text in (head * 10, MAGIC * 3_000):
        assert next_frame(text + whole) == len(text)


async def test_a_full_spool_refuses_and_takes_again(tmp_path: Path) -> None:
    """Never more than its bytes; released bytes are free again."""
    async with spool(tmp_path, bytes_max=500) as one:
        results = [
            await asyncio.gather(one.append(p), return_exceptions=True) for p in numbered(50)
        ]
        appended = sum(result is None for [result] in results)
        assert all(isinstance(result, SpoolFull) for [result] in results[appended:])
        assert sum(p.stat().st_size for p in files(tmp_path)) <= 500
        assert len(await drained(one)) == appended
        await one.append(b"again")


async def test_one_process_per_directory(tmp_path: Path) -> None:
    """The second one is told at start, with the setting's name."""
    async with spool(tmp_path):
        with pytest.raises(ConfigError, match="MAILPULSE_SPOOL_DIR"):
            await Spool(tmp_path, 1_000).open()


async def test_a_directory_that_cannot_be_made_is_a_problem_of_settings(tmp_path: Path) -> None:
    """Not a surprise at the first outage."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="MAILPULSE_SPOOL_DIR"):
        await Spool(tmp_path / "file" / "spool", 1_000).open()


async def test_a_failing_disk_refuses_and_recovers(tmp_path: Path) -> None:
    """A failed write is no acknowledgement, leaves nothing behind, and ends its segment."""
    async with spool(tmp_path, segment=10**6) as one:
        await one.append(b"before")
        write = one._write

        def half(data: bytes) -> None:
            assert one._writing is not None
            os.write(one._writing, data[: len(data) // 2])
            raise OSError(28, "No space left on device")

        one._write = half  # type: ignore[method-assign]
        with pytest.raises(Unavailable, match="No space"):
            await one.append(b"refused")
        one._write = write  # type: ignore[method-assign]
        await one.append(b"after")
        assert await drained(one) == [b"before", b"after"]


# --- the keeper ----------------------------------------------------------------------------------


def parcel(number: int) -> Parcel:
    """A parcel of one event."""
    return Parcel(number, [(b"k", str(number).encode())])


def kept_numbers(log: MemoryLog) -> list[int]:
    """The parcels that Kafka has, in order."""
    return [int(value) for one in log.parcels for _, value in one.events]


@asynccontextmanager
async def keeper(log: MemoryLog, folder: Path, bytes_max: int = 10**6) -> AsyncIterator[Keeper]:
    """A started keeper with a spool."""
    made = Keeper(log, Spool(folder, bytes_max, 300), 1.0, IngestMetrics())
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


async def until_empty(one: Keeper) -> None:
    """Waits until the spool is forwarded."""
    async with asyncio.timeout(20):
        while one.spooled_bytes:  # noqa: ASYNC110 - bounded by the line above
            await asyncio.sleep(0.01)


async def test_order_is_kept_over_an_outage(tmp_path: Path) -> None:
    """What arrives while the spool is not empty is queued behind it, also when Kafka is back."""
    log = MemoryLog()
    async with keeper(log, tmp_path) as one:
        assert await one.keep(parcel(0), 1) == Kept.KAFKA
        log.up = False
        for number in range(1, 40):
            assert await one.keep(parcel(number), 1) == Kept.SPOOL
        log.delay_s, log.up = 0.002, True
        for number in range(40, 60):
            await one.keep(parcel(number), 1)
        await until_empty(one)
        assert await one.keep(parcel(60), 1) == Kept.KAFKA
    assert kept_numbers(log) == list(range(61))


async def test_a_stop_during_an_outage_loses_nothing(tmp_path: Path) -> None:
    """The next process forwards what this one acknowledged."""
    log = MemoryLog(up=False)
    async with keeper(log, tmp_path) as one:
        for number in range(20):
            assert await one.keep(parcel(number), 1) == Kept.SPOOL
    log.up = True
    async with keeper(log, tmp_path) as one:
        await until_empty(one)
    assert kept_numbers(log) == list(range(20))


async def test_without_kafka_it_is_ready_while_the_spool_has_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By limit and by disk, so that a proxy asks another ingress; with Kafka neither matters."""
    log, free = MemoryLog(up=False), [10**9]
    monkeypatch.setattr("ingest.spool.os.statvfs", lambda _: SimpleNamespace(
        f_bavail=free[0], f_frsize=1))  # fmt: skip
    async with keeper(log, tmp_path, bytes_max=ROOM_BYTES + 100) as one:
        assert one.ready
        free[0] = ROOM_BYTES - 1
        assert not one.ready
        log.up = True
        assert one.ready
        log.up, free[0] = False, 10**9
        for number in range(5):
            await one.keep(parcel(number), 1)
        assert not one.ready


def _gone(_folder: Path) -> None:
    raise OSError(5, "Input/output error")


async def test_a_disk_that_does_not_answer_has_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing could be written to it either."""
    monkeypatch.setattr("ingest.spool.os.statvfs", _gone)
    async with keeper(MemoryLog(up=False), tmp_path) as one:
        assert not one.ready


async def test_no_answer_from_kafka_means_the_spool_within_the_time(tmp_path: Path) -> None:
    """Half of the time is Kafka's; the parcel may then be in both, never in neither."""
    log = MemoryLog(delay_s=5)
    async with keeper(log, tmp_path) as one:
        assert await one.keep(parcel(1), 0.2) == Kept.SPOOL
        log.delay_s = 0
        await until_empty(one)
    assert kept_numbers(log) == [1]


async def test_a_full_spool_refuses(tmp_path: Path) -> None:
    """Back to what is done without one."""
    log = MemoryLog(up=False)
    async with keeper(log, tmp_path, bytes_max=400) as one:
        answers = [
            await asyncio.gather(one.keep(parcel(number), 1), return_exceptions=True)
            for number in range(40)
        ]
        assert answers[0][0] == Kept.SPOOL
        assert isinstance(answers[-1][0], Unavailable)
        log.up = True
        await until_empty(one)
        assert await one.keep(parcel(100), 1) == Kept.KAFKA


async def test_forwarding_goes_on_after_kafka_fails_meanwhile(tmp_path: Path) -> None:
    """A part that failed is sent again: some parcels twice, none never, first copies in order."""
    log = MemoryLog(up=False)
    async with keeper(log, tmp_path) as one:
        for number in range(30):
            await one.keep(parcel(number), 1)
        log.fails, log.up = Unavailable("flapping"), True
        await asyncio.sleep(0.1)
        log.fails = None
        await until_empty(one)
    assert list(dict.fromkeys(kept_numbers(log))) == list(range(30))


async def test_forwarding_goes_on_after_the_disk_had_no_room_for_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What can't be set aside stays where it is: it is never lost, nor is what follows it."""
    monkeypatch.setattr("ingest.delivery.RETRY_S", 0.001)
    log = MemoryLog(up=False)
    async with keeper(log, tmp_path) as one:
        for number in range(3):
            await one.keep(parcel(number), 1)
    [path] = files(tmp_path)
    content = bytearray(path.read_bytes())
    content[20] ^= 1
    path.write_bytes(bytes(content))
    refusals = [OSError(28, "No space left on device")] * 3
    set_aside = Spool.set_aside

    def full_at_first(self: Spool, name: str, content: bytes) -> None:
        if refusals:
            raise refusals.pop()
        set_aside(self, name, content)

    monkeypatch.setattr(Spool, "set_aside", full_at_first)
    log.up = True
    async with keeper(log, tmp_path) as one:
        await until_empty(one)
    assert kept_numbers(log) == [1, 2]
    [kept] = files(tmp_path, "*.damaged")
    assert kept.read_bytes() == content[: len(content) // 3]
