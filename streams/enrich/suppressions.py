"""Who must not be mailed: suppressions, from what happened to all messages of a recipient.

Invariants (glossary, «Suppression»):
1. Pure. Which suppression holds is a function of the *set* of events that were taken within their
   windows, by the times at which they happened: the order of arrival does not matter. In one second
   what suppresses wins.
2. The state is kept per address, and per scope of an address (a list or group of one source). A
   scope never changes what holds for the address.
3. Hard bounces, complaints, unsubscribes and entries by hand hold until something that contradicts
   them (``_ENDS``) happens later. Soft bounces hold for ``SOFT_FOR_S``.
4. Soft bounces count for ``SOFT_WITHIN_S``, and signs of life end a hard bounce for
   ``LIFE_WITHIN_S`` after it, both by log time. A delivery that was told before the first
   bounce, and a reading before the first hard bounce, are not remembered: nothing is kept of the
   many addresses that never bounced. Lifts and re-subscriptions are.
5. An address has at most ``SCOPES_MAX`` scopes, the first ones told. Whoever leaves a further one,
   or is listed for it, is suppressed for all mail: nothing that was told is lost. A return to a
   further one lifts nothing.
6. Of several suppressions the first of ``PRECEDENCE`` is told. One record per suppression, not one
   per event.
"""

import struct
from collections.abc import Iterable
from typing import Final, NamedTuple

from streams.enrich.message_bytes import StateError

SOFT_BOUNCES: Final = 5
"""Messages that bounced softly, without a sign of life since, from which on an address is
suppressed, if at least ``SOFT_SPAN_S`` lie between the first and the last of them."""
SOFT_SPAN_S: Final = 3 * 86400
SOFT_WITHIN_S: Final = 14 * 86400
SOFT_FOR_S: Final = 30 * 86400
LIFE_WITHIN_S: Final = 30 * 86400
SCOPES_MAX = 1_000
"""Lists and groups of one address whose suppressions are kept apart, over all its sources; some 60
bytes of state each. A provider, or who knows a source's secret, can invent any number."""
SOFT_KEPT_MAX: Final = 16
"""Soft bounces of one address that are all kept. Of more, those of the ``SOFT_BOUNCES`` messages
that bounced last, and the first and the last of each ``SOFT_STEP_S``, in the newest
``SOFT_STEPS_MAX`` of these that have any: 135 at most. An address that gets many messages a day
would else never have three days of them."""
SOFT_STEP_S: Final = 6 * 3600
SOFT_STEPS_MAX: Final = (SOFT_WITHIN_S + 2 * 86400) // SOFT_STEP_S + 1
"""More than count at once: events may be up to a day ahead of their arrival. Of arrivals that are
ahead of the log without end, as of another producer with a wrong clock, no more is kept."""

HARD: Final = 1
COMPLAINT: Final = 2
UNSUBSCRIBE: Final = 4
SOFT: Final = 8
MANUAL: Final = 16
REASONS: Final = {
    HARD: "hard_bounce",
    COMPLAINT: "complaint",
    UNSUBSCRIBE: "unsubscribe",
    SOFT: "soft_bounces",
    MANUAL: "manual",
}
LASTING: Final = (HARD, COMPLAINT, UNSUBSCRIBE, MANUAL)
PRECEDENCE: Final = (COMPLAINT, HARD, UNSUBSCRIBE, MANUAL, SOFT)
"""From the one that is hardest to lift to the one that ends by itself."""

LISTED: Final = {
    "suppressed_bounce": HARD,
    "suppressed_complaint": COMPLAINT,
    "suppressed_unsubscribe": UNSUBSCRIBE,
}
"""``bounce_reason`` of an entry of a suppression list -> the reason it stands for; others are
``MANUAL``. Of an entry that is taken off, ``none`` stands for every reason."""
SCOPED: Final = frozenset(
    ("subscribed", "unsubscribed", "suppression_added", "suppression_removed")
)
"""Events that may concern a scope alone."""
TOLD_BY: Final = SCOPED | {"bounced", "complained"}
"""Events that may suppress or lift, whatever is known of the address."""
SIGNS: Final = frozenset(("delivered", "opened", "clicked"))
"""Events that may be signs of life."""

_OF_THE_SENDER: Final = frozenset(("reputation", "policy", "content", "auth", "relay_denied"))
"""Reasons that are about the sender, not the address: the sender's own limits, for example, say
nothing of it. Some providers know only hard and soft, and mark a block as hard although the address
may be fine."""
_FORM: Final = 2
_FORM_WITH_SCOPES: Final = 3
_STATE: Final = struct.Struct("<BBBBIIIIq")
_SCOPES: Final = struct.Struct("<H")
"""Behind ``_STATE``, where there are any."""
_CASE: Final = struct.Struct("<IIq")
_SOFT: Final = struct.Struct("<II")
_HASH: Final = struct.Struct("<I")
GONE: Final = -1
"""Offset of an event that can't be read any more."""


