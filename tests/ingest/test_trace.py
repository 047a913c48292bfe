"""A request's trace in the parcel that is kept for it, through the spool as well."""

import pytest

from ingest.parcel import from_bytes, to_bytes
from tests.ingest.front_door import front_door
from tests.schemas.test_trace import GOOD, TRACE

EVENTS = [{"id": "m1"}, {"id": "m2"}]


async def test_a_trace_goes_with_the_records() -> None:
    """As it came, without a tracer; and the spool keeps it."""
    async with front_door() as door:
        await door.post(EVENTS, headers={"traceparent": GOOD})
        [parcel] = door.log.parcels
    assert parcel.trace == GOOD.encode()
    assert from_bytes(to_bytes(parcel)).trace == GOOD.encode()


@pytest.mark.parametrize(
    "value", ["", "nonsense", GOOD + "0", "x" * 5000, GOOD.replace(TRACE, "0")]
)
async def test_what_is_no_trace_is_as_none(value: str) -> None:
    """The request is kept all the same."""
    async with front_door() as door:
        assert (await door.post(EVENTS, headers={"traceparent": value})).status_code == 200
        [parcel] = door.log.parcels
    assert parcel.trace == b""


async def test_a_forgery_is_not_traced() -> None:
    """Nobody who proves nothing gets into the log of traces."""
    async with front_door() as door:
        await door.post(EVENTS, key="wrong", headers={"traceparent": GOOD})
        assert not door.log.parcels
