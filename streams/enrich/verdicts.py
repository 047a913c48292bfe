"""Judges opens and clicks, alone and together with the other events of their message.

Invariants:
1. Pure; the rules are those of ``streams.classify.actors``.
2. Nothing is counted or written here, only judged.
"""

from streams.classify import actors
from streams.classify.actors import Evidence
from streams.enrich import derive
from streams.enrich.message import Message, Pending
from streams.enrich.revisions import Item, StepWork


def judge(work: StepWork, item: Item, message: Message) -> Pending:
    """An open or click as judged by itself; it is not stored in the message yet."""
    record, head, _, _, at_us = item
    kind, agent, url = head["event_type"], head["user_agent"], head["click_url"]
    delivered = message.delivered_at
    rules = work.look_ups.rules
    actor, reason = actors.verdict_alone(
        kind, head["machine_kind"], agent, head["ip"],
        at_us / 1e6 - delivered if delivered else None, rules,
    )  # fmt: skip
    unsubscribe = kind == "clicked" and actors.is_unsubscribe_link(url)
    if kind == "opened":
        first = not message.opened_any_at
    else:
        first = not message.clicked_any_at and not unsubscribe
    return Pending(
        record.offset, _settles_at(work, message), kind, at_us // 1_000_000, at_us, actor, reason,
        derive.text_hash(url), derive.text_hash(agent), unsubscribe, first, 0, record.value or b"",
    )  # fmt: skip


def plain(work: StepWork, item: Item, message: Message) -> Pending:
    """Any other event as a ``Pending``; ``step`` sets later whether it is a first."""
    record, head, _, _, at_us = item
    return Pending(
        record.offset, _settles_at(work, message), head["event_type"], at_us // 1_000_000, at_us,
        "none", "", 0, 0, False, False, 0, record.value or b"",
    )  # fmt: skip


def _settles_at(work: StepWork, message: Message) -> int:
    wait = work.look_ups.settle_s if message.campaign is not None else work.look_ups.attribute_s
    return work.shard.log_time + wait


def corrects(work: StepWork, message: Message, event: Pending) -> bool:
    """Whether an open or click changes a verdict, its own or that of a pending event."""
    pending = message.pending
    if not pending or (event.event_type == "opened" and not _has_click(pending)):
        return False
    evidence = [
        Evidence(e.event_type, e.at_us, e.actor, e.reason, e.link, e.agent)
        for e in (*pending, event)
        if e.actor != "none"
    ]
    return bool(actors.rejudge(evidence, work.look_ups.rules))


def _has_click(pending: list[Pending]) -> bool:
    for event in pending:
        if event.event_type == "clicked":
            return True
    return False


def rejudge(work: StepWork, message: Message, event: Pending) -> frozenset[int]:
    """Judges the pending opens and clicks again after ``event``.

    Returns:
        Offsets of those whose verdict changed.
    """
    changed: set[int] = set()
    if event.event_type == "delivered" and event.first:
        _judge_by_delivery(work, message, changed)
    if event.actor == "none" and not changed:
        return frozenset()
    positions = [i for i, other in enumerate(message.pending) if other.actor != "none"]
    evidence = [
        Evidence(e.event_type, e.at_us, e.actor, e.reason, e.link, e.agent)
        for e in (message.pending[i] for i in positions)
    ]
    for index, actor, reason in actors.rejudge(evidence, work.look_ups.rules):
        position = positions[index]
        judged = message.pending[position]
        message.pending[position] = judged._replace(actor=actor, reason=reason)
        changed.add(judged.offset)
    return frozenset(changed)


def _judge_by_delivery(work: StepWork, message: Message, changed: set[int]) -> None:
    """Judges opens and clicks that were logged before the delivery, by the time since it."""
    for position, event in enumerate(message.pending):
        if event.actor != "human":
            continue
        head = work.codec.raw_head(event.raw)
        actor, reason = actors.verdict_alone(
            event.event_type, head["machine_kind"], head["user_agent"], head["ip"],
            event.at_us / 1e6 - message.delivered_at, work.look_ups.rules,
        )  # fmt: skip
        if actor != "human":
            message.pending[position] = event._replace(actor=actor, reason=reason)
            changed.add(event.offset)
