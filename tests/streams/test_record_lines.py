"""A record of each topic on one line, and in a format of the caller's."""

from contextlib import redirect_stdout
from io import StringIO
from typing import Any

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from schemas import topics
from schemas.topics import BY_NAME
from streams.cli import tail
from streams.cli.record_lines import PLACES, checked, figures, filled
from streams.terminal.output import put_lines
from tests.builders import enrichment, event, record

PLACE = {"at": "t", "topic": "x", "partition": 2, "offset": 7, "key": "k"}


def test_counts_of_a_minute_are_shown() -> None:
    """Those that are not 0."""
    minute = record("campaign_minute", campaign_id="spring", delivered=20, opened=3, clicked=0)
    assert figures(minute) == ["delivered=20", "opened=3"]


def test_rates_of_the_last_hour_are_shown_with_their_numbers() -> None:
    """A rate without messages is left out."""
    counts = {"delivered": 52, "opened": 12, "clicked": 0}
    rates = [
        {"name": "open_rate", "numerator": 12, "denominator": 52},
        {"name": "click_rate", "numerator": 0, "denominator": 52},
        {"name": "bounce_rate", "numerator": 0, "denominator": 0},
    ]
    windows = [{"window": name, "counts": counts, "rates": rates} for name in ("5m", "1h")]
    assert figures({"windows": windows}) == [
        "window=1h", "delivered=52", "opened=12", "clicked=0",
        "open_rate=23.1 % (12/52)", "click_rate=0 % (0/52)",
    ]  # fmt: skip


@pytest.mark.parametrize("topic", BY_NAME.values(), ids=lambda topic: topic.schema)
def test_a_format_knows_the_fields_of_each_topic(topic: Any) -> None:
    """Every field of the record, and of an enriched one's parts; nothing else."""
    fields = tail._fields(topic)
    for name in (*fields, *PLACES):
        assert checked(f"{{{name}}}", fields) == f"{{{name}}}"
    with pytest.raises(typer.BadParameter, match="no field 'nonsense'"):
        checked("{nonsense}", fields)


def test_fields_are_filled_in() -> None:
    """Of an event and of what was added to it; numbers as they are, nothing where nothing is."""
    enriched = {
        "event": event(event_type="opened", recipient="a•••@example.com"),
        "enrichment": enrichment(campaign_id="spring", first_human=True),
    }
    fields = tail._fields(BY_NAME[topics.ENRICHED])
    template = checked(
        r"{partition}:{offset}\t{event_type} {campaign_id} {first_human}{click_url}{{}}", fields
    )
    assert filled(template, PLACE, enriched) == "2:7\topened spring true{}"
    assert filled("{key}={value}", PLACE, None) == "k="
    assert filled("{value}", PLACE, {"a": 1}) == '{"a":1}'


@given(value=st.text(alphabet='a\t\n\r\x1b\u202e"', max_size=5))
def test_no_value_forges_a_column_or_a_line(value: str) -> None:
    """The format's own tabs and line ends arrive at the terminal; those of values do not."""
    shown = StringIO()
    with redirect_stdout(shown):
        put_lines(filled(checked(r"{a}\t{key}\n{value}", ["a"]), PLACE, {"a": value}))
    first, second, end = shown.getvalue().split("\n")
    assert (first.count("\t"), second.count("\t"), end) == (1, 0, "")
    assert first.endswith("\tk")
    assert (first.replace("\t", "") + second).isprintable()


@pytest.mark.parametrize("template", ["{", "}", "{a.b}", "{0}", "{at!r}", "{at:>9}", "{ at }"])
def test_what_is_no_name_is_refused(template: str) -> None:
    """So that nobody waits for what never comes; and no format reaches into Python."""
    with pytest.raises(typer.BadParameter):
        checked(template, ["a"])


@given(st.text())
def test_any_text_is_either_refused_or_filled(template: str) -> None:
    """Without another error."""
    try:
        checked(template, ["a"])
    except typer.BadParameter:
        return
    filled(template, PLACE, {"a": 1})


def test_where_to_begin() -> None:
    """A time, or offsets by partition."""
    assert tail.beginning("10m", 1_000.0) == (400.0, None)
    assert tail.beginning("2026-11-24T08:00:00+00:00", 0.0)[1] is None
    assert tail.beginning("0:1500,3:7", 0.0) == (None, {0: 1500, 3: 7})
    for wrong in ("1500", "0:", "0:1;1:2", "x:1"):
        with pytest.raises(typer.BadParameter):
            tail.beginning(wrong, 0.0)
