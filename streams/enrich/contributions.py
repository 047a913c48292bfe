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

from schemas.glossary import COUNTER_INDEX, COUNTERS, Basis
from streams.enrich.message import CLASSES, FIXED, Message, Owner, Pending

# A contribution is one integer, minute << SHIFT | index of the counter: cheap to make and compare.
SHIFT = 6
MASK = (1 << SHIFT) - 1
assert len(COUNTERS) <= 1 << SHIFT, "the glossary has more counters than a contribution can name"

_I = COUNTER_INDEX
EVENTS, UNIDENTIFIED = _I["events"], _I["unidentified"]
DELIVERED, _LATE, _C_LATE = _I["delivered"], _I["bounced_late"], _I["cohort_bounced_late"]
_DEFERRED = _I["deferred"]
ATTEMPT_SENT, _EVENTS_STALE = _I["attempt_sent"], _I["events_stale"]
_BOUNCED = tuple(_I.get(f"bounced_{name}", -1) for name in CLASSES)
_ATTEMPT_BOUNCED = tuple(_I.get(f"attempt_bounced_{name}", -1) for name in CLASSES)
_OPENS, _CLICKS, _UNSUB_CLICKS = _I["opens"], _I["clicks"], _I["unsubscribe_clicks"]
_MACHINE_OPENS, _MACHINE_CLICKS = _I["machine_opens"], _I["machine_clicks"]
_C_OPENED_CLICKED = _I["cohort_opened_clicked"]
_COHORT = frozenset(i for i, counter in enumerate(COUNTERS) if counter.basis == Basis.COHORT)

_ALONE = ("suppressed", "rejected")
"""Outcomes that are counted by the minute they happened."""
_PAIRED = ("complained", "unsubscribed", "opened_any", "opened", "clicked_any", "clicked")
"""Outcomes that are counted by that of the delivery, too."""
_COUNTED = tuple(
    (FIXED[f"{stem}_at"], _I[stem], _I.get(f"cohort_{stem}", -1)) for stem in (*_ALONE, *_PAIRED)
)
_times_of = attrgetter(*(f"{stem}_at" for stem in (*_ALONE, *_PAIRED)))
_STALE_OF = {
    _I[name]: _I[f"{name}_stale"]
    for name in ("delivered", "cohort_bounced_late", "cohort_complained", "cohort_unsubscribed")
}
"""Counts of a delivery and its cohort, and the same of a stale delivery."""
_DELIVERED_BIT, _BOUNCED_BIT = FIXED["delivered_at"], FIXED["bounced_at"]
_BOTH_BITS = FIXED["opened_at"] | FIXED["clicked_at"] | _DELIVERED_BIT


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
    minute, kind = event.at // 60 << SHIFT, event.event_type
    if event.stale:
        fresh = event_counters(event._replace(stale=False))
        return *fresh, minute | _EVENTS_STALE
    if kind == "opened":
        return minute | EVENTS, minute | (_OPENS if event.actor == "human" else _MACHINE_OPENS)
    if kind == "clicked":
        if event.actor != "human":
            return minute | EVENTS, minute | _MACHINE_CLICKS
        return minute | EVENTS, minute | (_UNSUB_CLICKS if event.unsubscribe else _CLICKS)
    if kind == "deferred":
        return minute | EVENTS, minute | _DEFERRED
    return (minute | EVENTS,)


def added_by(message: Message, event: Pending) -> list[int]:
    """What an open or click adds to its message's contributions if it changes no others.

    Args:
        message: with the event in it already.
    """
    kind = event.event_type
    opened = kind == "opened"
    minute = event.at // 60 << SHIFT
    out = list(event_counters(event))
    if not (event.first or event.human):
        return out
    cohort = message.delivered_at // 60 << SHIFT
    if event.first:
        out.append(minute | (_OPENED_ANY if opened else _CLICKED_ANY))
        if cohort:
            out.append(cohort | (_C_OPENED_ANY if opened else _C_CLICKED_ANY))
    if event.human:
        out.append(minute | (_OPENED if opened else _CLICKED))
        if cohort:
            out.append(cohort | (_C_OPENED if opened else _C_CLICKED))
            if message.opened_at and message.clicked_at:
                out.append(cohort | _C_OPENED_CLICKED)
    return out


_OPENED, _C_OPENED = _I["opened"], _I["cohort_opened"]
_OPENED_ANY, _C_OPENED_ANY = _I["opened_any"], _I["cohort_opened_any"]
_CLICKED, _C_CLICKED = _I["clicked"], _I["cohort_clicked"]
_CLICKED_ANY, _C_CLICKED_ANY = _I["clicked_any"], _I["cohort_clicked_any"]


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
