"""The field mapping of a source: paths of an event's fields in any body.

In ``mailpulse.toml``, all of it optional:

    [sources.crm.mapping]
    body = "json"                    # json; form; form:FIELD, JSON in a field of a form
    items = "data.events"            # path of the list; default: the body, a list or one object
    time_unit = "ms"                 # s, ms, us, iso; default: by the number's size
    time_format = "%d/%m/%Y %H:%M"   # of a text that is neither ISO 8601 nor RFC 5322 (strptime)
    time_zone = "Europe/Paris"       # of times without one; default: UTC
    answers_get = true               # the sender tests the URL by a GET or HEAD: answer 200

    [sources.crm.mapping.fields]     # a path, or several: the first with a value counts
    event = ["type", "data.kind"]
    recipient = "contact.email"
    tags = "labels"

    [sources.crm.mapping.events]     # the sender's event names
    "mail.opened" = "opened"
    "mail.bounced" = { type = "bounced", bounce_class = "hard", bounce_reason = "no_mailbox" }

    [sources.crm.mapping.handshake]  # a call that only tests the URL
    event = "url.validation"         # its event name
    answer = { code = "data.code" }  # JSON to answer: name = path of the value

``mapping.signature`` and ``mapping.token``, the proof, are in ``ingest.providers.signing``.

A path consists of keys separated by dots; a number is an index in a list, from 0; ``$.`` starts at
the top of the body instead of the item; ``header:NAME`` is a header of the request, ``query:NAME``
a parameter of its URL, ``=TEXT`` the text itself. ``a+b`` joins two by a dot, if both are there:
``type+status`` gives ``email.failed``. An event name that is not listed is looked up again without
its last part.
``items = "text:Message"`` reads a text as JSON. A form's ``data[email]`` is ``data.email``.

Invariants:
1. Pure. Reading a mapping reports all problems at once, with their places.
2. Fields that the mapping does not contain have the paths of the default shape.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl
from zoneinfo import ZoneInfo

from ingest.providers.base import Request
from schemas.event import BounceClass, BounceReason, EventType, MachineKind

QUERY_FIELDS_MAX = 100
TIME_UNITS = {"s": 1_000_000, "ms": 1_000, "us": 1}
"""Unit -> microseconds."""

DEFAULT_PATHS: Mapping[str, tuple[str, ...]] = {
    "event": ("event", "type"),
    "event_id": ("event_id", "id"),
    "time": ("time", "occurred_at", "timestamp"),
    "message_id": ("message_id",),
    "rfc_message_id": ("rfc_message_id",),
    "recipient": ("recipient", "email"),
    "campaign": ("campaign_id", "campaign"),
    "tags": ("tags",),
    "metadata": ("metadata",),
    "bounce_class": ("bounce.class",),
    "bounce_reason": ("bounce.reason",),
    "smtp_code": ("bounce.smtp_code", "smtp_code"),
    "enhanced_status": ("bounce.status", "enhanced_status"),
    "diagnostic": ("bounce.diagnostic", "diagnostic"),
    "url": ("url",),
    "user_agent": ("user_agent",),
    "ip": ("ip",),
    "country": ("country",),
    "machine": ("machine",),
    "method": ("method",),
    "first": ("first",),
    "unsubscribe_link": ("unsubscribe_link",),
    "suppression_scope": ("suppression_scope",),
}
"""Field -> its paths in the default shape; each also under ``data``."""

SYMBOLS = {
    "type": {str(one) for one in EventType},
    "bounce_class": {str(one) for one in BounceClass},
    "bounce_reason": {str(one) for one in BounceReason},
}
MACHINE_KINDS = {str(one) for one in MachineKind}

Path = tuple[str, ...]
Elsewhere = Callable[[object, object, Request], object]
"""Takes an item, its body and its request -> the value at a path."""
Place = Path | Elsewhere
"""A path, taken apart: the keys of one in the item, any other as a function."""


def look_up(value: object, path: Path) -> object:
    """The value at a path; ``None`` if there is none."""
    for key in path:
        if isinstance(value, dict):
            value = value.get(key)
        elif isinstance(value, list) and key.isascii() and key.isdigit() and len(key) < 10:
            position = int(key)
            value = value[position] if position < len(value) else None
        else:
            return None
    return value


def _place(path: str) -> Place:
    """A path, taken apart, see the module."""
    if "+" in path:
        parts = tuple(_function(_place(one)) for one in path.split("+"))

        def joined(item: object, body: object, request: Request) -> object:
            found = [one(item, body, request) for one in parts]
            texts = [str(one) for one in found if isinstance(one, str | int) and one != ""]
            return ".".join(texts) if len(texts) == len(parts) else None

        return joined
    if path.startswith("="):
        return lambda _item, _body, _request: path[1:]
    if path.startswith("header:"):
        header = path.removeprefix("header:").lower()
        return lambda _item, _body, request: request.header(header)
    if path.startswith("query:"):
        parameter = path.removeprefix("query:")
        return lambda _item, _body, request: in_query(request, parameter)
    if path.startswith("$."):
        top = tuple(path[2:].split("."))
        return lambda _item, body, _request: look_up(body, top)
    return tuple(path.split("."))


def _function(place: Place) -> Elsewhere:
    if isinstance(place, tuple):
        return lambda item, _body, _request: look_up(item, place)
    return place


def in_query(request: Request, name: str) -> str | None:
    """The value of a query parameter; ``None`` when it is absent or given more than once."""
    try:
        pairs = parse_qsl(request.query, max_num_fields=QUERY_FIELDS_MAX)
    except ValueError:
        return None
    values = [value for key, value in pairs if key == name]
    return values[0] if len(values) == 1 else None


@dataclass(frozen=True, slots=True)
class Verdict:
    """The meaning of a native event name."""

    event_type: str
    bounce_class: str = "none"
    bounce_reason: str = "none"


_UNKNOWN = Verdict("unknown")


@dataclass(frozen=True, slots=True)
class FieldMapping:
    """A mapping that has been read.

    Attributes:
        items: path of the list of items; empty: the body.
        microseconds: of one unit of a numeric time; ``None``: by its size.
        paths: field -> paths, in order.
        events: native name -> verdict.
        text: whether the value at ``items`` is a text of JSON.
        body: ``json``, ``form``, or ``form:FIELD``.
        time_format: of texts that no known format reads; empty: none.
        zone: of times without one; ``None``: UTC.
        handshake: event name of a call that only tests the URL, and path of each value to answer.
        answers_get: whether GET and HEAD are answered 200.
        places: ``paths``, taken apart once, since every event is asked for each.
    """

    items: Path
    microseconds: int | None
    paths: Mapping[str, tuple[str, ...]]
    events: Mapping[str, Verdict]
    text: bool = False
    body: str = "json"
    time_format: str = ""
    zone: ZoneInfo | None = None
    handshake: tuple[str, Mapping[str, str]] = field(default=("", {}))
    answers_get: bool = False
    places: Mapping[str, tuple[Place, ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        places = {name: tuple(map(_place, paths)) for name, paths in self.paths.items()}
        object.__setattr__(self, "places", places)

    def find(self, name: str, item: object, body: object, request: Request) -> object:
        """The first value at one of a field's paths; ``None`` if there is none at any."""
        for place in self.places[name]:
            if type(place) is tuple:
                found = item
                for key in place:
                    if type(found) is dict:
                        found = found.get(key)
                    else:
                        found = look_up(found, (key,))
                    if found is None:
                        break
            else:
                found = place(item, body, request)  # type: ignore[operator]
            if found is not None:
                return found
        return None

    def verdict(self, native: str) -> Verdict:
        """The meaning of an event name; of one that is not listed, without its last parts."""
        while True:
            found = self.events.get(native)
            if found is not None:
                return found
            native, dot, _ = native.rpartition(".")
            if not dot:
                return _UNKNOWN


