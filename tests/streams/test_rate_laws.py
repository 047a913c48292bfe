"""The law of figures in the topic of rates: for any events in any order, at any moment."""

from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from schemas.event import Event
from schemas.glossary import COUNTER_NAMES, DERIVED, RATES, derived
from streams.campaigns.rates import encode_rates
from streams.campaigns.windows import Partial
from tests.builders import RECEIVED_AT, event
from tests.laws import impossible, is_rate
from tests.streams import test_step
from tests.streams.courses import CAMPAIGNS, Partition, Publication, courses
from tests.streams.folding import CODEC, Fold, log_of
from tests.streams.test_step import AGENT
from tests.streams.test_windows import Merger

DAY_US = 86_400_000_000
ADVANCED_MAX = 70
"""Minutes that the windows move between publications, at most: each costs a scan."""


def windows_of(merger: Merger, campaign: str) -> list[dict[str, Any]]:
    """The windows of a campaign's record of rates, as a consumer decodes it."""
    as_of_us = merger.windows.minute * 60_000_000
    value = encode_rates(
        merger.windows, campaign, as_of_us=as_of_us, complete_through_us=as_of_us, revision=1
    )
    record = CODEC.decode(CODEC.prefix("campaign_rates") + value, "campaign_rates")
    windows: list[dict[str, Any]] = record["windows"]
    return windows


def figures(window: dict[str, Any]) -> dict[str, Any]:
    """Every figure of a published window, by name: counts, derived counts, rates and bounds."""
    counts = window["counts"]
    found = {**counts, **{name: derived(list(counts.values()), name) for name in DERIVED}}
    for rate in window["rates"]:
        for bound in ("value", "low", "high"):
            found[rate["name"] if bound == "value" else f"{rate['name']}_{bound}"] = rate[bound]
        assert (rate["value"] is None) == (rate["denominator"] == 0), rate
    return found


def test_every_rate_is_judged() -> None:
    """The law finds each rate of the glossary by its name."""
    assert all(is_rate(rate.name) for rate in RATES)
    assert impossible({"open_rate": 1.01, "flow_open_rate": 1.01, "sent": -1, "name": "x"}) == {
        "open_rate": 1.01, "sent": -1,
    }  # fmt: skip
    assert list(impossible({"click_rate": float("nan"), "bounce_rate": None})) == ["click_rate"]


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow],
    phases=set(Phase) - {Phase.shrink},
)  # fmt: skip
@given(courses)
def test_no_impossible_figure_is_published(course: list[Publication]) -> None:
    """After each single partial every window of every campaign obeys the law."""
    merger = Merger(course[0].minute)
    for publication in course:
        merger.windows.advance(min(publication.minute, merger.windows.minute + ADVANCED_MAX))
        for partial in publication.partials:
            merger.windows.apply([partial])
            check(merger, partial.key.campaign)
    for campaign in CAMPAIGNS:
        check(merger, campaign)


def check(merger: Merger, campaign: str) -> None:
    """Asserts the law for every window of a campaign."""
    for window in windows_of(merger, campaign):
        assert impossible(figures(window)) == {}, (campaign, window["window"])
        assert overdrawn(window["counts"]) == [], (campaign, window["window"])
        assert tangled(window["counts"]) == [], (campaign, window["window"])


def tangled(counts: dict[str, int]) -> list[str]:
    """Intervals of doubt whose ends are in the wrong order: of humans, unknown, at most, anyone."""
    return [
        kind
        for kind in ("cohort_opened", "cohort_clicked")
        if (row := [counts[f"{kind}{end}"] for end in ("", "_or_unknown", "_at_most", "_any")])
        != sorted(row)
    ]


def overdrawn(counts: dict[str, int]) -> list[str]:
    """What incidents are judged by: counts that exceed the messages that they are of."""
    bounced = sum(counts[name] for name in counts if name.startswith("attempt_bounced_"))
    out = ["attempt_bounced"] if bounced > counts["attempt_sent"] else []
    fresh = {
        name: counts[name] - counts[f"{name}_stale"] for name in counts if f"{name}_stale" in counts
    }
    return out + [
        name
        for name, count in fresh.items()
        if count < 0 or (name.startswith("cohort_") and count > fresh["delivered"])
    ]


def story(*steps: tuple[str, int, int]) -> list[Event]:
    """Kind, message and time (µs after the first) of events, in log order."""
    return [
        event(
            event_id=f"{number:032x}", event_type=kind, message_id=f"m{message}",
            recipient=f"u{message}@gmail.com", recipient_domain="gmail.com",
            received_at=RECEIVED_AT + at_us, occurred_at=RECEIVED_AT + at_us,
            bounce_class="hard" if kind == "bounced" else "none", user_agent=AGENT,
            click_url="https://shop.example/1" if kind == "clicked" else None,
        )
        for number, (kind, message, at_us) in enumerate(steps)
    ]  # fmt: skip


