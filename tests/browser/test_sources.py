"""How much of a campaign is sent, and sources that bring nothing: three widths, both colours."""

import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import ARTIFACTS, OpenPage
from tests.browser.stage import Stage
from tests.browser.test_safety import serious

pytestmark = [pytest.mark.browser, pytest.mark.live]
CAMPAIGN = "autumn-sale-with-a-long-name-for-every-country-of-the-union-2026-11"
SOURCE = "transactional-mail-of-the-second-shop-in-the-north"
ADVICE = (
    "All 312 requests since 2026-11-28 14:03 UTC were refused, most of them as unauthorized"
    " (bad_signature). The last one with events was accepted at 2026-11-28 14:02 UTC. Most often"
    " the key was changed at the provider."
)
SCREENS = [
    pytest.param(width, scheme, id=f"{width}-{scheme}")
    for width in (360, 768, 1280)
    for scheme in ("light", "dark")
]


def _incident(stage: Stage, source: str, event_type: str, **facts: object) -> None:
    """An incident that is open since an hour."""
    row: dict[str, object] = {
        "sequence": 1, "state": "opened", "source": source, "event_type": event_type,
        "level": "warning" if event_type else "critical", "usual_gap_s": 7_200,
        "explained_s": 21_600, "advice": "Check at the provider that its event is switched on.",
        **facts,
    }  # fmt: skip
    names = ", ".join(row)
    values = ", ".join(f"'{one}'" if isinstance(one, str) else f"{one}" for one in row.values())
    stage.client.command(
        f"INSERT INTO source_incident_changes ({names}, incident_id, silent_since, opened_at,"
        f" changed_at, as_of) SELECT {values}, generateUUIDv4(), now64(6) - 90000,"
        " now64(6) - 3600 AS at, at, at"
    )


@pytest.fixture(scope="module")
def shop(stage: Stage) -> Iterator[Stage]:
    """A campaign of which 94 % are sent; a source that is refused, a silent one, and one without
    opens."""
    stage.empty()
    stage.client.command("TRUNCATE TABLE source_incident_changes")
    stage.add_minutes(CAMPAIGN, time.time() - 600, delivered=110_000, bounced_hard=2_800)
    stage.client.command(
        f"INSERT INTO campaigns VALUES ('{CAMPAIGN}', 'Autumn sale', 'Ada', NULL, 120000, [],"
        " now64(6), 0)"
    )
    _incident(stage, SOURCE, "", cause="refused", refused=312, advice=ADVICE,
              refusal="unauthorized/bad_signature")  # fmt: skip
    stage.client.command(
        "ALTER TABLE source_incident_changes UPDATE refused_since = now64(6) - 3900,"
        " accepted_until = now64(6) - 4000 WHERE cause = 'refused' SETTINGS mutations_sync = 1"
    )
    _incident(stage, "crm", "", cause="silent")
    _incident(stage, "news", "opened")
    port, stage.port = stage.port, 0
    with stage.running({"news": "sendgrid"}):
        yield stage
    stage.port = port
    stage.client.command("TRUNCATE TABLE source_incident_changes")
    stage.empty()


def _fits(page: Page, width: int, name: str) -> None:
    """No sideways scrolling, nothing that axe finds serious; a screenshot is kept."""
    ARTIFACTS.mkdir(exist_ok=True)
    page.screenshot(path=ARTIFACTS / f"{name}.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert serious(page) == []


def _inside(page: Page, selector: str) -> None:
    """What is written in an element does not stick out of it."""
    assert page.eval_on_selector_all(
        selector, "all => all.filter(one => one.scrollWidth > one.clientWidth + 1).length"
    ) == 0, selector  # fmt: skip


@pytest.mark.parametrize(("width", "scheme"), SCREENS)
def test_how_much_is_sent_is_readable(
    shop: Stage, open_page: OpenPage, width: int, scheme: str
) -> None:
    """Beside a long name, on a phone too."""
    page = open_page(f"/campaign?campaign={CAMPAIGN}&period=24h", width=width, scheme=scheme,
                     bypass_csp=True)  # fmt: skip
    told = page.locator("h1 + .sub")
    expect(told).to_have_text(f"{CAMPAIGN} · Ada · sent so far 94.0 % of 120,000")
    _inside(page, "h1, h1 + .sub")
    _fits(page, width, f"sent-{width}-{scheme}")


@pytest.mark.parametrize(("width", "scheme"), SCREENS)
def test_sources_that_bring_nothing_are_told_on_the_overview(
    shop: Stage, open_page: OpenPage, width: int, scheme: str
) -> None:
    """A refused one apart from silent ones, with the times."""
    page = open_page("/?period=24h", width=width, scheme=scheme, bypass_csp=True)
    strip = page.locator("#silent")
    expect(strip).to_contain_text("1 source has all of its requests refused")
    expect(strip).to_contain_text("2 silences beyond the rhythm of their sources")
    expect(strip.locator("li").first).to_contain_text(SOURCE)  # what is refused comes first
    lines = {text.partition(":")[0]: text for text in strip.locator("li").all_text_contents()}
    assert "all requests refused since" in lines[SOURCE]
    assert "(unauthorized/bad_signature)" in lines[SOURCE]
    assert "no event since" in lines["crm"]
    assert "no «opened» since" in lines["news"]
    _inside(page, "#silent, #silent li")
    _fits(page, width, f"silent-{width}-{scheme}")


@pytest.mark.parametrize(("width", "scheme"), SCREENS)
def test_the_table_of_silences_says_what_to_do(
    shop: Stage, open_page: OpenPage, width: int, scheme: str
) -> None:
    """Cause, times and advice of each."""
    page = open_page("/pipeline?period=24h", width=width, scheme=scheme, bypass_csp=True)
    table = page.locator("#silences")
    row = table.get_by_role("row").filter(has_text=SOURCE)
    expect(row).to_contain_text("312 refused since")
    expect(row).to_contain_text(ADVICE)
    expect(table.get_by_role("row").filter(has_text="crm")).to_contain_text("none came")
    assert row.locator(".advice").evaluate("one => one.clientWidth || one.offsetWidth") >= 150
    table.scroll_into_view_if_needed()
    _fits(page, width, f"silences-{width}-{scheme}")
