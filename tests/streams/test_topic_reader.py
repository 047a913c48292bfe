"""Where reading of a topic begins, whatever is asked for."""

from typing import Any

from aiokafka import TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from streams.kafka.reader import Reader

TOPIC = "email.events.raw.v1"
TIMES_MS = (1_000, 2_000, 2_000, 5_000)
"""Of the records at offsets 3 to 6: the older ones are deleted."""
FIRST, END = 3, 7
PLACE = TopicPartition(TOPIC, 0)


class OnePartition:
    """A consumer of one partition; like aiokafka's it takes no time before 1970."""

    def __init__(self) -> None:
        self.at = -1

    async def topics(self) -> set[str]:
        return {TOPIC}

    def partitions_for_topic(self, _topic: str) -> set[int]:
        return {0}

    async def beginning_offsets(self, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(places, FIRST)

    async def end_offsets(self, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(places, END)

    async def offsets_for_times(self, asked: dict[TopicPartition, int]) -> dict[Any, Any]:
        if min(asked.values()) < 0:
            raise ValueError("The target time cannot be negative.")
        later = [n for n, at in enumerate(TIMES_MS) if at >= asked[PLACE]]
        found = type("At", (), {"offset": FIRST + later[0]}) if later else None
        return dict.fromkeys(asked, found)

    def assign(self, _places: list[TopicPartition]) -> None:
        pass

    def seek(self, _place: TopicPartition, offset: int) -> None:
        self.at = offset


@given(since_s=st.floats(-1e12, 1e9) | st.just(float("-inf")) | st.floats(0, 6))
async def test_a_time_is_the_first_record_from_it_on(since_s: float) -> None:
    """Any time: one before all records, also before 1970, is the oldest record there is."""
    consumer = OnePartition()
    await Reader(consumer, TOPIC).begin(since_s=since_s)
    later = [n for n, at in enumerate(TIMES_MS) if at >= int(max(since_s, 0) * 1000)]
    assert consumer.at == (FIRST + later[0] if later else END)


@given(offset=st.integers(-5, 1 << 70))
async def test_an_offset_is_itself_or_the_nearest_there_is(offset: int) -> None:
    """Deleted ones begin with the oldest record, later ones at the end."""
    consumer = OnePartition()
    await Reader(consumer, TOPIC).begin(offsets={0: offset})
    assert consumer.at == min(max(offset, FIRST), END)
