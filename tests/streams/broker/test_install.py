"""Downloading the jars: verified, cached, resumed; and how they are found again."""

import hashlib
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from schemas.errors import ConfigError, Unavailable
from streams.broker import install as installing
from streams.broker import jars as listing
from streams.broker.install import archive_at, by_hand, find_software, install
from streams.broker.jars import Jar

CONTENTS = {f"part{number}": b"x" * 1000 + bytes([number]) for number in range(8)}
JARS = tuple(
    Jar("org.example", name, "1.0", hashlib.sha256(content).hexdigest(), "MIT")
    for name, content in CONTENTS.items()
)


class Repository:
    """A Maven repository: a list of requests, and errors to simulate."""

    def __init__(self, answer: Callable[[Jar, int], bytes] = lambda jar, _: CONTENTS[jar.artifact]):
        self.asked: list[str] = []
        self._answer = answer
        self._lock = threading.Lock()

    def __call__(self, jar: Jar, folder: Path) -> Path:
        """Fetches, as ``install.Fetch``."""
        with self._lock:
            self.asked.append(jar.artifact)
            attempt = self.asked.count(jar.artifact)
        path = folder / "download"
        path.write_bytes(self._answer(jar, attempt))
        return path


def silent(_line: str) -> None:
    """Ignores progress messages."""


def files(folder: Path) -> dict[str, bytes]:
    """Name -> content, of everything in a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


WHOLE = {jar.name: CONTENTS[jar.artifact] for jar in JARS}


def test_every_jar_is_fetched_once_and_kept(tmp_path: Path) -> None:
    """A second install fetches nothing, and nothing temporary stays."""
    repository, lines = Repository(), list[str]()
    assert install(tmp_path / "kafka", JARS, repository, lines.append) == len(JARS)
    assert files(tmp_path / "kafka") == WHOLE
    assert lines[-1] == "Kafka: 8 of 8 jars"
    assert install(tmp_path / "kafka", JARS, repository, silent) == 0
    assert sorted(repository.asked) == sorted(CONTENTS)


def test_transfer_that_breaks_off_is_tried_again(tmp_path: Path) -> None:
    """Damaged twice, whole the third time."""
    repository = Repository(
        lambda jar, attempt: CONTENTS[jar.artifact][: 1001 if attempt > 2 else 500]
    )
    install(tmp_path / "kafka", JARS, repository, silent)
    assert files(tmp_path / "kafka") == WHOLE


def test_other_file_than_listed_is_refused_and_the_rest_kept(tmp_path: Path) -> None:
    """A mirror that serves another file is named with both checksums; the next install
    continues."""
    forged = Repository(
        lambda jar, _: b"forged" if jar.artifact == "part7" else CONTENTS[jar.artifact]
    )
    with pytest.raises(Unavailable, match=r"part7-1.0.jar: the repository has another file"):
        install(tmp_path / "kafka", JARS, forged, silent)
    kept = files(tmp_path / "kafka")
    assert kept.items() <= WHOLE.items()
    assert "part7-1.0.jar" not in kept
    honest = Repository()
    install(tmp_path / "kafka", JARS, honest, silent)
    assert files(tmp_path / "kafka") == WHOLE
    assert len(honest.asked) == len(JARS) - len(kept)


def test_repository_that_is_away_ends_the_install(tmp_path: Path) -> None:
    """The repository's error is reported, without waiting for every jar in turn."""

    def away(jar: Jar, folder: Path) -> Path:
        raise Unavailable(f"{jar.name}: no route")

    with pytest.raises(Unavailable, match="no route"):
        install(tmp_path / "kafka", JARS, away, silent)
    assert files(tmp_path / "kafka") == {}


def test_damaged_jar_in_the_cache_is_replaced(tmp_path: Path) -> None:
    """So is one that was put there by hand and is the wrong one."""
    install(tmp_path / "kafka", JARS, Repository(), silent)
    (tmp_path / "kafka" / JARS[3].name).write_bytes(b"damaged")
    assert install(tmp_path / "kafka", JARS, Repository(), silent) == 1
    assert files(tmp_path / "kafka") == WHOLE


