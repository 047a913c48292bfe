"""Attempts to bypass the dashboard's sign-in."""

import ast
import hashlib
import hmac
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from analytics.dashboard import create_app
from analytics.dashboard.access import (
    COOKIE,
    FAILURES_MAX,
    FAILURES_OF_ALL_MAX,
    SECURE_COOKIE,
    Caller,
    Gate,
)
from schemas.serving.sites import SameSite
from schemas.settings import Settings
from tests.analytics.test_dashboard_access import PAGES, PRIVATE, TOKEN, client
from tests.test_style import python_files

SIGNED_IN: dict[str, Any] = {"dashboard_host": "0.0.0.0", "dashboard_token": SecretStr(TOKEN)}
BY_PROXY: dict[str, Any] = {
    "dashboard_host": "0.0.0.0",
    "dashboard_user_header": "X-User",
    "dashboard_proxy_ips": ("10.0.0.0/8",),
}
EVERYTHING = [*PRIVATE, *(path.partition("?")[0] for path in PAGES), "/login", "/static/app.js"]


@pytest.mark.parametrize("peer", ["127.0.0.1", "203.0.113.9", "::1", "::ffff:203.0.113.9", ""])
@pytest.mark.parametrize("chain", ["10.1.2.3", "10.1.2.3, 10.1.2.3", "::ffff:10.1.2.3"])
async def test_nobody_can_pose_as_a_proxy(peer: str, chain: str) -> None:
    """The socket's address counts, not the one in X-Forwarded-For."""
    headers = {"x-forwarded-for": chain, "x-user": "eve", "x-forwarded-proto": "https"}
    async with client(peer, **BY_PROXY) as http:
        assert (await http.get("/api/wording", headers=headers)).status_code == 401
    async with client("10.1.2.3", **BY_PROXY) as http:
        assert (await http.get("/api/wording", headers=headers)).status_code == 200


async def test_a_user_that_the_client_added_is_none() -> None:
    """Two headers, or a list in one: it is unknown which of them the proxy set."""
    async with client("10.1.2.3", **BY_PROXY) as http:
        for named in ([("x-user", "eve"), ("x-user", "ada")], [("x-user", "eve, ada")], []):
            assert (await http.get("/api/wording", headers=named)).status_code == 401


@pytest.mark.parametrize("path", PRIVATE)
async def test_the_host_header_does_not_move_the_path(path: str) -> None:
    """``Host: a/static/`` once made a URL whose path began with ``/static/``."""
    async with client(**SIGNED_IN) as http:
        for host in (
            "a/static/",
            "a/login?",
            "a/login#",
            "a\\static/",
            "a/livez?x=",
            "x@a/static/",
        ):
            answer = await http.get(path, headers={"host": host})
            assert answer.status_code in (401, 403)


def addresses_by_host(text: str) -> list[str]:
    """Uses of the URL that Starlette derives from the Host header."""
    return [
        f"line {node.lineno}" for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
        and node.value.id == "request" and node.attr in ("url", "base_url", "url_for")
    ]  # fmt: skip


def test_no_code_judges_the_address_that_the_host_header_makes() -> None:
    """``scope["path"]`` is the requested path."""
    found = {
        name: addresses_by_host(text)
        for name, text in python_files().items()
        if not name.startswith("tests/")
    }
    assert {name: uses for name, uses in found.items() if uses} == {}
    assert addresses_by_host("path = request.url.path")
    assert addresses_by_host("request.base_url")


@contextmanager
def gate(now: list[float], **settings: Any) -> Iterator[Gate]:
    """A gate with its own clock."""
    yield Gate(Settings(**{**SIGNED_IN, **settings}), lambda: now[0])


def caller(peer: str, chain: str = "", **more: Any) -> Caller:
    """A request from ``peer`` with ``chain`` as its X-Forwarded-For."""
    return Caller(peer, {"x-forwarded-for": chain} if chain else {}, **more)


def test_lock_out_is_not_escaped_by_headers() -> None:
    """A caller that is not one of our proxies is one client, whatever headers it sends."""
    with gate([1e9], dashboard_proxy_ips=("10.0.0.0/8",)) as it:
        for number in range(FAILURES_MAX):
            assert not it.is_token("wrong", caller("203.0.113.9", f"198.51.100.{number}"))
        assert not it.is_token(TOKEN, caller("203.0.113.9", "198.51.100.200"))
        assert it.is_token(TOKEN, caller("203.0.113.8"))


