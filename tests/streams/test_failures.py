"""The first failure ends the app: what counts as one, and that nothing is committed after it."""

import asyncio
from typing import Any

import pytest

from schemas.internals import InternalsMissing
from streams.transport.app import ChunkApp
from streams.transport.chunks import TP, Session
from streams.transport.internals import PINNED, check_internals
from streams.transport.runner import run
from tests.streams.rig import TOPIC, FakeLog, Rig, RigMaker

P0 = TP(TOPIC, 0)


async def _raises(stream: Any) -> None:
    async for _ in stream:
        raise ValueError("poison")


async def _returns(stream: Any) -> None:
    async for _ in stream:
        return


async def _cancels(stream: Any) -> None:
    async for _ in stream:
        raise asyncio.CancelledError


@pytest.mark.parametrize(
    ("agent", "reason"),
    [(_raises, "poison"), (_returns, "returned"), (_cancels, "cancelled")],
)
async def test_an_agent_that_ends_ends_the_app(rig_of: RigMaker, agent: Any, reason: str) -> None:
    """Faust would restart it on the next event. Here nothing is delivered or committed any more."""
    rig = await rig_of({P0: FakeLog.of(range(100))}, agent)
    await rig.assign(P0)
    await rig.until(lambda: bool(rig.fatal))
    assert reason in rig.fatal[0]
    rig.hooks.done[P0] = 100
    assert not await rig.consumer.commit_chunks()
    await rig.settle()
    assert rig.thread.commits == []
    assert len(rig.fatal) == 1


async def test_two_instances_of_an_agent_are_refused(rig_of: RigMaker) -> None:
    """They would process a partition out of order."""
    rig = await rig_of({P0: FakeLog.of([])})
    with pytest.raises(Exception, match="one instance"):
        rig.app.agent(rig.app.chunk_topic(TOPIC), concurrency=2)(_raises)


async def test_a_broker_that_is_not_there_is_a_failure_with_exit_code_1() -> None:
    """The supervisor restarts the process; it does not wait silently."""
    rig_hooks = Rig({}).hooks
    fatal: list[str] = []
    app = ChunkApp(
        "nobody", broker="kafka://127.0.0.1:1", web_enabled=False, topic_disable_leader=True,
        chunk_topics=[TOPIC], chunk_records_max=1, chunk_bytes_max=1, hooks=rig_hooks,
        on_fatal=fatal.append,
    )  # fmt: skip
    app.agent(app.chunk_topic(TOPIC))(_raises)
    assert await run(app, owns_process=False, grace_s=10) == 1
    assert len(fatal) == 1


def test_a_missing_internal_is_named_with_the_versions_that_have_it() -> None:
    """After an upgrade of Faust the message says what to install, instead of a failing
    rebalance."""
    check_internals()
    with pytest.raises(InternalsMissing) as raised:
        check_internals([(Session, "accept teleport")])
    assert "Session.teleport" in str(raised.value)
    assert "accept" not in str(raised.value)
    for name, number in PINNED.items():
        assert f"{name}=={number}" in str(raised.value)


async def test_a_topic_that_is_no_chunk_topic_is_refused(rig_of: RigMaker) -> None:
    """An agent that expects chunks would get its records one by one."""
    rig = await rig_of({P0: FakeLog.of([])})
    with pytest.raises(ValueError, match="other"):
        rig.app.chunk_topic("other")
