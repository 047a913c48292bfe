"""What is remembered of one message to one recipient, and what it contributes to the counts.

Invariants:
1. Pure. Every count is a function of messages (``contributions``). So what is learned late (a
   campaign, a delivery, a scanner) changes counts exactly: what the message contributed before is
   subtracted, and what it contributes now is added.
2. First means first in the order of the log. Times are seconds since 1970; 0 means «not yet».
3. An open or click is *pending* while later events may still change its verdict; then it is settled
   into the summary. Settling changes no count, so it may happen at any time after it is due.
4. The stored form is in ``streams.enrich.message_bytes``.
"""

from typing import NamedTuple

from schemas.glossary import COUNTER_INDEX

SEEN_MAX = 4096
"""Event ids remembered of one message; beyond this number the oldest are forgotten."""
PENDING_MAX = 64
"""Pending events of one message; beyond this number the oldest are settled."""

NO_BUCKET = -1
CLASSES = ("none", "suppressed", "undetermined", "soft", "block", "hard")
"""Bounce classes from mild to severe: a message is counted under the worst one it had."""

# A contribution is one integer, minute * 32 + index of the counter: cheap to make and to compare.
SHIFT = 5
MASK = (1 << SHIFT) - 1
_I = COUNTER_INDEX
EVENTS = _I["events"]
DELIVERED, _LATE, _C_LATE = _I["delivered"], _I["bounced_late"], _I["cohort_bounced_late"]
_SUPPRESSED, _DEFERRED, _REJECTED = _I["suppressed"], _I["deferred"], _I["rejected"]
_BOUNCED = tuple(_I.get(f"bounced_{name}", -1) for name in CLASSES)
_COMPLAINED, _C_COMPLAINED = _I["complained"], _I["cohort_complained"]
_UNSUBSCRIBED, _C_UNSUBSCRIBED = _I["unsubscribed"], _I["cohort_unsubscribed"]
_OPENED, _C_OPENED = _I["opened"], _I["cohort_opened"]
_OPENED_ANY, _C_OPENED_ANY = _I["opened_any"], _I["cohort_opened_any"]
_CLICKED, _C_CLICKED = _I["clicked"], _I["cohort_clicked"]
_CLICKED_ANY, _C_CLICKED_ANY = _I["clicked_any"], _I["cohort_clicked_any"]
_OPENS, _CLICKS, _UNSUB_CLICKS = _I["opens"], _I["clicks"], _I["unsubscribe_clicks"]
_MACHINE_OPENS, _MACHINE_CLICKS = _I["machine_opens"], _I["machine_clicks"]


class Pending(NamedTuple):
    """An event whose verdict or campaign may still change.

    Attributes:
        offset: of the event in the raw topic.
        settles_at: log time, seconds, from which on it is settled.
        event_type, actor, reason: as judged now.
        at: event time, seconds.
        at_us: event time, microseconds (needed to recognise bursts).
        link, agent: hashes of link and user agent, 0 for none.
        unsubscribe: a click on an unsubscribe link.
        first: the ``first_of_kind`` that was published.
        revision: how often it was written again.
        raw: the framed raw record, to write the event again.
    """

    offset: int
    settles_at: int
    event_type: str
    at: int
    at_us: int
    actor: str
    reason: str
    link: int
    agent: int
    unsubscribe: bool
    first: bool
    revision: int
    raw: bytes


class Message:
    """State of one message to one recipient. Times in seconds, 0: not yet.

    ``pending_bucket`` is where its pending events are stored, ``NO_BUCKET`` when they are not.
    """

    __slots__ = (
        "bounce_class", "bounced_at", "campaign", "campaign_source", "clicked_any_at", "clicked_at",
        "complained_at", "delivered_at", "mailbox", "opened_any_at", "opened_at", "pending",
        "pending_bucket", "rejected_at", "seen", "suppressed_at", "touched", "unsubscribed_at",
    )  # fmt: skip

    def __init__(self) -> None:
        self.touched = 0
        self.seen: list[int] = []
        self.campaign: str | None = None
        self.campaign_source = "none"
        self.mailbox = ""
        self.bounce_class = 0
        self.delivered_at = 0
        self.bounced_at = 0
        self.suppressed_at = 0
        self.rejected_at = 0
        self.complained_at = 0
        self.unsubscribed_at = 0
        self.opened_any_at = 0
        self.opened_at = 0
        self.clicked_any_at = 0
        self.clicked_at = 0
        self.pending: list[Pending] = []
        self.pending_bucket = NO_BUCKET

    def settle(self, log_now: int) -> None:
        """Moves pending events that are due, and any above ``PENDING_MAX``, into the summary."""
        pending = self.pending
        due = max(0, len(pending) - PENDING_MAX)
        while due < len(pending) and pending[due].settles_at <= log_now:
            due += 1
        for event in pending[:due]:
            if event.actor == "human":
                if event.event_type == "opened":
                    self.opened_at = self.opened_at or event.at
                elif event.event_type == "clicked" and not event.unsubscribe:
                    self.clicked_at = self.clicked_at or event.at
        if due:
            del pending[:due]
            # A message whose event was settled without a campaign stays unattributed for good, so
            # that events and counts always agree.
            if self.campaign is None:
                self.campaign = ""

    def first_human(self, event_type: str) -> tuple[int, int]:
        """Time and offset of the first human open (``opened``) or click (``clicked``).

        The offset is -1 when that event is settled; ``(0, -1)`` when there is none.
        """
        settled = self.opened_at if event_type == "opened" else self.clicked_at
        if settled:
            return settled, -1
        for event in self.pending:
            if event.actor == "human" and event.event_type == event_type and not event.unsubscribe:
                return event.at, event.offset
        return 0, -1

    def knows_human(self, event_type: str) -> bool:
        """Whether there is a first human open (``opened``) or click (``clicked``) already."""
        if self.opened_at if event_type == "opened" else self.clicked_at:
            return True
        for event in self.pending:
            if event.actor == "human" and event.event_type == event_type and not event.unsubscribe:
                return True
        return False


