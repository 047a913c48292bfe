"""What a client can achieve with its headers behind a real HAProxy and a real Caddy; about 20 s.

The source admits one network, and the client is outside it. A proxy appends the client's address to
whatever the client claims; the tests try to get a claim accepted instead. Ingress uses its spool,
so no Kafka is needed.
"""

import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.live.fixtures import or_skip
from tests.live.ingress_role import SOURCE, Ingress, Sample
from tests.live.maven import Missing
from tests.live.process import Process, accepts, free_port

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]

ALLOWED = "203.0.113.9"
CLIENT = "127.0.0.9"
"""Where the client calls from: on this machine, and not where the proxy calls from."""

HAPROXY = """
defaults
  mode http
  timeout connect 5s
  timeout client 20s
  timeout server 20s
  option forwardfor
  http-reuse always
frontend outside
  bind 127.0.0.1:{port}
  http-request set-header X-Forwarded-Proto https
  default_backend ingress
backend ingress
  server one 127.0.0.1:{ingress}
"""
CADDY = """
{{
  admin off
  auto_https off
}}
http://:{port} {{
  bind 127.0.0.1
  reverse_proxy 127.0.0.1:{ingress} {{
    header_up X-Forwarded-Proto https
  }}
}}
"""


def _program(name: str) -> str:
    """Where a proxy is: beside Python (a wheel's), or in the system.

    Raises:
        Missing: nowhere.
    """
    places = [str(Path(sys.executable).parent), os.environ["PATH"], "/usr/sbin"]
    found = shutil.which(name, path=os.pathsep.join(places))
    if found is None:
        raise Missing(f"{name} is not installed (Debian has a package of that name)")
    return found


def haproxy(folder: Path, port: int, ingress: int) -> Process:
    """A HAProxy in front of the ingress, not started."""
    config = folder / "haproxy.cfg"
    config.write_text(HAPROXY.format(port=port, ingress=ingress), "utf-8")
    argv = [or_skip(lambda: _program("haproxy")), "-db", "-f", str(config)]
    return Process("haproxy", argv, folder / "haproxy.log")


def caddy(folder: Path, port: int, ingress: int) -> Process:
    """A Caddy in front of the ingress, not started."""
    config = folder / "Caddyfile"
    config.write_text(CADDY.format(port=port, ingress=ingress), "utf-8")
    program = or_skip(lambda: _program("caddy"))
    argv = [program, "run", "--adapter", "caddyfile", "--config", str(config)]
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), "XDG_DATA_HOME": str(folder)}
    return Process("caddy", argv, folder / "caddy.log", env=env)


class Proxied:
    """An ingress behind a proxy."""

    def __init__(self, ingress: Ingress, port: int) -> None:
        self.ingress = ingress
        self.port = port

    def requests(self, result: str) -> float:
        """Requests to the source with that result, as the ingress counts them."""
        return self.metric("mailpulse_ingest_requests_total", source=SOURCE, result=result)

    def metric(self, name: str, **labels: str) -> float:
        """A counter of the ingress."""
        text = httpx.get(f"{self.ingress.url}/metrics", timeout=20).text
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and sample.labels == labels
        )

    def say(self, *parts: bytes) -> bytes:
        """What comes back from the proxy, until it is silent."""
        with socket.create_connection(
            ("127.0.0.1", self.port), timeout=5, source_address=(CLIENT, 0)
        ) as client:
            client.settimeout(0.3)
            came = b""
            try:
                for part in parts:
                    client.sendall(part)
                    try:
                        came += client.recv(65_536) if part is not parts[-1] else b""
                    except TimeoutError:
                        pass
                while part := client.recv(65_536):
                    came += part
            except (TimeoutError, ConnectionError):
                pass
            return came


@pytest.fixture(scope="module", params=[haproxy, caddy], ids=["haproxy", "caddy"])
def proxied(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxied]:
    """Both, running."""
    folder = tmp_path_factory.mktemp("proxied")
    ingress = Ingress(
        folder, f"127.0.0.1:{free_port()}", spool_dir=folder / "spool", trusted_proxies="127.0.0.1"
    )
    with (folder / "mailpulse.toml").open("a") as config:
        config.write(f'allow_ips = ["{ALLOWED}"]\n')
    make: Callable[[Path, int, int], Process] = request.param
    port = free_port()
    proxy = make(folder, port, ingress.port)
    try:
        ingress.start(kafka=False)
        proxy.start()
        proxy.wait_until(lambda: accepts(port), "listening")
        yield Proxied(ingress, port)
    finally:
        proxy.kill()
        ingress.process.kill()


