"""The jars of the broker, listed in ``jars.txt``.

Invariants:
1. A jar is used only if its SHA-256 is the one in the list.
2. The list is complete: everything that Maven resolves for Kafka, and one slf4j binding. Nothing is
   resolved on a user's machine.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from importlib.resources import files
from pathlib import Path

KAFKA = "org.apache.kafka:kafka_2.13"
"""Coordinate of the broker itself."""

_LINE = re.compile(
    r"(?P<group>[\w.-]+):(?P<artifact>[\w.-]+):(?P<version>[\w.-]+)"
    r" (?P<sha256>[0-9a-f]{64}) (?P<licence>\S.*)"
)


class State(StrEnum):
    """State of a jar in a folder."""

    OK = "ok"
    MISSING = "missing"
    DAMAGED = "damaged"


@dataclass(frozen=True, slots=True)
class Jar:
    """One line of the list.

    Attributes:
        sha256: 64 lower-case hexadecimal digits.
        licence: SPDX expression.
    """

    group: str
    artifact: str
    version: str
    sha256: str
    licence: str

    @property
    def name(self) -> str:
        """Name of its file."""
        return f"{self.artifact}-{self.version}.jar"

    @property
    def path(self) -> str:
        """Where a Maven repository has it, relative to the repository's address."""
        return f"{self.group.replace('.', '/')}/{self.artifact}/{self.version}/{self.name}"


def parse(text: str) -> tuple[Jar, ...]:
    """The jars of a list; empty lines and ``#`` comments are skipped.

    Raises:
        ValueError: a line does not describe a jar; its number is given.
    """
    jars = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise ValueError(f"line {number} is no jar: {line!r}")
        jars.append(Jar(**match.groupdict()))
    return tuple(jars)


def listed() -> tuple[Jar, ...]:
    """The jars of this version of mailpulse."""
    return parse(files(__package__).joinpath("jars.txt").read_text(encoding="utf-8"))


def kafka_version(jars: tuple[Jar, ...]) -> str:
    """Version of Kafka that ``jars`` hold.

    Raises:
        ValueError: the broker is not among them.
    """
    for jar in jars:
        if f"{jar.group}:{jar.artifact}" == KAFKA:
            return jar.version
    raise ValueError(f"{KAFKA} is not in the list")


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal.

    Raises:
        OSError: it can't be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def state_of(folder: Path, jar: Jar) -> State:
    """Whether ``folder`` holds ``jar`` as it should be. Reads the whole file."""
    try:
        return State.OK if sha256_of(folder / jar.name) == jar.sha256 else State.DAMAGED
    except OSError:
        return State.MISSING


def states(folder: Path, jars: tuple[Jar, ...]) -> Mapping[Jar, State]:
    """The state of every jar; reads 43 MB, about 0.1 s."""
    return {jar: state_of(folder, jar) for jar in jars}


def class_path(folder: Path, jars: tuple[Jar, ...]) -> str:
    """``-cp`` of exactly ``jars``, whatever else is in the folder."""
    return ":".join(str(folder / jar.name) for jar in jars)
