"""Destinations on the page: how they do, their last requests, and a test by a click."""

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import expect

from analytics.dashboard.app import _no_pipeline
from tests.browser.conftest import OpenPage
from tests.browser.stage import Stage

pytestmark = [pytest.mark.browser, pytest.mark.live]

EVIL = "<img src=x onerror=alert(1)>"
CRM: dict[str, Any] = {
    "destination": "crm", "kind": "webhook", "host": "crm.example", "topics": "engagement",
    "state": "failing", "waits_s": 0, "lag": 1_234, "held": 2_000, "delivered": 7, "failed": 3,
    "last_success_ms": 1_795_000_000_000,
}  # fmt: skip
TRIES = [
    {"destination": "crm", "at_ms": 1_795_000_001_000, "records": 1, "result": "failed",
     "said": f"500: {EVIL}", "seconds": 0.25},
    {"destination": "crm", "at_ms": 1_795_000_000_000, "records": 1, "result": "delivered",
     "said": "", "seconds": 0.1},
]  # fmt: skip


class Deliver:
    """What the page is told, and the tests that it has sent."""

    def __init__(self) -> None:
        self.tested: list[str] = []
        self.trouble = ""

    async def pipeline(self) -> dict[str, Any]:
        return {**await _no_pipeline(), "deliver_known": True, "deliver_trouble": self.trouble,
                "destinations": [CRM], "tries": TRIES}  # fmt: skip

    async def test(self, name: str) -> dict[str, Any]:
        self.tested.append(name)
        return {"delivered": False, "said": f"422: {EVIL}"}


@pytest.fixture
def deliver(stage: Stage) -> Iterator[Deliver]:
    found = Deliver()
    with stage.running(pipeline=found.pipeline, send_test=found.test):
        yield found


def test_how_destinations_do(deliver: Deliver, open_page: OpenPage) -> None:
    """State, lag, failures, and what was answered, as text."""
    page = open_page("/pipeline")
    row = page.locator("#destinations tbody tr")
    for text in ("crm", "webhook", "crm.example", "failing", "1,234", "Send a test"):
        expect(row).to_contain_text(text)
    tries = page.locator("#tries tbody tr")
    expect(tries).to_have_count(2)
    expect(tries.first).to_contain_text(EVIL)


def test_a_click_sends_a_test_and_shows_the_answer(deliver: Deliver, open_page: OpenPage) -> None:
    """Once, to that destination; what it says is shown as text."""
    page = open_page("/pipeline")
    page.get_by_role("button", name="Send a test to crm").click()
    expect(page.locator("#destinations tbody tr")).to_contain_text(f"422: {EVIL}")
    assert deliver.tested == ["crm"]


def test_when_deliver_is_down_the_page_says_since_when(
    deliver: Deliver, open_page: OpenPage
) -> None:
    """And the last that is known stays."""
    deliver.trouble = "deliver at http://deliver:9100: no answer since 2026-11-28 05:00:00 UTC"
    page = open_page("/pipeline")
    expect(page.locator("main")).to_contain_text("no answer since 2026-11-28")
    expect(page.locator("#destinations tbody tr")).to_contain_text("crm")


def test_without_destinations_there_are_no_such_tables(stage: Stage, open_page: OpenPage) -> None:
    """Who delivers nothing sees nothing of it."""
    with stage.running():
        page = open_page("/pipeline")
        expect(page.locator("#destinations")).to_be_hidden()
        expect(page.locator("#tries")).to_be_hidden()
