"""Steps in a time zone: of the pages, and of the views for analysts, over every zone there is."""

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise
from zoneinfo import ZoneInfo, available_timezones

import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError
from hypothesis import given, settings
from hypothesis import strategies as st

from analytics.dashboard.steps import DAY_S, begin_of, steps, zone_of
from schemas.errors import BadInput
from tests.warehouses import migrated_warehouse

LENGTHS = (60, 300, 900, 1_800, 3_600, 10_800, 21_600, 43_200, DAY_S, 7 * DAY_S, 30 * DAY_S)
ZONES = sorted(
    name for name in available_timezones() if not name.startswith(("right/", "posix", "local"))
)
CHATHAM = ("NZ-CHAT", "Pacific/Chatham")
"""See ``analytics.dashboard.steps``, invariant 4."""
BEGIN_S, END_S = 1_325_376_000, 2_082_758_400  # 2012 to 2035

minutes = st.integers(BEGIN_S // 60, END_S // 60).map(lambda minute: minute * 60)


def local(at_s: int, zone: str) -> str:
    """A time as the zone's clock shows it."""
    return datetime.fromtimestamp(at_s, ZoneInfo(zone)).strftime("%a %Y-%m-%d %H:%M")


def seconds(text: str, zone: str) -> int:
    """The other way."""
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp())


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(ZONES), st.sampled_from(LENGTHS), minutes, st.integers(1, 30), st.data())
def test_steps_leave_no_gap_and_do_not_overlap(
    name: str, length: int, start: int, count: int, data: st.DataObject
) -> None:
    """Any second lies in the step that begins last before it."""
    zone, end = ZoneInfo(name), start + count * length
    begins = steps(start, end, length, zone)
    assert begins == sorted(set(begins))
    assert begins[0] <= start < begins[1] if len(begins) > 1 else begins[0] <= start
    at = data.draw(st.integers(start, end - 1))
    assert begin_of(at, length, zone) == max(begin for begin in begins if begin <= at)


@pytest.mark.parametrize(
    ("zone", "start", "hours"),
    [
        ("Europe/Vienna", "2026-03-28", [24, 23, 24]),
        ("Europe/Vienna", "2026-10-24", [24, 25, 24]),
        ("America/New_York", "2026-11-01", [25, 24]),
        ("Australia/Lord_Howe", "2026-04-05", [24.5, 24]),
        ("Asia/Kolkata", "2026-11-24", [24, 24]),
        ("America/Sao_Paulo", "2017-10-14", [24, 23, 24]),  # no midnight on the 15th
        ("Asia/Beirut", "2022-03-26", [24, 23, 24]),  # nor on the 27th
        ("Pacific/Apia", "2011-12-29", [24, 24]),  # the 30th was left out
    ],
)
def test_days_are_those_of_the_zone(zone: str, start: str, hours: list[float]) -> None:
    """Of 23, 24 and 25 hours, each with its own date."""
    begin = seconds(start, zone)
    begins = steps(begin, begin + int(sum(hours) * 3_600) + 1, DAY_S, ZoneInfo(zone))
    assert [(b - a) / 3_600 for a, b in pairwise(begins)] == hours


def test_the_24th_is_shown_as_the_24th() -> None:
    """Days were once cut at UTC and labelled in the viewer's: in America, as the day before."""
    zone = "America/New_York"
    at = seconds("2026-11-24T20:00", zone)
    assert local(begin_of(at, DAY_S, ZoneInfo(zone)), zone) == "Tue 2026-11-24 00:00"


@given(st.sampled_from(ZONES), minutes)
def test_weeks_begin_on_monday(name: str, at: int) -> None:
    """They once began on Thursday, as 1970 did."""
    begin = begin_of(at, 7 * DAY_S, ZoneInfo(name))
    assert local(begin, name).startswith("Mon")
    assert 0 <= at - begin < 7 * DAY_S + 7_200


@pytest.mark.parametrize(
    "name",
    ["", "Nowhere/Town", "America", "../UTC", "/etc/localtime", "UTC\0", "Ü", "A" * 300,
     "tzdata.zi", "file:zone", "0", "-1", "NaN", "UTC "],
)  # fmt: skip
def test_what_is_no_zone_is_refused(name: str) -> None:
    """Also what could be the name of a file."""
    with pytest.raises(BadInput, match="IANA"):
        zone_of(name)


