"""What a message adds to the counts, as contributions.

Invariants:
1. Pure. Contributions are a function of the message: what is learned late changes counts by the
   difference between what the message contributed before and after.
2. What is settled contributes nothing any more: it was counted and stays so. A cohort count pairs a
   delivery with what happened to its message; it is contributed while either of them is unsettled.
3. A cohort count is kept where the delivery is counted (``Message.delivered_owner``). So it never
   exceeds the deliveries of its campaign, mailbox provider and minute.
"""

from collections.abc import Iterable, Iterator
from operator import attrgetter
from typing import Final

from schemas.glossary import COUNTER_INDEX, COUNTERS, Basis
from streams.enrich.message import CLASSES, FIXED, Message, Owner, Pending

# A contribution is one integer, minute << SHIFT | index of the counter: cheap to make and compare.
SHIFT: Final = 6
MASK: Final = (1 << SHIFT) - 1
assert len(COUNTERS) <= 1 << SHIFT, "the glossary has more counters than a contribution can name"

_I: Final = COUNTER_INDEX
EVENTS: Final = _I["events"]
UNIDENTIFIED: Final = _I["unidentified"]
DELIVERED: Final = _I["delivered"]
_LATE: Final = _I["bounced_late"]
_C_LATE: Final = _I["cohort_bounced_late"]
ATTEMPT_SENT: Final = _I["attempt_sent"]
_EVENTS_STALE: Final = _I["events_stale"]
_BOUNCED: Final = tuple(_I.get(f"bounced_{name}", -1) for name in CLASSES)
_ATTEMPT_BOUNCED: Final = tuple(_I.get(f"attempt_bounced_{name}", -1) for name in CLASSES)
_C_OPENED_CLICKED: Final = _I["cohort_opened_clicked"]
_COHORT: Final = frozenset(i for i, counter in enumerate(COUNTERS) if counter.basis == Basis.COHORT)

_ALONE: Final = ("suppressed", "rejected")
"""Outcomes that are counted by the minute they happened."""
_PAIRED: Final = (
    "complained", "unsubscribed", "opened_any", "opened_at_most", "opened_or_unknown", "opened",
    "clicked_any", "clicked_at_most", "clicked_or_unknown", "clicked",
)  # fmt: skip
"""Outcomes that are counted by that of the delivery, too."""
_COUNTED: Final = tuple(
    (FIXED[f"{stem}_at"], _I[stem], _I.get(f"cohort_{stem}", -1)) for stem in (*_ALONE, *_PAIRED)
)
_times_of: Final = attrgetter(*(f"{stem}_at" for stem in (*_ALONE, *_PAIRED)))
_STALE_OF: Final = {
    _I[name]: _I[f"{name}_stale"]
    for name in ("delivered", "cohort_bounced_late", "cohort_complained", "cohort_unsubscribed")
}
"""Counts of a delivery and its cohort, and the same of a stale delivery."""
_DELIVERED_BIT: Final = FIXED["delivered_at"]
_BOUNCED_BIT: Final = FIXED["bounced_at"]
_BOTH_BITS: Final = FIXED["opened_at"] | FIXED["clicked_at"] | _DELIVERED_BIT


