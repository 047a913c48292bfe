"""The pages of many campaigns: trend, paging, search on paper and in files, Back, saved views,
deliverability, the pipeline's history. With 204 campaigns, and with none."""

import csv
import io
import re
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pyarrow.parquet
import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import OpenPage
from tests.browser.stage import Stage
from tests.browser.test_charts import number, of, rows_of
from tests.browser.test_pages import PAGES

pytestmark = [pytest.mark.browser, pytest.mark.live]
CAMPAIGNS = 204
OF_PAGE = 50
NOW_MS = int(time.time() * 1000)


async def history_of_the_pipeline() -> dict[str, Any]:
    """What Kafka and the roles would say."""
    return {
        "topics": [{"topic": "email.events.raw.v1", "records": 9, "per_s": 1.0}], "lags": [],
        "kafka_trouble": "", "metrics_known": True, "metrics_trouble": "", "captures": [],
        "requests": [
            {"source": "news", "result": "unauthorized", "requests": 7, "refused": True}
        ],
        "destinations": [], "tries": [], "deliver_known": False, "deliver_trouble": "",
    }  # fmt: skip


@pytest.fixture(scope="module")
def many(stage: Stage) -> Iterator[Stage]:
    """204 campaigns, and mail of none."""
    stage.empty()
    stage.add_history(CAMPAIGNS, 30)
    stage.add_minutes("", time.time() - 7_200, delivered=120, cohort_opened=30)
    for letter, times in (("00000000-0000-0000-0000-000000000001", 3), (str(NOW_MS), 0)):
        for again in range(times):
            stage.client.command(
                "INSERT INTO dead_letters (dead_letter_id, stage, reason, detail, source,"
                f" occurred_at) VALUES ('{letter}', 'ingest', 'not_json', 'x', 'news',"
                f" now64(3) - {again + 1})"
            )
    for days, reason in ((20, "hard_bounce"), (5, "complaint"), (5, "hard_bounce")):
        stage.client.command(
            "INSERT INTO suppressions (recipient, reason, since, version) VALUES"
            f" (generateUUIDv4(), '{reason}', now64(3) - INTERVAL {days} DAY, 1)"
        )
    samples = [
        {"at_ms": NOW_MS - 60_000 * ago, "lag": {"mailpulse": ago * 10}, "behind_s": 1.5}
        for ago in range(30, 0, -1)
    ]
    port, stage.port = stage.port, 0
    pipeline = history_of_the_pipeline
    with stage.running(
        {"news": "sendgrid", "shop": "ses"}, pipeline=pipeline, samples=lambda: samples
    ):
        yield stage
    stage.port = port


def names(page: Page) -> list[str]:
    """The campaigns that the table shows, in order."""
    found: list[str] = page.eval_on_selector_all(
        "#campaigns tbody th a", "all => all.map(one => one.textContent)"
    )
    return found


def test_trend_adds_up_to_the_totals(many: Stage, open_page: OpenPage) -> None:
    """Each total over time, with the period before behind it."""
    page = open_page("/?period=7d")
    for card, field in (("Sent", "sent"), ("Delivered", "delivered"), ("Opened", "cohort_opened")):
        page.get_by_role("button", name=card, exact=True).first.click()
        rows = rows_of(page, "#chart-trend")
        found = {
            when: many.rows(
                f"SELECT sum(delivered) AS delivered, sum(cohort_opened) AS cohort_opened,"
                f" delivered + sum(bounced_hard + bounced_soft + bounced_block) AS sent"
                f" FROM campaign_minutes FINAL WHERE {edges}"
            )[0][field]
            for when, edges in (
                ("now", "minute >= toStartOfMinute(now()) - 604800"),
                ("before", "minute < toStartOfMinute(now()) - 604800 AND"
                           " minute >= toStartOfMinute(now()) - 2 * 604800 - 60"),
            )
        }  # fmt: skip
        # a minute may have passed between page and query: the figures move by its mail
        assert sum(number(row[1]) for row in rows) == pytest.approx(found["now"], rel=0.002)
        assert sum(number(row[2]) for row in rows) == pytest.approx(found["before"], rel=0.002)
    expect(page.locator("#chart-trend svg.chart .line.previous")).to_have_count(1)


