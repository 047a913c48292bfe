"""The demo's simulator: its events are what it says, and its ledger is correct.

The most important test runs simulated traffic, shuffled, repeated and reordered, through the real
provider modules and the real ``step``, and compares the counts with the ledger's own recount.
"""

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ingest.providers import generic, postmark, resend, sendgrid, sparkpost
from ingest.providers.base import Provider, Request
from ingest.verify import SignatureError
from schemas.codec import Codec
from schemas.event import Event
from schemas.glossary import COUNTER_NAMES
from schemas.settings import Source, load_sources
from streams.enrich.derive import LookUps
from streams.enrich.shard import Shard
from streams.enrich.step import step
from streams.simulation.accepted import AcceptedOnDisk
from streams.simulation.accounts import Accounts, open_accounts
from streams.simulation.ledger import (
    Compared,
    Ledger,
    compare_events,
    count_message,
    differences,
    identity,
    recount,
)
from streams.simulation.senders import Wire
from streams.simulation.simulator import MACHINE, PLANS, SCANNER, Happening, Simulator
from streams.simulation.traffic import STEP_S_MAX, Traffic

NOW = 1_795_000_000.0
PROVIDERS: dict[str, Provider] = {
    "news": sendgrid.PROVIDER,
    "transactional": postmark.PROVIDER,
    "crm": generic.PROVIDER,
    "partner": sparkpost.PROVIDER,
    "app": resend.PROVIDER,
}


@pytest.fixture(scope="module")
def accounts() -> Accounts:
    """Accounts with fresh keys."""
    return open_accounts()


def sources_of(accounts: Accounts) -> dict[str, Source]:
    """The sources as the ingress would load them."""

    def no_file(path: object) -> str:
        raise AssertionError(f"no file is needed: {path}")

    return load_sources(accounts.toml, accounts.environ, no_file)


def traffic(seed: int, seconds: float = 3.0, rate: float = 400.0) -> list[Happening]:
    """Everything that a run reports, in order."""
    simulator = Simulator("5eed00", rate, NOW, random.Random(seed))
    events = simulator.advance(seconds)
    return events + simulator.finish()


def request(wire: Wire) -> Request:
    """A request as ingress passes it to a provider."""
    return Request("POST", "", tuple(wire.headers.items()), wire.body, "127.0.0.1")


def received(accounts: Accounts, events: Iterable[Happening]) -> list[Event]:
    """The events as ingress understands them, each request verified."""
    sources = sources_of(accounts)
    out: list[Event] = []
    for event in events:
        sender = accounts.senders[event.source]
        call = request(sender.sign(sender.items([event]), NOW))
        PROVIDERS[event.source].verify(call, sources[event.source], NOW, {})
        parsed = PROVIDERS[event.source].parse(call, sources[event.source], int(NOW * 1e6))
        assert not parsed.rejects, parsed.rejects
        out += parsed.events
    return out


@dataclass(frozen=True)
class Record:
    """A raw record as the step reads it."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None


def counted(events: list[Event]) -> dict[str, Counter[str]]:
    """Campaign -> counter -> value, by the streams' own step on one partition."""
    codec = Codec()
    shard = Shard(0, lambda keys: [None] * len(keys))
    shard.begin_log("log")
    records = [
        Record(offset, int(NOW * 1000), None, codec.encode("raw_event", event))
        for offset, event in enumerate(events)
    ]
    step(shard, records, LookUps(), codec)
    campaigns: dict[str, Counter[str]] = {}
    for (campaign, _mailbox, _minute), vector in shard.minutes.changed():
        totals = campaigns.setdefault(campaign, Counter())
        totals.update(dict(zip(COUNTER_NAMES, vector, strict=True)))
    return campaigns


@pytest.mark.parametrize("seed", [1, 2])
def test_every_event_is_understood_as_it_was_meant(accounts: Accounts, seed: int) -> None:
    """Through five providers' formats type, time, message, campaign and client are preserved."""
    events = traffic(seed)
    assert {event.source for event in events} == set(PROVIDERS)
    for event, got in zip(events, received(accounts, events), strict=True):
        assert (got["event_type"], got["message_id"]) == (event.kind, event.message_id), event
        assert got["occurred_at"] == event.at_s * 1_000_000, event
        assert got["campaign_id"] == (event.campaign if event.told else None), event
        assert got["recipient"] == event.recipient
        if event.kind in ("opened", "clicked"):
            assert (got["user_agent"], got["ip"]) == (event.user_agent, event.ip)
            assert got["click_url"] == (event.url or None)


