"""Events of webhook bodies that were captured before mailpulse.

Invariants:
1. Pure: the time up to which events are believed is an argument.
2. Nobody knows when a body arrived, so an event's arrival is its own time: what is old is counted
   when it happened. An event without a time is refused, since it has no place in history.
3. Ids are made as for webhooks. ``received_by`` is ``command``.
4. Signatures are not checked: the operator vouches for the files.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from ingest.providers import fields
from ingest.providers.base import Parsed, Provider, Reject, Request
from ingest.providers.generic import parse_mapped
from schemas.errors import BadInput
from schemas.event import Event
from schemas.settings import Source

STEP_US = fields.BEHIND_MAX_US
"""A time is believed up to so long before the arrival: arrivals are tried in such steps."""
OLDEST_US = 400 * fields.DAY_US
"""Events that are older are refused: tables keep 396 days by default."""
Parse = Callable[[Request, int], Parsed]


def request_of(body: bytes) -> Request:
    """The request that a body came in, as far as its bytes tell."""
    kind = "application/json"
    if body.lstrip()[:1] not in (b"{", b"["):
        kind = "application/x-www-form-urlencoded"
    return Request("POST", "", (("content-type", kind),), body, "")


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads bodies, or rows of a table, as events of one source.

    Args:
        source: that the events belong to.
        parse: reads a body as of an arrival in microseconds.
        newest_us: arrivals are tried from here backwards.
    """

    source: Source
    parse: Parse
    newest_us: int

    def read(self, body: bytes, hint_us: int) -> tuple[Parsed, int]:
        """Events and rejects of a body.

        Args:
            hint_us: arrival that is tried first, such as that of the body before.

        Returns:
            What it holds, and the arrival that fitted.
        """
        request = request_of(body)
        best: dict[int, Event] = {}
        first: Parsed | None = None
        for arrival in self._arrivals(hint_us):
            try:
                parsed = self.parse(request, arrival)
            except BadInput as error:
                return Parsed(rejects=[Reject(error.reason, error.detail, body)]), hint_us
            except Exception as error:  # a bug in a provider's module: the body is kept
                reject = Reject("provider_module_failed", type(error).__name__, body)
                return Parsed(rejects=[reject]), hint_us
            first = first or parsed
            for place, event in enumerate(parsed.events):
                if not event["time_suspect"]:
                    best.setdefault(place, event)
            if len(best) == len(parsed.events):
                return self._dated(parsed, best, body), arrival
        assert first is not None
        return self._dated(first, best, body), hint_us

    def _arrivals(self, hint_us: int) -> Iterator[int]:
        """The hint, and then all others, those beside it first: bodies are mostly in order."""
        yield hint_us
        steps = range(self.newest_us, self.newest_us - OLDEST_US, -STEP_US)
        for arrival in sorted(steps, key=lambda one: abs(one - hint_us)):
            if arrival != hint_us:
                yield arrival

    def _dated(self, parsed: Parsed, best: Mapping[int, Event], body: bytes) -> Parsed:
        rejects = list(parsed.rejects)
        events = []
        for place in range(len(parsed.events)):
            found = best.get(place)
            if found is None or found["occurred_at"] < self.newest_us - OLDEST_US:
                days = OLDEST_US // fields.DAY_US
                detail = f"event {place + 1} has no time, or one more than {days} days ago or ahead"
                rejects.append(Reject("no_time", detail, body))
                continue
            found["received_at"] = found["occurred_at"]
            found["received_by"] = "command"
            found["source"] = self.source.name
            found["provider"] = self.source.sender
            events.append(found)
        return replace(parsed, events=events, rejects=rejects)


def of_bodies(source: Source, provider: Provider, newest_us: int) -> Reader:
    """A reader of captured bodies."""
    return Reader(source, lambda request, at: provider.parse(request, source, at), newest_us)


def of_rows(
    source: Source, mapped: Source, mapping: Mapping[str, object], newest_us: int
) -> Reader:
    """A reader of rows: JSON objects of their columns.

    Args:
        source: that the events belong to; messages are those of its provider.
        mapped, mapping: whose mapping reads the columns.
    """

    def parse(request: Request, at: int) -> Parsed:
        return parse_mapped(request, mapped, at, None, mapping)

    return Reader(source, parse, newest_us)
