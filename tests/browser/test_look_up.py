"""The page on which recipients are looked up, without JavaScript: width, colours, structure."""

import time

import pytest
from playwright.sync_api import expect
from pydantic import SecretStr

from tests.browser.conftest import ARTIFACTS, OpenPage
from tests.browser.stage import Stage
from tests.browser.test_safety import serious

pytestmark = [pytest.mark.browser, pytest.mark.live]
TOKEN = "a-token-for-tests-0123456789"
ADDRESS = "ada.with.a.long.name@customers-of-a-long-name.example"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("name", "width"), [("desktop", 1400), ("tablet", 834), ("phone", 390)])
def test_a_look_up_fits_its_screen_and_is_accessible(
    stage: Stage, open_page: OpenPage, name: str, width: int, scheme: str
) -> None:
    """Signed in by the form, asked by the form; the page does not scroll sideways."""
    now = time.time()
    who = {"recipient": ADDRESS, "recipient_identity": ADDRESS, "message_id": "m" * 60}
    bounced = {"bounce_class": "hard", "bounce_reason": "no_mailbox", "diagnostic": "x" * 300}
    stage.add_event("spring", now - 60, event_type="bounced", **bounced, **who)
    stage.add_event("spring", now - 90, event_type="opened", actor="human", **who)
    port, stage.port = stage.port, 0
    try:
        with stage.running(dashboard_token=SecretStr(TOKEN)):
            page = open_page("/recipient", ready=False, width=width, scheme=scheme, bypass_csp=True)
            page.get_by_label("Token").fill(TOKEN)
            page.get_by_role("button", name="Sign in").click()
            page.get_by_label("Address or message id").fill(ADDRESS.upper())
            page.get_by_role("button", name="Look up").click()
            expect(page.get_by_text("the address does not work").first).to_be_visible()
            assert "ada" not in page.url
            ARTIFACTS.mkdir(exist_ok=True)
            page.screenshot(path=ARTIFACTS / f"recipient-{name}-{scheme}.png", full_page=True)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert serious(page) == []
            page.context.close()
    finally:
        stage.port = port
