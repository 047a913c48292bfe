"""The view ``gaps``: compared with a recount over dictionaries, and at the edges of the store."""

import random
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from clickhouse_connect.driver.client import Client

from tests.warehouses import migrated_warehouse

HOUR = 3_600
DAY = 86_400
ENGAGED, DELIVERED = ("opened", "clicked"), ("delivered",)
HANDED, SENDING = ("queued", "sent"), ("queued", "sent", "deferred")
NO_DELIVERED, NO_SENT = "engaged_without_delivered", "delivered_without_sent"


class Stored(NamedTuple):
    """A row of ``events``; ``ago`` is its age in seconds, on both clocks."""

    message: int
    source: str
    kind: str
    ago: float
    campaign: str = ""
    message_id: str = "m"
    certain: bool = True


class Gap(NamedTuple):
    """A row of ``gaps``, but for its times and words."""

    day: str
    source: str
    kind: str
    messages: int
    of_messages: int


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A client of a migrated database."""
    with migrated_warehouse(tmp_path_factory.mktemp("gaps")) as (_, client):
        yield client


def _store(client: Client, stored: Sequence[Stored], now: float) -> None:
    client.command("TRUNCATE TABLE events")
    names = ["campaign_id", "message_key", "event_time", "received_at", "event_id", "event_type",
             "source", "message_id", "recipient_certain", "version"]  # fmt: skip
    rows = []
    for number, one in enumerate(stored):
        at = datetime.fromtimestamp(now - one.ago, UTC)
        rows.append([one.campaign, UUID(int=one.message + 1), at, at, UUID(int=number + 1),
                     one.kind, one.source, one.message_id, one.certain, number])  # fmt: skip
    if rows:
        client.insert("events", rows, column_names=names)


def _gaps(client: Client) -> list[Gap]:
    sql = "SELECT toString(day), source, kind, messages, of_messages FROM gaps ORDER BY ALL"
    return [Gap(*row) for row in client.query(sql).result_rows]


def _recount(stored: Sequence[Stored], now: float) -> list[Gap]:
    """What the view promises, message by message."""
    by_message = defaultdict(list)
    for one in stored:
        is_read = one.ago < 67 * DAY or one.kind in DELIVERED
        if one.message_id and one.certain and is_read:
            by_message[one.message].append(one)
    of: dict[tuple[str, str, str], list[bool]] = defaultdict(list)
    for events in by_message.values():
        for kind, which, lacks in (
            (NO_DELIVERED, ENGAGED, DELIVERED),
            (NO_SENT, DELIVERED, HANDED),
        ):
            firsts = [one for one in events if one.kind in which and one.ago < 67 * DAY]
            if not firsts:
                continue
            first = max(firsts, key=lambda one: one.ago)
            if not HOUR < first.ago < 62 * DAY or not _judged(kind, first, events, stored):
                continue
            day = datetime.fromtimestamp(now - first.ago, UTC).date().isoformat()
            of[day, first.source, kind].append(not any(one.kind in lacks for one in events))
    best: dict[tuple[str, str], float] = defaultdict(float)
    for (_, source, kind), missing in of.items():
        told = 1 - sum(missing) / len(missing)
        best[source, kind] = max(best[source, kind], told)
    return sorted(
        Gap(day, source, kind, sum(missing), len(missing))
        for (day, source, kind), missing in of.items()
        if any(missing) and (kind == NO_DELIVERED or best[source, kind] >= 0.5)
    )


def _judged(kind: str, first: Stored, events: Sequence[Stored], stored: Sequence[Stored]) -> bool:
    of_source = [one for one in stored if one.source == first.source]
    if kind == NO_SENT:
        told = [one.ago for one in of_source if one.kind in HANDED]
        return bool(told) and first.ago <= max(told) - 5 * DAY
    stored_from = max(one.ago for one in of_source)
    campaign = max(one.campaign for one in events)
    others = [one.ago for one in stored if one.campaign == campaign and one.kind not in ENGAGED]
    engaged = [one.ago for one in stored if one.campaign == campaign and one.kind in ENGAGED]
    begun = bool(campaign and others and engaged) and (
        max(others) >= max(engaged) and max(others) <= stored_from - 7 * DAY
    )
    return (
        any(one.kind in SENDING for one in events) or first.ago <= stored_from - 30 * DAY or begun
    )


def _scenario(draw: random.Random, number: int) -> list[Stored]:
    """Few messages and sources over 100 days, with names of its own; a message has one campaign."""
    campaigns = [draw.choice(("", f"spring-{number}", f"autumn-{number}")) for _ in range(6)]
    known = [(draw.choice("mmm "), draw.choice((True, True, True, False))) for _ in range(6)]
    every = ("queued", "sent", "deferred", "delivered", "opened", "clicked", "bounced")
    kinds, sources = draw.choice(((every, ("news", "shop")), (("queued", "delivered"), ("news",))))
    out = []
    for place in range(draw.randint(1, 14)):
        message = draw.randrange(draw.randint(1, 6))
        half_hours = draw.choice((0, 1, 3, 47, 300, 1500, 2950, 2990, 3300, 4700))
        out.append(
            Stored(
                100 * number + message, f"{draw.choice(sources)}-{number}",
                draw.choice(kinds),
                half_hours * 1800 + 700 + place * 11,  # none within minutes of an edge
                campaigns[message], known[message][0].strip(), known[message][1],
            )
        )  # fmt: skip
    return out


def test_gaps_equal_a_recount(client: Client) -> None:
    """Any events of any age: the rows are those of a plain recount, message by message."""
    draw = random.Random(17)
    scenarios = [_scenario(draw, number) for number in range(400)]
    now = time.time()
    _store(client, [one for scenario in scenarios for one in scenario], now)
    found = defaultdict(list)
    for gap in _gaps(client):
        found[int(gap.source.partition("-")[2])].append(gap)
    for number, scenario in enumerate(scenarios):
        assert found[number] == _recount(scenario, now), scenario
    kinds = Counter(gap.kind for gaps in found.values() for gap in gaps)
    assert min(kinds[NO_DELIVERED], kinds[NO_SENT]) > 5


def _history(days: int, **leave_out: Any) -> list[Stored]:
    """A source with a complete message a day: queued, delivered, opened."""
    out = []
    for day in range(2, days):
        ago = day * DAY
        out += [Stored(day, "news", "queued", ago), Stored(day, "news", "delivered", ago - 60),
                Stored(day, "news", "opened", ago - 600)]  # fmt: skip
    return [one for one in out if one.kind not in leave_out.get("kinds", ())]


def _found(client: Client, *extra: Stored, history: Sequence[Stored] = ()) -> list[Gap]:
    _store(client, [*(history or _history(60)), *extra], time.time())
    return _gaps(client)


def test_complete_books_have_no_gap(client: Client) -> None:
    """Two months in which every message has all its events."""
    assert _found(client) == []


def test_an_open_of_mail_from_before_the_first_day_is_no_gap(client: Client) -> None:
    """Its delivery came before anything was stored, as after any installation."""
    young = _history(20)
    assert _found(client, Stored(900, "news", "opened", 5 * DAY), history=young) == []
    [gap] = _found(client, Stored(900, "news", "opened", 5 * DAY))
    assert (gap.kind, gap.messages) == (NO_DELIVERED, 1)


def test_a_campaign_that_began_in_the_store_is_judged_at_once(client: Client) -> None:
    """Its first event is no open and came a week after the source's: all its mail is known."""
    known = Stored(901, "news", "delivered", 6 * DAY, "spring")
    sent = Stored(901, "news", "queued", 6 * DAY + 60, "spring")
    lost = Stored(902, "news", "clicked", 5 * DAY, "spring")
    [gap] = _found(client, known, sent, lost, history=_history(20))
    assert (gap.kind, gap.messages) == (NO_DELIVERED, 1)
    old = Stored(903, "news", "opened", 7 * DAY, "spring")
    assert _found(client, known, sent, lost, old, history=_history(20)) == []


