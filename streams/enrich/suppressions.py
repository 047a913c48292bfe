"""Who must not be mailed: suppressions, from what happened to all messages of a recipient.

Invariants (glossary, «Suppression»):
1. Pure. A hard bounce, complaint or unsubscribe suppresses at once and for good. Soft bounces
   suppress for ``SOFT_FOR_S``, after ``SOFT_BOUNCES`` within ``SOFT_WITHIN_S`` without a delivery
   in between.
2. A delivery or a re-subscription lifts a soft suppression, and no other.
3. One record per reason and recipient, not one per event.
4. Soft bounces and a soft suppression are forgotten ``SOFT_KEPT_S`` of log time after the newest of
   them. By then no event, however late, can be near one of them, and the suppression has ended as
   its record says, so no lift is published.
"""

import struct
from zlib import crc32

from streams.enrich.minute_counts import OLD_S

SOFT_BOUNCES = 5
SOFT_WITHIN_S = 7 * 86400
SOFT_FOR_S = 30 * 86400
SOFT_KEPT_S = SOFT_FOR_S + OLD_S

HARD, COMPLAINT, UNSUBSCRIBE, SOFT = 1, 2, 4, 8
REASONS = {
    HARD: "hard_bounce",
    COMPLAINT: "complaint",
    UNSUBSCRIBE: "unsubscribe",
    SOFT: "soft_bounces",
}
LIFT = -1

_OF_THE_SENDER = frozenset(("reputation", "policy", "content", "auth", "relay_denied"))
"""Reasons that are about the sender, not the address. Some providers know only hard and soft, and
mark a block as hard although the address may be fine."""
_FORM = 1
_HASH = struct.Struct("<I")


class Recipient:
    """State of one address: its suppressions, and the times of recent soft bounces (seconds).

    ``address`` is its ``address_hash``, set while one of its events is handled.
    """

    __slots__ = ("address", "dirty", "soft", "soft_since", "standing")

    def __init__(
        self, standing: int = 0, soft_since: int = 0, soft: list[int] | None = None
    ) -> None:
        self.standing = standing
        self.soft_since = soft_since
        self.soft = soft or []
        self.address = 0
        self.dirty = False


def pack(recipient: Recipient) -> bytes:
    """The compact form of a recipient's state; empty when nothing needs keeping."""
    if not recipient.standing and not recipient.soft:
        return b""
    return struct.pack(
        f"<BBI{len(recipient.soft)}I",
        _FORM, recipient.standing, recipient.soft_since, *recipient.soft,
    )  # fmt: skip


def unpack(data: bytes) -> Recipient:
    """The recipient of ``pack``'s bytes."""
    count = (len(data) - 6) // 4
    _, standing, soft_since, *soft = struct.unpack(f"<BBI{count}I", data)
    return Recipient(standing, soft_since, soft)


def address_hash(address: bytes) -> int:
    """A cheap 32-bit hash of an address in lower case, to look up whether it has soft bounces."""
    return crc32(address)


def pack_soft(recipient: Recipient) -> bytes:
    """``address_hash`` of a recipient that a delivery would change; empty for the others."""
    return _HASH.pack(recipient.address) if is_soft(recipient) else b""


def is_soft(recipient: Recipient) -> bool:
    """Whether a delivery would change the recipient's state."""
    return bool(recipient.soft or recipient.standing & SOFT)


def unpack_soft(data: bytes) -> int:
    """The ``address_hash`` of ``pack_soft``'s bytes."""
    value: int = _HASH.unpack(data)[0]
    return value


def expire(recipient: Recipient, log_time: int) -> None:
    """Forgets soft bounces and a soft suppression that are too old (invariant 4).

    Call it before the state is used, so that it does not matter whether the store has removed it.

    Args:
        log_time: seconds.
    """
    if not is_soft(recipient):
        return
    newest = max([*recipient.soft, recipient.soft_since if recipient.standing & SOFT else 0])
    if newest + SOFT_KEPT_S < log_time:
        recipient.soft = []
        recipient.standing &= ~SOFT
        recipient.soft_since = 0
        recipient.dirty = True


def apply(recipient: Recipient, event_type: str, bounce: tuple[str, str], at: int) -> int:
    """Takes one event into account.

    Args:
        bounce: class and reason.
        at: event time, seconds.

    Returns:
        The reason (``HARD`` …) of a suppression that begins, ``LIFT`` when a soft one ends, else 0.
    """
    if event_type == "delivered" or event_type == "subscribed":
        return _forget_soft_bounces(recipient)
    reason = _permanent(event_type, bounce)
    if reason:
        if recipient.standing & reason:
            return 0
        recipient.standing |= reason
        recipient.dirty = True
        return reason
    if event_type == "bounced" and bounce[0] == "soft":
        return _soft(recipient, at)
    return 0


def _permanent(event_type: str, bounce: tuple[str, str]) -> int:
    if event_type == "bounced" and bounce[0] == "hard" and bounce[1] not in _OF_THE_SENDER:
        return HARD
    if event_type == "complained":
        return COMPLAINT
    if event_type == "unsubscribed":
        return UNSUBSCRIBE
    return 0


def _forget_soft_bounces(recipient: Recipient) -> int:
    if recipient.soft:
        recipient.soft = []
        recipient.dirty = True
    if recipient.standing & SOFT:
        recipient.standing &= ~SOFT
        recipient.dirty = True
        # A permanent suppression still holds: its record must not be removed.
        return 0 if recipient.standing else LIFT
    return 0


def _soft(recipient: Recipient, at: int) -> int:
    recipient.soft = [t for t in recipient.soft if abs(at - t) < SOFT_WITHIN_S] + [at]
    recipient.dirty = True
    if len(recipient.soft) < SOFT_BOUNCES:
        return 0
    recipient.soft = recipient.soft[-SOFT_BOUNCES:]
    if recipient.standing & SOFT and at >= recipient.soft_since + SOFT_FOR_S:
        recipient.standing &= ~SOFT  # it ended by itself
    if recipient.standing:
        return 0  # a permanent one, or this one, holds already
    recipient.standing |= SOFT
    recipient.soft_since = at
    return SOFT
