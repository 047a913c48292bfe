"""Where backups are kept: nothing counts before all of it is there, and damage is named."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import Unavailable
from streams.backup.manifest import Chunk, Manifest, Partition, Stored, TopicCopy, Unusable
from streams.backup.place import BackupPlace
from streams.objects.objects import Check, Folder, Missing, objects_at
from tests.streams.s3_replica import s3_replica
from tests.streams.test_backup_manifest import made


class Memory:
    """A place in memory, which may be cut off, or change what it is given."""

    name = "memory"

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.writes_left = 1_000_000
        self.flips = False

    def put(self, key: str, source: Path) -> None:
        self.write(key, source.read_bytes())

    def write(self, key: str, data: bytes) -> None:
        if not self.writes_left:
            raise Unavailable("cut off")
        self.writes_left -= 1
        self.files[key] = data[:-1] + b"?" if self.flips else data

    def read(self, key: str) -> bytes:
        if key not in self.files:
            raise Missing(key)
        return self.files[key]

    def fetch(self, key: str, target: Path, check: Check) -> None:
        target.write_bytes(self.read(key))

    def keys(self, under: str) -> list[str]:
        return sorted(key for key in self.files if key.startswith(f"{under}/"))

    def delete(self, key: str) -> None:
        self.files.pop(key, None)


def named(number: int) -> str:
    """Name of a backup; a higher number is a later one."""
    return f"20261128T18000{number}.000Z"


def backed_up(memory: Memory, number: int, contents: list[bytes]) -> Manifest:
    """A backup whose only topic has these chunks."""
    place = BackupPlace(memory)
    chunks = [Chunk(at, at + 1, 1, place.put_bytes(content)) for at, content in enumerate(contents)]
    copy = TopicCopy("f" * 32, {}, (Partition(0, len(chunks), tuple(chunks)),))
    manifest = made(name=named(number), topics={"email.events.raw.v1": copy}, snapshots={})
    manifest = replace(manifest, tables=replace(manifest.tables, files={}))
    place.write(manifest)
    return manifest


def quiet(_done: int, _total: int) -> None:
    """Tells nobody."""


def test_what_two_backups_share_is_stored_once() -> None:
    """The second one writes its new object and its manifest."""
    memory = Memory()
    backed_up(memory, 1, [b"a", b"b"])
    before = set(memory.files)
    backed_up(memory, 2, [b"a", b"b", b"c"])
    assert len(set(memory.files) - before) == 2


@given(st.integers(0, 5))
def test_cut_off_anywhere_there_is_no_backup_and_the_next_run_makes_one(writes: int) -> None:
    """Three objects and a manifest."""
    memory = Memory()
    memory.writes_left = writes
    contents = [b"a", b"b", b"c"]
    if writes < 4:
        with pytest.raises(Unavailable):
            backed_up(memory, 1, contents)
        assert BackupPlace(memory).listed() == []
        memory.writes_left = 4 - writes  # what was stored is not stored again
        backed_up(memory, 1, contents)
    else:
        backed_up(memory, 1, contents)
    place = BackupPlace(memory)
    assert place.listed() == [named(1)]
    place.verify(place.manifest(named(1)), quiet)


def test_what_was_not_stored_as_written_is_noticed_at_once() -> None:
    """By reading it back."""
    memory = Memory()
    memory.flips = True
    with pytest.raises(Unavailable, match="damaged"):
        BackupPlace(memory).put_bytes(b"content")


@given(st.sampled_from([b"a", b"bb", b"ccc"]), st.booleans())
def test_a_damaged_object_is_named_by_what_it_holds(content: bytes, gone: bool) -> None:
    """Whether it is gone or changed; the others are not."""
    memory = Memory()
    contents = [b"a", b"bb", b"ccc"]
    manifest = backed_up(memory, 1, contents)
    key = next(key for key, data in memory.files.items() if data == content)
    if gone:
        del memory.files[key]
    else:
        memory.files[key] = b"?" * len(content)
    with pytest.raises(Unusable) as error:
        BackupPlace(memory).verify(manifest, quiet)
    lines = str(error.value).splitlines()
    assert len(lines) == 2
    at = contents.index(content)
    assert f"raw.v1[0] from offset {at}: " in lines[1]
    assert ("gone" if gone else "damaged") in lines[1]


def test_the_newest_that_can_be_read_is_what_the_next_backup_builds_on() -> None:
    """A damaged manifest stops no backup, and is shown as damaged."""
    memory = Memory()
    backed_up(memory, 1, [b"a"])
    backed_up(memory, 2, [b"b"])
    memory.files[f"backups/{named(2)}.json"] = b"{}"
    place = BackupPlace(memory)
    newest = place.newest()
    assert newest is not None
    assert newest.name == named(1)
    assert place.listed() == [named(2), named(1)]
    with pytest.raises(Unusable, match=named(2)):
        place.manifest(named(2))


@given(st.integers(1, 4))
def test_deleting_old_backups_leaves_the_others_whole(keep: int) -> None:
    """And nothing that only the old ones had."""
    memory = Memory()
    for number in range(4):
        backed_up(memory, number, [b"always", b"since %d" % (number // 2), b"only %d" % number])
    place = BackupPlace(memory)
    place.prune(keep)
    names = place.listed()
    assert names == [named(number) for number in (3, 2, 1, 0)][:keep]
    needed = set()
    for name in names:
        manifest = place.manifest(name)
        place.verify(manifest, quiet)
        needed |= {stored for _, stored in manifest.objects()}
    assert len(memory.keys("objects")) == len(needed)


def test_folders_come_back(tmp_path: Path) -> None:
    """Empty files and folders in folders too; equal files are one object."""
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "a/b").mkdir(parents=True)
    equal = {f"a/{number}": b"1" for number in range(40)}  # which several threads store at once
    contents = {"a/b/one": b"1", "empty": b"", **equal}
    for name, content in contents.items():
        (source / name).write_bytes(content)
    place = BackupPlace(Folder(tmp_path / "place"))
    files = place.put_folder(source, quiet)
    assert files["a/b/one"] == files["a/7"]
    assert len([path for path in (tmp_path / "place").rglob("*") if path.is_file()]) == 2
    target.mkdir()
    place.fetch_folder(files, target, quiet)
    found = {path.relative_to(target).as_posix(): path.read_bytes()
             for path in target.rglob("*") if path.is_file()}  # fmt: skip
    assert found == contents


@pytest.mark.parametrize("name", ["../outside", "/etc/x", "a/../../x"])
def test_no_path_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    """Whoever can write to the place must not write elsewhere on this machine."""
    place = BackupPlace(Folder(tmp_path / "place"))
    stored = place.put_bytes(b"x")
    target = tmp_path / "in" / "target"
    target.mkdir(parents=True)
    with pytest.raises(Unusable, match="path"):
        place.fetch_folder({name: stored}, target, quiet)
    assert not list((tmp_path / "in").glob("*x*"))


def test_an_object_of_another_size_is_damaged(tmp_path: Path) -> None:
    """Its size is part of what it is."""
    place = BackupPlace(Folder(tmp_path))
    stored = place.put_bytes(b"content")
    with pytest.raises(Unusable, match="damaged"):
        place.read(Stored(3, stored.sha256))


def test_an_object_store_is_a_place_like_any(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is stored there comes back, and what is damaged there is named."""
    with s3_replica() as store:
        for name, value in {
            "AWS_ENDPOINT_URL": store.url, "AWS_ALLOW_HTTP": "true", "AWS_REGION": "eu-west-1",
            "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret",
        }.items():  # fmt: skip
            monkeypatch.setenv(name, value)
        place = BackupPlace(objects_at("s3://bucket/backups", "TO"))
        manifest = replace(made(name=named(1)), topics={}, snapshots={})
        manifest = replace(manifest, tables=replace(
            manifest.tables, files={"a": place.put_bytes(b"content"), "b": place.put_bytes(b"")}
        ))  # fmt: skip
        place.write(manifest)
        again = BackupPlace(objects_at("s3://bucket/backups", "TO"))
        assert again.listed() == [named(1)]
        assert again.manifest(named(1)) == manifest
        again.verify(manifest, quiet)
        key = next(key for key, data in store.objects.items() if data == b"content")
        store.objects[key] = b"contenT"
        with pytest.raises(Unusable, match=r"ClickHouse's a: object .* is damaged"):
            again.verify(manifest, quiet)


