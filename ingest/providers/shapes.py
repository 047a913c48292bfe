"""The outermost shape of a JSON body: where its items lie.

Invariant: the content of an item is not looked at here; ``items.parse_items`` does that.
"""

from collections.abc import Callable, Iterable
from typing import Any

from ingest.providers import items
from ingest.providers.base import Parsed, Provider, Request
from schemas.errors import BadInput
from schemas.event import Event
from schemas.settings import Source

Read = Callable[[bytes], Iterable[object]]
"""Body -> its items. Raises ``BadInput`` for a body that can't be read."""
BuildItem = Callable[[items.Item, Source, int], Event | list[Event]]
"""Item, source and time of arrival (microseconds since 1970) -> its events."""


def one_or_many(body: bytes) -> list[Any]:
    """The items of a body that is either a list of events or one bare event.

    Raises:
        BadInput: ``empty_body``, ``not_json``, or ``not_events`` for any other JSON.
    """
    content = items.read_json(body)
    if isinstance(content, list):
        return content
    if isinstance(content, dict):
        return [content]
    raise BadInput("not_events", "body is neither an object nor a list")


def one_object(body: bytes) -> list[Any]:
    """The only item of a body that is one object.

    Raises:
        BadInput: as ``read_object`` does.
    """
    return [read_object(body)]


def read_object(body: bytes) -> dict[str, Any]:
    """The object that a body is.

    Raises:
        BadInput: ``empty_body``, ``not_json``, or ``not_an_object``.
    """
    content = items.read_json(body)
    if not isinstance(content, dict):
        raise BadInput("not_an_object", "body is not an object")
    return content


def member_list(content: dict[str, Any], name: str) -> list[Any]:
    """The list under ``name``.

    Raises:
        BadInput: ``no_NAME`` when there is none.
    """
    found = content.get(name)
    if not isinstance(found, list):
        raise BadInput(f"no_{name}", f"body has no list {name}")
    return found


def native_name(item: dict[str, Any], name: str) -> str:
    """The native event name under ``name``.

    Raises:
        BadInput: ``no_event_type`` when it is missing, empty or no text.
    """
    found = item.get(name)
    if not isinstance(found, str) or not found:
        raise BadInput("no_event_type", f"item has no {name}")
    return found


class ItemProvider(Provider):
    """A provider whose body holds items and nothing else.

    Args:
        build: one item -> its events; see ``items.parse_items`` for what it may raise.
        read: body -> its items.
    """

    def __init__(self, build: BuildItem, read: Read = one_object) -> None:
        self._build = build
        self._read = read

    def parse(self, request: Request, source: Source, received_at: int) -> Parsed:
        """See ``Provider.parse``."""
        return items.parse_items(
            self._read(request.body), lambda item: self._build(item, source, received_at)
        )
