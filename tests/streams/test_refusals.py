"""What refused requests say of a silence: told apart, found sooner, not by strangers alone."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.problems import DETAILS
from schemas.codec import Codec
from streams.books import refusals
from streams.books.refusals import Facts, Kind, Requests, advice, facts_of
from streams.books.silence import Held, Key, Stream, learned, look
from tests.streams.test_silence import ALWAYS, MINUTE_US, NEWS, NOW_US, OPENS

MIN = MINUTE_US
PATIENT = ALWAYS._replace(usual=3.0, patience=12.0)
"""A gap of 15 minutes in a usual week; an hour is explained."""


def kind(since: int, until: int = 0, **changed: Any) -> Kind:
    """Refusals that began and ended so many minutes before now, one a minute."""
    given: dict[str, Any] = {
        "result": "unauthorized", "reason": "bad_signature",
        "requests": max(1, since - until), "since_us": NOW_US - since * MIN,
        "until_us": NOW_US - until * MIN, "slots": max(1, (since - until) // 5), "before": 0,
    }  # fmt: skip
    return Kind(**given | changed)


def judged(last: int, *kinds: Kind, rhythm: Any = ALWAYS, now: int = 0) -> list[dict[str, Any]]:
    """What is told of a source whose newest event came ``last`` minutes before now (0: never)."""
    last_us = NOW_US - last * MIN if last else 0
    streams = {NEWS: Stream(rhythm, last_us)}
    return look(streams, {}, NOW_US + now * MIN, {"news": Requests(last_us, kinds)})[0]


def test_a_rotated_key_is_told_with_both_times_and_sooner() -> None:
    """Accepted until then, refused since then: while the rhythm alone would explain the silence."""
    assert judged(24, rhythm=PATIENT) == []
    [record] = judged(24, kind(23), rhythm=PATIENT)
    assert (record["state"], record["cause"], record["level"]) == ("opened", "refused", "critical")
    assert record["accepted_until"] == NOW_US - 24 * MIN
    assert (record["refused_since"], record["refused"]) == (NOW_US - 23 * MIN, 23)
    assert record["refusal"] == "unauthorized/bad_signature"
    times = re.findall(r"\d\d:\d\d UTC", record["advice"])
    assert len(times) == 2
    assert "All 23 requests since" in record["advice"]
    assert "mailpulse capture news" in record["advice"]


@pytest.mark.parametrize(
    "kinds",
    [
        (),
        (kind(18),),  # not for long
        (kind(23, requests=4),),  # too few
        (kind(23, slots=2),),  # all at once
        (kind(23, before=1_000),),  # as many as when others were accepted
        (kind(23, result="not_found", reason=""),),  # by hand, or by a scanner
    ],
)
def test_what_strangers_send_opens_nothing_sooner(kinds: tuple[Kind, ...]) -> None:
    """Refusals have to last, to be many, and to be more than there were."""
    assert judged(24, *kinds, rhythm=PATIENT) == []


def test_refusals_in_a_quiet_hour_open_nothing() -> None:
    """Nothing is missing then: patience is only cut down to the longest gap of a usual week."""
    usual = ALWAYS._replace(usual=10.0, patience=30.0)
    assert judged(40, kind(39), rhythm=usual) == []
    [record] = judged(60, kind(59), rhythm=usual)
    assert record["cause"] == "refused"


def test_a_source_that_only_gets_refusals_is_told_apart_from_a_silent_one() -> None:
    """Each by its cause; with those that bring nothing new, and those that can't be read."""
    [refused] = judged(40, kind(39))
    [silent] = judged(40)
    [unreadable] = judged(40, kind(39, result="unreadable", reason=""))
    assert [one["cause"] for one in (refused, silent, unreadable)] == [
        "refused", "silent", "unreadable",
    ]  # fmt: skip
    assert "No request came since, not even one that was refused" in silent["advice"]
    assert "mailpulse dlq ls" in unreadable["advice"]
    last = NOW_US - 40 * MIN
    streams = {NEWS: Stream(ALWAYS, last)}
    [[repeats], _] = look(streams, {}, NOW_US, {"news": Requests(NOW_US - 5 * MIN)})
    assert repeats["cause"] == "repeats"
    [[unknown], _] = look(streams, {}, NOW_US, {})
    assert (unknown["cause"], unknown["accepted_until"]) == ("", None)
    assert "is not known" in unknown["advice"]
    [usual] = judged(40, kind(39, before=10_000))
    assert (usual["cause"], usual["refused"]) == ("silent", 39)
    assert "as usual (unauthorized/bad_signature)" in usual["advice"]