def contributions(message: Message) -> list[int]:
    """What the unsettled part of the message adds to the counts.

    Returns:
        One integer per count of 1: ``minute << SHIFT | index of the counter``.
    """
    out: list[int] = []
    fixed, delivered = message.fixed, message.delivered_at
    cohort = delivered // 60 << SHIFT if delivered else 0
    old_delivery = bool(fixed & _DELIVERED_BIT)
    if delivered and not old_delivery:
        out.append(cohort | DELIVERED)
    if message.bounced_at:
        _bounce(message, cohort, out)
    _attempt(message, out)
    for at, (bit, flow, of_cohort) in zip(_times_of(message), _COUNTED, strict=True):
        if at:
            if not fixed & bit:
                out.append(at // 60 << SHIFT | flow)
            if cohort and of_cohort >= 0 and not (old_delivery and fixed & bit):
                out.append(cohort | of_cohort)
    if message.opened_at and message.clicked_at and cohort and fixed & _BOTH_BITS != _BOTH_BITS:
        out.append(cohort | _C_OPENED_CLICKED)
    if message.delivered_stale:
        out += _stale(out)
    for event in message.pending:
        out += event_counters(event)
    return out


def _bounce(message: Message, cohort: int, out: list[int]) -> None:
    settled = message.fixed & _BOUNCED_BIT
    minute = message.bounced_at // 60 << SHIFT
    if not message.late:
        if not settled:
            out.append(minute | _BOUNCED[message.bounce_class])
    elif not settled:
        out += (minute | _LATE, cohort | _C_LATE)


def _stale(items: list[int]) -> list[int]:
    """What a stale delivery and its cohort add to the counts of such."""
    return [item & ~MASK | _STALE_OF[item & MASK] for item in items if item & MASK in _STALE_OF]


def _attempt(message: Message, out: list[int]) -> None:
    """Once a delivery or a bounce in-band is settled, the message is counted as sent for good."""
    if not message.attempted_at or message.attempted_stale:
        return
    fixed, minute = message.fixed, message.attempted_at // 60 << SHIFT
    in_band = message.bounced_at and not message.late
    counted = fixed & _DELIVERED_BIT
    if in_band:
        if not fixed & _BOUNCED_BIT:
            out.append(minute | _ATTEMPT_BOUNCED[message.bounce_class])
        else:
            counted = _BOUNCED_BIT
    if not counted and (in_band or message.delivered_at):
        out.append(minute | ATTEMPT_SENT)


def event_counters(event: Pending) -> tuple[int, ...]:
    """What one event adds by itself, repeats included."""
    minute = event.at // 60 << SHIFT
    own = _OWN.get((event.event_type, event.actor))
    if own is None and not event.stale:
        return (minute | EVENTS,)
    if own is None or event.stale or event.unsubscribe:
        return tuple([minute | counter for counter in _own(event)])
    return minute | own[0], minute | own[1]


Counters = tuple[int, ...]


def _own(event: Pending) -> Counters:
    """The counters that one event adds to by itself, in its minute."""
    kind = event.event_type
    if kind == "clicked" and event.unsubscribe:
        own = _UNSUBSCRIBING
    else:
        own = _OWN.get((kind, event.actor), _ANY_EVENT)
    return (*own, _EVENTS_STALE) if event.stale else own


_ANY_EVENT: Counters = (EVENTS,)
_UNSUBSCRIBING: Counters = (EVENTS, _I["unsubscribe_clicks"])
_OWN: dict[tuple[str, str], Counters] = {
    (kind, actor): (EVENTS, _I[f"{prefix}{plural}"])
    for kind, plural in (("opened", "opens"), ("clicked", "clicks"))
    for actor, prefix in (("human", ""), ("unknown", "unknown_"), ("machine", "machine_"))
}
"""Type of an event and its actor -> its counters; of others ``_ANY_EVENT``."""
_OWN["deferred", "none"] = (EVENTS, _I["deferred"])


def added_by(message: Message, event: Pending, fresh: int) -> tuple[Counters, Counters]:
    """The counters that an open or click adds 1 to if it changes no other contributions.

    Args:
        message: with the event in it already.
        fresh: which of its kind's ``DOUBT_TIMES`` the event gives: bit 0 and bit 1.

    Returns:
        Those of its minute, and those of its message's delivery, if it is known.
    """
    marks = fresh | (4 if event.first else 0) | (8 if event.human else 0)
    if event.unsubscribe or event.stale:
        flow, of_cohort = _FIRSTS[event.event_type, ""][marks]
        flow = _own(event) + flow
    else:
        flow, of_cohort = _FIRSTS[event.event_type, event.actor][marks]
    if not message.delivered_at:
        return flow, ()
    if event.human and message.opened_at and message.clicked_at:
        of_cohort += (_C_OPENED_CLICKED,)
    return flow, of_cohort


_BY_MARK: Final = ((1, "_or_unknown"), (2, "_at_most"), (4, "_any"), (8, ""))
_FIRSTS: Final = {
    (kind, actor): [
        (
            _OWN.get((kind, actor), ())
            + tuple([_I[f"{kind}{end}"] for mark, end in _BY_MARK if marks & mark]),
            tuple([_I[f"cohort_{kind}{end}"] for mark, end in _BY_MARK if marks & mark]),
        )
        for marks in range(16)
    ]
    for kind in ("opened", "clicked")
    for actor in ("human", "unknown", "machine", "")
}
"""Type of an event and its actor -> by what it is the first of, the counters of ``added_by``; with
an empty actor without those that it adds to by itself."""


def placed(
    owner: Owner, delivered_owner: Owner | None, items: Iterable[int]
) -> Iterator[tuple[Owner, list[int]]]:
    """The contributions by what they are counted under (invariant 3)."""
    if delivered_owner is None or delivered_owner == owner:
        yield owner, list(items)
        return
    flow: list[int] = []
    cohort: list[int] = []
    for item in items:
        (cohort if item & MASK in _COHORT else flow).append(item)
    yield owner, flow
    yield delivered_owner, cohort