class Sign(NamedTuple):
    """What an event says about its recipient.

    Attributes:
        kind: a value of ``EventType``.
        bounce: class and reason as classified.
        listed: ``bounce_reason`` as reported: which suppression an entry of a list stands for.
        at: event time, seconds.
        offset: of the event in the raw topic.
        unit: 32 bits of its message and recipient.
        read_of: when the message was delivered, seconds, if it was opened or clicked too; else 0.
    """

    kind: str
    bounce: tuple[str, str]
    listed: str
    at: int
    offset: int
    unit: int
    read_of: int


class Case(NamedTuple):
    """The newest evidence for a lasting suppression, and against it; seconds, 0 for none."""

    at: int = 0
    ended: int = 0
    offset: int = GONE

    @property
    def holds(self) -> bool:
        """Whether nothing has contradicted it since."""
        return self.at > 0 and self.at >= self.ended


class Recipient:
    """State of one address, or of one scope of it.

    Attributes:
        cases: lasting suppressions, by reason.
        soft: messages (32 bits) that bounced softly, and when, seconds.
        life: the newest sign of life, seconds.
        soft_at: the newest soft bounce of those that suppress; 0 while none do.
        soft_offset: of the event that completed them.
        told, told_at: reason told, and for ``SOFT`` its ``soft_at``; 0 when nothing is.
        log_tag: 32 bits of the log that offsets belong to.
        scopes: how many scopes of the address have a state of their own.
        address: its ``address_hash`` (``schemas.raw_head``), set while an event is handled.
    """

    __slots__ = (
        "address", "cases", "dirty", "life", "log_tag", "scopes", "soft", "soft_at", "soft_offset",
        "told", "told_at",
    )  # fmt: skip

    def __init__(self) -> None:
        self.cases: dict[int, Case] = {}
        self.soft: set[tuple[int, int]] = set()
        self.life = 0
        self.soft_at = 0
        self.soft_offset = GONE
        self.told = 0
        self.told_at = 0
        self.log_tag = 0
        self.scopes = 0
        self.address = 0
        self.dirty = False


def pack(recipient: Recipient) -> bytes:
    """The compact form of a recipient's state; empty when nothing needs keeping."""
    scopes = recipient.scopes
    if not (recipient.cases or recipient.soft or recipient.soft_at or recipient.told or scopes):
        return b""
    cases = sorted(recipient.cases.items())
    return b"".join(
        (
            _STATE.pack(
                _FORM_WITH_SCOPES if scopes else _FORM, sum(reason for reason, _ in cases),
                recipient.told, len(recipient.soft), recipient.log_tag, recipient.life,
                recipient.soft_at, recipient.told_at, recipient.soft_offset,
            ),
            _SCOPES.pack(scopes) if scopes else b"",
            *(_CASE.pack(*case) for _, case in cases),
            *(_SOFT.pack(*pair) for pair in sorted(recipient.soft)),
        )
    )  # fmt: skip


def unpack(data: bytes) -> Recipient:
    """The recipient of ``pack``'s bytes.

    Raises:
        StateError: the form is another version's.
    """
    if data[0] not in (_FORM, _FORM_WITH_SCOPES):
        raise StateError(
            f"stored suppressions have form {data[0]}, this version reads {_FORM_WITH_SCOPES}"
        )
    one = Recipient()
    (
        form, reasons, one.told, softs, one.log_tag, one.life, one.soft_at, one.told_at,
        one.soft_offset,
    ) = _STATE.unpack_from(data)  # fmt: skip
    at = _STATE.size
    if form == _FORM_WITH_SCOPES:
        (one.scopes,) = _SCOPES.unpack_from(data, at)
        at += _SCOPES.size
    for reason in sorted(LASTING):
        if reasons & reason:
            one.cases[reason] = Case(*_CASE.unpack_from(data, at))
            at += _CASE.size
    for _ in range(softs):
        one.soft.add(_SOFT.unpack_from(data, at))
        at += _SOFT.size
    return one


def pack_watched(recipient: Recipient, log_time: int) -> bytes:
    """``address_hash`` of a recipient that a sign of life may change; empty for the others."""
    return _HASH.pack(recipient.address) if is_watched(recipient, log_time) else b""


def is_watched(recipient: Recipient, log_time: int) -> bool:
    """Whether a sign of life may change the recipient's state."""
    return bool(recipient.soft or recipient.soft_at) or _hard_may_end(recipient, log_time)