def test_a_proxys_clients_are_told_apart() -> None:
    """By what the proxy saw, which is right-most, not by what they sent themselves."""
    with gate([1e9], dashboard_proxy_ips=("10.0.0.0/8",)) as it:
        for number in range(FAILURES_MAX):
            forged = f"192.0.2.{number}, 203.0.113.9, 10.5.5.5"
            assert not it.is_token("wrong", caller("10.1.1.1", forged))
        assert not it.is_token(TOKEN, caller("10.1.1.1", "203.0.113.9"))
        assert it.is_token(TOKEN, caller("10.1.1.1", "203.0.113.10"))


def test_a_network_of_addresses_is_one_client() -> None:
    """An IPv6 client has 2^64 addresses."""
    with gate([1e9]) as it:
        for number in range(FAILURES_MAX):
            assert not it.is_token("wrong", caller(f"2001:db8::{number:x}"))
        assert not it.is_token(TOKEN, caller("2001:db8::ffff"))
        assert it.is_token(TOKEN, caller("2001:db8:0:1::1"))


def test_many_clients_together_are_slowed() -> None:
    """A thousand wrong tokens a minute, from anywhere; afterwards sign-in works again."""
    now = [1e9]
    with gate(now) as it:
        for number in range(FAILURES_OF_ALL_MAX):
            assert not it.is_token("wrong", caller(f"10.{number >> 8}.{number & 255}.1"))
        assert not it.is_token(TOKEN, caller("192.0.2.1"))
        now[0] += 61
        assert it.is_token(TOKEN, caller("192.0.2.1"))


@given(st.text(max_size=40), st.text(max_size=40))
def test_any_token_and_cookie_is_judged(token: str, cookie: str) -> None:
    """Nothing raises, and only the token grants access."""
    with gate([1e9]) as it:
        given_ = caller("192.0.2.1", cookies={COOKIE: cookie, SECURE_COOKIE: cookie})
        assert it.is_token(token, given_) == (token == TOKEN)
        assert not it.allows(given_)


def test_sessions_are_not_signed_by_an_empty_token() -> None:
    """With a proxy's sign-in alone there are no sessions, so none can be forged."""
    expiry = "99999999999"
    key = hashlib.sha256(b"mailpulse session\0").digest()
    forged = f"{expiry}.{hmac.new(key, expiry.encode(), hashlib.sha256).hexdigest()}"
    it = Gate(Settings(**BY_PROXY), lambda: 1e9)
    assert not it.allows(caller("192.0.2.1", cookies={COOKIE: forged, SECURE_COOKIE: forged}))


async def test_a_session_is_never_the_clients_choice() -> None:
    """A cookie from before the sign-in is replaced and stays invalid (session fixation)."""
    chosen = "99999999999.attacker"
    async with client(**SIGNED_IN) as http:
        before = {"cookie": f"{COOKIE}={chosen}"}
        answer = await http.post("/login", data={"token": TOKEN}, headers=before)
        assert http.cookies[COOKIE] != chosen
        assert chosen not in answer.headers["set-cookie"]
        http.cookies.clear()
        assert (await http.get("/api/wording", headers=before)).status_code == 401


