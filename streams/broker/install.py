"""Kafka's jars on this machine: fetched once, checked, kept per user; or an Apache archive.

Invariants:
1. Only ``mailpulse kafka install`` downloads; starting the broker never does.
2. A file gets its final name only after its SHA-256 was checked, so an interrupted install is
   continued by the next one. Of two installs at once the second waits for the first.
3. Nothing of an earlier version is removed: a running pipeline may still use it.

jgo downloads from Maven Central; the files are checked here.
"""

import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import ConfigError, Unavailable
from schemas.settings import PREFIX
from streams.broker import jars as listing
from streams.broker.jars import Jar, State

DOWNLOADS_AT_ONCE = 6
ATTEMPTS = 3
"""Per jar, since a transfer may fail."""
TIMEOUT_S = 20
"""Longest wait for data from the repository."""
KAFKA_OLDEST, KAFKA_TOO_NEW = (4, 0), (5, 0)
"""An archive's version must be at least the first and below the second."""

_ELSEWHERE = "XDG_CACHE_HOME names another place for it"

Fetch = Callable[[Jar, Path], Path]
"""Downloads one jar into an empty folder and returns its path.

Raises:
    Unavailable: the repository does not answer or does not have it.
"""


@dataclass(frozen=True, slots=True)
class Software:
    """A Kafka that can be started.

    Attributes:
        version: such as ``4.1.2``.
        class_path: what ``java -cp`` takes.
        origin: where it comes from, for people.
    """

    version: str
    class_path: str
    origin: str


def cache_dir(environ: Mapping[str, str], version: str) -> Path:
    """The folder that holds the jars: in ``$XDG_CACHE_HOME``, else in ``~/.cache``.

    Raises:
        ConfigError: this user has no home directory, as in some containers.
    """
    try:
        base = environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    except RuntimeError:
        raise ConfigError([f"Kafka: this user has no home directory; {_ELSEWHERE}"]) from None
    return Path(base) / "mailpulse" / f"kafka-{version}"


@contextmanager
def _usable(path: Path, otherwise: str) -> Iterator[None]:
    """Turns what the file system raises about ``path`` into words.

    Raises:
        ConfigError: it can't be read or written; ``otherwise`` says what to do.
    """
    try:
        yield
    except OSError as error:
        raise ConfigError([f"Kafka: {path}: {error.strerror or error}; {otherwise}"]) from None


def find_software(home: Path | None, environ: Mapping[str, str]) -> Software:
    """The Kafka to run: the archive at ``home``, or else the jars of the cache.

    Raises:
        ConfigError: there is no archive at ``home``, or jars are missing or damaged.
    """
    if home is not None:
        return archive_at(home)
    jars = listing.listed()
    version = listing.kafka_version(jars)
    folder = cache_dir(environ, version)
    found = listing.states(folder, jars)
    bad = {jar.name: state for jar, state in found.items() if state is not State.OK}
    if State.DAMAGED in bad.values():
        names = ", ".join(sorted(name for name, state in bad.items() if state is State.DAMAGED))
        raise ConfigError(
            [f"Kafka: damaged in {folder}: {names}; 'mailpulse kafka install' fetches them again"]
        )
    if bad:
        raise ConfigError(
            [
                f"Kafka {version} is not installed: {len(bad)} of {len(jars)} jars are missing in"
                f" {folder}; 'mailpulse kafka install' fetches them (43 MB, once per user)"
            ]
        )
    return Software(version, listing.class_path(folder, jars), str(folder))


def archive_at(home: Path) -> Software:
    """The Kafka of an unpacked Apache archive.

    Raises:
        ConfigError: there is none at ``home``, or its version is not supported.
    """
    setting = f"{PREFIX}KAFKA_HOME"
    with _usable(home, f"{setting} has to name an archive that this user may read"):
        names = [path.name for path in home.glob("libs/kafka_2.1*.jar")]
    versions = [
        m[1] for m in (re.fullmatch(r"kafka_2\.\d+-(\d[\d.]*)\.jar", n) for n in names) if m
    ]
    if len(versions) != 1:
        raise ConfigError(
            [
                f"{setting}: {home} is no unpacked Apache Kafka archive:"
                f" it needs one libs/kafka_2.13-VERSION.jar and has {len(versions)}"
            ]
        )
    version = versions[0]
    number = tuple(int(part) for part in version.split(".")[:2])
    if not KAFKA_OLDEST <= number < KAFKA_TOO_NEW:
        raise ConfigError([f"{setting}: {home} holds Kafka {version}; mailpulse needs a 4.x"])
    return Software(version, str(home / "libs" / "*"), f"{setting} {home}")


