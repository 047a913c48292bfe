"""What a browser does for another site is refused: the decision as a table, and the middleware."""

from typing import Any

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from schemas.serving.sites import ANSWER_HEADERS, SameSite, Sites, is_loopback, refusal

OWN = "127.0.0.1:8123"
DOOR = Sites(setting="MAILPULSE_DOOR_HOSTS")
NAMED = Sites(frozenset({"dash.example.com", "tunnel:9000"}))
ANY = Sites(any_name=True)
PAGES = Sites(any_name=True, pages=frozenset({"/", "/campaign"}))
LINK = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}


def asked(
    *headers: tuple[str, str],
    method: str = "GET",
    path: str = "/",
    server: Any = ("127.0.0.1", 8123),
) -> dict[str, Any]:
    """A request's scope."""
    encoded = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    return {"type": "http", "method": method, "path": path, "headers": encoded, "server": server}


def of_host(host: str, sites: Sites = DOOR, **more: Any) -> bool:
    """Whether a request with this host is accepted."""
    return not refusal(asked(("host", host), **more), sites)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.0.0.1:8123", "localhost", "localhost:8123", "LOCALHOST:8123", "[::1]:8123"],
)
def test_this_machine_is_named(host: str) -> None:
    """In each spelling, with the right port or none."""
    assert of_host(host)


@pytest.mark.parametrize(
    "host",
    [
        "", " ", ":", ":8123", "evil.example", "evil.example:8123", "localhost.", "localhost.:8123",
        "127.0.0.1.", "127.0.0.1.evil.example", "localhost.evil.example", "evil.localhost",
        "localhost:80", "localhost:", "localhost:8123:8123", "localhost:08123", "localhost:+8123",
        "user@localhost", "evil@127.0.0.1:8123", "localhost@evil", "localhost/", "localhost#",
        "localhost?", "localhost\\evil", "local host", "localhost,evil", "localhost\tevil",
        "127.1", "127.0.0.2", "0.0.0.0", "0", "2130706433", "0x7f000001", "0177.0.0.1", "[::]",
        "[::1", "::1", "[::1%25lo]", "[::ffff:127.0.0.2]", "%6cocalhost", "localhost%00",
        "ｌocalhost".encode().decode("latin-1"), "localhost\xa0", "10.0.0.5", "192.0.2.1:8123",
        "-", ".", "a..b", "[]", "[localhost]",
    ],
)  # fmt: skip
def test_other_names_are_refused(host: str) -> None:
    """Other names, other spellings, and what is none."""
    assert not of_host(host)


def test_the_address_connected_to_is_a_name() -> None:
    """A listener on a network address answers to that address, and to no other."""
    for server, host in [
        (("10.0.0.5", 8123), "10.0.0.5:8123"),
        (("10.0.0.5", 8123), "10.0.0.5"),
        (("::ffff:10.0.0.5", 8123), "10.0.0.5:8123"),
        (("fd00::5", 8123), "[FD00:0::5]:8123"),
    ]:
        assert of_host(host, server=server)
        assert not of_host(host, server=("10.0.0.6", 8123))
    assert not of_host("10.0.0.5:8124", server=("10.0.0.5", 8123))
    assert of_host("localhost", server=("/run/door.sock", None))
    assert not of_host("evil", server=None)


def test_named_hosts_are_answered_to() -> None:
    """A name without a port fits with any; one with a port with that one."""
    assert of_host("dash.example.com", NAMED)
    assert of_host("Dash.Example.Com:443", NAMED)
    assert of_host("tunnel:9000", NAMED)
    assert of_host("localhost:8123", NAMED)
    for host in ("tunnel", "tunnel:9001", "evil.dash.example.com", "dash.example.com.", "x"):
        assert not of_host(host, NAMED)


@pytest.mark.parametrize("sites", [DOOR, NAMED, ANY])
def test_one_host_and_no_more(sites: Sites) -> None:
    """Two are refused always; none only where names matter (HTTP/1.0 probes send none)."""
    assert refusal(asked(("host", OWN), ("host", OWN)), sites)
    assert bool(refusal(asked(), sites)) == (sites is not ANY)


def test_a_listener_for_everybody_still_wants_a_name() -> None:
    """Well-formed ones, service names and pods' addresses."""
    for host in ("ingest", "ingest-1:8080", "10.1.2.3:9100", "a.b.svc.cluster.local:80", "a_b"):
        assert of_host(host, ANY)
    for host in ("a@b", "a/b", "a b", "a,b", "%61", "a.", ""):
        assert not of_host(host, ANY)


@pytest.mark.parametrize(
    ("sites", "host", "origin", "taken"),
    [
        (DOOR, OWN, "http://127.0.0.1:8123", True),
        (DOOR, "localhost:8123", "http://localhost:8123", True),
        (DOOR, OWN, "HTTP://127.0.0.1:8123", True),
        (DOOR, OWN, "http://localhost:8123", False),
        (DOOR, OWN, "http://127.0.0.1:8081", False),
        (DOOR, OWN, "http://127.0.0.1", False),
        (DOOR, OWN, "https://evil.example", False),
        (DOOR, OWN, "http://127.0.0.1:8123.evil.example", False),
        (DOOR, OWN, "http://evil@127.0.0.1:8123", False),
        (DOOR, OWN, "http://127.0.0.1:8123/", False),
        (DOOR, OWN, "http://127.0.0.1:8123 http://evil", False),
        (DOOR, OWN, "null", False),
        (DOOR, OWN, "", False),
        (DOOR, OWN, "file://", False),
        (DOOR, OWN, "http://[", False),
        (DOOR, OWN, "chrome-extension://abcdef", False),
        (NAMED, "upstream:8081", "https://dash.example.com", False),
        (NAMED, "localhost:8123", "https://dash.example.com", True),
        (NAMED, "localhost:8123", "https://dash.example.com.evil.example", False),
        (ANY, "dash.example.com", "https://dash.example.com", True),
        (ANY, "dash.example.com", "https://evil.example", False),
        (ANY, "10.0.0.5:9100", "http://evil.example", False),
    ],
)
def test_origins(sites: Sites, host: str, origin: str, taken: bool) -> None:
    """Its own and the configured ones; nothing else."""
    assert (not refusal(asked(("host", host), ("origin", origin)), sites)) == taken


