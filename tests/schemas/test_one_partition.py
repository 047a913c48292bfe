"""Reading on in a topic of one partition."""

from types import SimpleNamespace
from typing import Any

from aiokafka import TopicPartition

from schemas.one_partition import OnePartition

PLACE = TopicPartition("rules", 0)


class Consumer:
    """A log; records come while the partition is not paused."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.at, self.is_paused = 0, False
        self.asked_unpaused = 0

    async def topics(self) -> set[str]:
        return {PLACE.topic}

    def assign(self, _places: list[TopicPartition]) -> None:
        self.is_paused = False

    def pause(self, _place: TopicPartition) -> None:
        self.is_paused = True

    def resume(self, _place: TopicPartition) -> None:
        self.is_paused = False

    def seek(self, _place: TopicPartition, offset: int) -> None:
        self.at = offset

    async def position(self, _place: TopicPartition) -> int:
        return self.at

    async def beginning_offsets(self, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        self.asked_unpaused += not self.is_paused
        return dict.fromkeys(places, 0)

    async def end_offsets(self, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        self.asked_unpaused += not self.is_paused
        return dict.fromkeys(places, len(self.log))

    async def getmany(self, place: TopicPartition, timeout_ms: int) -> dict[Any, Any]:
        if self.is_paused:
            return {}
        self.at += 1
        return {place: [SimpleNamespace(value=self.log[self.at - 1])]}


async def test_each_record_comes_once_and_no_fetch_holds_up_the_next_question() -> None:
    """A fetch in flight, which finds nothing, is answered first: half a second for each question,
    and a worker asks once for each partition that it opens."""
    consumer, topic = Consumer(), OnePartition(PLACE.topic)
    seen: list[list[str]] = []
    for written in (["a", "b"], [], ["c"], []):
        consumer.log += written
        seen.append([record.value async for record in topic.news(consumer)])
        assert consumer.is_paused
    assert seen == [["a", "b"], [], ["c"], []]
    assert topic.end == 3
    assert consumer.asked_unpaused == 0
