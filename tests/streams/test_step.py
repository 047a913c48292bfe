"""The fold: counts compared with a brute-force recount, determinism, replays, corrections."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.codec import PREFIX_BYTES
from schemas.event import Event
from schemas.glossary import COUNTER_NAMES
from tests.builders import RECEIVED_AT, event
from tests.streams.folding import CODEC, LOG, Fold, LogRecord, log_of
from tests.streams.reference import by_message, count, is_identified, unique_in_order, verdicts

AGO_S = st.one_of(st.integers(0, 400), st.sampled_from([700, 1_000, 2_000]))
IPS = ("209.222.82.9", "40.107.1.1", "198.51.100.1")
"""Of a network that may carry people, of one of scanners alone, and of no known one."""
AGENT = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15"
KINDS = (
    "delivered", "bounced", "opened", "clicked", "complained", "unsubscribed", "deferred",
    "rejected", "subscribed", "unknown",
)  # fmt: skip


@st.composite
def logs(draw: st.DrawFn) -> list[Event]:
    """A short log with repeats, few messages, times out of order, missing campaigns."""
    out: list[Event] = []
    for number in range(draw(st.integers(1, 40))):
        if out and draw(st.integers(0, 5)) == 0:
            out.append(out[draw(st.integers(0, len(out) - 1))])
            continue
        message = draw(st.integers(0, 3))
        kind = draw(st.sampled_from(KINDS))
        received = RECEIVED_AT + number * 100_000
        bounce = draw(st.sampled_from(["none", "hard", "soft", "block", "suppressed"]))
        out.append(
            event(
                event_id=f"{number:032x}",
                event_type=kind,
                received_at=received,
                occurred_at=received - draw(AGO_S) * 1_000_000,
                message_id=None if message == 3 else f"m{message}",
                recipient=f"u{message}@gmail.com",
                recipient_domain="gmail.com",
                campaign_id=draw(st.sampled_from([None, f"c{message}"])),
                bounce_class=bounce if kind in ("bounced", "rejected") else "none",
                user_agent=draw(st.sampled_from([AGENT, "Mozilla/5.0", None, "curl/8"])),
                ip=draw(st.sampled_from([None, None, *IPS])),
                click_url=draw(
                    st.sampled_from(
                        [f"https://shop.example/{i}" for i in range(4)]
                        + ["https://shop.example/unsubscribe?x=1"]
                    )
                )
                if kind == "clicked"
                else None,
            )
        )
    return out


def figures(fold: Fold) -> dict[Any, dict[str, int]]:
    """Published partials in the reference's shape."""
    out = {}
    for key, (_, vector) in fold.minutes.items():
        row = {name: value for name, value in zip(COUNTER_NAMES, vector, strict=True) if value}
        if row:
            out[key] = row
    return out


def final_events(fold: Fold) -> dict[str, dict[str, Any]]:
    """The current revision of each event: the one with the highest version."""
    out: dict[str, dict[str, Any]] = {}
    for event_id, enrichment in fold.enriched:
        if event_id not in out or enrichment["version"] >= out[event_id]["version"]:
            out[event_id] = enrichment
    return out


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(logs())
def test_counts_equal_a_brute_force_recount(events: list[Event]) -> None:
    """With any order, repeats and late events every counter of every minute is exact."""
    fold = Fold()
    fold.fold(log_of(events))
    fold.checkpoint()
    assert figures(fold) == count(events)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(logs())