def test_two_origins_are_refused() -> None:
    """Also if one of them is its own."""
    own = ("origin", f"http://{OWN}")
    assert refusal(asked(("host", OWN), own, own), DOOR)


@pytest.mark.parametrize(
    ("said", "taken"),
    [
        (["none"], True), (["same-origin"], True), (["Same-Origin"], True), (["same-site"], False),
        (["cross-site"], False), ([""], False), (["x"], False), (["none", "cross-site"], False),
        (["none", "none"], False), (["none, cross-site"], False),
    ],
)  # fmt: skip
@pytest.mark.parametrize("sites", [DOOR, ANY, PAGES])
def test_fetch_metadata(sites: Sites, said: list[str], taken: bool) -> None:
    """From this site or from a person; one header, with a known value."""
    headers = [("host", OWN), *(("sec-fetch-site", one) for one in said)]
    assert (not refusal(asked(*headers), sites)) == taken


@pytest.mark.parametrize(
    ("method", "path", "changed", "taken"),
    [
        ("GET", "/campaign", {}, True),
        ("HEAD", "/", {}, True),
        ("GET", "/", {"sec-fetch-site": "same-site"}, True),
        ("POST", "/", {}, False),
        ("GET", "/api/overview", {}, False),
        ("GET", "/", {"sec-fetch-mode": "no-cors"}, False),
        ("GET", "/", {"sec-fetch-mode": "cors"}, False),
        ("GET", "/", {"sec-fetch-dest": "iframe"}, False),
        ("GET", "/", {"sec-fetch-dest": "script"}, False),
        ("GET", "/", {"sec-fetch-dest": ""}, False),
        ("GET", "/", {"origin": "https://evil.example"}, False),
    ],
)
def test_a_link_leads_to_a_page(
    method: str, path: str, changed: dict[str, str], taken: bool
) -> None:
    """From a chat to a page of the dashboard; not into a frame, not to data, not from a form."""
    headers = {"host": OWN, **LINK, **changed}
    assert (not refusal(asked(*headers.items(), method=method, path=path), PAGES)) == taken
    assert refusal(asked(*headers.items(), method=method, path=path), DOOR)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"host", b"origin", b"sec-fetch-site", b"sec-fetch-mode"]),
            st.binary(max_size=30) | st.sampled_from([b"localhost:8123", b"http://localhost:8123"]),
        ),
        max_size=4,
    )
)
@example([(b"host", b"localhost:8123"), (b"origin", b"http://[::1")])
def test_any_bytes_get_an_answer(headers: list[tuple[bytes, bytes]]) -> None:
    """What is accepted names this machine; nothing raises."""
    scope = {**asked(), "headers": headers}
    if not refusal(scope, DOOR):
        named = [value.strip().lower() for name, value in headers if name == b"host"]
        assert len(named) == 1
        assert named[0].partition(b":8123")[0] in (b"localhost", b"127.0.0.1", b"[::1]")
    refusal(scope, PAGES)


@pytest.mark.parametrize(
    ("host", "names", "any_name"),
    [
        ("127.0.0.1", (), False), ("::1", (), False), ("localhost", (), False),
        ("0.0.0.0", (), True), ("10.0.0.5", (), True), ("0.0.0.0", ("a.example",), False),
    ],
)  # fmt: skip
def test_open_listeners_answer_to_any_name(
    host: str, names: tuple[str, ...], any_name: bool
) -> None:
    """Unless they are on loopback, or told their names."""
    assert Sites.of_listener(host, names, open_=True).any_name == any_name
    assert not Sites.of_listener(host, names).any_name


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "[::1]", "localhost", "127.8.8.8"])
def test_loopback_is_known_in_its_spellings(host: str) -> None:
    """Another site's name that begins like loopback is not loopback."""
    assert is_loopback(host)
    assert not is_loopback(f"{host}.example.com")


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Allows every site to read, and has a policy of its own for ``/own``."""
    headers = [(b"Access-Control-Allow-Origin", b"*"), (b"access-control-allow-headers", b"*")]
    if scope["path"] == "/own":
        headers.append((b"Cache-Control", b"max-age=5"))
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"secret"})


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "HEAD"])
async def test_answers_are_for_no_other_site(method: str) -> None:
    """Refused or not, and never readable by others; refusals contain nothing of the answer."""
    transport = httpx.ASGITransport(SameSite(application, DOOR))
    async with httpx.AsyncClient(transport=transport, base_url=f"http://{OWN}") as http:
        for headers in ({}, {"origin": "https://evil.example"}, {"host": "evil.example"}):
            answer = await http.request(method, "/", headers=headers)
            assert answer.status_code == (403 if headers else 200)
            assert ("secret" in answer.text) == (not headers and method != "HEAD")
            assert not any(name.startswith("access-control") for name in answer.headers)
            for name, value in ANSWER_HEADERS.items():
                assert answer.headers[name.decode()] == value.decode()
        assert (await http.get("/own")).headers["cache-control"] == "max-age=5"
