"""The corpus of attacks against a real listener: each is refused, and nothing outside is
touched."""

import socket
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from analytics.door.denied import Denied
from analytics.door.encodings import encoded
from analytics.door.judge import Statement, judge
from analytics.door.surroundings import Surroundings
from analytics.warehouse.engine import JUDGED_CHARACTERS_MAX
from tests.analytics.canaries import SECRET, Canaries, canaries
from tests.analytics.corpora import corpus
from tests.warehouses import OpenWarehouse as OpenDoor
from tests.warehouses import migrated_warehouse

ATTACKS = corpus("attacks.yaml")
REFUSALS = ("48", "62", "73", "81", "115", "164", "167", "306", "497", "718")
"""Codes of ClickHouse's that the judge, its parser and the door refuse with."""


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenDoor]:
    """A door on a migrated directory."""
    with migrated_warehouse(tmp_path_factory.mktemp("door")) as (opened, _):
        yield opened


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Canaries]:
    """Canaries outside of it."""
    with canaries(tmp_path_factory.mktemp("canaries")) as set_out:
        yield set_out


def sent(door: OpenDoor, attack: dict[str, Any], watched: Canaries) -> tuple[int, str, str]:
    """Status, ClickHouse's code and text of the answer."""
    asked = {"query": attack["query"]} if "query" in attack else {}
    asked |= attack.get("parameters", {})
    filled = {watched.filled(k): watched.filled(str(v)) for k, v in asked.items()}
    body = watched.filled(attack["body"]).encode() if "body" in attack else None
    headers = dict(attack.get("headers", {}))
    if body and "encoding" in attack:
        headers["Content-Encoding"] = attack["encoding"]
        body = encoded(body, attack["encoding"])
    # a long query goes into the body, since addresses are bounded much below it
    if body is None and len(filled.get("query", "")) > 4096:
        body = filled.pop("query").encode()
    request = urllib.request.Request(
        f"{door.url}/?{urllib.parse.urlencode(filled)}", data=body, headers=headers
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, "0", answer.read().decode("utf-8", "replace")
    except urllib.error.HTTPError as error:
        code = error.headers.get("x-clickhouse-exception-code", "")
        return error.code, code, error.read().decode("utf-8", "replace")


@pytest.mark.parametrize("attack", ATTACKS)
def test_attacks_are_refused(door: OpenDoor, watched: Canaries, attack: dict[str, Any]) -> None:
    """By the judge or by ClickHouse's parser, with a message, and before anything is touched."""
    status, code, text = sent(door, attack, watched)
    assert watched.touched() == []
    assert SECRET not in text
    assert status >= 400, text
    assert code in ([str(attack["code"])] if "code" in attack else REFUSALS), text


def test_canaries_notice_access(watched: Canaries) -> None:
    """A read, a write and a connection are each detected: otherwise the corpus would prove
    nothing."""
    assert watched.file.read_text().strip() == SECRET
    assert any("canary.csv" in event for event in watched.touched())
    (watched.folder / "made").write_text("x")
    assert any("made" in event for event in watched.touched())
    socket.create_connection(("127.0.0.1", watched.port)).close()
    assert any("connection" in event for event in watched.touched())
    (watched.folder / "made").unlink()
    watched.touched()


def test_the_watchdog_waits_for_the_engine_alone(
    door: OpenDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slow judging on a busy machine is not mistaken for a query that can't be killed."""
    seen: list[int] = []

    def slow(canonical: str, around: Surroundings) -> Statement:
        seen.append(len(door.engine.watch.running()))
        return judge(canonical, around)

    monkeypatch.setattr("analytics.warehouse.engine.judge", slow)
    assert door.engine.judge("SELECT 1 FORMAT CSV").format == "CSV"
    assert seen == [0]


def test_a_text_that_comes_again_is_not_judged_again(door: OpenDoor) -> None:
    """What was allowed is remembered, what was refused is judged each time, long texts as well."""
    engine = door.engine
    short, long = "SELECT 2 FORMAT CSV", f"SELECT '{'x' * JUDGED_CHARACTERS_MAX}'"
    assert engine.judge(short) is engine.judge(short)
    assert engine.judge(long) is not engine.judge(long)
    assert engine.judge(long) == engine.judge(long)
    for _ in range(2):
        with pytest.raises(Denied):
            engine.judge("SELECT * FROM file('/etc/passwd')")
