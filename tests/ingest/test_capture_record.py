"""What a capture writes down: renamed throughout, and still the same request."""

import random
from dataclasses import replace
from typing import Any

import orjson
import pytest

from ingest.capture_record import Heard, Recorder, read
from ingest.providers import REGISTRY
from ingest.providers.base import Parsed, Request
from ingest.tryout import check_request
from schemas.errors import BadInput
from schemas.event import Event
from schemas.settings import Settings
from tests.ingest.cases import Case, all_cases
from tests.ingest.keys import example
from tests.ingest.provider_suite import NOW, RECEIVED_AT, mutations

KEY = b"of this test"
SAME = (
    "event_type", "native_type", "occurred_at", "time_suspect", "bounce_class", "bounce_reason",
    "smtp_code", "enhanced_status", "machine_kind", "provider_first", "unsubscribe_link",
    "geo_country", "dedupe_quality", "campaign_source", "batch_index", "recipient_certain",
)  # fmt: skip
"""Fields that say nothing of people: equal before and after."""
RENAMED = (
    "event_id", "message_id", "rfc_message_id", "recipient", "recipient_identity", "campaign_id",
    "ip", "batch_id", "suppression_scope",
)  # fmt: skip
"""Fields that identify: as many different ones before and after, in the same places."""


def outcome(provider: str, request: Request, source: Any) -> Parsed | str:
    """What parsing gives, or why it gives nothing."""
    try:
        return REGISTRY[provider].parse(request, source, RECEIVED_AT)
    except BadInput as error:
        return error.reason


def request_of(case: Case) -> Request:
    expected = case.expected
    headers = tuple(expected.get("headers", {}).items())
    body = case.path.read_bytes()
    return Request("POST", expected.get("query", ""), headers, body, "192.0.2.1")


def shape(events: list[Event], field: str) -> list[int]:
    """Which events have equal values of a field: numbers by first occurrence; 0 is none."""
    seen: dict[object, int] = {None: 0, "": 0}
    values = [event.get(field) for event in events]
    return [seen.setdefault(value, len(seen)) for value in values]  # type: ignore[arg-type]


@pytest.mark.parametrize("case", all_cases(), ids=str)
def test_a_renamed_payload_means_the_same(case: Case) -> None:
    """Every payload of every provider: what is read of it is the same, up to the renaming."""
    one = example(case.provider, **case.expected.get("source", {}))
    request = request_of(case)
    recorder = Recorder(one.source, KEY, NOW, Settings())
    record = recorder.record(Heard(request, NOW, 200, "accepted", True))
    after, keys, _ = read(record.document, record.body)
    ours = outcome(case.provider, request, one.source)
    theirs = outcome(case.provider, after, keys.source)
    if isinstance(ours, str) or isinstance(theirs, str):
        assert ours == theirs
        return
    assert (theirs.note, bool(theirs.confirm)) == (ours.note, bool(ours.confirm))
    assert [r.reason for r in theirs.rejects] == [r.reason for r in ours.rejects]
    assert len(theirs.events) == len(ours.events)
    for before, now in zip(ours.events, theirs.events, strict=True):
        for field in SAME:
            assert now.get(field) == before.get(field), field
    for field in RENAMED:
        assert shape(theirs.events, field) == shape(ours.events, field), field
