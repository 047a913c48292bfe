"""What the topics of suppressions hold of some people, and how it is erased there.

Invariants:
1. Each topic is read once, whatever the number of people; what is kept of it are their records.
2. A tombstone of an erasure says so in a header: it lifts nothing.
3. What survives names its person by the keyed hash alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from schemas import cloudevents
from schemas.cloudevents import cloud_event
from schemas.codec import AvroRecord, Codec
from schemas.erasure import ERASED_HEADER
from schemas.errors import DecodeError
from schemas.recipient_hash import keyed_hash
from schemas.scopes import parts_of, scoped_key
from schemas.settings import Settings
from schemas.topics import SCOPED_SUPPRESSIONS, SUPPRESSIONS
from streams.kafka.reader import reader

LISTS = (SUPPRESSIONS, SCOPED_SUPPRESSIONS)


@dataclass(slots=True)
class Held:
    """The newest records of one person.

    Attributes:
        records: topic and key -> record; ``None``: one that can't be read.
    """

    records: dict[tuple[str, bytes], AvroRecord | None] = field(default_factory=dict)

    def count(self, topic: str) -> int:
        """How many there are on a topic."""
        return sum(place == topic for place, _ in self.records)

    @property
    def scopes(self) -> set[tuple[str, str]]:
        """Source and scope of each that is limited to one."""
        keys = [key for topic, key in self.records if topic == SCOPED_SUPPRESSIONS]
        parts = [parts_of(key.decode("utf-8", "replace")) for key in keys]
        return {(source, scope) for _, source, scope in parts}


async def held(settings: Settings, codec: Codec, names: Mapping[str, int]) -> dict[int, Held]:
    """What the topics hold.

    Args:
        names: form of an address -> number of its person.

    Returns:
        By number, of those of whom there is anything.

    Raises:
        ConfigError: a topic is missing.
        Unavailable: Kafka is away.
    """
    out: dict[int, Held] = {}
    for topic in LISTS:
        async with reader(settings, topic) as whole:
            await whole.begin()
            async for record in whole.records():
                key = record.key or b""
                number = names.get(parts_of(key.decode("utf-8", "replace"))[0])
                if number is None:
                    continue
                records = out.setdefault(number, Held()).records
                if record.value is None:
                    records.pop((topic, key), None)
                else:
                    records[topic, key] = _decoded(codec, record.value)
    return {number: one for number, one in out.items() if one.records}


def _decoded(codec: Codec, value: bytes) -> AvroRecord | None:
    try:
        return codec.decode(value, "suppression")
    except DecodeError:
        return None


def before(held_by: Held, at_us: int) -> Held:
    """What follows from evidence of before a time; records that can't be read, too."""
    return Held(
        {
            place: record
            for place, record in held_by.records.items()
            if record is None or record["since"] < at_us
        }
    )


async def erase(producer: Any, held_by: Held, now_us: int) -> None:
    """Writes a tombstone for each record; returns when all are acknowledged."""
    waiting = []
    for topic, key in held_by.records:
        identity = f"{key.decode('utf-8', 'replace')}-erased-{now_us}"
        headers = [
            *cloud_event("suppression", cloudevents.CLI, identity, now_us), (ERASED_HEADER, b"1")
        ]  # fmt: skip
        waiting.append(
            await producer.send(topic, None, key, timestamp_ms=now_us // 1000, headers=headers)
        )
    for one in waiting:
        await one


async def keep_hashed(
    producer: Any, codec: Codec, held_by: Held, hash_key: bytes, now_us: int
) -> None:
    """Writes each suppression once more, for the keyed hash of its address."""
    waiting = []
    for (topic, key), record in held_by.records.items():
        identity, source, scope = parts_of(key.decode("utf-8", "replace"))
        if record is None:
            continue
        name = keyed_hash(identity, hash_key)
        value = codec.encode("suppression", hashed(record, name))
        text = scoped_key(name, source, scope) if scope else name
        headers = cloud_event("suppression", cloudevents.CLI, f"{text}-kept", record["since"])
        waiting.append(
            await producer.send(
                topic, value, text.encode(), timestamp_ms=now_us // 1000, headers=headers
            )
        )
    for one in waiting:
        await one


def hashed(record: AvroRecord, name: str) -> AvroRecord:
    """A suppression without anything but what it says, of the person of a keyed hash."""
    return {
        **record, "recipient": name, "evidence_event_id": "", "campaign_id": None,
        "mailbox_provider": "", "diagnostic": None,
    }  # fmt: skip