def signed(sample: Sample, *lines: str) -> bytes:
    """The head of a signed request, without its length, and with further lines."""
    given = [f"{name}: {value}" for name, value in sample.headers.items()]
    head = [f"POST /hooks/{SOURCE} HTTP/1.1", "Host: localhost", *given, *lines, "", ""]
    return "\r\n".join(head).encode()


def chunked(body: bytes, *trailers: str) -> bytes:
    """A body in one chunk, with trailers."""
    end = "".join(f"{one}\r\n" for one in trailers).encode()
    return b"%x\r\n%s\r\n0\r\n%s\r\n" % (len(body), body, end)


def test_the_client_is_outside_and_the_way_through_is_open(proxied: Proxied) -> None:
    """Otherwise the tests below would prove nothing: 403 for the address, not for the scheme."""
    sample = next(proxied.ingress.samples())
    before = proxied.requests("forbidden")
    came = proxied.say(signed(sample, f"Content-Length: {len(sample.body)}") + sample.body)
    assert b" 403 " in came.split(b"\r\n", 1)[0]
    assert proxied.requests("forbidden") == before + 1


@contextmanager
def nobody_gets_in(proxied: Proxied) -> Iterator[None]:
    """Asserts that nothing is stored meanwhile."""
    before = proxied.requests("accepted")
    yield
    assert proxied.requests("accepted") == before


CLAIM = f"X-Forwarded-For: {ALLOWED}"


@pytest.mark.parametrize("apart", [False, True])
def test_trailers_get_nobody_in(proxied: Proxied, apart: bool) -> None:
    """Announced, signed and all: after a body they are not headers."""
    sample = next(proxied.ingress.samples())
    head = signed(sample, "Transfer-Encoding: chunked", "Trailer: X-Forwarded-For", "TE: trailers")
    body = chunked(sample.body, CLAIM, "X-Forwarded-Proto: https")
    with nobody_gets_in(proxied):
        proxied.say(*((head, body) if apart else (head + body,)))


@pytest.mark.parametrize("protocol", ["h2c", "websocket"])
@pytest.mark.parametrize("apart", [False, True])
def test_a_body_behind_an_upgrade_is_no_request(
    proxied: Proxied, protocol: str, apart: bool
) -> None:
    """A signed request with its own claim, as the body of one that asks for an upgrade."""
    sample = next(proxied.ingress.samples())
    inner = signed(sample, CLAIM, f"Content-Length: {len(sample.body)}") + sample.body
    lines = ("Connection: Upgrade", f"Upgrade: {protocol}", f"Content-Length: {len(inner)}")
    outer = signed(sample, *lines)
    with nobody_gets_in(proxied):
        proxied.say(*((outer, inner) if apart else (outer + inner,)))


@pytest.mark.parametrize(
    "line",
    [
        CLAIM,
        f"{CLAIM}\r\nX-Forwarded-For: {ALLOWED}",
        f"X_Forwarded_For: {ALLOWED}",
        f"Forwarded: for={ALLOWED};proto=https",
        f"X-Real-IP: {ALLOWED}",
        f"{CLAIM}\r\nConnection: close, X-Forwarded-For",
        f"X-Forwarded-For : {ALLOWED}",
        f"X-Forwarded-For:\r\n {ALLOWED}",
        f"X-A: b\nX-Forwarded-For: {ALLOWED}",
    ],
)
def test_no_spelling_of_a_claim_gets_anybody_in(proxied: Proxied, line: str) -> None:
    """In a header of the request itself: once, twice, folded, with other signs in its name."""
    sample = next(proxied.ingress.samples())
    with nobody_gets_in(proxied):
        proxied.say(signed(sample, line, f"Content-Length: {len(sample.body)}") + sample.body)