_DEFAULT_PATHS = {
    name: (*places, *(f"data.{place}" for place in places))
    for name, places in DEFAULT_PATHS.items()
}
_SELF = {name: Verdict(name) for name in sorted(SYMBOLS["type"])}
DEFAULT = FieldMapping((), None, _DEFAULT_PATHS, _SELF)


_ENTRIES = (
    "body", "items", "time_unit", "time_format", "time_zone", "answers_get", "fields", "events",
    "handshake", "signature", "token",
)  # fmt: skip
_BODY = re.compile(r"json|form(?::.+)?")
KNOWN_MAX = 256
"""Mappings that are remembered; a source has one."""
_KNOWN: dict[int, tuple[Mapping[str, Any], FieldMapping]] = {}
"""By identity, each with what it was read from, so that no other has its identity."""


def read_mapping(raw: Mapping[str, Any]) -> tuple[FieldMapping, list[str]]:
    """The mapping of a source, and every problem in it (parts with one are as in ``DEFAULT``)."""
    problems = [
        f"{key}: no such entry (known: {', '.join(_ENTRIES)})" for key in raw if key not in _ENTRIES
    ]
    where = raw.get("items", "")
    if not isinstance(where, str):
        problems.append("items: a path")
        where = ""
    unit = raw.get("time_unit", "auto")
    if unit not in ("auto", "iso", *TIME_UNITS):
        problems.append("time_unit: one of s, ms, us, iso, auto")
    body = raw.get("body", "json")
    if not isinstance(body, str) or not _BODY.fullmatch(body):
        problems.append("body: json, form, or form:FIELD")
        body = "json"
    text, path = where.startswith("text:"), where.removeprefix("text:")
    answers_get = raw.get("answers_get", False)
    if not isinstance(answers_get, bool):
        problems.append("answers_get: true or false")
    mapping = FieldMapping(
        tuple(path.split(".")) if path else (),
        TIME_UNITS.get(unit) if isinstance(unit, str) else None,
        _read_paths(raw.get("fields", {}), problems),
        _read_events(raw.get("events", {}), problems),
        text,
        body,
        _read_time_format(raw.get("time_format", ""), problems),
        _read_zone(raw.get("time_zone"), problems),
        _read_handshake(raw.get("handshake", {}), problems),
        answers_get is True,
    )
    return mapping, problems