def test_a_source_that_never_had_an_accepted_request_is_told() -> None:
    """A wrong key from the first day on; it is over with the first event, or once nobody posts."""
    assert judged(0, kind(50), rhythm=None) == []
    [record] = judged(0, kind(70), rhythm=None)
    assert (record["cause"], record["accepted_until"]) == ("refused", None)
    assert record["silent_since"] == NOW_US - 70 * MIN
    assert "None with events was accepted before." in record["advice"]
    streams, requests = {NEWS: Stream(None, 0)}, {"news": Requests(0, (kind(70),))}
    _, held = look(streams, {}, NOW_US, requests)
    assert look(streams, held, NOW_US + 1_440 * MIN, requests) == ([], held)
    [over], _ = look(streams, held, NOW_US + 8 * 1_440 * MIN, requests)
    assert (over["state"], over["resumed_at"]) == ("closed", None)
    back = {NEWS: Stream(None, NOW_US + 5 * MIN)}
    [over], after = look(back, held, NOW_US + 6 * MIN, requests)
    assert (over["state"], over["sequence"], after) == ("closed", 2, {})
    assert over["resumed_at"] == NOW_US + 5 * MIN


def test_a_young_source_is_told_once_all_was_refused_for_an_hour() -> None:
    """It has no rhythm; what it had accepted is named."""
    assert judged(45, kind(44), rhythm=None) == []
    [record] = judged(90, kind(80), rhythm=None)
    assert record["silent_since"] == record["accepted_until"] == NOW_US - 90 * MIN
    assert (record["usual_gap_s"], record["explained_s"]) == (0, 0)


STRANGERS: list[dict[str, Any]] = [
    {"reason": "missing_signature"}, {"reason": "missing_credentials"},
    {"result": "forbidden", "reason": ""}, {"result": "rate_limited", "reason": ""},
    {"result": "https_required", "reason": ""}, {"result": "payload_too_large", "reason": ""},
    {"result": "not_found", "reason": ""},
]  # fmt: skip


@pytest.mark.parametrize("strange", STRANGERS)
@pytest.mark.parametrize("last", [0, 2_000])
def test_a_scanner_raises_no_source_without_a_rhythm(strange: dict[str, Any], last: int) -> None:
    """It posts garbage for a day, whether something was accepted before or not; it does not keep
    an incident open either, nor is it what the incident of a real sender tells."""
    scanner = kind(1_500, requests=5_000, **strange)
    assert judged(last, scanner, rhythm=None) == []
    wrong = kind(1_400, 1_300)
    [record] = judged(last, scanner, wrong, rhythm=None)
    assert (record["refused"], record["refusal"]) == (100, "unauthorized/bad_signature")
    last_us = NOW_US - last * MIN if last else 0
    streams = {NEWS: Stream(None, last_us)}
    _, held = look(streams, {}, NOW_US, {"news": Requests(last_us, (scanner, wrong))})
    later = NOW_US + 8 * 1_440 * MIN
    going_on = scanner._replace(until_us=later, requests=90_000)
    [closed], after = look(streams, held, later, {"news": Requests(last_us, (going_on, wrong))})
    assert (closed["state"], after) == ("closed", {})


@pytest.mark.parametrize("strange", STRANGERS[:3])
def test_a_source_with_a_rhythm_says_so_of_requests_without_a_proof(
    strange: dict[str, Any],
) -> None:
    """Something is missing then: signing was switched off, or a proxy removes the header."""
    [record] = judged(40, kind(39, **strange))
    assert record["cause"] == "refused"


