"""The list of Kafka's jars, and the contents of a folder of them."""

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.broker import jars
from streams.broker.jars import Jar, State


def jar(content: bytes, artifact: str = "thing") -> Jar:
    """A jar of a list whose file holds ``content``."""
    return Jar("org.example", artifact, "1.2", hashlib.sha256(content).hexdigest(), "MIT")


def test_list_holds_the_broker_and_one_slf4j_binding() -> None:
    """Without a binding the broker logs nothing; with two, it is random which one is used."""
    listed = jars.listed()
    assert jars.kafka_version(listed).startswith("4.")
    bindings = {"slf4j-simple", "log4j-slf4j-impl", "slf4j-reload4j", "logback-classic"}
    assert [one.artifact for one in listed if one.artifact in bindings] == ["slf4j-simple"]
    kafkas = {one.version for one in listed if one.group == "org.apache.kafka"}
    assert kafkas == {jars.kafka_version(listed)}


def test_list_names_each_artifact_once() -> None:
    """With two versions of a library on the class path the order would decide."""
    names = [(one.group, one.artifact) for one in jars.listed()]
    assert len(names) == len(set(names)) > 40


def test_line_that_is_no_jar_is_named() -> None:
    """A damaged list is reported with the line."""
    with pytest.raises(ValueError, match="line 3 is no jar"):
        jars.parse(f"# head\n\norg:thing:1 {'0' * 63} MIT\n")


@given(st.text(max_size=200))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    """A list raises only ValueError, and what is parsed is complete."""
    try:
        found = jars.parse(text)
    except ValueError:
        return
    assert all(len(one.sha256) == 64 for one in found)


def test_states_tell_whole_from_damaged_from_missing(tmp_path: Path) -> None:
    """A jar that is truncated, or altered in one bit, is damaged."""
    whole, short, altered, missing = (jar(b"content" * 9, name) for name in "abcd")
    (tmp_path / whole.name).write_bytes(b"content" * 9)
    (tmp_path / short.name).write_bytes(b"content" * 8)
    (tmp_path / altered.name).write_bytes(b"content" * 8 + b"contenu")
    found = jars.states(tmp_path, (whole, short, altered, missing))
    assert list(found.values()) == [State.OK, State.DAMAGED, State.DAMAGED, State.MISSING]


def test_class_path_holds_the_list_and_nothing_else(tmp_path: Path) -> None:
    """A stray jar in the cache is never loaded by the broker."""
    (tmp_path / "stray-1.jar").write_bytes(b"x")
    assert jars.class_path(tmp_path, (jar(b"a", "a"), jar(b"b", "b"))).split(":") == [
        f"{tmp_path}/a-1.2.jar",
        f"{tmp_path}/b-1.2.jar",
    ]
