"""How pages stay up to date, and the load on the database."""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest
from playwright.sync_api import Route, expect
from starlette.applications import Starlette

from analytics.dashboard.questions import OVERVIEW
from schemas.errors import Unavailable
from tests.browser.conftest import OpenPage
from tests.browser.stage import Stage

pytestmark = [pytest.mark.browser, pytest.mark.live]
VIEWERS = 100
FIRST_SENT = "#campaigns tbody tr .figure"


def wait_until_nobody_looks(app: Starlette) -> None:
    """Waits until the server has noticed closed connections."""
    deadline = time.monotonic() + 20
    while app.state.hub.viewers and time.monotonic() < deadline:
        time.sleep(0.05)
    assert app.state.hub.viewers == 0


@pytest.fixture
def fresh(stage: Stage) -> Iterator[Stage]:
    """An empty database, one campaign, and no query yet."""
    stage.empty()
    stage.query.failure = None
    stage.add_minutes("only", time.time(), 1, delivered=10)
    yield stage
    stage.query.failure = None


def test_page_comes_back_by_itself_after_a_restart(fresh: Stage, open_page: OpenPage) -> None:
    """It says that the connection is lost, keeps its figures, and goes on once the server is
    back."""
    with fresh.running():
        page = open_page("/?period=24h")
        expect(page.locator(FIRST_SENT).first).to_have_text("10")
    expect(page.locator("#notice")).to_contain_text("connection to mailpulse is lost")
    expect(page.locator(FIRST_SENT).first).to_have_text("10")
    fresh.add_minutes("only", time.time(), 2, delivered=25)
    with fresh.running():
        expect(page.locator(FIRST_SENT).first).to_contain_text("5")
        expect(page.locator("#notice")).to_be_empty()
        expect(page.locator("#status")).to_have_attribute("data-mode", "live")
        page.context.close()


def test_page_says_when_its_figures_are_old(fresh: Stage, open_page: OpenPage) -> None:
    """Without the database the last figures stay, with a notice in words for people."""
    with fresh.running():
        page = open_page("/?period=24h")
        fresh.query.failure = Unavailable("ClickHouse: HTTPConnectionPool(host='10.0.0.7', port=1)")
        expect(page.locator("#notice")).to_contain_text("the database does not answer")
        expect(page.locator("#notice")).not_to_contain_text("HTTPConnectionPool")
        expect(page.locator("#status")).to_have_attribute("data-mode", "stale")
        expect(page.locator(FIRST_SENT).first).to_have_text("10")
        fresh.query.failure = None
        expect(page.locator("#notice")).to_be_empty()
        page.context.close()


def test_page_of_a_frozen_server_does_not_look_live(fresh: Stage, open_page: OpenPage) -> None:
    """Its connections stay open and nothing comes: that is said within seconds, and taken back."""
    with fresh.running() as app:
        page = open_page("/?period=24h")
        expect(page.locator("#status")).to_have_attribute("data-mode", "live")
        thaw = threading.Event()
        app.state.loop.call_soon_threadsafe(thaw.wait, 60)
        expect(page.locator("#status")).to_have_attribute("data-mode", "lost", timeout=8_000)
        expect(page.locator("#notice")).to_contain_text("connection to mailpulse is lost")
        thaw.set()
        expect(page.locator("#status")).to_have_attribute("data-mode", "live")
        expect(page.locator("#notice")).to_be_empty()
        page.context.close()


def test_page_says_when_events_do_not_reach_the_database(fresh: Stage, open_page: OpenPage) -> None:
    """Everything answers, but the sink stands still: the figures are old, and that is said."""
    with fresh.running():
        page = open_page("/livez", ready=False)

        def old(route: Route) -> None:
            answer = route.fetch()
            if answer.status != 200:  # nothing new
                return route.fulfill(response=answer)
            document = answer.json()
            document["freshness"] |= {
                "newest_ms": int(time.time() * 1000) - 200_000,
                "caught_up_ms": int(time.time() * 1000) - 150_000,
            }
            return route.fulfill(response=answer, json=document)

        page.route("**/api/overview**", old)
        page.goto(f"{fresh.url}/?period=24h")
        expect(page.locator("#notice")).to_contain_text("no events have reached the database")
        expect(page.locator("#status")).to_have_attribute("data-mode", "stale")
        page.context.close()


