"""Snapshots of stores: whole or refused, bounded, on a disk and in a store beside it."""

import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from rocksdict import Cache

import streams.worker.store
from schemas.errors import Unavailable
from streams.objects.objects import Folder
from streams.worker.notes import Note
from streams.worker.snapshot_manifest import (
    FORM,
    File,
    Lineage,
    Manifest,
    Standing,
    Unusable,
    check,
    pack,
    unpack,
)
from streams.worker.snapshot_store import SnapshotStore
from streams.worker.snapshots import SnapshotFolder, name_at
from streams.worker.store import OWN_END, Store
from tests.streams.damaging import every_damage

LINEAGE = Lineage("log-1", 2, 8)
STANDING = Standing(LINEAGE, reached=70, resumes=40, erased_through=3)


@pytest.fixture(autouse=True)
def small_stores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stores that flush often, so that few writes make several table files."""
    monkeypatch.setattr(streams.worker.store, "MEMTABLE_BYTES", 64 << 10)


class Written:
    """A store in a state directory that is written to.

    Attributes:
        directory: the state directory.
        content: what the store holds.
    """

    def __init__(self, directory: Path, name: str = "enrich-0") -> None:
        self.directory, self.dice = directory, random.Random(5)
        self.folder = SnapshotFolder(directory)
        self.store = Store(directory / name, Cache(1 << 20))
        self.content: dict[bytes, bytes] = {}
        self.made = 0

    def write(self, times: int = 30) -> None:
        """Adds values, some kilobytes each time."""
        for _ in range(times):
            new = {self.dice.randbytes(4): self.dice.randbytes(300) for _ in range(10)}
            changes = {b"m" + key: value for key, value in new.items()}
            self.store.write(changes.items(), offset=self.store.number)
            self.content |= changes

    def snapshot(self, standing: Standing = STANDING, seconds: float | None = None) -> Manifest:
        """A snapshot of now, named by a clock that ticks once for each."""
        self.made += 1
        name = name_at(1_000.0 + self.made if seconds is None else seconds)
        return self.folder.seal(self.folder.link(self.store, name, standing))


@pytest.fixture
def written(tmp_path: Path) -> Iterator[Written]:
    one = Written(tmp_path / "state")
    one.write()
    yield one
    one.store.close(flush=False)


def content_of(path: Path) -> dict[bytes, bytes]:
    """What a store holds; it has to fit its note."""
    store = Store(path, Cache(1 << 20))
    try:
        assert store.is_noted
        return dict(store.scan(OWN_END, b"\xff"))
    finally:
        store.close()


def moved(written: Written, into: Path) -> SnapshotFolder:
    """The snapshots alone on another disk."""
    shutil.copytree(written.directory / "snapshots", into / "snapshots")
    return SnapshotFolder(into)


# --- the manifest ---------------------------------------------------------------------------------


def a_manifest() -> Manifest:
    files = {"000001.sst": File(10, "ab" * 32), "CURRENT": File(1, "cd" * 32)}
    return Manifest("enrich-0", name_at(7.5), 7.5, b"12345678", 9, STANDING, files)


def test_a_manifest_is_read_as_it_was_written() -> None:
    """Every field comes back."""
    assert unpack(pack(a_manifest())) == a_manifest()


def test_no_change_of_a_manifest_goes_unnoticed() -> None:
    """Whatever byte differs: it is refused, or says the same."""
    text = pack(a_manifest())
    refused = 0
    for at in range(len(text)):
        for value in (text[at] ^ 1, 0x20, 0x30):
            try:
                assert unpack(text[:at] + bytes([value]) + text[at + 1 :]) == a_manifest()
            except Unusable:
                refused += 1
    assert refused > len(text)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_manifest_that_was_cut_is_refused(share: float) -> None:
    """Wherever it was cut."""
    text = pack(a_manifest()).rstrip()
    with pytest.raises(Unusable):
        unpack(text[: int(len(text) * share)])


def test_a_newer_form_is_refused_before_anything_else_is_read() -> None:
    """Its content may have any shape."""
    newer = b'{"form": %d, "snapshot": "of a form that nobody knows yet"}' % (FORM + 1)
    with pytest.raises(Unusable, match=f"form {FORM + 1}"):
        unpack(newer)


def of(standing: Standing) -> Manifest:
    return replace(a_manifest(), standing=standing)


@pytest.mark.parametrize(
    ("lineage", "said"),
    [
        (LINEAGE._replace(log_id="log-0"), "of log log-0"),
        (LINEAGE._replace(epoch=1), "epoch 1 of the rules, now 2"),
        (LINEAGE._replace(fold=7), "version 7 of the fold"),
    ],
)
def test_what_is_of_something_else_is_refused(lineage: Lineage, said: str) -> None:
    """Another log, epoch or fold, each with its reason."""
    with pytest.raises(Unusable, match=said):
        check(of(replace(STANDING, lineage=lineage)), {LINEAGE}, 0)


def test_a_snapshot_is_refused_when_the_changelog_lacks_what_follows() -> None:
    """The first offset that is gone decides."""
    check(of(STANDING), {LINEAGE}, STANDING.resumes)
    with pytest.raises(Unusable, match="holds records from 41 on"):
        check(of(STANDING), {LINEAGE}, STANDING.resumes + 1)


# --- on a disk ------------------------------------------------------------------------------------


def test_a_snapshot_is_what_the_store_was(written: Written, tmp_path: Path) -> None:
    """Later writes, flushes and compactions change nothing in it, and nothing is copied for it."""
    before, manifest = dict(written.content), written.snapshot()
    written.write()
    written.store._db.compact_range(None, None)
    there = moved(written, tmp_path / "other")
    there.install(manifest)
    path = tmp_path / "other" / "enrich-0"
    assert content_of(path) == before
    held = Note(path.with_name("enrich-0.note")).read()
    assert held is not None
    assert (held.store, held.offset) == (written.store.id, STANDING.reached - 1)


def test_a_snapshot_costs_what_the_store_no_longer_has(written: Written) -> None:
    """Table files are shared; those that a compaction replaced belong to the snapshot alone."""
    manifest = written.snapshot()
    tables = sum(file.bytes for name, file in manifest.files.items() if name.endswith(".sst"))
    shared = written.folder.extent()
    assert shared.bytes < tables / 4
    written.write()
    written.store._db.flush(True)  # a second file with keys among the first one's
    written.store._db.compact_range(None, None)
    assert written.folder.extent().bytes > tables / 2


def refusal(use: Callable[[], object]) -> str | None:
    """Why a snapshot was refused; ``None``: it was not."""
    try:
        use()
    except (Unusable, Unavailable) as error:
        return str(error)
    return None


def test_no_damage_to_a_snapshot_becomes_state(written: Written, tmp_path: Path) -> None:
    """Whatever happens to any of its files: it is refused, or it is the store that it was."""
    manifest = written.snapshot()
    good = moved(written, tmp_path / "good")
    refused = 0
    for file in manifest.files:
        for name, damage in every_damage(tmp_path / "nothing"):
            trial = moved(written, tmp_path / "trial")
            damage(trial.path_of(manifest, file))
            reason = refusal(lambda trial=trial: trial.install(manifest))  # type: ignore[misc]
            if reason is None:
                assert content_of(tmp_path / "trial" / "enrich-0") == written.content
            else:
                refused += 1
                assert file in reason
                left = {path.name for path in (tmp_path / "trial").iterdir()}
                assert left == {"snapshots"}, f"{file} {name}"
            shutil.rmtree(tmp_path / "trial")
    assert refused > 5 * len(manifest.files)
    good.install(manifest)
    assert content_of(tmp_path / "good" / "enrich-0") == written.content


def test_damage_to_a_shared_file_is_found_though_it_is_a_link(written: Written) -> None:
    """The store and its snapshot have one file: a flipped byte is in both."""
    manifest = written.snapshot()
    (table, *_) = sorted(written.store.path.glob("*.sst"))
    with table.open("r+b") as file:
        file.seek(100)
        file.write(b"\x00\x01\x02")
    shutil.move(written.store.path, written.directory / "aside")
    with pytest.raises(Unusable, match="its checksum differs"):
        written.folder.install(manifest)


class Killed(Exception):
    """Stands for the end of the process."""


def killed_at(step: int) -> Callable[[], None]:
    left = step

    def check() -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise Killed

    return check


def test_a_restore_that_is_cut_off_leaves_no_store(written: Written, tmp_path: Path) -> None:
    """At any step: afterwards there is none, and the same snapshot can be put in place."""
    manifest = written.snapshot()
    there = moved(written, tmp_path / "other")
    for step in range(len(manifest.files)):
        with pytest.raises(Killed):
            there.install(manifest, killed_at(step))
        assert not (tmp_path / "other" / "enrich-0").exists()
    (tmp_path / "other" / "enrich-0.incoming").mkdir()  # as kill -9 leaves it
    there.clean()
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["snapshots"]
    there.install(manifest)
    assert content_of(tmp_path / "other" / "enrich-0") == written.content


def test_a_snapshot_without_its_manifest_does_not_count(written: Written) -> None:
    """As after kill -9 between the two: it is no snapshot, and is gone after the next start."""
    whole = written.snapshot()
    written.folder.link(written.store, name_at(5_000.0), STANDING)
    assert [one.name for one in written.folder.of("enrich-0")] == [whole.name]
    written.folder.clean()
    folders = [path for path in (written.directory / "snapshots" / "enrich-0").iterdir()]
    assert {path.name for path in folders} == {whole.name, f"{whole.name}.json"}


def test_snapshots_are_bounded_in_number_and_bytes(written: Written) -> None:
    """The oldest go first."""
    names = []
    for _ in range(4):
        written.write()
        names.append(written.snapshot().name)
    assert written.folder.prune(3, 1 << 40).count == 3
    assert written.folder.listed("enrich-0") == names[:0:-1]
    written.store._db.compact_range(None, None)
    most = written.folder.extent().bytes - 1
    left = written.folder.prune(3, most)
    assert left.bytes <= most
    assert written.folder.listed("enrich-0") == names[: -left.count - 1 : -1]
    assert left.count < 3


def test_an_erasure_and_a_clock_that_was_ahead_end_earlier_snapshots(written: Written) -> None:
    """What remembers more than the newest, or is named later, is not kept beside it."""
    old = written.snapshot()
    written.snapshot(seconds=9_999.0)
    newest = written.snapshot(replace(STANDING, erased_through=4))
    written.folder.keep(newest, 5)
    assert written.folder.listed("enrich-0") == [newest.name]
    assert old.name != newest.name


# --- in a store beside it -------------------------------------------------------------------------


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_snapshot_goes_to_the_store_and_back(written: Written, tmp_path: Path) -> None:
    """Files that two snapshots share are stored once; pruning leaves what is needed."""
    remote = SnapshotStore(Folder(tmp_path / "store"), "group")
    first = written.snapshot()
    assert remote.upload(first, written.folder) == first.bytes
    written.write(3)
    second = written.snapshot()
    new = remote.upload(second, written.folder)
    assert 0 < new < second.bytes / 2
    assert remote.listed("enrich-0") == [second.name, first.name]
    remote.prune("enrich-0", second, 1)
    assert remote.listed("enrich-0") == [second.name]
    stored = {Path(name).name for name in files_in(tmp_path / "store") if "/files/" in name}
    assert stored == {file.sha256 for file in second.files.values()}
    there = SnapshotFolder(tmp_path / "other")
    (tmp_path / "other").mkdir()
    remote.install(remote.manifest("enrich-0", second.name), there, lambda: None)
    assert content_of(tmp_path / "other" / "enrich-0") == written.content


def test_an_upload_that_was_cut_off_is_no_snapshot(written: Written, tmp_path: Path) -> None:
    """At any file; the next upload goes on from there."""

    class Dying(Folder):
        left = 0  # files until the network is gone

        def put(self, key: str, source: Path) -> None:
            if self.left == 0:
                raise Unavailable("the network is gone")
            self.left -= 1
            super().put(key, source)

    place = Dying(tmp_path / "store")
    remote = SnapshotStore(place, "group")
    manifest = written.snapshot()
    failures = 0
    while refusal(lambda: remote.upload(manifest, written.folder)) is not None:
        failures += 1
        assert remote.listed("enrich-0") == []
        place.left = 1
    assert failures > 1
    assert remote.listed("enrich-0") == [manifest.name]


def test_no_damage_in_the_store_becomes_state(written: Written, tmp_path: Path) -> None:
    """Whatever happens to a manifest or a file there: it is refused, and nothing is left."""
    remote = SnapshotStore(Folder(tmp_path / "store"), "group")
    manifest = written.snapshot()
    remote.upload(manifest, written.folder)
    good = tmp_path / "good"
    (tmp_path / "store").rename(good)
    there = SnapshotFolder(tmp_path / "other")
    (tmp_path / "other").mkdir()
    for name in sorted(files_in(good)):
        for _, damage in every_damage(tmp_path / "nothing"):
            shutil.copytree(good, tmp_path / "store")
            if (tmp_path / "store" / name).stat().st_size:
                damage(tmp_path / "store" / name)

                def use() -> None:
                    found = remote.manifest("enrich-0", manifest.name)
                    remote.install(found, there, lambda: None)

                assert refusal(use) is not None
                assert list((tmp_path / "other").iterdir()) == []
            shutil.rmtree(tmp_path / "store")