def _hard_may_end(recipient: Recipient, log_time: int) -> bool:
    hard = recipient.cases.get(HARD)
    return hard is not None and hard.at + LIFE_WITHIN_S > log_time


def unpack_watched(data: bytes) -> int:
    """The ``address_hash`` of ``pack_watched``'s bytes."""
    value: int = _HASH.unpack(data)[0]
    return value


def in_log(recipient: Recipient, log_tag: int) -> None:
    """Forgets offsets of another log than that of ``log_tag``: they can't be read any more."""
    if recipient.log_tag == log_tag:
        return
    recipient.log_tag = log_tag
    recipient.soft_offset = GONE
    recipient.cases = {
        reason: case._replace(offset=GONE) for reason, case in recipient.cases.items()
    }


def expire(recipient: Recipient, log_time: int) -> None:
    """Forgets soft bounces that no longer count, and a suppression by them that has ended.

    Call it before the state is used, so that it does not matter whether the store has removed it.

    Args:
        log_time: seconds.
    """
    old = {one for one in recipient.soft if one[1] + SOFT_WITHIN_S < log_time}
    if old:
        recipient.soft -= old
        recipient.dirty = True
    if recipient.soft_at and recipient.soft_at + SOFT_FOR_S < log_time:
        recipient.soft_at, recipient.soft_offset = 0, GONE
        recipient.dirty = True
    if recipient.told == SOFT and recipient.told_at + SOFT_FOR_S < log_time:
        recipient.told = recipient.told_at = 0  # its record says when it ends: nothing to lift
        recipient.dirty = True


def forget_before(recipient: Recipient, at_s: int) -> None:
    """Forgets all evidence of before a time; what is told by later evidence stays told.

    Args:
        at_s: seconds since 1970.
    """
    recipient.cases = {
        reason: later
        for reason, case in recipient.cases.items()
        if (later := _case_since(case, at_s)) != Case()
    }
    recipient.soft = {one for one in recipient.soft if one[1] >= at_s}
    recipient.life = recipient.life if recipient.life >= at_s else 0
    if recipient.soft_at < at_s:
        recipient.soft_at, recipient.soft_offset = 0, GONE
    if recipient.told != holding(recipient):
        recipient.told = recipient.told_at = 0
    if not (recipient.cases or recipient.soft or recipient.told):
        recipient.scopes = 0
    recipient.dirty = True


def _case_since(case: Case, at_s: int) -> Case:
    evidence = case if case.at >= at_s else case._replace(at=0, offset=GONE)
    return evidence if evidence.ended >= at_s else evidence._replace(ended=0)


def take(recipient: Recipient, sign: Sign, log_time: int) -> None:
    """Takes one event into account; ``expire`` was called with the same log time.

    Args:
        log_time: seconds.
    """
    at = sign.at
    reason = _suppresses(sign)
    if reason == SOFT:
        _bounced_softly(recipient, sign, log_time)
    elif reason:
        case = recipient.cases.get(reason, Case())
        if at > case.at:
            _put(recipient, reason, case._replace(at=at, offset=sign.offset))
    ended = _ends(sign)
    for reason in ended:
        if reason != SOFT:
            _end(recipient, reason, at)
    if SOFT in ended and (sign.kind not in SIGNS or is_watched(recipient, log_time)):
        _lives(recipient, at, log_time)
    if sign.read_of and _hard_may_end(recipient, log_time):
        _end(recipient, HARD, sign.read_of)


_ENDS: Final = {
    "delivered": (SOFT,),
    "subscribed": (UNSUBSCRIBE, SOFT),
    "suppression_removed": (*LASTING, SOFT),
}
"""Type of an event -> the suppressions that it ends, if it happened later than their evidence. A
hard bounce also ends when a message that was delivered later is opened or clicked."""


def _ends(sign: Sign) -> tuple[int, ...]:
    """An entry taken off a list for one reason ends that alone; bounces are hard and soft ones."""
    if sign.kind == "suppression_removed" and sign.listed != "none":
        reason = LISTED.get(sign.listed, MANUAL)
        return (HARD, SOFT) if reason == HARD else (reason,)
    return _ENDS.get(sign.kind, ())


def suppresses(kind: str) -> bool:
    """Whether an event that may concern a scope alone suppresses; else it lifts."""
    return kind in ("unsubscribed", "suppression_added")


def _suppresses(sign: Sign) -> int:
    if sign.kind == "bounced":
        bounce_class, reason = sign.bounce
        if reason in _OF_THE_SENDER:
            return 0
        return {"hard": HARD, "soft": SOFT}.get(bounce_class, 0)
    if sign.kind == "suppression_added":
        return LISTED.get(sign.listed, MANUAL)
    return {"complained": COMPLAINT, "unsubscribed": UNSUBSCRIBE}.get(sign.kind, 0)