def test_a_silence_turns_out_to_be_refusals_once() -> None:
    """Posted again with a new key after the weekend; stored incidents go on where they were."""
    last = NOW_US - 40 * MIN
    streams = {NEWS: Stream(ALWAYS, last), OPENS: Stream(ALWAYS, last)}
    [opened], held = look(streams, {}, NOW_US, {"news": Requests(last)})
    refused = {"news": Requests(last, (kind(0, -60, slots=12),))}
    later = NOW_US + 60 * MIN
    [changed], held = look(streams, held, later, refused)
    assert (changed["state"], changed["sequence"], changed["cause"]) == ("changed", 2, "refused")
    same = ("incident_id", "opened_at", "silent_since", "explained_s")
    assert [changed[name] for name in same] == [opened[name] for name in same]
    assert look(streams, held, later + MIN, refused) == ([], held)
    codec = Codec()
    stored = codec.decode(codec.encode("source_alert", changed), "source_alert")
    assert stored == changed
    assert learned([stored]) == held
    assert look(streams, learned([stored]), later + MIN, refused) == ([], held)
    back = {**streams, NEWS: Stream(ALWAYS, later)}
    [closed], held = look(back, held, later + MIN, refused)
    assert (closed["state"], closed["sequence"], held) == ("closed", 3, {})
    assert (closed["cause"], closed["refused"]) == ("refused", changed["refused"])


def test_an_event_type_is_no_matter_of_requests() -> None:
    """Refusals of its source say nothing of one event type."""
    streams = {NEWS: Stream(ALWAYS, NOW_US - MIN), OPENS: Stream(ALWAYS, NOW_US - 40 * MIN)}
    [record], _ = look(streams, {}, NOW_US, {"news": Requests(NOW_US - MIN, (kind(39),))})
    assert (record["event_type"], record["cause"], record["refused"]) == ("opened", "", 0)


_KINDS = st.builds(
    kind,
    since=st.integers(0, 3_000),
    until=st.integers(-60, 3_000),
    requests=st.integers(1, 10_000),
    slots=st.integers(1, 600),
    before=st.integers(0, 10_000),
    result=st.sampled_from(["unauthorized", "forbidden", "unreadable", "not_found"]),
).filter(lambda one: one.since_us <= one.until_us)


@given(
    last=st.one_of(st.just(0), st.integers(1, 5_000)),
    kinds=st.lists(_KINDS, max_size=4),
    known=st.booleans(),
    held=st.booleans(),
    accepted=st.integers(0, 5_000),
)
def test_refusals_never_hide_a_silence(
    last: int, kinds: list[Kind], known: bool, held: bool, accepted: int
) -> None:
    """Whatever requests say: what the rhythm does not explain is told, once, and stays open."""
    last_us = NOW_US - last * MIN if last else 0
    requests = {"news": Requests(NOW_US - accepted * MIN, tuple(kinds))} if known else {}
    streams = {NEWS: Stream(ALWAYS if last else None, last_us)}
    _, open_alone = look(streams, {}, NOW_US, {})
    before: dict[Key, Held] = open_alone if held else {}
    told, after = look(streams, before, NOW_US, requests)
    assert set(open_alone) <= set(after)
    assert len(told) <= 1
    for record in told:
        assert Codec().decode(Codec().encode("source_alert", record), "source_alert") == record
        assert (record["state"] == "changed") == bool(before)
        assert record["refused_since"] is None or record["refused_since"] > 0
    assert look(streams, after, NOW_US, requests) == ([], after)


@pytest.mark.parametrize("code", [*DETAILS, "unreadable"])
@pytest.mark.parametrize("number", [1, 312])
def test_every_refusal_has_advice(code: str, number: int) -> None:
    """In words that name what to look at."""
    name = f"{code}/stale_timestamp" if code == "unauthorized" else code
    text = advice("news", Facts("refused", NOW_US, NOW_US, NOW_US, number, name))
    assert len(text) < 600
    assert "mailpulse" in text or "MAILPULSE" in text or "rate_per_s" in text or "NTP" in text
    assert text.startswith("All 312 requests since" if number > 1 else "The only request since")


def test_causes_are_those_that_the_schema_names() -> None:
    """And nothing is claimed of a source of which nothing is known."""
    assert facts_of(None, NOW_US) == Facts()
    assert facts_of(Requests(0), NOW_US) == Facts("", NOW_US)
    causes = {refusals.SILENT, refusals.REFUSED, refusals.UNREADABLE, refusals.REPEATS}
    [doc] = [one["doc"] for one in _fields() if one["name"] == "cause"]
    assert all(f"{cause} (" in doc for cause in causes)


def _fields() -> list[dict[str, Any]]:
    from schemas.codec import schema_json

    fields: list[dict[str, Any]] = schema_json("source_alert.v1")["fields"]
    return fields
