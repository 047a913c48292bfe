"""The records of ``mailpulse dev``: whole, in keeping with each other, and some repeated."""

from collections import Counter
from itertools import pairwise

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
    """What a consumer adds up from the enriched topic agrees with what it reads of rates."""
    counted: dict[str, Counter[str]] = {campaign: Counter() for campaign in CAMPAIGNS}
    seen: set[str] = set()
    compared = 0
    for one in written():
        value = one.value or {}
        if one.topic == topics.ENRICHED and one.identity not in seen:
            seen.add(one.identity)
            event = value["event"]
            counted[event["campaign_id"]][event["event_type"]] += 1
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
