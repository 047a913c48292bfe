"""A log in memory, and a worker's fold over it that can be split and crashed anywhere."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from inspect import isdatadescriptor
from typing import Any

from schemas.codec import Codec
from schemas.event import Event, message_key
from streams.enrich.derive import LookUps
from streams.enrich.effects import Completed, Effects, complete, wanted
from streams.enrich.minute_counts import Key
from streams.enrich.shard import Shard
from streams.enrich.step import step

CODEC = Codec()
LOOK_UPS = LookUps()
LOG = "log-1"


@dataclass(frozen=True)
class LogRecord:
    """A raw record."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None


def log_of(events: list[Event]) -> list[LogRecord]:
    """Events as a partition's records, in order."""
    return [
        LogRecord(
            offset,
            event["received_at"] // 1000,
            message_key(event),
            CODEC.encode("raw_event", event),
        )  # fmt: skip
        for offset, event in enumerate(events)
    ]


def completed(
    shard: Shard, effects: Effects, log: Mapping[int, LogRecord], look_ups: LookUps
) -> Completed:
    """The effects with the raw records that they need, as the shell reads them."""
    raws = {offset: log[offset].value or b"" for offset in wanted(effects)}
    return complete(
        effects, raws, codec=CODEC, look_ups=look_ups, log_id=shard.log_id,
        partition=shard.partition,
    )  # fmt: skip


@dataclass
class Disk:
    """A store that has what checkpoints wrote."""

    values: dict[bytes, bytes] = field(default_factory=dict)

    def get_many(self, keys: list[bytes]) -> list[bytes | None]:
        """As ``Store.get_many``."""
        return [self.values.get(key) for key in keys]

    def scan(self, begin: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """As ``Store.scan``."""
        yield from sorted((k, v) for k, v in self.values.items() if begin <= k < end)

    def write(self, changes: Any) -> None:
        """As ``Store.write``."""
        for key, value in changes:
            if value is None:
                self.values.pop(key, None)
            else:
                self.values[key] = value


class Fold:
    """A worker on one partition: folds, checkpoints, crashes, and records what it wrote."""

    def __init__(self, look_ups: LookUps = LOOK_UPS) -> None:
        self.disk = Disk()
        self.look_ups = look_ups
        self.enriched: list[tuple[str, dict[str, Any]]] = []
        self.suppressions: list[Any] = []
        self.engagement: list[Any] = []
        self.dead_letters: list[Any] = []
        self.minutes: dict[Key, tuple[int, list[int]]] = {}
        self.duplicates = 0
        self.log: dict[int, LogRecord] = {}
        self.restart()

    def restart(self) -> None:
        """Forgets what was not checkpointed, as a crash does; outputs already written stay."""
        self.shard = Shard(0, self.disk.get_many)
        self.shard.load_meta()
        self.shard.load_watched(self.disk.scan)
        self.shard.begin_log(LOG)

    def fold(self, records: list[LogRecord]) -> Completed:
        """One step, its outputs written."""
        self.log |= {record.offset: record for record in records}
        folded = step(self.shard, records, self.look_ups, CODEC)
        self.duplicates += folded.duplicates
        effects = completed(self.shard, folded, self.log, self.look_ups)
        for _, value, _ in effects.enriched:
            self.take_enriched(value)
        self.suppressions += effects.suppressions
        self.engagement += effects.engagement
        self.dead_letters += effects.dead_letters
        return effects

    def take_enriched(self, value: bytes) -> None:
        """Notes an enriched record."""
        record = CODEC.decode(value, "enriched_event")
        self.enriched.append((record["event"]["event_id"], record["enrichment"]))

    def publish_minutes(self) -> None:
        """Publishes partials; the highest offset counts."""
        for key, vector in self.shard.minutes.changed():
            if self.shard.applied >= self.minutes.get(key, (-1, []))[0]:
                self.minutes[key] = (self.shard.applied, list(vector))

    def checkpoint(self, swept_max: int = 1_000) -> None:
        """Publishes partials, then stores state, then removes what is no longer needed."""
        self.publish_minutes()
        for begin, end in self.shard.cleared():
            self.disk.write([(key, None) for key, _ in self.disk.scan(begin, end)])
        self.disk.write(self.shard.writes())
        self.shard.saved()
        for begin, end in self.shard.useless_ranges():
            self.disk.write([(key, None) for key, _ in self.disk.scan(begin, end)])
        self.disk.write(self.shard.expired(self.disk.scan, self.look_ups.message_ttl_s, swept_max))


def names_of(state: type) -> list[str]:
    """The attributes of a class with slots, which a compiled one has no ``__slots__`` of."""
    names = [name for name, one in vars(state).items()
             if isdatadescriptor(one) and not isinstance(one, property)]  # fmt: skip
    return [name for name in names if not name.startswith("__")]
