"""Dead letters of records that a destination did not take.

Invariants:
1. ``write`` returns only when Kafka acknowledged the letter (``acks=all``).
2. The letter has the record's bytes, the id that it was sent with and the destination's name, so
   that ``mailpulse dlq resend`` sends it there again, and nowhere else.
3. Whatever a record's headers are, its letter can be written: the id is bounded, and is text.
"""

from typing import Any

from schemas.cloudevents import DELIVER, by_leading_text
from schemas.codec import Codec
from schemas.dead_letter import of_record
from schemas.topics import DEAD_LETTERS
from streams.deliver.bodies import identity_of

_headers = by_leading_text("dead_letter", DELIVER)


class Letters:
    """Writes dead letters.

    Args:
        producer: started.
        codec: with the schema ids in use.
    """

    def __init__(self, producer: Any, codec: Codec) -> None:
        self._producer = producer
        self._codec = codec

    async def write(self, destination: str, record: Any, reason: str, detail: str) -> None:
        """Writes the letter of one record.

        Args:
            record: as consumed.
            detail: the number of tries, and the last answer's status and beginning.

        Raises:
            KafkaError: it may or may not be written; writing it again gives the same letter.
        """
        letter = of_record(
            "deliver", record.topic, record.partition, record.offset,
            key=record.key, value=record.value, timestamp_ms=record.timestamp,
            reason=reason, detail=f"{destination}: {detail}",
            destination=destination, ce_id=identity_of(record),
        )  # fmt: skip
        value = self._codec.encode("dead_letter", letter)
        await self._producer.send_and_wait(
            DEAD_LETTERS, value, letter["dead_letter_id"].encode(),
            headers=_headers(value, record.timestamp),
        )  # fmt: skip