def test_campaigns_come_in_pages(many: Stage, open_page: OpenPage) -> None:
    """How many there are, fifty at a time; and mail without a campaign apart from them."""
    page = open_page("/?period=30d")
    expect(page.locator("#campaigns .count")).to_have_text(f"{CAMPAIGNS} campaigns")
    seen = set(names(page))
    assert len(seen) == OF_PAGE
    expect(page.get_by_role("button", name="Previous")).to_be_disabled()
    for first in (51, 101, 151, 201):
        page.get_by_role("button", name="Next").click()
        expect(page.locator("#campaigns .pager")).to_contain_text(f"{first}–")
        seen |= set(names(page))
    assert len(seen) == CAMPAIGNS
    assert "(no campaign)" not in seen
    expect(page.locator("#no-campaign")).to_contain_text("30 of 120")
    page.get_by_role("button", name="All on one page").click()
    expect(page.locator("#campaigns tbody tr")).to_have_count(CAMPAIGNS)


def test_rows_keep_their_places_while_figures_move(many: Stage, open_page: OpenPage) -> None:
    """A campaign that gets events stays where the reader's eye is, until it is ordered anew."""
    page = open_page("/?period=30d&q=win-back&sort=sent-down")
    before = names(page)
    many.add_minutes(before[-1], time.time(), 9, delivered=999_999)
    row = page.locator("#campaigns tbody tr").last
    expect(row.locator(".figure").first).to_have_text(re.compile(r"1,\d{3},\d{3}"))
    assert names(page) == before
    page.get_by_role("button", name="Order anew").click()
    assert names(page)[0] == before[-1]
    expect(page.get_by_role("button", name="Order anew")).to_be_hidden()


def test_search_holds_for_files_and_paper(many: Stage, open_page: OpenPage) -> None:
    """CSV, Parquet and print have the rows that the search finds, all of them."""
    page = open_page("/?period=30d&q=newsletter")
    links = page.locator("#campaigns .csv")
    wanted = CAMPAIGNS // 5 + 1
    for place, form in enumerate(("csv", "parquet")):
        address = links.nth(place).get_attribute("href")
        answer = httpx.get(f"{many.url}{address}", trust_env=False, timeout=60)
        if form == "csv":
            rows = list(csv.DictReader(io.StringIO(answer.text)))
            found = [row["campaign_id"] for row in rows]
        else:
            table = pyarrow.parquet.read_table(io.BytesIO(answer.content))
            found = table.column("campaign_id").to_pylist()
        assert len(found) in (wanted - 1, wanted)
        assert all("newsletter" in name for name in found)
    page = open_page("/?period=30d")
    page.emulate_media(media="print")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    expect(page.locator("#campaigns tbody tr")).to_have_count(CAMPAIGNS)
    for hidden in (".settings", ".pager", "#search", ".csv"):
        assert page.locator(f"{hidden}:visible").count() == 0, hidden
    assert page.locator("#chart-trend svg.chart").is_visible()
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    expect(page.locator("#campaigns tbody tr")).to_have_count(OF_PAGE)


def test_back_undoes_a_filter(many: Stage, open_page: OpenPage) -> None:
    """Period, switch and search, one after the other; a word typed is one step."""
    page = open_page("/?period=30d")
    page.get_by_role("button", name="7 days").click()
    page.get_by_role("button", name="With machines").click()
    page.get_by_role("searchbox").press_sequentially("win-back")
    expect(page.locator("#campaigns .count")).to_contain_text(" of ")
    page.go_back()
    expect(page.get_by_role("searchbox")).to_have_value("")
    expect(page.locator("#campaigns .count")).not_to_contain_text(" of ")
    page.go_back()
    expect(page.get_by_role("button", name="Humans")).to_have_attribute("aria-pressed", "true")
    page.go_back()
    expect(page.get_by_role("button", name="30 days")).to_have_attribute("aria-pressed", "true")


def test_a_period_of_ones_own_is_by_the_chosen_clock(many: Stage, open_page: OpenPage) -> None:
    """The fields show the zone's clock, and follow when another zone is chosen."""
    page = open_page("/?period=1795521600-1795608000&zone=UTC")
    page.locator(".custom summary").click()
    expect(page.get_by_label("From", exact=True)).to_have_value("2026-11-24T12:00")
    page.get_by_label("Time zone").select_option("Asia/Tokyo")
    expect(page.get_by_label("From", exact=True)).to_have_value("2026-11-24T21:00")
    page.get_by_role("button", name="Show", exact=True).first.click()
    assert "period=1795521600-1795608000" in page.url


