"""What a provider's history module defines: how its own history is read, page by page.

Invariants:
1. Pure: a pull is (state, last answer) -> next request | events, rejects and a new state. States
   are JSON, so a pull goes on after a kill; they never hold the API's key.
2. An item becomes what the webhook would have sent for the event, and that goes through the
   webhook's own code. So both give one event id, one message and one Kafka key.
3. An item without the provider's own event id is refused (``no_event_id``): other recipes are made
   of times and texts that a history writes otherwise, and would give the event a second id. So is
   one without its message (``no_message_id``): repeats are known within a message. And one without
   a time that is believed (``no_time``): it would be counted today, and some ids have its date.
4. What changed in a page after it was read is not read again. So a window ends ``SETTLED_S`` before
   the earlier of our clock and the provider's, and events after its end are left for the next run.
5. Taken are the kinds of events that the source's webhook is assumed to send (``History.events``).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, ClassVar

from ingest.providers import fields, items
from ingest.providers.base import Parsed
from schemas.errors import BadInput
from schemas.event import Event
from schemas.history_api import Answer, Ask
from schemas.settings import Source

SETTLED_S = 30 * 60
"""Mailgun documents that events are inserted into pages younger than this; taken for all."""
SECOND_US = fields.SECOND_US
BEHIND_MAX_US = 86_400 * SECOND_US
"""How far the provider's clock may be behind ours."""
PAGES_MAX = 100_000
"""Of one list: millions of events in an hour. A list with more has no end."""

State = dict[str, Any]
"""Where a pull is, as JSON. ``until`` is the end of its window, in microseconds since 1970."""


@dataclass(frozen=True, slots=True)
class Account:
    """Whose history is read: the source, which has a ``history``, and the API's key."""

    source: Source
    key: str

    @property
    def access(self) -> Any:
        """The source's table ``history``.

        Raises:
            BadInput: ``no_history``: there is none.
        """
        if self.source.history is None:
            raise BadInput("no_history", f"[sources.{self.source.name}.history] is missing")
        return self.source.history


@dataclass(frozen=True, slots=True)
class Window:
    """What a pull reads: events of [begin, until), in microseconds since 1970.

    Attributes:
        sent_us: of messages that were sent since then; for APIs that list messages, not events.
    """

    begin_us: int
    until_us: int
    sent_us: int


@dataclass(frozen=True, slots=True)
class Turn:
    """What an answer gave.

    Attributes:
        state: of the pull, after it.
        parsed: events and rejects, at most a page of them.
        left_out: items that were read and not taken: of another kind, or outside the window.
        listed: what a survey counts instead of reading it.
        gone: what the API listed and then did not give.
        cut: what the API did not give in full, one line each.
    """

    state: State
    parsed: Parsed = field(default_factory=Parsed)
    left_out: int = 0
    listed: int = 0
    gone: int = 0
    cut: tuple[str, ...] = ()


class History:
    """How one provider's history is read: a subclass, and one stateless instance."""

    name: ClassVar[str]
    """The provider's."""
    origins: ClassVar[Mapping[str, str]]
    """Region -> origin of the API."""
    keeps_s: ClassVar[int | None] = None
    """How long the API keeps events, in seconds; ``None`` if that depends on the plan."""
    gap_s: ClassVar[float] = 0.0
    """Time between two requests, where the API documents a rate."""
    kinds: ClassVar[frozenset[str]]
    """Native names of the events that are taken unless ``History.events`` names others."""
    reads: ClassVar[str]
    """API, and what it is asked; for people."""
    lists: ClassVar[str] = ""
    """What a survey counts, where the API gives the events only one by one; empty: the events."""
    table: ClassVar[tuple[str, ...]]
    """Lines of an example of the source's table ``history``."""
    by_message: ClassVar[bool] = False
    """Whether the API is asked for messages by the time they were sent at (``Window.sent_us``)."""

    def problems(self, source: Source) -> list[str]:
        """What is missing in the source's table ``history``, one line each."""
        return []

    def begin(self, account: Account, window: Window, *, survey: bool) -> State:
        """The state of a pull of all events of a window.

        Args:
            survey: only count, where reading takes a request per message or event.
        """
        raise NotImplementedError

    def ask(self, account: Account, state: State) -> Ask | None:
        """The next request; ``None``: everything was read."""
        raise NotImplementedError

    def take(self, account: Account, state: State, answer: Answer, received_at: int) -> Turn:
        """What a good answer (2xx) to ``ask(state)`` gives.

        Args:
            received_at: microseconds since 1970.

        Raises:
            BadInput: the answer is not what the API documents.
        """
        raise NotImplementedError

    def refused(self, account: Account, state: State, answer: Answer) -> Turn | None:
        """How to go on after another answer; ``None``: there is no way."""
        return None

    def share(self, state: State) -> float:
        """How much of the pull is done, 0 to 1, by time covered."""
        raise NotImplementedError


