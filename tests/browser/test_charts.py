"""Charts and pages of campaigns that were sent at once: figures, lines, annotations, comparison."""

import re
import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.burst import add_burst
from tests.browser.conftest import OpenPage
from tests.browser.stage import Stage

pytestmark = [pytest.mark.browser, pytest.mark.live]
HOUR_S = 3_600
LINES = {"hard_bounce_rate": [0.01, 0.03, 0.05], "complaint_rate": [0.001, 0.003, 0.005]}
CAMPAIGNS = {"offer-a": (30, 0.4), "offer-b": (54, 0.2), "offer-c": (80, 0.2)}
"""Campaign -> hours since it was sent, and the share of it that people open in the end."""


@pytest.fixture(scope="module")
def sends(stage: Stage) -> Iterator[Stage]:
    """Three campaigns, one with an open incident."""
    stage.empty()
    now = time.time()
    for name, (hours, opens) in CAMPAIGNS.items():
        add_burst(stage, name, now - hours * HOUR_S, now, opens)
    stage.client.command(
        "INSERT INTO incident_changes (campaign_id, incident_id, sequence, rate, level,"
        " worst_level, state, line, window, numerator, denominator, value, opened_numerator,"
        " opened_denominator, opened_value, opened_at, changed_at, as_of,"
        " `places.mailbox_provider`, mailbox_provider, cause, cause_name, advice) VALUES"
        " ('offer-a', generateUUIDv4(), 1, 'hard_bounce_rate', 'warning', 'warning', 'opened',"
        " 0.01, '24h', 15, 600, 0.025, 10, 500, 0.02, now64(6) - 29 * 3600,"
        " now64(6) - 29 * 3600, now64(6), ['gmail'], 'gmail', 'mailbox_provider', 'gmail',"
        " 'Clean the list.')"
    )
    port, stage.port = stage.port, 0
    with stage.running({"news": "sendgrid"}, lines=lambda _campaign: LINES):
        yield stage
    stage.port = port


def rows_of(page: Page, chart: str) -> list[list[str]]:
    """The cells of a chart's table, which is opened for it."""
    figure = page.locator(chart)
    if figure.locator("details.as-table[open]").count() == 0:
        figure.get_by_text("As a table").click()
    figure.locator("details tbody tr").first.wait_for()
    found: list[list[str]] = page.eval_on_selector_all(
        f"{chart} details tbody tr",
        "rows => rows.map(row => [...row.children].map(cell => cell.textContent))",
    )
    return found


def of(cell: str) -> tuple[int, int]:
    """Numerator and denominator of «33.0 % (198 of 600)»."""
    above, below = re.findall(r"[\d,]+", cell.split("(")[1])
    return int(above.replace(",", "")), int(below.replace(",", ""))


def number(cell: str) -> int:
    """A count of a cell."""
    return int(cell.split(" ")[0].replace(",", ""))


def test_curves_say_how_much_was_opened_by_each_age(sends: Stage, open_page: OpenPage) -> None:
    """Each point is a recount of the events; the last is near the cohort's figure; the other
    campaigns are behind it, at equal age."""
    page = open_page("/campaign?campaign=offer-b&period=all")
    rows = {row[0]: row for row in rows_of(page, "#chart-age-opened")}
    for label, seconds in (("1 h", HOUR_S), ("12 h", 12 * HOUR_S), ("2 days", 48 * HOUR_S)):
        counted = sends.rows(
            "SELECT count() AS found FROM email_events WHERE campaign_id = 'offer-b' AND event_type"
            f" = 'opened' AND actor = 'human' AND seconds_since_delivery <= {seconds}"
        )
        assert of(rows[label][1]) == (counted[0]["found"], 585), label
    expect(page.locator("#chart-age-opened .legend")).to_contain_text("Median of 2 other campaigns")
    page.get_by_role("button", name="With unknown").click()
    expect(page.locator("#chart-age-opened .legend")).to_contain_text("with unknown")
    last = of(rows_of(page, "#chart-age-opened")[-1][1])
    [row] = sends.rows("SELECT * FROM campaign_summary WHERE campaign_id = 'offer-b'")
    late = sends.rows(
        "SELECT uniqExact(message_key) AS found FROM email_events WHERE campaign_id = 'offer-b'"
        " AND event_type = 'opened' AND actor = 'human' AND mailbox_provider != 'apple'"
        f" AND seconds_since_delivery > {48 * HOUR_S}"
    )
    assert last[0] + late[0]["found"] == row["cohort_opened_or_unknown"]