def test_every_event_is_written_once_under_its_final_verdict(events: list[Event]) -> None:
    """Each id has one identity, and its last revision has the final verdict."""
    fold = Fold()
    fold.fold(log_of(events))
    final = final_events(fold)
    unique = unique_in_order(events)
    assert set(final) == {e["event_id"] for e in unique}
    assert fold.duplicates == len(events) - len(unique)
    for mine in by_message(unique).values():
        campaign = next((e["campaign_id"] for e in mine if e["campaign_id"]), None)
        for one, (actor, reason) in zip(mine, verdicts(mine), strict=True):
            told = final[one["event_id"]]
            assert (told["actor"], told["actor_reason"]) == (actor, reason)
            assert final[one["event_id"]]["campaign_id"] == campaign
        for kind in ("opened", "clicked"):
            human = [
                e for e in mine
                if e["event_type"] == kind and final[e["event_id"]]["first_human"]
            ]  # fmt: skip
            assert len(human) <= 1
            assert not human or is_identified(human[0])


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(logs(), st.data())
def test_cuts_crashes_and_replays_change_nothing(events: list[Event], data: st.DataObject) -> None:
    """The same log in other batches, with crashes between any two effects: same outputs, same
    state."""
    log = log_of(events)
    straight = Fold()
    straight.fold(log)
    straight.checkpoint()

    crashed = Fold()
    at = 0
    crashes = data.draw(st.integers(0, 6))
    while at < len(log):
        size = data.draw(st.integers(1, 7))
        crashed.fold(log[at : at + size])
        at += size
        action = data.draw(
            st.sampled_from(["go on", "checkpoint", "crash", "crash after partials"])
        )
        if action == "checkpoint":
            crashed.checkpoint()
        elif action.startswith("crash") and crashes:
            crashes -= 1
            if action == "crash after partials":
                crashed.publish_minutes()
            crashed.restart()
            # The committed offset may lie anywhere at or before the stored state.
            at = data.draw(st.integers(0, crashed.shard.applied + 1))
    crashed.checkpoint()
    assert figures(crashed) == figures(straight)
    assert final_events(crashed) == final_events(straight)
    assert {str(x) for x in crashed.enriched} == {str(x) for x in straight.enriched}
    assert {str(x) for x in crashed.suppressions} == {str(x) for x in straight.suppressions}
    assert {str(x) for x in crashed.engagement} == {str(x) for x in straight.engagement}
    assert crashed.disk.values == straight.disk.values


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(logs())
def test_engagement_withdrawn_or_standing_equals_the_first_human_events(
    events: list[Event],
) -> None:
    """A reader of the engagement topic ends with exactly the first human events."""
    fold = Fold()
    fold.fold(log_of(events))
    standing: set[str] = set()
    for _, record in fold.engagement:
        if record["withdrawn"]:
            standing.discard(record["event_id"])
        else:
            standing.add(record["event_id"])
    final = final_events(fold)
    assert standing == {key for key, value in final.items() if value["first_human"]}


def test_unreadable_record_becomes_a_dead_letter_and_neighbours_go_through() -> None:
    """Only the bad record is affected."""
    log = log_of([event(event_id=f"{i:032x}", message_id=f"m{i}") for i in range(3)])
    broken = [
        LogRecord(1, log[1].timestamp, b"k", b"\x00\x00\x00\x00\x01garbage"),
        LogRecord(1, log[1].timestamp, b"k", b"\x00\x00\x00\x00\x63" + (log[1].value or b"")[5:]),
        LogRecord(1, log[1].timestamp, b"k", None),
    ]
    for poison in broken:
        fold = Fold()
        fold.fold([log[0], poison, log[2]])
        assert [event_id for event_id, _ in fold.enriched] == [f"{0:032x}", f"{2:032x}"]
        assert [(d["partition"], d["offset"]) for d in fold.dead_letters] == [(0, 1)]
        assert fold.shard.applied == 2


def test_campaign_learned_late_moves_counts_and_writes_events_again() -> None:
    """A click before its delivery has no campaign until the delivery names it."""
    click = event(
        event_id=f"{1:032x}", event_type="clicked", campaign_id=None, campaign_source="none",
        click_url="https://shop.example/a", user_agent=AGENT,
    )  # fmt: skip
    delivery = event(event_id=f"{2:032x}", occurred_at=click["occurred_at"] - 60_000_000)
    fold = Fold()
    log = log_of([click, delivery])
    fold.fold(log[:1])
    fold.checkpoint()
    assert {key[0] for key in figures(fold)} == {""}
    fold.fold(log[1:])
    fold.checkpoint()
    assert {key[0] for key in figures(fold)} == {"spring"}
    moved = final_events(fold)[click["event_id"]]
    assert (moved["campaign_id"], moved["previous_campaign_id"]) == ("spring", "")
    assert (moved["revision"], moved["version"], moved["offset"]) == (1, 1, 0)
    assert moved["campaign_source"] == "learned"


