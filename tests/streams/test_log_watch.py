"""The watch over the raw topic's id: one connection, when it asks, what it lets through."""

import asyncio
from collections.abc import Callable, Iterator

import pytest
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from schemas.errors import Unavailable
from schemas.settings import Settings
from schemas.topics import RAW
from streams.transport.chunks import TP
from streams.transport.thread import committed_in
from streams.worker.log_watch import FRESH_S, LogChanged, LogWatch, watch_of


class FakeBroker:
    """Answers of a broker, one after the other; the last one repeats."""

    def __init__(self, *answers: str | Exception | None) -> None:
        self._answers: Iterator[str | Exception | None] = iter(answers)
        self._last = answers[-1]
        self.connected = self.open = self.asked = 0
        self.refuses = 0
        self.asking: asyncio.Event | None = None
        self.takes: Callable[[], None] = lambda: None

    async def connect(self) -> "FakeBroker":
        """A connection to it."""
        if self.refuses:
            self.refuses -= 1
            raise Unavailable("nobody")
        self.connected += 1
        self.open += 1
        return self

    async def topic_id(self, topic: str) -> str | None:
        """The next answer."""
        assert topic == RAW
        self.asked += 1
        if self.asking is not None:
            self.asking.set()
            await asyncio.Event().wait()
        self.takes()
        answer = next(self._answers, self._last)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def close(self) -> None:
        """Counts a closed connection."""
        self.open -= 1


class FakeClock:
    """A clock that is set by hand."""

    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


async def test_one_connection_serves_every_look_and_is_closed_at_the_end() -> None:
    """Not a new connection every five seconds."""
    broker = FakeBroker("ours")
    watch = LogWatch("ours", broker.connect)
    for _ in range(20):
        await watch.look()
    assert (broker.connected, broker.open, broker.asked) == (1, 1, 20)
    await watch.close()
    assert broker.open == 0


async def test_a_connection_that_failed_is_closed_and_replaced() -> None:
    """After a broker's restart a new connection is used, and none is left open."""
    broker = FakeBroker("ours", Unavailable("reset"), "ours")
    watch = LogWatch("ours", broker.connect)
    await watch.look()
    with pytest.raises(Unavailable):
        await watch.look()
    assert broker.open == 0
    broker.refuses = 1
    with pytest.raises(Unavailable):
        await watch.look()
    await watch.look()
    assert (broker.connected, broker.open) == (2, 1)


async def test_a_look_that_is_cut_off_leaves_no_answer_for_the_next_one() -> None:
    """A connection whose request was cancelled may still receive the old answer."""
    broker = FakeBroker("ours")
    broker.asking = asyncio.Event()
    watch = LogWatch("ours", broker.connect)
    looking = asyncio.create_task(watch.look())
    await broker.asking.wait()
    looking.cancel()
    await asyncio.gather(looking, return_exceptions=True)
    assert broker.open == 0
    await watch.close()


@pytest.mark.parametrize("found", ["ours", None])
async def test_our_topic_and_a_missing_one_let_records_pass(found: str | None) -> None:
    """Records fetched before a topic was deleted are kept: they were answered 200."""
    watch = LogWatch("ours", FakeBroker(found).connect)
    await watch.look()
    await watch.verify()


async def test_another_topic_lets_nothing_pass() -> None:
    """Neither at the next check nor at the next record, nor later."""
    watch = LogWatch("ours", FakeBroker("theirs").connect)
    for _ in range(2):
        with pytest.raises(LogChanged, match="recreated: its id is theirs, and was ours"):
            await watch.verify()
    with pytest.raises(LogChanged):
        await watch.look()


async def test_an_answer_serves_from_when_it_was_asked_for() -> None:
    """A series of chunks causes only occasional requests."""
    clock, broker = FakeClock(), FakeBroker("ours")
    watch = LogWatch("ours", broker.connect, clock)
    for _ in range(1_000):
        await watch.verify()
        clock.now_s += FRESH_S / 100
    assert broker.asked == pytest.approx(10, abs=1)
    assert broker.connected == 1


async def test_an_answer_that_takes_long_serves_whoever_asked() -> None:
    """Otherwise a broker that answers more slowly than answers expire would be asked for ever."""
    clock, broker = FakeClock(), FakeBroker("ours")
    broker.takes = lambda: setattr(clock, "now_s", clock.now_s + 10 * FRESH_S)
    watch = LogWatch("ours", broker.connect, clock)
    for number in range(1, 4):
        await watch.verify()
        assert broker.asked == number


async def test_while_nobody_answers_nothing_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Records are neither processed nor dropped: they wait for an answer."""
    monkeypatch.setattr("streams.worker.log_watch.RETRY_S", 0.0)
    broker = FakeBroker(*[Unavailable("away")] * 5, "theirs")
    watch = LogWatch("ours", broker.connect)
    with pytest.raises(LogChanged):
        await watch.verify()
    assert broker.asked == 6
    assert broker.open == 1


async def test_a_configured_log_id_is_used_without_asking() -> None:
    """No broker is asked: there is none here."""
    watch = watch_of(Settings(kafka_bootstrap="127.0.0.1:1", log_id="mine"), "mine")
    await watch.look()
    await watch.verify()
    await watch.close()


def test_a_commit_of_another_log_is_worth_nothing() -> None:
    """One without a log's name counts: earlier versions wrote none."""
    ours, theirs, plain, none = (TP("raw", number) for number in range(4))
    found = {
        TopicPartition(*ours): OffsetAndMetadata(7, "new"),
        TopicPartition(*theirs): OffsetAndMetadata(7, "old"),
        TopicPartition(*plain): OffsetAndMetadata(7, ""),
        TopicPartition("other", 0): OffsetAndMetadata(7, "old"),
    }
    notes = {"raw": "new"}
    offsets = [committed_in(notes, tp, found) for tp in (ours, theirs, plain, none)]
    assert offsets == [7, 0, 7, None]
    assert committed_in(notes, TP("other", 0), found) == 7
    assert committed_in({}, theirs, found) == 7
