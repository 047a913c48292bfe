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
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from ingest.providers import addresses, fields
from schemas.address_search import is_address
from schemas.event import Event, event_id, new_event
from schemas.sources import is_source_name

Operation = Literal["add", "lift"]
REASONS = {
    "hard_bounce": "suppressed_bounce",
    "complaint": "suppressed_complaint",
    "unsubscribe": "suppressed_unsubscribe",
    "manual": "other",
    "all": "none",
}
"""Reason of an entry -> ``bounce_reason`` of its event. ``all`` is for lifting."""
SOFT_BOUNCES = "soft_bounces"
"""The reason that exports name and nobody enters."""
PROVIDER = "mailpulse"
"""Provider of the events, and their source unless they have a scope."""
ADDRESS_CHARS_MAX = 320
SCOPE_CHARS_MAX = 256
LINE_CHARS_MAX = 65_536
ROW_LINES_MAX = 100
"""Most lines of one row: cells may have line ends within quotation marks (RFC 4180, 2.6)."""
FUTURE_US_MAX = 86_400_000_000
"""A time may be so far ahead: lists often have local times without a zone."""
OLDEST_US = 946_684_800_000_000
"""2000-01-01: an event of before counts by its arrival (``streams.enrich.derive``), so a list with
such times, often a 0 for none, would undo lifts when it is imported again."""
NO_TIME = "no time: it has to be given for the whole list"
SHOWN_CHARS = 60
"""How much of a bad cell is told."""
DELIMITERS = ",;\t"
"""Between columns; the first line tells which (spreadsheets write semicolons in half of Europe)."""
UNREADABLE = "\ufffd"
"""Stands for what could not be decoded: nobody knows which address it was."""
_BYTE_ORDER_MARK = "\ufeff"
COLUMNS = {
    "address": ("address", "email", "emailaddress", "recipient", "mail"),
    "reason": ("reason", "suppressionreason"),
    "at": (
        "at",
        "since",
        "created",
        "createdat",
        "date",
        "timestamp",
        "unsubtime",
        "cleantime",
        "lastupdatetime",
    ),
    "source": ("source",),
    "scope": ("scope", "list", "group"),
}
"""What is read of a file -> names of its column, in any case, without spaces and punctuation."""
REASON_WORDS = {
    "bounce": "hard_bounce", "bounced": "hard_bounce", "hardbounce": "hard_bounce",
    "complained": "complaint", "spam": "complaint", "spamreport": "complaint",
    "spamcomplaint": "complaint", "unsubscribed": "unsubscribe", "optout": "unsubscribe",
    "manualsuppression": "manual",
}  # fmt: skip
"""Words of other systems' exports, written likewise (Amazon SES, Postmark, SendGrid), -> reason."""
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


def problem_of_address(address: str) -> str:
    """Why a text is not one address, perhaps with a name beside it; empty: it is one."""
    if len(address) > ADDRESS_CHARS_MAX:
        return f"the address is longer than {ADDRESS_CHARS_MAX} characters"
    plain, _ = addresses.address(address)
    lost = plain is not None and UNREADABLE in plain
    if lost or addresses.are_several(address) or not is_address(plain or ""):
        return f"not one address: {address[:SHOWN_CHARS]!r}"
    return ""


def problem_of(entry: Entry, operation: Operation) -> str:
    """What is wrong with an entry; empty: nothing."""
    if problem := problem_of_address(entry.address):
        return problem
    if entry.reason == SOFT_BOUNCES:
        return "a suppression by soft bounces ends by itself: it can't be entered or lifted by name"
    if entry.reason not in REASONS or (operation == "add" and entry.reason == "all"):
        known = ", ".join(name for name in REASONS if operation == "lift" or name != "all")
        return f"unknown reason {entry.reason[:SHOWN_CHARS]!r}: one of {known}"
    if bool(entry.source) != bool(entry.scope):
        return "a scope needs its source, and a source its scope"
    if entry.source and not is_source_name(entry.source):
        return f"not the name of a source, as in mailpulse.toml: {entry.source[:SHOWN_CHARS]!r}"
    if len(entry.scope) > SCOPE_CHARS_MAX:
        return f"the scope is longer than {SCOPE_CHARS_MAX} characters"
    return ""


def problem_of_time(at_us: int, now_us: int) -> str:
    """What is wrong with the time of an entry; empty: nothing.

    Nothing that happens until a time in the future could lift the entry.
    """
    if at_us > now_us + FUTURE_US_MAX:
        return "the time is in the future"
    return "the time is before 2000" if at_us < OLDEST_US else ""


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
    identity, scope = event["recipient_identity"] or "", event["suppression_scope"] or ""
    event["event_id"] = event_id(
        PROVIDER, kind, identity, entry.reason, str(entry.at), entry.source, scope
    )
    return event


