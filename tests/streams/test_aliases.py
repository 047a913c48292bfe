"""Events that name their message by the sender's Message-ID alone are of that message."""

import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.privacy import Privacy
from ingest.providers.base import Request
from ingest.providers.sendgrid import PROVIDER
from schemas.codec import PREFIX_BYTES
from schemas.errors import DecodeError
from schemas.event import Event, alias_of, alias_unit, own_unit, unit_key
from schemas.raw_head import ID_SIZE, of_event
from schemas.settings import Source
from schemas.versions import ROW_OFFSET_BITS
from streams.enrich import aliases
from streams.enrich.aliases import Alias
from streams.enrich.derive import LookUps
from streams.enrich.message import PENDING_MAX
from streams.enrich.shard import Shard
from streams.enrich.step import step
from streams.worker.restore import Refolded
from tests.builders import RECEIVED_AT, enrichment, event
from tests.ingest.cases import ROOT
from tests.streams.folding import CODEC, LOG, Disk, Fold, LogRecord, log_of, names_of
from tests.streams.reference import by_message, count, unique_in_order
from tests.streams.test_order import arriving, told
from tests.streams.test_other_producers import with_own_head
from tests.streams.test_step import AGENT, figures, final_events

HOUR_US = 3_600_000_000
DAY_S = 86_400
RFC = "order-77@shop.example"


def some(number: int, kind: str, at_h: float = 0.0, **more: Any) -> Event:
    """An event of message ``m1`` at SendGrid, to one recipient, that has both ids."""
    return event(
        **{
            "event_id": f"{number:032x}", "event_type": kind, "provider": "sendgrid",
            "occurred_at": RECEIVED_AT + round(at_h * HOUR_US),
            "received_at": RECEIVED_AT + 20 * HOUR_US, "message_id": "m1",
            "rfc_message_id": RFC, "recipient": "u@gmail.com", "recipient_domain": "gmail.com",
            "bounce_class": "hard" if kind == "bounced" else "none",
            "user_agent": AGENT if kind in ("opened", "clicked") else None,
            **more,
        }
    )  # fmt: skip


def alone(number: int, at_h: float, **more: Any) -> Event:
    """An asynchronous bounce of it, by the sender's Message-ID alone."""
    return some(number, "bounced", at_h, **{"message_id": None, "campaign_id": None, **more})


def opened(number: int, at_h: float, **more: Any) -> Event:
    """An open of it, by SendGrid's id alone."""
    return some(number, "opened", at_h, **{"rfc_message_id": None, **more})


def stored(fold: Fold) -> dict[str, dict[str, Any]]:
    """Table ``events`` with FINAL, by event id; an event in two rows is an error."""
    rows: dict[tuple[str, str, str], tuple[int, bool, dict[str, Any]]] = {}
    for event_id, added in fold.enriched:
        version = (added["revision"] << ROW_OFFSET_BITS) + added["version"]
        now = added["campaign_id"] or "", added["message_key"]
        campaign = added["previous_campaign_id"]
        former = now[0] if campaign is None else campaign, added["previous_message_key"] or now[1]
        for place, gone in dict([(former, True), (now, False)]).items():
            key = *place, event_id
            if key not in rows or version >= rows[key][0]:
                rows[key] = (version, gone, added)
    standing = {key[2]: added for key, (_, gone, added) in rows.items() if not gone}
    assert len(standing) == sum(not gone for _, gone, _ in rows.values()), "an event in two rows"
    return standing


def messages(events: Sequence[Event]) -> dict[str, set[str]]:
    """By the reference: event id -> ids of all events of its message."""
    groups = by_message(unique_in_order(list(events))).values()
    sets = [{one["event_id"] for one in group} for group in groups]
    return {event_id: group for group in sets for event_id in group}