def portion(at: int, begin: int, end: int) -> float:
    """How much of [begin, end) lies before ``at``, 0 to 1."""
    return min(1.0, max(0.0, (at - begin) / max(1, end - begin)))


def problems_of(one: History, source: Source) -> list[str]:
    """Why a source's history can't be read, one line each; empty: it can."""
    access = source.history
    if access is None:
        return [f"sources.{source.name}.history: missing; it says how the history is read"]
    if not access.url and access.region not in one.origins:
        known = ", ".join(one.origins)
        return [f"sources.{source.name}.history.region: {source.sender} has {known}"]
    return one.problems(source)


def settled(state: State, answer: Answer, received_at: int) -> State:
    """The state with an end that is settled by the provider's clock too (invariant 4).

    Raises:
        BadInput: ``clock``: the answer is dated so far before its arrival that the end would be
            anywhere.
    """
    said = answer.headers.get("date")
    if said is None:
        return state
    try:
        now_us = int(parsedate_to_datetime(said).timestamp()) * SECOND_US
    except (ValueError, TypeError, OverflowError):
        return state
    if now_us < received_at - BEHIND_MAX_US:
        raise BadInput(
            "clock", "the API dates its answers more than a day before this machine's clock"
        )
    until = min(state["until"], now_us - SETTLED_S * SECOND_US)
    return state if until == state["until"] else {**state, "until": until}


def wanted(account: Account, kinds: frozenset[str]) -> frozenset[str]:
    """Native names of the events to take."""
    return frozenset(account.access.events) or kinds


def parse(
    found: Iterable[object],
    build: Callable[[items.Item], Event | list[Event]],
    *,
    identity: str,
) -> Parsed:
    """Events of items in the webhook's form, marked as pulled.

    Args:
        build: the webhook's own.
        identity: name of the field with the provider's event id (invariant 3).
    """

    def built(item: items.Item) -> list[Event]:
        if not isinstance(item.get(identity), str | int) or not item[identity]:
            raise BadInput("no_event_id", f"item has no {identity}")
        made = build(item)
        events = made if isinstance(made, list) else [made]
        if not all(event["message_id"] for event in events):
            raise BadInput("no_message_id", "item does not name its message")
        return pulled(events)

    return items.parse_items(found, built)


def pulled(events: list[Event]) -> list[Event]:
    """The events, marked as read from the provider's history.

    Raises:
        BadInput: ``no_time``, see invariant 3.
    """
    for event in events:
        if event["time_suspect"]:
            raise BadInput("no_time", "item has no time, or one that is not believed")
        event["received_by"] = "pull"
    return events


def believed_since(begin_us: int, received_at: int) -> int:
    """The begin of a window, or what is believed of a time when it is read, if that is later: a run
    that goes on days later meets events that have become too old."""
    return max(begin_us, received_at - fields.BEHIND_MAX_US)


@dataclass(frozen=True, slots=True)
class Choice:
    """Which items of a page are taken.

    Attributes:
        kinds: native names.
        begin_us, until_us: times in [begin, until); items without a readable time are taken.
    """

    kinds: frozenset[str]
    begin_us: int
    until_us: int

    def of(self, page: Iterable[object], kind: str, time: str) -> tuple[list[object], int]:
        """The items that are taken, and how many are not.

        Args:
            kind, time: names of the fields with the native name and the time.
        """
        taken: list[object] = []
        left = 0
        for item in page:
            if isinstance(item, dict) and not self._is_wanted(item.get(kind), item.get(time)):
                left += 1
            else:
                taken.append(item)  # what is no object becomes a reject
        return taken, left

    def _is_wanted(self, name: object, time: object) -> bool:
        at = fields.microseconds(time)
        if isinstance(name, str) and name not in self.kinds:
            return False
        return at is None or self.begin_us <= at < self.until_us


