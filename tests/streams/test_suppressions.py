"""Suppressions: who must not be mailed, from the events of an address."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.event import Event
from streams.enrich.suppressions import (
    COMPLAINT,
    HARD,
    LASTING,
    LIFE_WITHIN_S,
    MANUAL,
    PRECEDENCE,
    SCOPES_MAX,
    SOFT,
    SOFT_WITHIN_S,
    UNSUBSCRIBE,
    Case,
    Recipient,
    Sign,
    holding,
    in_log,
    pack,
    take,
    tell,
    unpack,
)
from tests.builders import RECEIVED_AT, event
from tests.streams.folding import Fold, log_of, names_of
from tests.streams.suppression_reference import LISTED, reference, standing
from tests.streams.suppression_signs import (
    DAY,
    HARD_BOUNCE,
    NONE,
    NOW,
    SOFT_BOUNCE,
    after,
    hard,
    holds,
    sign,
    soft,
    softs,
)


@pytest.mark.parametrize(
    ("one", "reason"),
    [
        (hard(5), HARD),
        (sign("complained", 5), COMPLAINT),
        (sign("unsubscribed", 5), UNSUBSCRIBE),
        *((sign("suppression_added", 5, listed=name), reason) for name, reason in LISTED.items()),
        # a provider with only hard and soft reports a block as hard: the address may be valid
        (sign("bounced", 5, ("hard", "reputation")), 0),
        (sign("bounced", 5, SOFT_BOUNCE), 0),
        (sign("delivered", 5), 0),
    ],
)
def test_one_event_suppresses_at_once_or_not(one: Sign, reason: int) -> None:
    """And is told once."""
    recipient = after([one, one])
    assert holding(recipient) == reason
    told = tell(recipient)
    assert (told.reason if told else 0) == reason
    assert tell(recipient) is None


def lasting(at: int) -> dict[int, Sign]:
    """What gives each lasting suppression."""
    return {
        HARD: hard(at), COMPLAINT: sign("complained", at), UNSUBSCRIBE: sign("unsubscribed", at),
        MANUAL: sign("suppression_added", at),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("later", "ends"),
    [
        (sign("delivered", NOW), {SOFT}),
        (sign("opened", NOW, read_of=NOW - DAY), {HARD}),
        (sign("opened", NOW, read_of=NOW - 90 * DAY), set()),  # delivered before the bounce
        (sign("opened", NOW), set()),  # of a message that is not known to be delivered
        (sign("subscribed", NOW), {UNSUBSCRIBE, SOFT}),
        (sign("suppression_removed", NOW), {*LASTING, SOFT}),
        (sign("suppression_removed", NOW, listed="other"), {MANUAL}),
        (sign("suppression_removed", NOW, listed="suppressed_bounce"), {HARD, SOFT}),
        (sign("suppression_removed", NOW, listed="suppressed_complaint"), {COMPLAINT}),
        (sign("suppression_removed", NOW, listed="suppressed_unsubscribe"), {UNSUBSCRIBE}),
        (sign("complained", NOW), set()),
    ],
)
def test_what_contradicts_a_suppression_ends_it_and_no_other(later: Sign, ends: set[int]) -> None:
    """The table of the glossary; only if it happened later, whenever it was told."""
    for reason, one in lasting(NOW - 2 * DAY).items():
        after_it = holds(one, later)
        assert (after_it != reason) == (reason in ends) or after_it == COMPLAINT
        assert holds(one, later._replace(at=one.at - 1, read_of=0)) == reason or (
            later.kind == "complained"
        )
        assert holds(one, later._replace(at=one.at, read_of=0)) in (reason, COMPLAINT)
    after_softs = holding(after([*softs(NOW - 6 * DAY), later]))
    assert (after_softs == 0) == (SOFT in ends)


def test_of_several_the_hardest_to_lift_is_told_and_then_the_next() -> None:
    """A hard bounce is not overwritten by an unsubscribe, and stands when that ends."""
    recipient = Recipient()
    told = []
    for one in (
        sign("unsubscribed", 1), hard(2), sign("subscribed", 3), sign("unsubscribed", 4),
        sign("suppression_removed", 5, listed="suppressed_bounce"), sign("subscribed", 6),
    ):  # fmt: skip
        take(recipient, one, 10)
        if (telling := tell(recipient)) is not None:
            told.append((telling.reason, telling.offset))
    assert told == [(UNSUBSCRIBE, 1), (HARD, 2), (UNSUBSCRIBE, 4), (0, -1)]


def test_life_ends_a_hard_bounce_within_its_window_only() -> None:
    """By log time, so that no address has to be watched for ever."""
    bounce, read = hard(NOW), sign("opened", NOW + 2 * DAY, read_of=NOW + DAY)
    recipient = after([bounce], NOW)
    take(recipient, read, NOW + LIFE_WITHIN_S)
    assert holding(recipient) == HARD
    take(recipient, read, NOW + LIFE_WITHIN_S - 1)
    assert holding(recipient) == 0


def test_offsets_of_another_log_are_not_told() -> None:
    """They would name other records there."""
    recipient = after([hard(5), sign("complained", 7)])
    in_log(recipient, 1)
    tell(recipient)
    take(recipient, sign("suppression_removed", 8, listed="suppressed_complaint"), NOW)
    assert (telling := tell(recipient)) is not None
    assert (telling.reason, telling.at, telling.offset) == (HARD, 5, -1)


TIMES = st.integers(0, 13).map(lambda days: NOW - days * DAY)


@st.composite
def signs_of_life_and_death(draw: st.DrawFn) -> Sign:
    """Any sign within the window."""
    at = draw(TIMES)
    kind = draw(
        st.sampled_from(
            ["soft", "soft", "soft", "soft", "bounced", "complained", "unsubscribed", "subscribed",
             "suppression_added", "suppression_removed", "delivered", "opened"]
        )
    )  # fmt: skip
    if kind == "soft":
        return soft(at, draw(st.integers(1, 9)))
    read_of = draw(st.one_of(st.just(0), TIMES)) if kind in ("delivered", "opened") else 0
    bounce = HARD_BOUNCE if kind == "bounced" else NONE
    return sign(kind, at, bounce, listed=draw(st.sampled_from(sorted(LISTED))), read_of=read_of)


@given(st.lists(signs_of_life_and_death(), max_size=12), st.randoms(use_true_random=False))
@settings(max_examples=1_000)
def test_the_set_of_signs_decides(signs: list[Sign], random: Any) -> None:
    """Not their order, once a bounce of each kind has opened the windows."""
    opening = [soft(NOW - 13 * DAY, 1), hard(NOW - 13 * DAY)]
    wanted = reference([*opening, *signs])
    for _ in range(4):
        assert holding(after([*opening, *signs])) == wanted
        random.shuffle(signs)


U32 = st.integers(0, 2**32 - 1)
CASES = st.builds(Case, U32, U32, st.integers(-1, 2**40))


@given(
    st.dictionaries(st.sampled_from(LASTING), CASES),
    st.sets(st.tuples(U32, U32), max_size=255),
    st.tuples(U32, U32, U32, U32, st.integers(-1, 2**40), st.sampled_from([0, *PRECEDENCE])),
    st.integers(0, SCOPES_MAX),
)
def test_compact_form_is_inverse(
    cases: dict[int, Case], soft_bounces: set[tuple[int, int]], rest: tuple[int, ...], scopes: int
) -> None:
    """What is stored is what is read; a state without content gives no bytes."""
    one = Recipient()
    one.cases, one.soft = cases, soft_bounces
    one.scopes = scopes
    one.log_tag, one.life, one.soft_at, one.told_at, one.soft_offset, one.told = rest
    data = pack(one)
    if not data:
        assert not any((cases, soft_bounces, one.soft_at, one.told, scopes))
        return
    again = unpack(data)
    for name in names_of(Recipient):
        if name not in ("address", "dirty"):
            assert getattr(again, name) == getattr(one, name), name


@st.composite
def happenings(draw: st.DrawFn) -> list[tuple[str, int, int]]:
    """Bursts of soft bounces and other events, weeks apart: kind, arrival and event time (s)."""
    out: list[tuple[str, int, int]] = []
    received_s = RECEIVED_AT // 1_000_000
    for _ in range(draw(st.integers(1, 8))):
        received_s += draw(st.sampled_from([DAY, 8 * DAY, 31 * DAY, 65 * DAY]))
        what = draw(st.sampled_from(["soft", "soft", "hard", "delivered", "opened", "subscribed"]))
        late_s = draw(st.sampled_from([0, 0, 20 * DAY]))
        for _ in range(draw(st.sampled_from([1, 4, 5])) if what == "soft" else 1):
            received_s += 20 * 3600
            out.append((what, received_s, received_s - late_s))
    return out


@st.composite
def histories(draw: st.DrawFn) -> list[Event]:
    """The same for several addresses, as events."""
    some = [
        (received_s, at, what, person)
        for person in range(draw(st.integers(1, 3)))
        for what, received_s, at in draw(happenings())
    ]
    return [
        event(
            event_id=f"{number:032x}",
            event_type="bounced" if what in ("soft", "hard") else what,
            bounce_class=what if what in ("soft", "hard") else "none",
            recipient=f"u{person}@gmail.com",
            message_id=f"m{number}",
            received_at=received_s * 1_000_000,
            occurred_at=at * 1_000_000,
        )
        for number, (received_s, at, what, person) in enumerate(sorted(some))
    ]


@given(histories(), st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_sweeping_evidence_away_changes_no_suppression(
    events: list[Event], data: st.DataObject
) -> None:
    """Whenever they are removed from the store, before or after a restart."""
    kept, swept = Fold(), Fold()
    for record in log_of(events):
        for fold, swept_max in ((kept, 0), (swept, data.draw(st.sampled_from([1, 2, 1_000])))):
            fold.fold([record])
            fold.checkpoint(swept_max)
        if data.draw(st.integers(0, 9)) == 0:
            swept.restart()
    assert swept.suppressions == kept.suppressions


KINDS = (
    "bounced", "bounced", "bounced", "delivered", "delivered", "opened", "clicked", "complained",
    "unsubscribed", "subscribed", "suppression_added", "suppression_removed", "sent",
)  # fmt: skip


@st.composite
def lives(draw: st.DrawFn) -> list[Event]:
    """Some days of two addresses: all kinds of events, on time or late, some of them repeated."""
    out: list[Event] = []
    received_s = RECEIVED_AT // 1_000_000
    for number in range(draw(st.integers(1, 25))):
        received_s += draw(st.sampled_from([60, 3600, DAY // 4, DAY // 3]))
        kind = draw(st.sampled_from(KINDS))
        message = draw(st.integers(0, 7))
        late_s = draw(st.sampled_from([0, 0, 30, DAY, 4 * DAY]))
        known = draw(st.booleans())
        out.append(
            event(
                event_id=f"{number:032x}", event_type=kind,
                recipient=f"U{message % 2}@gmail.com", message_id=f"m{message}" if known else None,
                bounce_class=draw(st.sampled_from(["hard", "soft", "soft", "block"]))
                if kind == "bounced" else "none",
                bounce_reason=draw(st.sampled_from(sorted(LISTED)))
                if kind.startswith("suppression") else "none",
                suppression_scope=draw(st.sampled_from([None, None, "list:1"])),
                received_at=received_s * 1_000_000, occurred_at=(received_s - late_s) * 1_000_000,
            )
        )  # fmt: skip
    repeated = draw(st.lists(st.sampled_from(out), max_size=3))
    return out + [{**one, "received_at": received_s * 1_000_000} for one in repeated]


@given(lives(), st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_what_was_told_last_is_what_a_recount_gives(
    events: list[Event], data: st.DataObject
) -> None:
    """Of every address and scope, over crashes and replays; a record never goes back."""
    fold = Fold()
    log = log_of(events)
    done = 0
    while done < len(log):
        cut = data.draw(st.integers(done + 1, len(log)))
        fold.fold(log[done:cut])
        if data.draw(st.booleans()):
            fold.checkpoint()
            done = cut
        elif data.draw(st.booleans()):
            fold.restart()  # from the last checkpoint; what was written stays
            done = fold.shard.applied + 1
        else:
            done = cut
    last = {one.addressee: one for one in fold.suppressions}
    found = {whom: one.record and one.record["reason"] for whom, one in last.items()}
    wanted = standing(events)
    assert {whom: reason for whom, reason in found.items() if reason} == {
        whom: reason for whom, reason in wanted.items() if reason
    }


def soft_bounce(number: int, recipient: str, day: int) -> Event:
    """A soft bounce of a message of its own."""
    at = RECEIVED_AT + day * DAY * 1_000_000
    return event(
        event_id=f"{number:032x}", event_type="bounced", bounce_class="soft", recipient=recipient,
        message_id=f"m{number}", received_at=at, occurred_at=at,
    )  # fmt: skip


def test_addresses_that_nobody_writes_to_any_more_leave_nothing_behind() -> None:
    """Neither in the store nor among the short hashes in memory; others are kept."""
    people = 50
    fold = Fold()
    fold.fold(log_of([soft_bounce(n, f"old{n}@gmail.com", 0) for n in range(people)]))
    fold.checkpoint()
    assert len(list(fold.disk.scan(b"s", b"t"))) == len(fold.shard.watched) == people
    later = log_of([soft_bounce(people, "new@gmail.com", SOFT_WITHIN_S // DAY + 1)])
    fold.fold([replace(later[0], offset=people)])
    for _ in range(people):
        fold.checkpoint(swept_max=10)
    assert len(list(fold.disk.scan(b"s", b"t"))) == len(fold.shard.watched) == 1
    assert len(list(fold.disk.scan(b"r", b"s"))) == 1