def install(
    folder: Path, jars: tuple[Jar, ...], fetch: Fetch, announce: Callable[[str], None]
) -> int:
    """Downloads the jars that ``folder`` lacks; returns how many those were.

    Raises:
        ConfigError: the folder can't be created or written.
        Unavailable: the repository does not answer, or has other files; valid jars are kept.
    """
    with _usable(folder, _ELSEWHERE):
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder.with_name(f"{folder.name}.lock")):
            for left in folder.glob(".fetch-*"):  # of an install that was killed
                shutil.rmtree(left, ignore_errors=True)
            wanted = [jar for jar in jars if listing.state_of(folder, jar) is not State.OK]
            _fetch_all(folder, wanted, fetch, announce)
    return len(wanted)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _fetch_all(
    folder: Path, wanted: list[Jar], fetch: Fetch, announce: Callable[[str], None]
) -> None:
    with ThreadPoolExecutor(DOWNLOADS_AT_ONCE, thread_name_prefix="fetch") as pool:
        waiting = [pool.submit(_fetch_one, folder, jar, fetch) for jar in wanted]
        try:
            for number, done in enumerate(as_completed(waiting), 1):
                done.result()
                if number % 10 == 0 or number == len(wanted):
                    announce(f"Kafka: {number} of {len(wanted)} jars")
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _fetch_one(folder: Path, jar: Jar, fetch: Fetch) -> None:
    """Downloads a jar, checks it and gives it its final name (invariant 2)."""
    problem = Unavailable(jar.name)
    for _ in range(ATTEMPTS):
        with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as work:
            try:
                fetched = fetch(jar, Path(work))
            except Unavailable as error:
                problem = error
                continue
            found = listing.sha256_of(fetched)
            if found == jar.sha256:
                os.replace(fetched, folder / jar.name)
                return
            problem = Unavailable(
                f"{jar.name}: the repository has another file: its SHA-256 is {found} and must be"
                f" {jar.sha256}; it was not installed"
            )
    raise problem


def fetch_from(repository: str) -> Fetch:
    """Downloads by jgo, from Maven Central or from the mirror at the address ``repository``.

    Raises:
        ConfigError: the ``embedded`` extra is not installed.
    """
    try:
        from jgo.maven import MavenContext
        from requests import RequestException
    except ImportError:
        raise ConfigError(
            ["embedded: pip install 'mailpulse[embedded]' brings what fetches Kafka"]
        ) from None
    repositories = {"mirror": repository.rstrip("/")} if repository else None

    def fetch(jar: Jar, folder: Path) -> Path:
        maven = MavenContext(repo_cache=folder, remote_repos=repositories, timeout=TIMEOUT_S)
        component = maven.project(jar.group, jar.artifact).at_version(jar.version)
        try:
            path: Path = component.artifact().resolve()
        except RequestException as error:
            raise Unavailable(f"{jar.name}: {_reason(error)}") from error
        except RuntimeError:  # so jgo says it; its text holds the address, perhaps with a password
            raise Unavailable(f"{jar.name}: the repository does not have it") from None
        return path

    return fetch


def _reason(error: Exception) -> str:
    """Why a request failed, without the address, since that may hold a password."""
    inner = getattr(error.args[0], "reason", None) if error.args else None
    return f"{type(error).__name__}: {inner}" if inner is not None else type(error).__name__


def by_hand(folder: Path, version: str, count: int) -> str:
    """What to do if no repository can be reached, in one sentence."""
    return (
        "If Maven Central can't be reached, do one of these:"
        f" set {PREFIX}MAVEN_URL to a mirror of it;"
        f" or unpack Apache Kafka's archive kafka_2.13-{version}.tgz and set {PREFIX}KAFKA_HOME to"
        f" its folder; or put the {count} files that 'mailpulse kafka install --list' names into"
        f" {folder} and run 'mailpulse kafka install' again, which checks them"
    )
