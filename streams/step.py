"""One step of ``enrich``: a slice of one partition in, effects out. The heart of mailpulse.

Laws of this file:
1. Pure and deterministic: the effects are a function of the shard's state and the records; no
   clock but the log's. The same log cut into other slices gives the same outputs and state.
2. A record at or below ``shard.applied`` is a replay and changes nothing. An id that was seen at
   another offset is a duplicate: dropped and counted as dropped.
3. A record that can't be read becomes a dead letter; its neighbours go through.
4. Counts move by difference: what the message contributes after, minus what it did before.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Protocol

from schemas.codec import Codec
from schemas.errors import BadInput, DecodeError
from streams import enrich, machine, recipients
from streams.enrich import Head, LookUps
from streams.machine import Evidence
from streams.message import CLASSES, SEEN_MAX, Message, Pending, contributions, event_counters
from streams.minutes import Key, add
from streams.recipients import LIFT
from streams.shard import Shard


class Record(Protocol):
    """What a step needs of a consumed Kafka record (aiokafka's ``ConsumerRecord`` has it)."""

    @property
    def offset(self) -> int: ...  # noqa: D102 — see aiokafka
    @property
    def timestamp(self) -> int: ...  # noqa: D102
    @property
    def key(self) -> bytes | None: ...  # noqa: D102
    @property
    def value(self) -> bytes | None: ...  # noqa: D102


@dataclass(slots=True)
class Enriched:
    """One enriched record to write to the partition that the raw record came from."""

    key: bytes | None
    timestamp: int
    raw: bytes
    enrichment: dict[str, Any]
    event_id: str
    event_type: str


@dataclass(slots=True)
class Effects:
    """What a step asks the shell to do, in order within each list."""

    enriched: list[Enriched] = field(default_factory=list)
    suppressions: list[tuple[str, dict[str, Any] | None]] = field(default_factory=list)
    engagement: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    dead_letters: list[dict[str, Any]] = field(default_factory=list)
    read: int = 0
    replayed: int = 0
    duplicates: int = 0
    corrected: int = 0


@dataclass(slots=True)
class _Item:
    record: Record
    head: Head
    key: bytes
    recipient_key: bytes
    at_us: int


@dataclass(slots=True)
class _Step:
    """What every part of a step needs at hand."""

    shard: Shard
    effects: Effects
    deltas: dict[Key, list[int]]
    look_ups: LookUps
    decode: Callable[[bytes], Head]
    read: Callable[[Any], Head]
    emit: bool


def step(
    shard: Shard,
    records: Sequence[Record],
    look_ups: LookUps,
    codec: Codec,
    *,
    emit: bool = True,
    read: Callable[[Any], Head] | None = None,
) -> Effects:
    """Folds ``records`` (one partition, ascending offsets) into ``shard``.

    Args:
        emit: False while state is rebuilt: the same fold, but no outputs.
        read: gives a record's head where it is decoded already; default: from its value.

    Returns:
        Outputs to write before the shard's ``applied`` may be committed.
    """

    def decode(raw: bytes) -> Head:
        return codec.decode(raw, "raw_event")

    def from_value(record: Record) -> Head:
        if record.value is None:
            raise DecodeError("no_value", "the record has no value")
        return decode(record.value)

    work = _Step(shard, Effects(), {}, look_ups, decode, read or from_value, emit)
    items = _read(work, records)
    shard.fetch(
        [item.key for item in items], [item.recipient_key for item in items if item.recipient_key]
    )
    for item in items:
        timestamp = item.record.timestamp // 1000
        if timestamp > shard.log_time:
            shard.log_time = timestamp
        _fold(work, item)
        shard.applied = item.record.offset
    if records and records[-1].offset > shard.applied:
        shard.applied = records[-1].offset
    shard.minutes.apply(work.deltas)
    return work.effects


_RECIPIENT_EVENTS = frozenset(("delivered", "subscribed", "bounced", "complained", "unsubscribed"))


def _read(work: _Step, records: Sequence[Record]) -> list[_Item]:
    """Decodes what is new; what can't be read becomes a dead letter."""
    items = []
    applied = work.shard.applied
    effects = work.effects
    for record in records:
        if record.offset <= applied:
            effects.replayed += 1
            continue
        effects.read += 1
        try:
            head = work.read(record)
            at_us, _ = enrich.event_time_us(head)
        except BadInput as error:
            if work.emit:
                effects.dead_letters.append(dead_letter(work.shard, record, error))
            continue
        recipient_key = b""
        if head["recipient"] and head["event_type"] in _RECIPIENT_EVENTS:
            if head["recipient_certain"]:
                recipient_key = blake2b(
                    head["recipient"].lower().encode("utf-8", "replace"), digest_size=16
                ).digest()
        items.append(_Item(record, head, enrich.unit_key(head), recipient_key, at_us))
    return items


def dead_letter(shard: Shard, record: Record, error: BadInput) -> dict[str, Any]:
    """The ``dead_letter`` record of a raw record that can't be read."""
    identity = f"enrich\x1f{shard.log_id}\x1f{shard.partition}\x1f{record.offset}"
    return {
        "dead_letter_id": blake2b(identity.encode(), digest_size=16).hexdigest(),
        "stage": "enrich",
        "reason": error.reason,
        "detail": error.detail,
        "occurred_at": record.timestamp * 1000,
        "source": None,
        "provider": None,
        "topic": "email.events.raw.v1",
        "log_id": shard.log_id,
        "partition": shard.partition,
        "offset": record.offset,
        "key": record.key,
        "headers": {},
        "content": record.value or b"",
    }


def event_hash(event_id: str) -> int:
    """64 bits of an event id: enough to tell apart the events of one message."""
    try:
        value = int(event_id, 16)
        return (value ^ value >> 64) & 0xFFFF_FFFF_FFFF_FFFF
    except ValueError:  # another producer's id
        return int.from_bytes(blake2b(event_id.encode(), digest_size=8).digest(), "big")


def _fold(work: _Step, item: _Item) -> None:
    """One event into its message: counts, verdicts, outputs, corrections."""
    shard, head = work.shard, item.head
    message = shard.messages[item.key]
    if message.touched and message.touched + work.look_ups.message_ttl_s < shard.log_time:
        saved = message.pending_saved
        message = shard.messages[item.key] = Message()
        message.pending_saved = saved
    identity = event_hash(head["event_id"])
    if identity in message.seen:
        work.effects.duplicates += 1
        return
    message.seen.append(identity)
    if len(message.seen) > SEEN_MAX:
        del message.seen[0]
    if message.pending:
        message.settle(shard.log_time)
    before = contributions(message) if message.touched else []
    owner = (message.campaign or "", message.mailbox)
    first_before = _first_offsets(message) if message.pending else _NONE_FIRST
    message.touched = shard.log_time
    shard.touched_messages[item.key] = message

    learned = _learn(work, message, head)
    bounce = enrich.bounce_of(head)
    event = _apply(work, item, message, bounce)
    changed: frozenset[int] = frozenset()
    if len(message.pending) > 1 or (message.pending and event.actor == "none"):
        changed = _rejudge(work, message, event)
    _count(work, message, owner, before, event)
    if item.recipient_key:
        _suppress(work, item, message, bounce)
    _publish(work, item, message, event, bounce, changed, first_before, learned=learned)
    if learned:
        # Only opens and clicks can still change: the others have found their campaign.
        message.pending = [p for p in message.pending if p.actor != "none"]


def _learn(work: _Step, message: Message, head: Head) -> bool:
    """Takes campaign and mailbox provider from the event, if the message has none yet.

    Returns:
        Whether earlier events of the message waited for this campaign.
    """
    if not message.mailbox and head["recipient_domain"]:
        message.mailbox = enrich.mailbox_group(head, work.look_ups)
    if message.campaign is None and head["campaign_id"]:
        message.campaign = head["campaign_id"]
        message.campaign_source = head["campaign_source"]
        return bool(message.pending)
    return False


def _apply(work: _Step, item: _Item, message: Message, bounce: tuple[str, str]) -> Pending:
    """Puts the event into the message's summary, or among its pending events.

    Returns:
        The event in the shape of a pending one, whether it is kept as one or not.
    """
    head, at = item.head, item.at_us // 1_000_000
    event_type = head["event_type"]
    actor, reason, link, agent, unsubscribe = "none", "", 0, 0, False
    settles_at = work.shard.log_time + work.look_ups.settle_s
    if event_type == "opened" or event_type == "clicked":
        since = item.at_us / 1e6 - message.delivered_at if message.delivered_at else None
        actor, reason = machine.verdict_alone(
            event_type, head["machine_kind"], head["user_agent"], head["ip"], since,
            work.look_ups.rules,
        )  # fmt: skip
        link, agent = enrich.text_hash(head["click_url"]), enrich.text_hash(head["user_agent"])
        unsubscribe = event_type == "clicked" and machine.is_unsubscribe_link(head["click_url"])
        first = _first_any(message, event_type, at, unsubscribe)
    else:
        first = _summarise(message, event_type, at, bounce[0])
    if message.campaign is None:
        settles_at = work.shard.log_time + work.look_ups.attribute_s
    event = Pending(
        item.record.offset, settles_at, event_type, at, item.at_us, actor, reason, link, agent,
        unsubscribe, first, 0, item.record.value or b"",
    )  # fmt: skip
    if actor != "none" or message.campaign is None:
        message.pending.append(event)
    return event


def _first_any(message: Message, event_type: str, at: int, unsubscribe: bool) -> bool:
    if event_type == "opened" and not message.opened_any_at:
        message.opened_any_at = at
        return True
    if event_type == "clicked" and not unsubscribe and not message.clicked_any_at:
        message.clicked_any_at = at
        return True
    return False


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


def _rejudge(work: _Step, message: Message, event: Pending) -> frozenset[int]:
    """Judges the pending opens and clicks anew, in the light of ``event``.

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
    for index, actor, reason in machine.rejudge(evidence, work.look_ups.rules):
        position = positions[index]
        judged = message.pending[position]
        message.pending[position] = judged._replace(actor=actor, reason=reason)
        changed.add(judged.offset)
    return frozenset(changed)


def _judge_by_delivery(work: _Step, message: Message, changed: set[int]) -> None:
    """The delivery came after opens or clicks: now it shows which came too soon after it."""
    for position, event in enumerate(message.pending):
        if event.actor != "human":
            continue
        head = work.decode(event.raw)
        actor, reason = machine.verdict_alone(
            event.event_type, head["machine_kind"], head["user_agent"], head["ip"],
            event.at_us / 1e6 - message.delivered_at, work.look_ups.rules,
        )  # fmt: skip
        if actor != "human":
            message.pending[position] = event._replace(actor=actor, reason=reason)
            changed.add(event.offset)


def _count(
    work: _Step, message: Message, owner: tuple[str, str], before: list[int], event: Pending
) -> None:
    """Moves the counts from what the message gave to what it gives."""
    after = contributions(message)
    if event.actor == "none" and not (message.pending and message.pending[-1] is event):
        after += event_counters(event.event_type, event.at, "none", unsubscribe=False)
    now = (message.campaign or "", message.mailbox)
    if before and now == owner:
        for item in before:
            try:
                after.remove(item)
            except ValueError:
                add(work.deltas, *owner, [item], -1)
    else:
        add(work.deltas, *owner, before, -1)
    add(work.deltas, *now, after, 1)


def _suppress(work: _Step, item: _Item, message: Message, bounce: tuple[str, str]) -> None:
    shard, head = work.shard, item.head
    recipient = shard.recipients[item.recipient_key]
    reason = recipients.apply(recipient, head["event_type"], bounce, item.at_us // 1_000_000)
    if recipient.dirty:
        shard.touched_recipients[item.recipient_key] = recipient
    if not reason or not work.emit:
        return
    record = None
    if reason != LIFT:
        record = enrich.suppression(
            head, reason, item.at_us, work.look_ups, campaign=message.campaign, log_id=shard.log_id,
            partition=shard.partition, offset=item.record.offset,
        )  # fmt: skip
    work.effects.suppressions.append((head["recipient"].lower(), record))


# --- outputs -------------------------------------------------------------------------------------

_First = tuple[int, int]
_NONE_FIRST: _First = (-1, -1)


def _first_offsets(message: Message) -> _First:
    """Offsets of the pending events that are the first human open and click; -1 if none is."""
    return message.first_human("opened")[1], message.first_human("clicked")[1]


def _publish(
    work: _Step,
    item: _Item,
    message: Message,
    event: Pending,
    bounce: tuple[str, str],
    changed: frozenset[int],
    first_before: _First,
    *,
    learned: bool,
) -> None:
    """Writes the event, and again every earlier one that later news changed."""
    first_now = _first_offsets(message) if message.pending else _NONE_FIRST
    if message.pending and message.pending[-1].offset == event.offset:
        event = message.pending[-1]
    _write(work, item.record, item.head, item.key, message, event, bounce, None, first_now)
    if not (changed or learned or first_now != first_before):
        return
    moved = set(first_before) ^ set(first_now)
    for position, earlier in enumerate(message.pending):
        if earlier.offset == event.offset:
            continue
        if learned or earlier.offset in changed or earlier.offset in moved:
            again = message.pending[position] = earlier._replace(revision=earlier.revision + 1)
            _correct(work, item, message, again, first_before, first_now, learned=learned)


def _correct(
    work: _Step,
    item: _Item,
    message: Message,
    event: Pending,
    first_before: _First,
    first_now: _First,
    *,
    learned: bool,
) -> None:
    if not work.emit:
        return
    head = work.decode(event.raw)
    work.effects.corrected += 1
    if event.offset in first_before and event.offset not in first_now:
        work.effects.engagement.append(
            (
                (head["recipient"] or "").lower(),
                enrich.engagement(
                    head,
                    message,
                    withdrawn=True,
                    log_id=work.shard.log_id,
                    partition=work.shard.partition,
                    offset=item.record.offset,
                ),  # fmt: skip
            )
        )
    _write(
        work, item.record, head, item.key, message, event, enrich.bounce_of(head),
        "" if learned else None, first_now, first_before,
    )  # fmt: skip


def _write(
    work: _Step,
    cause: Record,
    head: Head,
    key: bytes,
    message: Message,
    event: Pending,
    bounce: tuple[str, str],
    previous_campaign: str | None,
    first_now: _First,
    first_before: _First = _NONE_FIRST,
) -> None:
    """Adds one revision of an event to the effects, and the engagement it may be."""
    if not work.emit:
        return
    shard = work.shard
    first_human = event.offset in first_now
    fields = enrich.enrichment(
        head, message, work.look_ups, log_id=shard.log_id, partition=shard.partition,
        offset=event.offset, version=cause.offset, revision=event.revision, key=key,
        actor=event.actor, reason=event.reason, first=event.first, first_human=first_human,
        unsubscribe=event.unsubscribe, bounce=bounce, previous_campaign=previous_campaign,
    )  # fmt: skip
    work.effects.enriched.append(
        Enriched(
            cause.key, cause.timestamp, event.raw, fields, head["event_id"], head["event_type"]
        )
    )
    if first_human and event.offset not in first_before:
        record = enrich.engagement(
            head, message, withdrawn=False, log_id=shard.log_id, partition=shard.partition,
            offset=cause.offset,
        )  # fmt: skip
        work.effects.engagement.append(((head["recipient"] or "").lower(), record))
