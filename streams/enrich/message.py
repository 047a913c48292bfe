"""What is remembered of one message to one recipient.

Invariants:
1. Pure. A message is a *summary* of what is settled, and the *pending* events of its correction
   window. Everything that is counted or told of it is a function of the summary and of the set of
   pending events, whatever their order of arrival (``streams.enrich.assess``).
2. The window opens with the first event that finds no other pending, and ends
   ``LookUps.correction_s`` of log time later. Then all pending events are settled at once: what
   they gave the message is fixed, and later events only add to it. The next event opens a window
   of its own.
3. Pending events are in the order of arrival. They are the last ones of ``seen``.
4. Times are seconds since 1970; 0 means «not yet». What lies before and after a delivery is told by
   the microsecond within its window, later by the second.
5. The stored form is in ``streams.enrich.message_bytes``.
"""

from operator import attrgetter
from typing import Final

from streams.classify.certainty import doubt_of

SEEN_MAX: Final = 4096
"""Event ids remembered of one message; beyond this number the oldest are forgotten."""
PENDING_MAX: Final = 64
"""Pending events of one message; beyond this number the ones that came first are settled."""

NO_BUCKET: Final = -1
CLASSES: Final = ("none", "suppressed", "undetermined", "soft", "block", "hard")
"""Bounce classes from mild to severe: a message is counted under the worst one it had."""
SUPPRESSED_CLASS: Final = CLASSES.index("suppressed")

BY_TIME: Final = 0
SUSPECT: Final = 1
FOR_SURE: Final = 2
"""What an open or click is by itself: what the time since the delivery says; the same of one from a
suspected network; or what ``actor`` says, for good."""

TIMES: Final = (
    "delivered_at", "bounced_at", "suppressed_at", "rejected_at", "complained_at",
    "unsubscribed_at", "opened_any_at", "opened_at", "clicked_any_at", "clicked_at", "attempted_at",
)  # fmt: skip
"""A message's times; bit i of ``Message.fixed`` says that the i-th is settled."""
FIXED_CAMPAIGN: Final = 1 << len(TIMES)
DOUBT_TIMES: Final = (
    "opened_or_unknown_at", "opened_at_most_at", "clicked_or_unknown_at", "clicked_at_most_at",
)  # fmt: skip
"""First opens and clicks by who may be a human (``DOUBT`` of the glossary); their bits follow that
of the campaign."""
FIXED: Final = {name: 1 << index for index, name in enumerate((*TIMES, "", *DOUBT_TIMES)) if name}
DOUBT_OF: Final = {"opened": DOUBT_TIMES[:2], "clicked": DOUBT_TIMES[2:]}
DELIVERED_FIXED: Final = FIXED["delivered_at"]
BOUNCED_FIXED: Final = FIXED["bounced_at"]
ATTEMPTED_FIXED: Final = FIXED["attempted_at"]

Owner = tuple[str, str]
"""Campaign ('' for none) and mailbox provider that counts are kept under."""


