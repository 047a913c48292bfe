"""Trace context: a request's W3C ``traceparent``, carried with its records to the last insert.

Invariants:
1. Pure. What is handed on was checked: 55 characters of one form, whoever sent it.
2. A trace is begun by who calls. A record carries one only if its request did, as the last of its
   headers, so whatever is not traced costs one comparison.
3. Many records are one span. A span of a batch has links to the traces in it, ``LINKS_MAX`` at
   most, and is made only when one of them is sampled.
4. Without a tracer (``tracer_of`` in ``streams.cli.telemetry``) a trace passes through as it came.

The header is ``traceparent``, not the CloudEvents extension's ``ce_traceparent``: it is what the
OpenTelemetry instrumentations of Kafka clients read, and the extension names it as what comes
first. Sources: W3C Trace Context, level 2, §3.2; OpenTelemetry, «Messaging Spans», batches.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal, Protocol

from schemas.cloudevents import Header, leading_text

TRACEPARENT = "traceparent"
LINKS_MAX = 32
"""Of one span, and trace ids of one log line."""
NO_TRACES: Mapping[bytes, bytes] = {}

_FORM = re.compile(
    r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})"
)
_KNOWN_FLAGS = 0b11
"""Sampled, and random: what version 00 has."""

Kind = Literal["server", "consumer"]
Headers = Sequence[tuple[str, bytes | None]]


class Traceable(Protocol):
    """What is needed of a consumed record."""

    @property
    def headers(self) -> Headers: ...  # noqa: D102 — see aiokafka
    @property
    def value(self) -> bytes | None: ...  # noqa: D102


def traceparent(text: str) -> bytes:
    """``text`` as ``traceparent`` of version 00; empty when it is none, as the specification wants.

    Of a later version that begins as this one does, this much is kept.
    """
    found = _FORM.match(text)
    if found is None:
        return b""
    version, trace, span, flags = found.groups()
    rest = text[found.end() :]
    if rest and (version == "00" or rest[0] != "-"):
        return b""
    return f"00-{trace}-{span}-{int(flags, 16) & _KNOWN_FLAGS:02x}".encode()


def is_sampled(context: bytes) -> bool:
    """Whether whoever began this trace records it."""
    return bool(int(context[-2:], 16) & 1)


def trace_id(context: bytes) -> str:
    """32 hexadecimal digits."""
    return context[3:35].decode()


def with_trace(headers: Sequence[Header], context: bytes) -> list[Header]:
    """Headers of a record, and its trace behind them (invariant 2)."""
    return [*headers, (TRACEPARENT, context)]


def of_record(record: Traceable) -> bytes:
    """The trace that a record carries; empty without one. Kafka may hold what others wrote."""
    headers = record.headers
    if not headers or headers[-1][0] != TRACEPARENT:
        return b""
    return traceparent((headers[-1][1] or b"").decode("latin-1"))


def of_records(records: Iterable[Traceable]) -> list[bytes]:
    """The different traces that records carry, in order; ``LINKS_MAX`` at most."""
    found: dict[bytes, None] = {}
    for record in records:
        headers = record.headers
        if headers and headers[-1][0] == TRACEPARENT and (context := of_record(record)):
            found[context] = None
            if len(found) == LINKS_MAX:
                break
    return list(found)


def by_event(records: Sequence[Traceable]) -> Mapping[bytes, bytes]:
    """Event id -> trace, of raw records that carry one.

    Where an id comes twice, the first decides, with or without a trace: its repeats are dropped
    anyhow, and where a chunk ends must not change what is written.
    """
    for record in records:
        headers = record.headers
        if headers and headers[-1][0] == TRACEPARENT:
            break
    else:
        return NO_TRACES
    found: dict[bytes, bytes] = {}
    for record in records:
        if record.value is not None:
            found.setdefault(leading_text(record.value), of_record(record))
    return {identity: context for identity, context in found.items() if context}


class Span(Protocol):
    """Something under way that is recorded."""

    @property
    def context(self) -> bytes:
        """Its ``traceparent``."""

    def end(self, error: str = "") -> None:
        """It is over; with the name of an error, it failed."""


class Tracer(Protocol):
    """Records spans."""

    def begin(
        self,
        name: str,
        kind: Kind,
        parent: bytes,
        links: Sequence[bytes],
        attributes: Mapping[str, str | int],
        began_s: float,
    ) -> Span:
        """A span. Empty ``parent``: a trace of its own. ``began_s`` 0: it begins now."""


@contextmanager
def span(
    tracer: Tracer | None,
    name: str,
    kind: Kind,
    *,
    parent: bytes = b"",
    links: Sequence[bytes] = (),
    attributes: Mapping[str, str | int],
    began_s: float = 0.0,
) -> Iterator[bytes]:
    """Records what happens inside the block; gives the trace to hand on, empty if there is none.

    Args:
        tracer: ``None``: nothing is recorded, and ``parent`` is handed on.
        parent: the caller's trace, of one request.
        links: the traces of a batch; without a sampled one nothing is recorded.
        attributes: figures and names of this program; nothing that came with a request.
        began_s: seconds since 1970, where it began before the block.
    """
    sampled = [context for context in links if is_sampled(context)]
    if tracer is None or (kind == "consumer" and not sampled):
        yield parent
        return
    one = tracer.begin(name, kind, parent, sampled, attributes, began_s)
    try:
        yield one.context if parent or is_sampled(one.context) else b""
    except BaseException as error:
        one.end(type(error).__name__)
        raise
    one.end()
