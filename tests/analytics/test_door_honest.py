"""What real clients and analysts send is accepted, and gives the same results."""

import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

import pytest

from analytics.warehouse.access import READER
from analytics.warehouse.engine import Job
from analytics.warehouse.protocol import query_parameters, settings_among
from tests.analytics.corpora import corpus
from tests.analytics.test_grafana import CLICKHOUSE, expanded, fill, targets
from tests.analytics.test_queries import QUERIES
from tests.warehouses import OpenWarehouse as OpenDoor
from tests.warehouses import migrated_warehouse

FORMAT = "TabSeparatedWithNamesAndTypes"
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
    """A listener on a database with one of everything."""
    with migrated_warehouse(tmp_path_factory.mktemp("door")) as (opened, owner):
        fill(owner)
        yield opened


def through(door: OpenDoor, query: str, parameters: dict[str, str]) -> bytes:
    """The listener's answer; an error is its text."""
    asked = urllib.parse.urlencode({"default_format": FORMAT, **parameters})
    request = urllib.request.Request(f"{door.url}/?{asked}", data=query.encode())
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return bytes(answer.read())
    except urllib.error.HTTPError as error:
        return bytes(error.read())


def straight(door: OpenDoor, query: str, parameters: dict[str, str]) -> bytes:
    """The engine's answer to the same query of a reader, without the listener."""
    job = Job(
        query,
        parameters.get("default_format", FORMAT),
        parameters=query_parameters(parameters),
        settings=settings_among(parameters),
    )
    with door.engine._session(job, job.settings, 60) as handle:
        handle.query(f"SET ROLE {READER}")
        handle.query("SET final = 1, max_threads = 1")
        return bytes(door.engine._answer(handle, job).content)


@pytest.mark.parametrize("honest", HONEST)
def test_honest_queries_have_the_engines_own_result(door: OpenDoor, honest: dict[str, Any]) -> None:
    """Names, types and values of the result are those of the query as written."""
    query, parameters = honest["query"], honest.get("parameters", {})
    answers: list[Any] = [ask(door, query, parameters) for ask in (through, straight)]
    if any(name in query for name in MOVING):
        answers = [answer.split(b"\n")[:2] for answer in answers]  # names and types
    assert answers[0] == answers[1]
