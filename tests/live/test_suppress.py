"""Suppressions to providers on real Kafka: killed under load, to replicas that fail."""

import asyncio
import json
import os
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from schemas import topics
from schemas.codec import Codec
from schemas.scopes import scoped_key
from streams.deliver.suppress.changes import REASONS, Suppressed
from streams.deliver.suppress.providers import PROVIDERS
from tests import builders
from tests.live.delivering import DeliverProcess, Record, produce
from tests.live.fixtures import or_skip
from tests.live.kafka import Kafka, create_mailpulse_topics
from tests.streams.provider_replicas import Ses
from tests.streams.replica_server import Fault, ReplicaServer, serving_beside
from tests.streams.test_suppress_providers import PLACES, REPLICAS, Contents, contents

KILLS = int(os.environ.get("MAILPULSE_TEST_KILLS", "2"))
"""The full proof takes 100."""
RECORDS_PER_KILL = 400
ADDRESSES = 60
TABLE = """
[destinations.{name}-{run}]
kind = "suppress:{name}"
key = "env:KEY_{name}"
url = "{url}"
allow_networks = "127.0.0.1"
lifts = "all"
timeout_s = 1.0
rate_per_s = 500
{settings}
[destinations.{name}-{run}.scopes.mailer]
"tag:news" = "{place}"
"""
SETTINGS = {
    "sendgrid": "", "mailgun": 'domains = "a.example"', "postmark": 'streams = "outbound"',
    "sparkpost": "", "ses": f'region = "{Ses.region}"\nkey_id = "env:KEY_ID"',
}  # fmt: skip


@pytest.fixture(scope="module")
def bootstrap() -> Iterator[str]:
    """One broker with mailpulse's topics for this file."""
    with or_skip(Kafka) as broker:
        create_mailpulse_topics(broker.bootstrap)
        yield broker.bootstrap


def held(server: ReplicaServer) -> Contents:
    """What its lists hold; its thread may be changing them."""
    while True:
        try:
            return contents(server.replica)
        except RuntimeError:  # changed during iteration
            time.sleep(0.001)


def table(name: str, server: ReplicaServer, run: str, more: str = "dry_run = false") -> str:
    """A destination that writes to a replica."""
    settings = f"{SETTINGS[name]}\n{more}"
    return TABLE.format(name=name, run=run, url=server.url, settings=settings,
                        place=PLACES[name][1])  # fmt: skip


def process_of(bootstrap: str, folder: Path, tables: Sequence[str]) -> DeliverProcess:
    """The role with these destinations."""
    process = DeliverProcess(bootstrap, folder, "".join(tables))
    replicas: dict[str, Any] = {name: REPLICAS[name]() for name in PROVIDERS}
    for name, replica in replicas.items():
        key = replica.secret if isinstance(replica, Ses) else replica.key
        process.environ[f"KEY_{name}"] = key
    process.environ["KEY_ID"] = Ses.key_id
    return process


def told(number: int, dice: random.Random, run: str) -> Suppressed:
    """The ``number``-th change: of all mail to an address, or of a scope; every third is a lift."""
    address = f"{run}{dice.randrange(ADDRESSES)}@example.com"
    scope = dice.choice(["", "", "tag:news", "tag:unmapped"])
    reason = dice.choice(["", *REASONS[:2], *REASONS])
    return Suppressed(address, "mailer" if scope or reason else "", scope, reason, number)


def record_of(one: Suppressed, number: int) -> Record:
    """As the worker writes it."""
    topic = topics.SCOPED_SUPPRESSIONS if one.scope else topics.SUPPRESSIONS
    key = scoped_key(one.recipient, one.source, one.scope) if one.scope else one.recipient
    if not one.reason:
        return topic, key.encode(), None, f"lift-{number}"
    value = builders.record(
        "suppression", recipient=one.recipient, reason=one.reason, scope=one.scope or None,
        source=one.source, since=builders.RECEIVED_AT, evidence_event_id=f"e{number}",
        offset=number,
    )  # fmt: skip
    return topic, key.encode(), Codec().encode("suppression", value), f"set-{number}"


def expected(name: str, records: Sequence[Suppressed]) -> Contents:
    """What the lists should hold, by the last change of each entry; without the code under test."""
    whole, scoped = PLACES[name]
    lists = {reason: PROVIDERS[name].defaults.get(reason, ()) for reason in REASONS}
    found: Contents = set()
    for one in records:
        if one.scope == "tag:unmapped":
            continue
        place = scoped if one.scope else whole
        if not one.reason:
            found = {entry for entry in found if entry[1:] != (place, one.recipient)}
        elif name == "ses" and lists[one.reason]:  # one entry, whose reason is replaced
            found = {entry for entry in found if entry[1:] != (place, one.recipient)}
            found.add((lists[one.reason][0], place, one.recipient))
        else:
            found |= {(listed, place, one.recipient) for listed in lists[one.reason]}
    return found


