"""Partitions that Kafka set aside: which are put back, and that nothing is ever overwritten."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.broker.stray import problem_in, put_back, set_aside

ID = "0123456789abcdef0123456789abcdef"


def partition(data: Path, name: str, records: bytes) -> Path:
    """A directory as Kafka has it."""
    folder = data / name
    folder.mkdir(parents=True)
    (folder / "00000000000000000000.log").write_bytes(records)
    (folder / "00000000000000000000.index").write_bytes(b"\0" * 10)
    return folder


def content(data: Path) -> list[bytes]:
    """Every segment below ``data``."""
    return sorted(path.read_bytes() for path in data.rglob("*.log"))


def test_partition_gets_its_name_back(tmp_path: Path) -> None:
    """With its records; before that the operator is told where they are."""
    partition(tmp_path, f"email.events.raw.v1-3.{ID}-stray", b"records")
    said = problem_in(tmp_path)
    assert said is not None
    assert "email.events.raw.v1-3 in its metadata" in said
    assert put_back(tmp_path) == ["email.events.raw.v1-3"]
    assert (tmp_path / "email.events.raw.v1-3" / f"{0:020}.log").read_bytes() == b"records"
    assert problem_in(tmp_path) is None
    assert put_back(tmp_path) == []


def test_what_is_empty_or_not_a_partition_is_left_alone(tmp_path: Path) -> None:
    """A killed creation of a topic leaves an empty one; others' names are not touched."""
    partition(tmp_path, f"raw-0.{ID}-stray", b"")
    partition(tmp_path, "mine-stray", b"x")
    partition(tmp_path, f"raw-0.{ID}-delete", b"x")
    assert problem_in(tmp_path) is None
    assert put_back(tmp_path) == []
    assert problem_in(tmp_path / "missing") is None


@given(
    there=st.lists(st.booleans(), min_size=1, max_size=5),
    copies=st.integers(min_value=1, max_value=3),
)
def test_nothing_is_overwritten(
    there: list[bool], copies: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever Kafka made meanwhile, and however often it set one aside, every segment stays."""
    data = tmp_path_factory.mktemp("data")
    for number, taken in enumerate(there):
        if taken:
            partition(data, f"raw-{number}", b"new %d" % number)
        for copy in range(copies):
            partition(data, f"raw-{number}.{copy:032x}-stray", b"old %d %d" % (number, copy))
    before = content(data)
    put_back(data)
    assert content(data) == before
    assert len(set_aside(data)) == sum(copies if taken else copies - 1 for taken in there)
