"""Places for files: a folder and an object store keep the same promises."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.errors import ConfigError, Unavailable
from streams.objects.objects import Folder, Missing, Objects, checked, objects_at
from tests.streams.s3_replica import S3, s3_replica

SETTING = "MAILPULSE_X"


def nothing() -> None:
    """No check."""


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    with s3_replica() as replica:
        given = {
            "AWS_ENDPOINT_URL": replica.url, "AWS_ALLOW_HTTP": "true", "AWS_REGION": "eu-west-1",
            "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "canary-secret",
        }  # fmt: skip
        for name, value in given.items():
            monkeypatch.setenv(name, value)
        yield replica


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Objects:
    """One of each kind, empty."""
    if request.param == "folder":
        return objects_at(f"file://{tmp_path / 'place'}", SETTING)
    request.getfixturevalue("s3")
    return objects_at("s3://bucket/some/prefix", SETTING)


def test_what_is_stored_is_read_again(place: Objects, tmp_path: Path) -> None:
    """Small and in parts, and replaced at once."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(bytes(range(256)) * (12 << 12))
    place.put("g/enrich-0/files/abc", source)
    place.fetch("g/enrich-0/files/abc", target, nothing)
    assert target.read_bytes() == source.read_bytes()
    for data in (b"first", b"second", b""):
        place.write("g/enrich-0/20261128T134501.123Z.json", data)
        assert place.read("g/enrich-0/20261128T134501.123Z.json") == data


def test_keys_are_those_below_and_no_others(place: Objects) -> None:
    """Not those of a key that only begins alike; deleting twice does no harm."""
    for key in ("g/enrich-1/b", "g/enrich-1/files/a", "g/enrich-10/c", "h/d"):
        place.write(key, b"x")
    assert place.keys("g/enrich-1") == ["g/enrich-1/b", "g/enrich-1/files/a"]
    assert place.keys("g/nothing") == []
    place.delete("g/enrich-1/b")
    place.delete("g/enrich-1/b")
    assert place.keys("g/enrich-1") == ["g/enrich-1/files/a"]


def test_what_is_not_there_is_missing(place: Objects, tmp_path: Path) -> None:
    """Reading and fetching tell it apart from a place that does not answer."""
    with pytest.raises(Missing):
        place.read("g/a")
    with pytest.raises(Missing):
        place.fetch("g/a", tmp_path / "target", nothing)


class Ended(Exception):
    """Nobody waits any more."""


def test_a_transfer_ends_when_nobody_waits_for_it(place: Objects, tmp_path: Path) -> None:
    """What the check raises comes through, between two pieces."""

    def ended() -> None:
        raise Ended

    place.write("g/a", b"x" * (3 << 20))
    with pytest.raises(Ended):
        place.fetch("g/a", tmp_path / "target", ended)


@pytest.mark.parametrize("status", [400, 403])
def test_a_store_that_refuses_is_unavailable_and_names_no_secret(s3: S3, status: int) -> None:
    """One line with the address, without what the library says for debugging."""
    place = objects_at("s3://bucket/p", SETTING)
    s3.refuses = status
    with pytest.raises(Unavailable) as caught:
        place.write("g/a", b"x")
    assert "s3://bucket/p" in str(caught.value)
    assert "canary" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["", "/etc/passwd", "../up", "a//b", "a/../b", "a/.part", "a\nb"])
def test_no_key_leads_out_of_its_place(key: str) -> None:
    """Absolute paths, steps upwards and names of unfinished files are refused."""
    with pytest.raises(ValueError, match="can't be a key"):
        checked(key)


def test_a_place_that_is_a_file_is_unavailable(tmp_path: Path) -> None:
    """A folder that can not be used is told, and nothing else is raised."""
    (tmp_path / "file").write_text("")
    place = Folder(tmp_path / "file")
    with pytest.raises(Unavailable):
        place.write("a/b", b"")
    with pytest.raises((Missing, Unavailable)):
        place.read("a/b")


@pytest.mark.parametrize("address", ["ftp://host/x", "s3://", "http://host"])
def test_an_address_that_can_not_be_used_is_a_wrong_setting(address: str) -> None:
    """The error begins with the name of the setting."""
    with pytest.raises(ConfigError, match=SETTING):
        objects_at(address, SETTING)
