"""Looks for a person in every store that a command can reach.

Invariants:
1. Nothing is changed, no offset moves. Each topic is read once, from its first record to the end
   that it had then, in bounded memory.
2. A record names a person by its key, by its recipient, or, as a dead letter does, by its content,
   in every coding in which addresses are found (``streams.erasure.mentions``).
3. Each person is judged by their own erasure: what is of after it is no fault, what is of before
   one that came later is.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
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
from streams.enrich import suppressions
from streams.erasure.certificate import iso
from streams.erasure.mentions import may_mention
from streams.erasure.person import Person
from streams.kafka.reader import reader

PLAIN = (
    topics.RAW, topics.ENRICHED, topics.ENGAGEMENT, topics.DEAD_LETTERS, topics.HISTORY,
)  # fmt: skip
_OF_ENRICHED = (topics.ENRICHED, topics.HISTORY)
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


@dataclass(frozen=True, slots=True)
class Promised:
    """What erasures promise to be gone.

    Attributes:
        names: form of an address -> time of its erasure in microseconds; of before that nothing
            may be left.
        state: key of the workers' state -> the same time.
    """

    names: Mapping[str, int]
    state: Mapping[bytes, int]

    @property
    def by_time(self) -> dict[int, list[str]]:
        """Time of an erasure -> names."""
        out: dict[int, list[str]] = {}
        for name, at_us in self.names.items():
            out.setdefault(at_us, []).append(name)
        return out


def promised(
    people: Iterable[Person], earlier: Mapping[str, Mapping[str, Any]]
) -> tuple[Promised, int]:
    """What was promised to people, and how many of them were promised nothing.

    A form that their erasure did not name was kept, as a suppression's keyed hash.

    Args:
        earlier: digest -> newest erasure of that person.
    """
    names: dict[str, int] = {}
    state: dict[bytes, int] = {}
    without = 0
    for person in people:
        pairs = zip(person.names, person.digests, strict=True)
        found = [(name, earlier[one]) for name, one in pairs if one in earlier]
        without += not found
        for name, record in found:
            names[name] = record["at"]
            state |= dict.fromkeys(map(bytes.fromhex, record["state_keys"]), record["at"])
    return Promised(names, state), without


async def in_topics(
    settings: Settings, codec: Codec, names: Mapping[str, int], say: Callable[[str], None]
) -> list[Seen]:
    """What the topics hold; of suppressions, those by evidence of before the erasure.

    Args:
        names: see ``Promised``.

    Raises:
        ConfigError: a topic is missing.
        Unavailable: Kafka is away.
    """
    out = []
    for topic in (*PLAIN, *LISTS):
        count, newest = await _in_topic(settings, codec, topic, names, say)
        note = f"newest of {iso(newest * 1_000)}, until retention" if newest else ""
        out.append(Seen(f"Kafka: {topic}", count, topic in LISTS, "" if topic in LISTS else note))
    return out


async def _in_topic(
    settings: Settings,
    codec: Codec,
    topic: str,
    names: Mapping[str, int],
    say: Callable[[str], None],
) -> tuple[int, int]:
    """How many records name the person; of a compacted topic newest ones alone. And the newest
    one's timestamp, ms."""
    count = newest = read = 0
    held: set[bytes] = set()
    async with reader(settings, topic) as whole:
        await whole.begin()
        async for record in whole.records():
            read += 1
            if read % TELL_EVERY == 0:
                say(f"{topic}: {read:,} records read")
            if topic in LISTS:
                _follow(held, record, names, codec)
            elif _names(record, topic, names, codec):
                count, newest = count + 1, max(newest, record.timestamp)
    return (len(held) if topic in LISTS else count), newest


def _follow(held: set[bytes], record: Any, names: Mapping[str, int], codec: Codec) -> None:
    key: bytes = record.key or b""
    at_us = names.get(parts_of(key.decode("utf-8", "replace"))[0])
    if at_us is None:
        return
    held.discard(key)
    if record.value is not None:
        try:
            if codec.decode(record.value, "suppression")["since"] >= at_us:
                return
        except DecodeError:
            pass
        held.add(key)


def _names(record: Any, topic: str, names: Mapping[str, int], codec: Codec) -> bool:
    """Whether a record of a plain topic names one of them (invariant 2)."""
    key: bytes = record.key or b""
    if key.decode("utf-8", "replace") in names:
        return True
    try:
        if topic == topics.DEAD_LETTERS:
            letter = codec.decode(record.value or b"", "dead_letter")
            return may_mention((letter["key"] or b"") + b"\n" + letter["content"], names)
        if not key.startswith(_OTHER_KEYS) or topic == topics.ENGAGEMENT:
            return False
        whole: Mapping[str, Any] = codec.decode(record.value or b"", topics.BY_NAME[topic].schema)
        return recipient_identity(whole["event"] if topic in _OF_ENRICHED else whole) in names
    except DecodeError:
        return False


def in_state(folder: Path, keys: Mapping[bytes, int]) -> Seen:
    """What workers of this machine keep of people's suppressions, of before their erasures.

    Args:
        folder: of a consumer group's state.
        keys: see ``Promised.state``.
    """
    stores = [
        path for path in sorted(folder.glob("enrich-*"))
        if path.is_dir() and path.name.removeprefix("enrich-").isdigit()
    ]  # fmt: skip
    if not stores:
        return Seen("workers' state", None, True, f"none at {folder}: it is on other machines")
    return _in_stores("workers' state", stores, keys)


def in_snapshots(folder: Path, keys: Mapping[bytes, int], place: str) -> list[Seen]:
    """What snapshots of that state keep.

    Args:
        folder: see ``in_state``.
        place: where snapshots are uploaded to; empty: nowhere.
    """
    manifests = sorted(folder.glob("snapshots/enrich-*/*.json"))
    paths = [path.with_name(path.name.removesuffix(".json")) for path in manifests]
    out = [_in_stores("workers' snapshots of state", paths, keys)] if paths else []
    if place:
        said = "not downloaded: each partition's next snapshot replaces those, within a minute"
        out.append(Seen(f"workers' snapshots in {place}", None, True, said))
    return out


def _in_stores(name: str, paths: Sequence[Path], keys: Mapping[bytes, int]) -> Seen:
    found = 0
    for path in paths:
        try:
            store = Rdict(str(path), Options(raw_mode=True), access_type=AccessType.read_only())
        except Exception as error:  # rocksdict raises plain ones: it is being written, or damaged
            return Seen(name, None, True, f"{path.name}: {error}")
        found += sum(is_kept(store.get(b"r" + key), at_us) for key, at_us in keys.items())
        store.close()
    return Seen(name, found, True)


def is_kept(value: bytes | None, at_us: int) -> bool:
    """Whether a stored recipient has evidence of before an erasure."""
    if not value:
        return False
    recipient = suppressions.unpack(value)
    before = suppressions.pack(recipient)
    suppressions.forget_before(recipient, at_us // 1_000_000)
    return suppressions.pack(recipient) != before


def in_spool(folder: Path | None, names: Collection[str]) -> Seen | None:
    """What waits on this machine's disk for Kafka; ``None``: there is no spool."""
    if folder is None:
        return None
    try:
        files = [path for path in folder.rglob("*") if path.is_file()]
        count = sum(may_mention(path.read_bytes(), names) for path in files)
    except OSError as error:
        return Seen("ingress's spool", None, False, str(error.strerror))
    return Seen("ingress's spool", count, False, "files; until Kafka is back")
