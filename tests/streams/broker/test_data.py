"""The data directory: prepared, or refused before Kafka touches it."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import ConfigError
from streams.broker import data
from streams.broker.config import Node
from streams.broker.data import META, VERSION_FILE, meta_text, new_id, prepare, read_properties

GOOD = meta_text(1, "cluster-of-this-test00", "directory-of-this-test")


def node(folder: Path) -> Node:
    """A node whose files are in ``folder``."""
    return Node(folder / "kafka", 9001, 9002)


def test_new_directory_gets_all_that_kafka_needs(tmp_path: Path) -> None:
    """A second start leaves existing files unchanged."""
    prepare(node(tmp_path), "4.1.2")
    folder = tmp_path / "kafka"
    meta = read_properties((folder / "data" / META).read_text())
    assert (meta["version"], meta["node.id"]) == ("1", "1")
    assert (folder / VERSION_FILE).read_text() == "4.1.2\n"
    assert (folder / "server.properties").exists()
    prepare(node(tmp_path), "4.1.3")
    assert read_properties((folder / "data" / META).read_text()) == meta
    assert (folder / VERSION_FILE).read_text() == "4.1.3\n"


def test_libraries_of_a_killed_broker_are_cleared_away(tmp_path: Path) -> None:
    """Each start unpacks a megabyte, which only an orderly end removes."""
    prepare(node(tmp_path), "4.1.2")
    left = node(tmp_path).temporary / "libzstd-jni-123.so"
    left.write_bytes(b"x")
    prepare(node(tmp_path), "4.1.2")
    assert not left.exists()


@pytest.mark.parametrize(
    ("meta", "said"),
    [
        ("version=0\nbroker.id=0\ncluster.id=abc\n", "its format is 0, this Kafka reads format 1"),
        ("version=2\nnode.id=1\ncluster.id=abc\n", "its format is 2"),
        (GOOD.replace("node.id=1", "node.id=3"), "it belongs to node 3 of another cluster"),
        (GOOD.replace("cluster.id", "cluster_id"), "it has no cluster id"),
        ("", "its format is unknown"),
        ("\x00\x00\x00", "its format is unknown"),
    ],
)
def test_directory_of_another_kafka_is_refused_untouched(
    tmp_path: Path, meta: str, said: str
) -> None:
    """Another format, another cluster's node, or damage: a message, and no byte is changed."""
    folder = node(tmp_path).data
    folder.mkdir(parents=True)
    (folder / META).write_text(meta)
    with pytest.raises(ConfigError, match=r"MAILPULSE_DATA_DIR: .* can't be used: ") as caught:
        prepare(node(tmp_path), "4.1.2")
    assert said in str(caught.value)
    assert "--data-dir" in str(caught.value)
    assert (folder / META).read_text() == meta
    assert not (tmp_path / "kafka" / VERSION_FILE).exists()


def test_directory_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    """Kafka would use any folder."""
    folder = node(tmp_path).data
    folder.mkdir(parents=True)
    (folder / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(ConfigError, match=r"holds files, but no meta.properties"):
        prepare(node(tmp_path), "4.1.2")
    assert [path.name for path in folder.iterdir()] == ["holiday.jpg"]


def test_data_of_a_newer_kafka_is_refused_and_of_an_older_one_taken(tmp_path: Path) -> None:
    """By minor version: patches read each other's data."""
    prepare(node(tmp_path), "4.1.2")
    prepare(node(tmp_path), "4.1.0")
    prepare(node(tmp_path), "4.3.1")
    with pytest.raises(ConfigError, match=r"written by Kafka 4.3, this is 4.1.2"):
        prepare(node(tmp_path), "4.1.2")
    prepare(node(tmp_path), "4.3.0")


def test_start_that_was_broken_off_before_kafka_began_is_gone_on_with(tmp_path: Path) -> None:
    """After a power cut between any two steps of a first start, a second one completes it."""
    node(tmp_path).data.mkdir(parents=True)
    prepare(node(tmp_path), "4.1.2")
    (node(tmp_path).data / META).unlink()
    prepare(node(tmp_path), "4.1.2")
    assert (node(tmp_path).data / META).exists()


def test_folder_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    """A file in place of the folder represents whatever the system refuses."""
    (tmp_path / "kafka").write_text("x")
    with pytest.raises(ConfigError, match=r"MAILPULSE_DATA_DIR: Kafka can't write to .*kafka"):
        prepare(node(tmp_path), "4.1.2")


def test_ids_are_kafkas_and_no_option(tmp_path: Path) -> None:
    """22 characters; one that begins with a dash would be taken for an option."""
    ids = {new_id() for _ in range(2_000)}
    assert len(ids) == 2_000
    assert {len(one) for one in ids} == {22}
    assert not [one for one in ids if one.startswith("-")]


@given(st.dictionaries(st.from_regex(r"[a-z.]{1,20}", fullmatch=True),
                       st.from_regex(r"[A-Za-z0-9_-]{1,30}", fullmatch=True)))  # fmt: skip
def test_properties_are_read_as_written(values: dict[str, str]) -> None:
    """With comments as Kafka puts them."""
    text = "#\n#Thu Nov 26\n" + "".join(f"{name}={value}\n" for name, value in values.items())
    assert read_properties(text) == values


@given(st.text())
def test_no_meta_breaks_the_check(text: str) -> None:
    """Whatever the file contains, the result is a message or none."""
    data.problem_with(read_properties(text), 1)