def folded(
    log: Sequence[LogRecord], cuts: Sequence[int] = (), look_ups: LookUps | None = None
) -> Fold:
    """The fold of a log, cut at ``cuts``, with a restart after each part."""
    fold = Fold() if look_ups is None else Fold(look_ups)
    begin = 0
    for end in [*cuts, len(log)]:
        fold.fold(list(log[begin:end]))
        fold.checkpoint()
        fold.restart()
        begin = end
    return fold


def agrees(fold: Fold, events: Sequence[Event]) -> None:
    """Counts and message keys are those of the reference; analysts find what was told last."""
    assert figures(fold) == count(unique_in_order(list(events)))
    final = final_events(fold)
    assert stored(fold) == final
    meant = messages(events)
    for event_id, one in final.items():
        same = {i for i, other in final.items() if other["message_key"] == one["message_key"]}
        assert same == meant[event_id]


@pytest.mark.parametrize("privacy", [Privacy("plain"), Privacy("hashed", b"key")])
def test_sendgrids_asynchronous_bounce_is_a_late_bounce_of_the_delivery(privacy: Privacy) -> None:
    """From the bytes that SendGrid posts to the counts: one message, delivered, bounced late."""
    body = (ROOT / "sendgrid" / "bounce_async_with_own_message_id.json").read_bytes()
    items = orjson.loads(body)
    for order in permutations(items):
        request = Request("POST", "", (), orjson.dumps(order), "192.0.2.1")
        parsed = PROVIDER.parse(request, Source(name="news", provider="sendgrid"), 1795520100000000)
        events = parsed.events
        for each in events:
            privacy.apply(each)
        assert [bool(one["message_id"]) for one in events].count(True) == 1
        fold = folded(log_of(events))
        sums: dict[str, int] = {}
        for (campaign, _, _), row in figures(fold).items():
            for name, value in row.items():
                assert campaign == "c-42"
                sums[name] = sums.get(name, 0) + value
        assert sums == {
            "events": 2, "delivered": 1, "bounced_late": 1, "cohort_bounced_late": 1,
            "attempt_sent": 1,
        }  # fmt: skip
        delivered = next(one for one in events if one["event_type"] == "delivered")
        keys = {one["message_key"] for one in stored(fold).values()}
        assert keys == {unit_key(delivered).hex()}


