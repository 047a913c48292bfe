"""Suppressions: who must not be mailed, from the events of an address."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.recipients import (
    COMPLAINT,
    HARD,
    LIFT,
    SOFT,
    SOFT_BOUNCES,
    SOFT_FOR_S,
    SOFT_WITHIN_S,
    UNSUBSCRIBE,
    Recipient,
    apply,
    pack,
    unpack,
)

SOFT_BOUNCE = ("soft", "mailbox_full")
NONE = ("none", "none")
DAY = 86_400


def bounce_softly(recipient: Recipient, times: int, begin: int = 1_000_000) -> list[int]:
    """What ``times`` soft bounces a day apart give."""
    return [apply(recipient, "bounced", SOFT_BOUNCE, begin + n * DAY) for n in range(times)]


@pytest.mark.parametrize(
    ("event_type", "bounce", "reason"),
    [
        ("bounced", ("hard", "no_mailbox"), HARD),
        ("complained", NONE, COMPLAINT),
        ("unsubscribed", NONE, UNSUBSCRIBE),
    ],
)
def test_bad_news_suppresses_at_once_and_once(
    event_type: str, bounce: tuple[str, str], reason: int
) -> None:
    """One record per reason and address, whatever comes again or lifts softly."""
    recipient = Recipient()
    assert apply(recipient, event_type, bounce, 5) == reason
    assert apply(recipient, event_type, bounce, 6) == 0
    assert apply(recipient, "delivered", NONE, 7) == 0
    assert recipient.standing == reason


def test_hard_flag_with_a_reason_of_the_sender_does_not_suppress() -> None:
    """A provider that knows only hard and soft calls a block hard: the address may be fine."""
    assert apply(Recipient(), "bounced", ("hard", "reputation"), 5) == 0


def test_fifth_soft_bounce_in_seven_days_suppresses() -> None:
    """Four are not enough, the fifth is, the sixth says nothing new."""
    assert bounce_softly(Recipient(), SOFT_BOUNCES + 1) == [0] * (SOFT_BOUNCES - 1) + [SOFT, 0]


def test_soft_bounces_further_apart_do_not_suppress() -> None:
    """Only those within seven days of the newest count."""
    recipient = Recipient()
    for n in range(3 * SOFT_BOUNCES):
        at = n * SOFT_WITHIN_S // (SOFT_BOUNCES - 1)
        assert apply(recipient, "bounced", SOFT_BOUNCE, at) == 0


def test_a_delivery_between_starts_the_count_anew() -> None:
    """Four, a delivery, four: nobody is suppressed."""
    recipient = Recipient()
    bounce_softly(recipient, SOFT_BOUNCES - 1)
    assert apply(recipient, "delivered", NONE, 2_000_000) == 0
    assert bounce_softly(recipient, SOFT_BOUNCES - 1, 2_000_001) == [0] * (SOFT_BOUNCES - 1)


@pytest.mark.parametrize("good", ["delivered", "subscribed"])
def test_good_news_lifts_a_soft_suppression(good: str) -> None:
    """A tombstone, once."""
    recipient = Recipient()
    bounce_softly(recipient, SOFT_BOUNCES)
    assert apply(recipient, good, NONE, 9_000_000) == LIFT
    assert apply(recipient, good, NONE, 9_000_001) == 0


def test_good_news_never_removes_a_permanent_suppression() -> None:
    """Suppressed softly, then for a complaint: the record of the complaint stays."""
    recipient = Recipient()
    bounce_softly(recipient, SOFT_BOUNCES)
    assert apply(recipient, "complained", NONE, 8_000_000) == COMPLAINT
    assert apply(recipient, "delivered", NONE, 9_000_000) == 0
    assert recipient.standing == COMPLAINT


def test_a_soft_suppression_that_ended_by_itself_can_come_again() -> None:
    """After its time, five more soft bounces suppress anew."""
    recipient = Recipient()
    assert bounce_softly(recipient, SOFT_BOUNCES)[-1] == SOFT
    assert bounce_softly(recipient, SOFT_BOUNCES, 1_000_000 + SOFT_FOR_S + 9 * DAY)[-1] == SOFT


@given(
    st.integers(0, 15), st.integers(0, 2**32 - 1), st.lists(st.integers(0, 2**32 - 1), max_size=5)
)
def test_compact_form_is_inverse(standing: int, since: int, soft: list[int]) -> None:
    """What is stored is what is read; nothing to keep gives no bytes."""
    data = pack(Recipient(standing, since, soft))
    if not standing and not soft:
        assert data == b""
    else:
        again = unpack(data)
        assert (again.standing, again.soft_since, again.soft) == (standing, since, soft)
