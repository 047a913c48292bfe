"""What a message's events mean, taken together: attribution, verdicts, firsts and times.

Invariants:
1. Pure, and a function of the message's summary and the *set* of its pending events: the order in
   which they arrived does not matter. Ties in time are broken by the events' ids.
2. What is settled (``Message.fixed``) stays. Pending events only fill what is not.
3. The definitions are those of the glossary: first means the first that happened; the bounce that
   counts is the worst, among equals the first, and of a delivered message only those since the
   delivery.
"""

from streams.classify import actors
from streams.classify.actor_rules import Rules, Verdict
from streams.classify.actors import Evidence
from streams.enrich.message import (
    BOUNCED_FIXED,
    FIXED,
    FIXED_CAMPAIGN,
    FOR_SURE,
    SUPPRESSED_CLASS,
    SUSPECT,
    Message,
    Pending,
    may_have_given,
)

_GIVES = {
    ("delivered", False): "delivered_at",
    ("complained", False): "complained_at",
    ("unsubscribed", False): "unsubscribed_at",
    ("rejected", False): "rejected_at",
    ("failed", False): "rejected_at",
    ("bounced", True): "suppressed_at",
    ("rejected", True): "suppressed_at",
    ("failed", True): "suppressed_at",
}
"""Type of an event, and whether the address was on a suppression list -> the time that the first
such event gives its message."""


_READ = tuple((name, bit) for name, bit in FIXED.items() if name.startswith(("opened", "clicked")))
_OUTCOMES = tuple((name, bit) for name, bit in FIXED.items() if (name, bit) not in _READ)


def assess(message: Message, rules: Rules) -> None:
    """Judges the pending events anew, and sets what they give the message."""
    events = message.pending
    if len(events) > 1:
        events = sorted(events, key=_when)
    _forget(message)
    firsts: set[int] = set()
    for event in events:
        if message.campaign is None:
            message.campaign = event.campaign
        name = _GIVES.get((event.event_type, event.bounce == SUPPRESSED_CLASS))
        if name is not None and not getattr(message, name):
            setattr(message, name, event.at)
            firsts.add(event.identity)
            if name == "delivered_at":
                message.delivered_stale = event.stale
        if not message.attempted_at and event.is_attempt:
            message.attempted_at, message.attempted_stale = event.at, event.stale
    delivered_us = message.delivered_us
    _bounce(message, events, delivered_us, firsts)
    humans: set[int] = set()
    if any(event.actor != "none" for event in events):
        events = _judge(events, delivered_us, rules)
        _engage(message, events, firsts, humans)
    anew = {}
    for event in events:
        identity = event.identity
        first, human = identity in firsts, identity in humans
        if (first, human) != (event.first, event.human):
            event = event.marked(first=first, human=human)
        anew[identity] = event
    message.pending = [anew[event.identity] for event in message.pending]


def _when(event: Pending) -> tuple[int, int]:
    return event.at_us, event.identity


def _forget(message: Message) -> None:
    """Forgets what the pending events gave the message before."""
    fixed = message.fixed
    for name, bit in _OUTCOMES:
        if not fixed & bit:
            setattr(message, name, 0)
    if message.opened_any_at or message.clicked_any_at:
        for name, bit in _READ:
            if not fixed & bit:
                setattr(message, name, 0)
    if not fixed & FIXED_CAMPAIGN:
        message.campaign = None


def _bounce(message: Message, events: list[Pending], delivered_us: int, firsts: set[int]) -> None:
    """A bounce before the delivery does not count: the retry succeeded."""
    if message.fixed & BOUNCED_FIXED:
        return
    bounces = [
        e for e in events
        if e.event_type == "bounced" and e.bounce != SUPPRESSED_CLASS and e.at_us >= delivered_us
    ]  # fmt: skip
    message.bounce_class, message.late = 0, False
    if bounces:
        worst = max(bounces, key=_severity)
        message.bounced_at, message.bounce_class = worst.at, worst.bounce
        message.late = delivered_us > 0
        firsts.add(worst.identity)


def _severity(event: Pending) -> int:
    """By which ``max`` finds the worst of several, and the first of those."""
    return event.bounce


def _engage(message: Message, events: list[Pending], firsts: set[int], humans: set[int]) -> None:
    """First opens and clicks: by anyone, by a human, and by who may be one."""
    for event in events:
        if event.actor == "none" or event.unsubscribe:
            continue
        by_anyone, by_human = _TIMES_OF[event.event_type]
        if not getattr(message, by_anyone):
            setattr(message, by_anyone, event.at)
            firsts.add(event.identity)
        if event.actor == "human" and not getattr(message, by_human):
            setattr(message, by_human, event.at)
            humans.add(event.identity)
        for name in may_have_given(event):
            if not getattr(message, name):
                setattr(message, name, event.at)


_TIMES_OF = {
    "opened": ("opened_any_at", "opened_at"),
    "clicked": ("clicked_any_at", "clicked_at"),
}


def _judge(events: list[Pending], delivered_us: int, rules: Rules) -> list[Pending]:
    """Verdicts: each event by itself and by its time, then opens and clicks together."""
    judged = [judged_alone(event, delivered_us, rules) for event in events]
    positions = [i for i, event in enumerate(judged) if event.actor != "none"]
    if not any(judged[i].event_type == "clicked" for i in positions):
        return judged  # nothing but a click says more than an event does by itself
    for index, actor, reason in actors.rejudge(
        [evidence(one := judged[i], (one.actor, one.reason)) for i in positions], rules
    ):
        position = positions[index]
        judged[position] = judged[position].judged(actor, reason)
    return judged


def judged_alone(event: Pending, delivered_us: int, rules: Rules) -> Pending:
    """The event as ``verdict_alone`` judges it."""
    verdict = verdict_alone(event, delivered_us, rules)
    return event if verdict == (event.actor, event.reason) else event.judged(*verdict)


def verdict_alone(event: Pending, delivered_us: int, rules: Rules) -> Verdict:
    """The verdict by the event itself and by the time since the delivery (0: unknown)."""
    alone = event.alone
    if alone == FOR_SURE:
        return event.actor, event.reason
    if alone != SUSPECT and delivered_us:
        since_us = event.at_us - delivered_us
        if since_us >= rules.later_us:
            return actors.LATER_HUMAN
        if 0 <= since_us < rules.soon_us[event.event_type]:
            return actors.SOON_UNKNOWN
    since = actors.seconds_since(event.at_us, delivered_us) if delivered_us else None
    if alone == SUSPECT:
        return actors.by_suspicion(since, rules)
    return actors.by_time(event.event_type, since, rules)


def evidence(event: Pending, verdict: Verdict) -> Evidence:
    """What ``actors.rejudge`` needs of the event, with its verdict alone."""
    return Evidence(event.event_type, event.at_us, *verdict, event.link, event.agent)
