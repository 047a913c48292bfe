"""One step of ``enrich``: a slice of one partition in, effects out.

Invariants:
1. Pure and deterministic: the effects are a function of the shard's state and the records, and the
   only clock is the log's. The same log cut into other slices gives the same outputs and state.
2. A record at or below ``shard.applied`` is a replay and changes nothing. An id that was seen at
   another offset is a duplicate: dropped, and counted as dropped.
3. A record that can't be read becomes a dead letter; other records are not affected. That is
   decided before the record changes anything.
4. Counts change by the difference between what the message contributes after and before.
5. ``_count`` defines the result. ``_fold_first`` and ``_count_one`` are short cuts for frequent,
   simple cases; tests compare them with ``_count`` and with a recount.
"""

from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any, Final

from schemas.codec import Codec
from schemas.dead_letter import of_record
from schemas.errors import BadInput, DecodeError
from schemas.event import recipient_identity
from schemas.raw_head import Head
from schemas.scopes import scoped_key
from schemas.topics import RAW
from schemas.versions import REVISION_EPOCH_SHIFT
from streams.enrich import derive, suppressions
from streams.enrich.admission import NEWEST_MS, check_large, is_large
from streams.enrich.assess import assess, judged_alone
from streams.enrich.contributions import (
    ATTEMPT_SENT,
    DELIVERED,
    EVENTS,
    SHIFT,
    UNIDENTIFIED,
    added_by,
    contributions,
    event_counters,
    placed,
)
from streams.enrich.derive import LookUps, Standing
from streams.enrich.effects import Effects
from streams.enrich.evidence import evidence_of, may_be_first, take_simple
from streams.enrich.joining import join, link_first, outcome_of, resolved
from streams.enrich.message import SEEN_MAX, Message, Owner, Pending
from streams.enrich.message_bytes import pack_first
from streams.enrich.revisions import Before, ConsumedRecord, Item, StepWork, publish, write
from streams.enrich.shard import Shard
from streams.enrich.suppressions import SCOPED, SIGNS, TOLD_BY, Recipient, Sign
from streams.enrich.telling import Addressee, addressee_of, told