def totals(events: list[Event]) -> dict[str, Any]:
    """The figures of the campaign, since its first event."""
    partition = Partition(0)
    partition.feed(events)
    partials: list[Partial] = partition.publish()
    merger = Merger(max(partial.key.minute for partial in partials) + 1)
    merger.windows.apply(partials)
    return figures(windows_of(merger, "spring")[-1])


HOUR_US = DAY_US // 24


def test_a_late_bounce_takes_no_message_out_of_a_rate() -> None:
    """Two messages delivered and opened, one bounces afterwards: all were opened."""
    found = totals(
        story(
            *(("delivered", message, 0) for message in range(2)),
            *(("opened", message, HOUR_US) for message in range(2)), ("bounced", 1, 2 * HOUR_US),
        )
    )  # fmt: skip
    assert (found["bounce_rate"], found["open_rate"]) == (0, 1)
    assert (found["late_bounce_rate"], found["delivery_rate"]) == (0.5, 1)


def test_clickers_without_an_open_are_a_count() -> None:
    """Three messages clicked and one of them opened: of the opened all were clicked."""
    found = totals(
        story(
            *(("delivered", message, 0) for message in range(3)),
            *(("clicked", message, HOUR_US) for message in range(3)), ("opened", 0, 2 * HOUR_US),
        )
    )  # fmt: skip
    assert (found["click_to_open_rate"], found["clicked_unopened"]) == (1, 2)
    assert found["click_rate"] == 1


def test_yesterdays_bounces_are_not_subtracted_from_today() -> None:
    """One message delivered today and three bounced that were delivered yesterday."""
    partition = Partition(0)
    partition.feed(
        story(
            *(("delivered", message, 0) for message in range(1, 4)),
            *(("bounced", message, 2 * DAY_US) for message in range(1, 4)),
            ("delivered", 0, 2 * DAY_US),
        )
    )  # fmt: skip
    partials = partition.publish()
    merger = Merger(max(partial.key.minute for partial in partials) + 1)
    merger.windows.apply(partials)
    windows = {w["window"]: figures(w) for w in windows_of(merger, "spring")}
    day = windows["24h"]
    assert (day["sent"], day["delivered"], day["bounced_late"]) == (1, 1, 3)
    assert (day["delivery_rate"], day["late_bounce_rate"]) == (1, 0)
    assert windows["total"]["late_bounce_rate"] == 0.75


@pytest.mark.parametrize("days", [0, 2])
def test_a_bounce_is_counted_by_the_minute_of_its_first_attempt(days: int) -> None:
    """Also when the deferral was settled and stored before the bounce came."""
    fold, log = Fold(), log_of(story(("deferred", 0, 0), ("bounced", 0, days * DAY_US + HOUR_US)))
    for record in log:
        fold.fold([record])
        fold.checkpoint()
        fold.restart()
    minute = RECEIVED_AT // 60_000_000
    found = {key[2] - minute: row for key, row in test_step.figures(fold).items()}
    assert found[0] == {
        "events": 1, "deferred": 1, "attempt_sent": 1, "attempt_bounced_hard": 1,
    }  # fmt: skip
    assert found[days * 1440 + 60] == {"events": 1, "bounced_hard": 1}


def test_a_message_is_sent_once_however_its_events_are_settled() -> None:
    """A bounce, settled; then a delivery, which counts beside that; then a bounce once more."""
    found = totals(
        story(("bounced", 0, 0), ("delivered", 0, 2 * DAY_US), ("bounced", 0, 4 * DAY_US))
    )
    assert (found["delivered"], found["bounced"], found["bounced_late"]) == (1, 1, 0)
    assert (found["attempt_sent"], found["attempt_bounced_hard"]) == (1, 1)


def test_what_is_settled_early_by_attempt_stays_in_its_minute() -> None:
    """Of 70 events in one window the first ones are settled; an older deferral comes last."""
    many = [("sent", 0, HOUR_US + number) for number in range(70)]
    events = story(("deferred", 0, HOUR_US), ("bounced", 0, 2 * HOUR_US), *many)
    early = event(
        event_id=f"{99:032x}", event_type="deferred", message_id="m0", recipient="u0@gmail.com",
        recipient_domain="gmail.com", occurred_at=RECEIVED_AT,
        received_at=RECEIVED_AT + 3 * HOUR_US,
    )  # fmt: skip
    found = totals([*events, early])
    assert (found["attempt_sent"], found["attempt_bounced_hard"]) == (1, 1)
    assert overdrawn({name: found[name] for name in COUNTER_NAMES}) == []


def test_a_bounce_before_the_delivery_does_not_count() -> None:
    """The retry succeeded: nothing bounced."""
    found = totals(story(("bounced", 0, 0), ("delivered", 0, HOUR_US)))
    assert (found["sent"], found["bounced"], found["bounced_late"]) == (1, 0, 0)
