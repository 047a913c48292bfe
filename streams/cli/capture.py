"""Command ``mailpulse capture``: writes the next requests of a source down, renamed.

It listens where every ingress of this data directory looks (``ingest.capture_feed``), renames what
they hand over and writes it. It holds one request at a time; nothing of it touches a disk before it
is renamed. If it is slow, stopped, killed, or the disk is full, ingress goes on and drops.
"""

import asyncio
import contextlib
import json
import os
import secrets
import signal
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from schemas.errors import ConfigError, Unavailable
from schemas.settings import Settings, Source
from streams.cli.context import (
    FAILED,
    ConfigFile,
    now,
    say,
    settings_of,
    source_named,
)

if TYPE_CHECKING:
    from ingest.capture_files import Files
    from ingest.capture_record import Heard, Recorder

NUMBER_MAX = 1_000
MINUTES_MAX = 24 * 60
HEAD_BYTES_MAX = 1_000_000
TAKEN_UP_S = 5.0
"""After it a capture that no ingress has taken up says so."""
FLEET = (
    "This reaches the ingress processes of this machine that use this data directory. On several "
    "machines or pods run it on each: every one sees only its own share of the requests."
)


class Capture:
    """One capture, from its socket to its files.

    Args:
        source: to capture, with its secrets.
        recorder: renames.
        files: writes.
        number: of requests after which it ends.
        until: when it ends, seconds since 1970.
    """

    def __init__(
        self, source: Source, recorder: "Recorder", files: "Files", number: int, until: float
    ) -> None:
        self._source = source
        self._recorder = recorder
        self._files = files
        self._number = number
        self._until = until
        self._dropped: dict[int, int] = {}
        self.ended = asyncio.Event()
        self.failure = ""
        self.processes = 0
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def dropped(self) -> int:
        """Requests that ingress could not hand over."""
        return sum(self._dropped.values())

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Takes the requests of one ingress process."""
        self.processes += 1
        process = self.processes
        self._writers.add(writer)
        try:
            writer.write(json.dumps({"until": self._until}).encode() + b"\n")
            while not self.ended.is_set():
                head, body = await _frame(reader)
                self._dropped[process] = int(str(head.get("dropped", 0)))
                if "method" in head and not self.ended.is_set():
                    self._take(head, body)
        except (asyncio.IncompleteReadError, ConnectionError, ValueError):
            pass  # that ingress has ended
        finally:
            self._writers.discard(writer)
            writer.close()

    def close(self) -> None:
        """Ends the connections; every ingress notices at once."""
        for writer in list(self._writers):
            writer.close()

    def _take(self, head: dict[str, object], body: bytes) -> None:
        from ingest.capture_files import Full

        heard = _heard(head, body)
        try:
            path = self._files.write(self._recorder.record(heard))
        except Full:
            self._end("the limit of bytes is reached (--megabytes)")
            return
        except OSError as error:
            self._end(f"can't write to {self._files.folder}: {error.strerror}")
            return
        except Exception as error:  # one odd request does not end a capture
            say(f"not written: {type(error).__name__} while renaming it; please report it")
            return
        say(f"{path}: answered {heard.status} {heard.code}")
        if self._files.written >= self._number:
            self.ended.set()

    def _end(self, failure: str) -> None:
        self.failure = failure
        self.ended.set()


async def _frame(reader: asyncio.StreamReader) -> tuple[dict[str, object], bytes]:
    from ingest.capture_feed import BODY_BYTES_MAX, LENGTHS

    head_bytes, body_bytes = LENGTHS.unpack(await reader.readexactly(LENGTHS.size))
    if head_bytes > HEAD_BYTES_MAX or body_bytes > BODY_BYTES_MAX:
        raise ValueError("no frame")
    head = json.loads(await reader.readexactly(head_bytes))
    return head, await reader.readexactly(body_bytes)


def _heard(head: dict[str, object], body: bytes) -> "Heard":
    from ingest.capture_record import Heard
    from ingest.providers.base import Request

    pairs = head["headers"]
    assert isinstance(pairs, list)
    headers = tuple((str(name), str(value)) for name, value in pairs)
    request = Request(str(head["method"]), str(head["query"]), headers, body, "", str(head["path"]))
    return Heard(
        request, float(str(head["received_at"])), int(str(head["status"])), str(head["code"]),
        bool(head["proven"]), bool(head["whole"]),
    )  # fmt: skip


def place(settings: Settings, source: str) -> Path:
    """The path of the socket, whose folder is there and closed to others.

    Raises:
        ConfigError: it is another user's, or a capture of this source is on.
    """
    from ingest.capture_feed import SUFFIX, folder_of, is_ours

    folder = folder_of(settings.data_dir)
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    if not is_ours(folder, _is_folder):
        raise ConfigError([f"{folder}: has to be a folder of this user, closed to others"])
    path = folder / f"{source}{SUFFIX}"
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            path.unlink(missing_ok=True)  # of one that was killed
            return path
    raise ConfigError([f"a capture of {source} is on already; end that one first (Ctrl-C)"])


def _is_folder(mode: int) -> bool:
    import stat

    return stat.S_ISDIR(mode)


async def run(settings: Settings, source: Source, files: "Files", number: int, until: float) -> int:
    """Captures until one of the limits is reached; returns an exit code."""
    from ingest.capture_record import Recorder

    recorder = Recorder(source, secrets.token_bytes(32), now(), settings)
    path = place(settings, source.name)
    capture = Capture(source, recorder, files, number, until)
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(name, capture.ended.set)
    server = await asyncio.start_unix_server(capture.serve, str(path))
    os.chmod(path, 0o600)
    try:
        await _wait(capture, until)
    finally:
        server.close()
        capture.close()
        path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # another capture is on
            path.parent.rmdir()
    return _farewell(capture, files)


async def _wait(capture: Capture, until: float) -> None:
    """Until the end of a capture; tells if no ingress takes it up."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(min(TAKEN_UP_S, max(0.0, until - now()))):
            await capture.ended.wait()
    if not capture.processes and not capture.ended.is_set():
        say(
            "No ingress has taken it up yet. It has to run on this machine (or in this container), "
            "as this user, with this data directory."
        )
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(max(0.0, until - now())):
            await capture.ended.wait()


