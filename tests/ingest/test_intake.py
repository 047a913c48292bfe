"""From a proven request to its parcel: by column or one by one, the same records in one order."""

from typing import Any, cast

import orjson
import pytest

from ingest.body import Refused
from ingest.columns import Columns
from ingest.intake import Intake
from ingest.providers import REGISTRY
from ingest.providers.base import Parsed, Provider, Request, post
from schemas.codec import Codec
from schemas.event import message_key
from schemas.settings import Settings, Source
from tests.bench.sendgrid_load import sendgrid_event
from tests.builders import RECEIVED_AT, event

CODEC = Codec()
SOURCE = Source(name="news", provider="sendgrid", account="acme")


def intake(**settings: Any) -> Intake:
    """An intake with some settings."""
    return Intake(Settings(**settings), CODEC)


def batch() -> Request:
    """Usual events, with one that is none, one of an unknown kind and one with an odd address."""
    content: list[Any] = [sendgrid_event(n, RECEIVED_AT // 1_000_000) for n in range(30)]
    content[3] = "no event"
    content[7]["event"] = "teleported"
    content[11]["email"] = "Ada <Ada@Example.COM>"
    return post(orjson.dumps(content))


def test_columns_make_no_difference() -> None:
    """Keys, values and their order are those of the events one by one."""
    request = batch()
    taken = intake().take(REGISTRY["sendgrid"], SOURCE, request, RECEIVED_AT)
    parsed = REGISTRY["sendgrid"].parse(request, SOURCE, RECEIVED_AT)
    assert list(taken.parcel.events) == [
        (message_key(one), CODEC.encode("raw_event", one)) for one in parsed.events
    ]
    assert (taken.accepted, taken.rejected, taken.reasons) == (29, 1, ("not_an_object",))


def test_addresses_that_are_not_kept_are_in_no_record() -> None:
    """Whatever was read by column goes through the privacy setting like the rest."""
    for settings in (
        {"recipients": "hashed", "recipient_hash_key": "k" * 32},
        {"recipients": "dropped"},
    ):
        taken = intake(**settings).take(REGISTRY["sendgrid"], SOURCE, batch(), RECEIVED_AT)
        assert taken.accepted == 29
        for key, value in taken.parcel.events:
            assert b"reader" not in key + value
            assert b"Ada@" not in value


def test_recipients_for_the_log_are_those_of_the_batch() -> None:
    """In order, when the setting asks for them, and none else."""
    asked = intake(log_recipients=True).take(REGISTRY["sendgrid"], SOURCE, batch(), RECEIVED_AT)
    assert asked.recipients[:2] == ("reader0@example0.com", "reader1@example1.com")
    plain = intake().take(REGISTRY["sendgrid"], SOURCE, batch(), RECEIVED_AT)
    assert (plain.recipients, plain.parcel) == ((), asked.parcel)


class ByColumn:
    """A provider that gives columns of its own."""

    def __init__(self, **fields: Any) -> None:
        self._fields = fields

    def parse_alike(self, _request: Request, _source: Source, _received_at: int) -> Parsed:
        """Two events in front of one that came alone, and one behind it."""
        columns = Columns(event(source="news"), {"batch_index": [0, 1, 3], **self._fields})
        return Parsed([event(source="news", batch_index=2)], alike=[columns])


def of(provider: ByColumn) -> Provider:
    """As intake takes it."""
    return cast("Provider", provider)


def test_a_value_that_does_not_fit_costs_its_own_event() -> None:
    """Not those of the same columns."""
    provider = of(ByColumn(message_id=["a", "\ud800", "c"]))
    taken = intake().take(provider, SOURCE, post(b""), RECEIVED_AT)
    wanted = [
        event(source="news", message_id="a", batch_index=0),
        event(source="news", batch_index=2),
        event(source="news", message_id="c", batch_index=3),
    ]
    assert [value for _, value in taken.parcel.events] == [
        CODEC.encode("raw_event", one) for one in wanted
    ]
    assert taken.reasons == ("not_encodable",)


def test_limits_hold_for_columns_too() -> None:
    """A record that no broker takes, and more events than a request may have."""
    large = of(ByColumn(diagnostic=["x", "x" * 20_000, "x"]))
    with pytest.raises(Refused, match="record_too_large"):
        intake(record_bytes_max=10_000).take(large, SOURCE, post(b""), RECEIVED_AT)
    with pytest.raises(Refused, match="too_many_events"):
        intake(events_per_request_max=3).take(of(ByColumn()), SOURCE, post(b""), RECEIVED_AT)
