"""Stores of state: they contain what they report, or the damage is found."""

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rocksdict import Cache

import streams.worker.store
from schemas.errors import ConfigError, Unavailable
from streams.worker.damage import DamagedState, disk_of, error_of
from streams.worker.setting_aside import DAMAGED_KEPT_MAX
from streams.worker.store import OWN_END, StateDirectory, Store
from tests.streams.damaging import every_damage, files_of, killed

Content = dict[bytes, bytes]
NOBODY = 65_534
"""A user who owns nothing."""
WRITES = 70
ROOM = 3_000
"""Bytes of values in one write: some dozens of them fill a memtable of these tests."""


@pytest.fixture
def small_stores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stores that flush often, so that few writes make all kinds of files."""
    monkeypatch.setattr(streams.worker.store, "MEMTABLE_BYTES", 64 << 10)
    monkeypatch.setattr(streams.worker.store, "LINKS_MAX", 50)


def content_of(store: Store) -> Content:
    """Everything that was stored, by scan and by key."""
    scanned = dict(store.scan(OWN_END, b"\xff"))
    keys = sorted(scanned)
    assert store.get_many(keys) == [scanned[key] for key in keys]
    return scanned


class Written:
    """A store that was written to in one go, and its content after each write.

    Attributes:
        killed: its folder as a killed process leaves it; ``before``: as it was half-way.
        closed: its folder after an orderly stop.
        history: number of a write -> content after it.
    """

    def __init__(self, folder: Path) -> None:
        self.killed, self.before = folder / "killed" / "s", folder / "before" / "s"
        self.closed = folder / "closed" / "s"
        self.history: dict[int, Content] = {0: {}}
        dice, content = random.Random(6), Content()
        store = Store(self.closed, Cache(1 << 20))
        for number in range(1, WRITES + 1):
            changes: dict[bytes, bytes | None] = {
                b"m%03d" % dice.randrange(300): dice.randbytes(ROOM // 10) for _ in range(10)
            }
            for key in dice.sample(sorted(content), min(3, len(content))):
                changes[key] = None
            store.write(changes.items(), offset=number)
            content = {**content, **{key: value for key, value in changes.items() if value}}
            for gone_key in (key for key, value in changes.items() if value is None):
                content.pop(gone_key, None)
            self.history[number] = content
            if number == WRITES // 2:
                killed([store], store.path.parent, self.before.parent)
        killed([store], store.path.parent, self.killed.parent)
        store.close()


def copy(store: Path, into: Path) -> None:
    """Copies a store and its note."""
    shutil.rmtree(into.parent, ignore_errors=True)
    shutil.copytree(store.parent, into.parent)


@pytest.mark.parametrize("end", ["killed", "closed"])
def test_no_damage_to_a_file_goes_unnoticed(tmp_path: Path, small_stores: None, end: str) -> None:
    """Whatever happens to one file of a store: it is found damaged, or it contains exactly what
    it did after the newest write that was noted."""
    written = Written(tmp_path)
    source: Path = getattr(written, end)
    trial = tmp_path / "trial" / "s"
    found: list[str] = []
    for path in files_of(source):
        for name, damage in every_damage(written.before):
            copy(source, trial)
            damage(trial.parent / path.relative_to(source.parent))
            store = None
            try:
                store = Store(trial, Cache(1 << 20))
                content = content_of(store)
            except DamagedState as error:
                found.append(error.reason)
                continue
            finally:
                if store is not None:
                    store.close(flush=False)
            assert store.number == WRITES or not store.is_noted, f"{path.name} {name}"
            assert content == written.history[store.number], f"{path.name} {name}"
    reasons = "\n".join(found)
    assert "Corruption" in reasons
    assert "No such file" in reasons
    assert len(found) > 30


def test_a_manifest_without_its_end_is_noticed_though_the_newest_offset_is_there(
    tmp_path: Path, small_stores: None
) -> None:
    """RocksDB opens such a store silently: its log restores the newest writes, and earlier ones
    are lost. One campaign went from 543 events to 626."""
    written = Written(tmp_path)
    trial, silent = tmp_path / "trial" / "s", 0
    for share in range(5, 100, 5):
        copy(written.killed, trial)
        (manifest,) = trial.glob("MANIFEST-*")
        os.truncate(manifest, manifest.stat().st_size * share // 100)
        try:
            store = Store(trial, Cache(1 << 20))
        except DamagedState as error:
            silent += "of its last" in error.reason
            continue
        assert content_of(store) == written.history[WRITES], "nothing was lost by this cut"
        store.close()
    assert silent


def test_a_store_is_whole_after_a_kill_and_after_a_stop(tmp_path: Path, small_stores: None) -> None:
    """Without damage nothing is reported, and writing goes on."""
    written = Written(tmp_path)
    for path in (written.killed, written.closed):
        for more in range(3):
            store = Store(path, Cache(1 << 20))
            assert (store.number, store.is_noted) == (WRITES + more, True)
            assert content_of(store) == written.history[WRITES] | ({b"m": b"more"} if more else {})
            store.write([(b"m", b"more")], offset=WRITES)
            store.close()


def test_a_store_without_note_or_links_is_accepted(tmp_path: Path) -> None:
    """An earlier version wrote it."""
    store = Store(tmp_path / "s", Cache(1 << 20))
    store._db[b"m1"] = b"old"
    store.close()
    assert not (tmp_path / "s.note").exists()
    store = Store(tmp_path / "s", Cache(1 << 20))
    assert (store.number, store.is_noted) == (0, False)
    store.write([(b"m2", b"new")])
    store.close()
    store = Store(tmp_path / "s", Cache(1 << 20))
    assert (store.number, store.is_noted) == (1, True)
    assert content_of(store) == {b"m1": b"old", b"m2": b"new"}
    store.close()


def test_what_was_cleared_stays_counted(tmp_path: Path) -> None:
    """Numbers continue after everything else was deleted."""
    store = Store(tmp_path / "s", Cache(1 << 20))
    store.write([(b"m1", b"x"), (b"m2", b"y")])
    store.write([(b"m2", b"z")], cleared=[(b"m", b"n")])
    assert content_of(store) == {b"m2": b"z"}
    store.clear()
    store.close()
    store = Store(tmp_path / "s", Cache(1 << 20))
    assert (store.number, content_of(store)) == (3, {})
    store.close()


def test_links_are_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many writes there were."""
    monkeypatch.setattr(streams.worker.store, "LINKS_MAX", 10)
    store = Store(tmp_path / "s", Cache(1 << 20))
    for number in range(200):
        store.write([(b"m", b"%d" % number)])
        assert sum(1 for _ in store.scan(b"\0link", b"\0linl")) <= 12
    store.close()


