"""Brings events that name their message by an alias alone to the message that it stands for.

Invariants:
1. Pure: the state of aliases (``streams.enrich.aliases``) is a fold of the log as all other state.
2. Whatever came first, an event with both ids or one with the alias alone, the end is the same
   within the correction window: pending events are moved with their evidence, both messages are
   judged anew, counts change by the difference, and what was told is told again under its new key.
   What is settled stays where it is.
3. Moves happen before the event that causes them is folded, and only if it is no duplicate. They
   leave nothing of a moved event behind in its former message.
4. Engagement changes at most once with each record (``outcome_of``), since consumers tell changes
   apart by its offset.
"""

from collections.abc import Sequence

from schemas.event import alias_unit
from schemas.versions import REVISION_EPOCH_SHIFT
from streams.enrich.aliases import Alias
from streams.enrich.assess import assess
from streams.enrich.contributions import contributions, placed
from streams.enrich.derive import Standing
from streams.enrich.effects import Engaged, Reengaged, Restated
from streams.enrich.message import SEEN_MAX, Message
from streams.enrich.revisions import Before, Item, StepWork, correct


def link_first(work: StepWork, item: Item) -> bool:
    """Whether the first event of a message finds no alias of its own before it; links a new one."""
    record, head, key, _, _ = item
    shard, number = work.shard, work.aliases.get(record.offset)
    if number is None:
        return True
    now = max(shard.log_time, record.timestamp // 1000)
    known = shard.aliases[number]
    if head["alias_only"] or not (
        known is None or known.is_expired(now, work.look_ups.message_ttl_s)
    ):
        return False
    shard.aliases[number] = Alias(now, key)
    shard.touched_aliases.add(number)
    return True


def resolved(work: StepWork, item: Item) -> Item | None:
    """The event with the key of its message; ``None``: it is a duplicate."""
    record, head, _, recipient_key, at_us = item
    shard, number = work.shard, work.aliases.get(record.offset)
    if number is None:
        return item
    now = max(shard.log_time, record.timestamp // 1000)
    alias = shard.aliases[number]
    if alias is None or alias.is_expired(now, work.look_ups.message_ttl_s):
        return item  # what has expired is replaced by an event that has an effect (``join``)
    if head["event_hash"] in alias.seen:
        return None
    if not (head["alias_only"] and alias.linked):
        return item
    shard.fetch((alias.linked,), ())
    return record, head, alias.linked, recipient_key, at_us


def join(work: StepWork, item: Item) -> None:
    """What an event says of its alias; log time is that of the event already."""
    record, head, key, _, _ = item
    shard, number = work.shard, work.aliases.get(record.offset)
    if number is None:
        return
    alias = shard.alias(number, shard.log_time, work.look_ups.message_ttl_s)
    alias.touched = shard.log_time
    shard.touched_aliases.add(number)
    if head["alias_only"]:
        alias.see(head["event_hash"])
    elif not alias.unit:
        alias.unit = key
        _move(work, item, alias, alias_unit(number), key)
    elif key != alias.unit and not alias.ambiguous:
        alias.ambiguous = True
        work.effects.ambiguous += 1
        _move(work, item, alias, alias.unit, alias_unit(number))


def outcome_of(changes: Sequence[Engaged | Reengaged]) -> list[Engaged | Reengaged]:
    """What changes of engagement by a move, and by the event that caused it, come to."""
    of_event: dict[int, list[Reengaged]] = {}
    for change in changes:
        if isinstance(change, Reengaged):
            of_event.setdefault(change.offset, []).append(change)
    new = [change for change in changes if not isinstance(change, Reengaged)]
    withdrawn = [some[0] for some in of_event.values() if some[0].withdrawn]
    told = [some[-1] for some in of_event.values() if not some[-1].withdrawn]
    return [*withdrawn, *new, *told]


def _move(work: StepWork, item: Item, alias: Alias, key: bytes, new_key: bytes) -> None:
    """Moves the pending events that have the alias alone from one message to another."""
    if not alias.seen or key == new_key:  # the same: only of a head that lies
        return
    shard, now = work.shard, work.shard.log_time
    shard.fetch((key, new_key), ())
    source, target = shard.message(key), shard.message(new_key)
    if target.is_expired(now, work.look_ups.message_ttl_s):
        target = shard.begin_anew(new_key)
    source.settle(now)
    moved = {event.identity for event in source.pending} & set(alias.seen)
    if not moved:
        return
    target.settle(now, len(moved))
    shard.touched.update((key, new_key))
    was, before = Before.of(source), Before.of(target)
    _count(work, (source, target), -1)
    _hand_over(source, target, moved)
    target.touched = now
    target.due = target.due or now + work.look_ups.correction_s
    assess(source, work.look_ups.rules)
    assess(target, work.look_ups.rules)
    _count(work, (source, target), 1)
    kept = [event for event in was.pending if event.identity not in moved]
    correct(work, item, key, source, Before(was.standing, kept))
    correct(work, item, new_key, target, before)
    _tell_moved(work, item, target, len(before.pending), was.standing, (key, new_key))


def _count(work: StepWork, messages: tuple[Message, ...], by: int) -> None:
    for message in messages:
        items = contributions(message)
        for owner, some in placed(message.owner, message.delivered_owner, items):
            work.shard.minutes.add(*owner, some, by)


def _hand_over(source: Message, target: Message, moved: set[int]) -> None:
    """Moves the events; pending ones are the last of ``seen`` in both messages."""
    target.pending += [event for event in source.pending if event.identity in moved]
    target.seen += [identity for identity in source.seen if identity in moved]
    del target.seen[:-SEEN_MAX]
    source.pending = [event for event in source.pending if event.identity not in moved]
    source.seen = [identity for identity in source.seen if identity not in moved]
    source.due = source.due if source.pending else 0
    target.mailbox = target.mailbox or source.mailbox


def _tell_moved(
    work: StepWork,
    item: Item,
    message: Message,
    begin: int,
    was: Standing,
    keys: tuple[bytes, bytes],
) -> None:
    """Writes the moved events again, which are pending from ``begin`` on, under their new key."""
    record, effects = item[0], work.effects
    now, epoch = Standing.of(message), work.look_ups.epoch << REVISION_EPOCH_SHIFT
    previous = (was.campaign or "") if was.campaign != now.campaign else None
    for position in range(begin, len(message.pending)):
        event = message.pending[position]
        again = message.pending[position] = event.revised()
        if work.emit:
            effects.corrected += 1
            effects.revised[len(effects.enriched)] = epoch | again.revision
            effects.enriched.append(
                Restated(
                    again, now, previous, keys[1], record.key, record.timestamp, record.offset,
                    keys[0],
                )
            )  # fmt: skip