def test_the_course_has_steps_that_fit_the_send(sends: Stage, open_page: OpenPage) -> None:
    """Its step follows when most happened, not the period; and nothing of it is lost."""
    page = open_page("/campaign?campaign=offer-a&period=90d")
    rows = rows_of(page, "#chart-volume")
    assert 24 <= len(rows) <= 320
    [row] = sends.rows("SELECT * FROM campaign_summary WHERE campaign_id = 'offer-a'")
    assert sum(number(cells[1]) for cells in rows) == row["opened"]
    assert sum(number(cells[2]) for cells in rows) == row["clicked"]
    page.get_by_role("button", name="Deliveries and bounces").click()
    assert sum(number(cells[1]) for cells in rows_of(page, "#chart-volume")) == row["delivered"]
    labels = page.locator("#chart-volume svg text").all_text_contents()
    today = page.evaluate("new Intl.DateTimeFormat('en-GB', {day: 'numeric', month: 'short',"
                          " timeZone: 'UTC'}).format(Date.now())")  # fmt: skip
    assert today in labels
    expect(page.locator("#chart-rates")).to_be_hidden()


def test_lines_and_annotations_can_be_told_apart(sends: Stage, open_page: OpenPage) -> None:
    """Each line has dashes and a colour of its own, and is named outside of the drawing; an
    incident is marked where it was opened, and said in words."""
    page = open_page("/campaign?campaign=offer-a&period=7d")
    styles = page.eval_on_selector_all(
        "#chart-bounces .legend .threshold",
        "all => all.map(one => getComputedStyle(one)).map(s => [s.stroke, s.strokeDasharray])",
    )
    assert len(styles) == 3
    for place in (0, 1):
        assert len({style[place] for style in styles}) == 3
    legend = page.locator("#chart-bounces .legend").bounding_box()
    drawing = page.locator("#chart-bounces svg.chart").bounding_box()
    assert legend is not None
    assert drawing is not None
    assert legend["y"] + legend["height"] <= drawing["y"]
    expect(page.locator("#chart-volume .marks")).to_contain_text("warning: hard bounces")
    expect(page.locator("#chart-volume .mark.warning")).to_have_count(1)
    assert no_overlaps(page.locator("#chart-volume svg.chart text"))


def test_the_legend_hides_a_series(sends: Stage, open_page: OpenPage) -> None:
    """By a click and by the keyboard: out of the drawing, the scale and what is read; the table
    keeps it, and an update of the page takes neither that nor the focus away."""
    page = open_page("/campaign?campaign=offer-a&period=90d")
    chart = page.locator("#chart-volume")
    top = chart.locator("svg text").all_text_contents()
    opens = chart.locator(".legend").get_by_role("button", name="First opens")
    opens.click()
    expect(opens).to_have_attribute("aria-pressed", "false")
    expect(chart.locator("svg path.line.opened")).to_have_count(0)
    expect(chart.locator("svg path.line.clicked")).to_have_count(1)
    assert chart.locator("svg text").all_text_contents() != top
    chart.locator("svg.chart").focus()
    page.keyboard.press("End")
    expect(chart.locator(".readout")).to_contain_text("First clicks")
    assert "First opens" not in chart.locator(".readout").inner_text()
    assert len(rows_of(page, "#chart-volume")[0]) == 3
    opens.focus()
    page.set_viewport_size({"width": 700, "height": 900})  # draws anew
    expect(opens).to_be_focused()
    expect(opens).to_have_attribute("aria-pressed", "false")
    page.keyboard.press("Space")
    expect(chart.locator("svg path.line.opened")).to_have_count(1)


def no_overlaps(texts: Locator) -> bool:
    """Whether no two of the texts lie on each other."""
    found: bool = texts.evaluate_all(
        """all => {
            const boxes = all.map(one => one.getBoundingClientRect());
            return !boxes.some((a, i) => boxes.some((b, j) => i < j && a.left < b.right - 1 &&
                b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1));
        }"""
    )
    return found


