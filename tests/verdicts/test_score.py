"""The score, against cases made by hand."""

from dataclasses import replace

import pytest

from tests.verdicts import judged
from tests.verdicts.judged import Verdict, last_of, verdicts
from tests.verdicts.population import Client
from tests.verdicts.score import Interval, Tally, figures, interval, score_campaign
from tests.verdicts.season import Played, Size, season
from tests.verdicts.truth import Kind, Truth

HUMAN = Verdict("human", "", "probable")
UNKNOWN = Verdict("unknown", "cannot_know", "probable")
LIKELY = Verdict("machine", "x", "probable")
SURE = Verdict("scanner", "x", "high")
CERTAIN = Verdict("machine", "x", "certain")


@pytest.fixture(scope="module")
def played() -> list[Played]:
    """A small season."""
    return list(season(9, Size(lists=1, rounds=1, messages=60)))


def click(message: int, kind: Kind = Kind.CLICK, *, counts: bool = True) -> Truth:
    return Truth(kind, True, message, counts=counts)


def test_bounds_of_an_interval() -> None:
    """Below: human only. Above: all but machines of high certainty. Each message once."""
    some = [
        (click(1), HUMAN), (click(1), HUMAN), (click(1), CERTAIN),
        (click(2, Kind.SCAN_ALL), UNKNOWN), (click(3, Kind.SCAN_ALL), LIKELY),
        (click(4, Kind.SCAN_ALL), SURE), (click(5, Kind.SCAN_ALL), CERTAIN),
        (click(6), UNKNOWN),
    ]  # fmt: skip
    assert interval(some, 100) == Interval(below=1, above=4, truth=2, of=100)


@pytest.mark.parametrize(
    ("truth", "holds"), [(0, False), (1, True), (3, True), (4, True), (5, False)]
)
def test_an_interval_holds_the_truth_within_its_bounds_exactly(truth: int, holds: bool) -> None:
    """Bounds included, no tolerance."""
    one = Interval(below=1, above=4, truth=truth, of=200)
    assert one.holds == holds
    assert one.width_points == 1.5
    assert one.error_points == 100 * (1 - truth) / 200


def test_no_messages_give_no_width_and_no_error() -> None:
    """Of a list without Gmail, say."""
    assert Interval(0, 0, 0, 0).width_points == 0
    assert Interval(0, 0, 0, 0).error_points == 0
    assert Interval(0, 0, 0, 0).holds


def by_hand(played: Played) -> Played:
    """Four messages: to Gmail, to Gmail in Apple Mail, two others."""
    clients = (Client.GMAIL, Client.APPLE, Client.YAHOO, Client.OUTLOOK)
    domains = ("gmail.com", "gmail.com", "yahoo.com", "firm1.example")
    people = [
        replace(played.people[0], client=client, domain=domain)
        for client, domain in zip(clients, domains, strict=True)
    ]
    truths = {
        "gmail": Truth(Kind.VIEW_GMAIL, False, 0),
        "prefetch": Truth(Kind.PREFETCH_GMAIL, False, 0),
        "apple": Truth(Kind.PREFETCH_APPLE, False, 1),
        "yahoo": Truth(Kind.VIEW_YAHOO, False, 2),
        "scan": Truth(Kind.SCAN_OPEN, False, 3),
        "click": click(3),
        "scanned": click(3, Kind.SCAN_SINGLE),
        "left": click(2, counts=False),
    }
    return Played(replace(played.plan, links=1), people, [], truths)


def test_a_campaign_by_hand(played: list[Played]) -> None:
    """Opens leave out who reads in Apple Mail; clicks leave out the unsubscribe link."""
    one = by_hand(played[0])
    said = {
        "gmail": LIKELY, "prefetch": SURE, "apple": UNKNOWN, "yahoo": HUMAN, "scan": HUMAN,
        "click": HUMAN, "scanned": HUMAN, "left": SURE,
    }  # fmt: skip
    score = score_campaign(one, said)
    assert score.clicks == Interval(below=1, above=1, truth=1, of=4)
    assert score.opens == Interval(below=2, above=3, truth=2, of=3)
    assert score.gmail == Interval(below=0, above=1, truth=1, of=1)
    assert score.gmail_all == Interval(below=0, above=2, truth=1, of=2)