# --- what is not damage ---------------------------------------------------------------------------

PASSING = (
    "IO error: No space left on device: While appending to file: {}/000008.log: No space left on"
    " device",
    "IO error: While lock file: {}/LOCK: Resource temporarily unavailable",
    "IO error: lock hold by current process, acquire time 1795715697 acquiring thread 140: {}/LOCK:"
    " No locks available",
    "IO error: While open a file for random read: {}/000009.sst: Too many open files",
    "Corruption: Corruption: IO error: While open a file for random read: {}/000009.sst: Too many"
    " open files  The file {}/MANIFEST-000005 may be corrupted.",
    "IO error: While opening a file for sequentially reading: {}/CURRENT: Permission denied",
    "IO error: While open a file for appending: {}/000012.log: Read-only file system",
    "Busy: ",
)
LASTING = (
    "Corruption: block checksum mismatch: stored = 1, computed = 2, type = 4  in {}/000009.sst"
    " offset 614859 size 4068",
    "Corruption: CURRENT file does not end with newline",
    "IO error: No such file or directory: While opening a file for sequentially reading:"
    " {}/MANIFEST-000005: No such file or directory",
    "IO error: While pread offset 0 len 4096: {}/000009.sst: Input/output error",
    "IO error: While reading file sequentially: {}/CURRENT: Is a directory",
)


@pytest.mark.parametrize("text", PASSING)
def test_what_another_try_may_mend_is_not_damage(text: str) -> None:
    """RocksDB's messages, as they occurred; the path in them does not matter."""
    path = Path("/state/Permission denied/enrich-0")
    assert isinstance(error_of(path, Exception(text.format(path, path))), Unavailable)


@pytest.mark.parametrize("text", LASTING)
def test_what_no_other_try_will_mend_is_damage(text: str) -> None:
    """The path does not matter, whatever it is called."""
    path = Path("/state/No space left on device/enrich-0")
    assert isinstance(error_of(path, Exception(text.format(path))), DamagedState)


AS_NOBODY = f"""
import os, pickle, sys
from pathlib import Path
from streams.worker.store import StateDirectory
if os.getuid() == 0:
    os.setgroups([])
    os.setgid({NOBODY})
    os.setuid({NOBODY})
with StateDirectory(Path(sys.argv[1])) as directory:
    directory.store("s").write([(b"m", b"x")])
"""