def test_page_polls_where_events_do_not_come_through(fresh: Stage, open_page: OpenPage) -> None:
    """A proxy that blocks streams costs seconds, not figures."""
    with fresh.running():
        page = open_page("/livez", ready=False)
        page.route("**/live/**", lambda route: route.abort())
        page.goto(f"{fresh.url}/?period=24h")
        page.wait_for_selector("#main[data-version]")
        fresh.add_minutes("only", time.time(), 3, delivered=77)
        expect(page.locator(FIRST_SENT).first).to_contain_text("7")
        expect(page.locator("#status-text")).to_contain_text("asks every 3 s")
        page.context.close()


def test_hundred_viewers_cost_one_query_per_interval(fresh: Stage) -> None:
    """All 100 receive every build, and there is one query per build, not per viewer."""
    ticks: list[int] = []
    lock = threading.Lock()
    heard = threading.Event()

    def look(client: httpx.Client) -> None:
        count = 0
        with client.stream("GET", f"{fresh.url}/live/overview?period=24h", timeout=30) as answer:
            for line in answer.iter_lines():
                count += line.startswith("data:")
                if count == 5:
                    break
        with lock:
            ticks.append(count)
            if len(ticks) == VIEWERS:
                heard.set()

    with fresh.running() as app, ExitStack() as stack:
        before = len(fresh.query.asked)
        clients = [stack.enter_context(httpx.Client(trust_env=False)) for _ in range(VIEWERS)]
        threads = [threading.Thread(target=look, args=(c,), daemon=True) for c in clients]
        began = time.monotonic()
        for thread in threads:
            thread.start()
        assert heard.wait(60)
        builds = (time.monotonic() - began) / (fresh.settings.dashboard_interval_ms / 1000)
        asked = fresh.query.asked[before:].count(OVERVIEW)
        assert ticks == [5] * VIEWERS
        # nobody's arrival made a query of its own; a slow database is asked even less
        assert 1 <= asked <= builds + 2
        for thread in threads:
            thread.join(10)
        wait_until_nobody_looks(app)


def test_no_viewers_cost_nothing(fresh: Stage, open_page: OpenPage) -> None:
    """Once the last page is closed, the database is not queried any more."""
    with fresh.running() as app:
        page = open_page("/?period=24h")
        page.context.close()
        wait_until_nobody_looks(app)
        time.sleep(1)  # the poller's last round
        before = len(fresh.query.asked)
        time.sleep(2)
        assert len(fresh.query.asked) == before


def test_empty_database_gives_the_exact_command(stage: Stage, open_page: OpenPage) -> None:
    """For the configured sources, or to configure one."""
    stage.empty()
    with stage.running({"news": "sendgrid", "shop": "ses"}):
        page = open_page("/")
        expect(page.locator(".start")).to_contain_text("mailpulse send-test news")
        expect(page.locator(".start")).to_contain_text("mailpulse send-test shop")
        expect(page.locator(".start")).to_contain_text("/hooks/news")
        page.context.close()
    with stage.running():
        page = open_page("/")
        expect(page.locator(".start")).to_contain_text("mailpulse sources add")
        page.context.close()


def test_page_turns_to_figures_with_the_first_event(stage: Stage, open_page: OpenPage) -> None:
    """No reload between «No events yet» and the first campaign."""
    stage.empty()
    with stage.running({"news": "sendgrid"}):
        page = open_page("/?period=24h")
        expect(page.locator(".start")).to_be_visible()
        stage.add_minutes("first-ever", time.time(), 1, delivered=3)
        expect(page.get_by_role("link", name="first-ever")).to_be_visible()
        expect(page.locator("main .panel.start")).to_have_count(0)
        page.context.close()
