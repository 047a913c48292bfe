"""Delivery, order, commits and revocation, over Faust's real machinery and a fake broker side."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.transport.chunks import TP, Chunk
from tests.streams.rig import TOPIC, FakeLog, FakeRecord, Rig, RigMaker, tiles

P0, P1 = TP(TOPIC, 0), TP(TOPIC, 1)


# --- delivery ------------------------------------------------------------------------------------


async def test_chunks_tile_each_partition_in_order(rig_of: RigMaker) -> None:
    """Two partitions, gaps of removed records and a marker at the end: every offset is covered."""
    logs = {
        P0: FakeLog.of([*range(0, 57), *range(60, 100)], end=101),
        P1: FakeLog.of([o for o in range(200) if o % 3], end=200),
    }
    rig = await rig_of(logs)
    await rig.assign(P0, P1)
    await rig.until(lambda: {c.last + 1 for c in rig.chunks} >= {101, 200})
    for tp, log in logs.items():
        chunks = [chunk for chunk in rig.chunks if chunk.tp == tp]
        assert tiles(chunks)
        assert (chunks[0].first, chunks[-1].last + 1) == (0, log.end)
        assert rig.offsets(tp) == [record.offset for record in log.records]


async def test_a_stretch_without_records_is_a_chunk_without_records(rig_of: RigMaker) -> None:
    """Otherwise no commit could reach the end of a log that ends in transaction markers."""
    rig = await rig_of({P0: FakeLog.of([], end=4)})
    await rig.assign(P0)
    await rig.until(lambda: bool(rig.chunks))
    (chunk,) = rig.chunks
    assert (chunk.records, chunk.first, chunk.last) == ([], 0, 3)


async def test_no_more_chunks_are_queued_than_there_are_places(rig_of: RigMaker) -> None:
    """While the agent is busy the queue fills to its limit and reading stops."""
    rig = await rig_of({P0: FakeLog.of(range(1_000))}, chunks_buffered_max=3)
    rig.gate.clear()
    await rig.assign(P0)
    await rig.until(lambda: rig.thread.positions[P0] >= 40)
    await asyncio.sleep(0.05)
    assert rig.thread.positions[P0] == 40  # one in work, three queued, ten records each
    rig.gate.set()
    await rig.until(lambda: len(rig.offsets(P0)) == 1_000)
    assert rig.offsets(P0) == list(range(1_000))


async def test_a_full_queue_of_one_topic_does_not_hold_up_another(rig_of: RigMaker) -> None:
    """While one agent works on a long chunk, the other agent's chunks keep coming."""
    other = TP("other", 0)
    logs = {P0: FakeLog.of(range(1_000)), other: FakeLog.of(range(100))}
    rig = await rig_of(logs, chunk_topics=[TOPIC, "other"], chunks_buffered_max=2)
    rig.gate.clear()
    got: list[Chunk] = []

    async def agent(stream: Any) -> None:
        async for chunk in stream:
            got.append(chunk)  # noqa: PERF401 - the stream never ends

    agents = rig.app.agent(rig.app.chunk_topic("other"))(agent)
    await agents.start()
    await asyncio.sleep(0)
    await rig.index()
    await rig.assign(P0, other)
    await rig.until(lambda: sum(len(chunk.records) for chunk in got) == 100)
    assert rig.chunks == []
    assert tiles(got)
    await agents.stop()


async def test_other_topics_come_record_by_record(rig_of: RigMaker) -> None:
    """A topic that is not a chunk topic is unchanged, including its offsets."""
    plain = TP("plain", 0)
    rig = await rig_of({P0: FakeLog.of(range(5)), plain: FakeLog.of([])})
    rig.thread.logs[plain] = FakeLog(
        [FakeRecord(o, b"%d" % o, topic="plain") for o in range(3)], end=3
    )
    got: list[bytes] = []

    async def agent(stream: Any) -> None:
        async for value in stream:
            got.append(value)  # noqa: PERF401 - the stream never ends

    agents = rig.app.agent(rig.app.topic("plain", value_type=bytes, value_serializer="raw"))(agent)
    await agents.start()
    await asyncio.sleep(0)
    await rig.index()
    await rig.assign(P0, plain)
    await rig.until(lambda: len(got) == 3 and len(rig.offsets(P0)) == 5)
    assert got == [b"0", b"1", b"2"]
    await rig.until(lambda: len(rig.consumer._acked[plain]) == 3)
    await rig.consumer.commit()
    assert rig.thread.offsets == {plain: 3}
    await agents.stop()


# --- commits -------------------------------------------------------------------------------------


