"""A capture from ingress to its files: over real sockets, with several ingress processes."""

import asyncio
import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from ingest import capture_feed
from ingest.capture_files import Files, Full, load
from ingest.capture_record import Record
from ingest.providers import REGISTRY
from ingest.providers.base import Request
from ingest.tryout import check_request
from schemas.errors import ConfigError, Unavailable
from schemas.settings import Settings
from streams.cli import capture
from tests.ingest.front_door import Door, front_door
from tests.ingest.keys import example

SOURCE = example("generic", mapping={"signature": {"header": "x-sig"}}).source
PATH = "/hooks/generic"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Ingress looks more often; the sockets are apart from those of other tests."""
    monkeypatch.setattr(capture_feed, "LOOK_S", 0.02)


@asynccontextmanager
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    async with front_door(
        SOURCE, parts={"registry": REGISTRY}, now=time.time, data_dir=tmp_path / "data"
    ) as one:
        yield one


def sample(number: int = 1) -> Request:
    return REGISTRY["generic"].sample(SOURCE, time.time(), number)


async def post(one: Door, request: Request) -> int:
    answer = await one.client.post(PATH, content=request.body, headers=list(request.headers))
    return answer.status_code


def captured(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.request.json")) if folder.exists() else []


async def until_true(condition: Any) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@asynccontextmanager
async def capturing(
    tmp_path: Path, *doors: Door, number: int = 3, files: Files | None = None, s: float = 60
) -> AsyncIterator[tuple[Path, "asyncio.Task[int]"]]:
    """A running capture that every door has taken up; its folder and its end."""
    folder = tmp_path / "out"
    settings = Settings(data_dir=tmp_path / "data")
    files = files or Files(folder, 1_000_000)
    task = asyncio.create_task(capture.run(settings, SOURCE, files, number, time.time() + s))
    try:
        for one in doors:
            await until_true(lambda one=one: is_on(one) or task.done())
        yield folder, task
    finally:
        if not task.done():
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def is_on(one: Door) -> bool:
    return one.metric("mailpulse_ingest_capture_until_seconds", source="generic") > 0


async def test_two_processes_feed_one_capture_and_it_ends_by_its_number(tmp_path: Path) -> None:
    """Accepted and refused; verified offline; afterwards ingress is as before."""
    async with door(tmp_path) as one, door(tmp_path) as two:
        assert not is_on(one)
        async with capturing(tmp_path, one, two) as (folder, task):
            assert await post(one, sample(1)) == 200
            assert await post(two, sample(2)) == 200
            wrong = Request("POST", "", (("x-sig", "00" * 32),), b'{"event":"opened"}', "")
            assert await post(one, wrong) == 401
            assert await task == 0
        verdicts = []
        for path in captured(folder):
            request, keys, at, document = load(path)
            verdict = check_request(keys.source, request, at)
            assert document["checked"]["same"]
            verdicts.append((document["answered"]["status"], verdict.status))
        assert sorted(verdicts) == [(200, 200), (200, 200), (401, 401)]
        await until_true(lambda: not is_on(one) and not is_on(two))
        assert await post(one, sample(3)) == 200
        assert len(one.log.events()) + len(two.log.events()) == 3
        text = "".join(path.read_text() for path in folder.iterdir())
        assert "reader1@example.com" not in text
        assert SOURCE.secrets("secret")[0] not in text


async def test_it_ends_by_its_time(tmp_path: Path) -> None:
    """Also if no request comes; then it says so by its exit code."""
    async with door(tmp_path) as one:
        async with capturing(tmp_path, one, s=0.3) as (folder, task):
            assert await task == 1
        assert captured(folder) == []
        await until_true(lambda: not is_on(one))


class FullDisk(Files):
    """A disk without room for a second record."""

    def write(self, record: Record) -> Path:
        if self.written:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(record)


@pytest.mark.parametrize("limit", ["disk", "bytes"])
async def test_a_full_disk_or_the_limit_of_bytes_ends_the_capture_alone(
    tmp_path: Path, limit: str
) -> None:
    """Ingress answers and keeps as before, and what was written stays."""
    files = FullDisk(tmp_path / "out", 1_000_000) if limit == "disk" else Files(
        tmp_path / "out", 3_000
    )  # fmt: skip
    async with door(tmp_path) as one:
        async with capturing(tmp_path, one, files=files) as (folder, task):
            for number in range(8):
                assert await post(one, sample(number)) == 200
            with pytest.raises(Unavailable, match="ended early"):
                await task
        assert len(captured(folder)) >= (limit == "disk")
        assert len(one.log.events()) == 8
        assert not [name for name in os.listdir(folder) if name.startswith(".")]


@asynccontextmanager
async def fed_but_never_read(tmp_path: Path) -> AsyncIterator[tuple[Door, Any, list[Any]]]:
    """Ingress and its feed while a command asks for requests and reads none; its connections."""
    connections: list[asyncio.StreamWriter] = []

    async def never_reads(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(b'{"until": 9e9}\n')

    path = capture.place(Settings(data_dir=tmp_path / "data"), "generic")
    server = await asyncio.start_unix_server(never_reads, str(path))
    path.chmod(0o600)
    try:
        async with door(tmp_path) as one:
            await until_true(lambda: is_on(one))
            yield one, one.app.hooks._feed, connections  # type: ignore[attr-defined]
    finally:
        server.close()
        path.unlink(missing_ok=True)


async def test_a_command_that_does_not_read_loses_requests_and_delays_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What does not fit is dropped and counted; every event is kept."""
    monkeypatch.setattr(capture_feed, "UNSENT_BYTES_MAX", 300_000)
    async with fed_but_never_read(tmp_path) as (one, feed, connections):
        filler = json.dumps({"event": "opened", "id": "x", "x": "y" * 100_000}).encode()
        signed = REGISTRY["generic"].resigned(
            Request("POST", "", sample().headers, filler, ""), SOURCE
        )
        for _ in range(12):
            assert await post(one, signed) == 200
        assert feed.listening["generic"].dropped > 0
        assert len(one.log.parcels) == 12
        for writer in connections:
            writer.transport.abort()
        await until_true(lambda: not is_on(one) or len(connections) > 1)


