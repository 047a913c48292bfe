"""Reads on in a topic whose records are all in partition 0, such as one of orders or rules.

Invariants:
1. A topic that does not exist is treated as empty; it is looked for again each time.
2. aiokafka has no metadata of a topic that it was not asked about, and asking for its offsets may
   create it. So the list of all topics is read first.
3. Between readings nothing is fetched. A broker answers the requests of a connection in order, and
   a fetch that finds nothing late: the next question about the end would wait half a second for it,
   and a worker asks once for each partition that it opens.
"""

from collections.abc import AsyncIterator
from typing import Any

from aiokafka import TopicPartition

POLL_MS = 500


class OnePartition:
    """How far partition 0 of a topic was read.

    Attributes:
        is_there: whether the topic existed at the last reading.
        end: the offset that the last whole reading got to.
    """

    def __init__(self, topic: str) -> None:
        self.is_there = False
        self.end = 0
        self._place = TopicPartition(topic, 0)

    async def news(self, consumer: Any) -> AsyncIterator[Any]:
        """Records that were written since the last reading, up to the end that there is now.

        Args:
            consumer: started, without a group; the same each time, and used by nobody else.

        Raises:
            KafkaError: as the consumer does.
        """
        place = self._place
        if not self.is_there:
            if place.topic not in await consumer.topics():
                return
            consumer.assign([place])
            consumer.pause(place)
            begin = await consumer.beginning_offsets([place])
            consumer.seek(place, begin[place])
            self.is_there = True
        end = (await consumer.end_offsets([place]))[place]
        if await consumer.position(place) < end:
            consumer.resume(place)
            while await consumer.position(place) < end:
                polled = await consumer.getmany(place, timeout_ms=POLL_MS)
                for record in polled.get(place, ()):
                    yield record
            consumer.pause(place)
        self.end = max(self.end, end)