def test_values_are_read_by_keyboard_pointer_and_touch(sends: Stage, open_page: OpenPage) -> None:
    """The value under the pointer, and those that arrow keys reach, with numerator and
    denominator; no texts overlap on a phone."""
    page = open_page("/campaign?campaign=offer-a&period=7d", width=390, has_touch=True)
    plot, said = (
        page.locator("#chart-age-opened svg.chart"),
        page.locator("#chart-age-opened .readout"),
    )
    plot.focus()
    page.keyboard.press("End")
    expect(said).to_contain_text("of 585")
    page.keyboard.press("ArrowLeft")
    expect(said).to_contain_text("18 h: This campaign")
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    assert box is not None
    page.touchscreen.tap(box["x"] + box["width"] - 20, box["y"] + 60)
    expect(said).to_contain_text("1 day: This campaign")
    for chart in page.locator("figure:visible svg.chart").all():
        assert no_overlaps(chart.locator("text"))


def test_campaigns_are_compared_at_equal_age(sends: Stage, open_page: OpenPage) -> None:
    """Figures of each by the age that all have reached, and whether the difference is real."""
    page = open_page("/compare?c=offer-a&c=offer-b&c=offer-c")
    rows = page.locator("#campaigns tbody tr")
    expect(rows).to_have_count(3)
    for name in CAMPAIGNS:
        counted = sends.rows(
            f"SELECT count() AS found FROM email_events WHERE campaign_id = '{name}' AND event_type"
            f" = 'opened' AND actor = 'human' AND seconds_since_delivery <= {24 * HOUR_S}"
        )
        expect(rows.filter(has_text=name)).to_contain_text(f"{counted[0]['found']} of 585")
    verdicts = page.locator("#differences li")
    expect(verdicts.filter(has_text="offer-a is").first).to_contain_text("ahead of offer-")
    among_equals = page.locator("#differences > div").first.locator("li").filter(
        has_not_text="offer-a"
    )  # fmt: skip
    expect(among_equals).to_contain_text("could be chance")
    page.get_by_label("At equal age").select_option("3600")
    expect(page.locator("#differences .note")).to_contain_text("within 1 h")
    page.get_by_role("button", name="With unknown").click()
    expect(rows.first).to_contain_text("of 585")


def test_variants_are_told_apart_by_metadata(sends: Stage, open_page: OpenPage) -> None:
    """A key that the messages carry is offered; its values are compared like campaigns."""
    page = open_page("/compare?c=offer-a&c=offer-b")
    page.get_by_label("Key:").select_option("variant")
    rows = page.locator("#variants tbody tr")
    expect(rows).to_have_count(2)
    delivered = [number(text) for text in rows.locator("td:nth-child(2)").all_inner_texts()]
    assert sum(delivered) == 2 * 585
    assert "key=variant" in page.url


def test_choosing_campaigns_is_in_the_address_and_can_be_undone(
    sends: Stage, open_page: OpenPage
) -> None:
    """One box more is one campaign more; Back takes it away again."""
    page = open_page("/compare?c=offer-a&c=offer-b")
    page.get_by_text("Choose campaigns").click()
    page.locator("#picker").get_by_label("offer-c").check()
    expect(page.locator("#campaigns tbody tr")).to_have_count(3)
    assert page.url.count("c=offer-") == 3
    page.go_back()
    expect(page.locator("#campaigns tbody tr")).to_have_count(2)


def test_audience_says_when_and_with_what(sends: Stage, open_page: OpenPage) -> None:
    """The hours add up to the campaign's opens, also by another zone's clock; devices are those of
    the messages that people opened."""
    page = open_page("/audience?campaign=offer-a&period=all")
    [row] = sends.rows("SELECT * FROM campaign_summary WHERE campaign_id = 'offer-a'")
    cells = "#hours td"
    shown = page.locator(cells).all_inner_texts()
    assert len(shown) == 7 * 24
    assert sum(number(text) for text in shown if text != "–") == row["opened"]
    page.get_by_label("Time zone").select_option("Asia/Tokyo")
    expect(page.locator("#hours .note")).to_contain_text("Asia/Tokyo")
    same = "[...document.querySelectorAll('#hours td')].map(one => one.textContent).join()"
    page.wait_for_function(f"before => {same} !== before", arg=",".join(shown))
    moved = page.locator(cells).all_inner_texts()
    assert moved == shown[-9:] + shown[:-9]
    expect(page.locator("#device tbody tr").first).to_contain_text(
        f"{row['opened']} of {row['opened']}"
    )
    expect(page.locator("#country tbody")).to_contain_text("Austria")
    page.locator("#hours td[tabindex='0']").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#hours .readout")).to_contain_text("Monday, 10:00 to 11:00")