def test_events_are_different_and_repeats_are_the_same(accounts: Accounts) -> None:
    """Ingress gives each event one identity, and the same when it is repeated."""
    events = traffic(3)
    once, again = received(accounts, events), received(accounts, events)
    assert len({event["event_id"] for event in once}) == len(events)
    assert [event["event_id"] for event in once] == [event["event_id"] for event in again]
    assert len({identity(event) for event in events}) == len(events)


@pytest.mark.parametrize("seed", range(4))
def test_the_streams_agree_with_the_ledger_in_any_order(accounts: Accounts, seed: int) -> None:
    """Shuffled, with every fifth event twice: each counter of each campaign equals the recount."""
    events = traffic(seed)
    dice = random.Random(seed)
    arrivals = received(accounts, events + events[::5])
    dice.shuffle(arrivals)
    assert differences(recount(events), counted(arrivals), COUNTER_NAMES) == {}


def test_the_comparison_can_fail(accounts: Accounts) -> None:
    """With one event less, its campaign differs."""
    events = traffic(1)
    wrong = differences(recount(events), counted(received(accounts, events[:-1])), COUNTER_NAMES)
    assert list(wrong) == [events[-1].campaign]


@pytest.mark.parametrize("source", sorted(PROVIDERS))
def test_forged_requests_are_refused(accounts: Accounts, source: str) -> None:
    """A signature with a wrong key is refused."""
    sender = accounts.senders[source]
    event = next(event for event in traffic(1) if event.source == source)
    call = request(sender.sign(sender.items([event]), NOW, forged=True))
    with pytest.raises(SignatureError):
        PROVIDERS[source].verify(call, sources_of(accounts)[source], NOW, {})


def test_secrets_are_not_written_down(accounts: Accounts) -> None:
    """The file names the variables; their values are only in the environment."""
    for value in accounts.environ.values():
        assert value in ("postmark", "sparkpost") or value not in accounts.toml


# --- the simulator --------------------------------------------------------------------------------


def test_same_dice_same_traffic() -> None:
    """The seed reproduces a run."""
    assert traffic(7) == traffic(7)
    assert traffic(7) != traffic(8)


@given(seed=st.integers(0, 2**32), rate=st.floats(10, 500))
@hypothesis_settings(max_examples=15)
def test_nothing_happens_before_its_cause_or_after_now(seed: int, rate: float) -> None:
    """Event times are in the order of the message's life, and no event is reported early."""
    simulator = Simulator("5eed00", rate, NOW, random.Random(seed))
    delivered: dict[str, int] = {}
    events = simulator.advance(2.0) + simulator.finish()
    for event in events:
        assert event.at_s <= NOW + 2.0
        if event.kind == "delivered":
            delivered[event.message_id] = event.at_s
    for event in events:
        if event.kind in ("opened", "clicked", "complained", "unsubscribed"):
            assert event.at_s >= delivered[event.message_id]


def test_traffic_holds_what_the_demo_promises() -> None:
    """Six campaigns and more, one with hard bounces over 5 %, one mostly prefetched by Apple."""
    events = traffic(5, seconds=20.0, rate=1_000.0)
    counts = {name.rsplit("-", 1)[0]: count for name, count in recount(events).items()}
    assert set(counts) == {plan.name for plan in PLANS}
    assert len(counts) >= 6
    rates = {
        name: count["bounced_hard"] / (count["delivered"] + count["bounced_hard"])
        for name, count in counts.items()
    }
    assert rates["trade-fair-contacts"] > 0.05
    assert max(rate for name, rate in rates.items() if name != "trade-fair-contacts") < 0.05
    burst = counts["winter-collection"]
    assert burst["unknown_opens"] > 2 * burst["opens"]
    arrived: set[str] = set()
    early = 0
    for event in events:
        if event.kind == "delivered":
            arrived.add(event.message_id)
        early += event.kind == "clicked" and event.message_id not in arrived
    assert early > 0, "some clicks come before their delivery"


def test_rate_is_kept() -> None:
    """A thousand events a second, apart from those not reported yet."""
    simulator = Simulator("5eed00", 1_000.0, NOW, random.Random(1))
    total = sum(len(simulator.advance(second / 2)) for second in range(1, 81))
    assert 36_000 < total <= 41_000


# --- the ledger -----------------------------------------------------------------------------------


def event(number: int = 0, **overrides: object) -> Happening:
    """An accepted event."""
    values: dict[str, object] = {
        "native_id": f"e{number}", "source": "crm", "kind": "opened", "at_s": 100 + number,
        "campaign": "spring", "told": True, "message_id": "m1", "recipient": "a@example.com",
    }  # fmt: skip
    return Happening(**{**values, **overrides})  # type: ignore[arg-type]


