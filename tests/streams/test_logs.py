"""Logs: the same from every library, and without secrets or addresses."""

import contextlib
import io
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from schemas.masking import masked
from schemas.settings import Settings
from streams.cli.logs import HIDDEN, configure, redact_text, wants_json


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """The standard library's logging is global: restores what other tests rely on."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def logged(*settings: tuple[str, object]) -> tuple[io.StringIO, structlog.stdlib.BoundLogger]:
    """A configured log and what it writes to."""
    stream = io.StringIO()
    configure(Settings(**dict(settings)), "worker", stream)  # type: ignore[arg-type]
    return stream, structlog.get_logger("test")


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    """The JSON lines written."""
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_both_ways_to_log_come_out_alike() -> None:
    """structlog and the standard library: one JSON object per line, with role, level and time."""
    stream, log = logged()
    log.info("stored", rows=3)
    logging.getLogger("aiokafka.consumer").warning("lag of %s", 7)
    first, second = lines(stream)
    assert (first["event"], first["rows"], first["role"], first["level"]) == (
        "stored", 3, "worker", "info",
    )  # fmt: skip
    assert (second["event"], second["role"], second["level"]) == ("lag of 7", "worker", "warning")
    assert set(first) - {"rows"} == set(second)


def test_secrets_and_addresses_stay_out() -> None:
    """By the field's name, inside texts, in nested values, in messages of other libraries."""
    stream, log = logged()
    log.warning(
        "refused", api_key="k1", headers={"authorization": "k2", "x": "k3"}, body=b"k4",
        url="http://ada:k5@db.example/x", to=["ada@example.com"],
    )  # fmt: skip
    logging.getLogger("other").error("mail to %s failed", "bob@example.org")
    text = stream.getvalue()
    for secret in ("k1", "k2", "k4", "k5", "ada@", "bob@"):
        assert secret not in text
    first, second = lines(stream)
    assert first["headers"] == {"authorization": HIDDEN, "x": "k3"}
    assert first["to"] == ["a***@example.com"]
    assert second["event"] == "mail to b***@example.org failed"


def test_traceback_is_in_the_line_and_redacted() -> None:
    """One line per event, also for errors; an exception's message is treated like any text."""
    stream, log = logged()
    try:
        raise ValueError("no such reader ada@example.com")
    except ValueError:
        log.exception("failed")
    (line,) = lines(stream)
    assert "ValueError" in str(line["exception"])
    assert "ada@" not in stream.getvalue()


def test_chatter_of_libraries_is_dropped_and_their_warnings_are_not() -> None:
    """At INFO only what mailpulse does; at DEBUG everything."""
    stream, _ = logged()
    logging.getLogger("aiokafka").info("joined")
    logging.getLogger("streams.transport.app").info("[^--ChunkThread]: Stopping...")
    logging.getLogger("streams.transport.app").warning("[^--ChunkThread]: late")
    assert [line["event"] for line in lines(stream)] == ["[^--ChunkThread]: late"]


def test_what_any_caller_can_bring_about_is_written_once_a_minute() -> None:
    """Ten thousand bad requests are one line, whatever figures it contains; ours are not
    limited."""
    stream, log = logged()
    for number in range(10_000):
        logging.getLogger("uvicorn.error").warning("Invalid request %s", number)
        logging.getLogger("asyncio").error("socket.accept() out of system resource")
    for _ in range(3):
        logging.getLogger("faust").warning("away")
        log.warning("refused")
    assert [line["event"] for line in lines(stream)] == [
        "Invalid request 0", "socket.accept() out of system resource", *["away", "refused"] * 3,
    ]  # fmt: skip


def test_a_broker_that_is_away_is_named_once_a_minute() -> None:
    """Each broker, however often the client tries."""
    stream, _ = logged()
    for _ in range(50):
        for host in ("k1", "k2"):
            logging.getLogger("aiokafka").error('Unable connect to "%s:%s"', host, 9092)
    assert [line["event"] for line in lines(stream)] == [
        'Unable connect to "k1:9092"', 'Unable connect to "k2:9092"',
    ]  # fmt: skip


def test_format_follows_the_setting_and_else_the_stream() -> None:
    """JSON unless the stream is a terminal."""
    stream = io.StringIO()
    assert wants_json("auto", stream)
    assert wants_json("json", stream)
    assert not wants_json("console", stream)


@given(
    local=st.from_regex(r"[a-z0-9._+-]{1,20}", fullmatch=True),
    domain=st.from_regex(r"[a-z0-9]{1,10}\.[a-z]{2,6}", fullmatch=True),
    around=st.text(alphabet=" <>:;,()'\"", max_size=5),
)
def test_no_address_survives_masking(local: str, domain: str, around: str) -> None:
    """Anywhere in a text; the domain is kept, as it identifies nobody."""
    shown = masked(f"{around}{local}@{domain}{around}")
    assert f"***@{domain}" in shown
    assert len(local) == 1 or f"{local}@" not in shown


@given(st.text(max_size=200))
def test_masking_is_stable(text: str) -> None:
    """Masking again changes nothing, and no text makes it fail."""
    once = redact_text(text)
    assert redact_text(once) == once


@pytest.fixture
def full_disk() -> Iterator[TextIO]:
    """A log's file on a disk without room."""
    full = Path("/dev/full").open("w", encoding="utf-8", buffering=1)
    yield full
    with contextlib.suppress(OSError):
        full.close()


@pytest.mark.parametrize("way", ["structlog", "logging"])
@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_line_for_a_full_disk_is_dropped(full_disk: TextIO, way: str, log_format: str) -> None:
    """No caller sees an error, however long the lines and how many."""
    configure(Settings.model_validate({"log_format": log_format}), "worker", full_disk)
    log = structlog.get_logger("test") if way == "structlog" else logging.getLogger("test")
    for length in (1, 10, 1_000, 100_000):
        log.warning("x" * length)


def test_a_line_for_a_closed_pipe_is_dropped() -> None:
    """Who read the log has gone; then the stream itself is closed."""
    reader, writer = os.pipe()
    pipe = os.fdopen(writer, "w", encoding="utf-8", buffering=1)
    configure(Settings(), "worker", pipe)
    os.close(reader)
    structlog.get_logger("test").warning("nobody reads")
    with contextlib.suppress(OSError):
        pipe.close()
    structlog.get_logger("test").warning("closed")
