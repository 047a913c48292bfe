"""One step of ``enrich``: a slice of one partition in, effects out.

Invariants:
1. Pure and deterministic: the effects are a function of the shard's state and the records, and the
   only clock is the log's. The same log cut into other slices gives the same outputs and state.
2. A record at or below ``shard.applied`` is a replay and changes nothing. An id that was seen at
   another offset is a duplicate: dropped, and counted as dropped.
3. A record that can't be read becomes a dead letter; other records are not affected.
4. Counts change by the difference between what the message contributes after and before.
5. ``_fold`` defines the result. ``_fold_first`` and ``_count_one`` are short cuts for frequent,
   simple cases; tests compare them with ``_fold`` and with a recount.
"""

from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any

from schemas.codec import Codec
from schemas.dead_letter import of_record
from schemas.errors import BadInput, DecodeError
from schemas.topics import RAW
from schemas.versions import REVISION_EPOCH_SHIFT
from streams.enrich import derive, suppressions
from streams.enrich.derive import Head, LookUps
from streams.enrich.message import (
    CLASSES,
    DELIVERED,
    EVENTS,
    SEEN_MAX,
    Message,
    Pending,
    contributions,
    event_counters,
    open_or_click_counters,
)
from streams.enrich.message_bytes import pack_first
from streams.enrich.revisions import (
    NONE_FIRST,
    ConsumedRecord,
    Effects,
    Item,
    StepWork,
    first_offsets,
    publish,
    write,
)
from streams.enrich.shard import Shard
from streams.enrich.suppressions import LIFT, address_hash
from streams.enrich.verdicts import corrects, judge, plain, rejudge

__all__ = ["ConsumedRecord", "Effects", "dead_letter", "event_hash", "step"]

ReadHead = Callable[[Any], Head]


