"""Alerts: raised above the line with enough messages, cleared below 80 % of it, once each."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import ConfigError
from streams.campaigns.alerts import (
    CLEAR_BELOW,
    LEVELS,
    MESSAGES_MIN,
    Crossing,
    Lines,
    Place,
    evaluate,
    recalled,
)
from streams.campaigns.windows import wilson
from tests.streams.test_windows import counts

LINES = Lines()


def crossed(
    hard: int, delivered: int, crossings: dict[Place, Crossing], at: int = 1
) -> list[tuple[str, str]]:
    """Level and state of the hard bounce alerts for these counts; updates ``crossings``."""
    vector = counts(bounced_hard=hard, delivered=delivered)
    alerts, changed = evaluate("a", "", vector, crossings, LINES, at)
    crossings.update(changed)
    return [(a["level"], a["state"]) for a in alerts if a["rate"] == "hard_bounce_rate"]


def test_each_level_is_raised_once_and_cleared_once() -> None:
    """Rising rates raise level by level; a steady rate raises nothing more."""
    crossings: dict[Place, Crossing] = {}
    assert crossed(0, 1000, crossings) == []
    assert crossed(45, 955, crossings) == [("watch", "raised")]
    assert crossed(45, 955, crossings) == []
    assert crossed(150, 850, crossings) == [("warning", "raised"), ("critical", "raised")]
    assert crossed(0, 1000, crossings) == [(level, "cleared") for level in LEVELS]
    assert crossed(0, 1000, crossings) == []


def test_few_messages_raise_nothing() -> None:
    """Below the minimum number of messages even an extreme rate is no alert."""
    assert crossed(50, MESSAGES_MIN - 51, {}) == []
    assert crossed(50, MESSAGES_MIN - 50, {}) != []


def test_rate_above_the_line_needs_its_lower_bound_above_it() -> None:
    """5.5 % of 200 may be chance: the lower bound decides, not the rate."""
    low, _ = wilson(11, 200) or (1.0, 1.0)
    assert low < 0.05 < 11 / 200
    assert ("warning", "raised") not in crossed(11, 189, {})


def test_between_clear_line_and_line_the_alert_stands() -> None:
    """Hysteresis: between the two it is neither cleared nor raised again."""
    crossings: dict[Place, Crossing] = {}
    crossed(100, 900, crossings)
    line = 0.05
    wavering = int(1000 * (CLEAR_BELOW * line + line) / 2)
    assert crossed(wavering, 1000 - wavering, crossings) == []


def test_a_second_crossing_has_another_id_and_a_replay_the_same() -> None:
    """The id identifies the crossing, whatever the clock says."""
    vector = counts(bounced_hard=100, delivered=900)
    first, changed = evaluate("a", "gmail", vector, {}, LINES, 10)
    replay, _ = evaluate("a", "gmail", vector, {}, LINES, 99)
    assert [a["alert_id"] for a in first] == [a["alert_id"] for a in replay]
    again = {place: Crossing(crossing.times, 0) for place, crossing in changed.items()}
    second, _ = evaluate("a", "gmail", vector, again, LINES, 50)
    assert {a["alert_id"] for a in second}.isdisjoint(a["alert_id"] for a in first)
    assert len({a["alert_id"] for a in first}) == len(first)


def test_the_most_special_line_holds() -> None:
    """Campaign pattern before mailbox provider before default, for each rate."""
    lines = Lines.load(
        {
            "complaint_rate": [0.01, 0.02, 0.03],
            "mailbox": {"gmail": {"complaint_rate": [0.001, 0.002, 0.003]}},
            "campaign": {"receipts-*": {"hard_bounce_rate": [0.1, 0.2, 0.3]}},
        }
    )
    assert lines.of("x", "")["complaint_rate"] == (0.01, 0.02, 0.03)
    assert lines.of("x", "gmail")["complaint_rate"] == (0.001, 0.002, 0.003)
    assert lines.of("x", "gmail")["hard_bounce_rate"] == (0.02, 0.05, 0.10)
    assert lines.of("receipts-7", "gmail")["hard_bounce_rate"] == (0.1, 0.2, 0.3)


def test_wrong_lines_are_named_all_at_once() -> None:
    """Unknown rates, decreasing levels and wrong shapes: each with its place in the file."""
    wrong = {"hard_bounce": [1, 2, 3], "complaint_rate": [0.3, 0.2, 0.1], "mailbox": {"gmail": 5}}
    with pytest.raises(ConfigError) as caught:
        Lines.load(wrong)
    assert [line.split(":")[0] for line in caught.value.problems] == [
        "alerts.hard_bounce", "alerts.complaint_rate", "alerts.mailbox.gmail.",
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["source", "tag"])
def test_lines_by_what_is_not_counted_are_refused_in_words(kind: str) -> None:
    """There are no rates by source or by tag, and the message says so."""
    with pytest.raises(ConfigError) as caught:
        Lines.load({kind: {"news": {"complaint_rate": [0.001, 0.002, 0.003]}}})
    [line] = caught.value.problems
    assert line.startswith(f"alerts.{kind}: counts are kept by campaign and mailbox provider")
    assert "alerts.campaign" in line


@given(st.lists(st.integers(0, 300), max_size=30), st.integers(0, 30), st.integers(0, 30))
def test_crossings_come_back_from_the_alerts_that_were_sent(
    bounces: list[int], known: int, again: int
) -> None:
    """From nothing, or from an earlier state; alerts read twice change nothing."""
    crossings: dict[Place, Crossing] = {}
    sent: list[dict[str, object]] = []
    then: list[dict[Place, Crossing]] = [{}]
    ends = [0]
    for at, hard in enumerate(bounces, 1):
        vector = counts(bounced_hard=hard, delivered=1000 - hard)
        alerts, changed = evaluate("a", "", vector, crossings, LINES, at)
        crossings.update(changed)
        sent += alerts
        then.append(dict(crossings))
        ends.append(len(sent))
    known = min(known, len(bounces))
    begin = max(0, ends[known] - again)
    assert recalled(sent, {}) == crossings
    assert then[known] | recalled(sent[begin:], then[known]) == crossings
