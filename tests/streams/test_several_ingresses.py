"""Several ingress processes count for themselves: stored, they say what one would have said."""

import random
import time
from collections.abc import Iterator
from uuid import UUID

import pytest

from ingest.request_counts import RequestCounts
from schemas.codec import AvroRecord, Codec
from schemas.topics import SOURCE_REQUESTS
from streams.books import watch
from tests.analytics.scenario import Sent
from tests.contracts.warehouse import Warehouse
from tests.warehouses import migrated_warehouse

CODEC = Codec()
INTERVAL_US = 60_000_000
START_US = (int(time.time()) - 3 * 3_600) * 1_000_000
REFUSED = ("unauthorized", "bad_signature")


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    """A migrated database."""
    with migrated_warehouse(tmp_path_factory.mktemp("ingresses")) as (warehouse, client):
        yield Warehouse(warehouse.settings, client)


def _published(
    dice: random.Random, requests: list[tuple[int, bool]], processes: int
) -> list[AvroRecord]:
    """What processes publish of requests, each answered by one of them, which end their minutes
    at seconds of their own and start anew now and then; some of it twice, in any order."""
    counts = [
        RequestCounts(UUID(int=dice.getrandbits(128)).hex, "plain", START_US)
        for _ in range(processes)
    ]
    ends = [START_US + dice.randrange(INTERVAL_US) for _ in counts]
    sent: list[AvroRecord] = []
    for at, is_accepted in [*requests, (requests[-1][0] + 2 * INTERVAL_US, None)]:
        for number, mine in enumerate(counts):
            while ends[number] < at:
                sent += mine.records(ends[number])
                mine.acknowledged()
                ends[number] += INTERVAL_US
                if not dice.randrange(30):
                    name = UUID(int=dice.getrandbits(128)).hex
                    counts[number] = mine = RequestCounts(name, "plain", ends[number])
        if is_accepted is not None:
            result = ("accepted", "") if is_accepted else REFUSED
            dice.choice(counts).add("news", *result, at)
    sent += [one for one in sent if not dice.randrange(3)]
    dice.shuffle(sent)
    return sent


@pytest.mark.parametrize("seed", range(12))
def test_a_rotated_key_is_told_by_what_several_processes_stored(
    warehouse: Warehouse, seed: int
) -> None:
    """Accepted until then, with a few refused, and refused since: both times, to a minute."""
    dice = random.Random(seed)
    rotated_us = START_US + 40 * INTERVAL_US + dice.randrange(INTERVAL_US)
    requests = []
    at = START_US
    while at < rotated_us + 40 * INTERVAL_US:
        at += dice.randrange(1, 30_000_000)
        requests.append((at, at < rotated_us and bool(dice.randrange(4))))
    accepted = max(at for at, is_accepted in requests if is_accepted)
    since = [at for at, is_accepted in requests if not is_accepted and at > accepted]
    warehouse.client.command("TRUNCATE TABLE source_requests")
    sent = [
        Sent(SOURCE_REQUESTS, 0, number, one["ended_at"] // 1_000, b"news",
             CODEC.encode("source_requests", one))
        for number, one in enumerate(_published(dice, requests, seed % 4 + 1))
    ]  # fmt: skip
    half = len(sent) // 2
    assert warehouse.load(sent[:half]) == []
    assert warehouse.load(sent[half:]) == []
    assert warehouse.rows(watch.ACCEPTED) == [("news", accepted)]
    [(source, result, reason, count, first, last, _, _)] = warehouse.rows(watch.REFUSED)
    assert (source, result, reason, last) == ("news", *REFUSED, since[-1])
    assert since[0] <= first <= since[0] + INTERVAL_US
    sure = [at for at in since if at > accepted + INTERVAL_US]
    assert len(sure) <= count <= len(since)
    stored = warehouse.rows("SELECT sum(requests) FROM source_requests FINAL")
    assert stored == [(len(requests),)]
