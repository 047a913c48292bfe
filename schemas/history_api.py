"""Requests to a provider's API of past events, and its answers.

``ingest.providers`` makes and reads them, ``streams.books`` sends and receives them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Ask:
    """A request to the provider's API.

    Attributes:
        target: path and query, below the API's origin.
        headers: names in lower case; the key is among them.
        body: JSON; empty for none.
    """

    method: str
    target: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of the API; header names in lower case."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
