"""Health routes: what a probe and a scraper get, for every role that serves them on their own."""

import httpx
import pytest

from schemas.serving.health import health_app


async def ask(method: str, path: str, *, ready: bool = True) -> httpx.Response:
    app = health_app(lambda: ready, lambda: b"up 1\n", "text/plain; version=0.0.4")
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://role") as http:
        return await http.request(method, path)


@pytest.mark.parametrize(
    ("path", "ready", "status", "text"),
    [
        ("/livez", True, 200, "ok\n"),
        ("/livez", False, 200, "ok\n"),
        ("/readyz", True, 200, "ready\n"),
        ("/readyz", False, 503, "not ready\n"),
        ("/metrics", False, 200, "up 1\n"),
        ("/", True, 404, "Not Found"),
    ],
)
async def test_each_path_says_what_it_is_for(
    path: str, ready: bool, status: int, text: str
) -> None:
    """A role that is not ready is alive all the same, and its metrics say why."""
    answer = await ask("GET", path, ready=ready)
    assert (answer.status_code, answer.text) == (status, text)
    head = await ask("HEAD", path, ready=ready)
    assert (head.status_code, head.content) == (status, b"")
    assert head.headers == answer.headers


async def test_metrics_say_their_format() -> None:
    """Prometheus picks the parser by it."""
    answer = await ask("GET", "/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4"


async def test_nothing_can_be_changed_here() -> None:
    """Other methods are refused, with those that are not."""
    answer = await ask("POST", "/readyz")
    assert answer.status_code == 405
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD"}
