"""Trace context: what is accepted as a ``traceparent``, and what is passed on."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import trace
from schemas.codec import Codec
from tests.builders import event

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
GOOD = f"00-{TRACE}-{SPAN}-01"


@dataclass(frozen=True)
class Traced:
    """A consumed record."""

    value: bytes | None
    headers: list[tuple[str, bytes | None]] = field(default_factory=list)


def raw(identity: str, *contexts: str) -> Traced:
    """A raw record whose request carried these."""
    headers: list[tuple[str, bytes | None]] = [("ce_id", identity.encode())]
    headers += [(trace.TRACEPARENT, context.encode()) for context in contexts]
    return Traced(Codec().encode("raw_event", {**event(), "event_id": identity}), headers)


@pytest.mark.parametrize(
    ("text", "handed_on"),
    {
        GOOD: GOOD,
        f"00-{TRACE}-{SPAN}-00": f"00-{TRACE}-{SPAN}-00",
        f"00-{TRACE}-{SPAN}-ff": f"00-{TRACE}-{SPAN}-03",  # flags that version 00 lacks are cleared
        f"cc-{TRACE}-{SPAN}-01": GOOD,  # a later version
        f"cc-{TRACE}-{SPAN}-01-what-comes": GOOD,
        f"cc-{TRACE}-{SPAN}-01.what-comes": "",
        f"ff-{TRACE}-{SPAN}-01": "",
        f"{GOOD}-more": "",
        f"{GOOD},{GOOD}": "",  # the header twice
        f"{GOOD} ": "",
        f"{GOOD}\n": "",
        GOOD.upper(): "",
        f"00-{'0' * 32}-{SPAN}-01": "",
        f"00-{TRACE}-{'0' * 16}-01": "",
        f"00-{TRACE}-{SPAN}-1": "",
        "": "",
    }.items(),
)
def test_what_counts_as_traceparent(text: str, handed_on: str) -> None:
    """As in W3C Trace Context: anything else is ignored."""
    assert trace.traceparent(text).decode() == handed_on


@given(st.text(max_size=80) | st.from_regex(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}.*"))
def test_what_is_handed_on_is_bounded_and_handed_on_again(text: str) -> None:
    """Nothing or 55 characters that pass the same check unchanged; version ff never."""
    found = trace.traceparent(text)
    assert len(found) in (0, 55)
    assert not found or trace.traceparent(found.decode()) == found
    assert not found or found[3:52] == text[3:52].encode()


def test_a_record_has_the_trace_behind_its_other_headers() -> None:
    """What is written is what is read; a record without a valid one has none."""
    record = Traced(b"", [*trace.with_trace([("ce_id", b"1")], GOOD.encode())])
    assert trace.of_record(record) == GOOD.encode()
    assert trace.of_record(Traced(b"", [("ce_id", b"1")])) == b""
    assert trace.of_record(Traced(b"", [(trace.TRACEPARENT, b"\xff\x00")])) == b""
    assert trace.of_record(Traced(b"", [(trace.TRACEPARENT, None)])) == b""
    assert trace.of_record(Traced(None)) == b""


def test_links_of_a_batch_are_different_and_bounded() -> None:
    """Each trace once, in order, never more than ``LINKS_MAX``."""
    contexts = [f"00-{number:032x}-{SPAN}-01" for number in range(1, 100)]
    records = [raw(str(n), context) for n, context in enumerate([*contexts[:3], *contexts])]
    assert trace.of_records(records) == [c.encode() for c in contexts[: trace.LINKS_MAX]]
    assert trace.of_records([raw("1")]) == []


def test_the_first_copy_of_an_event_decides_wherever_a_chunk_ends() -> None:
    """A duplicate's trace is not written for its original, within a chunk or across chunks."""
    untraced, repeat = raw("a"), raw("a", GOOD)
    assert trace.by_event([untraced, repeat, raw("b", GOOD)]) == {b"b": GOOD.encode()}
    assert trace.by_event([untraced]) == trace.by_event([Traced(None)]) == {}
    assert trace.by_event([repeat, untraced]) == {b"a": GOOD.encode()}


def test_without_a_tracer_a_trace_passes_through() -> None:
    """What arrived is passed on."""
    with trace.span(None, "x", "server", parent=GOOD.encode(), attributes={}) as handed_on:
        assert handed_on == GOOD.encode()
    with trace.span(None, "x", "server", attributes={}) as handed_on:
        assert handed_on == b""