# --- the views ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A client of a migrated database; its campaign «all» has every 15 minutes of 14 months."""
    with migrated_warehouse(tmp_path_factory.mktemp("steps")) as (_, client):
        client.command(
            "INSERT INTO campaign_minutes (campaign_id, minute, events, delivered)"
            " SELECT 'all', toDateTime('2025-12-01 00:00:00', 'UTC') + number * 900, 1, 1"
            " FROM numbers(41000)"
        )
        yield client


def told(client: Client, zone: str, step: int, start: int, end: int) -> dict[int, int]:
    """Begins of steps with the messages delivered in each, by the view."""
    sql = (
        "SELECT toUnixTimestamp(bucket), delivered FROM campaign_timeline(campaign = 'all',"
        " from = {start:UInt32}, to = {end:UInt32}, step = {step:UInt32}, zone = {zone:String})"
    )
    parameters = {"start": start, "end": end, "step": step, "zone": zone}
    return {begin: count for begin, count in client.query(sql, parameters=parameters).result_rows}


@settings(deadline=None, max_examples=120)
@given(
    st.sampled_from([name for name in ZONES if name not in CHATHAM]),
    st.sampled_from(LENGTHS),
    st.integers(0, 30_000),
    st.integers(1, 5_000),
)
def test_the_view_has_the_steps_of_the_pages(
    client: Client, zone: str, step: int, skipped: int, count: int
) -> None:
    """Whatever the zone and the step, over changes of clocks."""
    begin = int(datetime(2025, 12, 1, tzinfo=UTC).timestamp()) + skipped * 900
    expected: dict[int, int] = {}
    for number in range(count):
        at = begin_of(begin + number * 900, step, ZoneInfo(zone))
        expected[at] = expected.get(at, 0) + 1
    assert told(client, zone, step, begin, begin + count * 900) == expected


@pytest.mark.parametrize("zone", ["UTC", "Europe/Vienna", "Asia/Kolkata", "America/New_York"])
def test_days_of_all_campaigns_are_those_of_the_zone(client: Client, zone: str) -> None:
    """The view's day is the date on the zone's calendar; without a zone, UTC's."""
    begin = int(datetime(2025, 12, 1, tzinfo=UTC).timestamp())
    expected: dict[str, int] = {}
    for number in range(41_000):
        day = datetime.fromtimestamp(begin + number * 900, ZoneInfo(zone)).date().isoformat()
        expected[day] = expected.get(day, 0) + 1
    wanted = "SELECT toString(day), delivered FROM "
    asked = client.query(
        wanted + "deliverability_by_day(zone = {zone:String})", parameters={"zone": zone}
    )
    assert {tuple(row) for row in asked.result_rows} == set(expected.items())
    if zone == "UTC":
        plain = client.query(wanted + "deliverability_daily").result_rows
        assert {tuple(row) for row in plain} == set(expected.items())


@pytest.mark.parametrize(
    "step", [0, 1, 59, 61, 90, DAY_S + 60, 2**32 - 1, -1, "NaN", "", "1e3", "ü"]
)
@pytest.mark.parametrize("campaign", ["all", "unknown"])
def test_a_step_that_is_none_is_refused(client: Client, step: object, campaign: str) -> None:
    """In a sentence, whether or not there is such a campaign: 0 was once an internal error."""
    sql = (
        "SELECT * FROM campaign_timeline(campaign = {campaign:String},"
        " from = '2026-01-01 00:00:00', to = '2026-02-01 00:00:00',"
        " step = {step:UInt32}, zone = 'UTC')"
    )
    with pytest.raises(ClickHouseError, match=r"step is in seconds|parsed as UInt32"):
        client.query(sql, parameters={"step": str(step), "campaign": campaign})


@pytest.mark.parametrize("zone", ["", "Nowhere/Town", "file:/etc/hostname", "../UTC", "ü", "0"])
def test_a_zone_that_is_none_is_refused_by_views(client: Client, zone: str) -> None:
    """And no file of that name is opened."""
    for view in (
        "campaign_timeline(campaign = 'all', from = '2026-01-01 00:00:00',"
        " to = '2026-01-02 00:00:00', step = 60, zone = {zone:String})",
        "deliverability_by_day(zone = {zone:String})",
    ):
        with pytest.raises(ClickHouseError, match="Cannot load time zone"):
            client.query(f"SELECT * FROM {view}", parameters={"zone": zone})