@pytest.mark.parametrize("at_once", [1, 7, 1_000])
def test_ledger_on_disk_compares_in_parts_as_one_in_memory_does_at_once(
    tmp_path: Path, at_once: int
) -> None:
    """Lost, doubled, forged and unsure events, and the counts of campaigns; no file is left."""
    dice = random.Random(at_once)
    simulator = Simulator("r", 200.0, 1e9, dice)
    events = [one for half in range(1, 61) for one in simulator.advance(half / 2)]
    ledgers = Ledger(), Ledger(AcceptedOnDisk(tmp_path))
    for ledger in ledgers:
        ledger.accept(events)
        ledger.accept(events[:50])
        ledger.doubt([event(1), event(2), *events[:3]])
    assert list(tmp_path.iterdir()) == []
    stored = {identity(one): dice.choice([0, 1, 1, 1, 2]) for one in [*events, event(2), event(3)]}
    stored = {one: rows for one, rows in stored.items() if rows}
    whole, recounted = Compared(), dict[str, Counter[str]]()
    for part in ledgers[1].parts(at_once):
        within = {
            one: rows
            for one, rows in stored.items()
            if part.first <= one[0] and (not part.beyond or one[0] < part.beyond)
        }
        whole += compare_events(part.ledger, within)
        for campaign, counts in recount(part.ledger.accepted.values()).items():
            recounted.setdefault(campaign, Counter()).update(counts)
    assert whole == compare_events(ledgers[0], stored)
    assert whole.lost
    assert recounted == recount(ledgers[0].accepted.values())
    assert len(ledgers[1].accepted) == len(ledgers[0].accepted)
    assert ledgers[1].duplicates_sent == ledgers[0].duplicates_sent == 50


def test_ledger_tells_lost_from_doubled_from_unsure() -> None:
    """Each problem has its own figure; an unsure event may be stored once or not at all."""
    ledger = Ledger()
    ledger.accept([event(0), event(1), event(2), event(0)])
    ledger.doubt([event(3), event(4), event(0)])
    stored = {identity(event(0)): 1, identity(event(1)): 2, identity(event(3)): 1}
    stored[identity(event(9, message_id="forged"))] = 1
    compared = compare_events(ledger, stored)
    assert (compared.stored, compared.lost, compared.double_counted) == (5, 1, 2)
    assert ledger.duplicates_sent == 1
    ledger.accept([event(3)])
    assert set(ledger.unsure) == {"e4"}


def test_message_counts_once_where_the_glossary_says_messages() -> None:
    """Three opens by two kinds of reader, two clicks, one on an unsubscribe link: by hand."""
    count = count_message(
        [
            event(0, kind="delivered"),
            event(1),
            event(2),
            event(3, doubt=MACHINE),
            event(4, kind="clicked"),
            event(5, kind="clicked", unsubscribe=True),
            event(6, kind="unsubscribed"),
        ]
    )
    expected = {
        "events": 7, "delivered": 1, "opened": 1, "opened_any": 1, "opens": 2, "machine_opens": 1,
        "clicked": 1, "clicked_any": 1, "clicks": 1, "unsubscribe_clicks": 1, "unsubscribed": 1,
        "cohort_opened": 1, "cohort_opened_any": 1, "cohort_clicked": 1, "cohort_clicked_any": 1,
        "cohort_opened_clicked": 1, "cohort_unsubscribed": 1, "attempt_sent": 1,
    } | {
        f"{basis}{kind}_{end}": 1
        for basis in ("", "cohort_") for kind in ("opened", "clicked")
        for end in ("or_unknown", "at_most")
    }  # fmt: skip
    assert {name: value for name, value in count.items() if value} == expected


def test_undelivered_message_is_in_no_cohort() -> None:
    """An open without a known delivery counts only as flow."""
    count = count_message([event(0)])
    assert (count["opened"], count["cohort_opened"]) == (1, 0)


def test_campaign_is_learned_from_any_event_of_the_message() -> None:
    """Events without a campaign get the one of the event that names it; otherwise none."""
    spoken = [event(0, told=False), event(1), event(2, told=False)]
    silent = [replace(one, told=False) for one in spoken]
    assert {campaign: c["events"] for campaign, c in recount(spoken).items()} == {"spring": 3}
    assert {campaign: c["events"] for campaign, c in recount(silent).items()} == {"": 3}


def test_differences_name_campaign_and_counter() -> None:
    """An operator sees what differs and by how much; a missing campaign differs in all."""
    found = differences({"a": {"events": 2}, "b": {"events": 1}}, {"a": {"events": 3}}, ["events"])
    assert found == {"a": {"events": (2, 3)}, "b": {"events": (1, 0)}}


# --- the sending side -----------------------------------------------------------------------------


