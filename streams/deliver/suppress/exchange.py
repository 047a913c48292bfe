"""Calls to a provider's API and its answers, as a conversation without a network.

Invariants:
1. Pure. A conversation is a generator: it yields each call, is sent its answer, and returns what
   came of the whole. Whoever drives it makes the calls in this order, one after the other.
2. Every conversation may be repeated from its start at any time, also after a call of which nobody
   knows whether it took effect.
3. Addresses are percent-encoded in paths: no character of one ends a path or changes the list.
4. A next page is of the same host, whatever the answer says: the key would go elsewhere.
"""

import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import orjson

from streams.deliver.outcomes import RETRY_AFTER_S_MAX, Blame, Outcome, of_answer

SAID_CHARS_MAX = 300
"""How much of a provider's message is told."""
RESET_HEADER = "x-ratelimit-reset"
"""Twilio SendGrid: when the next call may be made, seconds since 1970."""
RESET_DIGITS_MAX = 12
_WAIT = frozenset((420, 429))
"""«Too many requests»; 420 is SparkPost's for a limit of its plan."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request to a provider's API.

    Attributes:
        method: of HTTP.
        path: encoded, beginning with a slash.
        query: encoded, without the question mark.
        body: JSON; empty: none.
        headers: beside those that authenticate.
        writes: whether it changes a list.
    """

    method: str
    path: str
    query: str = ""
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    writes: bool = True


@dataclass(frozen=True, slots=True)
class Answer:
    """What a provider answered, and when (seconds since 1970). Header names are in lower case."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    at_s: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300

    @property
    def document(self) -> Any:
        """Its JSON; ``None`` if it has none."""
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError:
            return None


Exchange = Generator[Call, Answer, Outcome]
"""A conversation that changes lists; ``DELIVERED``: everything holds there."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One address on a provider's list. ``why`` is the provider's word for it, perhaps empty."""

    address: str
    why: str = ""


class Unreadable(Exception):
    """A provider's list can't be read; the text says why."""


_TARGET = re.compile(r"/[!-~]*")
"""What may be sent as the target of a request: printable ASCII, without a space."""

Listing = Generator[Call, Answer, list[Entry]]
"""A conversation that reads a whole list, page by page. It raises ``Unreadable``."""


def encoded(text: str) -> str:
    """A part of a path."""
    return quote(text, safe="")


def query(**values: str | int) -> str:
    """A query; a value that is empty is said to be empty, not left out."""
    return urlencode(values, quote_via=quote)


def read(path: str, **values: str | int) -> Call:
    """A call that reads."""
    return Call("GET", path, query(**values) if values else "", writes=False)


def write(method: str, path: str, document: Any = None, **values: str | int) -> Call:
    """A call that changes a list."""
    body = b"" if document is None else orjson.dumps(document)
    return Call(method, path, query(**values) if values else "", body)


def next_page(link: str) -> Call | None:
    """The call for the page that an answer links to (invariant 4); ``None``: it links to none.

    Args:
        link: a URL, or the path and query of one.

    Raises:
        Unreadable: it can't be followed.
    """
    if not link:
        return None
    try:
        parts = urlsplit(link)
    except ValueError:
        raise Unreadable("the link to its next page is no URL") from None
    call = Call("GET", parts.path, parts.query, writes=False)
    if not _TARGET.fullmatch(f"{call.path}?{call.query}"):
        raise Unreadable("the link to its next page can't be followed")
    return call


def failure(answer: Answer, said: str, wait_s: float) -> Outcome:
    """What an answer that is not 2xx means.

    Args:
        said: the provider's message, whole: whoever tells of it takes secrets out, then cuts it.
        wait_s: pause after «too many requests» without any header, seconds.
    """
    outcome = of_answer(answer.status, said, answer.headers, answer.at_s)
    if answer.status not in _WAIT or outcome.hold_s:
        return outcome
    hold = _reset_s(answer) or wait_s
    return replace(outcome, blame=Blame.DESTINATION, hold_s=hold, or_record=False)


def _reset_s(answer: Answer) -> float:
    """Seconds until the time (Unix) that a header names; 0 without one, or for one that is past."""
    text = answer.headers.get(RESET_HEADER, "").strip()
    if text.isascii() and text.isdigit() and len(text) <= RESET_DIGITS_MAX:
        return min(max(0.0, float(text) - answer.at_s), RETRY_AFTER_S_MAX)
    return 0.0


def refused(said: str) -> Outcome:
    """A provider that took the call, but not its record."""
    return Outcome(said, Blame.RECORD)


def no_such_list(said: str) -> Outcome:
    """A list that ``mailpulse.toml`` names is not there: others go on, its records are parked."""
    return Outcome(said, Blame.DESTINATION, or_record=True)


def not_understood(answer: Answer) -> Outcome:
    """A 2xx answer to a question that is not what the provider's documents say: nothing is done."""
    return Outcome(f"{answer.status}: an answer that is not understood", Blame.UNKNOWN)


def parts(items: Sequence[Any], most: int) -> Iterator[Sequence[Any]]:
    """``items`` in parts of at most ``most``."""
    for begin in range(0, len(items), most):
        yield items[begin : begin + most]


def text_at(document: Any, *path: str | int) -> str:
    """The text at a place of a JSON document; empty if there is none."""
    for step in path:
        if isinstance(step, int):
            document = document[step] if isinstance(document, list) and document else None
        else:
            document = document.get(step) if isinstance(document, dict) else None
    return document if isinstance(document, str) else ""
