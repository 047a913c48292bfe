"""How pages stay up to date, and the load on the database."""

import re
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest
from playwright.sync_api import Route, expect
from starlette.applications import Starlette

from analytics.dashboard.hub import BEAT_S
from analytics.dashboard.questions import OVERVIEW
from analytics.sink.progress import INTERVAL_S
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
    stage.query.failure, stage.query.held = None, False


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
    """Its connections stay open and nothing comes, as with SIGSTOP or a dead network: that is said
    within seconds, and taken back."""
    with fresh.running() as app:
        page = open_page("/?period=24h")
        expect(page.locator("#status")).to_have_attribute("data-mode", "live")
        thaw = threading.Event()
        app.state.loop.call_soon_threadsafe(thaw.wait, 60)
        expect(page.locator("#status")).to_have_attribute("data-mode", "lost")
        expect(page.locator("#notice")).to_contain_text("connection to mailpulse is lost")
        thaw.set()
        expect(page.locator("#status")).to_have_attribute("data-mode", "live")
        expect(page.locator("#notice")).to_be_empty()
        page.context.close()


def test_five_seconds_of_silence_are_said_by_the_pages_own_clock(
    fresh: Stage, open_page: OpenPage
) -> None:
    """The clock is the test's, so that a busy machine changes nothing: after the limit and one look
    the page says so, also where requests hang; and a hung request ends."""
    hangs = False
    with fresh.running():
        page = open_page("/livez", ready=False)
        limits = page.evaluate(
            "import('/static/live.js').then(({LOST_MS, WATCH_MS}) => [LOST_MS, WATCH_MS])"
        )
        assert sum(limits) < 5_000
        page.clock.install()
        page.route("**/live/**", lambda route: route.abort())
        page.route("**/api/overview**", lambda route: None if hangs else route.continue_())
        page.goto(f"{fresh.url}/?period=24h")
        expect(page.locator("#status")).to_have_attribute("data-mode", "polling")
        hangs = True
        page.clock.run_for(sum(limits))
        assert page.locator("#status").get_attribute("data-mode") == "lost"
        assert "connection to mailpulse is lost" in page.locator("#notice").inner_text()
        hangs = False
        page.clock.run_for(61_000)
        expect(page.locator("#status")).to_have_attribute("data-mode", "polling")
        page.context.close()


def test_words_that_waited_in_a_buffer_make_nothing_look_younger(
    fresh: Stage, open_page: OpenPage
) -> None:
    """What the server said counts from when it said it; drift and clocks set anew do no harm."""
    with fresh.running():
        page = open_page("/livez", ready=False)
        silences = page.evaluate(
            """async () => {
              const { Beat } = await import("/static/beat.js");
              const heard = (said) => {
                const beat = new Beat(0);
                said.forEach(([server, now]) => beat.heard(server, now));
                return Math.round(beat.silentMs(said.at(-1)[1]));
              };
              const even = [...Array(30).keys()].map((n) => n * 1000);
              return {
                at_once: heard(even.map((n) => [9e11 + n, n])),
                late: heard([...even.map((n) => [9e11 + n, n]), [9e11 + 30000, 34500]]),
                server_set_back: heard([...even.map((n) => [9e11 + n, n]), [8e11, 30000]]),
                set_back_a_little: heard([...even.map((n) => [9e11 + n, n]),
                                          ...even.map((n) => [9e11 + n + 20000, n + 30000])]),
                drift: heard([...Array(9999).keys()].map((n) => [9e11 + n * 1000, n * 1000.5])),
              };
            }"""
        )
        assert silences == {
            "at_once": 0, "late": 4_500, "server_set_back": 0, "set_back_a_little": 0, "drift": 7,
        }  # fmt: skip
        page.context.close()


def test_page_says_when_events_do_not_reach_the_database(fresh: Stage, open_page: OpenPage) -> None:
    """Everything answers, but the sink stands still: that is said at once, and soon across the
    page."""
    behind_s = 0
    with fresh.running():
        page = open_page("/livez", ready=False)

        def old(route: Route) -> None:
            asked = route.request.headers
            answer = route.fetch(headers={k: v for k, v in asked.items() if k != "if-none-match"})
            document = answer.json()
            at_ms = int(time.time() * 1000) - behind_s * 1000
            document["freshness"] |= {"newest_ms": at_ms - 200_000, "caught_up_ms": at_ms}
            return route.fulfill(response=answer, json=document)

        page.route("**/api/overview**", old)
        page.route("**/live/**", lambda route: route.abort())
        page.goto(f"{fresh.url}/?period=24h")
        expect(page.locator("#status")).to_have_attribute("data-mode", "polling")
        behind_s = 5
        expect(page.locator("#status")).to_have_attribute("data-mode", "stale")
        expect(page.locator("#status-text")).to_contain_text("Not up to date · Data through")
        behind_s = 150
        expect(page.locator("#notice")).to_contain_text("newer events have not reached the databa")
        page.unroute_all(behavior="ignoreErrors")  # one may be under way
        page.context.close()


def test_a_sink_is_heard_soon_enough_to_be_missed_within_five_seconds(stage: Stage) -> None:
    """What it tells each second, the dashboard reads each second, is younger than the limit."""
    interval_s = type(stage.settings).model_fields["dashboard_interval_ms"].default / 1000
    assert INTERVAL_S + interval_s + BEAT_S < 4


def test_page_says_when_the_database_hangs(fresh: Stage, open_page: OpenPage) -> None:
    """The dashboard answers and its connection lives; its figures get old all the same."""
    with fresh.running():
        page = open_page("/?period=24h")
        expect(page.locator("#status")).to_have_attribute("data-mode", "live")
        fresh.query.held = True
        expect(page.locator("#status")).to_have_attribute("data-mode", "stale")
        expect(page.locator("#status-text")).to_contain_text(re.compile(r"Figures are \d+ s old"))
        fresh.query.held = False
        expect(page.locator("#status")).to_have_attribute("data-mode", "live")
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
        expect(page.locator("#status-text")).to_contain_text("asks every 2 s")
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
