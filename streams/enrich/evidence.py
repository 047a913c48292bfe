"""What an event says by itself, and the short cut for an open or click that changes nothing else.

Invariants:
1. Pure; the rules are those of ``streams.classify``.
2. ``take_simple`` may refuse an event that is simple. It never accepts one for which
   ``streams.enrich.assess`` would give another result; a property test compares them.
"""

from streams.classify import actors
from streams.classify.actor_rules import Rules
from streams.enrich import derive
from streams.enrich.assess import evidence, judged_alone
from streams.enrich.message import (
    BY_TIME,
    CLASSES,
    FIXED,
    FOR_SURE,
    HUMAN_FOR_SURE,
    Message,
    Pending,
)
from streams.enrich.revisions import Item, StepWork

_OPENED_ANY, _OPENED = FIXED["opened_any_at"], FIXED["opened_at"]
_CLICKED_ANY, _CLICKED = FIXED["clicked_any_at"], FIXED["clicked_at"]
_CLASS_INDEX = {name: index for index, name in enumerate(CLASSES)}


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
            kind, head["machine_kind"], user_agent, head["ip"], work.look_ups.rules
        )
        if verdict is None:
            actor, alone = "human", BY_TIME
        else:
            actor, reason = verdict
            alone = HUMAN_FOR_SURE if actor == "human" else FOR_SURE
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
    return judged_alone(event, message.delivered_us, rules).actor == "human"


def take_simple(message: Message, event: Pending, rules: Rules) -> Pending | None:
    """Adds an open or click to its message, if it leaves all that was told of that as it is.

    Returns:
        The event as ``assess`` would judge and mark it; ``None``: it is not simple, and the message
        is as it was.
    """
    campaign = message.campaign
    if campaign is None or not message.mailbox:
        return None
    if event.campaign is not None and event.campaign != campaign:
        return None
    at, fixed, opened = event.at, message.fixed, event.event_type == "opened"
    # One that happened before a first, or in the same second, may take its place.
    if opened:
        if at <= message.opened_any_at and not fixed & _OPENED_ANY:
            return None
        if at <= message.opened_at and not fixed & _OPENED:
            return None
    elif not event.unsubscribe:
        if at <= message.clicked_any_at and not fixed & _CLICKED_ANY:
            return None
        if at <= message.clicked_at and not fixed & _CLICKED:
            return None
    pending = message.pending
    delivered_us = message.delivered_us
    judged = judged_alone(event, delivered_us, rules)
    may_correct = pending and (not opened or _has_click(pending))
    if may_correct and not _leaves_verdicts(pending, judged, delivered_us, rules):
        return None
    judged = _marked(message, judged)
    pending.append(judged)
    return judged


def _marked(message: Message, event: Pending) -> Pending:
    """The event with its marks; the message's times follow."""
    is_human = event.actor == "human"
    first = human = False
    if event.event_type == "opened":
        if not message.opened_any_at:
            first, message.opened_any_at = True, event.at
        if is_human and not message.opened_at:
            human, message.opened_at = True, event.at
    elif not event.unsubscribe:
        if not message.clicked_any_at:
            first, message.clicked_any_at = True, event.at
        if is_human and not message.clicked_at:
            human, message.clicked_at = True, event.at
    return event.marked(first=first, human=human) if first or human else event


def _has_click(pending: list[Pending]) -> bool:
    for event in pending:
        if event.event_type == "clicked":
            return True
    return False


def _leaves_verdicts(
    pending: list[Pending], event: Pending, delivered_us: int, rules: Rules
) -> bool:
    """Whether the opens and clicks, judged together with the event, stay as they were judged."""
    together = [event]
    bases = [evidence(event)]
    for told in pending:
        if told.actor != "none":
            base = told if told.alone == FOR_SURE else judged_alone(told, delivered_us, rules)
            together.append(told)
            bases.append(evidence(base))
    changes = {index: (actor, reason) for index, actor, reason in actors.rejudge(bases, rules)}
    if 0 in changes:
        return False
    for index, told in enumerate(together):
        actor, reason = changes.get(index, (bases[index].actor, bases[index].reason))
        if actor != told.actor or reason != told.reason:
            return False
    return True
