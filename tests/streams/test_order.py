"""Within the correction window the set of a message's events decides, not their order."""

import random
from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.event import Event
from schemas.glossary import COUNTER_NAMES
from streams.enrich.message import PENDING_MAX
from tests.builders import RECEIVED_AT, event
from tests.streams.folding import Fold, LogRecord, log_of
from tests.streams.reference import count, unique_in_order
from tests.streams.test_step import AGENT, figures, final_events, logs

HOUR_US = 3_600_000_000
WINDOW_S = 24 * 3600
_OF_ORDER = ("offset", "version", "revision", "previous_campaign_id", "previous_message_key")


def arriving(events: list[Event], gap_s: float = 1.0) -> list[LogRecord]:
    """The events as records that arrive one after the other."""
    first = RECEIVED_AT // 1000
    return [
        replace(record, timestamp=first + round(number * gap_s * 1000))
        for number, record in enumerate(log_of(events))
    ]


def told(fold: Fold) -> tuple[Any, ...]:
    """Everything that consumers end with."""
    events = {
        event_id: {name: value for name, value in one.items() if name not in _OF_ORDER}
        for event_id, one in final_events(fold).items()
    }
    standing: dict[tuple[str, str], Any] = {}
    changes = [(one["event_id"], one["offset"], one["withdrawn"]) for _, one in fold.engagement]
    assert len(changes) == len(set(changes)), "consumers take these for one change"
    for recipient, record in fold.engagement:
        key = recipient, record["event_id"]
        if record["withdrawn"]:
            del standing[key]
        else:
            assert key not in standing, "told twice"
            standing[key] = record["campaign_id"], record["kind"], record["click_url"]
    return figures(fold), events, standing


def folded(log: list[LogRecord], cuts: list[int] | None = None) -> Fold:
    """The fold of a log, in slices that end at ``cuts``, with a restart after each."""
    fold = Fold()
    begin = 0
    for end in [*(cuts or []), len(log)]:
        fold.fold(log[begin:end])
        fold.checkpoint()
        fold.restart()
        begin = end
    return fold


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(logs(), st.randoms(use_true_random=False), st.lists(st.integers(0, 40), max_size=4))
def test_any_order_and_any_split_tell_the_same(
    events: list[Event], dice: random.Random, cuts: list[int]
) -> None:
    """Counts, flags, attributions and engagement are a function of the set of events."""
    shuffled = events[:]
    dice.shuffle(shuffled)
    one = told(folded(arriving(events)))
    other = told(folded(arriving(shuffled), sorted(cut for cut in cuts if cut < len(events))))
    assert one == other
    assert one[0] == count(unique_in_order(events))


def steps(*told_at: tuple[str, float, dict[str, Any]]) -> list[Event]:
    """Events of one message: type, hours after noon, and what else they say."""
    return [
        event(
            event_id=f"{number:032x}", event_type=kind,
            occurred_at=RECEIVED_AT + round(hours * HOUR_US),
            received_at=RECEIVED_AT + 20 * HOUR_US, message_id="m",
            recipient="u@gmail.com", recipient_domain="gmail.com",
            **({"user_agent": AGENT} if kind in ("opened", "clicked") else {}) | more,
        )
        for number, (kind, hours, more) in enumerate(told_at)
    ]  # fmt: skip


def bounce(kind: str) -> dict[str, Any]:
    """What a bounce of this class says."""
    return {"bounce_class": kind}


def link(number: int) -> dict[str, Any]:
    """What a click on this link says."""
    return {"click_url": f"https://shop.example/{number}"}