def test_a_manifest_under_another_name_is_refused() -> None:
    """Its name becomes part of statements and paths."""
    memory = Memory()
    backed_up(memory, 1, [b"a"])
    memory.files[f"backups/{named(2)}.json"] = memory.files[f"backups/{named(1)}.json"]
    with pytest.raises(Unusable, match="another"):
        BackupPlace(memory).manifest(named(2))


def test_nothing_is_deleted_while_a_backup_that_is_kept_can_t_be_read() -> None:
    """What it needs is not known."""
    memory = Memory()
    for number in range(3):
        backed_up(memory, number, [b"%d" % number])
    memory.files[f"backups/{named(2)}.json"] = b"{}"
    before = dict(memory.files)
    with pytest.raises(Unusable):
        BackupPlace(memory).prune(1)
    assert memory.files == before


def test_a_damaged_object_that_was_found_is_stored_again_by_the_next_backup() -> None:
    """Else every later backup would rely on it."""
    memory = Memory()
    manifest = backed_up(memory, 1, [b"a", b"b"])
    key = next(key for key, data in memory.files.items() if data == b"a")
    memory.files[key] = b"?"
    with pytest.raises(Unusable):
        BackupPlace(memory).verify(manifest, quiet, delete=True)
    later = backed_up(memory, 2, [b"a", b"b"])
    BackupPlace(memory).verify(later, quiet)
