"""What a backup says about itself, and whether it may be restored somewhere. Pure.

Invariants:
1. A manifest names every object of its backup with its size and SHA-256, and has a checksum of its
   own. It is written last: what has none is no backup.
2. A newer form, or a newer version's fold or tables, is refused before anything else is read of it.
3. Every refusal has a reason for people, and says what to do.
"""

import hashlib
import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

FORM = 1
"""Of manifests; raised when an earlier version could misread one."""
_NAME = re.compile(r"\d{8}T\d{6}\.\d{3}Z")


class Unusable(Exception):
    """A backup that can't be restored, or not here; the text says why."""


class Stored(NamedTuple):
    """An object: its size in bytes, and its SHA-256 as hexadecimal digits."""

    bytes: int
    sha256: str


class Chunk(NamedTuple):
    """Records of one partition with offsets from ``begin`` to before ``end``."""

    begin: int
    end: int
    records: int
    stored: Stored


@dataclass(frozen=True, slots=True)
class Partition:
    """What one partition held.

    Attributes:
        begin: its first offset.
        end: the offset behind its last record.
        chunks: in order.
    """

    begin: int
    end: int
    chunks: tuple[Chunk, ...] = ()

    @property
    def records(self) -> int:
        """Number of records in its chunks."""
        return sum(chunk.records for chunk in self.chunks)


@dataclass(frozen=True, slots=True)
class TopicCopy:
    """A topic.

    Attributes:
        topic_id: the broker's id of its incarnation.
        config: settings that were set on it.
        partitions: by number.
    """

    topic_id: str
    config: Mapping[str, str]
    partitions: tuple[Partition, ...]


class Place(NamedTuple):
    """A committed offset, and what was committed with it."""

    offset: int
    metadata: str


Groups = Mapping[str, Mapping[str, Mapping[int, Place]]]
"""Consumer group -> topic -> partition -> its place."""
Files = Mapping[str, Stored]
"""Relative path -> object."""


@dataclass(frozen=True, slots=True)
class Tables:
    """ClickHouse.

    Attributes:
        database: its name.
        migration: number of the newest migration.
        rows: table -> rows, those that newer ones replace included, when the backup began.
        files: of ClickHouse's own backup; empty if a server keeps it itself.
        server: where a server keeps it, as it was told; empty if ``files`` are here.
    """

    database: str
    migration: int
    rows: Mapping[str, int]
    files: Files
    server: str = ""


@dataclass(frozen=True, slots=True)
class Manifest:
    """A backup.

    Attributes:
        name: of the backup; a later one sorts behind it.
        made_at: seconds since 1970, when it began: what happened later may be missing.
        version: of mailpulse.
        fold: version of the fold that made the state.
        log_id: incarnation of the raw topic.
        groups: committed offsets, read before everything else.
        tables: ClickHouse, copied after the offsets were read.
        topics: read last, each to its end.
        snapshots: of state: store -> name of the snapshot -> files, its manifest included.
    """

    name: str
    made_at: float
    version: str
    fold: int
    log_id: str
    groups: Groups
    tables: Tables
    topics: Mapping[str, TopicCopy]
    snapshots: Mapping[str, Mapping[str, Files]] = field(default_factory=dict)

    def objects(self) -> Iterator[tuple[str, Stored]]:
        """Every object, with what it holds in words; some may come more than once."""
        for path, stored in self.tables.files.items():
            yield f"ClickHouse's {path}", stored
        for topic, copy in self.topics.items():
            for number, partition in enumerate(copy.partitions):
                for chunk in partition.chunks:
                    yield f"{topic}[{number}] from offset {chunk.begin}", chunk.stored
        for store, snapshots in self.snapshots.items():
            for files in snapshots.values():
                for path, stored in files.items():
                    yield f"state {store}/{path}", stored

    @property
    def partitions(self) -> int:
        """Partitions of every topic."""
        return max((len(copy.partitions) for copy in self.topics.values()), default=0)

    @property
    def bytes(self) -> int:
        """Of all objects, each once."""
        return sum(one.bytes for one in {stored for _, stored in self.objects()})


def is_name(text: str) -> bool:
    """Whether a text is the name of a backup."""
    return _NAME.fullmatch(text) is not None


