"""What an event says by itself, and the short cut for an open or click that changes nothing else.

Invariants:
1. Pure; the rules are those of ``streams.classify``.
2. ``take_simple`` may refuse an event that is simple. It never accepts one for which
   ``streams.enrich.assess`` would give another result; a property test compares them.
"""

from typing import Final

from streams.classify import actors
from streams.classify.actor_rules import Rules, Verdict
from streams.classify.certainty import SURE_MACHINE, doubt_of
from streams.enrich import derive
from streams.enrich.assess import evidence, has_click, verdict_alone
from streams.enrich.message import (
    BY_TIME,
    CLASSES,
    DOUBT_OF,
    FIXED,
    FOR_SURE,
    SUSPECT,
    Message,
    Pending,
)
from streams.enrich.revisions import Item, StepWork

_OPENED_ANY: Final = FIXED["opened_any_at"]
_OPENED: Final = FIXED["opened_at"]
_CLICKED_ANY: Final = FIXED["clicked_any_at"]
_CLICKED: Final = FIXED["clicked_at"]
_OPENED_OR_UNKNOWN, _OPENED_AT_MOST = (FIXED[name] for name in DOUBT_OF["opened"])
_CLICKED_OR_UNKNOWN, _CLICKED_AT_MOST = (FIXED[name] for name in DOUBT_OF["clicked"])
_CLASS_INDEX: Final = {name: index for index, name in enumerate(CLASSES)}


def evidence_of(work: StepWork, item: Item, identity: int, bounce_class: str) -> Pending:
    """The event as judged by itself, without its message.

    Args:
        identity: 64 bits of its id.
        bounce_class: as ``derive.bounce_of`` judges it.
    """
    record, head, _, _, at_us = item
    kind = head["event_type"]
    actor, reason, alone, link, agent, unsubscribe = "none", "", FOR_SURE, 0, 0, False
    if kind == "opened" or kind == "clicked":
        url, user_agent = head["click_url"], head["user_agent"]
        verdict = actors.by_itself(
            kind, head["machine_kind"], user_agent, head["ip"], url, work.look_ups.rules
        )
        if verdict is None:
            actor, alone = "human", BY_TIME  # as of most, so that these need not be made anew
        else:
            actor, reason = verdict
            alone = SUSPECT if reason == actors.SUSPECTED else FOR_SURE
        link, agent = derive.text_hash(url), derive.text_hash(user_agent)
        unsubscribe = actors.unsubscribes(head, work.look_ups.rules.unsubscribe)
    return Pending(
        record.offset, identity, kind, at_us // 1_000_000, at_us, actor, reason, alone, link, agent,
        unsubscribe, _CLASS_INDEX[bounce_class], derive.is_stale(head),
        head["campaign_id"] or None, False, False, 0,
    )  # fmt: skip


def may_be_first(message: Message, event: Pending, rules: Rules) -> bool:
    """Whether an open or click may be the message's first by a human, as far as is known now."""
    first = message.opened_at if event.event_type == "opened" else message.clicked_at
    if first and event.at > first:
        return False
    return verdict_alone(event, message.delivered_us, rules)[0] == "human"


def take_simple(message: Message, event: Pending, rules: Rules) -> tuple[Pending, int] | None:
    """Adds an open or click to its message, if it leaves all that was told of that as it is.

    Returns:
        The event as ``assess`` would judge and mark it, and which of its kind's ``DOUBT_TIMES`` it
        gave its message, as bits. ``None``: it is not simple, and the message is as it was.
    """
    campaign = message.campaign
    if campaign is None or not message.mailbox:
        return None
    if event.campaign is not None and event.campaign != campaign:
        return None
    opened = event.event_type == "opened"
    if _may_come_first(message, event, opened=opened):
        return None
    pending = message.pending
    delivered_us = message.delivered_us
    verdict = verdict_alone(event, delivered_us, rules)
    may_correct = pending and (not opened or has_click(pending))
    if may_correct and not _leaves_verdicts(pending, event, verdict, delivered_us, rules):
        return None
    judged, fresh = _marked(message, event, verdict)
    pending.append(judged)
    return judged, fresh


def _may_come_first(message: Message, event: Pending, *, opened: bool) -> bool:
    """Whether it happened before a first that is not settled, or in the same second."""
    at, fixed = event.at, message.fixed
    if opened:
        return message.opened_any_at > 0 and (
            (at <= message.opened_any_at and not fixed & _OPENED_ANY)
            or (at <= message.opened_at and not fixed & _OPENED)
            or (at <= message.opened_or_unknown_at and not fixed & _OPENED_OR_UNKNOWN)
            or (at <= message.opened_at_most_at and not fixed & _OPENED_AT_MOST)
        )
    return (
        message.clicked_any_at > 0
        and not event.unsubscribe
        and (
            (at <= message.clicked_any_at and not fixed & _CLICKED_ANY)
            or (at <= message.clicked_at and not fixed & _CLICKED)
            or (at <= message.clicked_or_unknown_at and not fixed & _CLICKED_OR_UNKNOWN)
            or (at <= message.clicked_at_most_at and not fixed & _CLICKED_AT_MOST)
        )
    )


def _marked(message: Message, event: Pending, verdict: Verdict) -> tuple[Pending, int]:
    """The event with verdict and marks, and ``take_simple``'s bits; the message's times follow."""
    is_human = verdict[0] == "human"
    first = human = False
    fresh = 0
    if event.event_type == "opened":
        if not message.opened_any_at:
            first, message.opened_any_at = True, event.at
        doubt = 0 if is_human else doubt_of(*verdict)
        if doubt < SURE_MACHINE and not message.opened_at_most_at:
            fresh, message.opened_at_most_at = 2, event.at
        if doubt < 2 and not message.opened_or_unknown_at:
            message.opened_or_unknown_at = event.at
            fresh |= 1
        if is_human and not message.opened_at:
            human, message.opened_at = True, event.at
    elif not event.unsubscribe:
        if not message.clicked_any_at:
            first, message.clicked_any_at = True, event.at
        doubt = 0 if is_human else doubt_of(*verdict)
        if doubt < SURE_MACHINE and not message.clicked_at_most_at:
            fresh, message.clicked_at_most_at = 2, event.at
        if doubt < 2 and not message.clicked_or_unknown_at:
            message.clicked_or_unknown_at = event.at
            fresh |= 1
        if is_human and not message.clicked_at:
            human, message.clicked_at = True, event.at
    event.actor, event.reason = verdict  # it was told to nobody yet: no other object is needed
    event.first, event.human = first, human
    return event, fresh


def _leaves_verdicts(
    pending: list[Pending], event: Pending, verdict: Verdict, delivered_us: int, rules: Rules
) -> bool:
    """Whether the opens and clicks, judged together with the event, stay as they were judged."""
    together = [event]
    bases = [evidence(event, verdict)]
    for told in pending:
        if told.actor != "none":
            together.append(told)
            bases.append(evidence(told, verdict_alone(told, delivered_us, rules)))
    changes = {index: (actor, reason) for index, actor, reason in actors.rejudge(bases, rules)}
    if 0 in changes:
        return False
    for index, told in enumerate(together[1:], 1):
        actor, reason = changes.get(index, (bases[index].actor, bases[index].reason))
        if actor != told.actor or reason != told.reason:
            return False
    return True
