"""Access to the dashboard, tested through its ASGI application."""

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from analytics.dashboard import create_app
from analytics.dashboard.access import (
    COOKIE,
    FAILURES_MAX,
    local_path,
)
from analytics.dashboard.asking import Parameters, Rows
from schemas.errors import ConfigError, Unavailable
from schemas.settings import Settings, load_settings

TOKEN = "a-token-for-tests-0123456789"
PRIVATE = (
    "/api/overview", "/api/wording", "/csv/overview/campaigns.csv", "/live/overview",
    "/parquet/overview/campaigns.parquet", "/sql/schema", "/sql/starters", "/docs/asyncapi.yaml",
)  # fmt: skip
PAGES = (
    "/", "/campaign?campaign=x", "/deliverability", "/compare?c=x&c=y", "/audience", "/pipeline",
    "/sql", "/docs",
)  # fmt: skip


async def _nothing(_sql: str, _parameters: Parameters) -> Rows:
    raise Unavailable("no database in this test")


def client(
    peer: str = "203.0.113.9", wall: Callable[[], float] = lambda: 1e9, **settings: Any
) -> httpx.AsyncClient:
    """A client of an application; ``peer`` is its address."""
    app = create_app(Settings(**settings), _nothing, wall=wall)
    transport = httpx.ASGITransport(app, client=(peer, 1234))
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "mailpulse.example.com"])
def test_it_does_not_start_open_to_the_network(host: str) -> None:
    """With neither token nor proxy header the missing setting is named."""
    with pytest.raises(ConfigError, match="MAILPULSE_DASHBOARD_TOKEN"):
        client(dashboard_host=host)
    client(dashboard_host=host, dashboard_token=SecretStr(TOKEN))
    client(dashboard_host=host, dashboard_user_header="X-Auth-Request-Email")


async def test_nothing_is_answered_without_the_token() -> None:
    """Documents get 401, pages are redirected to the form; only health, the form and its style are
    open."""
    async with client(dashboard_host="0.0.0.0", dashboard_token=SecretStr(TOKEN)) as http:
        for path in PRIVATE:
            assert (await http.get(path)).status_code == 401
        for path in PAGES:
            answer = await http.get(path)
            assert answer.status_code == 303
            assert answer.headers["location"].startswith("/login?next=")
        for path in ("/livez", "/login", "/static/style.css"):
            assert (await http.get(path)).status_code == 200


async def test_a_session_opens_everything_and_ends() -> None:
    """The cookie is for HTTP only, for this site, and expires; a changed one is invalid."""
    now = [1e9]
    async with client(
        wall=lambda: now[0], dashboard_host="0.0.0.0", dashboard_token=SecretStr(TOKEN)
    ) as http:
        answer = await http.post("/login", data={"token": TOKEN, "next": "/pipeline?period=1h"})
        assert (answer.status_code, answer.headers["location"]) == (303, "/pipeline?period=1h")
        flags = answer.headers["set-cookie"].lower()
        assert "httponly" in flags
        assert "samesite=lax" in flags
        assert (await http.get("/api/wording")).status_code == 200
        value = http.cookies[COOKIE]
        expiry, _, signature = value.partition(".")
        for forged in (f"{int(expiry) + 9}.{signature}", f"{expiry}.", "", f"{expiry}.{'0' * 64}"):
            http.cookies.set(COOKIE, forged)
            assert (await http.get("/api/wording")).status_code == 401
        http.cookies.clear()
        now[0] += 12 * 3600 + 1
        late = await http.get("/api/wording", headers={"cookie": f"{COOKIE}={value}"})
        assert late.status_code == 401


async def test_a_token_in_a_header_serves_programs() -> None:
    """curl needs no cookie."""
    async with client(dashboard_host="0.0.0.0", dashboard_token=SecretStr(TOKEN)) as http:
        for given_token, status in ((TOKEN, 200), (TOKEN[:-1], 401), ("", 401)):
            headers = {"authorization": f"Bearer {given_token}"}
            assert (await http.get("/api/wording", headers=headers)).status_code == status


async def test_guessing_is_slowed() -> None:
    """After ten wrong tokens even the right one is refused for a minute."""
    now = [1e9]
    async with client(
        wall=lambda: now[0], dashboard_host="0.0.0.0", dashboard_token=SecretStr(TOKEN)
    ) as http:
        for _ in range(FAILURES_MAX):
            assert (await http.post("/login", data={"token": "wrong"})).status_code == 403
        assert (await http.post("/login", data={"token": TOKEN})).status_code == 429
        now[0] += 61
        assert (await http.post("/login", data={"token": TOKEN})).status_code == 303


