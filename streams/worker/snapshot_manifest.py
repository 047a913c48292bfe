"""What a snapshot of a state store says about itself, and whether a worker may use it. Pure.

Invariants:
1. A manifest names every file of the snapshot with its size and SHA-256, and has a checksum of its
   own: a snapshot that differs from it by one byte is not used.
2. A snapshot is used only for the state that it would have become: of the same log, by the same
   rules (epoch) and the same fold. Every refusal has a reason for people.
3. A newer form is refused before anything else of it is read.
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

FORM = 1
"""Of manifests; raised when an earlier version could misread one."""


class Unusable(Exception):
    """A snapshot that is not used; the text says why."""


class File(NamedTuple):
    """Size in bytes, and SHA-256 as hexadecimal digits."""

    bytes: int
    sha256: str


class Lineage(NamedTuple):
    """What state was folded from, and how.

    Attributes:
        log_id: incarnation of the raw topic.
        epoch: of the rules; 0: none was announced, or they don't matter to the stage.
        fold: version of the fold, or of the stage's stored form.
    """

    log_id: str
    epoch: int
    fold: int


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a store had come.

    Attributes:
        lineage: see there.
        reached: offset of the partition behind the last record that it holds.
        resumes: offset in the changelog from which the fold goes on.
        erased_through: offset of the topic of erasures up to which it had forgotten people; 0 of a
            stage that knows nobody.
    """

    lineage: Lineage
    reached: int
    resumes: int
    erased_through: int = 0


@dataclass(frozen=True, slots=True)
class Manifest:
    """A snapshot.

    Attributes:
        store: name of the store that it is of, such as ``enrich-3``.
        name: of the snapshot; a later one of the same store sorts behind it.
        made_at: seconds since 1970, by the worker's clock.
        store_id, number: of the store's newest write, as in its note (``streams.worker.notes``).
    """

    store: str
    name: str
    made_at: float
    store_id: bytes
    number: int
    standing: Standing
    files: Mapping[str, File]

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(file.bytes for file in self.files.values())


def pack(manifest: Manifest) -> bytes:
    """A manifest's text: JSON with a checksum over its canonical form."""
    content = asdict(manifest)
    content["store_id"] = manifest.store_id.hex()
    content["standing"]["lineage"] = list(manifest.standing.lineage)
    content["files"] = {name: list(file) for name, file in manifest.files.items()}
    document = {"form": FORM, "checksum": _checksum(content), "snapshot": content}
    return json.dumps(document, indent=1, sort_keys=True).encode() + b"\n"


def unpack(text: bytes) -> Manifest:
    """The manifest of ``pack``'s text.

    Raises:
        Unusable: it is damaged, or of a newer form.
    """
    try:
        document = json.loads(text)
        form, content = document["form"], document["snapshot"]
    except (ValueError, KeyError, TypeError):
        raise Unusable("its manifest is damaged") from None
    if not isinstance(form, int) or form > FORM:
        raise Unusable(f"its manifest has form {form}, this version reads {FORM}")
    if document.get("checksum") != _checksum(content):
        raise Unusable("its manifest is damaged")
    return _manifest(content)


def _manifest(content: dict[str, Any]) -> Manifest:
    standing = content.pop("standing")
    files = {name: File(*file) for name, file in content.pop("files").items()}
    store_id = bytes.fromhex(content.pop("store_id"))
    lineage = Lineage(*standing.pop("lineage"))
    return Manifest(
        **content, store_id=store_id, standing=Standing(lineage, **standing), files=files
    )


def _checksum(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def check(manifest: Manifest, wanted: Collection[Lineage], changelog_begin: int) -> None:
    """Refuses a snapshot that can't become the state that is wanted.

    Args:
        wanted: lineages that the partition goes on by.
        changelog_begin: first offset that the changelog still holds.

    Raises:
        Unusable: it is of another log, epoch or fold, or too old.
    """
    standing = manifest.standing
    mine = standing.lineage
    if mine.log_id not in {one.log_id for one in wanted}:
        raise Unusable(f"it is of log {mine.log_id}, not of the one that is read now")
    if mine.epoch not in {one.epoch for one in wanted}:
        epochs = ", ".join(sorted({str(one.epoch) for one in wanted}))
        raise Unusable(f"it was made by epoch {mine.epoch} of the rules, now {epochs} holds")
    if mine not in wanted:
        folds = ", ".join(sorted({str(one.fold) for one in wanted}))
        raise Unusable(f"version {mine.fold} of the fold made it, this one is {folds}")
    if standing.resumes < changelog_begin:
        raise Unusable(
            f"what follows it begins at offset {standing.resumes} of the changelog, which holds"
            f" records from {changelog_begin} on"
        )
