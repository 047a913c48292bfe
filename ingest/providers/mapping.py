"""The field mapping of a source: paths of an event's fields in any JSON.

In ``mailpulse.toml``, all of it optional:

    [sources.crm.mapping]
    items = "data.events"            # path of the list; default: the body, a list or one object
    time_unit = "ms"                 # s, ms, us, iso; default: by the number's size

    [sources.crm.mapping.fields]     # a path, or several: the first with a value counts
    event = ["type", "data.kind"]
    recipient = "contact.email"
    tags = "labels"

    [sources.crm.mapping.events]     # the sender's event names
    "mail.opened" = "opened"
    "mail.bounced" = { type = "bounced", bounce_class = "hard", bounce_reason = "no_mailbox" }

A path consists of keys separated by dots; a number is an index in a list, from 0; ``$.`` starts at
the top of the body instead of the item; ``header:NAME`` is a header of the request.

Invariants:
1. Pure. Reading a mapping reports all problems at once, with their places.
2. Fields that the mapping does not contain have the paths of the default shape.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ingest.providers.base import Request
from schemas.event import BounceClass, BounceReason, EventType, MachineKind

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
    "first": ("first",),
}
"""Field -> its paths in the default shape; each also under ``data``."""

SYMBOLS = {
    "type": {str(one) for one in EventType},
    "bounce_class": {str(one) for one in BounceClass},
    "bounce_reason": {str(one) for one in BounceReason},
}
MACHINE_KINDS = {str(one) for one in MachineKind}

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The meaning of a native event name."""

    event_type: str
    bounce_class: str = "none"
    bounce_reason: str = "none"


@dataclass(frozen=True, slots=True)
class FieldMapping:
    """A mapping that has been read.

    Attributes:
        items: path of the list of items; empty: the body.
        microseconds: of one unit of a numeric time; ``None``: by its size.
        paths: field -> paths, in order.
        events: native name -> verdict.
    """

    items: Path
    microseconds: int | None
    paths: Mapping[str, tuple[str, ...]]
    events: Mapping[str, Verdict]


_DEFAULT_PATHS = {
    name: (*places, *(f"data.{place}" for place in places))
    for name, places in DEFAULT_PATHS.items()
}
_SELF = {name: Verdict(name) for name in sorted(SYMBOLS["type"])}
DEFAULT = FieldMapping((), None, _DEFAULT_PATHS, _SELF)


def read_mapping(raw: Mapping[str, Any]) -> tuple[FieldMapping, list[str]]:
    """The mapping of a source, and every problem in it (parts with one are as in ``DEFAULT``)."""
    problems = [
        f"{key}: no such entry (known: items, time_unit, fields, events, signature)"
        for key in raw
        if key not in ("items", "time_unit", "fields", "events", "signature")
    ]
    where = raw.get("items", "")
    if not isinstance(where, str):
        problems.append("items: a path")
        where = ""
    unit = raw.get("time_unit", "auto")
    if unit not in ("auto", "iso", *TIME_UNITS):
        problems.append("time_unit: one of s, ms, us, iso, auto")
    paths = _read_paths(raw.get("fields", {}), problems)
    events = _read_events(raw.get("events", {}), problems)
    mapping = FieldMapping(
        tuple(where.split(".")) if where else (),
        TIME_UNITS.get(unit) if isinstance(unit, str) else None,
        paths,
        events,
    )
    return mapping, problems


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


def find(places: tuple[str, ...], item: object, body: object, request: Request) -> object:
    """The first value at one of several paths; ``None`` if there is none at any."""
    for place in places:
        if place.startswith("header:"):
            found: object = request.header(place.removeprefix("header:").lower())
        elif place.startswith("$."):
            found = look_up(body, tuple(place[2:].split(".")))
        else:
            found = look_up(item, tuple(place.split(".")))
        if found is not None:
            return found
    return None
