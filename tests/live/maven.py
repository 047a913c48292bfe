"""Java software for live tests, from Maven into a cache outside the repository.

Invariants:
1. Two test runs may ask at once: one downloads behind a file lock, the other waits and reuses.
2. A cache folder exists only when it is whole (downloaded beside it, then renamed).
3. What is missing on this machine is a ``Missing`` with the reason; whether that skips or fails
   is ``tests/live/fixtures.py``'s to say.
"""

import fcntl
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_POM = """<project xmlns="http://maven.apache.org/POM/4.0.0">
 <modelVersion>4.0.0</modelVersion>
 <groupId>mailpulse</groupId><artifactId>live-tests</artifactId><version>1</version>
 <dependencies>{dependencies}</dependencies>
</project>
"""
_DEPENDENCY = (
    "<dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version></dependency>"
)
DOWNLOAD_S_MAX = 900


class Missing(RuntimeError):
    """Something that a live test needs is not on this machine; the text says what."""


def cache_dir() -> Path:
    """Where downloads are kept between runs: ``$XDG_CACHE_HOME/mailpulse-tests``."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "mailpulse-tests"


def java(oldest: int) -> str:
    """Path of a ``java`` of at least version ``oldest``, the lowest that will do.

    Raises:
        Missing: none found in ``$JAVA_HOME``, on the path or in ``/usr/lib/jvm``.
    """
    places = [Path(home) / "bin/java" for home in [os.environ.get("JAVA_HOME")] if home]
    on_path = shutil.which("java")
    places += [Path(on_path)] if on_path else []
    places += sorted(Path("/usr/lib/jvm").glob("*/bin/java"))
    found = [(_java_version(place), str(place)) for place in places if place.exists()]
    fitting = [item for item in found if item[0] >= oldest]
    if not fitting:
        raise Missing(f"needs Java {oldest} or newer (found: {sorted({v for v, _ in found})})")
    return min(fitting, key=lambda item: item[0])[1]


def _java_version(path: Path) -> int:
    answer = subprocess.run([path, "-version"], capture_output=True, text=True, check=False)
    match = re.search(r'version "(\d+)', answer.stderr)
    return int(match[1]) if match else 0


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _cached(name: str, fill: Callable[[Path], None]) -> Path:
    """The cache folder ``name``, filled by ``fill`` once."""
    folder = cache_dir() / name
    with _locked(cache_dir() / f"{name}.lock"):
        if not folder.is_dir():
            with tempfile.TemporaryDirectory(dir=cache_dir(), prefix=f"{name}.") as work:
                fresh = Path(work) / "content"
                fresh.mkdir()
                fill(fresh)
                fresh.rename(folder)
    return folder


def _maven(arguments: list[str], cwd: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise Missing("needs Maven (mvn) to fetch Java software")
    try:
        answer = subprocess.run(
            [maven, "-q", "-B", *arguments],
            cwd=cwd, capture_output=True, text=True, check=False, timeout=DOWNLOAD_S_MAX,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise Missing(f"mvn {arguments[0]} took over {DOWNLOAD_S_MAX} s") from None
    if answer.returncode:
        raise Missing(f"mvn {arguments[0]} failed:\n{(answer.stdout + answer.stderr)[-2000:]}")


def jars(name: str, *artifacts: str) -> Path:
    """A folder with the jars of ``group:artifact:version`` and all that they depend on.

    Raises:
        Missing: no Maven, or the download failed.
    """

    def fill(folder: Path) -> None:
        dependencies = "".join(_DEPENDENCY.format(*item.split(":")) for item in artifacts)
        with tempfile.TemporaryDirectory() as work:
            (Path(work) / "pom.xml").write_text(_POM.format(dependencies=dependencies))
            _maven(["dependency:copy-dependencies", f"-DoutputDirectory={folder}"], Path(work))

    return _cached(name, fill)


def unpacked(name: str, artifact: str) -> Path:
    """A folder with the content of the tar archive ``group:artifact:version:type:classifier``.

    Raises:
        Missing: no Maven, or the download failed.
    """

    def fill(folder: Path) -> None:
        with tempfile.TemporaryDirectory() as work:
            _maven(
                ["dependency:copy", f"-Dartifact={artifact}", f"-DoutputDirectory={work}"],
                Path(work),
            )
            (archive,) = [item for item in Path(work).iterdir() if ".tar" in item.name]
            with tarfile.open(archive) as content:
                content.extractall(folder, filter="data")

    return _cached(name, fill)
