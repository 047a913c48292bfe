"""Hostile text, sign-in, and accessibility."""

import time
from collections.abc import Iterator
from importlib.resources import files
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect
from pydantic import SecretStr

from tests.browser.conftest import OpenPage
from tests.browser.stage import Stage
from tests.browser.test_pages import PAGES

pytestmark = [pytest.mark.browser, pytest.mark.live]
TOKEN = "a-token-for-tests-0123456789"
HOSTILE = (
    "<script>window.hit = 1</script>",
    "<img src=x onerror='window.hit = 2'>",
    '"><svg onload=window.hit=3>',
    "'><iframe srcdoc='<script>parent.hit=4</script>'>",
    "javascript:window.hit=5//",
    "{{7*7}}${7*7}<%= 7*7 %>",
    "</title></style></script><b>bold</b>",
    "&lt;b&gt;&amp;&#x3c;script&#x3e;",
    "\u202egnp.exe\u202c \u0000 \ud7ff",
    "a?campaign=b&period=1h#c",
)


@pytest.fixture(scope="module")
def hostile(stage: Stage) -> Iterator[Stage]:
    """Every text that events and people can supply is hostile."""
    stage.empty()
    now = time.time()
    for text in HOSTILE:
        stage.add_minutes(text, now, 1, delivered=10, bounced_hard=3, cohort_opened=4)
        fields: dict[str, Any] = {
            "mailbox_provider": text, "recipient": text, "provider": text, "source": text
        }  # fmt: skip
        stage.add_event(text, now - 5, **fields)
        stage.add_event(
            text, now - 4, event_type="bounced", bounce_class=text, bounce_reason=text,
            enhanced_status=text, diagnostic=text, **fields,
        )  # fmt: skip
        stage.add_event(
            text, now - 3, event_type="clicked", actor=text, actor_reason=text, click_url=text,
            click_url_group=text, **fields,
        )  # fmt: skip
        stage.client.insert(
            "campaigns",
            [[text, f"name {text}", text]],
            column_names=["campaign_id", "name", "owner"],
        )
        stage.client.insert(
            "dead_letters", [[text, text, text, text]],
            column_names=["stage", "reason", "detail", "source"],
        )  # fmt: skip
    with stage.running({text: text for text in HOSTILE}):
        yield stage


def assert_harmless(page: Page) -> None:
    """No code ran, and nothing became markup."""
    assert page.evaluate("window.hit") is None
    assert page.locator("main script, main img, main iframe, main b, main object").count() == 0
    assert page.locator("main a[href^='javascript:']").count() == 0
    handlers = "[...document.querySelectorAll('*')].filter(node => [...node.attributes]"
    assert page.evaluate(f"{handlers}.some(a => a.name.startsWith('on'))).length") == 0


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_shown_as_text(hostile: Stage, open_page: OpenPage, text: str) -> None:
    """On the campaign's page: in names, links, diagnostics, codes and recipients."""
    page = open_page(f"/campaign?period=24h&campaign={quote(text)}")
    assert_harmless(page)
    bare = text.replace("\0", "")
    assert page.locator("h1").text_content() == f"name {text}"
    assert bare.split("\n")[0] in (page.locator("#links").text_content() or "").replace("\0", "")
    assert page.title() != ""


def test_hostile_campaigns_are_listed_and_lead_to_their_pages(
    hostile: Stage, open_page: OpenPage
) -> None:
    """Every name is shown, and its link contains all of it."""
    page = open_page("/?period=24h")
    assert_harmless(page)
    expect(page.locator("#campaigns tbody tr")).to_have_count(len(HOSTILE))
    links = page.eval_on_selector_all(
        "#campaigns tbody a", "all => all.map(a => new URL(a.href).searchParams.get('campaign'))"
    )
    assert sorted(links) == sorted(HOSTILE)
    assert_harmless(open_page("/pipeline?period=90d"))
    assert_harmless(open_page(f"/?q={quote(HOSTILE[0])}&sort={quote(HOSTILE[1])}", ready=True))