async def test_the_last_that_were_dropped_are_told_without_a_further_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A burst at the end would else be missing in what the command says at its end."""
    monkeypatch.setattr(capture_feed, "UNSENT_BYTES_MAX", 300_000)
    heads: list[dict[str, Any]] = []

    async def reads_late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'{"until": 9e9}\n')
        await burst.wait()
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head, _ = await capture._frame(reader)
                heads.append(head)
        writer.close()

    burst = asyncio.Event()
    path = capture.place(Settings(data_dir=tmp_path / "data"), "generic")
    server = await asyncio.start_unix_server(reads_late, str(path))
    path.chmod(0o600)
    try:
        async with door(tmp_path) as one:
            await until_true(lambda: is_on(one))
            feed: Any = one.app.hooks._feed  # type: ignore[attr-defined]
            filler = json.dumps({"event": "opened", "id": "x", "x": "y" * 100_000}).encode()
            request = Request("POST", "", sample().headers, filler, "")
            for _ in range(12):
                await post(one, REGISTRY["generic"].resigned(request, SOURCE))
            dropped = feed.listening["generic"].dropped
            assert dropped > 0
            burst.set()
            await until_true(lambda: heads and heads[-1]["dropped"] == dropped)
            assert heads[-1] == {"dropped": dropped}
            assert sum("method" in head for head in heads) == 12 - dropped
    finally:
        server.close()
        path.unlink(missing_ok=True)


async def test_what_a_stopped_command_has_not_read_is_given_up_at_its_end(tmp_path: Path) -> None:
    """Else each such capture would keep its bytes until the command is killed."""
    async with fed_but_never_read(tmp_path) as (_, feed, _):
        transport = feed.listening["generic"].writer.transport
        request = Request("POST", "", (), b"x" * 900_000, "")
        for _ in range(4):
            feed.offer("generic", request, received_at=0, status=200, code="", proven=True,
                       whole=True)  # fmt: skip
        assert transport.get_write_buffer_size() > 1_000_000
        await feed.stop()
        await until_true(lambda: transport.get_write_buffer_size() == 0)


async def test_two_captures_of_one_source_are_refused(tmp_path: Path) -> None:
    """The second would take the first one's place; a socket of a killed one is replaced."""
    settings = Settings(data_dir=tmp_path / "data")
    async with door(tmp_path) as one:
        async with capturing(tmp_path, one):
            with pytest.raises(ConfigError, match="is on already"):
                capture.place(settings, "generic")
    path = capture.place(settings, "generic")
    path.touch()
    assert capture.place(settings, "generic") == path
    assert not path.exists()


