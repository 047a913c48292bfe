"""What an item of the state machine carries for the shell."""

from dataclasses import dataclass
from typing import Any

from streams.deliver.bodies import Body
from streams.deliver.core import Item


@dataclass(frozen=True, slots=True)
class Content:
    """The record of Kafka, and its body; no body: it can't be sent."""

    record: Any
    body: Body | None


def content_of(item: Item) -> Any:
    """The ``Content`` of an item that ``Runner`` made; one that is sent has a body."""
    assert isinstance(item.content, Content)
    return item.content
