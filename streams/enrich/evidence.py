"""What an event says by itself, and the short cut for an open or click that changes nothing else.

Invariants:
1. Pure; the rules are those of ``streams.classify``.
2. ``take_simple`` may refuse an event that is simple. It never accepts one for which
   ``streams.enrich.assess`` would give another result; a property test compares them.
"""

from streams.classify import actors
from streams.classify.actor_rules import Rules
from streams.enrich import derive
from streams.enrich.assess import evidence, has_click, verdict_alone
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
    return verdict_alone(event, message.delivered_us, rules)[0] == "human"


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
    verdict = verdict_alone(event, message.delivered_us, rules)
    pending = message.pending
    may_correct = pending and (not opened or has_click(pending))
    if may_correct and not _leaves_verdicts(message, event, verdict, rules):
        return None
    event = _told(message, event, *verdict)
    pending.append(event)
    return event


def _told(message: Message, event: Pending, actor: str, reason: str) -> Pending:
    """The event with its verdict and its marks; the message's times follow."""
    is_human = actor == "human"
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
    if first or human or actor != event.actor or reason != event.reason:
        return event.told(actor, reason, first=first, human=human)
    return event


def _leaves_verdicts(
    message: Message, event: Pending, verdict: tuple[str, str], rules: Rules
) -> bool:
    """Whether the opens and clicks, judged together with the event, stay as they were judged.

    Args:
        verdict: of the event alone.
    """
    told = [one for one in message.pending if one.actor != "none"]
    if not told:
        return True  # a burst takes two clicks at least
    alone = [verdict, *[verdict_alone(one, message.delivered_us, rules) for one in told]]
    bases = [evidence(one, *by) for one, by in zip((event, *told), alone, strict=True)]
    together = alone[:]
    for index, actor, reason in actors.rejudge(bases, rules):
        together[index] = (actor, reason)
    return together == [verdict, *[(one.actor, one.reason) for one in told]]