def known_mapping(raw: Mapping[str, Any]) -> FieldMapping:
    """The mapping of a source, read once; ``raw`` never changes."""
    held = _KNOWN.get(id(raw))
    if held is None or held[0] is not raw:
        if len(_KNOWN) >= KNOWN_MAX:
            _KNOWN.clear()
        held = _KNOWN[id(raw)] = (raw, read_mapping(raw)[0] if raw else DEFAULT)
    return held[1]


def _read_time_format(given: object, problems: list[str]) -> str:
    if isinstance(given, str) and (not given or "%" in given):
        return given
    problems.append('time_format: a format as of strptime, such as "%d/%m/%Y %H:%M:%S"')
    return ""


def _read_zone(given: object, problems: list[str]) -> ZoneInfo | None:
    if given is None:
        return None
    try:
        return ZoneInfo(str(given))
    except (ValueError, OSError, KeyError):
        problems.append('time_zone: a name of the IANA data base, such as "Europe/Paris"')
        return None


def _read_handshake(raw: object, problems: list[str]) -> tuple[str, Mapping[str, str]]:
    nothing: tuple[str, Mapping[str, str]] = ("", {})
    if raw == {}:
        return nothing
    event = raw.get("event") if isinstance(raw, dict) else None
    answer = raw.get("answer", {}) if isinstance(raw, dict) else None
    if (
        not isinstance(raw, dict)
        or not raw.keys() <= {"event", "answer"}
        or not isinstance(event, str)
        or not event
        or not isinstance(answer, dict)
        or not all(isinstance(one, str) and one for one in answer.values())
    ):
        problems.append("handshake: a table of event, an event name, and answer, a table of paths")
        return nothing
    return event, answer


def _read_paths(raw: object, problems: list[str]) -> Mapping[str, tuple[str, ...]]:
    if not isinstance(raw, dict):
        problems.append("fields: a table of field = path")
        return _DEFAULT_PATHS
    paths = dict(_DEFAULT_PATHS)
    for name, given in raw.items():
        places = [given] if isinstance(given, str) else given
        if name not in DEFAULT_PATHS:
            problems.append(f"fields.{name}: no such field (known: {', '.join(DEFAULT_PATHS)})")
        elif not isinstance(places, list) or not all(
            isinstance(one, str) and one for one in places
        ):
            problems.append(f"fields.{name}: a path or a list of paths")
        else:
            paths[name] = tuple(places)
    return paths


def _read_events(raw: object, problems: list[str]) -> Mapping[str, Verdict]:
    if not isinstance(raw, dict):
        problems.append("events: a table of native name = event type")
        return _SELF
    events = dict(_SELF)
    for name, given in raw.items():
        wanted = {"type": given} if isinstance(given, str) else given
        if (
            not isinstance(wanted, dict)
            or "type" not in wanted
            or not wanted.keys() <= SYMBOLS.keys()
        ):
            problems.append(f"events.{name}: an event type, or a table of {', '.join(SYMBOLS)}")
            continue
        wrong = [key for key, value in wanted.items() if str(value) not in SYMBOLS[key]]
        problems += [f"events.{name}: no such {key}" for key in wrong]
        if not wrong:
            verdict = {key: str(value) for key, value in wanted.items()}
            events[name] = Verdict(
                verdict["type"],
                verdict.get("bounce_class", "none"),
                verdict.get("bounce_reason", "none"),
            )
    return events