def test_a_message_is_forgotten_after_its_time_by_the_log() -> None:
    """State expires by log time: long afterwards the same id is another event."""
    fold = Fold()
    first = event()
    late = event(received_at=RECEIVED_AT + 31 * 86_400_000_000)
    late["occurred_at"] = late["received_at"]
    fold.fold(log_of([first, late]))
    assert fold.duplicates == 0
    assert len(fold.enriched) == 2


@pytest.mark.parametrize("wrong", [-1, 0, 9_000_000_000_000_000])
def test_nonsense_arrival_time_is_a_dead_letter(wrong: int) -> None:
    """Without a usable time there is no minute to count it in."""
    fold = Fold()
    fold.fold(log_of([event(received_at=wrong)]))
    assert [d["reason"] for d in fold.dead_letters] == ["bad_time"]


def test_old_and_future_events_are_counted_by_arrival() -> None:
    """An event from 40 days ago, or from next week, counts in the minute of its arrival."""
    day = 86_400_000_000
    fold = Fold()
    fold.fold(
        log_of(
            [
                event(event_id=f"{1:032x}", message_id="a", occurred_at=RECEIVED_AT - 40 * day),
                event(event_id=f"{2:032x}", message_id="b", occurred_at=RECEIVED_AT + 7 * day),
            ]
        )
    )
    fold.checkpoint()
    assert {key[2] for key in figures(fold)} == {RECEIVED_AT // 60_000_000}


def test_enriched_bytes_carry_the_raw_event_over() -> None:
    """The event inside an enriched record is the raw record's bytes, and decodes to the event."""
    fold = Fold()
    one = event(tags=["a", "b"], metadata={"k": "v"}, diagnostic="x" * 100)
    effects = fold.fold(log_of([one]))
    raw = CODEC.encode("raw_event", one)
    _, value, _ = effects.enriched[0]
    record = CODEC.decode(value, "enriched_event")
    assert record["event"] == one
    assert value[PREFIX_BYTES:].startswith(raw[PREFIX_BYTES:])
    assert value == CODEC.encode("enriched_event", record)


def test_an_event_of_a_new_log_is_not_taken_for_the_one_that_had_its_offset_before() -> None:
    """A pending open of the earlier log was written again in its place, and it was never
    written."""
    opened, delivered = (
        event(event_id=f"{number:032x}", event_type=kind, message_id="m", user_agent=AGENT)
        for number, kind in enumerate(("opened", "delivered"))
    )
    fold = Fold()
    fold.fold(log_of([opened]))
    fold.checkpoint()
    fold.shard.begin_log("log-2")
    fold.fold(log_of([delivered]))
    written = [(event_id, one["log_id"]) for event_id, one in fold.enriched if not one["revision"]]
    assert written == [(opened["event_id"], LOG), (delivered["event_id"], "log-2")]


HOUR_MS = 3_600_000


@given(logs(), st.lists(st.integers(0, 300 * HOUR_MS), min_size=40, max_size=40))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_rebuild_from_what_had_an_effect_gives_the_same_state_whatever_the_clocks(
    events: list[Event], times_ms: list[int]
) -> None:
    """Duplicates are not in the topic from which state is rebuilt, whatever their times are.

    So log time, and with it what expires, settles and closes, must not depend on them.
    """
    records = [
        replace(record, timestamp=RECEIVED_AT // 1000 + at_ms)
        for record, at_ms in zip(log_of(events), times_ms, strict=False)
    ]
    lived, rebuilt = Fold(), Fold()
    for record in records:
        known = lived.duplicates
        lived.fold([record])
        if lived.duplicates == known:
            rebuilt.fold([record])
        assert lived.shard.log_time == rebuilt.shard.log_time
        lived.checkpoint()
        rebuilt.shard.applied = lived.shard.applied  # as a restore sets it: what is committed
        rebuilt.checkpoint()
    assert lived.enriched == rebuilt.enriched
    assert lived.engagement == rebuilt.engagement
    assert lived.suppressions == rebuilt.suppressions
    assert lived.disk.values == rebuilt.disk.values
