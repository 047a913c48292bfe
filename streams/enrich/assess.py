"""What a message's events mean, taken together: attribution, verdicts, firsts and times.

Invariants:
1. Pure, and a function of the message's summary and the *set* of its pending events: the order in
   which they arrived does not matter. Ties in time are broken by the events' ids.
2. What is settled (``Message.fixed``) stays. Pending events only fill what is not.
3. The definitions are those of the glossary: first means the first that happened; the bounce that
   counts is the worst, among equals the first, and of a delivered message only those since the
   delivery.
"""

from operator import attrgetter
from typing import Final

from streams.classify import actors
from streams.classify.actor_rules import Rules, Verdict
from streams.classify.actors import Evidence
from streams.enrich.message import (
    BOUNCED_FIXED,
    FOR_SURE,
    SUPPRESSED_CLASS,
    SUSPECT,
    Message,
    Pending,
    may_have_given,
)

_GIVES: Final = {
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


def assess(message: Message, rules: Rules) -> None:
    """Judges the pending events anew, and sets what they give the message."""
    events = message.pending
    if len(events) > 1:
        events = sorted(events, key=_when)
    message.forget()
    firsts: set[int] = set()
    humans: set[int] = set()
    outcomes = [event for event in events if event.actor == "none"]
    for event in events:
        if message.campaign is None:
            message.campaign = event.campaign
    _take(message, outcomes, firsts)
    _bounce(message, outcomes, firsts)
    if len(outcomes) < len(events):
        events = _judge(events, message.delivered_us, rules)
        _engage(message, events, firsts, humans)
    anew = {}
    for event in events:
        identity = event.identity
        first, human = identity in firsts, identity in humans
        if first != event.first or human != event.human:
            event = event.marked(first=first, human=human)
        anew[identity] = event
    message.pending = [anew[event.identity] for event in message.pending]


_when: Final = attrgetter("at_us", "identity")


def _take(message: Message, outcomes: list[Pending], firsts: set[int]) -> None:
    """What the first of each kind gives, of events that are neither opens nor clicks."""
    for event in outcomes:
        name = _GIVES.get((event.event_type, event.bounce == SUPPRESSED_CLASS))
        if name is not None and not getattr(message, name):
            setattr(message, name, event.at)
            firsts.add(event.identity)
            if name == "delivered_at":
                message.delivered_us, message.delivered_stale = event.at_us, event.stale
        if not message.attempted_at and event.is_attempt:
            message.attempted_at, message.attempted_stale = event.at, event.stale


def _bounce(message: Message, outcomes: list[Pending], firsts: set[int]) -> None:
    """A bounce before the delivery does not count: the retry succeeded."""
    if message.fixed & BOUNCED_FIXED:
        return
    delivered_us = message.delivered_us
    bounces = [
        e for e in outcomes
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


_TIMES_OF: Final = {
    "opened": ("opened_any_at", "opened_at"),
    "clicked": ("clicked_any_at", "clicked_at"),
}


def _judge(events: list[Pending], delivered_us: int, rules: Rules) -> list[Pending]:
    """Verdicts: each event by itself and by its time, then opens and clicks together."""
    judged = [judged_alone(event, delivered_us, rules) for event in events]
    if not has_click(judged):
        return judged  # nothing but a click says more than an event does by itself
    positions = [i for i, event in enumerate(judged) if event.actor != "none"]
    alone = [evidence(one, (one.actor, one.reason)) for one in judged if one.actor != "none"]
    for index, actor, reason in actors.rejudge(alone, rules):
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


def has_click(events: list[Pending]) -> bool:
    """Whether one of the events is a click."""
    for event in events:
        if event.event_type == "clicked":
            return True
    return False
