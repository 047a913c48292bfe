"""Requests by result: stored once however often they are told, and recounted by the view."""

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from time import time
from typing import Any
from uuid import UUID

import pytest

from analytics.cluster import for_cluster
from analytics.migrate import load
from analytics.sql import statements
from schemas.codec import Codec
from schemas.topics import SOURCE_REQUESTS
from tests.analytics.scenario import Sent
from tests.contracts.warehouse import Warehouse
from tests.warehouses import migrated_warehouse

CODEC = Codec()
S = 1_000_000
DAY = 86_400 * S
SLOT = 300 * S
FRUITFUL = ("accepted", "empty", "probe", "disconnected")
Told = dict[str, Any]


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    """A migrated database."""
    with migrated_warehouse(tmp_path_factory.mktemp("requests")) as (opened, client):
        yield Warehouse(opened.settings, client)


def told(
    source: str, began: int, *results: tuple[str, str, int, int, int], ingress: int = 1,
    sequence: int = 1,
) -> Told:  # fmt: skip
    """A record; ``results``: result, reason, requests, first and last time."""
    names = ("result", "reason", "requests", "first_at", "last_at")
    return {
        "ingress": f"{ingress:032x}", "sequence": sequence, "source": source, "began_at": began,
        "ended_at": began + 60 * S, "recipients": "plain",
        "results": [dict(zip(names, one, strict=True)) for one in results],
    }  # fmt: skip


def _store(warehouse: Warehouse, records: Sequence[Told]) -> None:
    sent = [
        Sent(SOURCE_REQUESTS, 0, number, 1_000, b"k", CODEC.encode("source_requests", one))
        for number, one in enumerate(records)
    ]
    assert warehouse.load(sent) == []


def _refusals(warehouse: Warehouse) -> list[tuple[Any, ...]]:
    sql = (
        "SELECT source, result, reason, requests, toUnixTimestamp64Micro(since),"
        " toUnixTimestamp64Micro(until), slots, before, toUnixTimestamp64Micro(accepted_until)"
        " FROM source_refusals ORDER BY source, result, reason"
    )
    return warehouse.rows(sql)


def _recount(records: Sequence[Told]) -> list[tuple[Any, ...]]:
    """What the view promises, record by record."""
    once = {(one["ingress"], one["sequence"], one["source"]): one for one in records}
    accepted: dict[str, int] = defaultdict(int)
    for one in once.values():
        for each in one["results"]:
            if each["result"] == "accepted":
                accepted[one["source"]] = max(accepted[one["source"]], each["last_at"])
    found: dict[tuple[str, str, str], list[Told]] = defaultdict(list)
    before: dict[tuple[str, str, str], int] = defaultdict(int)
    for one in once.values():
        until = accepted[one["source"]]
        for each in one["results"]:
            key = (one["source"], each["result"], each["reason"])
            if each["result"] in FRUITFUL:
                continue
            if each["last_at"] > until:
                found[key].append(each)
            elif each["last_at"] > until - DAY:
                before[key] += each["requests"]
    rows = []
    for key, some in sorted(found.items()):
        until = accepted[key[0]]
        starts = [e["first_at"] if e["first_at"] > until else e["last_at"] for e in some]
        number = sum(e["requests"] if e["first_at"] > until else 1 for e in some)
        slots = {at // SLOT for at in (*starts, *(e["last_at"] for e in some))}
        rows.append((*key, number, min(starts), max(e["last_at"] for e in some), len(slots),
                     before[key], until or None))  # fmt: skip
    return rows


@pytest.mark.parametrize("seed", range(8))
def test_the_view_equals_a_recount_and_nothing_counts_twice(
    warehouse: Warehouse, seed: int
) -> None:
    """Over several processes, restarts, records told again, and clocks that are set back."""
    warehouse.client.command("TRUNCATE TABLE source_requests")
    draw = random.Random(seed)
    now = int(time()) * S
    kinds = [
        ("accepted", ""), ("empty", ""), ("unauthorized", "bad_signature"), ("unreadable", ""),
        ("unauthorized", "stale_timestamp"), ("forbidden", ""), ("not_found", ""),
    ]  # fmt: skip
    records = []
    for ingress in range(3):
        for sequence in range(1, 40):
            for source in ("news", "shop", ""):
                if draw.random() < 0.6:
                    continue
                began = now - draw.randrange(3 * DAY)
                some = draw.sample(kinds[source == "" :], draw.randint(1, 3))
                results = []
                for kind in some:
                    first = began + draw.randrange(60 * S)
                    results.append((*kind, draw.randint(1, 9), first,
                                    first + draw.randrange(60 * S)))  # fmt: skip
                records.append(told(source, began, *results, ingress=ingress, sequence=sequence))
    again = draw.choices(records, k=40)
    _store(warehouse, records)
    _store(warehouse, again)
    assert _refusals(warehouse) == _recount([*records, *again])
    total = "SELECT sum(requests) FROM source_requests FINAL"
    expected = sum(each["requests"] for one in records for each in one["results"])
    assert warehouse.rows(total) == [(expected,)]


def test_a_rotated_key_is_seen_with_both_times(warehouse: Warehouse) -> None:
    """Accepted until 14:02, refused from 14:03 on, by two processes of ingress."""
    warehouse.client.command("TRUNCATE TABLE source_requests")
    at = (int(time()) - 3_600) * S
    refused = [
        told("news", at + minute * 60 * S,
             ("unauthorized", "bad_signature", 2, at + minute * 60 * S, at + minute * 60 * S + S),
             ingress=minute % 2, sequence=minute)
        for minute in range(1, 21)
    ]  # fmt: skip
    wrong = ("unauthorized", "bad_signature", 7, at + S, at + 9 * S)
    mixed = told("news", at, ("accepted", "", 5, at, at + 2 * S), wrong, sequence=100)
    _store(warehouse, [mixed, *refused])
    [row] = _refusals(warehouse)
    assert row == ("news", "unauthorized", "bad_signature", 41, at + 9 * S, at + 1_201 * S, row[6],
                   0, at + 2 * S)  # fmt: skip
    assert row[6] in (4, 5)


def test_new_columns_reach_the_tables_of_a_cluster() -> None:
    """The local one first: the one in front reads it."""
    every = [one for step in load() for one in statements(step.text) if "ADD COLUMN" in one]
    assert every
    for statement in every:
        local, front = for_cluster(statement, "main")
        name = statement[statement.index("ALTER TABLE ") :].split()[2]
        assert f"ALTER TABLE {name}_local ON CLUSTER 'main'" in local
        assert f"ALTER TABLE {name} ON CLUSTER 'main'" in front
        assert local.replace("_local", "", 1) == front


def test_the_process_is_an_identity(warehouse: Warehouse) -> None:
    """Counts of two processes in one second are two rows."""
    warehouse.client.command("TRUNCATE TABLE source_requests")
    at = int(time()) * S
    one = [told("news", at, ("forbidden", "", 3, at, at), ingress=n) for n in range(2)]
    _store(warehouse, one)
    assert warehouse.rows("SELECT ingress, requests FROM source_requests FINAL ORDER BY 1") == [
        (UUID(int=0), 3), (UUID(int=1), 3),
    ]  # fmt: skip
