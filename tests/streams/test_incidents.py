"""Incidents by their counts alone: levels, places, hysteresis, hold, pauses, causes, replays."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import Codec
from schemas.glossary import COUNTER_INDEX
from schemas.topics import ALERTS, TOPICS
from streams.campaigns.causes import Cause, advice
from streams.campaigns.evidence import MAILBOXES_MAX
from streams.campaigns.incidents import (
    CLEAR_BELOW,
    CLOSED,
    EASED,
    ESCALATED,
    ID_PERIOD_US,
    OPENED,
    Held,
    Key,
    look,
    recalled,
)
from streams.campaigns.lines import Lines
from streams.campaigns.measures import (
    BYTES_MAX,
    DAYS,
    HOURS,
    MAILBOXES_STORED_MAX,
    MEASURES,
    SENT,
    SPANS,
    Judged,
)
from streams.enrich.vectors import WIDTH

NOW = 29_400_000
"""The running minute."""
US = 60_000_000
AT_ONCE = Lines(hold_us=0)


def delta(**named: int) -> list[int]:
    """A vector with some counters set, of messages whose first attempt decided."""
    out = [0] * WIDTH
    for name, value in named.items():
        out[COUNTER_INDEX[name]] += value
        if name.startswith("bounced_"):
            out[COUNTER_INDEX[f"attempt_{name}"]] += value
        if name == "delivered" or name.startswith("bounced_"):
            out[COUNTER_INDEX["attempt_sent"]] += value
    return out


class Course:
    """A campaign's sums and what is remembered of its incidents."""

    def __init__(self, lines: Lines = AT_ONCE) -> None:
        self.lines = lines
        self.judged = Judged()
        self.held: dict[Key, Held] = {}
        self.sent: list[dict[str, Any]] = []

    def add(self, mailbox: str = "gmail", minute: int = NOW, **counts: int) -> None:
        """More mail."""
        self.judged.add(mailbox, minute, delta(**counts))

    def look(self, minute: int = NOW) -> list[tuple[str, str]]:
        """State and level of what is told now."""
        records, changed = look("a", self.judged, self.held, self.lines, minute * US)
        self.held.update(changed)
        self.sent += records
        return [(one["state"], one["level"]) for one in records]


def test_each_level_is_told_once_and_the_end_once() -> None:
    """Rising rates raise the level; a steady rate tells nothing; a falling one eases and closes."""
    course = Course()
    course.add(delivered=1000)
    assert course.look() == []
    course.add(bounced_hard=45)
    assert course.look() == [("opened", "watch")]
    assert course.look() == []
    course.add(bounced_hard=150)
    assert course.look() == [("escalated", "critical")]
    course.add(delivered=2000)
    assert course.look() == [("eased", "warning")]
    course.add(delivered=20_000)
    assert course.look() == [("closed", "critical")]
    assert course.look() == []
    assert [one["sequence"] for one in course.sent] == [1, 2, 3, 4]
    assert len({one["incident_id"] for one in course.sent}) == 1


def test_between_the_line_and_80_percent_of_it_the_level_stands() -> None:
    """Hysteresis: there it is neither eased nor told again."""
    course = Course()
    course.add(bounced_hard=100, delivered=900)
    [(_, level)] = course.look()
    assert level == "warning"
    total = int(100 / ((1 + CLEAR_BELOW) / 2 * 0.05))
    course.add(delivered=total - 1000)
    assert course.look() == []


def test_a_second_incident_has_another_id() -> None:
    """After one was closed."""
    course = Course()
    for _ in range(2):
        course.add(bounced_hard=300, delivered=700)
        course.look()
        course.add(delivered=60_000)
        course.look()
        course.judged = Judged()
    assert [one["state"] for one in course.sent] == ["opened", "closed"] * 2
    assert len({one["incident_id"] for one in course.sent}) == 2


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 3)), max_size=25))
def test_nothing_is_told_that_did_not_last(steps: list[tuple[int, int]]) -> None:
    """With a hold of 2 minutes, a level must be left at every look of 2 minutes."""
    course = Course(Lines(hold_us=2 * US))
    minute, since = NOW, None
    for hard, passed in steps:
        minute += passed
        course.judged = Judged()
        course.add(delivered=1000 - hard, bounced_hard=hard, minute=minute)
        before = course.held.get(("a", "hard_bounce_rate"), Held()).level
        told = course.look(minute)
        instant = Course()
        instant.judged, instant.held = course.judged, {}
        instant.judged.grown = {"attempt_bounced_hard"}
        instant.look(minute)
        is_above = bool(instant.held.get(("a", "hard_bounce_rate"), Held()).level)
        if before == 0:
            since = (minute if since is None else since) if is_above else None
        if ("opened", 1) in [(one, course.sent[-1]["sequence"]) for one, _ in told] and not before:
            assert since is not None
            assert minute - since >= 2
            since = None