FAULTS = [
    Fault(500), Fault(502, applied=1), Fault(500, applied=None), Fault(0, applied=None), Fault(0),
    Fault(429, headers=(("retry-after", "1"),)), Fault(hang=True, applied=None),
]  # fmt: skip
"""Every twelfth call fails by one of them."""


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_under_load_each_list_is_what_the_records_say(
    bootstrap: str, tmp_path: Path
) -> None:
    """SIGKILL and failing providers: the lists are exact, and a dry run beside makes no call."""
    dice = random.Random(11)
    records: list[Suppressed] = []
    with ExitStack() as stack:
        servers = {
            name: stack.enter_context(serving_beside(REPLICAS[name]())) for name in PROVIDERS
        }
        dry = stack.enter_context(serving_beside(REPLICAS["sendgrid"]()))
        tables = [table(name, server, "kill") for name, server in servers.items()]
        tables.append(table("sendgrid", dry, "dry", ""))
        for server in servers.values():
            server.faults.extend(dice.choice(FAULTS) if dice.random() < 1 / 12 else None
                                 for _ in range(150 * KILLS))  # fmt: skip
        process = process_of(bootstrap, tmp_path, tables)
        for _ in range(KILLS):
            made = [told(len(records) + n, dice, "kill") for n in range(RECORDS_PER_KILL)]
            numbered = [record_of(one, len(records) + n) for n, one in enumerate(made)]
            records += made
            asyncio.run(produce(bootstrap, numbered))
            before = sum(len(server.calls) for server in servers.values())
            with process:
                some = before + dice.randrange(5, 60)
                process.wait_for(partial(has_calls, list(servers.values()), some), "some calls")
                time.sleep(dice.random() * 1.5)  # so that some commits come before the kill
                process.kill()

        wanted = {name: expected(name, records) for name in servers}

        def all_there() -> bool:
            return all(held(server) == wanted[name] for name, server in servers.items())

        with process:
            process.wait_for(process.is_ready, "ready")
            process.wait_for(all_there, "every list", 300.0)
            process.wait_for(lambda: is_drained(process), "the end of what is repeated", 300.0)
            assert process.stop() == 0
        for name, server in servers.items():
            assert held(server) == wanted[name]
            assert len(wanted[name]) > 10
            assert server.failed >= KILLS, f"{name} hardly failed"
        assert dry.calls == []


def test_a_dry_run_that_ends_writes_what_it_had_only_counted(
    bootstrap: str, tmp_path: Path
) -> None:
    """It had a consumer group of its own."""
    records = [Suppressed(f"dry{n}@example.com", "mailer", "", "unsubscribe") for n in range(50)]
    with serving_beside(REPLICAS["sendgrid"]()) as server:
        asyncio.run(produce(bootstrap, [record_of(one, n) for n, one in enumerate(records)]))
        with process_of(bootstrap, tmp_path, [table("sendgrid", server, "ends", "")]) as process:
            process.wait_for(lambda: counted(process, "would_put") >= 50, "the dry run")
            assert "dry run" in process.command("deliver", "ls")
            assert process.stop() == 0
        assert server.calls == []
        with process_of(bootstrap, tmp_path, [table("sendgrid", server, "ends")]) as process:
            ours = {("unsubscribes", "", one.recipient) for one in records}
            process.wait_for(lambda: ours <= held(server), "the lists")
            process.wait_for(lambda: counted(process, "put") >= 50, "the count")
            assert process.stop() == 0


def has_calls(servers: Sequence[ReplicaServer], number: int) -> bool:
    """Whether so many calls have arrived."""
    return sum(len(one.calls) for one in servers) >= number


def is_drained(process: DeliverProcess) -> bool:
    """Whether everything is delivered and committed: repeats make lists older for a moment."""
    time.sleep(1.0)
    rows = json.loads(process.command("deliver", "ls", "--json"))
    return all(row["lag"] == 0 for row in rows)


def counted(process: DeliverProcess, result: str) -> float:
    """Suppressions with this result, of all destinations."""
    if not process.is_ready():
        return 0.0
    start = "mailpulse_deliver_suppressions_total{"
    lines = [line for line in process.metrics() if line.startswith(start)]
    return sum(float(line.split()[-1]) for line in lines if f'result="{result}"' in line)
