"""Opens and clicks by the age of the mail, against a plain recount of messages."""

import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analytics.client import reader
from analytics.dashboard.ages import AGES_S, KINDS, SHARE_MIN, WHO, asked_curves, curves
from analytics.dashboard.asking import Asker, ClickHouseQuery
from analytics.dashboard.comparison import VARIANTS, side_by_side
from tests.warehouses import OpenWarehouse, migrated_warehouse

NOW_S = int(datetime(2026, 11, 25, 12, 0, 30, tzinfo=UTC).timestamp())
START_S = NOW_S // 60 * 60
EVERYTHING = (0, 2**32 - 60)
CAMPAIGNS = ("spring", "autumn")
VERDICTS = (
    ("human", "high"), ("unknown", "high"), ("machine", "probable"), ("machine", "certain"),
)  # fmt: skip

touches = st.lists(
    st.tuples(
        st.sampled_from(KINDS), st.sampled_from(VERDICTS), st.integers(0, 40 * 86_400),
        st.booleans(),
    ),
    max_size=4,
)  # fmt: skip
messages = st.lists(
    st.tuples(
        st.sampled_from(CAMPAIGNS), st.integers(1, 45 * 1_440), st.integers(0, 59), touches
    ),
    min_size=1, max_size=25,
)  # fmt: skip
"""Campaign, whole minutes since the delivery, seconds into that minute, and opens and clicks: kind,
verdict, seconds since the delivery, whether the link unsubscribes."""


@pytest.fixture(scope="module")
def opened(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[OpenWarehouse, Client]]:
    """An empty warehouse."""
    with migrated_warehouse(tmp_path_factory.mktemp("ages")) as (warehouse, client):
        yield warehouse, client


def store(client: Client, sent: list[Any]) -> None:
    """Writes the messages as events and minutes, in place of those before."""
    for table in ("events", "campaign_minutes"):
        client.command(f"TRUNCATE TABLE {table}")
    rows: list[list[Any]] = []
    minutes: list[list[Any]] = []
    for campaign, minutes_ago, second, touched in sent:
        key, delivered = uuid.uuid4(), START_S - 60 * minutes_ago + second
        head = [campaign, key, {"variant": campaign}]
        rows.append([*head, uuid.uuid4(), _at(delivered), "delivered", "none", "none", False, None])
        for kind, (actor, certainty), after, leaves in touched:
            at = _at(delivered + after)
            leaving = leaves and kind == "clicked"
            rows.append([*head, uuid.uuid4(), at, kind, actor, certainty, leaving, float(after)])
        minutes.append([campaign, _at(delivered // 60 * 60), len(minutes), 1])
    names = [
        "campaign_id", "message_key", "metadata", "event_id", "event_time", "event_type", "actor",
        "actor_certainty", "unsubscribe_link", "seconds_since_delivery",
    ]  # fmt: skip
    client.insert("events", rows, column_names=names)
    client.insert(
        "campaign_minutes",
        minutes,
        column_names=["campaign_id", "minute", "partition", "delivered"],
    )


def _at(second: float) -> datetime:
    return datetime.fromtimestamp(second, UTC)


def counts_as(who: str, actor: str, certainty: str) -> bool:
    """Whether an open or click by an actor counts for these."""
    return {
        "human": actor == "human",
        "unknown": actor in ("human", "unknown"),
        "any": True,
        "at_most": actor in ("human", "unknown") or certainty == "probable",
    }[who]


def recounted(sent: list[Any], campaign: str) -> dict[str, Any]:
    """The curve, message by message and age by age."""
    own = [one for one in sent if one[0] == campaign]
    least = max(1.0, SHARE_MIN * len(own))

    def lived(one: Any) -> int:
        return NOW_S - (START_S - 60 * int(one[1])) - 60

    ages = [age for age in AGES_S if sum(lived(one) >= age for one in own) >= least]

    def above(kind: str, who: str, age: int) -> int:
        return sum(
            any(
                name == kind and counts_as(who, *verdict) and after <= age
                and not (leaves and kind == "clicked")
                for name, verdict, after, leaves in one[3]
            )
            for one in own
            if lived(one) >= age
        )  # fmt: skip

    return {
        "ages_s": ages,
        "delivered": [sum(lived(one) >= age for one in own) for age in ages],
        **{kind: {who: [above(kind, who, age) for age in ages] for who in WHO} for kind in KINDS},
    }


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(messages)
async def test_curves_are_a_recount_of_messages(
    opened: tuple[OpenWarehouse, Client], sent: list[Any]
) -> None:
    """Of each age, for everybody: numerator and denominator. By metadata the same, as here each
    campaign is a variant."""
    warehouse, client = opened
    store(client, sent)
    query = ClickHouseQuery(lambda: reader(warehouse.reader_settings))
    try:
        ask = Asker(query, time.monotonic)
        found = await asked_curves(ask, CAMPAIGNS, NOW_S, EVERYTHING, ())
        given_ = {
            "campaigns": list(CAMPAIGNS), "ages": list(AGES_S), "now": NOW_S, "key": "variant",
        }  # fmt: skip
        variants = await query(VARIANTS, given_)
    finally:
        query.close()
    for campaign in {one[0] for one in sent}:
        assert found[campaign] == recounted(sent, campaign)
    delivered = [row for row in variants if row["event_type"] == "delivered"]
    rest = [row for row in variants if row["event_type"] != "delivered"]
    assert curves(delivered, rest) == {
        name: curve for name, curve in found.items() if name in {one[0] for one in sent}
    }


async def test_of_a_period_counts_what_was_delivered_in_it(
    opened: tuple[OpenWarehouse, Client],
) -> None:
    """Opens count whenever they come; the numerator of the last age is the cohort's."""
    warehouse, client = opened
    human = ("opened", VERDICTS[0], 7_200, False)
    store(client, [("spring", 1_000, 5, [human]), ("spring", 3_000, 5, [human, human])])
    query = ClickHouseQuery(lambda: reader(warehouse.reader_settings))
    try:
        edges = (START_S - 60 * 2_000, START_S - 60 * 900)
        found = await asked_curves(Asker(query), ["spring"], NOW_S, edges, ("period",))
    finally:
        query.close()
    curve = found["spring"]
    assert (curve["delivered"][-1], curve["opened"]["human"][-1]) == (1, 1)
    assert curve["opened"]["human"][curve["ages_s"].index(3_600)] == 0


def test_campaigns_are_compared_at_an_age_that_all_have_reached() -> None:
    """The greatest in common, unless another in common is asked for."""

    def curve(ages: list[int], opened_: int) -> dict[str, Any]:
        each = {who: [opened_] * len(ages) for who in WHO}
        return {"ages_s": ages, "delivered": [1_000] * len(ages), "opened": each, "clicked": each}

    old, young = curve([60, 120, 180], 300), curve([60, 120], 200)
    found = side_by_side({"old": old, "young": young}, 0)
    assert (found["age_s"], found["ages_s"]) == (120, [60, 120])
    assert [row["delivered"] for row in found["rows"]] == [1_000, 1_000]
    [pair] = found["differences"]["opened"]["human"]
    assert (pair["ahead"], pair["verdict"]) == (0, "real")
    assert side_by_side({"old": old, "young": young}, 60)["age_s"] == 60
    assert side_by_side({"old": old, "young": young}, 180)["age_s"] == 120
    nothing = side_by_side({"old": old, "new": curve([], 0)}, 0)
    assert (nothing["age_s"], nothing["differences"]) == (0, {})