async def test_commit_is_what_the_engine_says_and_nothing_else(rig_of: RigMaker) -> None:
    """Finished chunks are not committed before they are checkpointed."""
    rig = await rig_of({P0: FakeLog.of(range(50))})
    await rig.assign(P0)
    await rig.until(lambda: len(rig.offsets(P0)) == 50)
    await rig.consumer.commit()  # as Faust's timer does
    assert rig.thread.commits == []
    rig.hooks.done[P0] = 20
    await rig.consumer.commit()
    rig.hooks.done[P0] = 20
    await rig.consumer.commit()
    rig.hooks.done[P0] = 50
    assert await rig.consumer.commit_chunks([P0])
    assert rig.thread.commits == [{P0: 20}, {P0: 50}]


async def test_a_commit_never_goes_back(rig_of: RigMaker) -> None:
    """An engine that lost its state may be behind the committed offset."""
    rig = await rig_of({P0: FakeLog.of(range(50))})
    rig.thread.offsets[P0] = 30
    await rig.assign(P0)
    assert rig.app.committed_now(P0) == 30
    rig.hooks.done[P0] = 10
    assert await rig.consumer.commit_chunks()
    assert rig.thread.commits == []


async def test_a_refused_commit_is_tried_again(rig_of: RigMaker) -> None:
    """Faust treats a refused commit as done."""
    rig = await rig_of({P0: FakeLog.of(range(50))})
    await rig.assign(P0)
    rig.hooks.done[P0] = 20
    rig.thread.commits_succeed = False
    assert not await rig.consumer.commit_chunks()
    rig.thread.commits_succeed = True
    assert await rig.consumer.commit_chunks()
    assert rig.thread.offsets[P0] == 20


async def test_a_commit_waits_for_the_commit_under_way(rig_of: RigMaker) -> None:
    """Faust's own commit returns without doing anything while another one is running."""
    rig = await rig_of({P0: FakeLog.of(range(50))})
    await rig.assign(P0)
    rig.hooks.done[P0] = 20
    running = asyncio.create_task(rig.consumer.commit())
    await asyncio.sleep(0)
    rig.hooks.done[P0] = 30
    assert await rig.consumer.commit_chunks()
    await running
    assert rig.thread.offsets[P0] == 30


async def test_state_of_another_log_is_found_before_it_is_committed(rig_of: RigMaker) -> None:
    """A recreated topic ends below the offset of the local state."""
    rig = await rig_of({P0: FakeLog.of(range(50))})
    await rig.assign(P0)
    await rig.until(lambda: len(rig.offsets(P0)) == 50)
    rig.hooks.done[P0] = 51
    assert not await rig.consumer.commit_chunks()
    assert "another log" in rig.fatal[0]
    assert rig.thread.commits == []


async def test_a_log_that_goes_back_is_another_log(rig_of: RigMaker) -> None:
    """Recreated, with fewer records than were read: they look like replays, so nothing is
    delivered."""
    rig = await rig_of({P0: FakeLog.of(range(50))})
    await rig.assign(P0)
    await rig.until(lambda: len(rig.offsets(P0)) == 50)
    rig.thread.logs[P0] = FakeLog.of(range(10))
    rig.thread.positions[P0] = 0  # what «earliest» does once the offset is out of range
    await rig.until(lambda: bool(rig.fatal))
    assert "the log went back to 0: the topic was deleted and recreated" in rig.fatal[0]
    assert len(rig.offsets(P0)) == 50


# --- seeks and losses ----------------------------------------------------------------------------


@pytest.mark.parametrize("target", [0, 15, 77])
async def test_the_next_chunk_after_a_seek_starts_there(rig_of: RigMaker, target: int) -> None:
    """Back, into the middle of a chunk, and forward; the chunk in progress is finished first."""
    rig = await rig_of({P0: FakeLog.of(range(100))})
    rig.gate.clear()
    await rig.assign(P0)
    await rig.until(lambda: rig.held is not None)
    await rig.settle()  # the queue is full of chunks of the old position
    await rig.app.seek(P0, target)
    rig.gate.set()
    await rig.until(lambda: bool(rig.chunks) and rig.chunks[-1].last == 99)
    assert rig.chunks[0].first == 0
    assert rig.chunks[1].first == target
    assert tiles(rig.chunks[1:])


async def test_a_seek_of_a_partition_that_is_gone_does_nothing(rig_of: RigMaker) -> None:
    """A rebalance may happen between the engine's decision and the seek."""
    rig = await rig_of({P0: FakeLog.of(range(100)), P1: FakeLog.of(range(100))})
    await rig.assign(P0)
    await rig.app.seek(P1, 3)
    await rig.until(lambda: len(rig.offsets(P0)) == 100)
    assert rig.offsets(P1) == []
    assert rig.consumer._sessions.keys() == {P0}


async def test_chunks_dropped_from_the_queue_are_read_again(rig_of: RigMaker) -> None:
    """Faust clears all queues whenever it resumes the flow, needed or not."""
    rig = await rig_of({P0: FakeLog.of(range(500))}, chunks_buffered_max=4)
    rig.gate.clear()
    await rig.assign(P0)
    await rig.until(lambda: rig.held is not None)
    await rig.settle()
    rig.app.flow_control.resume()
    rig.gate.set()
    await rig.until(lambda: bool(rig.chunks) and rig.chunks[-1].last == 499)
    assert rig.offsets(P0) == list(range(500))
    assert tiles(rig.chunks)


