"""The records of ``mailpulse dev``: whole, in keeping with each other, and some repeated."""

from collections import Counter
from itertools import pairwise
from typing import Any

from schemas import topics
from schemas.codec import Codec
from schemas.topics import BY_NAME
from streams.embedded.fixture_records import (
    CAMPAIGNS,
    REPEATED_EVERY,
    FixtureRecord,
    Story,
)

AT = 1_795_507_200_000_000
MESSAGES = 400


def written(messages: int = MESSAGES) -> list[FixtureRecord]:
    """Everything that so many messages lead to."""
    story = Story()
    return [one for number in range(messages) for one in story.message(AT + number)]


def test_every_record_is_a_whole_one() -> None:
    """It encodes as the newest version of its topic's schema and decodes to itself."""
    codec = Codec()
    for one in written(60):
        if one.value is not None:
            schema = BY_NAME[one.topic].schema
            value = one.value or {}
            assert codec.decode(codec.encode(schema, value), schema) == value


def test_one_in_ten_comes_twice_as_it_was() -> None:
    """With the same identity, at once after the first."""
    records = written()
    repeats = sum(one == another for one, another in pairwise(records))
    assert repeats == len(records) // (REPEATED_EVERY + 1)


def test_rates_are_sums_of_the_events_before() -> None:
    """What a consumer adds up from the enriched topic agrees with what it reads of rates, if of
    each event the highest revision holds."""
    counted: dict[str, Counter[str]] = {campaign: Counter() for campaign in CAMPAIGNS}
    seen: dict[str, int] = {}
    compared = 0
    for one in written():
        value = one.value or {}
        if one.topic == topics.ENRICHED:
            event, added = value["event"], value["enrichment"]
            before = seen.get(event["event_id"], -1)
            seen[event["event_id"]] = max(before, added["revision"])
            if before < 0:
                counted[event["campaign_id"]][event["event_type"]] += 1
            elif added["revision"] > before:
                counted[event["campaign_id"]][event["event_type"]] -= added["actor"] == "machine"
        if one.topic == topics.RATES:
            [window] = value["windows"]
            kinds = counted[value["campaign_id"]]
            for name in ("delivered", "opened", "clicked"):
                assert window["counts"][name] == kinds[name]
            assert window["counts"]["bounced_hard"] == kinds["bounced"]
            for rate in window["rates"]:
                assert rate["numerator"] <= rate["denominator"] or rate["name"].startswith("flow_")
            compared += 1
    assert compared > 50


def test_some_opens_prove_to_be_a_machines() -> None:
    """Each such correction is of an open that was told as a person's, with a higher revision and a
    higher coordinate; and its follow-up is withdrawn."""
    told: dict[str, dict[str, Any]] = {}
    corrected: set[str] = set()
    withdrawn: dict[str, int] = {}
    for one in written():
        value = one.value or {}
        if one.topic == topics.ENRICHED:
            identity, added = value["event"]["event_id"], value["enrichment"]
            if added["revision"]:
                assert told[identity]["first_human"]
                assert not added["first_human"]
                assert added["version"] > told[identity]["offset"]
                corrected.add(identity)
            told.setdefault(identity, added)
        if one.topic == topics.ENGAGEMENT and value["withdrawn"]:
            withdrawn[value["event_id"]] = value["offset"]
    assert len(corrected) > 5
    assert withdrawn.keys() == corrected
    assert all(withdrawn[one] > told[one]["offset"] for one in corrected)


def test_outside_consumers_topics_all_have_records() -> None:
    """Those of follow-ups and suppressions, with one that is lifted, too."""
    records = written()
    found = {one.topic for one in records}
    assert {
        topics.RAW,
        topics.ENRICHED,
        topics.ENGAGEMENT,
        topics.SUPPRESSIONS,
        topics.RATES,
    } <= found
    assert any(one.value is None for one in records)