def step(
    shard: Shard,
    records: Sequence[ConsumedRecord],
    look_ups: LookUps,
    codec: Codec,
    *,
    emit: bool = True,
    read: ReadHead | None = None,
) -> Effects:
    """Folds ``records`` (one partition, ascending offsets) into ``shard``.

    Args:
        emit: False while state is rebuilt: the same fold, but no outputs.
        read: gives a record's head if it is decoded already; default: decode its value.

    Returns:
        Outputs to write before the shard's ``applied`` may be committed.
    """
    work = StepWork(shard, look_ups, codec, emit=emit)
    items = _read(work, records, read)
    shard.fetch([item[2] for item in items], [item[3] for item in items if item[3]])
    known = shard.messages
    for item in items:
        record, head, key, recipient_key, _ = item
        if (
            known[key] is None
            and head["event_type"] in _PLAIN
            and head["campaign_id"]
            and not recipient_key
        ):
            shard.advance(record.timestamp // 1000)
            _fold_first(work, item)
        else:
            _fold(work, item)
        shard.applied = record.offset
    if records and records[-1].offset > shard.applied:
        shard.applied = records[-1].offset
    shard.minutes.complete()
    return work.effects


_PLAIN = frozenset(("delivered", "sent", "queued"))
"""No later event changes one of these, once its campaign is known."""
_RECIPIENT_EVENTS = frozenset(("subscribed", "bounced", "complained", "unsubscribed"))


def _read(work: StepWork, records: Sequence[ConsumedRecord], read: ReadHead | None) -> list[Item]:
    """Decodes records that are new; those that can't be read become dead letters."""
    items: list[Item] = []
    shard, effects = work.shard, work.effects
    applied, soft = shard.applied, shard.soft
    near: set[int] = set()
    head_of, unit_key = work.codec.raw_head, derive.unit_key
    event_time_us = derive.event_time_us
    for record in records:
        if record.offset <= applied:
            effects.replayed += 1
            continue
        effects.read += 1
        try:
            if read is not None:
                head = read(record)
            else:
                value = record.value
                if value is None:
                    raise DecodeError("no_value", "the record has no value")
                head = head_of(value)
            at_us, _ = event_time_us(head)
        except BadInput as error:
            if work.emit:
                effects.dead_letters.append(dead_letter(shard, record, error))
            continue
        recipient_key = b""
        kind = head["event_type"]
        if kind in _RECIPIENT_EVENTS or (kind == "delivered" and (soft or near)):
            recipient_key = _recipient_key(head, soft, near)
        items.append((record, head, unit_key(head), recipient_key, at_us))
    return items


def _recipient_key(head: Head, soft: set[int], near: set[int]) -> bytes:
    """Key of the recipient's state; empty where the event can't change it.

    Args:
        soft: hashes of the addresses that a delivery may change.
        near: the same for events before this one in the slice, which are not folded yet.
    """
    if not head["recipient"] or not head["recipient_certain"]:
        return b""
    address = head["recipient"].lower().encode("utf-8", "replace")
    short = address_hash(address)
    if head["event_type"] != "delivered":
        near.add(short)
    elif short not in soft and short not in near:
        return b""
    return blake2b(address, digest_size=16).digest()


def dead_letter(shard: Shard, record: ConsumedRecord, error: BadInput) -> dict[str, Any]:
    """The ``dead_letter`` record of a raw record that can't be read."""
    return of_record(
        "enrich", RAW, shard.partition, record.offset,
        key=record.key, value=record.value, timestamp_ms=record.timestamp,
        reason=error.reason, detail=error.detail, log_id=shard.log_id,
    )  # fmt: skip


def event_hash(event_id: str) -> int:
    """64 bits of an event id, enough to tell the events of one message apart."""
    try:
        value = int(event_id, 16)
        return (value ^ value >> 64) & 0xFFFF_FFFF_FFFF_FFFF
    except ValueError:  # another producer's id
        return int.from_bytes(blake2b(event_id.encode(), digest_size=8).digest(), "big")


def _fold_first(work: StepWork, item: Item) -> None:
    """A message's first event, when nothing later can change it: no ``Message`` is needed."""
    record, head, key, _, at_us = item
    shard = work.shard
    campaign = head["campaign_id"]
    provider = derive.mailbox_of(head, work.look_ups)
    mailbox = derive.group_of(provider)
    at = at_us // 1_000_000
    delivered = head["event_type"] == "delivered"
    shard.messages[key] = pack_first(
        shard.log_time, event_hash(head["event_id"]), campaign, head["campaign_source"], mailbox,
        at if delivered else 0,
    )  # fmt: skip
    shard.touched.add(key)
    vector = shard.minutes.vector((campaign, mailbox, at // 60))
    vector[EVENTS] += 1
    if delivered:
        vector[DELIVERED] += 1
    if work.emit:
        value = derive.plain_value(
            work.frame, work.origin, record.value or b"", head, record.offset, at_us, key,
            provider, first=delivered, revision=work.look_ups.epoch << REVISION_EPOCH_SHIFT,
        )  # fmt: skip
        work.effects.enriched.append((record.key, value, record.timestamp))


def _fold(work: StepWork, item: Item) -> None:
    """One event into its message: counts, verdicts, outputs, corrections."""
    record, head, key, recipient_key, _ = item
    shard = work.shard
    log_time = max(shard.log_time, record.timestamp // 1000)
    message = shard.message(key)
    if message.touched and message.touched + work.look_ups.message_ttl_s < log_time:
        bucket = message.pending_bucket
        message = shard.messages[key] = Message()
        message.pending_bucket = bucket
    identity = event_hash(head["event_id"])
    if identity in message.seen:
        # No effect, not even on log time: a restore reads no duplicates.
        work.effects.duplicates += 1
        return
    shard.advance(log_time)
    message.seen.append(identity)
    if len(message.seen) > SEEN_MAX:
        del message.seen[0]
    if message.pending:
        message.settle(log_time)
    shard.touched.add(key)

    kind = head["event_type"]
    judged = kind == "opened" or kind == "clicked"
    if judged and message.touched and message.campaign is not None and message.mailbox:
        event = judge(work, item, message)
        if not corrects(work, message, event):
            message.touched = log_time
            _count_one(work, item, message, event)
            return
    before = contributions(message) if message.touched else []
    owner = (message.campaign or "", message.mailbox)
    first_before = first_offsets(message) if message.pending else NONE_FIRST
    message.touched = log_time
    learned = _learn(work, message, head)
    bounce = derive.bounce_of(head)
    event = judge(work, item, message) if judged else plain(work, item, message)
    event = _apply(message, event, bounce[0])
    changed: frozenset[int] = frozenset()
    if len(message.pending) > 1 or (message.pending and event.actor == "none"):
        changed = rejudge(work, message, event)
    _count(work, message, owner, before, event)
    if recipient_key:
        _suppress(work, item, message, bounce)
    publish(work, record, head, key, message, event, bounce, changed, first_before, learned=learned)
    if learned:
        # Only opens and clicks can still change: the other events have their campaign now.
        message.pending = [p for p in message.pending if p.actor != "none"]


def _learn(work: StepWork, message: Message, head: Head) -> bool:
    """Takes campaign and mailbox provider from the event, if the message has none yet.

    Returns:
        Whether earlier events of the message waited for this campaign.
    """
    if not message.mailbox and head["recipient_domain"]:
        message.mailbox = derive.group_of(derive.mailbox_of(head, work.look_ups))
    if message.campaign is None and head["campaign_id"]:
        message.campaign = head["campaign_id"]
        message.campaign_source = head["campaign_source"]
        return bool(message.pending)
    return False


def _count_one(work: StepWork, item: Item, message: Message, event: Pending) -> None:
    """Counts and writes an open or click that changes no other event."""
    record, head, key, _, _ = item
    kind, at = event.event_type, event.at
    first_human = event.actor == "human" and not event.unsubscribe and not message.knows_human(kind)
    message.pending.append(event)
    if event.first:
        if kind == "opened":
            message.opened_any_at = at
        else:
            message.clicked_any_at = at
    work.shard.minutes.add(
        message.campaign or "", message.mailbox,
        open_or_click_counters(event, message.delivered_at, first_human=first_human), 1,
    )  # fmt: skip
    if work.emit:
        first_now = (event.offset, event.offset) if first_human else NONE_FIRST
        write(work, record, head, key, message, event, derive.NO_BOUNCE, None, first_now)


def _apply(message: Message, event: Pending, bounce_class: str) -> Pending:
    """Puts the event into the message's summary, or among its pending events.

    Returns:
        The event with ``first`` set, whether it is kept as a pending one or not.
    """
    if event.actor == "none":
        event = event._replace(first=_summarise(message, event.event_type, event.at, bounce_class))
    elif event.first:
        if event.event_type == "opened":
            message.opened_any_at = event.at
        else:
            message.clicked_any_at = event.at
    if event.actor != "none" or message.campaign is None:
        message.pending.append(event)
    return event


_ONCE = {
    "delivered": "delivered_at",
    "complained": "complained_at",
    "unsubscribed": "unsubscribed_at",
}


def _summarise(message: Message, event_type: str, at: int, bounce_class: str) -> bool:
    """Notes an event that is neither open nor click.

    Returns:
        Whether it is the first of its kind for the message.
    """
    if event_type in ("bounced", "rejected", "failed"):
        if bounce_class == "suppressed":
            return _note(message, "suppressed_at", at)
        if event_type != "bounced":
            return _note(message, "rejected_at", at)
        first = not message.bounced_at
        severity = CLASSES.index(bounce_class)
        overtaken = message.bounced_at < message.delivered_at
        if first or overtaken or severity > message.bounce_class:
            message.bounced_at, message.bounce_class = at, severity
        return first
    name = _ONCE.get(event_type)
    return _note(message, name, at) if name else False


def _note(message: Message, name: str, at: int) -> bool:
    if getattr(message, name):
        return False
    setattr(message, name, at)
    return True


def _count(
    work: StepWork, message: Message, owner: tuple[str, str], before: list[int], event: Pending
) -> None:
    """Changes the counts by what the message contributes now and contributed before."""
    after = contributions(message)
    if event.actor == "none" and not (message.pending and message.pending[-1] is event):
        after += event_counters(event.event_type, event.at, "none", unsubscribe=False)
    now = (message.campaign or "", message.mailbox)
    minutes = work.shard.minutes
    if before and now == owner:
        for item in before:
            try:
                after.remove(item)
            except ValueError:
                minutes.add(*owner, (item,), -1)
    else:
        minutes.add(*owner, before, -1)
    minutes.add(*now, after, 1)


def _suppress(work: StepWork, item: Item, message: Message, bounce: tuple[str, str]) -> None:
    record, head, _, recipient_key, at_us = item
    shard = work.shard
    recipient = shard.recipients[recipient_key]
    suppressions.expire(recipient, shard.log_time)
    reason = suppressions.apply(recipient, head["event_type"], bounce, at_us // 1_000_000)
    if recipient.dirty:
        shard.touched_recipients[recipient_key] = recipient
        address = address_hash(head["recipient"].lower().encode("utf-8", "replace"))
        recipient.address = address
        if suppressions.is_soft(recipient):
            shard.note_soft(address)
    if not reason or not work.emit:
        return
    suppression = None
    if reason == LIFT:
        work.effects.lifts.append((record.offset, record.timestamp))
    else:
        suppression = derive.suppression(
            head, reason, at_us, work.look_ups, campaign=message.campaign, log_id=shard.log_id,
            partition=shard.partition, offset=record.offset,
        )  # fmt: skip
    work.effects.suppressions.append((head["recipient"].lower(), suppression))
