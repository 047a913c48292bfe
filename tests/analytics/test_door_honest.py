"""What real clients and analysts send comes through the door, and means what it meant."""

import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

import chdb
import pytest

from analytics.client import connect
from tests.analytics.corpora import corpus
from tests.analytics.doors import OpenDoor, open_door
from tests.analytics.test_grafana import CLICKHOUSE, expanded, fill, targets
from tests.analytics.test_queries import QUERIES

FORMAT = "TabSeparatedWithNamesAndTypes"
_connect: Callable[[str], Any] = chdb.connect
MOVING = ("freshness", "system.settings")
"""What gives other values a moment later, or in a session with limits."""
HONEST = corpus("honest.yaml")
HONEST += [
    pytest.param({"query": files("analytics").joinpath("queries", file.name).read_text()}, id=name)
    for file in QUERIES
    for name in [file.name]
]
HONEST += [
    pytest.param({"query": expanded(each.values[1]["rawSql"], datetime.now(UTC))}, id=each.id)
    for each in targets(CLICKHOUSE)
]


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenDoor]:
    """A door on a directory that holds one of everything."""
    with open_door(tmp_path_factory.mktemp("door")) as opened:
        owner = connect(opened.settings)
        fill(owner)
        owner.close()
        yield opened


def through(door: OpenDoor, query: str, parameters: dict[str, str]) -> bytes:
    """The answer of the door; an error is its text."""
    asked = urllib.parse.urlencode({"default_format": FORMAT, **parameters})
    request = urllib.request.Request(f"{door.url}/?{asked}", data=query.encode())
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return bytes(answer.read())
    except urllib.error.HTTPError as error:
        return bytes(error.read())


def straight(door: OpenDoor, query: str, parameters: dict[str, str]) -> bytes:
    """The answer of the engine to the same text, with nobody in between."""
    path = door.settings.clickhouse_dsn.get_secret_value().removeprefix("chdb://")
    handle = _connect(path)
    try:
        handle.query("USE mailpulse")
        for name, value in parameters.items():
            if not name.startswith(("param_", "default_format", "client_")):
                handle.query(f"SET {name} = '{value}'")
        bound = {name[6:]: value for name, value in parameters.items() if name.startswith("param_")}
        fmt = parameters.get("default_format", FORMAT)
        return bytes(handle.query(query, fmt, params=bound or None).bytes() or b"")
    finally:
        handle.close()


@pytest.mark.parametrize("honest", HONEST)
def test_honest_queries_have_the_engines_own_result(door: OpenDoor, honest: dict[str, Any]) -> None:
    """Names, types and values of the result are those of the text as it was written."""
    query, parameters = honest["query"], honest.get("parameters", {})
    answers: list[Any] = [ask(door, query, parameters) for ask in (through, straight)]
    if any(name in query for name in MOVING):
        answers = [answer.split(b"\n")[:2] for answer in answers]  # names and types
    assert answers[0] == answers[1]
