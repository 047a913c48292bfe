"""Suppressions: who must not be mailed, from the events of an address."""

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.event import Event
from streams.enrich.suppressions import (
    COMPLAINT,
    HARD,
    LIFT,
    SOFT,
    SOFT_BOUNCES,
    SOFT_FOR_S,
    SOFT_KEPT_S,
    SOFT_WITHIN_S,
    UNSUBSCRIBE,
    Recipient,
    apply,
    expire,
    pack,
    unpack,
)
from tests.builders import RECEIVED_AT, event
from tests.streams.folding import Fold, log_of

SOFT_BOUNCE = ("soft", "mailbox_full")
NONE = ("none", "none")
DAY = 86_400


def bounce_softly(recipient: Recipient, times: int, begin: int = 1_000_000) -> list[int]:
    """The effects of ``times`` soft bounces a day apart."""
    return [apply(recipient, "bounced", SOFT_BOUNCE, begin + n * DAY) for n in range(times)]


@pytest.mark.parametrize(
    ("event_type", "bounce", "reason"),
    [
        ("bounced", ("hard", "no_mailbox"), HARD),
        ("complained", NONE, COMPLAINT),
        ("unsubscribed", NONE, UNSUBSCRIBE),
    ],
)
def test_a_final_failure_suppresses_at_once_and_once(
    event_type: str, bounce: tuple[str, str], reason: int
) -> None:
    """One record per reason and address, whatever is repeated or lifted afterwards."""
    recipient = Recipient()
    assert apply(recipient, event_type, bounce, 5) == reason
    assert apply(recipient, event_type, bounce, 6) == 0
    assert apply(recipient, "delivered", NONE, 7) == 0
    assert recipient.standing == reason


def test_hard_flag_with_a_reason_of_the_sender_does_not_suppress() -> None:
    """A provider with only hard and soft reports a block as hard: the address may be valid."""
    assert apply(Recipient(), "bounced", ("hard", "reputation"), 5) == 0


def test_fifth_soft_bounce_in_seven_days_suppresses() -> None:
    """Four are not enough, the fifth is, the sixth has no further effect."""
    assert bounce_softly(Recipient(), SOFT_BOUNCES + 1) == [0] * (SOFT_BOUNCES - 1) + [SOFT, 0]


def test_soft_bounces_further_apart_do_not_suppress() -> None:
    """Only those within seven days of the newest count."""
    recipient = Recipient()
    for n in range(3 * SOFT_BOUNCES):
        at = n * SOFT_WITHIN_S // (SOFT_BOUNCES - 1)
        assert apply(recipient, "bounced", SOFT_BOUNCE, at) == 0


def test_a_delivery_between_restarts_the_count() -> None:
    """Four, a delivery, four: nothing is suppressed."""
    recipient = Recipient()
    bounce_softly(recipient, SOFT_BOUNCES - 1)
    assert apply(recipient, "delivered", NONE, 2_000_000) == 0
    assert bounce_softly(recipient, SOFT_BOUNCES - 1, 2_000_001) == [0] * (SOFT_BOUNCES - 1)


@pytest.mark.parametrize("good", ["delivered", "subscribed"])
def test_a_positive_event_lifts_a_soft_suppression(good: str) -> None:
    """A tombstone, once."""
    recipient = Recipient()
    bounce_softly(recipient, SOFT_BOUNCES)
    assert apply(recipient, good, NONE, 9_000_000) == LIFT
    assert apply(recipient, good, NONE, 9_000_001) == 0


def test_a_positive_event_never_lifts_a_permanent_suppression() -> None:
    """Suppressed for soft bounces, then for a complaint: the record of the complaint stays."""
    recipient = Recipient()
    bounce_softly(recipient, SOFT_BOUNCES)
    assert apply(recipient, "complained", NONE, 8_000_000) == COMPLAINT
    assert apply(recipient, "delivered", NONE, 9_000_000) == 0
    assert recipient.standing == COMPLAINT


def test_a_soft_suppression_that_ended_by_itself_can_come_again() -> None:
    """Later, five more soft bounces suppress again."""
    recipient = Recipient()
    assert bounce_softly(recipient, SOFT_BOUNCES)[-1] == SOFT
    assert bounce_softly(recipient, SOFT_BOUNCES, 1_000_000 + SOFT_FOR_S + 9 * DAY)[-1] == SOFT


@given(
    st.integers(0, 15), st.integers(0, 2**32 - 1), st.lists(st.integers(0, 2**32 - 1), max_size=5)
)
def test_compact_form_is_inverse(standing: int, since: int, soft: list[int]) -> None:
    """What is stored is what is read; an empty record gives no bytes."""
    data = pack(Recipient(standing, since, soft))
    if not standing and not soft:
        assert data == b""
    else:
        again = unpack(data)
        assert (again.standing, again.soft_since, again.soft) == (standing, since, soft)


@st.composite
def happenings(draw: st.DrawFn) -> list[tuple[str, int, int]]:
    """Bursts of soft bounces and other events, weeks apart: kind, arrival and event time (s)."""
    out: list[tuple[str, int, int]] = []
    received_s = RECEIVED_AT // 1_000_000
    for _ in range(draw(st.integers(1, 8))):
        received_s += draw(st.sampled_from([DAY, 8 * DAY, 31 * DAY, 65 * DAY]))
        what = draw(st.sampled_from(["soft", "soft", "delivered", "opened"]))
        late_s = draw(st.sampled_from([0, 0, 30 * DAY]))
        for _ in range(draw(st.sampled_from([1, 4, 5])) if what == "soft" else 1):
            received_s += 3600
            out.append((what, received_s, received_s - late_s))
    return out


@given(happenings())
@settings(max_examples=500)
def test_forgetting_soft_bounces_changes_nothing_but_lifts_of_what_has_ended(
    happened: list[tuple[str, int, int]],
) -> None:
    """No event can arrive that is within seven days of a forgotten one."""
    forgets, remembers = Recipient(), Recipient()
    ends = 0
    for what, received_s, at in happened:
        expire(forgets, received_s)
        kind = "bounced" if what == "soft" else what
        found, wanted = (apply(one, kind, (what, "unknown"), at) for one in (forgets, remembers))
        assert found == wanted or (found, wanted) == (0, LIFT)
        if (found, wanted) == (0, LIFT):
            assert received_s > ends, "it still stands"
        if found == SOFT:
            ends = at + SOFT_FOR_S


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
            event_type="bounced" if what == "soft" else what,
            bounce_class="soft" if what == "soft" else "none",
            recipient=f"u{person}@gmail.com",
            message_id=f"m{number}",
            received_at=received_s * 1_000_000,
            occurred_at=at * 1_000_000,
        )
        for number, (received_s, at, what, person) in enumerate(sorted(some))
    ]


@given(histories(), st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_sweeping_soft_bounces_away_changes_no_suppression(
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
    assert len(list(fold.disk.scan(b"s", b"t"))) == len(fold.shard.soft) == people
    later = log_of([soft_bounce(people, "new@gmail.com", SOFT_KEPT_S // DAY + 1)])
    fold.fold([replace(later[0], offset=people)])
    for _ in range(people):
        fold.checkpoint(swept_max=10)
    assert len(list(fold.disk.scan(b"s", b"t"))) == len(fold.shard.soft) == 1
    assert len(list(fold.disk.scan(b"r", b"s"))) == 1