SETS = {
    "delivered, opened, bounced": [
        some(1, "queued"), some(2, "delivered", 1), opened(3, 2), alone(4, 3),
    ],
    "two bounces alone, one with both ids": [
        some(1, "delivered", 1), alone(2, 2, bounce_class="soft"), alone(3, 3),
        some(4, "bounced", 2.5),
    ],
    "the bounce names the campaign": [
        some(1, "delivered", 1, campaign_id=None), opened(2, 2, campaign_id=None),
        alone(3, 0, campaign_id="c"), alone(4, 3, campaign_id="d"),
    ],
    "no event has both ids": [alone(1, 1), alone(2, 2), opened(3, 3)],
    "two messages of the sender's": [
        some(1, "delivered", 1), some(2, "delivered", 2, rfc_message_id="other@shop.example",
                                      message_id="m2"),
        alone(3, 3), alone(4, 4, rfc_message_id="other@shop.example"),
    ],
    "one Message-ID, two recipients": [
        some(1, "delivered", 1), some(2, "delivered", 1, recipient="v@gmail.com"),
        alone(3, 3, recipient="v@gmail.com"), alone(4, 2),
    ],
    "ambiguous": [
        some(1, "delivered", 1), some(2, "delivered", 2, message_id="m2"), alone(3, 3), alone(4, 4),
    ],
    "ambiguous, three": [
        some(1, "delivered", 1), some(2, "delivered", 2, message_id="m2"),
        some(3, "delivered", 2, message_id="m3"), alone(4, 4, campaign_id="c"),
    ],
    "one event moves another, and is the first to name a campaign": [
        some(1, "delivered", 0, campaign_id="d"), alone(2, 1, campaign_id="c"),
        opened(3, 3, campaign_id="e"), some(4, "queued", -1, campaign_id="f"),
    ],
    "ambiguous, in-band": [
        some(1, "deferred", 1, campaign_id=None), alone(2, 0, campaign_id="c"),
        some(3, "bounced", 2, message_id="m2"), opened(4, 3),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", SETS)
def test_every_order_of_a_small_set_tells_the_same(name: str) -> None:
    """Counts, keys and flags, cut anywhere, with every duplicate once more at the end."""
    events = SETS[name]
    meant = None
    for number, order in enumerate(permutations(events)):
        log = arriving([*order, *order])
        fold = folded(log, [[], [1], [2, 3], [1, 2, 3, 4, 5]][number % 4])
        agrees(fold, events)
        assert fold.duplicates == len(events)
        assert meant in (None, told(fold))
        meant = told(fold)


@st.composite
def logs_with_aliases(draw: st.DrawFn) -> list[Event]:
    """Few messages, Message-IDs and recipients, in any combination; repeats."""
    out: list[Event] = []
    for number in range(draw(st.integers(2, 24))):
        if out and draw(st.integers(0, 5)) == 0:
            out.append(draw(st.sampled_from(out)))
            continue
        kind = draw(
            st.sampled_from(["queued", "delivered", "deferred", "bounced", "bounced", "opened"])
        )
        message = draw(st.sampled_from(["m1", "m1", "m2", None, None]))
        rfc = draw(st.sampled_from(["r1", "r1", "r1", "r2", None]))
        name = draw(st.sampled_from([None, "c", "d"]))
        out.append(
            some(
                number + 1, kind, draw(st.integers(0, 200)) / 40, message_id=message,
                rfc_message_id=None if kind == "opened" else rfc, campaign_id=name,
                recipient=draw(st.sampled_from(["u@gmail.com", "u@gmail.com", "v@gmail.com"])),
                recipient_certain=draw(st.integers(0, 9)) > 0,
                bounce_class=draw(st.sampled_from(["hard", "soft"])) if kind == "bounced"
                else "none",
            )
        )  # fmt: skip
    return out


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(logs_with_aliases(), st.randoms(use_true_random=False), st.lists(st.integers(0, 24)))
def test_any_log_is_told_as_the_reference_says(
    events: list[Event], dice: random.Random, cuts: list[int]
) -> None:
    """In any order, cut anywhere, the same as by brute force over the set."""
    one = folded(arriving(events), sorted({cut for cut in cuts if cut < len(events)}))
    agrees(one, events)
    shuffled = events[:]
    dice.shuffle(shuffled)
    assert told(folded(arriving(shuffled))) == told(one)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(logs_with_aliases())
def test_a_rebuild_gives_the_same_state(events: list[Event]) -> None:
    """From the records that had an effect, as the enriched topic holds them."""
    log = arriving(events)
    live = folded(log, list(range(1, len(log), 2)))
    had_effect = {one["offset"] for _, one in live.enriched}
    disk = Disk()
    shard = Shard(0, disk.get_many)
    shard.begin_log(LOG)
    run = [
        Refolded(r.offset, r.timestamp, r.key, r.value or b"", CODEC.raw_head(r.value or b""))
        for r in log
        if r.offset in had_effect
    ]
    step(shard, run, LookUps(), CODEC, emit=False, read=lambda record: record.head)
    shard.applied = live.shard.applied
    disk.write(shard.writes())
    assert disk.values == live.disk.values


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(logs_with_aliases(), st.lists(st.integers(0, 36) | st.just(0), min_size=24, max_size=24))
def test_no_sum_is_negative_however_late_events_come(
    events: list[Event], gaps_h: list[int]
) -> None:
    """Windows end between the events that would move others: every event is counted once."""
    log, at = [], RECEIVED_AT // 1000
    for record, gap_h in zip(log_of(events), gaps_h, strict=False):
        at = min(at + gap_h * 3_600_000, RECEIVED_AT // 1000 + 29 * DAY_S * 1000)
        log.append(replace(record, timestamp=at))
    fold = folded(log, list(range(1, len(log), 3)))
    assert stored(fold).keys() == {one["event_id"] for one in events}
    total = 0
    for counts in figures(fold).values():
        assert all(value >= 0 for value in counts.values())
        delivered = counts.get("delivered", 0)
        assert all(v <= delivered for name, v in counts.items() if name.startswith("cohort_"))
        total += counts.get("events", 0)
    assert total == len(unique_in_order(events))


def test_a_duplicate_stays_one_after_every_move() -> None:
    """Alone, with its delivery, and apart from it again; also if it names both ids meanwhile."""
    bounce, first = alone(1, 3), some(2, "delivered", 1)
    second = some(3, "delivered", 2, message_id="m2")
    named = {**bounce, "message_id": "m1"}
    course: list[Any] = [bounce, bounce, first, bounce, named, second, bounce, named]
    fold = folded(arriving(course), [1, 2, 3, 4, 5, 6, 7])
    assert fold.duplicates == 5
    agrees(fold, [bounce, first, second])


def test_what_is_settled_stays_where_it_was_told() -> None:
    """A delivery that comes after the bounce's window joins only later bounces."""
    events = [alone(1, 0), some(2, "delivered", 1), alone(3, 2)]
    log = arriving([*events, events[0], events[2]])
    log = [log[0], *(replace(r, timestamp=r.timestamp + 25 * 3_600_000) for r in log[1:])]
    for cuts in ([], [1], [1, 2, 3]):
        fold = folded(log, cuts)
        final = stored(fold)
        keys = [final[one["event_id"]]["message_key"] for one in events]
        assert keys[0] == alias_unit(alias_of(events[0])).hex()
        assert keys[1] == keys[2] == unit_key(events[1]).hex()
        assert fold.duplicates == 2
        sums = [row for (_, _, _), row in sorted(figures(fold).items())]
        assert sum(row.get("bounced_hard", 0) for row in sums) == 1
        assert sum(row.get("bounced_late", 0) for row in sums) == 1


@pytest.mark.parametrize("days", [29, 31])
def test_an_alias_is_remembered_as_long_as_a_message(days: int) -> None:
    """And so is its stored form, which the sweep removes."""
    events = [some(1, "delivered"), alone(2, 1)]
    log = arriving(events)
    log[1] = replace(log[1], timestamp=log[0].timestamp + days * DAY_S * 1000)
    fold = folded(log, [1])
    final = stored(fold)
    keys = {final[one["event_id"]]["message_key"] for one in events}
    assert len(keys) == (1 if days == 29 else 2)
    another = some(3, "delivered", rfc_message_id=None, message_id="m9")
    late = replace(log_of([another])[0], offset=2, timestamp=log[1].timestamp + 40 * DAY_S * 1000)
    fold.fold([late])
    fold.checkpoint()
    fold.checkpoint()
    assert not [key for key in fold.disk.values if key.startswith(aliases.ALIASES)]


def test_beyond_the_cap_the_first_to_arrive_are_settled() -> None:
    """Whatever moves, no event is counted twice or lost."""
    bounces = [alone(number, number / 60) for number in range(1, PENDING_MAX)]
    delivered = [some(1000 + number, "deferred", 2 + number / 60) for number in range(40)]
    for events in (bounces + delivered, delivered + bounces):
        fold = folded(arriving(events), [30, 70])
        sums = figures(fold).values()
        assert sum(row["events"] for row in sums if "events" in row) == len(events)
        assert all(value >= 0 for row in sums for value in row.values())
        stored(fold)


def test_ambiguous_message_ids_are_counted() -> None:
    """Once each, however many messages have them."""
    events = [some(n, "delivered", message_id=f"m{n}") for n in range(1, 5)]
    shard = Shard(0, Disk().get_many)
    shard.begin_log(LOG)
    assert step(shard, arriving(events), LookUps(), CODEC).ambiguous == 1


def test_only_events_that_may_need_one_have_an_alias() -> None:
    """Not those whose Message-ID SendGrid made of its own id, nor of other providers."""
    assert alias_of(some(1, "delivered")) == alias_of(alone(2, 1)) != 0
    assert unit_key(alone(2, 1)) == alias_unit(alias_of(alone(2, 1)))
    for without in (
        some(1, "delivered", rfc_message_id="m1@geopod-ismtpd-1"), opened(1, 1),
        some(1, "opened", message_id=None), alone(1, 1, recipient_certain=False),
        alone(1, 1, recipient=None), some(1, "delivered", provider="mailgun"),
        alone(1, 1, provider="resend"),
    ):  # fmt: skip
        assert alias_of(without) == 0
        assert "alias" not in CODEC.raw_head(CODEC.encode("raw_event", without))
    lone = alone(1, 1, recipient=None)
    assert unit_key(lone) == own_unit(lone["event_id"])


@pytest.mark.parametrize("raw", [some(1, "delivered"), alone(2, 1), opened(3, 1)])
def test_heads_say_what_events_say_of_aliases(raw: Event) -> None:
    """Raw and enriched records alike; only heads of this form are used."""
    value, meant = CODEC.encode("raw_event", raw), of_event(raw)
    whole = CODEC.encode("enriched_event", {"event": raw, "enrichment": enrichment()})
    form = PREFIX_BYTES + ID_SIZE + 1 + 4
    former = value[:form] + b"\x01" + value[form + 1 :]
    for head in (CODEC.raw_head(value), CODEC.split_enriched(whole)[0], CODEC.raw_head(former)):
        assert {name: head[name] for name in meant} == meant
        assert ("alias" in head) == ("alias" in meant) == (raw["event_type"] != "opened")
        head.complete()


@pytest.mark.parametrize("other", [{"rfc_message_id": None}, {"message_id": None}])
def test_a_head_that_lies_about_its_alias_is_no_event(other: dict[str, Any]) -> None:
    """As every head that says otherwise than the fields: the record becomes a dead letter."""
    raw = some(1, "bounced")
    head = CODEC.raw_head(with_own_head(raw, {**raw, **other}))  # type: ignore[typeddict-item]
    with pytest.raises(DecodeError, match="otherwise"):
        head.complete()


def test_a_new_epoch_removes_what_older_folds_stored() -> None:
    """They gave such an event a key of its own, which is part of its row's identity."""
    bounce, delivered = alone(1, 1), some(2, "delivered")
    own = own_unit(bounce["event_id"]).hex()
    for events in ([bounce, delivered], [delivered, bounce]):
        fold = folded(log_of(events), look_ups=LookUps(epoch=1))
        before = [one["previous_message_key"] for name, one in fold.enriched
                  if name == bounce["event_id"]]  # fmt: skip
        assert before[0] == own
        stored(fold)


@given(
    st.integers(0, 2**32 - 1), st.sampled_from([b"", bytes(range(16))]), st.booleans(),
    st.lists(st.integers(0, 2**64 - 1), max_size=5), st.integers(1, 2**64 - 1),
)  # fmt: skip
def test_stored_form(touched: int, unit: bytes, ambiguous: bool, seen: list[int], n: int) -> None:
    """``pack`` and ``unpack`` are inverse."""
    alias = Alias(touched, unit)
    alias.ambiguous, alias.seen = ambiguous, seen
    again = aliases.unpack(aliases.pack(alias))
    for name in names_of(Alias):
        assert getattr(again, name) == getattr(alias, name)
    assert aliases.number_of(aliases.key_of(n)) == n
    assert len(aliases.pack(Alias(touched, bytes(16)))) == 24  # one for each message that has one