@given(
    st.lists(
        st.tuples(
            st.integers(0, 400), st.integers(0, 3000), st.integers(0, 4), st.integers(0, 90)
        ),
        min_size=1, max_size=12,
    ),
    st.randoms(use_true_random=False),
)  # fmt: skip
def test_the_counts_decide_and_not_the_order_in_which_they_came(
    parts: list[tuple[int, int, int, int]], dice: Any
) -> None:
    """Sums of any order, stored and read between, are judged alike."""
    named = ["gmail", "yahoo", "microsoft", "apple", "other"]
    found = []
    for _ in range(2):
        course = Course()
        for hard, good, mailbox, ago in parts:
            course.add(named[mailbox], NOW - 60 * ago, bounced_hard=hard, delivered=good)
            if dice.random() < 0.3:
                grown, course.judged = course.judged.grown, Judged.unpack(course.judged.pack())
                course.judged.grown = grown  # workers store what they have looked at
            if dice.random() < 0.3:
                course.judged.forget(NOW)
            for span in SPANS:
                stored = Judged.unpack(course.judged.pack()).window(span, NOW)
                assert course.judged.window(span, NOW) == stored
        course.look()
        found.append(course.sent)
        dice.shuffle(parts)
    assert found[0] == found[1]


@given(st.lists(st.integers(0, 300), max_size=20), st.integers(0, 20), st.integers(0, 20))
def test_what_is_remembered_comes_back_from_the_records_sent(
    bounces: list[int], known: int, again: int
) -> None:
    """From nothing, or from an earlier state; records read twice change nothing."""
    course = Course()
    then: list[dict[Key, Held]] = [{}]
    ends = [0]
    codec = Codec()
    for number, hard in enumerate(bounces):
        course.judged = Judged()
        course.add(delivered=1000 - hard, bounced_hard=hard)
        course.look(NOW + number)
        then.append(dict(course.held))
        ends.append(len(course.sent))
    sent = [codec.decode(codec.encode("alert", one), "alert") for one in course.sent]
    known = min(known, len(bounces))
    told = {key: one for key, one in course.held.items() if one.number}
    assert recalled(sent, {}) == told
    begin = max(0, ends[known] - again)
    restored = then[known] | recalled(sent[begin:], then[known])
    assert {key: one for key, one in restored.items() if one.number} == told


def test_good_mail_that_leaves_the_window_makes_no_news_of_bad_mail_that_stays() -> None:
    """Judged while both were there; a day later only the next bad message can open it."""
    course = Course()
    course.add(minute=NOW, delivered=20_000)
    course.add(minute=NOW + 60, delivered=4_800, bounced_hard=200)
    assert course.look(NOW + 60) == []
    later = NOW + 1440 + 20
    course.add(minute=later, delivered=10)
    assert course.look(later) == []
    course.add(minute=later, bounced_hard=1)
    assert course.look(later) == [("opened", "watch")]


def test_messages_and_complaints_are_the_same_messages() -> None:
    """Complaints of six days ago count with the deliveries of that day; of eight days ago
    neither."""
    course = Course()
    course.add(minute=NOW - 6 * 1440, delivered=1000, cohort_complained=60)
    course.add(minute=NOW - 8 * 1440, delivered=9000, cohort_complained=900)
    assert course.look() == [("opened", "critical")]
    [record] = course.sent
    assert (record["numerator"], record["denominator"], record["window"]) == (60, 1000, "7d")


