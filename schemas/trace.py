"""Trace context: a request's W3C ``traceparent``, passed on with its records up to the sink.

Invariants:
1. Pure. A context is validated before it is passed on: 55 characters of one form.
2. The caller starts a trace. A record carries one only if its request did, as its last header, so
   an untraced record costs one comparison.
3. A batch of records is one span. It has links to the traces of its records, at most ``LINKS_MAX``,
   and is made only if one of them is sampled.
4. Without a tracer (``tracer_of`` in ``streams.cli.telemetry``) a trace is passed on unchanged.

The header is ``traceparent``, not the CloudEvents extension's ``ce_traceparent``: OpenTelemetry's
instrumentations of Kafka clients read it, and the extension gives it precedence. Sources: W3C Trace
Context, level 2, §3.2; OpenTelemetry, «Messaging Spans», batches.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal, Protocol

from schemas.cloudevents import Header, leading_text

TRACEPARENT = "traceparent"
LINKS_MAX = 32
"""Links of one span, and trace ids in one log line."""
NO_TRACES: Mapping[bytes, bytes] = {}

_FORM = re.compile(
    r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})"
)
_KNOWN_FLAGS = 0b11
"""Sampled and random, the flags of version 00."""

Kind = Literal["server", "consumer"]
Headers = Sequence[tuple[str, bytes | None]]


class Traceable(Protocol):
    """A consumed record, as far as it is needed here."""

    @property
    def headers(self) -> Headers: ...  # noqa: D102 — see aiokafka
    @property
    def value(self) -> bytes | None: ...  # noqa: D102


def traceparent(text: str) -> bytes:
    """``text`` as ``traceparent`` of version 00; empty if it is invalid (as specified).

    From a later version, the fields of version 00 are kept.
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
    """Whether the caller that started this trace records it."""
    return bool(int(context[-2:], 16) & 1)


def trace_id(context: bytes) -> str:
    """32 hexadecimal digits."""
    return context[3:35].decode()


def with_trace(headers: Sequence[Header], context: bytes) -> list[Header]:
    """Headers of a record, with its trace as the last one (invariant 2)."""
    return [*headers, (TRACEPARENT, context)]


def of_record(record: Traceable) -> bytes:
    """The trace that a record carries, validated; empty without one."""
    headers = record.headers
    if not headers or headers[-1][0] != TRACEPARENT:
        return b""
    return traceparent((headers[-1][1] or b"").decode("latin-1"))


def of_records(records: Iterable[Traceable]) -> list[bytes]:
    """The distinct traces that records carry, in order; at most ``LINKS_MAX``."""
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

    If an id occurs twice, the first record decides, with or without a trace: repeats are dropped,
    and the boundaries of chunks must not change what is written.
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
    """An operation that is being recorded."""

    @property
    def context(self) -> bytes:
        """Its ``traceparent``."""

    def end(self, error: str = "") -> None:
        """Ends it; with the name of an error, it failed."""


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
        """Starts a span. Empty ``parent``: a new trace. ``began_s`` 0: it starts now."""


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
    """Records the block as a span; gives the trace to pass on, empty if there is none.

    Args:
        tracer: ``None``: nothing is recorded, and ``parent`` is passed on.
        parent: the caller's trace, for one request.
        links: the traces of a batch; without a sampled one nothing is recorded.
        attributes: figures and names of this program; never content of a request.
        began_s: seconds since 1970, if it started before the block.
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
