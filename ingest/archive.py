"""Events of webhook bodies that were captured before mailpulse.

Invariants:
1. Pure: the time up to which events are believed is an argument.
2. Nobody knows when a body arrived, so an event's arrival is its own time: what is old is counted
   when it happened. An event without a time is refused, since it has no place in history.
3. Ids are made as for webhooks. ``received_by`` is ``command``.
4. Signatures are not checked: the operator vouches for the files.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from ingest.providers import fields
from ingest.providers.base import Parsed, Provider, Reject, Request
from ingest.providers.generic import parse_mapped
from schemas.errors import BadInput
from schemas.event import Event
from schemas.settings import Source

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
        newest_us: the latest arrival that a body may have had.
    """

    source: Source
    parse: Parse
    newest_us: int

    def read(self, body: bytes) -> Parsed:
        """Events and rejects of a body."""
        arrival = fields.latest_arrival(self.newest_us, OLDEST_US)
        try:
            return self._dated(self.parse(request_of(body), arrival), body)
        except BadInput as error:
            return Parsed(rejects=[Reject(error.reason, error.detail, body)])
        except Exception as error:  # a bug in a provider's module: the body is kept
            return Parsed(rejects=[Reject("provider_module_failed", type(error).__name__, body)])

    def _dated(self, parsed: Parsed, body: bytes) -> Parsed:
        rejects = list(parsed.rejects)
        events: list[Event] = []
        for place, found in enumerate(parsed.events):
            if found["time_suspect"]:
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
