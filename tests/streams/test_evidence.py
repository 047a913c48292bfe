"""The sequential test behind incidents: its error under continuous looking, and its power."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.campaigns.evidence import (
    CAMPAIGN_SHARE,
    ERROR,
    FACTORS,
    FIRST_DAY_SHARE,
    MAILBOX_SHARE,
    MAILBOXES_MAX,
    NUMERATOR_MIN,
    evidence,
    needed,
    stands_out,
)

LINES = (0.001, 0.003, 0.02, 0.1)


def chance_of_ever(line: float, rate: float, step: int, looks: int, limit: float) -> float:
    """The exact chance that the evidence reaches ``limit`` at one of the looks, after each ``step``
    messages: the distribution of the bad ones among the courses that never did, look by look."""
    chances = [
        math.comb(step, bad) * rate**bad * (1 - rate) ** (step - bad)
        for bad in range(min(step, 30) + 1)
    ]
    alive, reached, least = [1.0], 0.0, NUMERATOR_MIN
    for look in range(1, looks + 1):
        messages = look * step
        while evidence(least, messages, line) < limit:
            least += 1
        after = [0.0] * (len(alive) + len(chances) - 1)
        for before, share in enumerate(alive):
            for bad, chance in enumerate(chances):
                after[before + bad] += share * chance
        reached += sum(after[least:])
        alive = after[:least]
    return reached


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("part", [1.0, 0.5])
def test_looking_again_and_again_does_not_add_up(line: float, part: float) -> None:
    """Calculated, not drawn: a campaign of 150 / line messages that is looked at 300 times."""
    step = max(1, int(0.5 / line))
    error = ERROR * CAMPAIGN_SHARE * FIRST_DAY_SHARE
    limit = needed(CAMPAIGN_SHARE, 0, 24)
    assert 0 < chance_of_ever(line, part * line, step, 300, limit) <= error


def test_looking_after_every_single_message_does_not_add_up() -> None:
    """Where a plain interval at 99 % would be wrong for more than every tenth campaign."""
    assert 0.001 < chance_of_ever(0.1, 0.1, 1, 600, math.log(100)) <= 0.01


@pytest.mark.parametrize("line", [*LINES, 0.005, 0.05])
def test_twice_the_line_is_found_within_fifty_bad_messages_worth(line: float) -> None:
    """95 % of campaigns of 50 / line messages, even with one look at their end; calculated."""
    messages = round(50 / line)
    least = next(
        bad for bad in range(messages)
        if stands_out(bad, messages, line, share=CAMPAIGN_SHARE, day=0, windows_per_day=24)
    )  # fmt: skip
    rate = 2 * line
    missed = sum(
        math.exp(
            math.lgamma(messages + 1) - math.lgamma(bad + 1) - math.lgamma(messages - bad + 1)
            + bad * math.log(rate) + (messages - bad) * math.log1p(-rate)
        )
        for bad in range(least)
    )  # fmt: skip
    assert missed <= 0.05


@given(
    st.integers(0, 500), st.integers(0, 100_000), st.floats(1e-5, 0.99), st.integers(0, 50)
)  # fmt: skip
def test_more_bad_is_more_evidence_and_more_good_is_less(
    bad: int, good: int, line: float, more: int
) -> None:
    """So what has not arrived yet can only delay an incident."""
    now = evidence(bad, bad + good, line)
    assert evidence(bad + more, bad + more + good, line) >= now - 1e-6
    assert evidence(bad, bad + good + more, line) <= now + 1e-6


def test_the_shares_of_the_error_add_up_to_it() -> None:
    """The campaign, its mailbox providers, and every day on which a window can begin."""
    assert CAMPAIGN_SHARE + MAILBOXES_MAX * MAILBOX_SHARE == pytest.approx(1)
    spent = math.exp(-needed(1.0, 0, 24))
    spent += sum(24 * math.exp(-needed(1.0, day, 24)) for day in range(1, 20_000))
    assert spent <= ERROR
    assert math.exp(-needed(1.0, 0, 24)) == pytest.approx(ERROR * FIRST_DAY_SHARE)


@pytest.mark.parametrize(("bad", "messages"), [(1, 100), (2, 2), (3, 3000), (0, 0)])
def test_a_few_are_chance(bad: int, messages: int) -> None:
    """One complaint of a hundred is no incident, nor are two of two."""
    assert not stands_out(bad, messages, 0.001, share=1.0, day=0, windows_per_day=1)


@given(st.floats(1e-5, 0.999), st.floats(0, 1), st.integers(1, 60))
def test_the_expectation_is_at_most_one_on_any_line(
    line: float, part: float, messages: int
) -> None:
    """What Ville's inequality needs, also near 1, where no rate is eight times the line."""
    rate = part * line
    expected = sum(
        math.comb(messages, bad) * rate**bad * (1 - rate) ** (messages - bad)
        * math.exp(evidence(bad, messages, line))
        for bad in range(messages + 1)
    )  # fmt: skip
    assert expected <= 1 + 1e-6
    assert sum(weight for _, weight in FACTORS) == pytest.approx(1)


@given(st.floats(1e-4, 0.98))
def test_every_line_can_be_crossed(line: float) -> None:
    """By a rate well above it; not by «all are bad» alone, as it was for lines above 59 %."""
    rate = min(2 * line, (1 + line) / 2)
    messages = round(1000 / line / (1 - line))
    assert stands_out(
        round(rate * messages), messages, line, share=CAMPAIGN_SHARE, day=0, windows_per_day=24
    )


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.floats(1e-5, 0.999))
def test_only_a_rate_above_the_line_and_at_most_1_stands_out(
    bad: int, messages: int, line: float
) -> None:
    """More bad messages than messages: those that they belong to are not counted yet."""
    if stands_out(bad, messages, line, share=1.0, day=0, windows_per_day=1):
        assert line < bad / messages <= 1