def read_entries(
    lines: Iterable[str],
    operation: Operation,
    reason: str,
    at_us: int | None,
    now_us: int,
    ignored: Iterable[str] = (),
) -> Iterator[tuple[int, Entry | BadLine]]:
    """The entries of a CSV file with a line of names, or of one address per line.

    Args:
        reason, at_us: of lines that name none; without a time such lines are bad (``NO_TIME``).
        ignored: names of columns that are not read.

    Yields:
        Number of the line, from 1, and what it is.
    """
    places: dict[str, int] | None = None
    unread = {_name(one) for one in ignored}
    for number, cells in _rows(lines):
        if isinstance(cells, str):
            yield number, BadLine(number, cells)
            continue
        if places is None:
            names = [_name(cell) for cell in cells]
            places = _places(["" if name in unread else name for name in names])
            for missing in sorted(unread.difference(names)):
                yield number, BadLine(number, f"there is no column {missing!r} to ignore")
            if places:
                continue
            places = {"address": 0}
            if len(cells) > 1:
                places["more"] = 1
        entry = _entry(cells, places, operation, reason, at_us, now_us)
        yield number, BadLine(number, entry) if isinstance(entry, str) else entry


def _rows(lines: Iterable[str]) -> Iterator[tuple[int, list[str] | str]]:
    """Numbers and cells of the lines that are not empty, or what is wrong with a line."""
    delimiter = ""
    numbered = _Numbered(lines)
    for number, line in numbered:
        text = line.lstrip(_BYTE_ORDER_MARK).strip()
        if not text:
            continue
        if len(text) > LINE_CHARS_MAX:
            yield number, f"longer than {LINE_CHARS_MAX:,} characters"
            continue
        delimiter = delimiter or _delimiter(text)
        if is_address(text):  # its quotation marks are its own
            yield number, [text]
            continue
        row = _cells([text], delimiter) or _continued(f"{text}\n", numbered, delimiter)
        if row is None:
            yield number, "quotation marks that do not belong together"
            continue
        cells = [cell.strip() for cell in row]
        if any(cells):
            yield number, cells


class _Numbered:
    """Lines with their numbers, from 1; some can be looked at before they are taken."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = enumerate(lines, 1)
        self._ahead: deque[tuple[int, str]] = deque()

    def __iter__(self) -> Iterator[tuple[int, str]]:
        while self._ahead or self._look():
            yield self._ahead.popleft()

    def ahead(self, count: int) -> Iterator[str]:
        """The next lines, ``count`` at most; they stay."""
        for index in range(count):
            if index == len(self._ahead) and not self._look():
                return
            yield self._ahead[index][1]

    def take(self, count: int) -> None:
        """Leaves out the next lines, which were looked at."""
        for _ in range(count):
            self._ahead.popleft()

    def _look(self) -> bool:
        further = next(self._lines, None)
        if further is not None:
            self._ahead.append(further)
        return further is not None


def _cells(lines: list[str], delimiter: str) -> list[str] | None:
    """The cells of one row of CSV; ``None``: the quotation marks do not belong together."""
    try:
        [row] = csv.reader(lines, delimiter=delimiter, strict=True)
    except (csv.Error, ValueError):
        return None
    return row


def _continued(line: str, numbered: _Numbered, delimiter: str) -> list[str] | None:
    """The cells of a row with line ends in a cell, such as a server's answer, which is then taken.

    Lines with an address of their own belong to no other: a quotation mark that is never closed
    would else make one row of all that follow. The reader asks for a line only while a cell is
    open, so a line that is wrong in itself costs no look at others.
    """
    taken = 0

    def lines() -> Iterator[str]:
        nonlocal taken
        yield line
        size = len(line)
        for further in numbered.ahead(ROW_LINES_MAX - 1):
            size += len(further)
            alone = (cell.strip().strip('"') for cell in further.split(delimiter))
            if size > LINE_CHARS_MAX or any(map(is_address, alone)):
                return
            taken += 1
            yield further

    try:
        row = next(csv.reader(lines(), delimiter=delimiter, strict=True))
    except (csv.Error, StopIteration):
        return None
    numbered.take(taken)
    return row


def _delimiter(first: str) -> str:
    """The delimiter that makes the most cells of the first line; a comma where none does."""

    def cells(delimiter: str) -> int:
        with suppress(csv.Error):
            return max(map(len, csv.reader([first], delimiter=delimiter)))
        return 0

    return max(DELIMITERS, key=cells)


def _name(cell: str) -> str:
    return _PUNCTUATION.sub("", cell.lower())


def _places(names: list[str]) -> dict[str, int]:
    """Where the columns are; empty if the first line names no column of addresses.

    A source belongs to a scope: where there are no scopes, as in ``suppressions export``, it says
    who reported the suppression.
    """
    places = {
        what: next(names.index(name) for name in known if name in names)
        for what, known in COLUMNS.items()
        if any(name in names for name in known)
    }
    if "scope" not in places:
        places.pop("source", None)
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
        if problem := problem_of_time(at, now_us):
            return f"{problem}: {told[:SHOWN_CHARS]!r}"
    why = cell("reason").lower()
    why = REASON_WORDS.get(_name(why), why) or reason
    entry = Entry(cell("address"), why, at or 0, cell("source"), cell("scope"))
    return problem_of(entry, operation) or (NO_TIME if at is None else entry)
