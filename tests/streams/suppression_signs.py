"""Signs for tests of suppressions: what events say of their recipient, and what follows."""

from collections.abc import Iterable
from itertools import permutations

from streams.enrich.suppressions import (
    SOFT_BOUNCES,
    Recipient,
    Sign,
    expire,
    holding,
    take,
)

DAY = 86_400
NOW = 1_790_000_000
SOFT_BOUNCE = ("soft", "mailbox_full")
HARD_BOUNCE = ("hard", "no_mailbox")
NONE = ("none", "none")


def sign(
    kind: str, at: int, bounce: tuple[str, str] = NONE, *, unit: int = 0, listed: str = "none",
    read_of: int = 0,
) -> Sign:  # fmt: skip
    """What an event says; its offset is its time."""
    return Sign(kind, bounce, listed, at, at, unit, read_of)


def soft(at: int, unit: int) -> Sign:
    """A soft bounce of a message."""
    return sign("bounced", at, SOFT_BOUNCE, unit=unit)


def softs(begin: int = NOW - 5 * DAY, step: int = DAY, count: int = SOFT_BOUNCES) -> list[Sign]:
    """Soft bounces of as many messages."""
    return [soft(begin + number * step, number + 1) for number in range(count)]


def after(signs: Iterable[Sign], now: int = NOW) -> Recipient:
    """The state after these."""
    recipient = Recipient()
    for one in signs:
        expire(recipient, now)
        take(recipient, one, now)
    return recipient


def holds(*signs: Sign, now: int = NOW) -> int:
    """What holds after these, in every order if they are few; the first always comes first."""
    first, rest = signs[0], signs[1:]
    orders = permutations(rest) if len(rest) < 6 else [rest, rest[::-1]]
    (found,) = {holding(after((first, *order), now)) for order in orders}
    return found


def hard(at: int) -> Sign:
    """A hard bounce."""
    return sign("bounced", at, HARD_BOUNCE)