class Pending:
    """An event whose meaning may still change: its coordinates and its evidence.

    A value: none changes after it was told or stored. A class of its own rather than a named tuple,
    whose attributes cost the compiled build as much as plain Python.

    Attributes:
        offset: of the event in the raw topic.
        identity: 64 bits of its id.
        event_type: a value of ``EventType``.
        at: event time, seconds.
        at_us: event time, microseconds.
        actor, reason: as judged now; ``("none", "")`` if it is neither an open nor a click.
        alone: ``BY_TIME``, ``SUSPECT`` or ``FOR_SURE``.
        link, agent: 32-bit hashes of link and user agent, 0 for none.
        unsubscribe: a click on an unsubscribe link.
        bounce: index of its bounce class in ``CLASSES``.
        stale: told so late that it is counted by its arrival.
        campaign: that the event itself names.
        first: the ``first_of_kind`` as of now.
        human: the ``first_human`` as of now.
        revision: how often it was written again.
    """

    __slots__ = (
        "actor", "agent", "alone", "at", "at_us", "bounce", "campaign", "event_type", "first",
        "human", "identity", "link", "offset", "reason", "revision", "stale", "unsubscribe",
    )  # fmt: skip

    def __init__(
        self,
        offset: int,
        identity: int,
        event_type: str,
        at: int,
        at_us: int,
        actor: str,
        reason: str,
        alone: int,
        link: int,
        agent: int,
        unsubscribe: bool,
        bounce: int,
        stale: bool,
        campaign: str | None,
        first: bool,
        human: bool,
        revision: int,
    ) -> None:
        self.offset = offset
        self.identity = identity
        self.event_type = event_type
        self.at = at
        self.at_us = at_us
        self.actor = actor
        self.reason = reason
        self.alone = alone
        self.link = link
        self.agent = agent
        self.unsubscribe = unsubscribe
        self.bounce = bounce
        self.stale = stale
        self.campaign = campaign
        self.first = first
        self.human = human
        self.revision = revision

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pending) and _fields_of(self) == _fields_of(other)

    def __hash__(self) -> int:
        return hash((self.offset, self.identity))

    def __repr__(self) -> str:
        return f"Pending{_fields_of(self)}"

    @property
    def is_attempt(self) -> bool:
        """Whether it tells how an attempt to deliver the message ended."""
        kind = self.event_type
        return (
            kind == "delivered"
            or kind == "deferred"
            or (kind == "bounced" and self.bounce != SUPPRESSED_CLASS)
        )

    def told(
        self, actor: str, reason: str, *, first: bool, human: bool, revision: int = -1
    ) -> "Pending":
        """The event with another verdict and other marks, and perhaps as another revision."""
        return Pending(
            self.offset, self.identity, self.event_type, self.at, self.at_us, actor, reason,
            self.alone, self.link, self.agent, self.unsubscribe, self.bounce, self.stale,
            self.campaign, first, human, self.revision if revision < 0 else revision,
        )  # fmt: skip

    def marked(self, *, first: bool, human: bool) -> "Pending":
        """The event with other marks."""
        return self.told(self.actor, self.reason, first=first, human=human)

    def judged(self, actor: str, reason: str) -> "Pending":
        """The event with another verdict."""
        return self.told(actor, reason, first=self.first, human=self.human)

    def revised(self) -> "Pending":
        """The event as its next revision."""
        return self.told(
            self.actor, self.reason, first=self.first, human=self.human,
            revision=self.revision + 1,
        )  # fmt: skip


_fields_of: Final = attrgetter(
    "offset", "identity", "event_type", "at", "at_us", "actor", "reason", "alone", "link", "agent",
    "unsubscribe", "bounce", "stale", "campaign", "first", "human", "revision",
)  # fmt: skip


