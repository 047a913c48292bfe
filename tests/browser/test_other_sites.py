"""A page of another site, in a real browser, against every listener: it can read and run
nothing."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Page, Response

from tests.browser.listeners import listeners

pytestmark = [pytest.mark.browser, pytest.mark.live]

SCRIPT = "SELECT 'window.hit=1' FORMAT RawBLOB"
PATHS = {
    "door": ["/ping", f"/?query={quote(SCRIPT)}&add_http_cors_header=1"],
    "private": ["/ping"],
    "dashboard": ["/api/wording", "/csv/overview/campaigns.csv", "/static/app.js"],
    "ingress": ["/registry/subjects", "/livez"],
    "health": ["/metrics"],
}
TARGETS = [(name, path) for name, paths in PATHS.items() for path in paths]
TRY = """
async target => {
    const done = (node, where) => new Promise(resolve => {
        node.onload = () => resolve('loaded');
        node.onerror = () => resolve('failed');
        where.append(node);
        setTimeout(() => resolve('nothing'), 3000);
    });
    const made = (tag, values) => Object.assign(document.createElement(tag), values);
    const read = async options => {
        try { return await (await fetch(target, options)).text() } catch { return 'failed' }
    };
    const outcome = {
        cors: await read({}),
        credentials: await read({credentials: 'include'}),
        opaque: await read({mode: 'no-cors'}),
        posted: await read({method: 'POST', mode: 'no-cors', body: 'SELECT 1'}),
        preflight: await read({method: 'POST', headers: {'x-a': 'b'}, body: 'SELECT 1'}),
        script: await done(made('script', {src: target}), document.head),
        module: await done(made('script', {src: target, type: 'module'}), document.head),
        image: await done(made('img', {src: target}), document.body),
        style: await done(made('link', {href: target, rel: 'stylesheet'}), document.head),
    };
    const frame = made('iframe', {name: 'frame'});
    await done(frame, document.body);
    const form = made('form', {action: target, method: 'post', target: 'frame'});
    form.append(made('input', {name: 'query', value: 'SELECT 1'}));
    document.body.append(form);
    form.submit();
    await done(made('iframe', {src: target}), document.body);
    outcome.hit = window.hit === undefined ? 'no' : 'yes';
    return outcome;
}
"""


class Evil(BaseHTTPRequestHandler):
    """An empty page."""

    def do_GET(self) -> None:
        """Answers any path."""
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>evil</title><body></body>")

    def log_message(self, *_: Any) -> None:
        """Logs nothing."""


@pytest.fixture(scope="module")
def evil() -> Iterator[int]:
    """The port of the other site."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Evil)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def ports() -> Iterator[dict[str, int]]:
    """Of the listeners."""
    with listeners() as opened:
        yield opened


def visit(page: Page, url: str, target: str) -> tuple[dict[str, str], list[int]]:
    """The results of a page's attempts, and the statuses of the answers."""
    seen: list[int] = []

    def heard(response: Response) -> None:
        if response.url.startswith(target.partition("?")[0]):
            seen.append(response.status)

    page.on("response", heard)
    page.goto(url)
    outcome: dict[str, str] = page.evaluate(TRY, target)
    page.remove_listener("response", heard)
    return outcome, seen


@pytest.mark.parametrize("site", ["evil.example", "127.0.0.1"])
@pytest.mark.parametrize(("name", "path"), TARGETS)
def test_another_site_reads_and_runs_nothing(
    browser: Browser, ports: dict[str, int], evil: int, site: str, name: str, path: str
) -> None:  # fmt: skip
    """With another name, or another port of this machine (the same site, another origin)."""
    target = f"http://127.0.0.1:{ports[name]}{path}"
    context = browser.new_context()
    page = context.new_page()
    outcome, seen = visit(page, f"http://{site}:{evil}/", target)
    assert outcome.pop("hit") == "no"
    # a refused answer is no image, script or style; frames load what the browser shows instead
    assert set(outcome.values()) <= {"failed", "nothing", ""}, outcome
    assert set(seen) <= {403}, seen
    context.close()


@pytest.mark.parametrize(("name", "path"), TARGETS)
def test_a_rebound_name_opens_nothing(
    browser: Browser, ports: dict[str, int], name: str, path: str
) -> None:
    """For the browser it is one origin; the name in Host shows it."""
    page = browser.new_page()
    answer = page.goto(f"http://rebound.example:{ports[name]}{path}")
    assert answer is not None
    assert answer.status == 403
    page.close()


def test_a_person_is_answered(browser: Browser, ports: dict[str, int]) -> None:
    """Anyone who enters the URL gets the answer."""
    page = browser.new_page()
    for name, paths in PATHS.items():
        answer = page.goto(f"http://127.0.0.1:{ports[name]}{paths[0]}")
        assert answer is not None
        assert answer.status == 200
    page.close()
