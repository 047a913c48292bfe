"""The settings that callers may change leave our views readable."""

from collections.abc import Iterator
from typing import Any

import pytest

from analytics.door import lists
from analytics.door.judge import check_setting
from schemas import topics
from tests.analytics.scenario import Sent
from tests.analytics.test_door import call
from tests.bench.analytics_load import Load
from tests.contracts.warehouse import Warehouse
from tests.warehouses import OpenWarehouse, migrated_warehouse

BEGIN = 1_790_000_000 // 86_400 * 86_400
SAMPLES = {
    "bool": ("0", "1"),
    "number": ("0", "1000000000"),  # the limits are to be met, not to be broken
    "character": (";", "\t"),
    "text": ("", "none"),
    "zone": ("Asia/Tokyo", "America/St_Johns"),
}
ARGUMENTS = {
    "campaign_timeline": "(campaign = 'campaign-0000', from = '2026-09-01 00:00:00',"
    " to = '2026-10-01 00:00:00', step = 86400, zone = 'UTC')",
    "compare": "(a = 'campaign-0000', b = 'campaign-0001')",
    "deliverability_by_day": "(zone = 'UTC')",
    "stored_among": "(ids = ['00000000-0000-0000-0000-000000000000'])",
}


def values(rule: str) -> tuple[str, ...]:
    """Values that a rule of the list allows: all, or the ends of a range."""
    return SAMPLES.get(rule) or tuple(rule.split(".." if ".." in rule else "|"))


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenWarehouse]:
    """A listener with our views, and some mail in them."""
    with migrated_warehouse(tmp_path_factory.mktemp("settings")) as (opened, client):
        load = Load(500, 2, BEGIN)
        store = Warehouse(opened.reader_settings, client)
        events, minutes = [value for _, value in load], list(load.minute_values())
        store.load([Sent(topics.ENRICHED, 0, at, 0, b"", v) for at, v in enumerate(events)])
        store.load([Sent(topics.MINUTES, 0, at, 0, b"", v) for at, v in enumerate(minutes)])
        yield opened


def read(door: OpenWarehouse, view: str, **settings: Any) -> str:
    """A view as read by a caller who sets these; an error begins with ``Code:``."""
    return call(door, f"SELECT * FROM {view}{ARGUMENTS.get(view, '')}", **settings)[1]


@pytest.fixture(scope="module")
def views(door: OpenWarehouse) -> list[str]:
    """Every view, each readable without settings."""
    asked = "SELECT name FROM system.tables WHERE database = 'mailpulse' AND engine = 'View'"
    found = call(door, asked)[1].split()
    assert len(found) > 10
    assert not [view for view in found if read(door, view).startswith("Code:")]
    return found


@pytest.mark.parametrize("name", sorted(lists.SETTING_RULES))
def test_no_setting_breaks_a_view(door: OpenWarehouse, views: list[str], name: str) -> None:
    """Each alone, with each of its values or the ends of its range."""
    for value in values(lists.SETTING_RULES[name]):
        check_setting(name, value)
        answers = {view: read(door, view, **{name: value}) for view in views}
        broken = {view: text for view, text in answers.items() if text.startswith("Code:")}
        assert not broken, value


def test_a_name_unknown_is_empty_whatever_a_join_gives(door: OpenWarehouse) -> None:
    """Not NULL: queries may rely on an empty name."""
    asked = "SELECT countIf(name = '') FROM campaign_summary"
    assert call(door, asked, join_use_nulls="1")[1] == call(door, asked)[1] == "2\n"
