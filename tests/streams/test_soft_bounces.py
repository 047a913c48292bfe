"""Soft bounces: of several messages over days they suppress, whatever their order and number."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.enrich.minute_counts import SUSPECT_FUTURE_S
from streams.enrich.suppressions import (
    SOFT,
    SOFT_BOUNCES,
    SOFT_FOR_S,
    SOFT_KEPT_MAX,
    SOFT_SPAN_S,
    SOFT_STEP_S,
    SOFT_STEPS_MAX,
    SOFT_WITHIN_S,
    Recipient,
    Sign,
    expire,
    holding,
    pack,
    take,
    tell,
    unpack,
)
from tests.streams.suppression_reference import reference
from tests.streams.suppression_signs import DAY, NOW, after, holds, sign, soft, softs


@pytest.mark.parametrize(
    ("signs", "reason"),
    [
        (softs(), SOFT),
        (softs(count=SOFT_BOUNCES - 1), 0),
        (softs(step=SOFT_SPAN_S // (SOFT_BOUNCES - 1) - 1), 0),  # all within three days
        (softs(step=SOFT_SPAN_S // (SOFT_BOUNCES - 1)), SOFT),
        ([soft(NOW - n * DAY, 1) for n in range(SOFT_BOUNCES + 3)], 0),  # of one message
        ([*softs(NOW - 6 * DAY), sign("delivered", NOW - 8 * DAY)], SOFT),  # before all of them
        ([*softs(NOW - 6 * DAY), sign("delivered", NOW - 4 * DAY)], 0),
        ([*softs(NOW - 6 * DAY), sign("delivered", NOW)], 0),
        (softs(NOW - SOFT_WITHIN_S - 1), 0),  # the first one no longer counts
        (softs(NOW - SOFT_WITHIN_S), SOFT),
    ],
)
def test_soft_bounces_of_several_messages_over_days_suppress(
    signs: list[Sign], reason: int
) -> None:
    """Without a sign of life since, in whatever order they are told."""
    assert holds(*signs) == reason


@pytest.mark.parametrize(
    "lifted",
    [
        sign("subscribed", NOW),
        sign("suppression_removed", NOW),
        sign("suppression_removed", NOW, listed="suppressed_bounce"),
    ],
)
def test_a_lift_is_remembered_of_an_address_that_nothing_was_known_of(lifted: Sign) -> None:
    """Bounces that are told later, of before it, do not suppress; those after it do."""
    before, later = softs(NOW - 5 * DAY), softs(NOW + DAY)
    recipient = unpack(pack(after([lifted])))
    now = NOW + 6 * DAY
    for one in before:
        take(recipient, one, now)
    assert holding(recipient) == 0
    for one in later:
        take(recipient, one, now)
    assert holding(recipient) == SOFT


def test_a_soft_suppression_is_told_with_its_newest_bounce_and_ends_by_itself() -> None:
    """One more moves its end; after it nothing is lifted, and it can come again."""
    recipient = after(softs(NOW - 5 * DAY), NOW)
    assert (first := tell(recipient)) is not None
    assert (first.reason, first.at) == (SOFT, NOW - DAY)
    take(recipient, soft(NOW, 99), NOW)
    assert (second := tell(recipient)) is not None
    assert (second.reason, second.at) == (SOFT, NOW)
    later = NOW + SOFT_FOR_S + 1
    expire(recipient, later)
    assert (holding(recipient), tell(recipient), pack(recipient)) == (0, None, b"")
    for one in softs(later - 5 * DAY):
        take(recipient, one, later)
    assert (third := tell(recipient)) is not None
    assert third.reason == SOFT


STEPS = SOFT_WITHIN_S // SOFT_STEP_S


@st.composite
def busy_mailboxes(draw: st.DrawFn) -> list[Sign]:
    """Many soft bounces, several of some messages, and a few signs of life; any seconds."""
    messages, step_s = draw(st.sampled_from([5, 7, 100])), draw(st.sampled_from([600, 3600]))
    life = draw(st.sampled_from([0, 1, 2]))
    bounces = draw(
        st.lists(
            st.tuples(st.integers(1, SOFT_WITHIN_S // step_s - 1), st.integers(0, messages)),
            min_size=4, max_size=80,
        )
    )  # fmt: skip
    signs = [soft(NOW - steps * step_s, unit) for steps, unit in bounces]
    times = st.integers(1, SOFT_WITHIN_S - 1)
    return signs + [sign("delivered", NOW - draw(times)) for _ in range(life)]


@given(busy_mailboxes(), st.randoms(use_true_random=False))
@settings(max_examples=500)
def test_the_set_decides_of_any_number_of_soft_bounces(signs: list[Sign], random: Any) -> None:
    """Also of those that bounced again; which suppression, and until when. Few are kept."""
    opening = Recipient()  # life is remembered of an address that is known
    opening.soft = {(2**32 - 1, NOW - SOFT_WITHIN_S)}
    found = set()
    for _ in range(6):
        random.shuffle(signs)
        recipient = unpack(pack(opening))
        for one in signs:
            take(recipient, one, NOW)
            recipient = unpack(pack(recipient))
        found.add((holding(recipient), recipient.soft_at))
        assert len(recipient.soft) <= max(SOFT_KEPT_MAX, 2 * (STEPS + 1) + SOFT_BOUNCES)
    assert len(found) == 1


@given(st.lists(st.tuples(st.integers(0, STEPS - 1), st.integers(1, 9)), max_size=80),
       st.none() | st.integers(0, STEPS - 1))  # fmt: skip
@settings(max_examples=500)
def test_of_many_soft_bounces_enough_is_kept(
    bounces: list[tuple[int, int]], life: int | None
) -> None:
    """As if all were: on whole steps of time nothing is lost."""
    begin = (NOW - SOFT_WITHIN_S) // SOFT_STEP_S * SOFT_STEP_S + SOFT_STEP_S
    signs = [soft(begin, 1), *(soft(begin + step * SOFT_STEP_S, unit) for step, unit in bounces)]
    if life is not None:
        signs.append(sign("delivered", begin + life * SOFT_STEP_S))
    assert holding(after(signs)) == reference(signs)


@pytest.mark.parametrize("a_day", [2, 5, 16, 50, 500])
def test_an_address_that_gets_much_mail_is_suppressed_too(a_day: int) -> None:
    """After three days; else a busy mailbox would bounce for ever."""
    recipient = Recipient()
    suppressed_after = None
    for number in range(5 * a_day):
        at = NOW + number * (DAY // a_day)
        expire(recipient, at)
        take(recipient, soft(at, number), at)
        if holding(recipient) and suppressed_after is None:
            suppressed_after = at - NOW
    assert suppressed_after is not None
    assert SOFT_SPAN_S <= suppressed_after < SOFT_SPAN_S + DAY


@pytest.mark.parametrize("messages", [1, 4, 7, 600])
@pytest.mark.parametrize("step_s", [600, SOFT_STEP_S, DAY])
def test_times_ahead_of_the_log_grow_no_state(messages: int, step_s: int) -> None:
    """Of a producer with a wrong clock nothing expires; the state must still be packed."""
    for order in (1, -1):
        recipient = Recipient()
        for number in range(600)[::order]:
            take(recipient, soft(NOW + number * step_s, number % messages), NOW)
            if not number % 100:
                recipient = unpack(pack(recipient))
        assert len(recipient.soft) <= 2 * SOFT_STEPS_MAX + SOFT_BOUNCES <= 255
        assert unpack(pack(recipient)).soft == recipient.soft
        assert holding(recipient) == (SOFT if messages >= SOFT_BOUNCES else 0)


def test_what_counts_at_once_is_in_no_more_steps_than_are_kept() -> None:
    """So where the times are those of the log, the limit takes nothing away."""
    # so far an event's own time may be ahead of its arrival, see ``derive.happened_us``
    assert (SOFT_WITHIN_S + SUSPECT_FUTURE_S) // SOFT_STEP_S + 2 <= SOFT_STEPS_MAX