def test_a_view_is_saved_under_a_name(many: Stage, open_page: OpenPage) -> None:
    """It leads back to the same address, and can be deleted; another page knows it too."""
    page = open_page("/deliverability?period=90d&rate=complaint_rate")
    page.get_by_text("Views", exact=True).click()
    page.get_by_label("Name of this view").fill("Complaints of the quarter")
    page.get_by_role("button", name="Save").click()
    page.goto(f"{many.url}/pipeline")
    page.wait_for_selector("#main[data-version]")
    page.get_by_text("Views", exact=True).click()
    page.get_by_role("link", name="Complaints of the quarter").click()
    page.wait_for_selector("#main[data-version]")
    assert page.url == f"{many.url}/deliverability?period=90d&rate=complaint_rate"
    page.get_by_text("Views", exact=True).click()
    page.get_by_role("button", name="Delete the view Complaints of the quarter").click()
    expect(page.get_by_role("link", name="Complaints of the quarter")).to_have_count(0)


def test_deliverability_equals_the_view(many: Stage, open_page: OpenPage) -> None:
    """By mailbox provider over all time, as ``mailbox_providers`` counts it; bounces by
    message, each with what to do; suppressions by reason."""
    page = open_page("/deliverability?period=all")
    for row in many.rows(
        "SELECT mailbox_provider, sum(sent) AS all, sum(delivered) AS taken,"
        " sum(bounced_hard) AS hard FROM mailbox_providers GROUP BY mailbox_provider"
    ):
        line = page.locator("#mailboxes tbody tr").filter(
            has=page.get_by_role("rowheader", name=row["mailbox_provider"], exact=True)
        )
        for text in (f"{row['taken']:,} of {row['all']:,}", f"{row['hard']:,} of {row['all']:,}"):
            expect(line).to_contain_text(text)
    for row in many.rows(
        "SELECT bounce_reason, uniqExact(message_key) AS found FROM email_events"
        " WHERE event_type = 'bounced' GROUP BY bounce_reason"
    ):
        line = page.locator("#bounces tbody tr", has_text=row["bounce_reason"].replace("_", " "))
        expect(line.locator(".figure").first).to_have_text(f"{row['found']:,}")
        assert len(line.locator(".advice").nth(1).inner_text()) > 10
    last = rows_of(page, "#chart-suppressions")[-1]
    assert last[1:] == ["3", "1", "2"]
    page.locator("#chart-mailboxes").get_by_role("button", name="Complaints").click()
    courses = rows_of(page, "#chart-mailboxes")
    gmail = [of(row[1]) for row in courses if "(" in row[1]]
    [found] = many.rows(
        "SELECT sum(cohort_complained) AS above, sum(delivered) AS below FROM campaign_minutes"
        " FINAL WHERE mailbox_provider = 'gmail'"
    )
    assert [sum(column) for column in zip(*gmail, strict=True)] == [found["above"], found["below"]]
    for text in ("Gmail: stay below 0.10 %", "Gmail: never reach; Yahoo: stay below 0.30 %"):
        expect(page.locator("#chart-complaints .legend")).to_contain_text(text)


def test_pipeline_has_a_history(many: Stage, open_page: OpenPage) -> None:
    """Lag and latency of the last hours, sources with their state, dead letters with how often
    they came."""
    page = open_page("/pipeline?period=24h")
    lags = rows_of(page, "#chart-lag")
    assert [row[1] for row in lags] == [str(ago * 10) for ago in range(30, 0, -1)]
    assert {row[1] for row in rows_of(page, "#chart-latency")} == {"1.5 s"}
    expect(page.locator("#parts tbody tr", has_text="shop")).to_contain_text("no event yet")
    news = page.locator("#parts tbody tr", has_text="news")
    expect(news).to_contain_text("flowing")
    expect(news.locator("td").last).to_have_text("7")
    letter = page.locator("#dead_letters tbody tr", has_text="not json")
    expect(letter.locator("td").nth(2)).to_have_text("1")
    expect(letter.locator("td").nth(3)).to_have_text("3")


def test_every_page_says_what_to_do_when_there_is_nothing(
    stage: Stage, open_page: OpenPage
) -> None:
    """And none fails over an empty database."""
    stage.empty()
    stage.client.command("TRUNCATE TABLE suppressions")
    port, stage.port = stage.port, 0
    try:
        with stage.running({"news": "sendgrid"}):
            for label, path in PAGES.items():
                page = open_page(path.replace("c=spring-sale-0&c=welcome-1", ""))
                if label != "pipeline":
                    expect(page.locator(".start")).to_be_visible()
                page.context.close()
    finally:
        stage.port = port
