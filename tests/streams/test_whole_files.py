"""Files that a command writes: complete, or as they were."""

from pathlib import Path

import pytest

from schemas.errors import BadInput, Unavailable
from streams.cli.whole_files import whole_file


def test_a_block_that_fails_leaves_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    """Half of a person's data must not stay behind either."""
    path = tmp_path / "out"
    path.write_bytes(b"earlier")

    def broken_off() -> None:
        with whole_file(path) as file:
            file.write(b"half")
            raise Unavailable("away")

    with pytest.raises(Unavailable):
        broken_off()
    assert path.read_bytes() == b"earlier"
    assert list(tmp_path.iterdir()) == [path]


def test_a_complete_file_replaces_the_earlier_one(tmp_path: Path) -> None:
    """Until then the earlier one can be read."""
    path = tmp_path / "out"
    path.write_bytes(b"earlier")
    with whole_file(path) as file:
        file.write(b"newer")
        assert path.read_bytes() == b"earlier"
    assert path.read_bytes() == b"newer"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["folder", "no/such/file", "file/below"])
def test_a_path_that_cannot_be_written_is_named(tmp_path: Path, name: str) -> None:
    """A folder, a folder that is not there, a file in place of a folder."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="not_writable") as caught, whole_file(tmp_path / name):
        pass
    assert name in caught.value.detail
