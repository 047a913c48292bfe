"""Entries of a suppression list, as operators enter them: read from text, turned into raw events.

Invariants:
1. Pure: time is an argument.
2. An entry that is entered twice with the same time is one event, and what was lifted after that
   time stays lifted. So no line is given the time at which it is read: a list that is imported
   again would undo every lift since.
3. A bad line is told with its number and what is wrong; it never becomes an entry.
"""

import csv
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from ingest.providers import addresses, fields
from schemas.event import Event, event_id, new_event

Operation = Literal["add", "lift"]
REASONS = {
    "hard_bounce": "suppressed_bounce",
    "complaint": "suppressed_complaint",
    "unsubscribe": "suppressed_unsubscribe",
    "manual": "other",
    "all": "none",
}
"""Reason of an entry -> ``bounce_reason`` of its event. ``all`` is for lifting."""
PROVIDER = "mailpulse"
"""Provider of the events, and their source unless they have a scope."""
ADDRESS_CHARS_MAX = 320
SCOPE_CHARS_MAX = 256
LINE_CHARS_MAX = 65_536
FUTURE_US_MAX = 86_400_000_000
"""A time may be so far ahead: lists often have local times without a zone."""
NO_TIME = "no time: it has to be given for the whole list"
SHOWN_CHARS = 60
"""How much of a bad cell is told."""
DELIMITERS = ",;\t"
"""Between columns; the first line tells which (spreadsheets write semicolons in half of Europe)."""
_BYTE_ORDER_MARK = "\ufeff"
_ADDRESS = re.compile(
    r'(?:"(?:[^"\\\x00-\x1f\x7f]|\\[^\x00-\x1f\x7f])*"|[^\s\x00-\x1f\x7f"(),:;<>@\[\\\]]+)'
    r"@(?:\[[0-9A-Za-z:.-]+\]|[^\s\x00-\x1f\x7f!-,/:-@\[-^`{-~]+)"
)
"""One address and nothing beside it: else what another delimiter or a name left in the cell would
be entered, and the person behind it would go on getting mail."""
COLUMNS = {
    "address": ("address", "email", "emailaddress", "recipient", "mail"),
    "reason": ("reason",),
    "at": ("at", "since", "created", "createdat", "date", "timestamp"),
    "source": ("source",),
    "scope": ("scope", "list", "group"),
}
"""What is read of a file -> names of its column, in any case, without spaces and punctuation."""
_PUNCTUATION = re.compile(r"[\W_]")


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a suppression list.

    Attributes:
        address: as given.
        reason: a key of ``REASONS``.
        at: when it was listed or taken off, microseconds since 1970.
        source, scope: list or group that it is limited to; empty: all mail to the address.
    """

    address: str
    reason: str
    at: int
    source: str = ""
    scope: str = ""


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that is no entry."""

    number: int
    problem: str


def problem_of(entry: Entry, operation: Operation) -> str:
    """What is wrong with an entry; empty: nothing."""
    if len(entry.address) > ADDRESS_CHARS_MAX:
        return f"the address is longer than {ADDRESS_CHARS_MAX} characters"
    plain, _ = addresses.address(entry.address)
    if addresses.are_several(entry.address) or not _ADDRESS.fullmatch(plain or ""):
        return f"not one address: {entry.address[:SHOWN_CHARS]!r}"
    if entry.reason not in REASONS or (operation == "add" and entry.reason == "all"):
        known = ", ".join(name for name in REASONS if operation == "lift" or name != "all")
        return f"unknown reason {entry.reason!r}: one of {known}"
    if bool(entry.source) != bool(entry.scope):
        return "a scope needs its source, and a source its scope"
    if len(entry.scope) > SCOPE_CHARS_MAX:
        return f"the scope is longer than {SCOPE_CHARS_MAX} characters"
    return ""


def is_ahead(at_us: int, now_us: int) -> bool:
    """Whether a time is in the future: what happens until then could not lift the entry."""
    return at_us > now_us + FUTURE_US_MAX


def _kept_plain(_event: Event) -> None:
    """Addresses are stored as they are."""


