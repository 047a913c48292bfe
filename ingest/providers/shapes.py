"""The outermost shape of a JSON body: where its items lie.

Invariant: an item's own content is nobody's business here; that is ``items.parse_items``'s.
"""

from typing import Any

from ingest.providers import items
from schemas.errors import BadInput


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