def test_two_installs_at_once_fetch_once(tmp_path: Path) -> None:
    """The second waits for the first and finds everything."""
    repository = Repository()
    counts: list[int] = []
    threads = [
        threading.Thread(
            target=lambda: counts.append(install(tmp_path / "kafka", JARS, repository, silent))
        )
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(counts) == [0, 0, 0, len(JARS)]
    assert files(tmp_path / "kafka") == WHOLE


def test_leavings_of_a_killed_install_are_cleared_away(tmp_path: Path) -> None:
    """A partial file under a temporary name is useless."""
    left = tmp_path / "kafka" / ".fetch-abc"
    left.mkdir(parents=True)
    (left / "half").write_bytes(b"x")
    install(tmp_path / "kafka", JARS, Repository(), silent)
    assert files(tmp_path / "kafka") == WHOLE


class Quiet(SimpleHTTPRequestHandler):
    """Serves files and logs nothing."""

    def log_message(self, *_: object) -> None:
        """Logs nothing."""


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Address and folder of a Maven repository on this machine."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://user:secret@127.0.0.1:{server.server_port}", folder
    server.shutdown()
    thread.join()
    server.server_close()


def test_mirror_is_asked_as_maven_lays_it_out(mirror: tuple[str, Path], tmp_path: Path) -> None:
    """jgo itself, over HTTP; a jar that the mirror lacks is named, its address is not."""
    address, folder = mirror
    for jar in JARS:
        (folder / jar.path).parent.mkdir(parents=True)
        (folder / jar.path).write_bytes(CONTENTS[jar.artifact])
    target = tmp_path / "kafka"
    assert install(target, JARS[1:], installing.fetch_from(address), silent) == len(JARS) - 1
    assert files(target).items() <= WHOLE.items()
    (folder / JARS[0].path).unlink()
    with pytest.raises(
        Unavailable, match=r"part0-1.0.jar: the repository does not have it"
    ) as found:
        install(target, JARS, installing.fetch_from(address), silent)
    assert "secret" not in str(found.value)


def test_error_of_a_repository_shows_no_password() -> None:
    """A mirror's URL may contain one; neither a refused connection nor a missing file shows it."""
    fetch = installing.fetch_from("http://user:secret@127.0.0.1:1/maven")
    with pytest.raises(Unavailable, match="refused") as caught:
        fetch(JARS[0], Path())
    assert "secret" not in str(caught.value)


def test_folder_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    """A cache below something that is not a folder."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match=r"Kafka: .*file/kafka: Not a directory"):
        install(tmp_path / "file" / "kafka", JARS, Repository(), silent)


def test_place_that_cannot_be_looked_at_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Another user's folder, or a name that the disk does not take; or no home at all."""
    bad = tmp_path / ("x" * 300)
    with pytest.raises(ConfigError, match="File name too long; XDG_CACHE_HOME names another"):
        install(bad, JARS, Repository(), silent)
    with pytest.raises(ConfigError, match="File name too long; MAILPULSE_KAFKA_HOME has to name"):
        find_software(bad, {})

    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(ConfigError, match="no home directory; XDG_CACHE_HOME names another place"):
        find_software(None, {})


def test_cache_follows_xdg(tmp_path: Path) -> None:
    """One cache per user and version."""
    assert installing.cache_dir({"XDG_CACHE_HOME": "/c"}, "4.1.2") == Path(
        "/c/mailpulse/kafka-4.1.2"
    )
    assert installing.cache_dir({}, "4.1.2") == Path.home() / ".cache/mailpulse/kafka-4.1.2"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and a list of small jars whose broker is version 4.1.9."""
    broker = Jar("org.apache.kafka", "kafka_2.13", "4.1.9", JARS[0].sha256, "Apache-2.0")
    monkeypatch.setattr(listing, "listed", lambda: (broker, *JARS[1:]))
    return tmp_path / "mailpulse" / "kafka-4.1.9"


def test_missing_and_damaged_jars_are_told_apart(cache: Path, tmp_path: Path) -> None:
    """Each with what to do; nothing is used that differs from the list."""
    environ = {"XDG_CACHE_HOME": str(tmp_path)}
    with pytest.raises(
        ConfigError, match=r"8 of 8 jars are missing in .* 'mailpulse kafka install'"
    ):
        find_software(None, environ)
    cache.mkdir(parents=True)
    (cache / "kafka_2.13-4.1.9.jar").write_bytes(CONTENTS["part0"])
    for jar in JARS[1:]:
        (cache / jar.name).write_bytes(CONTENTS[jar.artifact])
    found = find_software(None, environ)
    assert found.version == "4.1.9"
    assert found.class_path.count(".jar") == len(JARS)
    (cache / JARS[5].name).write_bytes(b"damaged")
    with pytest.raises(
        ConfigError, match=r"damaged in .*: part5-1.0.jar; 'mailpulse kafka install'"
    ):
        find_software(None, environ)


@pytest.mark.parametrize(
    ("names", "outcome"),
    [
        (["kafka_2.13-4.1.2.jar", "kafka-clients-4.1.2.jar"], "4.1.2"),
        (["kafka_2.13-4.3.0.jar"], "4.3.0"),
        (["kafka_2.13-3.9.1.jar"], "holds Kafka 3.9.1; mailpulse needs a 4.x"),
        (["kafka_2.13-5.0.0.jar"], "holds Kafka 5.0.0"),
        (["kafka_2.13-4.1.2.jar", "kafka_2.13-4.0.0.jar"], "and has 2"),
        (["kafka-clients-4.1.2.jar"], "is no unpacked Apache Kafka archive"),
        ([], "is no unpacked Apache Kafka archive"),
    ],
)
def test_archive_is_looked_at_before_it_is_used(
    tmp_path: Path, names: list[str], outcome: str
) -> None:
    """MAILPULSE_KAFKA_HOME: one broker of a 4.x, or a message with the setting's name."""
    (tmp_path / "libs").mkdir()
    for name in names:
        (tmp_path / "libs" / name).write_bytes(b"")
    if outcome[0].isdigit():
        assert archive_at(tmp_path).version == outcome
    else:
        with pytest.raises(ConfigError, match="MAILPULSE_KAFKA_HOME: ") as caught:
            archive_at(tmp_path)
        assert outcome in str(caught.value)


def test_advice_for_a_closed_network_names_every_way(tmp_path: Path) -> None:
    """A mirror, an archive, or the files by hand, and where they go."""
    advice = by_hand(tmp_path, "4.1.2", 46)
    for part in ("MAILPULSE_MAVEN_URL", "MAILPULSE_KAFKA_HOME", "kafka_2.13-4.1.2.tgz",
                 "kafka install --list", str(tmp_path)):  # fmt: skip
        assert part in advice