def pack(manifest: Manifest) -> bytes:
    """A manifest's text: JSON with a checksum over its canonical form."""
    content = asdict(manifest)
    document = {"form": FORM, "checksum": _checksum(content), "backup": content}
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def unpack(text: bytes) -> Manifest:
    """The manifest of ``pack``'s text.

    Raises:
        Unusable: it is damaged, or of a newer form.
    """
    try:
        document = json.loads(text)
        form, content = document["form"], document["backup"]
    except (ValueError, KeyError, TypeError):
        raise Unusable("its manifest is damaged") from None
    if not isinstance(form, int) or form > FORM:
        raise Unusable(f"its manifest has form {form}, this version reads {FORM}: upgrade first")
    if document.get("checksum") != _checksum(content):
        raise Unusable("its manifest is damaged")
    return _manifest(content)


def _checksum(content: Any) -> str:
    # JSON's own form, in which keys are texts and tuples are lists
    text = json.dumps(json.loads(json.dumps(content)), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _manifest(content: dict[str, Any]) -> Manifest:
    tables = content.pop("tables")
    groups = {
        group: {
            topic: {int(number): Place(*place) for number, place in places.items()}
            for topic, places in topics.items()
        }
        for group, topics in content.pop("groups").items()
    }
    topics = {
        name: TopicCopy(
            one["topic_id"], one["config"], tuple(map(_partition, one["partitions"]))
        )
        for name, one in content.pop("topics").items()
    }  # fmt: skip
    snapshots = {
        store: {name: _files(files) for name, files in some.items()}
        for store, some in content.pop("snapshots").items()
    }
    tables["files"] = _files(tables["files"])
    return Manifest(
        **content, groups=groups, tables=Tables(**tables), topics=topics, snapshots=snapshots
    )


def _files(content: Mapping[str, Any]) -> dict[str, Stored]:
    return {path: Stored(*stored) for path, stored in content.items()}


def _partition(content: Mapping[str, Any]) -> Partition:
    chunks = (
        Chunk(begin, end, records, Stored(*stored))
        for begin, end, records, stored in content["chunks"]
    )
    return Partition(content["begin"], content["end"], tuple(chunks))


def check_version(manifest: Manifest, fold: int, migration: int, known: Collection[str]) -> None:
    """Refuses a backup of a newer version.

    Args:
        known: topics of this version.
        fold: version of this one's fold.
        migration: number of this version's newest migration.

    Raises:
        Unusable: this version can't read it.
    """
    if manifest.fold > fold or manifest.tables.migration > migration:
        raise Unusable(
            f"mailpulse {manifest.version} made it (fold {manifest.fold}, migration"
            f" {manifest.tables.migration}); this version has fold {fold}, migration {migration}:"
            " install that version or a newer one"
        )
    if unknown := sorted(set(manifest.topics) - set(known)):
        raise Unusable(
            f"mailpulse {manifest.version} made it, and this version has no {', '.join(unknown)}"
        )


class Found(NamedTuple):
    """What Kafka has of a topic now: its id, and the first and the next offset of each
    partition."""

    topic_id: str
    bounds: tuple[tuple[int, int], ...]

    @property
    def is_empty(self) -> bool:
        """Whether nothing was ever written to it."""
        return all(end == 0 for _, end in self.bounds)


def kafka_is_kept(manifest: Manifest, raw: str, found: Mapping[str, Found]) -> bool:
    """Whether the Kafka that was found is the one that was backed up (else it is an empty one).

    Args:
        raw: name of the raw topic.
        found: topics that are there.

    Raises:
        Unusable: it is neither.
    """
    there = {name: one for name, one in found.items() if not one.is_empty}
    if not there:
        return False
    mine = manifest.topics[raw].topic_id
    if raw in found and found[raw].topic_id == mine:
        return True
    raise Unusable(
        f"this Kafka has records of another mailpulse: {', '.join(sorted(there))}; the backup is"
        f" of the raw topic {mine}"
        + (f", here it is {found[raw].topic_id}" if raw in found else "")
        + ". Restore into an empty one"
    )


def lost_records(
    manifest: Manifest, group: str, found: Mapping[str, Found]
) -> dict[tuple[str, int], tuple[int, int]]:
    """What Kafka no longer has of what a group has to read again after a restore.

    Returns:
        (topic, partition) -> first and next offset of what is gone.
    """
    out = {}
    for topic, places in manifest.groups.get(group, {}).items():
        one = found.get(topic)
        for number, place in places.items():
            begin, end = one.bounds[number] if one and number < len(one.bounds) else (0, 0)
            if not manifest.topics[topic].config.get("cleanup.policy", "").startswith("compact"):
                if begin > place.offset:
                    out[topic, number] = (place.offset, begin)
                elif end < place.offset:
                    out[topic, number] = (end, place.offset)
    return out
