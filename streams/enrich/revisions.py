"""What a fold writes: revisions of events, and engagement.

Invariants:
1. Pure: outputs are values, put into ``Effects``.
2. An event is written when it comes. It is written again, as its next revision, when a later event
   changes what its enrichment says: its verdict, its campaign, whether it is the first, or the time
   since the delivery. The version is the offset of that later event.
3. Engagement that no longer holds is withdrawn before what replaces it is published. Engagement
   whose campaign became another one is withdrawn and published anew.
"""

from collections.abc import Callable, Sequence
from typing import Protocol, cast

from schemas import enrichment
from schemas.codec import Codec
from schemas.erasure import ERASED_KEY
from schemas.errors import BadInput
from schemas.event import Event, message_key, own_unit, recipient_identity
from schemas.raw_head import Head
from schemas.versions import REVISION_EPOCH_SHIFT
from streams.enrich import derive
from streams.enrich.derive import LookUps, Standing
from streams.enrich.effects import Completed, Effects, Reengaged, Restated, complete
from streams.enrich.message import Message, Pending
from streams.enrich.message_bytes import PENDING, PENDING_END, pending_offsets
from streams.enrich.minute_counts import Scan
from streams.enrich.shard import Shard


class ConsumedRecord(Protocol):
    """What a step needs of a consumed Kafka record (aiokafka's ``ConsumerRecord`` has it)."""

    @property
    def offset(self) -> int: ...  # noqa: D102 — see aiokafka
    @property
    def timestamp(self) -> int: ...  # noqa: D102
    @property
    def key(self) -> bytes | None: ...  # noqa: D102
    @property
    def value(self) -> bytes | None: ...  # noqa: D102


Item = tuple[ConsumedRecord, Head, bytes, bytes, int]
"""Record, its head, keys of message and recipient (empty: not needed), event time in µs."""


class StepWork:
    """What every part of a step uses.

    Attributes:
        aliases: offset -> alias of the event's message, for events whose message has one.
    """

    __slots__ = ("aliases", "codec", "effects", "emit", "frame", "look_ups", "origin", "shard")

    def __init__(self, shard: Shard, look_ups: LookUps, codec: Codec, *, emit: bool) -> None:
        self.shard = shard
        self.look_ups = look_ups
        self.codec = codec
        self.emit = emit
        self.effects = Effects()
        self.aliases: dict[int, int] = {}
        self.frame = codec.prefix("enriched_event")
        self.origin = enrichment.origin(shard.log_id, shard.partition)


class Before:
    """A message as it was told before an event."""

    __slots__ = ("pending", "standing")

    def __init__(self, standing: Standing, pending: list[Pending]) -> None:
        self.standing = standing
        self.pending = pending

    @staticmethod
    def of(message: Message) -> "Before":
        """As the message is now."""
        return Before(Standing.of(message), message.pending[:])


def publish(
    work: StepWork,
    item: Item,
    message: Message,
    event: Pending,
    bounce: tuple[str, str],
    before: Before,
) -> None:
    """Writes the event, and again every earlier one whose enrichment it changed."""
    record, head, key, _, _ = item
    now = Standing.of(message)
    changed = _revise(message, before, now)
    if not work.emit:
        return
    _withdraw(work, record, changed, before.standing, now)
    write(work, record, head, key, now, event, bounce)
    _write_again(work, record, key, changed, before.standing, now)


def correct(work: StepWork, item: Item, key: bytes, message: Message, before: Before) -> None:
    """Writes again every earlier event of a message whose enrichment ``item`` changed.

    Args:
        key: of the message.
        before: the message, and of its events before those that are still in it, in their order.
    """
    now = Standing.of(message)
    changed = _revise(message, before, now)
    if work.emit:
        _withdraw(work, item[0], changed, before.standing, now)
        _write_again(work, item[0], key, changed, before.standing, now)


def _write_again(
    work: StepWork,
    record: ConsumedRecord,
    key: bytes,
    changed: list[tuple[Pending, Pending]],
    before: Standing,
    now: Standing,
) -> None:
    moved = before.campaign != now.campaign
    previous = (before.campaign or "") if moved else None
    effects, epoch = work.effects, work.look_ups.epoch << REVISION_EPOCH_SHIFT
    for earlier, again in changed:
        effects.corrected += 1
        effects.revised[len(effects.enriched)] = epoch | again.revision
        effects.enriched.append(
            Restated(again, now, previous, key, record.key, record.timestamp, record.offset)
        )
        if again.human and (moved or not earlier.human):
            effects.engagement.append(Reengaged(again.offset, now, record.offset, withdrawn=False))


def _revise(message: Message, before: Before, now: Standing) -> list[tuple[Pending, Pending]]:
    """Raises the revision of earlier events whose enrichment is another one now.

    Returns:
        Each of them before and after.
    """
    changed = []
    moved = before.standing.campaign != now.campaign
    timed = before.standing.delivered_us != now.delivered_us
    for position, old in enumerate(before.pending):
        new = message.pending[position]
        if (new is not old and new != old) or moved or (timed and new.actor != "none"):
            again = message.pending[position] = new.revised()
            changed.append((old, again))
    return changed


