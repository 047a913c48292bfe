"""Reads SendGrid's usual events by column, for speed; nine in ten events are usual.

Invariants:
1. Pure. ``ColumnReader.read_all`` gives exactly the events that ``sendgrid_events.build`` gives for
   the same items, or leaves items to that function. A property test compares them.
2. The body has to be plain (``is_plain``): ASCII without escapes. So no text needs cleaning, none
   contains a line end, and a column can be checked as one joined text.
3. Items are read together if they have the same custom arguments in the same order, and are all
   from readers or all from servers. If one is unusual, its group is split by native event, and the
   part with it is left to ``sendgrid_events``.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import repeat
from operator import itemgetter
from typing import Any

from ingest.columns import Columns
from ingest.providers import fields, items
from ingest.providers.sendgrid_events import (
    CLASSED,
    CLIENT_EVENTS,
    EVENTS,
    GROUP_EVENTS,
    MACHINES,
    OWN_FIELDS,
    category_of,
    class_of,
    native_type_of,
)
from schemas.event import ID_CHARS_MAX, TAGS_MAX, TEXT_CHARS_MAX, new_event
from schemas.settings import Source

TOGETHER_MIN = 4
"""Fewer similar items are faster to build one by one."""
_NEEDED = ("event", "email", "timestamp", "sg_event_id", "sg_message_id")
_NAMES_MAX = 64
_NOT_ORDINARY = (*" \t\r\x0b\x0c\x1c\x1d\x1e\x1f", ">", "(", '"', "]")
"""In none of the addresses whose identity is their lower case (``schemas.identity``)."""
_CAMPAIGNS = frozenset(("mc_stats", "marketing_campaign_id", "singlesend_id"))
"""Fields of an event with a campaign of SendGrid's own."""
_CLIENT = (
    ("useragent", "user_agent", TEXT_CHARS_MAX),
    ("ip", "ip", items.IP_CHARS_MAX),
    ("url", "click_url", TEXT_CHARS_MAX),
)
"""SendGrid's field, the event's, and its limit of characters."""
_REPLY = ("reason", "response", "status")
_TEXT, _NUMBER, _LIST = {str}, {int}, {list}

Column = Sequence[Any]
Rows = Sequence[items.Item]
Table = dict[str, Column]
"""Field's name -> its value in each item."""


class Unusual(Exception):
    """Items that only ``sendgrid_events.build`` can read."""


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """The common fields of similar items.

    Attributes:
        names: fields that are read, the sender's own at the end.
        custom: the sender's own, in their order.
    """

    names: tuple[str, ...]
    custom: tuple[str, ...]


def is_plain(body: bytes) -> bool:
    """Whether all texts of a JSON body are ASCII without control characters.

    In valid JSON, control characters are escaped (RFC 8259 §7).
    """
    return body.isascii() and b"\\" not in body


_kind_of = lru_cache(maxsize=1024)(Kind)
"""Cached, so that a kind is one object, compared by identity."""


@lru_cache(maxsize=1024)
def _kind(names: tuple[str, ...]) -> Kind | None:
    """The kind of items with these fields; ``None`` if they are not usual."""
    present = frozenset(names)
    if len(names) > _NAMES_MAX or not present.issuperset(_NEEDED) or present & _CAMPAIGNS:
        return None
    custom = tuple(name for name in names if name not in OWN_FIELDS)
    if not all(0 < len(name) <= ID_CHARS_MAX for name in custom):
        return None
    optional = tuple(name for name in ("smtp-id", "category") if name in present)
    return _kind_of((*_NEEDED, *optional, *custom), custom)


def _check(certain: bool) -> None:
    if not certain:
        raise Unusual


def _texts(column: Column, most: int, least: int = 1) -> None:
    """Checks that all are texts within limits of length."""
    _check(set(map(type, column)) == _TEXT)
    lengths = set(map(len, column))
    _check(min(lengths) >= least and max(lengths) <= most)


def _some_texts(column: Column, most: int) -> None:
    """The same for a column with ``None`` among the texts."""
    if None in column:
        column = [one for one in column if one is not None]
    if column:
        _texts(column, most)


