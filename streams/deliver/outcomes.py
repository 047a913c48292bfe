"""What an answer means for the record and for its destination.

Invariants:
1. Pure.
2. Only 2xx delivers; redirects are not followed (Standard Webhooks).
3. What says nothing about the record (no connection, «too many requests») never counts against it.
   An answer that is about the address or the credentials (a wrong password, a redirect, «gone»)
   counts only if others are delivered meanwhile: a firewall forbids one record, an API finds no
   address of one.
4. A pause that a destination asks for is honoured up to ``RETRY_AFTER_S_MAX``.

Sources: Standard Webhooks, «Delivery»; RFC 9110, §10.2.3 (Retry-After) and §15.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum

RETRY_AFTER_S_MAX = 6 * 3600.0
_BUSY = frozenset((429, 503))
"""A destination that asks everyone to wait."""
_DESTINATION = frozenset((401, 402, 403, 404, 405, 407, 408, 410, 421, 425, 426, 429, 451, 511))
"""Of 4xx and 5xx: about the address, the credentials or the moment, not about the record."""
_MOMENT = frozenset((408, 425, 429))
GONE = 410
"""Standard Webhooks: the receiver wants no more."""


class Blame(Enum):
    """Whom a failure is about."""

    RECORD = "record"
    UNKNOWN = "unknown"
    DESTINATION = "destination"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one request ended.

    Attributes:
        said: the status and the beginning of the answer, or what failed; empty if delivered.
        blame: ``None``: delivered.
        hold_s: how long the destination asked to be left alone, seconds; 0: it did not.
        gone: it answered 410.
        or_record: ``DESTINATION``, but about the record if others are delivered meanwhile.
    """

    said: str = ""
    blame: Blame | None = None
    hold_s: float = 0.0
    gone: bool = False
    or_record: bool = False

    @property
    def delivered(self) -> bool:
        """Whether the destination has it."""
        return self.blame is None


DELIVERED = Outcome()


def of_answer(status: int, beginning: str, headers: Mapping[str, str], now_s: float) -> Outcome:
    """The outcome of an answer.

    Args:
        beginning: of its body.
        headers: names in lower case.
        now_s: seconds since 1970, for a ``Retry-After`` that is a date.
    """
    if 200 <= status < 300:
        return DELIVERED
    said = f"{status}: {beginning}" if beginning else str(status)
    hold = _retry_after(headers.get("retry-after", ""), now_s) if status in _BUSY else 0.0
    blame = Blame.DESTINATION if hold else _blame(status)
    or_record = blame is Blame.DESTINATION and not hold and status not in _MOMENT
    return Outcome(said, blame, hold, status == GONE, or_record)


def _blame(status: int) -> Blame:
    if status < 400 or status in _DESTINATION:
        return Blame.DESTINATION
    return Blame.RECORD if status < 500 else Blame.UNKNOWN


def _retry_after(text: str, now_s: float) -> float:
    """Seconds; 0 for what is no ``Retry-After``."""
    text = text.strip()
    if text.isascii() and text.isdigit():
        return min(float(text), RETRY_AFTER_S_MAX)
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, OverflowError):  # also of a year or zone beyond what C's integers hold
        return 0.0
    at = at.replace(tzinfo=UTC) if at.tzinfo is None else at
    since = datetime(1970, 1, 1, tzinfo=UTC)
    return min(max(0.0, (at - since).total_seconds() - now_s), RETRY_AFTER_S_MAX)
