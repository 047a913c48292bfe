"""What is kept of aliases and of the messages they stand for: bounded, and a fold of the log."""

import random
from dataclasses import replace
from typing import Any

import orjson
import pytest

from ingest.providers.base import Request
from ingest.providers.sendgrid import PROVIDER
from schemas.event import Event, own_unit, unit_key
from schemas.settings import Source
from streams.enrich.derive import LookUps
from streams.enrich.message import PENDING_MAX, SEEN_MAX
from streams.enrich.step import step
from streams.enrich.suppressions import SOFT_BOUNCES
from tests.builders import RECEIVED_AT
from tests.streams.folding import CODEC, Fold, log_of
from tests.streams.suppression_reference import standing
from tests.streams.test_aliases import DAY_S, alone, folded, opened, some, stored


def test_a_message_remembers_no_more_ids_however_many_aliases_it_has() -> None:
    """Each alias brings as many events as can be pending; their ids once grew beyond all bounds.

    Then a checkpoint failed, since the stored form counts ids in 16 bits, and so did each replay.
    """
    fold = Fold()
    events: list[Event] = []
    for alias in range(SEEN_MAX // PENDING_MAX + 3):
        rfc = f"{alias}@shop.example"
        for _ in range(PENDING_MAX):
            events.append(alone(len(events) + 1, 0.1, rfc_message_id=rfc))
        events.append(some(len(events) + 1, "deferred", 0.2, rfc_message_id=rfc))
    step(fold.shard, log_of(events), LookUps(), CODEC, emit=False)
    key = unit_key(events[-1])
    message = fold.shard.message(key)
    assert len(message.seen) <= SEEN_MAX
    fold.checkpoint()
    fold.restart()
    fold.shard.fetch([key], ())
    again = fold.shard.message(key)
    assert (again.seen, again.pending) == (message.seen, message.pending)


def test_an_event_without_effect_does_not_forget_an_alias() -> None:
    """A duplicate that arrives by a clock ahead, when the alias has expired but not the message."""
    delivered, bounce = some(1, "delivered"), alone(3, 2)
    log = log_of([delivered, opened(2, 1), delivered, bounce])
    log = [
        replace(record, timestamp=log[0].timestamp + day * DAY_S * 1000)
        for record, day in zip(log, (0, 20, 31, 21), strict=True)
    ]
    for cuts in ([], [2], [3], [1, 2, 3]):
        fold = folded(log, cuts)
        assert fold.duplicates == 1
        found = stored(fold)[bounce["event_id"]]
        assert found["message_key"] == unit_key(delivered).hex()


@pytest.mark.parametrize("own", [None, "c", "d"])
@pytest.mark.parametrize("bounce_first", [False, True])
def test_a_new_epoch_replaces_the_row_of_older_folds(own: str | None, bounce_first: bool) -> None:
    """They stored the event under a key of its own, and under the campaign that it names itself."""
    bounce, delivered = alone(1, 1, campaign_id=own), some(2, "delivered", campaign_id="c")
    events = [bounce, delivered] if bounce_first else [delivered, bounce]
    fold = folded(log_of(events), look_ups=LookUps(epoch=1))
    told: dict[str, Any] = next(one for name, one in fold.enriched if name == bounce["event_id"])
    former = told | {
        "campaign_id": own, "message_key": own_unit(bounce["event_id"]).hex(), "revision": 0,
        "version": told["offset"], "previous_campaign_id": None, "previous_message_key": None,
    }  # fmt: skip
    fold.enriched.insert(0, (bounce["event_id"], former))
    assert stored(fold)[bounce["event_id"]]["campaign_id"] == "c"


@pytest.mark.parametrize(
    "message_id",
    [
        "<order-7@shop.example>", "order-7@shop.example", "  <é@shop.example> ",
        "<m1@shop.example>",
        "<m1@ismtpd-7>", "<m1@geopod-ismtpd-7>", "<m1@mx.ismtpd.example>", "<m1.x@ismtpd.example>",
        "<m1@>", "m1", "<m10@shop.example>", "<" + "a" * 100_000 + "@shop.example>",
    ],
)  # fmt: skip
def test_a_bounce_joins_its_message_whatever_the_message_id_looks_like(message_id: str) -> None:
    """Also one that begins with SendGrid's own id, but is not of the form that SendGrid makes."""
    now_s = RECEIVED_AT // 1_000_000
    ids = {"email": "u@gmail.com", "smtp-id": message_id, "timestamp": now_s}
    own = "m1.x" if "m1.x@" in message_id else "m1"
    items = [
        {**ids, "event": "delivered", "sg_event_id": "a", "sg_message_id": f"{own}.filter0001.1"},
        {**ids, "event": "bounce", "sg_event_id": "b", "type": "bounce"},
    ]
    request = Request("POST", "", (), orjson.dumps(items), "192.0.2.1")
    events = PROVIDER.parse(request, Source(name="n", provider="sendgrid"), RECEIVED_AT).events
    assert len({one["message_key"] for one in stored(folded(log_of(list(events)))).values()}) == 1


@pytest.mark.parametrize("messages", [3, 4, 5, 6])
def test_a_soft_bounce_told_by_both_ids_and_by_one_is_of_one_message(messages: int) -> None:
    """In any order: five messages suppress an address, not three of which some bounced twice."""
    soft = {"bounce_class": "soft", "bounce_reason": "mailbox_full"}
    events = [
        one(2 * number + twice, "bounced", 24 * number, rfc_message_id=f"{number}@s", **soft)
        for number in range(messages)
        for twice, one in enumerate((named, by_alias))
    ]
    dice = random.Random(messages)
    for _ in range(20):
        dice.shuffle(events)
        fold = folded(log_of(events), [dice.randrange(1, len(events))])
        held = {one.addressee: one.record for one in fold.suppressions}
        assert bool(held) == (messages >= SOFT_BOUNCES)
        assert {who: one["reason"] for who, one in held.items() if one} == {
            who: reason for who, reason in standing(events).items() if reason
        }


def named(number: int, kind: str, at_h: float, **more: Any) -> Event:
    """An event of a message of its own, by both ids."""
    days = {"received_at": RECEIVED_AT + 10 * DAY_S * 1_000_000}
    return some(number, kind, at_h, message_id=f"m{more['rfc_message_id']}", **days, **more)


def by_alias(number: int, kind: str, at_h: float, **more: Any) -> Event:
    """The same event again, by the sender's Message-ID alone."""
    return {**named(number, kind, at_h + 1, **more), "message_id": None}