class Ingress:
    """A server that answers every request with one status, the first ones perhaps late."""

    def __init__(self, status: int, first_after_s: float = 0.0) -> None:
        self.status = status
        self.requests = 0
        self._opens_at = time.monotonic() + first_after_s

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection: requests until the client closes it."""
        with contextlib.closing(writer):
            while True:
                try:
                    head = await reader.readuntil(b"\r\n\r\n")
                except asyncio.IncompleteReadError:
                    return
                length = next(
                    int(line.split(b":")[1])
                    for line in head.lower().split(b"\r\n")
                    if line.startswith(b"content-length")
                )
                await reader.readexactly(length)
                self.requests += 1
                await asyncio.sleep(max(0.0, self._opens_at - time.monotonic()))
                writer.write(b"HTTP/1.1 %d x\r\ncontent-length: 0\r\n\r\n" % self.status)
                await writer.drain()


async def sent(accounts: Accounts, status: int, seconds: float) -> tuple[Traffic, Ingress]:
    """Traffic of ``seconds`` against an ingress that answers ``status``."""
    ingress = Ingress(status)
    server = await asyncio.start_server(ingress, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        simulator = Simulator("5eed00", 2_000.0, NOW, random.Random(1))
        traffic = Traffic(
            simulator, accounts.senders, url, random.Random(2), lambda events: None, give_up_s=0.1
        )
        await traffic.run(seconds, asyncio.Event())
    return traffic, ingress


async def test_accepted_traffic_is_in_the_books(accounts: Accounts) -> None:
    """Requests, repeats and events add up to what the server received."""
    traffic, ingress = await sent(accounts, 200, 1.0)
    ledger = traffic.ledger
    assert ledger.sent_requests == ledger.accepted_requests == ingress.requests
    assert len(ledger.accepted) > 500
    assert ledger.duplicates_sent > 0
    assert ledger.unsure == {}
    said = sum(number for what, number in traffic.trouble.items() if "forged" in what)
    assert ledger.forged_accepted == said


async def test_traffic_ends_in_time_while_the_ingress_is_away(accounts: Accounts) -> None:
    """With 503 for everything nothing is accepted, all is unsure, and it ends."""
    traffic, ingress = await sent(accounts, 503, 0.5)
    assert ingress.requests > 0
    assert traffic.ledger.accepted == {}
    assert len(traffic.ledger.unsure) > 0
    assert any("answered 503" in what for what in traffic.trouble)


async def test_refused_traffic_is_not_tried_again(accounts: Accounts) -> None:
    """401 is final: nothing is accepted, nothing is unsure, and it is noted."""
    traffic, _ = await sent(accounts, 401, 0.5)
    ledger = traffic.ledger
    assert ledger.refused_requests == ledger.sent_requests > 0
    assert (ledger.accepted, ledger.unsure) == ({}, {})
    assert ledger.forged_refused == (traffic.refusal is not None)


class Advanced(Simulator):
    """A simulator that notes how far each call advances it, in seconds."""

    steps_s: tuple[float, ...] = ()
    _at_s = 0.0

    def advance(self, elapsed_s: float) -> list[Happening]:
        """As ``Simulator``'s."""
        self.steps_s += (elapsed_s - self._at_s,)
        self._at_s = elapsed_s
        return super().advance(elapsed_s)


async def test_a_stall_is_not_made_up_for(accounts: Accounts) -> None:
    """While nothing is answered nothing new is sent, and afterwards no burst follows."""
    seconds, stall_s = 4.0, 3.5  # requests pile up for the first half of it
    server = await asyncio.start_server(Ingress(200, stall_s), "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        simulator = Advanced("5eed00", 2_000.0, NOW, random.Random(1))
        traffic = Traffic(simulator, accounts.senders, url, random.Random(2), lambda events: None)
        await traffic.run(seconds, asyncio.Event())
    assert max(simulator.steps_s) <= STEP_S_MAX + 1e-9
    assert sum(simulator.steps_s) < seconds - 1.0
    assert len(traffic.ledger.accepted) > 500


@pytest.mark.parametrize("seed", range(3))
def test_a_scan_is_reported_as_a_whole(seed: int) -> None:
    """Traffic may end between any two reports: half a scan would look human."""
    simulator = Simulator("run", 400.0, NOW, random.Random(seed))
    scans: dict[str, set[int]] = {}
    for tick in range(1, 2_000):
        for happening in simulator.advance(tick * 0.01):
            if happening.user_agent == SCANNER:
                scans.setdefault(happening.message_id, set()).add(tick)
    assert len(scans) > 20
    assert {len(ticks) for ticks in scans.values()} == {1}
