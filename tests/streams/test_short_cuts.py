"""The short cuts of the fold, and what a checkpoint removes, do not change any result."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas import compiled_build
from schemas.codec import Codec
from schemas.event import Event, unit_key
from schemas.glossary import COUNTER_INDEX, COUNTER_NAMES
from streams.enrich import message_bytes, minute_counts, step
from streams.enrich.message import FOR_SURE, Message, Pending
from streams.enrich.message_bytes import BUCKET_S, pending_key
from streams.enrich.minute_counts import HORIZON_S
from tests.builders import RECEIVED_AT, event
from tests.streams.folding import CODEC, Fold, log_of
from tests.streams.test_step import figures, final_events, logs

DAY_US = 86_400_000_000


def told(fold: Fold) -> tuple[Any, ...]:
    """Everything that a fold wrote and stored."""
    return (
        figures(fold), final_events(fold), fold.suppressions, fold.engagement, fold.disk.values,
    )  # fmt: skip


@pytest.mark.skipif(
    compiled_build.state().compiled,
    reason="compiled functions call each other directly: none can be replaced",
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(logs(), st.data())
def test_short_cuts_equal_the_long_way(events: list[Event], data: st.DataObject) -> None:
    """First events and single opens take a short cut; without it everything is the same."""
    hours = data.draw(st.lists(st.sampled_from([0, 0, 0, 1, 30]), min_size=40, max_size=40))
    log = log_of(later(events, hours[: len(events)]))
    short, long = Fold(), Fold()
    short.fold(log)
    short.checkpoint()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(step, "_PLAIN", frozenset())
        patch.setattr(step, "take_simple", lambda *_: None)
        long.fold(log)
    long.checkpoint()
    assert told(short) == told(long)


def later(events: list[Event], hours: list[int]) -> list[Event]:
    """The same events, some hours apart."""
    out = []
    shift = 0
    for one, more in zip(events, hours, strict=True):
        shift += more * 3_600_000_000
        moved = dict(one) | {name: one[name] + shift for name in ("occurred_at", "received_at")}
        out.append(moved)
    return out  # type: ignore[return-value]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(logs(), st.data())
def test_removing_what_is_due_changes_no_output(events: list[Event], data: st.DataObject) -> None:
    """With checkpoints, sweeps and restarts in between, a slow log gives what a single fold
    gives."""
    hours = data.draw(st.lists(st.integers(0, 400), min_size=len(events), max_size=len(events)))
    log = log_of(later(events, hours))
    straight, swept = Fold(), Fold()
    straight.fold(log)
    straight.checkpoint()
    for record in log:
        swept.fold([record])
        swept.checkpoint()
        if data.draw(st.booleans()):
            swept.restart()
    assert told(swept) == told(straight)


def test_expired_messages_and_settled_events_leave_the_disk() -> None:
    """State does not grow for ever: what is due or expired is removed without being read."""
    fold = Fold()
    opened = event(event_id=f"{1:032x}", event_type="opened", user_agent="x")
    fold.fold(log_of([opened]))
    fold.checkpoint()
    kinds = {key[:1] for key in fold.disk.values}
    assert {b"m", b"p"} <= kinds
    later_on = event(
        event_id=f"{2:032x}", message_id="other",
        received_at=RECEIVED_AT + DAY_US + 2 * BUCKET_S * 1_000_000,
    )  # fmt: skip
    fold.fold([log_of([opened, later_on])[1]])
    fold.checkpoint()
    kept = [key for key in fold.disk.values if key[:1] == b"p"]
    assert kept == [pending_key((log_of([later_on])[0].timestamp // 1000 + 86_400) // BUCKET_S,
                                unit_key(later_on))]  # fmt: skip
    assert sum(key[:1] == b"m" for key in fold.disk.values) == 2
    months = event(
        event_id=f"{3:032x}", message_id="third", received_at=RECEIVED_AT + 70 * DAY_US,
        occurred_at=RECEIVED_AT + 70 * DAY_US,
    )  # fmt: skip
    fold.fold([log_of([opened, later_on, months])[2]])
    fold.checkpoint()
    left = [key for key in fold.disk.values if key[:1] in (b"m", b"c")]
    assert sorted(key[:1] for key in left) == [b"c", b"m"]


def test_a_closed_minute_is_not_written_again() -> None:
    """A message older than the horizon no longer changes the minute of its delivery.

    Its counts were removed: an absolute count made from nothing would replace the published one.
    """
    fold = Fold()
    steps = [("delivered", 0), ("opened", 25), ("opened", 50), ("clicked", 65)]
    log = log_of(
        [
            event(
                event_id=f"{number:032x}", event_type=kind, user_agent="x",
                received_at=RECEIVED_AT + day * DAY_US, occurred_at=RECEIVED_AT + day * DAY_US,
                click_url="https://shop.example/a" if kind == "clicked" else None,
            )
            for number, (kind, day) in enumerate(steps)
        ]
    )  # fmt: skip
    for record in log:
        fold.fold([record])
        fold.checkpoint()
    delivery_minute = RECEIVED_AT // 60_000_000
    counts = {key[2]: vector for key, (_, vector) in fold.minutes.items()}
    assert counts[delivery_minute][COUNTER_INDEX["delivered"]] == 1
    assert counts[delivery_minute][COUNTER_INDEX["cohort_opened"]] == 1
    assert counts[delivery_minute][COUNTER_INDEX["cohort_clicked"]] == 0
    assert counts[delivery_minute + 65 * 1440][COUNTER_INDEX["clicked"]] == 1
    assert HORIZON_S // 86400 == 60


def test_a_partial_by_hand_is_the_general_encoders() -> None:
    """Every counter at its position, small or large."""
    vector = [(7 * index) ** 3 % 5000 for index in range(len(COUNTER_NAMES))]
    for counts in (vector, [value % 60 for value in vector]):
        value = CODEC.prefix("campaign_minute") + minute_counts.record(
            ("spring", "gmail", 29_000_000), counts, "log-1", 3, 123_456
        )
        wanted = dict(zip(COUNTER_NAMES, counts, strict=True)) | {
            "campaign_id": "spring", "mailbox_provider": "gmail", "minute": 29_000_000 * 60_000,
            "log_id": "log-1", "partition": 3, "offset": 123_456,
        }  # fmt: skip
        assert value == Codec().encode("campaign_minute", wanted)


@given(campaign=st.text(max_size=300), delivered=st.integers(0, 2**32 - 1))
def test_a_first_event_is_packed_as_its_message_would_be(campaign: str, delivered: int) -> None:
    """``pack_first`` has the bytes of ``pack`` and of ``pack_pending``."""
    kind = "delivered" if delivered else "sent"
    at_us = (delivered or 7) * 1_000_000
    message = Message()
    message.touched, message.seen, message.campaign = 77, [2**64 - 1], campaign
    message.mailbox, message.delivered_at, message.due = "gmail", delivered, 86_477
    message.attempted_at = delivered
    message.pending = [
        Pending(
            3, 2**64 - 1, kind, at_us // 1_000_000, at_us, "none", "", FOR_SURE, 0, 0, False, 0,
            False, campaign, bool(delivered), False, 0,
        )
    ]  # fmt: skip
    both = message_bytes.pack_first(
        77, campaign, "gmail", 86_477, identity=2**64 - 1, offset=3, at_us=at_us, event_type=kind
    )
    packed, pending = message_bytes.parts_of_first(both)
    assert packed == message_bytes.pack(message)
    assert pending == message_bytes.pack_pending(message)
    again = message_bytes.unpack(packed, pending)
    assert again.pending == message.pending
    assert again.delivered_us == (at_us if delivered else 0)
    assert message_bytes.pack(again) == packed
    cached = message_bytes.unpack_cached(both)
    assert message_bytes.pack(cached) == packed
    assert message_bytes.pack_pending(cached) == pending
    message.settle_all()
    settled = message_bytes.pack(message)
    assert message_bytes.pack(message_bytes.unpack_cached(settled)) == settled
