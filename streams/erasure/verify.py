"""Looks for a person in every store that a command can reach.

Invariants:
1. Nothing is changed, no offset moves. Each topic is read once, from its first record to the end
   that it had then, in bounded memory.
2. A record names a person by its key, by its recipient, or, as a dead letter does, by its content.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rocksdict import AccessType, Options, Rdict

from schemas import topics
from schemas.codec import Codec
from schemas.errors import DecodeError
from schemas.event import recipient_identity
from schemas.scopes import parts_of
from schemas.settings import Settings
from streams.erasure.certificate import iso
from streams.erasure.person import Person
from streams.kafka.reader import reader

PLAIN = (topics.RAW, topics.ENRICHED, topics.ENGAGEMENT, topics.DEAD_LETTERS)
LISTS = (topics.SUPPRESSIONS, topics.SCOPED_SUPPRESSIONS)
TELL_EVERY = 500_000
_OTHER_KEYS = (b"m:", b"e:")


@dataclass(frozen=True, slots=True)
class Seen:
    """What one store has of the person.

    Attributes:
        count: records, rows or keys; ``None``: it could not be looked into, ``note`` says why.
        promised: whether an erasure promises that it has none.
        note: for people.
    """

    store: str
    count: int | None
    promised: bool
    note: str = ""


async def in_topics(
    settings: Settings, codec: Codec, person: Person, at_us: int, say: Callable[[str], None]
) -> list[Seen]:
    """What the topics hold; of suppressions, those by evidence of before a time.

    Raises:
        ConfigError: a topic is missing.
        Unavailable: Kafka is away.
    """
    out = []
    for topic in (*PLAIN, *LISTS):
        count, newest = await _in_topic(settings, codec, topic, person, at_us, say)
        note = f"newest of {iso(newest * 1_000)}, until retention" if newest else ""
        out.append(Seen(f"Kafka: {topic}", count, topic in LISTS, "" if topic in LISTS else note))
    return out


async def _in_topic(
    settings: Settings,
    codec: Codec,
    topic: str,
    person: Person,
    at_us: int,
    say: Callable[[str], None],
) -> tuple[int, int]:
    """How many records name the person; of a compacted topic newest ones alone. And the newest
    one's timestamp, ms."""
    names, newest, read = set(person.names), 0, 0
    count = 0
    held: set[bytes] = set()
    async with reader(settings, topic) as whole:
        await whole.begin()
        async for record in whole.records():
            read += 1
            if read % TELL_EVERY == 0:
                say(f"{topic}: {read:,} records read")
            if topic in LISTS:
                _follow(held, record, names, codec, at_us)
            elif _names(record, topic, names, codec):
                count, newest = count + 1, max(newest, record.timestamp)
    return (len(held) if topic in LISTS else count), newest


def _follow(held: set[bytes], record: Any, names: set[str], codec: Codec, at_us: int) -> None:
    key: bytes = record.key or b""
    if parts_of(key.decode("utf-8", "replace"))[0] not in names:
        return
    held.discard(key)
    if record.value is not None:
        try:
            if codec.decode(record.value, "suppression")["since"] >= at_us:
                return
        except DecodeError:
            pass
        held.add(key)


def _names(record: Any, topic: str, names: set[str], codec: Codec) -> bool:
    """Whether a record of a plain topic names one of them (invariant 2)."""
    key: bytes = record.key or b""
    if key.decode("utf-8", "replace") in names:
        return True
    try:
        if topic == topics.DEAD_LETTERS:
            letter = codec.decode(record.value or b"", "dead_letter")
            text = (letter["content"] + (letter["key"] or b"")).lower()
            return any(name.encode("utf-8", "replace") in text for name in names)
        if not key.startswith(_OTHER_KEYS) or topic == topics.ENGAGEMENT:
            return False
        whole: Mapping[str, Any] = codec.decode(record.value or b"", topics.BY_NAME[topic].schema)
        return recipient_identity(whole["event"] if topic == topics.ENRICHED else whole) in names
    except DecodeError:
        return False


def in_state(folder: Path, person: Person) -> Seen:
    """What workers of this machine keep of the person's suppressions.

    Args:
        folder: of a consumer group's state.
    """
    keys = [b"r" + bytes.fromhex(one) for one in person.digests]
    found = stores = 0
    for path in sorted(folder.glob("enrich-*")):
        if not path.is_dir() or not path.name.removeprefix("enrich-").isdigit():
            continue
        try:
            store = Rdict(str(path), Options(raw_mode=True), access_type=AccessType.read_only())
        except Exception as error:  # rocksdict raises plain ones: it is being written, or damaged
            return Seen("workers' state", None, True, f"{path.name}: {error}")
        stores += 1
        found += sum(store.get(key) is not None for key in keys)
        store.close()
    if not stores:
        return Seen("workers' state", None, True, f"none at {folder}: it is on other machines")
    return Seen("workers' state", found, True)


def in_spool(folder: Path | None, person: Person) -> Seen | None:
    """What waits on this machine's disk for Kafka; ``None``: there is no spool."""
    if folder is None:
        return None
    names = [name.encode("utf-8", "replace") for name in person.names]
    try:
        files = [path for path in folder.rglob("*") if path.is_file()]
        count = sum(any(name in path.read_bytes().lower() for name in names) for path in files)
    except OSError as error:
        return Seen("ingress's spool", None, False, str(error.strerror))
    return Seen("ingress's spool", count, False, "files; until Kafka is back")
