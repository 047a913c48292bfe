"""HTTPS on a real socket: ``mailpulse ingest`` with a certificate of its own; about 10 s."""

import socket
import ssl
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import httpx
import psutil
import pytest

from tests.live.certificates import Authority
from tests.live.fixtures import or_skip
from tests.live.ingress_role import SOURCE, Ingress
from tests.live.kafka import Kafka, create_mailpulse_topics
from tests.live.maven import Missing

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def broker() -> Iterator[Kafka]:
    """A broker with mailpulse's topics."""
    with or_skip(Kafka) as one:
        create_mailpulse_topics(one.bootstrap)
        yield one


def _own_address() -> str:
    """An address of this machine that others could reach it by: none of the loopback.

    Raises:
        Missing: it has none.
    """
    for addresses in psutil.net_if_addrs().values():
        for one in addresses:
            if one.family == socket.AF_INET and not ip_address(one.address).is_loopback:
                return str(one.address)
    raise Missing("this machine has no address but loopback")


@pytest.fixture
def own_address() -> str:
    """See ``_own_address``."""
    return or_skip(_own_address)


def test_a_signed_request_over_https_is_kept(
    broker: Kafka, tmp_path: Path, own_address: str
) -> None:
    """From another address too; TLS below 1.2 and plain HTTP get no answer at that port."""
    authority = Authority(tmp_path / "tls")
    certificate, key = authority.issue("door", own_address)
    one = Ingress(
        tmp_path, broker.bootstrap, ingest_host="0.0.0.0",
        tls_cert_file=certificate, tls_key_file=key,
    )  # fmt: skip
    trusting = ssl.create_default_context(cafile=authority.certificate)
    try:
        one.start(kafka=False)
        samples = one.samples()
        with httpx.Client(verify=trusting, timeout=20) as client:
            local = f"https://127.0.0.1:{one.port}"
            one.process.wait_until(
                lambda: bool(client.get(f"{local}/readyz").json()["kafka"]), "connected"
            )
            for base in (local, f"https://{own_address}:{one.port}"):
                sample = next(samples)
                url = f"{base}/hooks/{SOURCE}"
                answer = client.post(url, content=sample.body, headers=sample.headers)
                assert (answer.status_code, answer.json()) == (200, {"accepted": 1, "rejected": 0})
                assert client.post(url, content=sample.body).status_code == 401
        with pytest.raises(httpx.ConnectError, match="certificate"):
            httpx.get(f"{local}/livez")  # nobody vouches for it, but for who trusts its authority
        with pytest.raises(httpx.TransportError):
            httpx.get(f"http://127.0.0.1:{one.port}/livez")
        assert one.process.running
    finally:
        one.process.kill()


def test_plain_http_is_for_loopback_only(broker: Kafka, tmp_path: Path, own_address: str) -> None:
    """From elsewhere 403, however well signed, unless the setting allows it."""
    for allow, expected in (("false", 403), ("true", 200)):
        folder = tmp_path / allow
        folder.mkdir()
        one = Ingress(
            folder, broker.bootstrap, ingest_host="0.0.0.0",
            allow_http=allow,
        )  # fmt: skip
        try:
            one.start()
            samples = one.samples()
            for host, status in ((own_address, expected), ("127.0.0.1", 200)):
                sample = next(samples)
                url = f"http://{host}:{one.port}/hooks/{SOURCE}"
                answer = httpx.post(url, content=sample.body, headers=sample.headers, timeout=20)
                assert answer.status_code == status
                if status == 403:
                    assert answer.json()["code"] == "https_required"
            assert ("plain_http_allowed" in one.process.log_tail()) == (allow == "true")
        finally:
            one.process.kill()
