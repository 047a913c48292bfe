"""Copies of published networks: what is believed, what is written, and what is noted."""

import json
import time
from collections.abc import Iterator
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest

from schemas.errors import Unavailable
from streams.classify.actor_rules import Rules
from streams.classify.snapshots import MICROSOFT, published
from streams.cli import addresses, fleet_report
from streams.cli.addresses import fetch
from streams.cli.published_networks import (
    COMPARED_FILE,
    compare,
    days_compared,
    note_compared,
)

SHIPPED = files("streams.classify.tables").joinpath("machines.toml").read_text("utf-8")
RULE = next(rule for rule in Rules.load(SHIPPED).networks if rule.reason == MICROSOFT)
COPY = [str(network) for network in RULE.networks]
TODAY = date(2026, 12, 24)


def sets(nine: list[Any], ten: list[Any], **more: Any) -> str:
    """Microsoft's list; the first set carries people."""
    people = {"id": 1, "ips": ["13.107.6.152/31", "0.0.0.0/0"]}
    return json.dumps([people, {"id": 9, "ips": nine}, {"id": 10, "ips": ten, **more}])


def test_the_same_networks_in_another_order_change_nothing() -> None:
    """The day is noted, and nothing is written."""
    lines, same, made = compare(SHIPPED, TODAY, lambda _page: sets(COPY[3:][::-1], COPY[:4]))
    assert (same, made) == ({MICROSOFT}, None)
    assert lines == [f"{MICROSOFT}: all {len(COPY)} are what is published"]


def test_other_networks_make_a_rules_file_and_leave_all_else_of_it() -> None:
    """With what is new and gone, the day, and the next version."""
    now = [*COPY[1:4], "198.51.100.0/24"]
    lines, same, made = compare(SHIPPED, TODAY, lambda _page: sets(now, COPY[4:]))
    assert made is not None
    assert same == set()
    assert f"{MICROSOFT}: new: 198.51.100.0/24" in lines
    assert f"{MICROSOFT}: no longer published: {COPY[0]}" in lines
    before, after = Rules.load(SHIPPED), Rules.load(made)
    assert after.version == before.version + 1
    (changed,) = (rule for rule in after.networks if rule.reason == MICROSOFT)
    assert {str(network) for network in changed.networks} == {*now, *COPY[4:]}
    assert changed.read_on == TODAY
    assert changed.events == {"clicked"}
    others = [rule for rule in after.networks if rule is not changed]
    assert others == [rule for rule in before.networks if rule != RULE]
    assert compare(made, TODAY, lambda _page: sets(now, COPY[4:]))[2] is None
    kept = {line for line in SHIPPED.splitlines() if line.startswith("#")}
    assert kept <= set(made.splitlines())


@pytest.mark.parametrize(
    "page",
    [
        "<html>", "{}", "[1]", "[]", sets([], COPY), sets(COPY, ["0.0.0.0/0"]),
        sets(COPY, ["10.0.0.0/8"]), sets(COPY, ["here"]), sets(COPY, [None]), sets(COPY, [{}]),
        sets(["2a01::/16"], COPY), json.dumps([{"id": 9, "ips": "x"}, {"id": 10, "ips": COPY}]),
        "[" * 100_000, json.dumps([{"id": [9], "ips": COPY}, {"id": {}, "ips": COPY}]),
        sets(["192.0.2.1"] * 1_001, COPY), sets([3_232_235_776], COPY), sets(["x" * 9_999], COPY),
    ],
)  # fmt: skip
def test_what_is_not_the_list_is_refused_whole(page: str) -> None:
    """A whole cloud, an empty set, or another page."""
    with pytest.raises(ValueError, match=r"."):
        published(page)
    with pytest.raises(Unavailable, match="not compared"):
        compare(SHIPPED, TODAY, lambda _page: page)


def test_a_page_that_does_not_answer_is_an_error() -> None:
    """Nothing is noted."""

    def away(_page: str) -> str:
        raise httpx.ConnectError("no")

    with pytest.raises(Unavailable, match="ConnectError"):
        compare(SHIPPED, TODAY, away)


def test_a_note_that_can_not_be_read_is_none(tmp_path: Path) -> None:
    """And noting one copy keeps the days of others."""
    for damaged in (b"\xff", b"[1]", b'{"a": 3}', b'{"a": "soon"}', b"[" * 100_000):
        (tmp_path / COMPARED_FILE).write_bytes(damaged)
        assert days_compared(tmp_path) == {}
    note_compared(tmp_path / "new", {"a"}, date(2026, 1, 1))
    note_compared(tmp_path / "new", {"b"}, TODAY)
    assert days_compared(tmp_path / "new") == {"a": date(2026, 1, 1), "b": TODAY}


def test_a_copy_is_stale_once_it_was_not_compared_for_long() -> None:
    """The later of its own day and of the day it was compared counts."""
    assert RULE.read_on is not None
    told = fleet_report.snapshot(RULE, date(2027, 6, 1))
    assert (told["stale"], told["read_on"]) == (True, RULE.read_on.isoformat())
    told = fleet_report.snapshot(RULE, date(2027, 6, 1), date(2027, 5, 30))
    assert (told["stale"], told["days"]) == (False, 2)


@pytest.fixture
def drip() -> Iterator[str]:
    """A server that sends a byte of its header now and then, for ever."""

    class Drip(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            try:
                while True:
                    self.wfile.write(b"H")
                    time.sleep(0.05)
            except OSError:
                return

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Drip)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_server_that_drips_holds_nothing_up(drip: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The deadline is that of the whole answer."""
    monkeypatch.setattr(addresses, "FETCH_S_MAX", 0.3)
    with pytest.raises(httpx.ReadTimeout, match="no whole answer"):
        fetch(drip)