def _withdraw(
    work: StepWork,
    record: ConsumedRecord,
    changed: list[tuple[Pending, Pending]],
    before: Standing,
    now: Standing,
) -> None:
    moved = before.campaign != now.campaign
    work.effects.engagement += [
        Reengaged(old.offset, before, record.offset, withdrawn=True)
        for old, new in changed
        if old.human and (moved or not new.human)
    ]


def write(
    work: StepWork,
    record: ConsumedRecord,
    head: Head,
    key: bytes,
    now: Standing,
    event: Pending,
    bounce: tuple[str, str],
) -> None:
    """Adds the event's first revision to the effects, and its engagement if it is a first."""
    campaign, own_key = _place_of_old_folds(head, now, work.look_ups)
    value = derive.value(
        work.frame, work.origin, record.value or b"", head, now, event, bounce, work.look_ups,
        version=record.offset, key=key, previous_campaign=campaign, previous_key=own_key,
    )  # fmt: skip
    work.effects.enriched.append((record.key, value, record.timestamp))
    if event.human and "erased" not in head:
        its = derive.engagement(
            head, now, withdrawn=False, log_id=work.shard.log_id,
            partition=work.shard.partition, offset=record.offset,
        )  # fmt: skip
        work.effects.engagement.append((recipient_identity(head), its))


def _place_of_old_folds(
    head: Head, now: Standing, look_ups: LookUps
) -> tuple[str | None, bytes | None]:
    """Campaign and key under which folds before version 3 may have stored the event.

    ``None``: those that it is given now. They knew no message of an event by an alias alone: it had
    a key of its own, and the campaign that it names itself.
    """
    if not (look_ups.epoch and head.get("alias_only")):
        return None, None
    campaign = head["campaign_id"] or ""
    moved = campaign != (now.campaign or "")
    return campaign if moved else None, own_unit(head["event_id"])


def first_pending(shard: Shard, scan: Scan) -> int:
    """The lowest offset of a pending event in the stored state; the next offset if there is none.

    Args:
        scan: over the stored state, which must be complete.
    """
    lowest = shard.applied + 1
    for _, value in scan(PENDING, PENDING_END):
        lowest = min(lowest, *pending_offsets(value))
    return lowest


def restate(
    shard: Shard,
    records: Sequence[ConsumedRecord],
    look_ups_at: Callable[[int], LookUps],
    codec: Codec,
) -> Completed:
    """Writes those of ``records`` that are pending once more as they are, when an epoch begins.

    The earlier rules may have corrected some of them after this offset, where the new rules do not.
    No engagement is published.

    Args:
        records: raw records up to ``shard.applied``, at least from ``first_pending`` on.
        look_ups_at: look-ups that judged an offset, with the present epoch's number.
    """
    heads = [(record, _head_of(record, codec)) for record in records]
    shard.fetch((), (), [head["alias"] for _, head in heads if head and "alias" in head])
    keyed = [(record, head, shard.unit_of(head)) for record, head in heads if head is not None]
    shard.fetch([key for _, _, key in keyed], ())
    effects = Effects()
    for record, head, key in keyed:
        if shard.messages[key] is None:
            continue
        message = shard.message(key)
        for event in message.pending:
            if event.offset == record.offset:
                work = StepWork(shard, look_ups_at(event.offset), codec, emit=True)
                work.effects = effects
                _restate_one(work, record, head, key, message, event)
    return complete(
        effects, {}, codec=codec, look_ups=look_ups_at(shard.applied), log_id=shard.log_id,
        partition=shard.partition,
    )  # fmt: skip


def _head_of(record: ConsumedRecord, codec: Codec) -> Head | None:
    """The record's head; ``None`` if it became a dead letter."""
    try:
        return None if record.value is None else codec.raw_head(record.value)
    except BadInput:
        return None


def _restate_one(
    work: StepWork,
    record: ConsumedRecord,
    head: Head,
    key: bytes,
    message: Message,
    event: Pending,
) -> None:
    shard, effects, epoch = work.shard, work.effects, work.look_ups.epoch
    effects.revised[len(effects.enriched)] = epoch << REVISION_EPOCH_SHIFT | event.revision
    now = Standing.of(message)
    campaign, own_key = _place_of_old_folds(head, now, work.look_ups)
    value = derive.value(
        work.frame, work.origin, record.value or b"", head, now, event,
        derive.bounce_of(head), work.look_ups, version=shard.applied, key=key,
        previous_campaign=campaign, previous_key=own_key,
    )  # fmt: skip
    whose = ERASED_KEY if "erased" in head else message_key(cast(Event, head))
    effects.enriched.append((whose, value, shard.log_time * 1000))