def event_of(
    entry: Entry,
    operation: Operation,
    now_us: int,
    keep: Callable[[Event], None] = _kept_plain,
) -> Event:
    """The raw event of an entry.

    Args:
        keep: applies the privacy setting. The id is made of what is kept: everything else in it is
            in the record too, so one made of the address would tell who guesses the address.
    """
    kind = "suppression_added" if operation == "add" else "suppression_removed"
    event = new_event(
        event_id="", event_type=kind, occurred_at=min(entry.at, now_us), received_at=now_us,
        provider=PROVIDER, native_type=f"suppressions {operation}",
    )  # fmt: skip
    addresses.set_recipient(event, entry.address)
    event["bounce_reason"] = REASONS[entry.reason]
    event["source"] = entry.source or PROVIDER
    event["suppression_scope"] = entry.scope or None
    event["received_by"] = "command"
    keep(event)
    identity = event["recipient_identity"] or ""
    event["event_id"] = event_id(
        PROVIDER, kind, identity, entry.reason, str(entry.at), entry.source, entry.scope
    )
    return event


def read_entries(
    lines: Iterable[str], operation: Operation, reason: str, at_us: int | None, now_us: int
) -> Iterator[tuple[int, Entry | BadLine]]:
    """The entries of a CSV file with a line of names, or of one address per line.

    Args:
        reason, at_us: of lines that name none; without a time such lines are bad (``NO_TIME``).

    Yields:
        Number of the line, from 1, and what it is.
    """
    places: dict[str, int] | None = None
    for number, cells in _rows(lines):
        if isinstance(cells, str):
            yield number, BadLine(number, cells)
            continue
        if places is None:
            places = _places(cells)
            if places:
                continue
            places = {"address": 0}
            if len(cells) > 1:
                places["more"] = 1
        entry = _entry(cells, places, operation, reason, at_us, now_us)
        yield number, BadLine(number, entry) if isinstance(entry, str) else entry


def _rows(lines: Iterable[str]) -> Iterator[tuple[int, list[str] | str]]:
    """Numbers and cells of the lines that are not empty, or what is wrong with a line.

    An entry is one line: a quotation mark that is never closed would make one of all that follow.
    """
    delimiter = ""
    for number, line in enumerate(lines, 1):
        text = line.lstrip(_BYTE_ORDER_MARK).strip()
        if not text:
            continue
        if len(text) > LINE_CHARS_MAX:
            yield number, f"longer than {LINE_CHARS_MAX:,} characters"
            continue
        delimiter = delimiter or _delimiter(text)
        if _ADDRESS.fullmatch(text):  # its quotation marks are its own
            yield number, [text]
            continue
        try:
            [row] = csv.reader([text], delimiter=delimiter, strict=True)
        except (csv.Error, ValueError):
            yield number, "quotation marks that do not belong together"
            continue
        cells = [cell.strip() for cell in row]
        if any(cells):
            yield number, cells


def _delimiter(first: str) -> str:
    """The delimiter that makes the most cells of the first line; a comma where none does."""

    def cells(delimiter: str) -> int:
        with suppress(csv.Error):
            return max(map(len, csv.reader([first], delimiter=delimiter)))
        return 0

    return max(DELIMITERS, key=cells)


def _places(cells: list[str]) -> dict[str, int]:
    """Where the columns are; empty if the first line names no column of addresses."""
    names = [_PUNCTUATION.sub("", cell.lower()) for cell in cells]
    places = {
        what: next(names.index(name) for name in known if name in names)
        for what, known in COLUMNS.items()
        if any(name in names for name in known)
    }
    return places if "address" in places else {}


def _entry(
    cells: list[str], places: dict[str, int], operation: Operation, reason: str,
    at_us: int | None, now_us: int,
) -> Entry | str:  # fmt: skip
    """The entry, or what is wrong with it."""

    def cell(what: str) -> str:
        place = places.get(what)
        return cells[place] if place is not None and place < len(cells) else ""

    if "more" in places:
        return "several columns, but the first line does not name them (address, reason, at, …)"
    at = at_us
    if told := cell("at"):
        at = fields.microseconds(told)
        if at is None:
            return f"not a time: {told[:SHOWN_CHARS]!r}"
        if is_ahead(at, now_us):
            return f"the time is in the future: {told[:SHOWN_CHARS]!r}"
    entry = Entry(
        cell("address"), cell("reason").lower() or reason, at or 0, cell("source"), cell("scope")
    )
    return problem_of(entry, operation) or (NO_TIME if at is None else entry)