class Message:
    """State of one message to one recipient.

    Attributes:
        touched: log time of its newest event.
        seen: ids (64 bits) of its events, in order of arrival.
        campaign: it belongs to; ``None`` while no event has named one.
        mailbox: group of the mailbox provider; '' while unknown.
        bounce_class: index in ``CLASSES`` of the bounce that counts.
        late: that bounce came after the delivery.
        delivered_us: when it was delivered, in microseconds; 0 while that is unknown. Of a settled
            delivery only the second is known.
        delivered_stale, attempted_stale: its delivery, or what ended its first attempt, is stale.
        fixed: which times and names are settled (``FIXED``).
        delivered_owner: what its delivery is counted under, if that was settled before campaign and
            mailbox were known; else ``None``: the same as the message.
        due: log time at which the pending events are settled.
        pending_bucket: where its pending events are stored, ``NO_BUCKET`` when they are not.
    """

    __slots__ = (
        *TIMES, *DOUBT_TIMES, "attempted_stale", "bounce_class", "campaign", "delivered_owner",
        "delivered_stale", "delivered_us", "due", "fixed", "late", "mailbox", "pending",
        "pending_bucket", "seen",
        "touched",
    )  # fmt: skip

    def __init__(self) -> None:
        self.touched = 0
        self.seen: list[int] = []
        self.campaign: str | None = None
        self.mailbox = ""
        self.bounce_class = 0
        self.late = False
        self._clear_times()
        self.delivered_stale = False
        self.attempted_stale = False
        self.fixed = 0
        self.delivered_owner: Owner | None = None
        self.due = 0
        self.pending: list[Pending] = []
        self.pending_bucket = NO_BUCKET

    @property
    def owner(self) -> Owner:
        """What the message is counted under now."""
        return self.campaign or "", self.mailbox

    def _clear_times(self) -> None:
        self.delivered_at = self.delivered_us = 0
        self.bounced_at = self.suppressed_at = self.rejected_at = 0
        self.complained_at = self.unsubscribed_at = 0
        self.opened_any_at = self.opened_at = self.clicked_any_at = self.clicked_at = 0
        self.opened_or_unknown_at = self.opened_at_most_at = 0
        self.clicked_or_unknown_at = self.clicked_at_most_at = 0
        self.attempted_at = 0

    def forget(self) -> None:
        """Forgets the times and the campaign that are not settled."""
        fixed = self.fixed
        if not fixed:
            self._clear_times()
            self.campaign = None
            return
        for name, bit in FIXED.items():
            if not fixed & bit:
                setattr(self, name, 0)
        if not fixed & DELIVERED_FIXED:
            self.delivered_us = 0
        if not fixed & FIXED_CAMPAIGN:
            self.campaign = None

    def is_expired(self, now: int, ttl_s: int) -> bool:
        """Whether it is forgotten at this log time; never one that had no event."""
        return self.touched > 0 and self.touched + ttl_s < now

    def settle(self, log_now: int, room: int = 1) -> None:
        """Ends the window if it is over; makes room for more pending events."""
        if self.pending and self.due <= log_now:
            self.settle_all()
        while len(self.pending) > PENDING_MAX - room:
            self._settle_first()

    def settle_all(self) -> None:
        """Fixes everything that is known, and forgets the pending events."""
        self.pending = []
        self.due = 0
        for name, bit in FIXED.items():
            if getattr(self, name):
                self.fixed |= bit
        self.delivered_us = self.delivered_at * 1_000_000
        self._fix_owner()

    def _settle_first(self) -> None:
        """Fixes what the pending event that came first gave the message."""
        event = self.pending.pop(0)
        for name in given(event):
            self.fixed |= FIXED[name]
        for name in may_have_given(event):
            if getattr(self, name) == event.at:
                self.fixed |= FIXED[name]
        if event.is_attempt and (
            event.at == self.attempted_at or self.fixed & (DELIVERED_FIXED | BOUNCED_FIXED)
        ):
            self.fixed |= ATTEMPTED_FIXED  # what is counted by attempt must not move any more
        if event.campaign is not None and event.campaign == self.campaign:
            self.fixed |= FIXED_CAMPAIGN
        if self.fixed & DELIVERED_FIXED:
            self.delivered_us = self.delivered_at * 1_000_000
            self._fix_owner()

    def _fix_owner(self) -> None:
        if self.campaign is not None:
            self.fixed |= FIXED_CAMPAIGN
        unknown = self.campaign is None or not self.mailbox
        if self.fixed & DELIVERED_FIXED and unknown and self.delivered_owner is None:
            self.delivered_owner = self.owner


def given(event: Pending) -> list[str]:
    """Names of the times that the event gives its message."""
    kind = event.event_type
    names = []
    if event.first:
        if kind in ("opened", "clicked"):
            names.append(f"{kind}_any_at")
        elif event.bounce == SUPPRESSED_CLASS:
            names.append("suppressed_at")
        elif kind == "failed":
            names.append("rejected_at")
        else:
            names.append(f"{kind}_at")
    if event.human:
        names.append(f"{kind}_at")
    return names


def may_have_given(event: Pending) -> tuple[str, ...]:
    """Names of the ``DOUBT_TIMES`` that the event gives its message, unless another is earlier."""
    if event.actor == "none" or event.unsubscribe:
        return ()
    return DOUBT_OF[event.event_type][max(0, doubt_of(event.actor, event.reason) - 1) :]