def next_page(state: State, cursor: object) -> State:
    """The state at the next page of a list: ``pages`` counts them, and ``mark`` is a cursor that
    was seen, a later one after each doubling of the pages, so any circle meets it (Brent).

    Raises:
        BadInput: ``same_page``: the pages go in a circle; ``endless``: there are too many.
    """
    pages = state["pages"] + 1
    if cursor in (state["cursor"], state["mark"]):
        raise BadInput("same_page", "the API gives a page that was read as the next one")
    if pages > PAGES_MAX:
        raise BadInput("endless", f"the API gives more than {PAGES_MAX:,} pages of one list")
    mark = cursor if pages & (pages - 1) == 0 else state["mark"]
    return {**state, "cursor": cursor, "pages": pages, "mark": mark}


FIRST_PAGE: State = {"cursor": None, "pages": 0, "mark": None}
"""What a state has at the first page of a list."""


# --- pulls by slices of time ----------------------------------------------------------------------


SLICE_US = 3600 * SECOND_US
"""A cursor that the API has forgotten costs so much to read again."""
LOST_MAX = 3
"""How often the same slice is read again for that."""
_CURSOR_LOST = (400, 404, 410, 422)


class SlicedHistory(History):
    """A history that is asked for stretches of time, each read page by page.

    The state: ``begin``, ``until`` of the window; ``at``: where the slice begins that is read;
    ``cursor``: where its next page is, ``None`` for its first; ``pages`` and ``mark`` as of
    ``next_page``; ``lost``: how often the API refused a cursor of the slice.
    """

    grain_us: ClassVar[int] = SECOND_US
    """How precise the API's times are: what is asked for begins and ends with such a grain."""

    def begin(self, account: Account, window: Window, *, survey: bool) -> State:
        """See ``History.begin``."""
        begin_us = window.begin_us
        return {"begin": begin_us, "until": window.until_us, "at": begin_us, **FIRST_PAGE,
                "lost": 0}  # fmt: skip

    def ask(self, account: Account, state: State) -> Ask | None:
        """See ``History.ask``."""
        if state["at"] >= state["until"]:
            return None
        begin_us, until_us = self.slice_of(state)
        grain = self.grain_us
        # one grain more on both sides: whether the API includes its bounds does not matter
        return self.page(
            account, state, begin_us // grain * grain - grain, -(-until_us // grain) * grain + grain
        )

    @staticmethod
    def slice_of(state: State) -> tuple[int, int]:
        """Begin and end of the slice that is read."""
        return state["at"], min(state["until"], state["at"] + SLICE_US)

    def choice(self, account: Account, state: State, received_at: int) -> Choice:
        """What is taken of a page of the slice."""
        begin_us, until_us = self.slice_of(state)
        kinds = wanted(account, self.kinds)
        return Choice(kinds, believed_since(begin_us, received_at), until_us)

    def page(self, account: Account, state: State, begin_us: int, until_us: int) -> Ask:
        """The request for the page at ``state["cursor"]`` of the events in these bounds."""
        raise NotImplementedError

    def read(
        self, account: Account, state: State, answer: Answer
    ) -> tuple[list[object], object | None]:
        """The items of a page, and the cursor of the next; ``None``: it was the last.

        Raises:
            BadInput: as ``take`` does.
        """
        raise NotImplementedError

    def parsed(
        self, account: Account, state: State, page: list[object], received_at: int
    ) -> tuple[Parsed, int]:
        """Events of a page's items, and how many items are not taken."""
        raise NotImplementedError

    def take(self, account: Account, state: State, answer: Answer, received_at: int) -> Turn:
        """See ``History.take``."""
        state = settled(state, answer, received_at)
        page, cursor = self.read(account, state, answer)
        parsed, left = self.parsed(account, state, page, received_at)
        if cursor is None:
            after = self.after_slice(account, state)
        else:
            after = next_page(state, cursor)
        return Turn(after, parsed, left)

    def after_slice(self, account: Account, state: State) -> State:
        """The state once the last page of a slice was read."""
        return {**state, "at": self.slice_of(state)[1], **FIRST_PAGE, "lost": 0}

    def refused(self, account: Account, state: State, answer: Answer) -> Turn | None:
        """A cursor may be forgotten: the slice is read again from its beginning."""
        lost = state["lost"] + 1
        if state["cursor"] is None or answer.status not in _CURSOR_LOST or lost > LOST_MAX:
            return None
        return Turn({**state, **FIRST_PAGE, "lost": lost})

    def share(self, state: State) -> float:
        """See ``History.share``."""
        return portion(state["at"], state["begin"], state["until"])
