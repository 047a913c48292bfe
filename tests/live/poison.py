"""Records for the raw topic that only a broken or hostile producer would write."""

from aiokafka import AIOKafkaProducer

from schemas import topics
from schemas.codec import Codec
from tests.builders import event

RECORD_BYTES_MAX = 2_000_000


def poisoned(number: int) -> list[bytes]:
    """Values for the raw topic that are not events, one of each kind."""
    good = Codec().encode("raw_event", {**event(), "event_id": f"{number:032x}"})
    marked = Codec().encode("raw_event", {**event(recipient="marker@x.example")})
    return [
        good[: len(good) // 2] + b"%d" % number,  # broken Avro
        b"\x00\x7f\xff\xff\xff" + good[5:],  # an unknown schema id
        marked.replace(b"marker", b"m\xffr\xfek"),  # wrong UTF-8
        b"%d" % number + b"\xff" * 1_048_400,  # as large as brokers take, and nothing at all
    ]


async def put_poison(bootstrap: str, rounds: int) -> None:
    """Writes them at once, in rounds with one of each kind.

    Raises:
        KafkaError: not acknowledged.
    """
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, max_request_size=RECORD_BYTES_MAX)
    await producer.start()
    try:
        for number in range(rounds):
            for place, value in enumerate(poisoned(number)):
                await producer.send_and_wait(topics.RAW, value, partition=place)
    finally:
        await producer.stop()