def contributions(message: Message) -> list[int]:
    """What the message adds to the counts of its campaign and mailbox provider.

    Returns:
        One integer per count of 1: ``minute << SHIFT | index of the counter``.
    """
    out: list[int] = []
    delivered, bounced = message.delivered_at, message.bounced_at
    cohort = delivered // 60 << SHIFT
    if delivered:
        out.append(cohort | DELIVERED)
        # A bounce before the delivery does not count: the retry succeeded.
        if bounced >= delivered:
            minute = bounced // 60 << SHIFT
            out += (minute | _BOUNCED[message.bounce_class], minute | _LATE, cohort | _C_LATE)
    elif bounced:
        out.append(bounced // 60 << SHIFT | _BOUNCED[message.bounce_class])
    if message.suppressed_at:
        out.append(message.suppressed_at // 60 << SHIFT | _SUPPRESSED)
    if message.rejected_at:
        out.append(message.rejected_at // 60 << SHIFT | _REJECTED)
    for at, flow, of_cohort in (
        (message.complained_at, _COMPLAINED, _C_COMPLAINED),
        (message.unsubscribed_at, _UNSUBSCRIBED, _C_UNSUBSCRIBED),
    ):
        if at:
            out.append(at // 60 << SHIFT | flow)
            if delivered:
                out.append(cohort | of_cohort)
    if message.opened_any_at or message.clicked_any_at or message.pending:
        _engagement(message, cohort if delivered else 0, out)
    return out


def _engagement(message: Message, cohort: int, out: list[int]) -> None:
    """Adds what opens and clicks contribute; ``cohort`` is 0 without a known delivery."""
    opened = message.first_human("opened")[0]
    clicked = message.first_human("clicked")[0]
    for at, flow, of_cohort in (
        (message.opened_any_at, _OPENED_ANY, _C_OPENED_ANY),
        (opened, _OPENED, _C_OPENED),
        (message.clicked_any_at, _CLICKED_ANY, _C_CLICKED_ANY),
        (clicked, _CLICKED, _C_CLICKED),
    ):
        if at:
            out.append(at // 60 << SHIFT | flow)
            if cohort:
                out.append(cohort | of_cohort)
    for event in message.pending:
        out += event_counters(
            event.event_type, event.at, event.actor, unsubscribe=event.unsubscribe
        )


def event_counters(event_type: str, at: int, actor: str, *, unsubscribe: bool) -> tuple[int, ...]:
    """What one event adds by itself, repeats included."""
    minute = at // 60 << SHIFT
    if event_type == "opened":
        return minute | EVENTS, minute | (_OPENS if actor == "human" else _MACHINE_OPENS)
    if event_type == "clicked":
        if actor != "human":
            return minute | EVENTS, minute | _MACHINE_CLICKS
        return minute | EVENTS, minute | (_UNSUB_CLICKS if unsubscribe else _CLICKS)
    if event_type == "deferred":
        return minute | EVENTS, minute | _DEFERRED
    return (minute | EVENTS,)


def open_or_click_counters(event: Pending, delivered_at: int, *, first_human: bool) -> list[int]:
    """What an open or click adds to its message's contributions if it changes no others."""
    kind = event.event_type
    minute = event.at // 60 << SHIFT
    out = list(event_counters(kind, event.at, event.actor, unsubscribe=event.unsubscribe))
    first = event.first
    if first:
        out.append(minute | _FIRST_ANY[kind][0])
    if first_human:
        out.append(minute | _FIRST_HUMAN[kind][0])
    if delivered_at and (first or first_human):
        cohort = delivered_at // 60 << SHIFT
        if first:
            out.append(cohort | _FIRST_ANY[kind][1])
        if first_human:
            out.append(cohort | _FIRST_HUMAN[kind][1])
    return out


_FIRST_ANY = {
    "opened": (_OPENED_ANY, _C_OPENED_ANY),
    "clicked": (_CLICKED_ANY, _C_CLICKED_ANY),
}
_FIRST_HUMAN = {"opened": (_OPENED, _C_OPENED), "clicked": (_CLICKED, _C_CLICKED)}