class ColumnReader:
    """Reads the items of one request; the arguments are those of ``sendgrid_events.build``.

    Args:
        identities: ids of many events.
    """

    __slots__ = ("_first", "_identities", "_last", "_precedence", "_received", "_source")

    def __init__(
        self,
        source: Source,
        received_at: int,
        identities: Callable[[Iterable[str]], list[str]],
        believed: tuple[int, int],
    ) -> None:
        self._source = source
        self._received = received_at
        self._identities = identities
        self._first, self._last = believed
        self._precedence = fields.precedence(source.campaign_from)

    def read_all(self, content: Sequence[object]) -> list[Columns]:
        """The events of usual items of a request that are similar to others."""
        found: dict[tuple[Kind, bool], list[int]] = {}
        for position, item in enumerate(content):
            if type(item) is dict:
                kind = _kind(tuple(item))
                native = item.get("event")
                # group events are rare, and have a scope
                if kind is not None and type(native) is str and native not in GROUP_EVENTS:
                    found.setdefault((kind, native in CLIENT_EVENTS), []).append(position)
        read: list[Columns] = []
        for (kind, of_reader), positions in found.items():
            read += self._read_some(content, positions, kind, of_reader)
        return read

    def _read_some(
        self, content: Sequence[Any], positions: list[int], kind: Kind, of_reader: bool
    ) -> list[Columns]:
        """Similar items, read together, or by native event if one of them is unusual."""
        if len(positions) < TOGETHER_MIN:
            return []
        try:
            return [self._read([content[at] for at in positions], positions, kind, of_reader)]
        except Unusual:
            by_native: dict[str, list[int]] = {}
            for at in positions:
                by_native.setdefault(content[at]["event"], []).append(at)
            if len(by_native) == 1:
                return []
            some = [self._read_some(content, few, kind, of_reader) for few in by_native.values()]
            return [columns for each in some for columns in each]

    def _read(self, rows: Rows, positions: list[int], kind: Kind, of_reader: bool) -> Columns:
        """The events of similar items.

        Raises:
            Unusual: one of them is.
        """
        table: Table = dict(
            zip(kind.names, zip(*map(itemgetter(*kind.names), rows), strict=True), strict=True)
        )
        natives = table["event"]
        types = list(map(EVENTS.get, natives))
        _check(None not in types)
        event = new_event(
            event_id="", event_type="", occurred_at=0, received_at=self._received,
            provider="sendgrid", native_type="",
        )  # fmt: skip
        event["source"] = self._source.name
        columns = Columns(
            event, {"batch_index": positions, "event_type": types, "native_type": natives}, {}
        )
        self._add_identity(columns, table)
        self._add_sent(columns, table, kind.custom)
        if of_reader:
            _add_client(columns, rows)
        else:
            _add_reply(columns, rows)
        return columns

    def _add_identity(self, columns: Columns, table: Table) -> None:
        """Ids, time and recipient."""
        moments, own_ids = table["timestamp"], table["sg_event_id"]
        _check(set(map(type, moments)) == _NUMBER)
        _check(self._first <= min(moments) and max(moments) <= self._last)
        _check(set(map(type, own_ids)) == _TEXT and "" not in own_ids)
        emails = table["email"]
        _texts(emails, ID_CHARS_MAX)
        together = "\n".join(emails)
        _check(together.isascii() and not any(map(together.__contains__, _NOT_ORDINARY)))
        lowered = together.lower()
        _check(lowered.count("\n") == len(emails) - 1)
        parts = [email.rpartition("@") for email in emails]
        _, ats, domains = zip(*parts, strict=True)
        _check("" not in ats and together.count("@") == len(emails))
        _check(".\n" not in together and not together.endswith("."))
        if lowered != together:
            lower = tuple(map(str.lower, domains))
            if lower != domains:
                emails = [f"{local}@{low}" for (local, _, _), low in zip(parts, lower, strict=True)]
                domains = lower
        given: Any = columns.fields
        given["event_id"] = self._identities(own_ids)
        given["occurred_at"] = [moment * fields.SECOND_US for moment in moments]
        given["message_id"] = _message_ids(table["sg_message_id"])
        given["recipient"], given["recipient_domain"] = emails, domains
        given["recipient_identity"] = lowered.split("\n")

    def _add_sent(self, columns: Columns, table: Table, custom: tuple[str, ...]) -> None:
        """Tags, metadata, campaign and RFC message id."""
        smtp_ids, categories = table.get("smtp-id"), table.get("category")
        if smtp_ids is not None:
            columns.fields["rfc_message_id"] = _bare(smtp_ids)
        if categories is not None:
            columns.fields["tags"] = _tags(categories)
        for name in custom:
            _texts(table[name], TEXT_CHARS_MAX, 0)
            columns.metadata[name] = table[name]
        for kind, key, position in self._precedence:
            if kind == "metadata":
                found = columns.metadata.get(key)
            elif kind == "tag" and categories is not None:
                found = _tags_at(categories, position)
            else:  # usual items have neither a campaign of SendGrid's own nor headers
                continue
            if found is not None:
                columns.fields["campaign_id"] = _campaigns(found)
                columns.alike["campaign_source"] = kind
                break