def _put(recipient: Recipient, reason: int, case: Case) -> None:
    recipient.cases[reason] = case
    recipient.dirty = True


def _end(recipient: Recipient, reason: int, at: int) -> None:
    case = recipient.cases.get(reason, Case())
    if at > case.ended:
        _put(recipient, reason, case._replace(ended=at))


def _bounced_softly(recipient: Recipient, sign: Sign, log_time: int) -> None:
    one = sign.unit, sign.at
    if sign.at + SOFT_WITHIN_S < log_time or one in recipient.soft:
        return
    kept = recipient.soft | {one}
    if len(kept) > SOFT_KEPT_MAX:
        kept = _deciding(kept)
    if kept == recipient.soft:
        return
    recipient.soft = kept
    recipient.dirty = True
    if (newest := _suppressing(recipient)) > recipient.soft_at:
        recipient.soft_at = newest
        recipient.soft_offset = sign.offset


def _lives(recipient: Recipient, at: int, log_time: int) -> None:
    """Soft bounces before a sign of life do not count."""
    if at <= recipient.life or at + SOFT_WITHIN_S < log_time:
        return
    recipient.life = at
    recipient.dirty = True
    if recipient.soft_at and not _suppressing(recipient):
        recipient.soft_at, recipient.soft_offset = 0, GONE


def _suppressing(recipient: Recipient) -> int:
    """The newest soft bounce, if those since the last sign of life suppress; else 0."""
    life = recipient.life
    since = [one for one in recipient.soft if one[1] > life]
    if len({unit for unit, _ in since}) < SOFT_BOUNCES:
        return 0
    newest = max(at for _, at in since)
    long_ago = newest - SOFT_SPAN_S
    spans = long_ago > life and any(
        first <= long_ago and last > life for first, last in _steps(recipient.soft).values()
    )
    return newest if spans else 0


def _steps(soft: Iterable[tuple[int, int]]) -> dict[int, tuple[int, int]]:
    """First and last soft bounce of each ``SOFT_STEP_S``: enough to tell how long they lasted.

    In the step of a sign of life, bounces before and after it count from its time on: whether one
    lay between it and the last ones can't be told of what is kept.
    """
    steps: dict[int, tuple[int, int]] = {}
    for _, at in soft:
        first, last = steps.get(at // SOFT_STEP_S, (at, at))
        steps[at // SOFT_STEP_S] = min(first, at), max(last, at)
    return steps


def _deciding(soft: set[tuple[int, int]]) -> set[tuple[int, int]]:
    """The soft bounces that ``_suppressing`` depends on, whatever comes later or earlier.

    What it makes of some and then of further ones is what it makes of all of them.
    """
    newest: dict[int, int] = {}
    for unit, at in soft:
        newest[unit] = max(at, newest.get(unit, 0))
    last_ones = sorted(((at, unit) for unit, at in newest.items()), reverse=True)[:SOFT_BOUNCES]
    kept = {(unit, at) for at, unit in last_ones}
    by_time: dict[int, int] = {}
    for unit, at in soft:
        by_time[at] = max(unit, by_time.get(at, 0))
    steps = sorted(_steps(soft).items())[-SOFT_STEPS_MAX:]
    kept.update((by_time[at], at) for _, ends in steps for at in ends)
    return kept


def holding(recipient: Recipient) -> int:
    """The reason that holds now; of several the first of ``PRECEDENCE``; 0 for none."""
    for reason in PRECEDENCE:
        case = recipient.cases.get(reason)
        if case is not None and case.holds:
            return reason
    return SOFT if recipient.soft_at else 0


class Telling(NamedTuple):
    """What is to be told: the suppression that holds now, or that none does.

    Attributes:
        reason: 0: it is lifted.
        at: time of the evidence, seconds.
        offset: of the evidence, ``GONE`` if it can't be read any more.
    """

    reason: int
    at: int
    offset: int


def tell(recipient: Recipient) -> Telling | None:
    """What has to be told since the last call; ``None``: nothing."""
    reason = holding(recipient)
    told_at = recipient.soft_at if reason == SOFT else 0
    if (reason, told_at) == (recipient.told, recipient.told_at):
        return None
    recipient.told, recipient.told_at = reason, told_at
    recipient.dirty = True
    if reason == SOFT:
        return Telling(reason, recipient.soft_at, recipient.soft_offset)
    case = recipient.cases.get(reason, Case())
    return Telling(reason, case.at, case.offset)