async def test_cookies_of_https_are_for_this_host_only() -> None:
    """``__Host-``: no other host and no plain HTTP can set it, and no other cookie replaces it."""
    options = {**SIGNED_IN, "dashboard_proxy_ips": ("10.0.0.0/8",)}
    https = {"x-forwarded-proto": "https", "x-forwarded-for": "203.0.113.9"}
    async with client("10.1.2.3", **options) as http:
        answer = await http.post("/login", data={"token": TOKEN}, headers=https)
        flags = [flag.strip().lower() for flag in answer.headers["set-cookie"].split(";")]
        assert flags[0].startswith(f"{SECURE_COOKIE}=".lower())
        assert {"secure", "httponly", "path=/", "samesite=lax"} <= set(flags)
        assert not any(flag.startswith("domain") for flag in flags)
        value = answer.headers["set-cookie"].partition("=")[2].partition(";")[0]
        for name, status in ((SECURE_COOKIE, 200), (COOKIE, 401)):
            headers = {**https, "cookie": f"{name}={value}"}
            http.cookies.clear()
            assert (await http.get("/api/wording", headers=headers)).status_code == status
        headers = {**https, "cookie": f"{SECURE_COOKIE}={value}"}
        ended = (await http.post("/logout", headers=headers)).headers["set-cookie"].lower()
        assert f'{SECURE_COOKIE}=""'.lower() in ended
        assert "secure" in ended
        assert "max-age=0" in ended
    async with client("203.0.113.9", **options) as http:  # nobody's word for HTTPS
        answer = await http.post("/login", data={"token": TOKEN}, headers=https)
        assert "secure" not in answer.headers["set-cookie"].lower()


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"}, {"origin": "http://127.0.0.1:9"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"},
    ],
)  # fmt: skip
@pytest.mark.parametrize("options", [{}, SIGNED_IN])
async def test_other_sites_change_and_read_nothing(
    headers: dict[str, str], options: dict[str, Any]
) -> None:
    """Their forms sign nobody in or out, their scripts read no data."""
    async with client("127.0.0.1", **options) as http:
        for path in ("/login", "/logout"):
            answer = await http.post(path, data={"token": TOKEN}, headers=headers)
            assert answer.status_code == 403
            assert "set-cookie" not in answer.headers
        for path in PRIVATE:
            assert (await http.get(path, headers=headers)).status_code == 403


async def test_links_from_elsewhere_lead_to_pages() -> None:
    """A link to an alert in a chat opens the page, or the sign-in first."""
    link = {
        "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"
    }  # fmt: skip
    async with client("127.0.0.1") as http:
        for path in PAGES:
            assert (await http.get(path, headers=link)).status_code == 200
    async with client(**SIGNED_IN) as http:
        answer = await http.get("/campaign?campaign=x", headers=link)
        assert answer.headers["location"] == "/login?next=/campaign%3Fcampaign%3Dx"
        assert (await http.get(answer.headers["location"], headers=link)).status_code == 200
        framed = {**link, "sec-fetch-dest": "iframe"}
        assert (await http.get("/", headers=framed)).status_code == 403


@pytest.mark.parametrize("path", EVERYTHING)
async def test_no_page_can_be_framed_or_read(path: str) -> None:
    """Signed in or not, refused or not; no answer allows another site to read it."""
    for options in ({}, SIGNED_IN):
        async with client("127.0.0.1", **options) as http:
            for headers in ({}, {"origin": "https://evil.example"}):
                if path.startswith("/live") and not options and not headers:
                    continue  # it never ends
                got = (await http.get(path, headers=headers)).headers
                assert "frame-ancestors 'none'" in got["content-security-policy"]
                assert got["x-frame-options"] == "DENY"
                assert got["x-content-type-options"] == "nosniff"
                assert got["cross-origin-resource-policy"] == "same-origin"
                assert not any(name.startswith("access-control") for name in got)


@pytest.mark.parametrize(
    "wished",
    [
        "https://evil.example", "//evil.example", "/\\evil.example", "\\\\evil.example",
        "/%0d%0aset-cookie:x=y", "/\r\nset-cookie: x=y", "/?\r\nset-cookie: x=y", "javascript:x",
        "/\t/evil.example", "/.//evil.example", "/campaign/../..//evil", "/?x=%0d%0a", "http:/x",
    ],
)  # fmt: skip
async def test_next_leads_to_a_page_of_ours(wished: str) -> None:
    """Never to another site, whatever headers are sent."""
    async with client(**SIGNED_IN) as http:
        answer = await http.post("/login", data={"token": TOKEN, "next": wished})
        location = answer.headers["location"]
        assert answer.status_code == 303
        assert re.fullmatch(r"/(campaign|pipeline)?(\?[!-~]*)?", location)
        assert answer.headers.get_list("set-cookie")[0].startswith(COOKIE)
        assert len(answer.headers.get_list("set-cookie")) == 1
        page = await http.get("/login", params={"next": wished})
        assert "evil" not in page.text or "next" not in page.text.partition("evil")[0][-20:]


def test_the_guard_against_other_sites_is_outermost() -> None:
    """Nothing of the application is reached before it."""

    async def nothing(_sql: str, _parameters: Any) -> list[dict[str, Any]]:
        return []

    app = create_app(Settings(), nothing, wall=lambda: 1e9)
    layers: list[Any] = [layer.cls for layer in app.user_middleware]
    assert layers[0] is SameSite