def _message_ids(column: Column) -> Column:
    """The beginnings of ``sg_message_id``: see ``sendgrid_events``, invariant 3."""
    _texts(column, ID_CHARS_MAX)
    together = "\n".join(column)
    _check(" " not in together and "<" not in together)
    machines = [machine for machine in MACHINES if machine in together]
    _check(len(machines) <= 1)
    if not machines:
        return column
    fronts = [one.partition(machines[0])[0] for one in column]
    _check("" not in fronts)
    return fronts


def _bare(column: Column) -> Column:
    """Message ids without their angle brackets."""
    _texts(column, ID_CHARS_MAX, 3)
    together = "\n".join(column)
    _check(" " not in together)
    if "<" not in together and ">" not in together:
        return column
    bare = together[1:-1].split(">\n<")
    _check(len(bare) == len(column) and together[0] == "<" and together[-1] == ">")
    _check(together.count("<") == together.count(">") == len(column))
    return bare


def _tags(column: Column) -> Column:
    """Tags, if all are lists of short texts."""
    _check(set(map(type, column)) == _LIST)
    try:
        different = set(map(tuple, column))
    except TypeError:
        raise Unusual from None
    for tags in different:
        _check(len(tags) <= TAGS_MAX)
        if tags:
            _texts(tags, ID_CHARS_MAX)
    return column


def _tags_at(column: Column, position: int) -> Column | None:
    """The tag at a position, if all items have one; ``None`` if none has."""
    shortest, longest = min(map(len, column)), max(map(len, column))
    if longest <= position:
        return None
    _check(shortest > position)
    return [tags[position] for tags in column]


_identifier = lru_cache(maxsize=4096)(fields.identifier)
"""Cached for campaigns, of which there are few; for texts only."""


def _campaigns(column: Column) -> Column:
    campaigns = list(map(_identifier, column))
    _check(None not in campaigns)
    return campaigns


def _add_client(columns: Columns, rows: Rows) -> None:
    """Adds who opened or clicked what; not every item has all of these fields."""
    present = set().union(*rows)
    for native, name, most in _CLIENT:
        if native in present:
            column = [row.get(native) for row in rows]
            _some_texts(column, most)
            columns.fields[name] = column
    if "sg_machine_open" in present:
        kinds = ["apple_mpp" if row.get("sg_machine_open") is True else "none" for row in rows]
        columns.fields["machine_kind"] = kinds


def _add_reply(columns: Columns, rows: Rows) -> None:
    """Adds the replies of the receiving servers, or of SendGrid in their place."""
    natives, present = columns.fields["native_type"], set().union(*rows)
    if present.isdisjoint(_REPLY) and CLASSED.isdisjoint(natives):
        return

    def column(name: str) -> Column:
        return [row.get(name) for row in rows] if name in present else (None,) * len(rows)

    responses, reasons = column("response"), column("reason")
    said = [one or other for one, other in zip(reasons, responses, strict=True)]
    _some_texts(said, TEXT_CHARS_MAX)
    if not CLASSED.isdisjoint(natives):
        kinds, classifications = column("type"), column("bounce_classification")
        _some_texts(kinds, ID_CHARS_MAX)
        classes = map(class_of, natives, said, kinds, classifications)
        columns.fields["bounce_class"], columns.fields["bounce_reason"] = zip(*classes, strict=True)
        categories = list(map(category_of, natives, said, kinds))
        columns.fields["native_type"] = [
            native if category is None else native_type_of(f"{native}.{category}")
            for native, category in zip(natives, categories, strict=True)
        ]
        said = [
            None if category is one else one for one, category in zip(said, categories, strict=True)
        ]
    codes = map(items.codes_of, said, repeat(None), column("status"))
    columns.fields["diagnostic"] = said
    columns.fields["smtp_code"], columns.fields["enhanced_status"] = zip(*codes, strict=True)