def test_the_last_hour_is_no_gap(client: Client) -> None:
    """Deliveries may come after the open, and sent after the delivery."""
    minutes = 10 * 60
    assert _found(client, Stored(904, "news", "opened", minutes)) == []
    assert _found(client, Stored(904, "news", "delivered", minutes)) == []
    assert len(_found(client, Stored(904, "news", "opened", 2 * HOUR))) == 1
    assert len(_found(client, Stored(904, "news", "delivered", 2 * HOUR))) == 1


def test_a_delivery_long_ago_or_by_another_source_is_known(client: Client) -> None:
    """Mail is opened months later, and one source may report deliveries and another opens."""
    opened = Stored(905, "news", "opened", 3 * DAY)
    assert _found(client, opened, Stored(905, "news", "delivered", 200 * DAY)) == []
    other = Stored(905, "shop", "delivered", 4 * DAY)
    assert _found(client, opened, other) == []


def test_a_source_that_reports_no_sent_has_no_gap_by_it(client: Client) -> None:
    """Neither where the provider never sends it, nor where one message had it once."""
    without = _history(60, kinds=("queued",))
    assert _found(client, history=without) == []
    tried = Stored(906, "news", "queued", 50 * DAY), Stored(906, "news", "delivered", 50 * DAY - 60)
    others = [Stored(910 + number, "news", "delivered", 50 * DAY - number) for number in range(9)]
    assert _found(client, *tried, *others, history=without) == []


@pytest.mark.parametrize(
    ("history", "extra", "words"),
    [
        (_history(60, kinds=("delivered", "queued")), [], "No delivery of this source was ever"),
        (_history(60), [Stored(920, "news", "opened", 1.5 * DAY)], "Almost no delivery"),
        (
            _history(60),
            [Stored(930 + n, "news", "opened", 2 * DAY - 500 - n) for n in range(1)],
            "Some deliveries were not stored",
        ),
        (_history(60), [Stored(940, "news", "delivered", 1.5 * DAY)], "almost never on this one"),
        (
            _history(60),
            [Stored(950, "news", "delivered", 2 * DAY - 61)],
            "Some messages have a delivery but neither",
        ),
    ],
)  # fmt: skip
def test_each_gap_says_what_it_suggests(
    client: Client, history: list[Stored], extra: list[Stored], words: str
) -> None:
    """A switched-off event, lost requests and a provider without deliveries are told apart."""
    # at noon, so that what is some minutes apart is of one day
    noon = int(time.time()) // DAY * DAY - DAY // 2
    _store(client, [*history, *extra], noon)
    told = {text for (text,) in client.query("SELECT suggestion FROM gaps").result_rows}
    assert any(words in text for text in told), told