async def test_asking_for_the_sign_in_page_is_no_wrong_token() -> None:
    """HEAD, as monitors and link previews send, has no token and does not delay anybody's sign-
    in."""
    async with client(dashboard_host="0.0.0.0", dashboard_token=SecretStr(TOKEN)) as http:
        for _ in range(FAILURES_MAX + 1):
            assert (await http.head("/login")).status_code == 200
        assert (await http.post("/login", data={"token": TOKEN})).status_code == 303


async def test_a_proxy_is_trusted_only_from_its_address() -> None:
    """From any other address the header is ignored."""
    options: dict[str, Any] = {
        "dashboard_host": "0.0.0.0", "dashboard_user_header": "X-Auth-Request-Email",
        "dashboard_proxy_ips": ("10.0.0.0/8",),
    }  # fmt: skip
    headers = {"x-auth-request-email": "ada@example.com"}
    for peer, status in (("10.1.2.3", 200), ("203.0.113.9", 401)):
        async with client(peer, **options) as http:
            assert (await http.get("/api/wording", headers=headers)).status_code == status
            assert (await http.get("/api/wording")).status_code == 401


async def test_without_sign_in_only_this_machine_is_answered() -> None:
    """A foreign host name that resolves to 127.0.0.1 is refused, and so is a proxy in front."""
    async with client("127.0.0.1") as http:
        assert (await http.get("/api/wording")).status_code == 200
        for headers, setting in (
            ({"host": "evil.example.com"}, "MAILPULSE_DASHBOARD_HOSTS"),
            ({"host": "127.0.0.1.evil.example.com"}, "MAILPULSE_DASHBOARD_HOSTS"),
            ({"host": "["}, "Host header"),
            ({"host": "evil@127.0.0.1"}, "Host header"),
            ({"x-forwarded-for": "203.0.113.9"}, "MAILPULSE_DASHBOARD_TOKEN"),
            ({"forwarded": "for=203.0.113.9"}, "MAILPULSE_DASHBOARD_TOKEN"),
        ):
            refused = await http.get("/api/wording", headers=headers)
            assert refused.status_code == 403
            assert setting in refused.text
    async with client("127.0.0.1", dashboard_hosts=("localhost:9000",)) as http:
        tunnel = await http.get("/api/wording", headers={"host": "localhost:9000"})
        assert tunnel.status_code == 200


async def test_every_answer_carries_the_policy() -> None:
    """Errors, redirects and files included."""
    async with client("127.0.0.1") as http:
        for path in (*PAGES, "/api/overview", "/nothing", "/static/app.js", "/login"):
            headers = (await http.get(path)).headers
            assert "default-src 'none'" in headers["content-security-policy"]
            assert "unsafe" not in headers["content-security-policy"]
            assert headers["x-content-type-options"] == "nosniff"


async def test_pages_hold_no_inline_script_or_style() -> None:
    """Pages contain nothing that the policy forbids."""
    async with client("127.0.0.1") as http:
        for path in (*PAGES, "/login"):
            text = (await http.get(path)).text
            assert "style=" not in text
            assert "<style" not in text
            assert text.count("<script") == text.count("<script ") == text.count("src=")


async def test_strange_requests_are_refused_in_words() -> None:
    """A problem document, and nothing is kept for them."""
    async with client("127.0.0.1") as http:
        for path in ("/api/nothing", "/api/overview?period=2h", "/csv/overview/x.csv?period=zz"):
            answer = await http.get(path)
            assert answer.status_code == 400
            assert answer.headers["content-type"] == "application/problem+json"
        assert (await http.get("/api/overview")).status_code == 503


@given(st.text(max_size=40))
def test_signing_in_never_leads_to_another_site(wished: str) -> None:
    """Whatever «next» says."""
    for text in (wished, f"//{wished}", f"/{wished}", f"\\{wished}", f"https:{wished}"):
        found = local_path(text, ["/", "/campaign", "/pipeline"])
        parts = urlsplit(found)
        assert (parts.scheme, parts.netloc) == ("", "")
        assert parts.path in ("/", "/campaign", "/pipeline")
        assert not found.startswith("//")
        assert "\n" not in found
        assert "\r" not in found


def test_settings_of_the_dashboard_are_checked() -> None:
    """A token that can be guessed, an invalid network, an invalid address."""
    environ = {
        "MAILPULSE_DASHBOARD_TOKEN": "short",
        "MAILPULSE_DASHBOARD_PROXY_IPS": "10.0.0.0/8, nonsense",
        "MAILPULSE_DASHBOARD_METRICS_URLS": "ftp://example.com",
        "MAILPULSE_DASHBOARD_USER_HEADER": "X Bad",
    }
    with pytest.raises(ConfigError) as caught:
        load_settings(environ, lambda path: path.read_text())
    assert all(any(name in line for line in caught.value.problems) for name in environ)
    assert "short" not in str(caught.value).replace("shorter", "")