@pytest.mark.parametrize("mode", [0o500, 0o000])
def test_a_store_that_may_not_be_read_is_left_alone(tmp_path: Path, mode: int) -> None:
    """The operator has to correct the permissions: nothing is set aside, nothing is rebuilt."""
    with StateDirectory(tmp_path) as directory:
        directory.store("s").write([(b"m", b"x")])
    for path in (tmp_path, *tmp_path.rglob("*")):
        path.chmod(0o777)
    for parent in tmp_path.parents:
        if parent.stat().st_uid == os.getuid():
            parent.chmod(parent.stat().st_mode | 0o055)
    (tmp_path / "s").chmod(mode)
    before = sorted(path.name for path in tmp_path.iterdir())
    answer = subprocess.run(
        [sys.executable, "-P", "-c", AS_NOBODY, str(tmp_path)],
        capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    (tmp_path / "s").chmod(0o755)
    assert "Unavailable" in answer.stderr, answer.stderr
    assert "Permission denied" in answer.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_directory_that_cannot_be_used_is_a_wrong_setting(tmp_path: Path) -> None:
    """The message names the setting, without a traceback."""
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="MAILPULSE_STATE_DIR"):
        StateDirectory(tmp_path / "file" / "below")
    with StateDirectory(tmp_path), pytest.raises(ConfigError, match="another worker"):
        StateDirectory(tmp_path)


# --- setting aside --------------------------------------------------------------------------------


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[StateDirectory]:
    """A directory with one store in it."""
    with StateDirectory(tmp_path / "state") as made:
        made.store("s").write([(b"m", os.urandom(100_000))], offset=7)
        yield made


def lies(directory: StateDirectory, name: str, how: Callable[[Path], None]) -> None:
    """Does something to a closed store."""
    directory.release(name)
    how(directory.path / name)


def a_file(path: Path) -> None:
    """Replaces the store by a file."""
    shutil.rmtree(path)
    path.write_bytes(b"no store")


def gone(path: Path) -> None:
    """Deletes the store, but not its note."""
    shutil.rmtree(path)


def no_manifest(path: Path) -> None:
    """Deletes the manifest, but not the data files."""
    for manifest in path.glob("MANIFEST-*"):
        manifest.unlink()


def note_is_a_folder(path: Path) -> None:
    """Replaces the note by a folder and damages the store."""
    no_manifest(path)
    note = path.with_name("s.note")
    note.unlink()
    (note / "below").mkdir(parents=True)


@pytest.mark.parametrize("how", [a_file, gone, no_manifest, note_is_a_folder])
def test_a_damaged_store_makes_room_for_an_empty_one(
    directory: StateDirectory, how: Callable[[Path], None]
) -> None:
    """It is kept aside, and the new one starts empty, with a new note."""
    lies(directory, "s", how)
    with pytest.raises(DamagedState):
        directory.store("s")
    kept = directory.set_aside("s", "20261126T120000Z")
    assert kept.path.exists() == (how is not gone)
    assert directory.names() == []
    store = directory.store("s")
    assert (store.number, content_of(store)) == (0, {})
    store.write([(b"m", b"y")])
    directory.release("s")
    assert content_of(directory.store("s")) == {b"m": b"y"}


def test_few_damaged_stores_are_kept(directory: StateDirectory) -> None:
    """The newest of all stores; and their size is reported."""
    for number in range(DAMAGED_KEPT_MAX + 3):
        directory.store(f"s-{number % 2}").write([(b"m", os.urandom(100_000))])
        kept = directory.set_aside(f"s-{number % 2}", f"20261126T12000{number}Z")
        assert kept.bytes > 100_000
    left = sorted(path.name for path in directory.path.iterdir() if ".damaged-" in path.name)
    assert len(left) == DAMAGED_KEPT_MAX
    assert kept.path.name in left
    assert directory.names() == ["s"]


def test_a_damaged_store_does_not_take_the_room_of_its_successor(
    directory: StateDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If less of the disk is free than its size, it is deleted, and so are those set aside
    before."""
    directory.set_aside("s", "20261126T120000Z")
    directory.store("s").write([(b"m", os.urandom(100_000))])
    usage = shutil.disk_usage(directory.path)._replace(free=50_000)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    kept = directory.set_aside("s", "20261126T120001Z")
    assert (kept.is_kept, kept.bytes > 100_000) == (False, True)
    assert [path.name for path in directory.path.iterdir()] == ["LOCK"]


def test_a_store_and_another_ones_note_do_not_go_together(directory: StateDirectory) -> None:
    """A store from before a rebuild, put back by hand, was rejected for a reason."""
    directory.store("s").write([(b"m", b"x")])
    before = directory.set_aside("s", "20261126T120000Z")
    directory.store("s").write([(b"m", b"y")])
    directory.release("s")
    shutil.rmtree(directory.path / "s")
    before.path.rename(directory.path / "s")
    with pytest.raises(DamagedState, match="another store"):
        directory.store("s")


def test_the_disk_is_named() -> None:
    """By its mount point, at least."""
    assert disk_of(Path("/proc/self/status")).endswith("mounted at /proc")
