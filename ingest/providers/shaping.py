"""Bodies of mapped senders: read as JSON or a form, and made for samples.

Invariants:
1. Pure.
2. What ``made`` makes, ``read_body`` and the same mapping read back, whatever the mapping is.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode

import orjson

from ingest.providers import fields, items
from ingest.providers.base import Request, post
from ingest.providers.mapping import DEFAULT, FieldMapping, look_up
from schemas.errors import BadInput

_BRACKETS = re.compile(r"\[([^\[\]]*)\]")
_NESTED_MAX = 16
"""Deepest nesting of a form's names, such as ``data[merges][EMAIL]``."""
_FIXED = ("=", "header:", "query:")


def read_body(body: bytes, mapping: FieldMapping) -> object:
    """The body as a JSON value.

    Raises:
        BadInput: it is not what the mapping's ``body`` says.
    """
    if mapping.body == "json":
        return items.read_json(body)
    form = items.read_form(body)
    if not form:
        raise BadInput("empty_body")
    if mapping.body == "form":
        return nested({name: values[0] for name, values in form.items()})
    name = mapping.body.removeprefix("form:")
    if name not in form:
        raise BadInput("no_form_field", f"the form has no field {name}")
    return items.read_json(form[name][0].encode("utf-8", "replace"))


def nested(form: Mapping[str, str]) -> dict[str, Any]:
    """A form's fields with names such as ``data[email]`` as objects in objects.

    ``to[0]``, ``to[1]`` … are a list.
    """
    result: dict[str, Any] = {}
    for name, value in form.items():
        first, bracket, rest = name.partition("[")
        path = [first, *_BRACKETS.findall(bracket + rest)][:_NESTED_MAX]
        inner = result
        for key in path[:-1]:
            held = inner.setdefault(key, {})
            if not isinstance(held, dict):
                held = inner[key] = {}
            inner = held
        inner[path[-1]] = value
    return {name: _counted(one) for name, one in result.items()}


def _counted(value: Any) -> Any:
    """An object whose keys are 0, 1, 2 … as the list that it is."""
    if not isinstance(value, dict):
        return value
    inner = {key: _counted(one) for key, one in value.items()}
    return list(inner.values()) if list(inner) == list(map(str, range(len(inner)))) else inner


def read_items(content: object, mapping: FieldMapping) -> list[Any]:
    """The items of a body.

    Raises:
        BadInput: none at the mapping's path.
    """
    found: object = content
    if mapping.items or mapping.text:
        found = look_up(content, mapping.items)
        if mapping.text and isinstance(found, str):
            found = items.read_json(found.encode("utf-8", "replace"))
    elif isinstance(content, dict) and isinstance(content.get("events"), list):
        found = content["events"]
    if isinstance(found, dict):
        found = [found]
    if not isinstance(found, list):
        where = ".".join(mapping.items)
        raise BadInput("no_items", f"no list or object at the mapping's items {where!r}")
    return found


# --- samples -------------------------------------------------------------------------------------


def made(mapping: FieldMapping, now: float, number: int, native: str = "") -> Request:
    """A request with one event in the mapping's shape; not signed.

    Args:
        now: seconds since 1970; time of the event.
        number: makes the event distinct.
        native: the event's name; by default one that says «delivered».
    """
    values: dict[str, object] = {
        "event": native or _native(mapping),
        "event_id": f"sample-{number}",
        "time": _written_time(now, mapping),
        "message_id": f"sample-message-{number}",
        "recipient": f"reader{number}@example.com",
    }
    if mapping.paths["tags"] == DEFAULT.paths["tags"]:
        values["tags"] = ["sample"]
    item: dict[str, Any] = {}
    top: dict[str, Any] = {}
    headers: list[tuple[str, str]] = []
    query: list[str] = []
    for name, value in values.items():
        for place, part in _spread(mapping.paths[name][0], value):
            if place.startswith("header:"):
                headers.append((place[7:].lower(), str(part)))
            elif place.startswith("query:"):
                query.append(f"{quote(place[6:])}={quote(str(part), safe='')}")
            elif place.startswith("$."):
                _put(top, place[2:].split("."), part)
            elif not place.startswith("="):
                _put(item, place.split("."), part)
    content = _whole(item, top, mapping)
    kind, body = _encoded(content, mapping)
    return post(body, ("content-type", kind), *headers, query="&".join(query))


def _native(mapping: FieldMapping) -> str:
    """An event name of the sender's: one that says «delivered», if there is one."""
    own = [one for one in mapping.events if one not in DEFAULT.events] or ["delivered"]
    return next((one for one in own if mapping.events[one].event_type == "delivered"), own[0])


def _written_time(now: float, mapping: FieldMapping) -> object:
    moment = datetime.fromtimestamp(int(now), mapping.zone or UTC)
    if mapping.time_format:
        return moment.strftime(mapping.time_format)
    if mapping.microseconds:
        return int(now) * fields.SECOND_US // mapping.microseconds
    if mapping.zone:
        return moment.replace(tzinfo=None).isoformat()
    return fields.iso(int(now))


def _spread(place: str, value: object) -> list[tuple[str, object]]:
    """Where a value goes; a joined path gets the value's parts, the first the longest."""
    if "+" not in place:
        return [(place, value)]
    places = place.split("+")
    return list(zip(places, str(value).rsplit(".", len(places) - 1), strict=False))


def _put(target: dict[str, Any], path: list[str], value: object) -> None:
    for key in path[:-1]:
        target = target.setdefault(key, {})
        if not isinstance(target, dict):
            return  # a path within another's value, such as data and data.x
    target.setdefault(path[-1], value)


def _whole(item: dict[str, Any], top: dict[str, Any], mapping: FieldMapping) -> object:
    """The body around an item."""
    inner = _with_lists(item)
    if not (mapping.items or mapping.text):
        if not isinstance(inner, dict):
            return inner
        for key, value in top.items():
            inner.setdefault(key, value)
        return _with_lists(inner)
    held: object = orjson.dumps(inner).decode() if mapping.text else [inner]
    whole = dict(top)
    _put(whole, list(mapping.items), held)
    return _with_lists(whole)


def _with_lists(value: Any) -> Any:
    """Objects whose only key is a ``0`` become lists: the number in a path is an index."""
    if not isinstance(value, dict):
        return value
    inner = {key: _with_lists(one) for key, one in value.items()}
    return [inner["0"]] if inner.keys() == {"0"} else inner


def _encoded(content: object, mapping: FieldMapping) -> tuple[str, bytes]:
    """Media type and bytes of a body."""
    if mapping.body == "json":
        return "application/json", orjson.dumps(content)
    if mapping.body == "form":
        pairs = _flat(content, "")
    else:
        pairs = [(mapping.body.removeprefix("form:"), orjson.dumps(content).decode())]
    return "application/x-www-form-urlencoded", urlencode(pairs).encode()


def _flat(value: object, name: str) -> list[tuple[str, str]]:
    """The names and values of a form, by brackets."""
    if isinstance(value, dict):
        inner = [(f"{name}[{key}]" if name else key, one) for key, one in value.items()]
        return [pair for key, one in inner for pair in _flat(one, key)]
    if isinstance(value, list):
        return [
            pair for number, one in enumerate(value) for pair in _flat(one, f"{name}[{number}]")
        ]
    return [(name, str(value))]
