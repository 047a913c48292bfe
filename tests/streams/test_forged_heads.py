"""Heads of other producers that lie about any of their fields, with a checksum that is right."""

import random
import struct
from typing import Any
from zlib import crc32

import pytest

from schemas.codec import PREFIX_BYTES
from schemas.event import Event, alias_of, alias_unit, message_key, unit_key
from schemas.raw_head import HEADED, ID_SIZE, SIZE
from tests.builders import RECEIVED_AT
from tests.streams.folding import CODEC, LogRecord
from tests.streams.test_aliases import alone, opened, some
from tests.streams.test_other_producers import Worker

RECORDS = 20
HEAD = struct.Struct("<IBBBxQ16sqqII")
"""Checksum, form, type, flags, hash or alias, unit, two times, hash of the address, size."""
ALIAS = alias_of(alone(1, 0))
LIES: tuple[tuple[Any, ...], ...] = (
    (0, 1, 2, 3), tuple(range(20)), tuple(range(64)), (0, 1, 2**64 - 1, ALIAS),
    (bytes(16), alias_unit(ALIAS), unit_key(some(1, "queued"))),
    (0, -(2**63), 2**63 - 1), (0, -1, 2**63 - 1), (0, 2**32 - 1),
)  # fmt: skip
"""By field, from the form on."""


def some_event(dice: random.Random, number: int) -> Event:
    """Of two messages that share an alias: by both ids, by the alias alone, or by the id alone."""
    at_h, kind = number / 10, dice.choice(("queued", "delivered", "deferred", "bounced"))
    form = dice.randrange(4)
    if form == 0:
        return opened(number, at_h)
    if form == 1:
        return alone(number, at_h, event_type=kind)
    ids = {"message_id": dice.choice(("m1", "m1", "m2")), "campaign_id": dice.choice((None, "c"))}
    return some(number, kind, at_h, **ids)


def forged(dice: random.Random, value: bytes) -> bytes:
    """The record with one or two fields of its head changed."""
    begin = PREFIX_BYTES + ID_SIZE + len(HEADED)
    fields = list(HEAD.unpack_from(value, begin))
    for _ in range(dice.randint(1, 2)):
        place = dice.randrange(len(LIES))
        fields[1 + place] = dice.choice(LIES[place])
    body, rest = HEAD.pack(*fields)[4:], value[begin + SIZE :]
    identity = value[PREFIX_BYTES : PREFIX_BYTES + ID_SIZE]
    crc = crc32(rest, crc32(body, crc32(identity)))
    return value[:begin] + struct.pack("<I", crc) + body + rest


@pytest.mark.parametrize("seed", range(300))
def test_no_lie_of_a_head_stops_the_fold(seed: int) -> None:
    """Each record is folded or becomes a dead letter, and no count is negative.

    A unit that was that of the alias itself once moved events from a message to the same message.
    """
    dice = random.Random(f"forged {seed}")
    worker, log = Worker(), []
    for offset in range(RECORDS):
        one = some_event(dice, offset + 1)
        value = CODEC.encode("raw_event", one)
        if dice.random() < 0.5:
            value = forged(dice, value)
        at_ms = RECEIVED_AT // 1000 + offset * dice.choice((0, 60_000, 3_600_000))
        log.append(LogRecord(offset, at_ms, message_key(one), value))
    for begin in range(0, RECORDS, 4):
        worker.fold(log[begin : begin + 4])
        worker.checkpoint()
        if dice.random() < 0.3:
            worker.restart()
    first = {one["offset"] for _, one in worker.enriched} | {*worker.unreadable}
    assert len(first) + worker.duplicates + len(worker.dead_letters) == RECORDS
    assert all(count >= 0 for _, row in worker.minutes.values() for count in row)