@pytest.mark.parametrize(("rate", "measure"), MEASURES.items())
def test_windows_are_whole_and_old_news_is_none(rate: str, measure: Any) -> None:
    """Exactly the last 24 hours or 7 days, the running one among them."""
    length = measure.span.minutes * (HOURS if measure.span is SENT else DAYS)
    end = (NOW // measure.span.minutes + 1) * measure.span.minutes
    for minute, expected in ((end - length - 1, 0), (end - length, 7), (end - 1, 7), (end, 0)):
        judged = Judged()
        judged.add("gmail", minute, delta(**{name: 7 for name in measure.above}))
        sums = judged.window(measure.span, NOW)
        assert sum(measure.figures(one)[0] for one in sums.values()) == expected * len(
            measure.above
        ), (rate, minute)


def test_the_sums_of_a_campaign_are_bounded() -> None:
    """However many mailbox providers, hours and days."""
    judged = Judged()
    for hour in range(-60, 1):
        for mailbox in range(MAILBOXES_STORED_MAX + 30):
            judged.add(
                f"m{mailbox}", NOW + 60 * hour,
                delta(delivered=1 << 30, bounced_hard=1 << 30, cohort_complained=1 << 30),
            )  # fmt: skip
    judged.forget(NOW)
    assert len(judged.pack()) < BYTES_MAX + 40 * MAILBOXES_STORED_MAX * 8
    assert judged.window(SENT, NOW)["other"][0] == 24 * 30 * (2 << 30)
    assert len(judged.window(SENT, NOW)) == MAILBOXES_STORED_MAX + 1


def paused(**tables: Any) -> Lines:
    """Lines without a hold."""
    return Lines.load({"hold_seconds": 0, **tables})


def test_a_paused_line_opens_nothing_until_then_by_the_logs_time() -> None:
    """And does not escalate, but may ease and close."""
    until = datetime.fromtimestamp((NOW + 10) * 60, UTC)
    course = Course(paused(campaign={"a": {"hard_bounce_rate": {"paused_until": until}}}))
    course.add(bounced_hard=200, delivered=800)
    assert course.look(NOW) == []
    assert course.look(NOW + 9) == []
    assert course.look(NOW + 10) == [], "what came before is old news"
    course.add(bounced_hard=1)
    assert course.look(NOW + 11) == [("opened", "critical")]
    calmer = Course(AT_ONCE)
    calmer.add(bounced_hard=45, delivered=955)
    assert calmer.look() == [("opened", "watch")]
    calmer.lines = course.lines
    calmer.add(bounced_hard=400)
    assert calmer.look(NOW + 1) == [("opened", "watch")], "only newer figures"
    calmer.add(delivered=60_000)
    assert calmer.look(NOW + 2) == [("closed", "watch")]


def test_a_silent_line_is_never_an_incident_and_closes_the_one_that_is_open() -> None:
    """``hard_bounce_rate = "off"`` for one campaign; others keep theirs."""
    course = Course()
    course.add(bounced_hard=200, delivered=800)
    assert course.look() == [("opened", "critical")]
    course.lines = paused(campaign={"a*": {"hard_bounce_rate": "off"}})
    assert course.look() == [("closed", "critical")]
    assert course.look() == []
    assert course.lines.levels_of("b")["hard_bounce_rate"] == (0.02, 0.05, 0.10)


def test_a_mailbox_provider_alone_makes_the_incident_of_its_campaign() -> None:
    """Gmail's line is lower; the figures are those of Gmail, and so is the cause."""
    course = Course()
    course.add("gmail", delivered=20_000, cohort_complained=140)
    course.add("yahoo", delivered=300_000, cohort_complained=60)
    assert course.look() == [("opened", "critical")]
    [record] = course.sent
    assert (record["mailbox_provider"], record["numerator"]) == ("gmail", 140)
    assert [one["mailbox_provider"] for one in record["places"]] == ["gmail"]
    course.add("apple", delivered=1000, cohort_complained=300)
    assert course.look(NOW + 1)[0][1] == "critical"


@pytest.mark.parametrize(
    ("mail", "kind", "name"),
    [
        ([("gmail", 0, 90, 910), ("yahoo", 0, 2, 998)], "mailbox_provider", "gmail"),
        ([("gmail", 0, 90, 910), ("yahoo", 0, 80, 920)], "everywhere", ""),
        ([("gmail", 0, 90, 910), ("gmail", 120, 5, 2000)], "time", "2025-11-24 16:00"),
        ([("gmail", 0, 90, 0), ("yahoo", 0, 20, 0)], "no_deliveries", ""),
        ([("gmail", 0, 90, 910)], "everywhere", ""),
    ],
)
def test_the_likely_cause_is_what_stands_out(
    mail: Sequence[tuple[str, int, int, int]], kind: str, name: str
) -> None:
    """One mailbox provider, one hour, missing deliveries; or none of them."""
    course = Course()
    for mailbox, ago, hard, good in mail:
        course.add(mailbox, NOW - ago, bounced_hard=hard, delivered=good)
    course.look()
    [record] = course.sent
    assert (record["cause"], record["cause_name"]) == (kind, name)
    assert name in record["advice"]


def test_only_the_largest_mailbox_providers_are_judged_alone() -> None:
    """The error is divided among so many; all count for the campaign as a whole."""
    course = Course()
    for number in range(MAILBOXES_MAX + 5):
        course.add(f"m{number:02}", bounced_hard=50, delivered=100 + number)
    course.look()
    [record] = course.sent
    names = [one["mailbox_provider"] for one in record["places"]]
    assert names == ["", *(f"m{number:02}" for number in range(5, MAILBOXES_MAX + 5))]


def test_figures_of_an_open_incident_are_told_again_once_a_minute() -> None:
    """Under the same sequence, while what was so when it was opened stays."""
    course = Course()
    course.add(bounced_hard=45, delivered=955)
    course.look()
    course.add(bounced_hard=1)
    assert course.look() == []
    assert course.look(NOW + 1) == [("opened", "watch")]
    assert course.look(NOW + 5) == []
    first, second = course.sent
    assert first["sequence"] == second["sequence"]
    assert (second["numerator"], second["opened_numerator"]) == (46, 45)
    assert second["as_of"] > first["as_of"] == second["changed_at"]


def test_whoever_counts_incidents_from_1_again_gives_another_id() -> None:
    """A worker without state, after the topic dropped the earlier records."""
    [kept_ms] = [one.retention_ms for one in TOPICS if one.name == ALERTS]
    assert kept_ms is not None
    assert ID_PERIOD_US <= kept_ms * 1000
    ids = set()
    for ago in range(3):
        minute = NOW - ago * kept_ms // 60_000
        course = Course()
        course.add(minute=minute, delivered=700, bounced_hard=300)
        assert course.look(minute) == [("opened", "critical")]
        ids.add(course.sent[0]["incident_id"])
    assert len(ids) == 3


def test_an_id_stays_over_the_whole_life_of_an_incident() -> None:
    """Also if it is longer than the period that its id depends on."""
    course = Course()
    for day in range(0, 40):
        course.add(minute=NOW + day * 1440, delivered=700, bounced_hard=300)
        course.look(NOW + day * 1440)
    assert {one["state"] for one in course.sent} == {"opened"}
    assert len({one["incident_id"] for one in course.sent}) == 1


_OPEN = {ESCALATED, EASED, CLOSED}
_NEXT = {CLOSED: {OPENED}, OPENED: _OPEN, ESCALATED: _OPEN, EASED: _OPEN}
_STEPS = st.tuples(
    st.sampled_from(["gmail", "yahoo", "example.com", ""]), st.integers(0, 400),
    st.integers(0, 60), st.integers(0, 3000), st.integers(-3000, 3000), st.integers(0, 1500),
    st.sampled_from(["none", "off", "strict", "paused"]), st.booleans(),
)  # fmt: skip


def _lines(kind: str, minute: int, hold_us: int) -> Lines:
    until = datetime.fromtimestamp((minute + 30) * 60, UTC)
    rates: dict[str, Any] = {
        "off": "off", "strict": [0.0001, 0.0002, 0.9], "paused": {"paused_until": until},
    }  # fmt: skip
    wished = rates.get(kind)
    tables = {} if wished is None else {"hard_bounce_rate": wished, "complaint_rate": wished}
    return Lines.load({"hold_seconds": hold_us // 1_000_000, **tables})


@given(st.lists(_STEPS, max_size=30), st.sampled_from([0, 60_000_000]))
def test_a_consumer_sees_one_thing_that_changes_in_legal_order(
    steps: list[Any], hold_us: int
) -> None:
    """Whatever arrives, in any order of time, with lines that change and workers that restart."""
    course, minute = Course(), NOW
    codec = Codec()
    for mailbox, hard, complaints, good, shift, passed, kind, restarts in steps:
        minute += passed
        course.lines = _lines(kind, minute, hold_us)
        course.add(
            mailbox, minute + shift, bounced_hard=hard, cohort_complained=complaints, delivered=good
        )
        for later in (0, 1, 2):
            course.look(minute + later)
        minute += 2
        if restarts:  # from an empty store: the records tell all
            course.held = recalled(course.sent, {})
            course.judged = Judged.unpack(course.judged.pack())
    for rate in MEASURES:
        state, known = CLOSED, (0, 0)
        for one in course.sent:
            if one["rate"] != rate:
                continue
            change = one["number"], one["sequence"]
            if change == known:
                assert one["state"] == state, "only newer figures"
                continue
            assert one["state"] in _NEXT[state]
            opens = one["state"] == OPENED
            assert change == ((known[0] + 1, 1) if opens else (known[0], known[1] + 1))
            state, known = one["state"], change
            assert codec.decode(codec.encode("alert", one), "alert") == one
    ids = {(one["rate"], one["number"]): one["incident_id"] for one in course.sent}
    assert len(set(ids.values())) == len(ids)
    assert all(ids[one["rate"], one["number"]] == one["incident_id"] for one in course.sent)


def test_advice_claims_no_more_than_the_counts_show() -> None:
    """Neither «nearly all» of 70 %, nor «spread» of a send of one hour to one mailbox provider."""
    text = advice("complaint_rate", Cause("mailbox_provider", "gmail", 0.996))
    assert text.startswith("99 % of it is at gmail.")
    course = Course()
    course.add(bounced_hard=100, delivered=100)
    course.look()
    assert course.sent[0]["advice"].startswith("No mailbox provider and no time stands out.")
