"""Raw records for corrections: in memory as long as there is room, else read again."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from schemas.settings import Settings
from schemas.topics import RAW
from streams.enrich.effects import Effects, complete, wanted
from streams.enrich.step import step
from streams.transport.chunks import TP
from streams.worker.raw_records import GAP_RECORDS_MAX, RawRecords, stretches_around
from tests.builders import event
from tests.streams.folding import CODEC, LOG, LOOK_UPS, Fold, LogRecord, log_of

TP_0, TP_1 = TP(RAW, 0), TP(RAW, 1)


def records(count: int, size: int = 100) -> list[LogRecord]:
    """Records whose values tell their offsets."""
    return [LogRecord(n, n, None, f"{n}".encode().rjust(size, b"0")) for n in range(count)]


class Topic:
    """The raw topic: the same records in every partition, from ``begin`` on."""

    def __init__(self, log: list[LogRecord], begin: int = 0) -> None:
        self.log, self.begin, self.end = log, begin, len(log)
        self.read_offsets: list[int] = []

    @asynccontextmanager
    async def open(
        self, _settings: Settings, topic: str, _partition: int
    ) -> AsyncIterator["Topic"]:
        """As ``stretches_of``."""
        assert topic == RAW
        yield self

    async def read(
        self, position: int, until: int, records_max: int
    ) -> AsyncIterator[tuple[list[LogRecord], int]]:
        """As ``Stretches.read``."""
        assert position >= self.begin
        while position < min(until, self.end):
            end = min(until, position + records_max, self.end)
            self.read_offsets += range(position, end)
            yield self.log[position:end], end
            position = end


async def test_what_is_not_in_memory_any_more_is_read_again() -> None:
    """Room for ten records of a hundred bytes; what the topic lacks is left out."""
    log = records(50)
    topic = Topic(log, begin=5)
    kept = RawRecords(Settings(), topic.open, bytes_max=1_000)
    for begin in range(0, 50, 5):
        kept.note(TP_0, log[begin : begin + 5])
    assert await kept.get(TP_0, [44, 49]) == {44: log[44].value, 49: log[49].value}
    assert topic.read_offsets == []
    assert await kept.get(TP_0, [3, 20, 45]) == {20: log[20].value, 45: log[45].value}
    assert kept.read_again == 2
    assert await kept.get(TP_1, [45]) == {45: log[45].value}
    kept.forget(TP_0)
    assert await kept.get(TP_0, [49]) == {49: log[49].value}


async def test_memory_is_bounded_for_all_partitions_together() -> None:
    """Partitions take room from each other."""
    kept = RawRecords(Settings(), Topic([]).open, bytes_max=1_000)
    for number in range(100):
        kept.note(TP(RAW, number), records(3))
        assert kept._bytes <= 1_000
        assert sum(map(len, kept._by_partition.values())) <= 10
    for number in range(100):
        kept.forget(TP(RAW, number))
    assert kept._bytes == 0
    assert not kept._blocks


@given(st.sets(st.integers(0, 20_000), min_size=1))
def test_stretches_cover_what_is_wanted_without_long_gaps(offsets: set[int]) -> None:
    """Each offset is in one stretch, and no gap in a stretch is longer than allowed."""
    wanted_in_order = sorted(offsets)
    found = list(stretches_around(wanted_in_order))
    covered = [o for first, last in found for o in wanted_in_order if first <= o <= last]
    assert covered == wanted_in_order
    for first, last in found:
        inside = [o for o in wanted_in_order if first <= o <= last]
        assert (inside[0], inside[-1]) == (first, last)
        assert all(b - a <= GAP_RECORDS_MAX for a, b in pairwise(inside))


def test_a_correction_whose_record_is_gone_is_told_as_lost_and_counts_are_right() -> None:
    """The event keeps its earlier revision; neither a hole nor a wrong record takes its place."""
    opened, delivered = log_of(
        [
            event(event_id=f"{number:032x}", event_type=kind, message_id="m", user_agent="x",
                  campaign_id=campaign)
            for number, (kind, campaign) in enumerate((("opened", None), ("delivered", "spring")))
        ]
    )  # fmt: skip
    fold = Fold()
    fold.fold([opened])
    fold.checkpoint()
    effects: Effects = step(fold.shard, [delivered], LOOK_UPS, CODEC)
    assert wanted(effects) == {0}
    done = complete(effects, {}, codec=CODEC, look_ups=LOOK_UPS, log_id=LOG, partition=0)
    assert (done.lost, done.corrected, len(done.enriched), done.revised) == (1, 0, 1, {})
    assert done.engagement == []
    assert {key[0] for key, _ in fold.shard.minutes.changed()} >= {"spring"}
