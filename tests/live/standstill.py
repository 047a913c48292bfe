"""How long partitions stand still: committed offsets, looked at ten times a second.

A partition stands still while records wait on it and its committed offset does not move. Time
belongs to the step of the test in which the standstill ended.
"""

import threading
import time
from collections import defaultdict
from contextlib import suppress

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

LOOK_S = 0.1


class Standstill:
    """Watches the partitions of one topic, as one consumer group commits them.

    Args:
        group: the consumer group.
        partitions: how many the topic has.

    Attributes:
        longest: step -> partition -> longest standstill, seconds.
        looks: how often offsets were seen.
    """

    def __init__(self, bootstrap: str, group: str, topic: str, partitions: int) -> None:
        self._bootstrap = bootstrap
        self._group = group
        self._tps = [TopicPartition(topic, number) for number in range(partitions)]
        self._moved: dict[int, tuple[int, float]] = {}
        self._step = ""
        self.longest: defaultdict[str, dict[int, float]] = defaultdict(dict)
        self.looks = 0

    def step(self, name: str) -> None:
        """What is being done from now on."""
        self._step = name

    def watch(self, over: threading.Event) -> None:
        """Looks until ``over``; for ``tests.live.threads.in_threads``."""
        kafka = AdminClient({"bootstrap.servers": self._bootstrap})
        while not over.wait(LOOK_S):
            with suppress(KafkaException):
                self._look(kafka)

    def _look(self, kafka: AdminClient) -> None:
        asked = ConsumerGroupTopicPartitions(self._group, self._tps)
        committing = kafka.list_consumer_group_offsets([asked])[self._group]
        ending = kafka.list_offsets({tp: OffsetSpec.latest() for tp in self._tps})
        found = committing.result(5).topic_partitions
        committed = {tp.partition: max(0, tp.offset) for tp in found}
        ends = {tp.partition: future.result(5).offset for tp, future in ending.items()}
        self._note(time.monotonic(), committed, ends)

    def _note(self, now: float, committed: dict[int, int], ends: dict[int, int]) -> None:
        self.looks += 1
        for number, offset in committed.items():
            before, since = self._moved.get(number, (offset, now))
            if offset >= ends[number] or offset != before or number not in self._moved:
                self._moved[number] = (offset, now)
            longest = self.longest[self._step]
            longest[number] = max(longest.get(number, 0.0), now - since)

    def worst(self, step: str) -> float:
        """The longest of all partitions in a step, seconds."""
        return max(self.longest[step].values(), default=0.0)
