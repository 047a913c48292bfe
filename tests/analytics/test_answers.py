"""The views that answer a question of their own, against a plain recount."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas import topics
from tests.analytics.scenario import CODEC, MINUTE_0, Sent, first_revision
from tests.contracts.warehouse import Warehouse
from tests.warehouses import migrated_warehouse

LIVED_S = {"a": 40_000, "b": 90_000}
"""Seconds since the first delivery of each campaign."""
OUTCOMES: tuple[dict[str, Any], ...] = (
    {"event_type": "opened", "actor": "human", "first_of_kind": True, "first_human": True},
    {"event_type": "clicked", "actor": "human", "first_human": True},
    {"event_type": "complained", "first_of_kind": True},
    {"event_type": "unsubscribed", "first_of_kind": True},
)


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    """Empty; each example deletes what the last one left."""
    with migrated_warehouse(tmp_path_factory.mktemp("answers")) as (opened, client):
        yield Warehouse(opened.settings, client)


Message = tuple[str, int, int, dict[int, int]]
"""Campaign, recipient, seconds from the campaign's begin to the delivery, and by number of an
outcome the seconds from delivery to it."""

MESSAGES = st.lists(
    st.tuples(
        st.sampled_from(("a", "b")),
        st.integers(0, 4),
        st.integers(0, 30_000),
        st.dictionaries(st.integers(0, 3), st.sampled_from((1, 3_600, 20_000, 80_000))),
    ),
    max_size=12,
)


def load(warehouse: Warehouse, messages: list[Message], now_s: int) -> None:
    """Stores messages; each campaign's first delivery is ``LIVED_S`` ago."""
    warehouse.empty()
    values, number = [], 0
    for message, (campaign, person, delivered, outcomes) in enumerate(messages):
        begun = now_s - LIVED_S[campaign] - MINUTE_0
        first = {"event_type": "delivered", "first_of_kind": True}
        for kind, later in [(first, 0), *((OUTCOMES[n], s) for n, s in outcomes.items())]:
            at = begun + delivered + later
            item = first_revision(number, message, dict(kind), at, "gmail", "https://example.com/a")
            item["event"]["recipient"] = f"r{person}@example.com"
            item["event"]["recipient_identity"] = f"r{person}@example.com"
            item["enrichment"] |= {
                "campaign_id": campaign, "offset": number, "version": number,
                "seconds_since_delivery": float(later),
            }  # fmt: skip
            values.append(CODEC.encode("enriched_event", item))
            number += 1
    warehouse.load([Sent(topics.ENRICHED, 0, at, 0, b"k", v) for at, v in enumerate(values)])


def begins(messages: list[Message]) -> dict[str, int]:
    """Campaign -> its first delivery, in the messages' seconds."""
    found: dict[str, int] = {}
    for campaign, _, delivered, _ in messages:
        found[campaign] = min(delivered, found.get(campaign, delivered))
    return found


def wilson(k: int, n: int) -> tuple[float, float]:
    """The interval of k of n at 95 %."""
    z, p = 1.959963984540054, k / n
    middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)


def compared(messages: list[Message]) -> dict[str, tuple[int, int, int, int]]:
    """Rate -> numerator and denominator of a, then of b, at equal age."""
    first = begins(messages)
    age = min((LIVED_S[each] - first[each] for each in first), default=0)
    sets: dict[tuple[str, str], set[int]] = defaultdict(set)
    for number, (campaign, _, delivered, outcomes) in enumerate(messages):
        for kind, later in [(-1, 0), *outcomes.items()]:
            if delivered + later - first[campaign] < age:
                sets[campaign, "dockp"[kind + 1]].add(number)
    pairs = {
        "open_rate": ("o", "d"), "click_rate": ("c", "d"), "complaint_rate": ("k", "d"),
        "unsubscribe_rate": ("p", "d"),
    }  # fmt: skip

    def figures(above: str, below: str) -> tuple[int, ...]:
        return tuple(
            len(found)
            for side in "ab"
            for found in (
                sets[side, above] & sets[side, "d"] & sets[side, below], sets[side, below],
            )
        )  # fmt: skip

    expected = {rate: figures(*names) for rate, names in pairs.items()}
    both = {side: sets[side, "o"] & sets[side, "c"] for side in "ab"}
    expected["click_to_open_rate"] = (
        len(both["a"]), len(sets["a", "o"]), len(both["b"]), len(sets["b", "o"]),
    )  # fmt: skip
    return expected  # type: ignore[return-value]