MESSAGES = {
    "hard, delivered, soft": steps(
        ("bounced", 0, bounce("hard")), ("delivered", 1, {}), ("bounced", 2, bounce("soft"))
    ),
    "two soft bounces": steps(
        ("bounced", 0, bounce("soft")), ("bounced", 2, bounce("soft")), ("delivered", 1, {})
    ),
    "bounces of every class": steps(
        ("bounced", 0, bounce("soft")), ("bounced", 1, bounce("hard")),
        ("bounced", 2, bounce("block")), ("bounced", 3, bounce("hard")),
    ),
    "opens": steps(
        ("delivered", 0, {}), ("opened", 3, {}), ("opened", 1, {}), ("opened", 2, {}),
        ("opened", 1, {"user_agent": "curl/8"}),
    ),
    "a scanner's clicks": steps(
        ("delivered", 0, {}), ("clicked", 3, link(1)), ("clicked", 3, link(2)),
        ("clicked", 3, link(3)), ("opened", 4, {}),
    ),
    "two campaigns": steps(
        ("sent", 0, {"campaign_id": None}), ("delivered", 1, {"campaign_id": "b"}),
        ("opened", 0.5, {"campaign_id": "a"}), ("clicked", 2, link(1)),
    ),
    "a prefetch": steps(("opened", 0, {}), ("delivered", 0, {}), ("opened", 1, {})),
    "suppressed, rejected, complained": steps(
        ("bounced", 2, bounce("suppressed")), ("rejected", 1, {}), ("failed", 0, {}),
        ("complained", 4, {}), ("complained", 3, {}),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MESSAGES)
def test_every_order_of_a_message_tells_the_same(name: str) -> None:
    """All permutations, each event in a step of its own."""
    events = MESSAGES[name]
    wanted = None
    for order in permutations(events):
        log = arriving(list(order), gap_s=60)
        got = told(folded(log, list(range(1, len(log)))))
        wanted = wanted or got
        assert got == wanted
        assert got[0] == count(list(order))


def row(fold: Fold) -> dict[str, int]:
    """Sums of all counters over minutes, campaigns and mailbox providers, without zeros."""
    sums = dict.fromkeys(COUNTER_NAMES, 0)
    for counts in figures(fold).values():
        for name, value in counts.items():
            sums[name] += value
    return {name: value for name, value in sums.items() if value}


def test_one_late_bounce_in_every_order() -> None:
    """Hard at 12:00, delivered at 13:00, soft at 14:00: one late bounce, no other."""
    sums = row(folded(arriving(MESSAGES["hard, delivered, soft"])))
    assert sums["bounced_late"] == sums["cohort_bounced_late"] == sums["delivered"] == 1
    assert not [name for name in sums if name.startswith("bounced_") and name != "bounced_late"]


def test_a_scanners_last_click_and_a_late_delivery_correct_verdicts_for_hours() -> None:
    """They were corrected for ten minutes only."""
    for name, humans in (("a scanner's clicks", 1), ("a prefetch", 1)):
        events = MESSAGES[name]
        for order in (events, events[::-1]):
            log = arriving(list(order), gap_s=5 * 3600)
            final = final_events(folded(log, list(range(1, len(log)))))
            assert sum(one["actor"] == "human" for one in final.values()) == humans


def test_what_comes_after_the_window_belongs_to_the_campaign_it_names() -> None:
    """``sent`` without a campaign stays so; 25 hours later the others name one."""
    events = steps(
        ("sent", 0, {"campaign_id": None}), ("delivered", 0.1, {}), ("opened", 0.2, {}),
    )  # fmt: skip
    log = arriving(events, gap_s=0)
    log = [log[0], *(replace(r, timestamp=r.timestamp + 25 * 3_600_000) for r in log[1:])]
    fold = folded(log, [1])
    campaigns = {key: one["campaign_id"] for key, one in final_events(fold).items()}
    assert list(campaigns.values()) == [None, "spring", "spring"]
    by_campaign = {key[0]: counts for key, counts in figures(fold).items() if key[0]}
    sums = row(fold)
    assert sums["delivered"] == sums["opened"] == sums["cohort_opened"] == 1
    assert all(counts.keys() != {"events"} for counts in by_campaign.values())


def test_a_delivery_settled_without_a_campaign_keeps_its_cohort() -> None:
    """Its opens count in the campaign that they name; of the cohort, where the delivery counts."""
    events = steps(("delivered", 0, {"campaign_id": None}), ("opened", 0.2, {}))
    log = arriving(events)
    log[1] = replace(log[1], timestamp=log[1].timestamp + 25 * 3_600_000)
    for restarts in ([1], []):
        found = figures(folded(log, restarts))
        cohort = {key[0] for key, counts in found.items() if "cohort_opened" in counts}
        flow = {key[0] for key, counts in found.items() if "opened" in counts}
        assert (cohort, flow) == ({""}, {"spring"})


def test_beyond_the_cap_the_first_to_arrive_are_settled() -> None:
    """Counts stay those of the set as long as what is settled was the first that happened."""
    events = steps(("delivered", 0, {}), *[("opened", 0.1 + i / 100, {}) for i in range(200)])
    assert len(events) > 2 * PENDING_MAX
    fold = folded(arriving(events), [50, 90, 150])
    assert figures(fold) == count(events)


def test_an_event_without_a_message_is_counted_by_itself_alone() -> None:
    """Three opens without any message id are three opens, of no message."""
    events = [
        dict(one) | {"message_id": None} for one in steps(*[("opened", i, {}) for i in range(3)])
    ]
    sums = row(folded(arriving(events)))  # type: ignore[arg-type]
    assert sums == {"events": 3, "opens": 3, "unidentified": 3}


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(logs(), st.lists(st.integers(0, 36) | st.just(0), min_size=40, max_size=40))
def test_no_sum_is_negative_however_late_events_come(
    events: list[Event], gaps_h: list[int]
) -> None:
    """Windows end, messages stay unattributed: counts never go below 0, nor cohorts above 100 %.

    All within the 30 days that a record may wait before it reaches the log.
    """
    log, at = [], RECEIVED_AT // 1000
    for record, gap_h in zip(log_of(events), gaps_h, strict=False):
        at = min(at + gap_h * 3_600_000, RECEIVED_AT // 1000 + 29 * 86_400_000)
        log.append(replace(record, timestamp=at))
    fold = folded(log, list(range(1, len(log), 3)))
    for counts in figures(fold).values():
        assert all(value >= 0 for value in counts.values())
        delivered = counts.get("delivered", 0)
        for name, value in counts.items():
            if name.startswith("cohort_"):
                assert value <= delivered, name
        both = counts.get("cohort_opened_clicked", 0)
        assert both <= counts.get("cohort_opened", 0)
        assert both <= counts.get("cohort_clicked", 0)
