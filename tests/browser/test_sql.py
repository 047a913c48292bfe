"""The page of queries and the page of topics in a browser: under the policy, on three widths."""

import time

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import ARTIFACTS, OpenPage
from tests.browser.stage import Stage
from tests.browser.test_safety import serious

pytestmark = [pytest.mark.browser, pytest.mark.live]
HOSTILE = "<img src=x onerror=alert(1)>"


def test_a_query_is_asked_and_its_result_seen(stage: Stage, open_page: OpenPage) -> None:
    """Typed, run by keyboard, shown as text and as a picture, saved; a refusal in words."""
    now = time.time()
    for number in range(3):
        stage.add_minutes(f"{HOSTILE} {number}", now - 600, delivered=10 + number)
    with stage.running():
        page = open_page("/sql#SELECT%201%20AS%20from_address", ready=False)
        expect(page.locator("#editor")).to_have_value("SELECT 1 AS from_address")
        expect(page.locator("#result table")).to_have_count(0)  # an address runs nothing
        page.locator("#editor").fill(
            "SELECT campaign_id, delivered FROM campaign_summary ORDER BY delivered"
        )
        page.keyboard.press("Control+Enter")
        expect(page.locator("#result tbody tr")).to_have_count(3)
        expect(page.locator("#result td").first).to_have_text(f"{HOSTILE} 0")
        expect(page.locator("#result img")).to_have_count(0)
        expect(page.locator("#chart svg rect")).to_have_count(3)
        with page.expect_download() as saved:
            page.get_by_role("button", name="CSV").click()
        assert saved.value.suggested_filename == "mailpulse.csv"
        assert HOSTILE in saved.value.path().read_text("utf-8")
        page.locator("#editor").fill("SELECT avg(open_rate) FROM campaign_summary")
        page.get_by_role("button", name="Run").click()
        expect(page.locator("#problem")).to_contain_text("divide the sums")


def test_starters_and_tables_stand_beside_the_editor(stage: Stage, open_page: OpenPage) -> None:
    """A question fills the editor; a name is found, explained, and put where the cursor is."""
    with stage.running():
        page = open_page("/sql", ready=False)
        page.get_by_label("A question to begin with").select_option(index=1)
        expect(page.locator("#editor")).to_have_value(page.locator("#editor").input_value())
        assert "campaign_summary" in page.locator("#editor").input_value()
        page.get_by_label("Find a name").fill("time_to_open")
        expect(page.locator("#schema details:visible")).to_have_count(1)
        page.locator("#schema summary:visible").click()
        expect(page.get_by_text("within an hour of their delivery")).to_be_visible()
        page.get_by_role("button", name="seconds_median").click()
        assert "seconds_median" in page.locator("#editor").input_value()


def test_a_query_is_stopped(stage: Stage, open_page: OpenPage) -> None:
    """And another one can be asked."""
    with stage.running():
        page = open_page("/sql", ready=False)
        page.locator("#editor").fill("SELECT sum(number) FROM numbers(1000000000)")
        page.get_by_role("button", name="Run").click()
        page.get_by_role("button", name="Stop").click()
        expect(page.locator("#problem")).to_have_text("Stopped.")
        page.locator("#editor").fill("SELECT 7 AS seven")
        page.get_by_role("button", name="Run").click()
        expect(page.locator("#result td")).to_have_text("7")


@pytest.mark.parametrize("path", ["/sql", "/docs"])
@pytest.mark.parametrize("width", [1400, 834, 390])
def test_it_fits_its_screen_and_is_accessible(
    stage: Stage, open_page: OpenPage, path: str, width: int
) -> None:
    """In both colours; the page does not scroll sideways."""
    with stage.running():
        for scheme in ("light", "dark"):
            page = open_page(path, ready=False, width=width, scheme=scheme, bypass_csp=True)
            if path == "/sql":
                page.get_by_role("button", name="Run").click()
                expect(page.locator("#schema details").first).to_be_visible()
                expect(page.locator("#state")).to_contain_text("rows")
            ARTIFACTS.mkdir(exist_ok=True)
            page.screenshot(path=ARTIFACTS / f"{path[1:]}-{width}-{scheme}.png")
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert serious(page) == []