__all__ = ["ConsumedRecord", "Effects", "dead_letter", "step"]

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
    aliases = work.aliases
    shard.fetch([item[2] for item in items], _recipient_keys(items), aliases.values())
    known = shard.messages
    for item in items:
        record, head, key, recipient_key, _ = item
        if (
            known[key] is None
            and head["event_type"] in _PLAIN
            and head["campaign_id"]
            and not recipient_key
            and head["recipient_domain"]
            and head["identified"]
            and item[4] == head["occurred_at"]
            and (not aliases or link_first(work, item))
        ):
            shard.advance(record.timestamp // 1000)
            _fold_first(work, item)
        elif record.offset in aliases:
            _fold_aliased(work, item)
        else:
            _fold(work, item)
        shard.applied = record.offset
    if records and records[-1].offset > shard.applied:
        shard.applied = records[-1].offset
    shard.minutes.complete()
    return work.effects


_PLAIN = frozenset(("delivered", "sent", "queued"))
"""First events of these types may take the short cut."""


def _read(work: StepWork, records: Sequence[ConsumedRecord], read: ReadHead | None) -> list[Item]:
    """Decodes records that are new; those that can't be read become dead letters."""
    items: list[Item] = []
    shard, effects = work.shard, work.effects
    applied, watched = shard.applied, shard.watched
    near: set[int] = set()
    head_of, event_time_us = work.codec.raw_head, derive.event_time_us
    bytes_max = work.look_ups.record_bytes_max
    for record in records:
        if record.offset <= applied:
            effects.replayed += 1
            continue
        effects.read += 1
        try:
            value = record.value
            if value is None:
                raise DecodeError("no_value", "the record has no value")
            if record.timestamp > NEWEST_MS:
                raise BadInput("bad_time", "the record's timestamp is after 2100")
            head = read(record) if read is not None else head_of(value)
            if is_large(record.key, value):
                check_large(record.key, value, head, bytes_max)
            at_us, _ = event_time_us(head)
            kind = head["event_type"]
            if kind in _DECODED:
                head.complete()
            recipient_key = b""
            if kind in TOLD_BY or ((watched or near) and kind in SIGNS):
                recipient_key = _recipient_key(head, watched, near)
        except BadInput as error:
            _reject(work, record, error)
            continue
        items.append((record, head, head["unit_key"], recipient_key, at_us))
        if "alias" in head:
            work.aliases[record.offset] = head["alias"]
    return items


_DECODED: Final = TOLD_BY | derive.JUDGED_BOUNCES
"""Types of events of which more than the head is always needed."""


def _reject(work: StepWork, record: ConsumedRecord, error: BadInput) -> None:
    if work.emit:
        work.effects.dead_letters.append(dead_letter(work.shard, record, error))


def _recipient_key(head: Head, watched: set[int], near: set[int]) -> bytes:
    """Key of the state of the recipient or of its scope; empty where the event can't change it.

    Args:
        watched: hashes of the addresses that a sign of life may change.
        near: the same for events before this one in the slice, which are not folded yet.
    """
    if not head["addressed"]:
        return b""
    short = head["address_hash"]
    if head["event_type"] in TOLD_BY:
        near.add(short)
    elif (short not in watched and short not in near) or not _is_readable(head):
        return b""
    return _key_of(addressee_of(head))


def _is_readable(head: Head) -> bool:
    """Whether an event says whose sign of life it is: if not, it is none. Were it refused instead,
    that would depend on ``near``, and so on how the log is cut into slices."""
    try:
        head.complete()
    except DecodeError:
        return False
    return True


def _key_of(whom: Addressee) -> bytes:
    """Key of the state of an address or of one of its scopes."""
    text = scoped_key(*whom) if whom.scope else whom.identity
    return blake2b(text.encode("utf-8", "replace"), digest_size=16).digest()


def _recipient_keys(items: Sequence[Item]) -> list[bytes]:
    """Keys of all recipients whose state may be needed: of a scope, also its address's."""
    keys = []
    for _, head, _, recipient_key, _ in items:
        if recipient_key:
            keys.append(recipient_key)
            if head["event_type"] in SCOPED and head["suppression_scope"]:
                keys.append(_key_of(Addressee(recipient_identity(head))))
    return keys


def dead_letter(shard: Shard, record: ConsumedRecord, error: BadInput) -> dict[str, Any]:
    """The ``dead_letter`` record of a raw record that can't be read."""
    return of_record(
        "enrich", RAW, shard.partition, record.offset,
        key=record.key, value=record.value, timestamp_ms=min(record.timestamp, NEWEST_MS),
        reason=error.reason, detail=error.detail, log_id=shard.log_id,
    )  # fmt: skip


def _fold_first(work: StepWork, item: Item) -> None:
    """A message's first event, when it is not judged: no ``Message`` is needed."""
    record, head, key, _, at_us = item
    shard = work.shard
    campaign, kind = head["campaign_id"], head["event_type"]
    provider = derive.mailbox_of(head, work.look_ups)
    mailbox = derive.group_of(provider)
    delivered = kind == "delivered"
    shard.messages[key] = pack_first(
        shard.log_time, campaign, mailbox, shard.log_time + work.look_ups.correction_s,
        identity=head["event_hash"], offset=record.offset, at_us=at_us, event_type=kind,
    )  # fmt: skip
    shard.touched.add(key)
    vector = shard.minutes.vector((campaign, mailbox, at_us // 60_000_000))
    vector[EVENTS] += 1
    if delivered:
        vector[DELIVERED] += 1
        vector[ATTEMPT_SENT] += 1
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
    expired = message.is_expired(log_time, work.look_ups.message_ttl_s)
    identity = head["event_hash"]
    bounce = derive.bounce_of(head)
    event = evidence_of(work, item, identity, bounce[0])
    # A rebuild tells nobody, and all it reads could be decoded when it was folded first.
    is_first = (
        work.emit
        and event.actor == "human"
        and (expired or may_be_first(message, event, work.look_ups.rules))
    )
    if is_first and not _completed(work, item):
        return
    if expired:
        message = shard.begin_anew(key)
    if identity in message.seen:
        # No effect, not even on log time: a restore reads no duplicates.
        work.effects.duplicates += 1
        return
    shard.advance(log_time)
    if work.aliases:
        join(work, item)
    message.seen.append(identity)
    if len(message.seen) > SEEN_MAX:
        del message.seen[0]
    shard.touched.add(key)
    message.touched = log_time
    if not head["identified"]:
        _count_unidentified(work, item, message, event, bounce)
    else:
        message.settle(log_time)
        if not message.pending:
            message.due = log_time + work.look_ups.correction_s
        if event.actor != "none":
            simple = take_simple(message, event, work.look_ups.rules)
            if simple is not None:
                _count_one(work, item, message, *simple)
                if recipient_key:
                    _suppress(work, item, message, derive.NO_BOUNCE)
                return
        _count(work, item, message, event, bounce)
    if recipient_key:
        _suppress(work, item, message, bounce)


def _fold_aliased(work: StepWork, item: Item) -> None:
    """The same for an event whose message has an alias; it may move others to its message."""
    its, engagement = resolved(work, item), work.effects.engagement
    if its is None:
        work.effects.duplicates += 1
        return
    begin = len(engagement)
    _fold(work, its)
    if len(engagement) > begin + 1:
        engagement[begin:] = outcome_of(engagement[begin:])


def _completed(work: StepWork, item: Item) -> bool:
    """Decodes an event that may be told as engagement, which holds more than the head."""
    record, head, _, _, _ = item
    try:
        head.complete()
    except DecodeError as error:
        _reject(work, record, error)
        return False
    return True


def _count_unidentified(
    work: StepWork, item: Item, message: Message, event: Pending, bounce: tuple[str, str]
) -> None:
    """Counts an event that can't be told per message: it is the first of nothing."""
    record, head, key, _, _ = item
    event = judged_alone(event, 0, work.look_ups.rules)
    owner = head["campaign_id"] or "", _mailbox(work, head)
    items = [
        *event_counters(event),
        event.at // 60 << SHIFT | UNIDENTIFIED,
    ]
    work.shard.minutes.add(*owner, items, 1)
    if work.emit:
        standing = Standing(head["campaign_id"] or None, 0)
        write(work, record, head, key, standing, event, bounce)


def _mailbox(work: StepWork, head: Head) -> str:
    """Group of the recipient's mailbox provider; '' while its domain is unknown."""
    if not head["recipient_domain"]:
        return ""
    return derive.group_of(derive.mailbox_of(head, work.look_ups))


def _count_one(work: StepWork, item: Item, message: Message, event: Pending, fresh: int) -> None:
    """Counts and writes an open or click that changes no other event."""
    record, head, key, _, _ = item
    flow, of_cohort = added_by(message, event, fresh)
    minutes, owner, minute = work.shard.minutes, message.owner, event.at // 60
    if of_cohort:
        where, delivered = message.delivered_owner or owner, message.delivered_at // 60
        if delivered == minute and where == owner:
            flow += of_cohort
        else:
            minutes.count(*where, delivered, of_cohort)
    minutes.count(*owner, minute, flow)
    if work.emit:
        write(work, record, head, key, Standing.of(message), event, derive.NO_BOUNCE)


def _count(
    work: StepWork, item: Item, message: Message, event: Pending, bounce: tuple[str, str]
) -> None:
    """Counts and writes an event, and corrects what it changes of earlier ones."""
    _, head, _, _, _ = item
    before, items = Before.of(message), contributions(message)
    owners = message.owner, message.delivered_owner
    message.pending.append(event)
    if not message.mailbox:
        message.mailbox = _mailbox(work, head)
    assess(message, work.look_ups.rules)
    _recount(work, owners, items, (message.owner, message.delivered_owner), contributions(message))
    publish(work, item, message, message.pending[-1], bounce, before)


Owners = tuple[Owner, Owner | None]


def _recount(
    work: StepWork, before: Owners, items: list[int], now: Owners, after: list[int]
) -> None:
    """Changes the counts by what the message contributes now and contributed before."""
    minutes = work.shard.minutes
    removed = items
    if before == now:
        removed = []
        for item in items:
            try:
                after.remove(item)
            except ValueError:
                removed.append(item)
    for owner, some in placed(*before, removed):
        minutes.add(*owner, some, -1)
    for owner, some in placed(*now, after):
        minutes.add(*owner, some, 1)


def _suppress(work: StepWork, item: Item, message: Message, bounce: tuple[str, str]) -> None:
    """Takes what the event says of its recipient, and tells what holds now if that changed."""
    record, head, _, _, _ = item
    shard = work.shard
    concerned = _concerned(work, item)
    if concerned is None:
        return
    whom, recipient_key = concerned
    recipient, now = shard.recipients[recipient_key], shard.log_time
    suppressions.in_log(recipient, shard.log_tag)
    suppressions.expire(recipient, now)
    sign = Sign(
        head["event_type"], bounce, head["bounce_reason"], derive.happened_us(head) // 1_000_000,
        record.offset,
        _short_unit(head), _read_of(head["event_type"], message),
    )  # fmt: skip
    suppressions.take(recipient, sign, now)
    telling = suppressions.tell(recipient)
    if recipient.dirty:
        _touch(shard, recipient_key, recipient, head)
    if telling is not None and work.emit:
        work.effects.suppressions.append(
            told(
                whom, head, telling, work.look_ups, campaign=message.campaign, log_id=shard.log_id,
                partition=shard.partition, offset=record.offset, timestamp=record.timestamp,
            )
        )  # fmt: skip


def _short_unit(head: Head) -> int:
    """32 bits of message and recipient, the same whether an event has both ids or the alias alone.

    Whatever the alias stands for: what soft bounces suppress does not depend on their order.
    """
    if "alias" in head:
        return int(head["alias"] & 0xFFFF_FFFF)
    return int.from_bytes(head["unit_key"][:4], "big")


def _concerned(work: StepWork, item: Item) -> tuple[Addressee, bytes] | None:
    """Whom an event concerns, and the key of that state; ``None``: nobody.

    A scope that is new counts for its address; beyond the limit the address stands in for it.
    """
    _, head, _, recipient_key, _ = item
    recipients, whom = work.shard.recipients, addressee_of(head)
    if not whom.scope or recipients[recipient_key].cases:
        return whom, recipient_key
    all_mail = Addressee(whom.identity)
    address_key = _key_of(all_mail)
    address = recipients[address_key]
    if address.scopes < suppressions.SCOPES_MAX:
        address.scopes += 1
        _touch(work.shard, address_key, address, head)
        return whom, recipient_key
    work.effects.scopes_beyond += 1
    return (all_mail, address_key) if suppressions.suppresses(head["event_type"]) else None


def _touch(shard: Shard, key: bytes, recipient: Recipient, head: Head) -> None:
    """A checkpoint must store the recipient's state."""
    recipient.dirty = True
    shard.touched_recipients[key] = recipient
    recipient.address = head["address_hash"]
    if suppressions.is_watched(recipient, shard.log_time):
        shard.watch(recipient.address)


def _read_of(kind: str, message: Message) -> int:
    """When a message was delivered that was opened or clicked, by anyone; 0 for others.

    Whatever the rules of verdicts say: suppressions do not depend on them.
    """
    if kind not in SIGNS:
        return 0
    was_read = (
        kind != "delivered"
        or message.opened_any_at
        or message.clicked_any_at
        or any(event.actor != "none" for event in message.pending)
    )
    return message.delivered_at if was_read else 0
