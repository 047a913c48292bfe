"""The fold against the reference that was written from the glossary alone.

Messages take realistic and nasty courses. Their events come in every order (up to 5 events) or
shuffled, cut anywhere, to a worker that is killed, replays, and is rebuilt from the records that
had an effect. ``MAILPULSE_TEST_EVENTS=1000000`` is the long form.
"""

import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest

from schemas.event import Event
from tests.builders import RECEIVED_AT, event
from tests.streams.by_glossary import Engaged, Flags, Told, tell
from tests.streams.folding import Fold, LogRecord, log_of
from tests.streams.test_step import IPS, figures, final_events

EVENTS = int(os.environ.get("MAILPULSE_TEST_EVENTS", "20000"))
"""Records folded, repeats included and replays not; half in permutations, half in shuffles."""
SEEDS = range(max(2, EVENTS // 50_000))
MESSAGE_EVENTS_MAX = 40
"""Below the 64 events of one window, so that none is settled early."""
LOG_MESSAGES = 60
LOG_S = 80_000
"""A log is shorter than the correction window of 24 hours, so that nothing is settled."""

pytestmark = pytest.mark.timeout(900)

SECOND, DAY = 1_000_000, 86_400_000_000
PHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15"
DESKTOP = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:130.0) Gecko/20100101 Firefox/130.0"
TABLET = "Mozilla/5.0 (iPad; CPU OS 17_0 like Mac OS X) AppleWebKit/605.1.15"
PROXY = "Mozilla/5.0 (Windows NT 5.1) Firefox/11.0 (via ggpht.com GoogleImageProxy)"
AGENTS = (PHONE, PHONE, DESKTOP, TABLET, PROXY, "Mozilla/5.0", "curl/8", "barracuda", "", None)
MACHINES = (
    "none", "none", "none", "none", "none", "none", "human", "apple_mpp", "gmail_proxy",
    "prefetch", "scanner", "unknown",
)  # fmt: skip
LINKS = (
    "https://shop.example/1", "https://shop.example/2", "https://shop.example/3",
    "https://shop.example/3?utm_source=x", "https://shop.example/4", "", None,
    "https://shop.example/unsubscribe?x=1",
)  # fmt: skip
TOLD_TO_UNSUBSCRIBE = (None, None, None, None, True, False)
CLASSES = ("none", "hard", "soft", "block", "undetermined", "suppressed")
REPLIES: tuple[dict[str, Any], ...] = (
    {}, {"enhanced_status": "5.1.1", "smtp_code": 550}, {"smtp_code": 452},
    {"diagnostic": "550 5.7.1 refused: listed by Spamhaus"}, {"diagnostic": "no idea"},
)  # fmt: skip
KINDS = (
    "queued", "sent", "delivered", "delivered", "deferred", "bounced", "bounced", "rejected",
    "failed", "opened", "opened", "clicked", "clicked", "complained", "unsubscribed", "subscribed",
    "autoresponded", "unknown",
)  # fmt: skip
FAILURES = ("bounced", "rejected", "failed", "deferred")
AROUND_RULES_S = (
    -61.0, -60.0, -59.999999, -1.0, 0.0, 0.0, 1.0, 1.999999, 2.0, 3.999999, 4.0, 5.0, 5.000001,
    5.4, 5.7, 9.0, 59.999999, 60.0, 61.0, 299.5, 300.0, 301.0, 3600.0,
)  # fmt: skip
"""Seconds since delivery: on and beside the thresholds of the classification, and of minutes."""
OFF_US = (40 * DAY, 30 * DAY + 1, 30 * DAY, -3 * DAY, -DAY - 1, -DAY)
"""From when it happened until it arrived, on and beside the limits for late and early events."""
DOMAINS = ("gmail.com", "outlook.com", "web.de", "example.com", "corp.example.co.uk", "")

Step = tuple[str, float, dict[str, Any]]
"""Type, seconds since the beginning, further fields."""


def _at(kind: str, seconds: float, **fields: Any) -> Step:
    return kind, seconds, fields


def _clicks(*seconds: float, agent: str = DESKTOP) -> tuple[Step, ...]:
    return tuple(
        _at("clicked", at, click_url=LINKS[number % 3], user_agent=agent, machine_kind="none")
        for number, at in enumerate(seconds)
    )


HUMAN: dict[str, Any] = {"user_agent": PHONE, "machine_kind": "none", "click_url": LINKS[0]}
COURSES: tuple[tuple[Step, ...], ...] = (
    (  # read
        _at("queued", -20), _at("sent", -10), _at("delivered", 0), _at("opened", 40, **HUMAN),
        _at("clicked", 70, **HUMAN), _at("opened", 9_000, **HUMAN), _at("complained", 9_100),
        _at("unsubscribed", 9_200), _at("unsubscribed", 9_300), _at("complained", 9_400),
    ),
    (  # refused, tried again, taken, and sent back
        _at("bounced", -300, bounce_class="soft"), _at("deferred", -200),
        _at("bounced", -100, bounce_class="hard"), _at("delivered", 0), _at("delivered", 30),
        _at("bounced", 0, bounce_class="soft"), _at("bounced", 60, bounce_class="block"),
        _at("bounced", 90, bounce_class="hard"), _at("bounced", 120, bounce_class="hard"),
    ),
    (  # never taken
        _at("deferred", 0), _at("bounced", 10, bounce_class="soft"),
        _at("bounced", 70, bounce_class="undetermined"), _at("bounced", 130, bounce_class="block"),
        _at("bounced", 200, bounce_class="hard"), _at("bounced", 300, bounce_class="hard"),
        _at("rejected", 400), _at("failed", 0, bounce_class="hard"),
    ),
    (  # scanned in one burst, then read
        _at("delivered", 0), *_clicks(20, 21, 22, 25), _at("opened", 21, user_agent=DESKTOP),
        _at("opened", 30, user_agent=DESKTOP), _at("opened", 31, user_agent=DESKTOP),
        _at("clicked", 4_000, **HUMAN), _at("opened", 4_000, **HUMAN),
    ),
    (  # many agents in one burst
        _at("delivered", 0), *_clicks(20, agent=PHONE), *_clicks(22, agent=DESKTOP),
        *_clicks(25, agent=TABLET), *_clicks(26, agent=PHONE), _at("opened", 25, user_agent=PHONE),
    ),
    (  # fetched before anyone looked
        _at("opened", -1, **HUMAN), _at("delivered", 0), _at("opened", 1, **HUMAN),
        _at("opened", 3, user_agent="Mozilla/5.0"), _at("clicked", 3, **HUMAN),
        _at("opened", 600, **HUMAN), _at("clicked", 610, **HUMAN),
    ),
    (  # not attempted, or so it was said
        _at("bounced", 0, bounce_class="suppressed"), _at("rejected", 5, bounce_class="suppressed"),
        _at("rejected", 9), _at("failed", 80), _at("delivered", 60),
        _at("bounced", 61, bounce_class="suppressed"), _at("bounced", 70, bounce_class="soft"),
    ),
)  # fmt: skip


def message(dice: random.Random, number: int, size: int) -> list[Event]:
    """``size`` events of a message, and maybe of others that could be taken for it."""
    steps = list(dice.choice(COURSES)) if dice.random() < 0.6 else []
    steps = dice.sample(steps, min(size, len(steps)))
    steps += [(dice.choice(KINDS), dice.choice(AROUND_RULES_S), {}) for _ in range(size)]
    if dice.random() < 0.2:  # all at a few moments
        moments = dice.sample(AROUND_RULES_S, 2)
        steps = [(kind, dice.choice(moments), fields) for kind, _, fields in steps]
    start = RECEIVED_AT - dice.randrange(6 * 3600) * SECOND
    alike = dice.random() < 0.3
    names = dice.choice(((None,), ("c1",), ("c1", None), ("c1", "c2"), ("c2", "c3", None)))
    domain = dice.choice(DOMAINS)
    return [
        event(
            **_identity(dice, number, domain, alike=alike),
            **_campaign(dice.choice(names)),
            **_times(dice, kind, start + round(seconds * SECOND)),
            **{**_fields(dice, kind), **fields},
        )
        for kind, seconds, fields in steps[:size]
    ]


def _identity(dice: random.Random, number: int, domain: str, *, alike: bool) -> dict[str, Any]:
    """The same message each time, or also ones that share its id or its recipient."""
    same: dict[str, Any] = {
        "event_id": f"{dice.getrandbits(128):032x}",
        "provider": "sendgrid",
        "message_id": f"m{number}",
        "recipient": f"user-{number}@{domain}",
        "recipient_domain": domain,
    }
    other: dict[str, Any] = {}
    if alike:
        other = dice.choice((
            {}, {"recipient": f"User-{number}@{domain}"},
            {"recipient": f"second-{number}@{domain}"},
            {"provider": "mailgun"}, {"message_id": None}, {"message_id": ""},
            {"recipient_certain": False},
            {"recipient_certain": False, "recipient": None}, {"recipient": None},
            {"message_id": f"n{number}"},
        ))  # fmt: skip
    if number % 3 == 0:  # some events name it by the sender's Message-ID, alone or too
        other |= dice.choice((
            {}, {"rfc_message_id": "a@x"}, {"rfc_message_id": "a@x"}, {"rfc_message_id": "b@x"},
            {"rfc_message_id": "a@x", "message_id": None},
        ))  # fmt: skip
    return {**same, **other}


def _campaign(name: str | None) -> dict[str, Any]:
    return {"campaign_id": name, "campaign_source": "metadata" if name else "none"}


def _times(dice: random.Random, kind: str, occurred_at: int) -> dict[str, Any]:
    received_at, suspect = RECEIVED_AT + dice.randrange(SECOND), False
    nasty = dice.random()
    if nasty < 0.05:
        received_at = occurred_at + dice.choice(OFF_US)
    elif nasty < 0.08:
        occurred_at, suspect = received_at, True
    elif nasty < 0.2:
        occurred_at += dice.choice((-1, 1))
    elif nasty < 0.3:
        occurred_at += dice.randrange(SECOND)
    return {"occurred_at": occurred_at, "received_at": received_at, "time_suspect": suspect}


def _fields(dice: random.Random, kind: str) -> dict[str, Any]:
    fields: dict[str, Any] = {"event_type": kind}
    if kind in FAILURES:
        fields |= {"bounce_class": dice.choice(CLASSES), **dice.choice(REPLIES)}
    if kind in ("opened", "clicked"):
        fields |= {"user_agent": dice.choice(AGENTS), "machine_kind": dice.choice(MACHINES)}
        fields["ip"] = dice.choice((None, None, None, *IPS))
    if kind == "clicked":
        told = dice.choice(TOLD_TO_UNSUBSCRIBE)
        fields |= {"click_url": dice.choice(LINKS), "unsubscribe_link": told}
    return fields


def arriving(records: Sequence[LogRecord]) -> list[LogRecord]:
    """The records as a log: offsets and times of arrival in this order, all in one window."""
    first, gap_ms = RECEIVED_AT // 1000, LOG_S * 1000 // len(records)
    return [
        replace(record, offset=offset, timestamp=first + offset * gap_ms)
        for offset, record in enumerate(records)
    ]


def lived(log: list[LogRecord], dice: random.Random) -> Fold:
    """A worker's fold of the log, in any slices, with kills and rebuilds; its outputs stay."""
    fold = Fold()
    done = saved = 0
    while done < len(log):
        end = done + dice.randint(1, max(2, len(log) // 4))
        enriched, engaged = len(fold.enriched), len(fold.engagement)
        fold.fold(log[done:end])
        done = min(end, len(log))
        fate = dice.random()
        if fate < 0.3:  # killed, with a part of the slice's outputs written
            del fold.enriched[dice.randint(enriched, len(fold.enriched)) :]
            del fold.engagement[dice.randint(engaged, len(fold.engagement)) :]
            fold.restart()
            done = saved
        elif fate < 0.8:
            fold.checkpoint()
            saved = done
            if fate < 0.4:
                rebuild(fold, log[:saved], dice)
        elif fate < 0.9:
            fold.publish_minutes()
    fold.checkpoint()
    return fold


def rebuild(fold: Fold, log: list[LogRecord], dice: random.Random) -> None:
    """Replaces the worker's state by one that is made of the records that had an effect."""
    effective = {enrichment["offset"] for _, enrichment in fold.enriched}
    records = [record for record in log if record.offset in effective]
    fresh = Fold()
    while records:
        size = dice.randint(1, max(2, len(log) // 4))
        fresh.fold(records[:size])
        del records[:size]
        if dice.random() < 0.5:
            fresh.checkpoint()
            fresh.restart()
    fresh.shard.applied = fold.shard.applied  # as a restore sets it: what is committed
    fresh.checkpoint()
    fold.disk = fresh.disk
    fold.restart()


def outcome(fold: Fold) -> Told:
    """What consumers that follow ``schemas/README.md`` end with."""
    events = {
        event_id: Flags(one["campaign_id"], one["actor"], one["first_of_kind"], one["first_human"])
        for event_id, one in final_events(fold).items()
    }
    return Told(figures(fold), events, dict(_standing(fold)))


def _standing(fold: Fold) -> Iterator[tuple[str, Engaged]]:
    """Follow-ups that were not withdrawn, each record taken once by its coordinate."""
    last, taken = -1, set[tuple[str, bool]]()
    standing: dict[str, Engaged] = {}
    for _, record in fold.engagement:
        offset, once = record["offset"], (record["event_id"], record["withdrawn"])
        if offset < last or (offset == last and once in taken):
            continue
        taken = {*taken, once} if offset == last else {once}
        last = offset
        if record["withdrawn"]:
            del standing[record["event_id"]]
        else:
            assert record["event_id"] not in standing, "told twice"
            engaged = Engaged(record["campaign_id"], record["kind"], record["click_url"])
            standing[record["event_id"]] = engaged
    yield from standing.items()


def compare(events: list[Event], log: list[LogRecord], expected: Told, seed: str) -> None:
    """Fails if a worker's outputs are not those of the reference."""
    told = outcome(lived(arriving(log), random.Random(seed)))
    context = f"{seed}: {len(events)} events"
    assert told.minutes == expected.minutes, context
    assert told.events == expected.events, context
    assert told.engagement == expected.engagement, context


@pytest.mark.parametrize("seed", SEEDS)
def test_every_order_of_a_short_message_tells_what_the_glossary_says(seed: int) -> None:
    """All permutations, some with a repeat in them."""
    dice = random.Random(f"permuted {seed}")
    folded = number = 0
    while folded < EVENTS // 2 // len(SEEDS):
        number += 1
        size = dice.choice((2, 3, 4, 5, 5))
        events = message(dice, number, size)
        expected, records = tell(events), log_of(events)
        for turn, order in enumerate(permutations(records)):
            log = list(order)
            if dice.random() < 0.3:
                log.insert(dice.randint(0, size), dice.choice(log))
            compare(events, log, expected, f"permuted {seed} {number} {turn}")
            folded += len(log)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_shuffle_of_a_log_tells_what_the_glossary_says(seed: int) -> None:
    """Messages of up to 40 events, among each other, a sixth of the records repeats."""
    dice = random.Random(f"shuffled {seed}")
    folded = number = 0
    while folded < EVENTS // 2 // len(SEEDS):
        number += 1
        sizes = [dice.choice((3, 6, 10, MESSAGE_EVENTS_MAX)) for _ in range(LOG_MESSAGES)]
        events = [one for at, size in enumerate(sizes) for one in message(dice, at, size)]
        log = log_of(events)
        log += dice.choices(log, k=len(log) // 5)
        dice.shuffle(log)
        compare(events, log, tell(events), f"shuffled {seed} {number}")
        folded += len(log)


def test_a_bounce_just_before_the_delivery_does_not_count() -> None:
    """Nor is it late, in the same second too."""
    bounced = event(event_id=f"{1:032x}", event_type="bounced", bounce_class="hard")
    delivered = event(event_id=f"{2:032x}", occurred_at=bounced["occurred_at"] + 900_000)
    events = [bounced, delivered]
    compare(events, log_of(events), tell(events), "just before")


def test_an_open_less_than_two_seconds_after_the_delivery_is_a_machines() -> None:
    """The shipped rule, where the seconds cut off would be two."""
    opened = event(event_id=f"{1:032x}", event_type="opened")
    delivered = event(event_id=f"{2:032x}", occurred_at=opened["occurred_at"] - 1_600_000)
    events = [delivered, opened]
    compare(events, log_of(events), tell(events), "too soon")
