"""Settings that callers may set leave our views readable."""

import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator

import pytest

from analytics.door import lists
from tests.warehouses import OpenWarehouse, migrated_warehouse

SWITCHES = sorted(name for name, rule in lists.SETTING_RULES.items() if rule == "bool")
BROKEN = {"join_use_nulls"}
"""Analysts' own joins need it; views that join are refused with it, in words."""


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenWarehouse]:
    """With our views."""
    with migrated_warehouse(tmp_path_factory.mktemp("settings")) as (opened, _):
        yield opened


def answer(door: OpenWarehouse, sql: str, **parameters: str) -> str:
    """Of the door, or its error."""
    url = f"{door.url}/?{urllib.parse.urlencode({'query': sql, **parameters})}"
    try:
        with urllib.request.urlopen(url, timeout=30) as got:
            return str(got.read().decode())
    except urllib.error.HTTPError as error:
        return str(error.read().decode())


def test_no_switch_breaks_a_view(door: OpenWarehouse) -> None:
    """Each alone, on and off, over all views."""
    asked = "SELECT name FROM system.tables WHERE database = 'mailpulse' AND engine = 'View'"
    views = [
        view
        for view in answer(door, asked).split()
        if "Code:" not in answer(door, f"SELECT * FROM {view}")  # else it needs parameters
    ]
    assert len(views) > 5
    assert len(SWITCHES) > 20
    broken = {
        name
        for name in SWITCHES
        for value in "01"
        for view in views
        if "Code:" in answer(door, f"SELECT * FROM {view}", **{name: value})
    }
    assert broken == BROKEN