def test_shares_found_and_lost_by_hand(played: list[Played]) -> None:
    """Of clicks by gateways, and of what people did."""
    tally = Tally()
    said = {
        "gmail": LIKELY, "prefetch": SURE, "apple": UNKNOWN, "yahoo": HUMAN, "scan": HUMAN,
        "click": UNKNOWN, "scanned": LIKELY, "left": SURE,
    }  # fmt: skip
    tally.take(by_hand(played[0]), said)
    told = figures(tally)
    assert told["gateway_found_1_link"] == 1
    assert told["gateway_found_3_links"] == 0
    assert told["gateway_called_human_1_link"] == 0
    assert told["gateway_bursts_found_3_links"] == 0  # there was none
    assert told["human_lost"] == 0.5
    assert told["human_opens_lost"] == 0.5
    assert told["gmail_open_error_points"] == 100
    assert told["gmail_open_error_with_apple_points"] == 50
    assert told["verdicts_judged"] == 8
    assert told["confusion_person_view_gmail_machine_probable"] == 1
    assert told["confusion_machine_scan_single_machine_probable"] == 1


def judged_all(played: list[Played], verdict_of: dict[bool, Verdict]) -> dict[str, float]:
    """The figures when verdicts depend on nothing but whether it was a person."""
    tally = Tally()
    for one in played:
        said = {key: verdict_of[true.kind.is_person] for key, true in one.truths.items()}
        tally.take(one, said)
    return figures(tally)


def test_perfect_verdicts_have_perfect_figures(played: list[Played]) -> None:
    """So the aims can be met."""
    told = judged_all(played, {True: HUMAN, False: SURE})
    assert told["gateway_found_3_links"] == told["gateway_found_1_link"] == 1
    assert told["gateway_bursts_found_3_links"] == 1
    assert told["human_lost"] == told["human_opens_lost"] == 0
    assert told["interval_coverage"] == 1
    assert told["interval_width_points"] == told["gmail_open_error_points"] == 0


def test_verdicts_that_say_nothing_hold_the_truth_and_are_wide(played: list[Played]) -> None:
    """Doubt about everything finds no gateway, loses no one, and is worth nothing."""
    told = judged_all(played, {True: UNKNOWN, False: UNKNOWN})
    assert told["gateway_found_3_links"] == told["human_lost"] == 0
    assert told["interval_coverage"] == 1
    assert told["interval_width_opens_points"] > 20
    assert told["gmail_open_error_points"] > 20


def test_trusting_everyone_and_no_one_miss_the_truth(played: list[Played]) -> None:
    """From either side."""
    trusting = judged_all(played, {True: HUMAN, False: HUMAN})
    assert trusting["human_lost"] == trusting["gateway_found_3_links"] == 0
    assert trusting["gateway_called_human_3_links"] == 1
    assert trusting["interval_coverage_clicks"] < 0.7
    harsh = judged_all(played, {True: SURE, False: SURE})
    assert harsh["human_lost"] == harsh["gateway_found_3_links"] == 1
    assert harsh["interval_coverage_opens"] == 0


def test_an_event_without_a_verdict_is_an_error(played: list[Played]) -> None:
    """It would count for neither."""
    with pytest.raises(KeyError):
        score_campaign(by_hand(played[0]), {})
    with pytest.raises(ValueError, match="no campaign"):
        figures(Tally())


def test_the_newest_revision_holds() -> None:
    """A corrected verdict replaces the first; what nobody opened or clicked has none."""

    def added(actor: str, reason: str) -> dict[str, str]:
        return {"actor": actor, "actor_reason": reason, "actor_certainty": "high"}

    told = [
        ("a", added("human", "")),
        ("b", added("none", "")),
        ("a", added("scanner", "links_per_second")),
    ]
    assert last_of(told) == {"a": Verdict("scanner", "links_per_second", "high")}


def test_the_fold_judges_every_open_and_click_however_it_is_cut(
    played: list[Played], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real one."""
    one = played[-1]
    whole = verdicts(one.events)
    assert whole.keys() == one.truths.keys()
    monkeypatch.setattr(judged, "SLICE", 7)
    assert verdicts(one.events) == whole
