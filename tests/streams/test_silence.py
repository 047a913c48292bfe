"""Silences as incidents: opened once, closed once, never told by absence itself."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import Codec
from streams.books.rhythm import WEEK_SLOTS, Rhythm, learn
from streams.books.silence import SLOT_US, WHOLE, Held, Key, Stream, learned, look

MINUTE_US = 60_000_000
BEGIN = 2_900 * WEEK_SLOTS
NOW_US = (BEGIN + 5 * WEEK_SLOTS) * SLOT_US
NEWS, OPENS, CLICKS = Key("news", WHOLE), Key("news", "opened"), Key("news", "clicked")


def _always() -> Rhythm:
    rhythm = learn(range(BEGIN, BEGIN + 4 * WEEK_SLOTS))
    assert rhythm is not None
    return rhythm


ALWAYS = _always()


def _stream(ago_minutes: int, rhythm: Rhythm | None = ALWAYS) -> Stream:
    return Stream(rhythm, NOW_US - ago_minutes * MINUTE_US)


def _after(minutes: int) -> int:
    return NOW_US + minutes * MINUTE_US


def test_a_silence_is_opened_once_and_closed_by_the_next_event() -> None:
    """With what was usual, since when, and when it came again."""
    quiet = {NEWS: _stream(40)}
    [opened], held = look(quiet, {}, NOW_US)
    assert (opened["state"], opened["sequence"], opened["level"]) == ("opened", 1, "critical")
    assert opened["silent_since"] == NOW_US - 40 * MINUTE_US
    assert opened["usual_gap_s"] <= opened["explained_s"] < 40 * 60
    assert "mailpulse send-test news" in opened["advice"]
    assert look(quiet, held, _after(60)) == ([], held)
    back = {NEWS: Stream(ALWAYS, _after(61))}
    [closed], held = look(back, held, _after(62))
    assert (closed["state"], closed["sequence"], held) == ("closed", 2, {})
    assert closed["resumed_at"] == _after(61)
    same = ("incident_id", "silent_since", "opened_at", "usual_gap_s", "explained_s", "source")
    assert {name: closed[name] for name in same} == {name: opened[name] for name in same}
    assert look(back, held, _after(62)) == ([], {})


def test_two_processes_tell_one_incident_under_one_identity() -> None:
    """Whenever each of them looks."""
    quiet = {NEWS: _stream(40)}
    [one], [other] = (look(quiet, {}, _after(minutes))[0] for minutes in (0, 7))
    assert (one["incident_id"], one["sequence"]) == (other["incident_id"], other["sequence"])
    [again], _ = look({NEWS: Stream(ALWAYS, _after(90))}, {}, _after(200))
    assert again["incident_id"] != one["incident_id"]


def test_one_event_type_may_be_silent_and_of_a_silent_source_none_is_told() -> None:
    """A source that is silent is one incident, not one for each event type."""
    lively = {NEWS: _stream(1), OPENS: _stream(40), CLICKS: _stream(1)}
    [record], held = look(lively, {}, NOW_US)
    assert (record["event_type"], record["level"]) == ("opened", "warning")
    assert "opened" in record["advice"]
    dead = {NEWS: _stream(40), OPENS: _stream(40), CLICKS: _stream(40)}
    [record], _ = look(dead, {}, NOW_US)
    assert record["event_type"] == ""
    both = look(dead, held, NOW_US)[1]
    assert set(both) == {NEWS, OPENS}


def test_after_a_silence_of_its_source_an_event_type_has_its_time() -> None:
    """Opens come back with the next mail, not with the first event of any kind."""
    dead = {NEWS: _stream(40), OPENS: _stream(40)}
    _, held = look(dead, {}, NOW_US)
    back = {NEWS: Stream(ALWAYS, _after(1)), OPENS: _stream(40)}
    [closed], held = look(back, held, _after(1))
    assert (closed["event_type"], held) == ("", {})
    for minutes, number in ((10, 0), (40, 1)):
        again = {NEWS: Stream(ALWAYS, _after(minutes)),
                 OPENS: Stream(ALWAYS, NOW_US - 40 * MINUTE_US, _after(1))}  # fmt: skip
        records, _ = look(again, held, _after(minutes))
        assert len(records) == number
    assert records[0]["silent_since"] == NOW_US - 40 * MINUTE_US


def test_what_has_no_rhythm_is_not_judged_and_what_lost_it_is_closed() -> None:
    """A source that was removed is not silent for ever."""
    assert look({NEWS: _stream(40 * 1440, None)}, {}, NOW_US) == ([], {})
    _, held = look({NEWS: _stream(40)}, {}, NOW_US)
    for streams in ({}, {NEWS: _stream(40, None)}):
        [closed], after = look(streams, held, _after(90 * 1440))
        assert (closed["state"], closed["resumed_at"], after) == ("closed", None, {})


def test_nothing_is_silent_while_the_pipeline_is_behind() -> None:
    """The time of a look is through when all is known, which may lie before the newest event."""
    assert look({NEWS: _stream(40)}, {}, NOW_US - 39 * MINUTE_US) == ([], {})
    assert look({NEWS: _stream(40)}, {}, 0) == ([], {})


@given(
    steps=st.lists(
        st.tuples(st.integers(0, 50), st.sampled_from([(), (NEWS,), (OPENS,), (NEWS, OPENS)])),
        max_size=30,
    )
)
def test_any_course_opens_and_closes_in_turn(
    steps: list[tuple[int, tuple[Key, ...]]],
) -> None:
    """Records alternate by stream, survive the codec, and the open ones are recalled from them."""
    codec = Codec()
    streams = {NEWS: _stream(0), OPENS: _stream(0)}
    held: dict[Key, Held] = {}
    told: dict[Key, list[dict[str, Any]]] = {}
    now = NOW_US
    for minutes, came in steps:
        now += minutes * MINUTE_US
        for key in came:
            streams[key] = Stream(ALWAYS, now)
        if OPENS in came:
            streams[NEWS] = Stream(ALWAYS, now)
        records, held = look(streams, held, now)
        for record in records:
            stored = codec.decode(codec.encode("source_alert", record), "source_alert")
            assert stored == record
            told.setdefault(Key(record["source"], record["event_type"]), []).append(record)
        assert learned(each[-1] for each in told.values()) == held
    for each in told.values():
        states = [one["state"] for one in each]
        assert states == ["opened", "closed"] * (len(states) // 2) + ["opened"] * (len(states) % 2)
