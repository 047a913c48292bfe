"""Bodies of before mailpulse: events get their own time as arrival, and the webhook's id."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.archive import OLDEST_US, of_bodies, of_rows
from ingest.providers import REGISTRY
from ingest.providers.base import Request
from ingest.providers.fields import DAY_US
from schemas.settings import Source
from tests.ingest.keys import example

NOW_US = 1_790_000_000_000_000
NEWS = Source(name="news", provider="generic")


def body(*ages_us: int) -> bytes:
    """Events that happened so long before now."""
    return json.dumps(
        [
            {"event": "opened", "id": f"{place}", "message_id": "m", "recipient": "a@b.example",
             "time": (NOW_US - age) / 1e6}
            for place, age in enumerate(ages_us)
        ]
    ).encode()  # fmt: skip


@given(st.lists(st.integers(0, OLDEST_US - DAY_US), min_size=1, max_size=6))
def test_an_event_has_its_own_time_whatever_its_age(ages: list[int]) -> None:
    """In any mixture, in the body's order."""
    ages = [age // 1_000_000 * 1_000_000 for age in ages]
    reader = of_bodies(NEWS, REGISTRY["generic"], NOW_US)
    parsed = reader.read(body(*ages))
    assert [one["occurred_at"] for one in parsed.events] == [NOW_US - age for age in ages]
    for event in parsed.events:
        assert event["received_at"] == event["occurred_at"]
        assert (event["received_by"], event["time_suspect"]) == ("command", False)
    assert not parsed.rejects


@pytest.mark.parametrize("age", [OLDEST_US + 3 * DAY_US, -3 * DAY_US])
def test_a_time_that_is_too_far_away_is_refused_and_the_rest_is_not(age: int) -> None:
    """It would be counted by an arrival that nobody knows."""
    parsed = of_bodies(NEWS, REGISTRY["generic"], NOW_US).read(body(DAY_US, age))
    assert [one["occurred_at"] for one in parsed.events] == [NOW_US - DAY_US]
    assert [one.reason for one in parsed.rejects] == ["no_time"]


@pytest.mark.parametrize("name", sorted({"sendgrid", "mailgun", "postmark", "sparkpost", "ses"}))
def test_ids_are_those_of_the_webhook(name: str) -> None:
    """A captured body gives the ids that it gave when it came."""
    its = example(name)
    provider = REGISTRY[name]
    request: Request = provider.sample(its.source, NOW_US / 1e6 - 3_600, 1, its.signing_key)
    wanted = provider.parse(request, its.source, NOW_US).one_by_one().events
    found = of_bodies(its.source, provider, NOW_US).read(request.body)
    assert [one["event_id"] for one in found.events] == [one["event_id"] for one in wanted]
    assert wanted


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff\xfe", b"a=b&c=d", b"null", b"7"])
def test_what_is_no_body_is_refused_or_empty(content: bytes) -> None:
    """Never an error."""
    for name in ("generic", "sendgrid", "mailgun", "mandrill", "ses"):
        source = Source(name=name, provider=name)
        parsed = of_bodies(source, REGISTRY[name], NOW_US).read(content)
        assert not parsed.events
        assert all(one.content for one in parsed.rejects)


def test_rows_are_read_by_another_sources_mapping() -> None:
    """Their messages are those of the first source's provider."""
    mapping: dict[str, Any] = {
        "fields": {"event": "Type", "time": "When", "message_id": "Id", "recipient": "To"}
    }
    news = Source(name="news", provider="postmark")
    table = Source(name="table", provider="generic", mapping=mapping)
    row = {"Type": "opened", "When": "2026-09-01T00:00:00Z", "Id": "m", "To": "a@b.example"}
    parsed = of_rows(news, table, mapping, NOW_US).read(json.dumps(row).encode())
    [event] = parsed.events
    assert (event["provider"], event["source"], event["message_id"]) == ("postmark", "news", "m")