def test_policy_stops_what_would_get_through(hostile: Stage, browser: Browser) -> None:
    """If markup slipped in, its script would not run; and no file is loaded from elsewhere."""
    page = browser.new_page()
    page.goto(hostile.url)
    page.wait_for_selector("#main[data-version]")
    refused = page.evaluate(
        """() => new Promise(resolve => {
            document.addEventListener('securitypolicyviolation', 
                event => resolve(event.effectiveDirective));
            document.body.insertAdjacentHTML('beforeend', '<img src=/x onerror="window.hit = 9">');
        })"""
    )
    assert refused == "script-src-attr"
    assert page.evaluate("window.hit") is None
    policy = httpx.get(hostile.url, trust_env=False).headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    served = page.evaluate("performance.getEntriesByType('resource').map(entry => entry.name)")
    assert served
    assert all(name.startswith(hostile.url) for name in served)
    page.close()


AXE = files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", PAGES.values(), ids=PAGES)
def test_axe_finds_nothing_serious(
    stage: Stage, open_page: OpenPage, path: str, scheme: str
) -> None:
    """axe-core on every page in both colour schemes: labels, contrast, roles, order."""
    if not stage.rows("SELECT 1 FROM campaign_minutes WHERE campaign_id = 'spring-sale-0' LIMIT 1"):
        stage.add_history(20, 30)
        stage.client.command(
            "INSERT INTO incident_changes (campaign_id, incident_id, sequence, rate, level,"
            " worst_level, state, line, window, numerator, denominator, value, opened_numerator,"
            " opened_denominator, opened_value, opened_at, changed_at, as_of,"
            " `places.mailbox_provider`, cause, advice) VALUES ('spring-sale-0', generateUUIDv4(),"
            " 1, 'complaint_rate', 'warning', 'warning', 'opened', 0.003, '7d', 9, 1500,"
            " 9 / 1500, 30, 300, 0.1, now64(6), now64(6), now64(6), [''], 'everywhere',"
            " 'Stop the send.')"
        )
    port, stage.port = stage.port, 0
    try:
        with stage.running({"news": "sendgrid"}):
            page = open_page(path, scheme=scheme, bypass_csp=True)
            assert serious(page) == []
            for table in page.get_by_text("As a table").all():
                table.click()
            page.get_by_text("Views", exact=True).click()
            assert serious(page) == []
            page.keyboard.press("Escape")
            examples = page.get_by_role("button", name="Examples")
            if "/campaign" in path:
                examples.first.click()
                page.get_by_role("dialog").get_by_role("region").wait_for()
                assert serious(page) == []
            page.context.close()
    finally:
        stage.port = port


def serious(page: Page) -> list[str]:
    """Findings that matter."""
    page.evaluate(AXE)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{item['id']}: {item['nodes'][0]['html'][:200]} ({item['nodes'][0]['failureSummary']})"
        for item in found["violations"]
        if item["impact"] in ("serious", "critical")
    ]


def test_sign_in_leads_to_the_page_that_was_asked_for(stage: Stage, open_page: OpenPage) -> None:
    """A wrong token gives a message, the right one the deep link; after signing out, the form
    again."""
    port, stage.port = stage.port, 0
    try:
        with stage.running(dashboard_token=SecretStr(TOKEN)):
            page = open_page("/campaign?campaign=x&period=24h", ready=False, bypass_csp=True)
            assert serious(page) == []
            page.get_by_label("Token").fill("wrong")
            page.get_by_role("button", name="Sign in").click()
            expect(page.get_by_role("alert")).to_contain_text("not the token")
            page.get_by_label("Token").fill(TOKEN)
            page.get_by_role("button", name="Sign in").click()
            page.wait_for_selector("#main[data-version]")
            assert page.url == f"{stage.url}/campaign?campaign=x&period=24h"
            page.get_by_role("button", name="Sign out").click()
            expect(page.get_by_label("Token")).to_be_visible()
            page.context.close()
    finally:
        stage.port = port