def test_a_folder_that_others_may_write_is_not_used(tmp_path: Path) -> None:
    """Anybody could listen there for webhooks, with their secrets."""
    folder = capture_feed.folder_of(tmp_path / "data")
    folder.mkdir(mode=0o700)
    folder.chmod(0o777)
    try:
        assert capture_feed.sockets(folder) == {}
        with pytest.raises(ConfigError, match="closed to others"):
            capture.place(Settings(data_dir=tmp_path / "data"), "generic")
    finally:
        folder.rmdir()


@pytest.mark.parametrize("user", [0, 1000, 1_000_680_000, 2**32 - 2])
def test_the_path_of_a_socket_fits_every_system(tmp_path: Path, user: int) -> None:
    """However long the data's path and the source's name are; OpenShift's users have ten digits."""
    folder = capture_feed.folder_of(tmp_path / ("x" * 200), user)
    assert len(str(folder / f"{'n' * 64}{capture_feed.SUFFIX}")) <= 103
    others = {capture_feed.folder_of(tmp_path / "x", user), capture_feed.folder_of(tmp_path, user)}
    assert folder not in others
    assert capture_feed.folder_of(tmp_path, user + 1) not in others


async def test_a_source_with_the_longest_name_is_captured(tmp_path: Path) -> None:
    """Its socket can be bound."""
    name = "n" * 64
    path = capture.place(Settings(data_dir=tmp_path / "data"), name)
    server = await asyncio.start_unix_server(lambda reader, writer: writer.close(), str(path))
    path.chmod(0o600)
    try:
        assert capture_feed.sockets(path.parent) == {name: path}
    finally:
        server.close()
        path.unlink()
        path.parent.rmdir()


def test_a_record_over_the_limit_is_not_begun(tmp_path: Path) -> None:
    """Neither its body nor its document."""
    files = Files(tmp_path / "out", 10)
    with pytest.raises(Full):
        files.write(Record("json", b"{}", {}))
    assert not (tmp_path / "out").exists()


def test_the_command_itself(tmp_path: Path) -> None:
    """As a user runs it: ingress with a spool, the command, a request, and its check."""
    config = tmp_path / "mailpulse.toml"
    config.write_text('[sources.shop]\nprovider = "generic"\nsecret = "env:SHOP_SECRET"\n')
    from streams.embedded.ports import free_port

    port = free_port()
    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith("MAILPULSE_")},
        "SHOP_SECRET": "hunter2-secret", "MAILPULSE_INGEST_PORT": str(port),
        "MAILPULSE_SPOOL_DIR": str(tmp_path / "spool"), "MAILPULSE_DATA_DIR": str(tmp_path / "d"),
        "MAILPULSE_KAFKA_BOOTSTRAP": "127.0.0.1:1", "MAILPULSE_LOG_LEVEL": "ERROR",
    }  # fmt: skip
    command = [sys.executable, "-P", "-m", "streams.cli"]
    options: dict[str, Any] = {"env": environ, "cwd": tmp_path, "text": True}
    root = str(Path(__file__).parents[2])
    environ["PYTHONPATH"] = root
    door = subprocess.Popen([*command, "ingest"], **options)
    try:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                if httpx.get(f"{url}/livez").status_code == 200:
                    break
            except httpx.HTTPError:
                time.sleep(0.1)
        reading = subprocess.Popen(
            [*command, "capture", "shop", "--number", "1", "--out", "got"],
            stderr=subprocess.PIPE, **options,
        )  # fmt: skip
        while "capture_until_seconds{" not in httpx.get(f"{url}/metrics").text:
            assert reading.poll() is None
            time.sleep(0.05)
        sent = subprocess.run([*command, "send-test", "shop"], check=False, **options)
        assert sent.returncode == 0
        _, said = reading.communicate(timeout=60)
        assert reading.returncode == 0, said
        assert "On several machines or pods run it on each" in said
        checked = subprocess.run(
            [*command, "check", "got/0001.request.json"], capture_output=True, check=False,
            **{**options, "env": {k: v for k, v in environ.items() if k != "SHOP_SECRET"}},
        )  # fmt: skip
        assert checked.returncode == 0, checked.stderr
        assert "accepted: 200" in checked.stderr + checked.stdout
    finally:
        door.terminate()
        door.wait(30)