@given(messages=MESSAGES)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_views_equal_a_recount(warehouse: Warehouse, messages: list[Message]) -> None:
    """Campaigns compared at equal age, times to open, and recipients by their mail."""
    now_s = int(warehouse.rows("SELECT toUnixTimestamp(now())")[0][0])
    load(warehouse, messages, now_s)
    _check_compare(warehouse, messages)
    opens: dict[str, list[Any]] = defaultdict(list)
    for campaign, _, _, outcomes in messages:
        opens[campaign] += [outcomes[0]] if 0 in outcomes else []
    for row in warehouse.rows(
        "SELECT campaign_id, messages, within_1_hour, within_4_hours, within_1_day, within_3_days,"
        " seconds_first_quarter, seconds_median, seconds_third_quarter, seconds_nine_tenths"
        " FROM time_to_open"
    ):
        seconds = sorted(opens.pop(row[0]))
        within = [sum(each <= limit for each in seconds) for limit in (3600, 14400, 86400, 259200)]
        assert list(row[1:6]) == [len(seconds), *within]
        for share, found in zip((0.25, 0.5, 0.75, 0.9), row[6:], strict=True):
            assert sum(each <= found for each in seconds) >= share * len(seconds)
            assert sum(each < found for each in seconds) <= share * len(seconds)
    assert not any(opens.values())
    _check_frequency(warehouse, messages)


def _check_compare(warehouse: Warehouse, messages: list[Message]) -> None:
    found = {
        row[0]: row[1:]
        for row in warehouse.rows(
            "SELECT rate, numerator_a, denominator_a, numerator_b, denominator_b, difference, low,"
            " high, is_real FROM compare(a = 'a', b = 'b')"
        )
    }
    for rate, expected in compared(messages).items():
        numerator_a, of_a, numerator_b, of_b = expected
        assert found[rate][:4] == expected, rate
        if not of_a or not of_b:
            assert found[rate][4:] == (None, None, None, 0)
            continue
        a, b = numerator_a / of_a, numerator_b / of_b
        (low_a, high_a), (low_b, high_b) = wilson(numerator_a, of_a), wilson(numerator_b, of_b)
        low = a - b - math.hypot(a - low_a, high_b - b)
        high = a - b + math.hypot(high_a - a, b - low_b)
        assert found[rate][4:7] == pytest.approx((a - b, low, high))
        assert bool(found[rate][7]) == (low > 0 or high < 0)


def _check_frequency(warehouse: Warehouse, messages: list[Message]) -> None:
    each = Counter(person for _, person, _, _ in messages)
    expected: dict[int, list[int]] = {}
    for person, number in each.items():
        row = expected.setdefault(number, [0] * 6)
        mail = [outcomes for _, one, _, outcomes in messages if one == person]
        row[0] += 1
        row[1] += number
        for outcome in range(4):
            row[2 + outcome] += sum(outcome in outcomes for outcomes in mail)
    found = warehouse.rows(
        "SELECT messages_each, recipients, delivered, opened, clicked, complained, unsubscribed"
        " FROM recipient_frequency"
    )
    assert {row[0]: list(row[1:]) for row in found} == expected


def test_a_clear_difference_is_real_and_a_small_one_is_not(warehouse: Warehouse) -> None:
    """300 messages each: 30 % against 10 % of opens, and 11 % against 10 %."""
    for opened_a, is_real in ((90, True), (33, False)):
        messages: list[Message] = [
            (side, 0, 0, {0: 1} if number < opens else {})
            for side, opens in (("a", opened_a), ("b", 30))
            for number in range(300)
        ]
        load(warehouse, messages, int(warehouse.rows("SELECT toUnixTimestamp(now())")[0][0]))
        sql = "SELECT is_real FROM compare(a = 'a', b = 'b') WHERE rate = 'open_rate'"
        assert bool(warehouse.rows(sql)[0][0]) is is_real


@given(messages=MESSAGES)
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_campaign_equals_itself(warehouse: Warehouse, messages: list[Message]) -> None:
    """Compared with itself it has the same figures on both sides, and no real difference."""
    load(warehouse, messages, int(warehouse.rows("SELECT toUnixTimestamp(now())")[0][0]))
    expected = {
        row[0]: row[1:]
        for row in warehouse.rows(
            "SELECT rate, numerator_a, denominator_a FROM compare(a = 'a', b = 'nothing')"
        )
    }
    rows = warehouse.rows(
        "SELECT rate, numerator_a, denominator_a, numerator_b, denominator_b, difference, is_real"
        " FROM compare(a = 'a', b = 'a')"
    )
    for rate, *figures, difference, is_real in rows:
        assert figures == [*expected[rate], *expected[rate]]
        assert difference == (0.0 if figures[1] else None)
        assert not is_real
