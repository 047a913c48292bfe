"""The section ``[alerts]`` of ``mailpulse.toml``."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import ConfigError
from schemas.sources import load_alerts
from streams.campaigns.lines import HOLD_S, Line, Lines


def test_the_most_special_line_holds() -> None:
    """Campaign pattern before mailbox provider before default, for each rate."""
    lines = Lines.load(
        {
            "complaint_rate": [0.01, 0.02, 0.03],
            "mailbox": {"gmail": {"complaint_rate": [0.001, 0.002, 0.004]}},
            "campaign": {"receipts-*": {"hard_bounce_rate": [0.1, 0.2, 0.3]}},
        }
    )
    assert lines.of("x", "")["complaint_rate"].levels == (0.01, 0.02, 0.03)
    assert lines.of("x", "yahoo")["complaint_rate"].levels == (0.01, 0.02, 0.03)
    assert lines.of("x", "gmail")["complaint_rate"].levels == (0.001, 0.002, 0.004)
    assert lines.of("x", "gmail")["hard_bounce_rate"].levels == (0.02, 0.05, 0.10)
    assert lines.of("receipts-7", "gmail")["hard_bounce_rate"].levels == (0.1, 0.2, 0.3)


@pytest.mark.parametrize("mailbox", ["gmail", "yahoo"])
def test_bulk_senders_lines_hold_where_nothing_else_is_set(mailbox: str) -> None:
    """Google and Yahoo ask for less than 0.1 %, and never 0.3 %."""
    levels = Lines().of("x", mailbox)["complaint_rate"].levels
    assert levels is not None
    assert (levels[0], levels[2]) == (0.001, 0.003)


def test_a_line_is_written_as_three_numbers_as_off_or_with_a_pause() -> None:
    """And a pause keeps the lines that hold otherwise."""
    text = """
    [alerts]
    hold_seconds = 300
    late_bounce_rate = "off"
    [alerts.campaign."spring-*"]
    complaint_rate = { paused_until = 2026-12-01T08:00:00Z }
    bounce_rate = { lines = [0.1, 0.2, 0.3], paused_until = 2026-12-01T08:00:00+01:00 }
    """
    lines = Lines.load(load_alerts(text))
    assert lines.hold_us == 300_000_000
    assert Lines().hold_us == HOLD_S * 1_000_000
    assert lines.of("x", "")["late_bounce_rate"].levels is None
    assert "late_bounce_rate" not in lines.levels_of("x")
    until = int(datetime(2026, 12, 1, 8, tzinfo=UTC).timestamp() * 1e6)
    assert lines.of("spring-1", "")["complaint_rate"] == Line((0.001, 0.003, 0.005), until)
    paused = lines.of("spring-1", "")["bounce_rate"]
    assert paused == Line((0.1, 0.2, 0.3), until - 3_600_000_000)


def test_wrong_lines_are_named_all_at_once() -> None:
    """Unknown rates, decreasing levels, wrong shapes, times without a zone: each with its place."""
    wrong = {
        "hold_seconds": -1,
        "hard_bounce": [1, 2, 3],
        "open_rate": [0.1, 0.2, 0.3],
        "complaint_rate": [0.3, 0.2, 0.1],
        "bounce_rate": {"paused_until": datetime(2026, 12, 1)},
        "soft_bounce_rate": {"pause": 5},
        "block_bounce_rate": {},
        "mailbox": {"gmail": 5},
    }
    with pytest.raises(ConfigError) as caught:
        Lines.load(wrong)
    assert [line.split(":")[0] for line in caught.value.problems] == [
        "alerts.hold_seconds", "alerts.hard_bounce", "alerts.open_rate", "alerts.complaint_rate",
        "alerts.bounce_rate", "alerts.soft_bounce_rate", "alerts.block_bounce_rate",
        "alerts.mailbox.gmail",
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["source", "tag"])
def test_lines_by_what_is_not_counted_are_refused_in_words(kind: str) -> None:
    """There are no rates by source or by tag, and the message says so."""
    with pytest.raises(ConfigError) as caught:
        Lines.load({kind: {"news": {"complaint_rate": [0.001, 0.002, 0.003]}}})
    [line] = caught.value.problems
    assert line.startswith(f"alerts.{kind}: counts are kept by campaign and mailbox provider")
    assert "alerts.campaign" in line


@given(st.text(st.characters(exclude_characters="*?", exclude_categories=["Cs"])), st.text())
def test_a_pattern_without_wildcards_fits_its_own_campaign_alone(name: str, other: str) -> None:
    """Brackets, dots and line breaks are letters: ids such as «[A/B] spring» are common."""
    lines = Lines.load({"campaign": {name: {"complaint_rate": "off"}}})
    assert lines.of(name, "")["complaint_rate"].levels is None
    assert (lines.of(other, "")["complaint_rate"].levels is None) == (other == name)


@pytest.mark.parametrize(
    ("pattern", "fits", "fits_not"),
    [("[A/B] *", "[A/B] spring", "A spring"), ("a?c", "a.c", "ac"), ("*", "x\ny", None)],
)
def test_a_pattern_has_two_wildcards(pattern: str, fits: str, fits_not: str | None) -> None:
    """``*`` for any text, ``?`` for one character."""
    lines = Lines.load({"campaign": {pattern: {"complaint_rate": "off"}}})
    assert lines.of(fits, "")["complaint_rate"].levels is None
    if fits_not is not None:
        assert lines.of(fits_not, "")["complaint_rate"].levels is not None