# --- letting go ----------------------------------------------------------------------------------


async def test_letting_go_checkpoints_commits_and_delivers_nothing_more(rig_of: RigMaker) -> None:
    """The chunk in progress is finished by the engine's hook; queued ones never reach the agent."""
    rig = await rig_of({P0: FakeLog.of(range(500))})
    rig.gate.clear()
    await rig.assign(P0)
    await rig.until(lambda: rig.held is not None)
    await rig.settle()

    async def finish(tps: set[TP]) -> None:
        assert rig.thread.commits == []
        rig.gate.set()
        await rig.until(lambda: rig.held is None)
        await rig.settle()
        rig.hooks.done[P0] = 10

    rig.hooks.revoking = finish
    await rig.revoke()
    assert rig.hooks.events[-1] == ("revoke", frozenset({P0}))
    assert rig.thread.commits == [{P0: 10}]
    await rig.settle()
    assert rig.offsets(P0) == list(range(10))


async def test_reading_resumes_from_the_commit_after_a_rebalance(rig_of: RigMaker) -> None:
    """A reassigned partition starts at the committed offset: some chunks come twice, none is
    missing."""
    rig = await rig_of({P0: FakeLog.of(range(300)), P1: FakeLog.of(range(300))})
    await rig.assign(P0, P1)
    await rig.until(lambda: len(rig.offsets(P0)) >= 40)
    rig.hooks.done = {P0: 20}
    await rig.revoke()
    before = len(rig.chunks)
    await rig.assign(P0)
    await rig.until(lambda: 299 in rig.offsets(P0))
    again = [chunk for chunk in rig.chunks[before:] if chunk.tp == P0]
    assert again[0].first == 20
    assert tiles(again)
    assert [c.tp for c in rig.chunks[before:]] == [P0] * len(again)
    assert [kind for kind, _ in rig.hooks.events] == ["assign", "revoke", "assign"]


async def test_a_failing_checkpoint_ends_the_app_and_commits_nothing(rig_of: RigMaker) -> None:
    """What could not be checkpointed must be delivered again."""
    rig = await rig_of({P0: FakeLog.of(range(50))})
    await rig.assign(P0)
    await rig.until(lambda: len(rig.offsets(P0)) == 50)
    rig.hooks.done[P0] = 50

    async def broken(tps: set[TP]) -> None:
        raise OSError("disk full")

    rig.hooks.revoking = broken
    await rig.revoke()
    assert "on_revoke of in-0 failed" in rig.fatal[0]
    assert "disk full" in rig.fatal[0]
    assert rig.thread.commits == []


STEPS = st.lists(st.sampled_from(["run", "checkpoint", "commit", "rebalance", "clear", "seek"]))


@settings(max_examples=60, deadline=None)
@given(steps=STEPS, seeks=st.lists(st.integers(0, 299), min_size=8, max_size=8))
def test_whatever_happens_nothing_is_skipped_and_nothing_unfinished_committed(
    steps: list[str], seeks: list[int]
) -> None:
    """An engine that insists on the next offset, with rebalances, cleared queues and seeks."""
    asyncio.run(_anything(steps, seeks))


async def _anything(steps: list[str], seeks: list[int]) -> None:
    rig = Rig({P0: FakeLog.of(o for o in range(300) if o % 7)}, chunks_buffered_max=3)
    rig.thread.logs[P0].end = 300
    reached = 0
    gaps: list[tuple[int, int]] = []

    async def agent(stream: Any) -> None:
        nonlocal reached
        async for chunk in stream:
            await asyncio.sleep(0)
            if chunk.first > reached:
                gaps.append((reached, chunk.first))
            reached = max(reached, chunk.last + 1)

    await rig.start(agent)
    await rig.assign(P0)

    async def rebalance() -> None:
        await rig.revoke()
        await rig.settle(5)
        await rig.assign(P0)

    async def checkpoint() -> None:
        rig.hooks.done[P0] = reached

    async def clear() -> None:
        rig.app.flow_control.resume()

    targets = itertools.cycle(seeks)
    actions: dict[str, Callable[[], Awaitable[Any]]] = {
        "run": lambda: rig.settle(20),
        "checkpoint": checkpoint,
        "commit": rig.consumer.commit,
        "rebalance": rebalance,
        "clear": clear,
        # the engine asks for what it has not had yet, or for some of it again
        "seek": lambda: rig.app.seek(P0, min(next(targets), reached)),
    }
    for step in steps:
        await actions[step]()
        assert rig.thread.offsets.get(P0, 0) <= rig.hooks.done.get(P0, 0) <= reached
    await asyncio.wait_for(rig.until(lambda: reached == 300), 20)
    await rig.stop()
    assert gaps == []
    assert rig.fatal == []