def _farewell(capture: Capture, files: "Files") -> int:
    if capture.dropped:
        say(f"{capture.dropped} requests came faster than they could be written, and are not there")
    if files.written:
        say(f"Written: {files.written}, in {files.folder}. Look at it before you pass it on.")
        say(f"Check one: mailpulse check {files.folder}/0001.request.json")
    if capture.failure:
        raise Unavailable(f"ended early: {capture.failure}; {files.written} requests are written")
    if not files.written:
        say("No request came.")
        return FAILED
    return 0


def capture(
    source: Annotated[str, typer.Argument(help="Source in mailpulse.toml.")],
    number: Annotated[
        int, typer.Option(help="End after so many requests.", min=1, max=NUMBER_MAX)
    ] = 20,
    minutes: Annotated[
        float, typer.Option(help="End after so long.", min=0.01, max=MINUTES_MAX)
    ] = 10,
    megabytes: Annotated[
        float, typer.Option(help="End before the files are larger than this.", min=0.001, max=1_000)
    ] = 20,
    out: Annotated[
        Path | None, typer.Option(help="New folder. Default: capture-SOURCE-TIME.")
    ] = None,
    config_file: ConfigFile = None,
) -> None:
    """Writes the next requests of a source into files, accepted or refused, for a bug report.

    Addresses, names, ids and secrets are replaced, each by the same stand-in everywhere. A right
    signature is made anew with temporary keys, so 'mailpulse check FILE' still verifies it.
    Ingress goes on as before. It ends by itself, or with Ctrl-C.
    Exit code 1 if no request came.

    Example: mailpulse capture news --number 5
    """
    from ingest.capture_files import Files

    settings = settings_of(config_file=config_file)
    found = source_named(settings, source)
    began = now()
    stamp = datetime.fromtimestamp(began, UTC).strftime("%Y%m%dT%H%M%SZ")
    folder = out or Path(f"capture-{source}-{stamp}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError([f"{folder}: is there already; choose another --out"])
    until = began + minutes * 60
    ends = datetime.fromtimestamp(until, UTC).strftime("%H:%M:%S")
    say(f"Capturing requests of {source}: {number} at most, until {ends} UTC. Ctrl-C ends it.")
    say(FLEET)
    files = Files(folder, int(megabytes * 1_000_000))
    raise typer.Exit(asyncio.run(run(settings, found, files, number, until)))


def register(app: typer.Typer) -> None:
    """Adds the command to ``app``."""
    app.command(rich_help_panel="Set-up")(capture)
