"""Client addresses by the trusted-proxy rules."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.origin import Networks, address_of, origin_of

NONE = Networks(())
PROXIES = Networks(("10.0.0.0/8", "2001:db8:1::/48"))


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("203.0.113.7", "203.0.113.7"),
        (" 203.0.113.7:443 ", "203.0.113.7"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ('"[2001:db8::1]"', "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("fe80::1%eth0", "fe80::1"),
    ],
)
def test_addresses_in_all_their_forms(text: str, address: str) -> None:
    """Bare, in brackets, with a port, mapped, with a zone."""
    assert address_of(text) == ipaddress.ip_address(address)


@given(st.text(max_size=40))
def test_what_is_no_address_is_nobody(text: str) -> None:
    """Any text gives an address or none, never an error."""
    found = address_of(text)
    assert found is None or str(found)


def test_without_trusted_proxies_headers_mean_nothing() -> None:
    """Anyone can send them."""
    origin = origin_of("203.0.113.7", "http", "127.0.0.1", "https", NONE)
    assert (str(origin.address), origin.https, origin.safe) == ("203.0.113.7", False, False)


def test_a_stranger_is_not_believed_when_proxies_are_configured() -> None:
    """Only the configured ones are."""
    origin = origin_of("203.0.113.7", "http", "127.0.0.1", "https", PROXIES)
    assert (str(origin.address), origin.https) == ("203.0.113.7", False)


@pytest.mark.parametrize(
    ("chain", "client"),
    [
        ("198.51.100.1", "198.51.100.1"),
        ("127.0.0.1, 198.51.100.1", "198.51.100.1"),
        ("127.0.0.1,198.51.100.1, 10.1.1.1", "198.51.100.1"),
        ("198.51.100.1, nonsense, 10.1.1.1", None),
        ("10.2.2.2, 10.1.1.1", "10.2.2.2"),
        ("", "10.0.0.1"),
    ],
)
def test_the_right_most_hop_that_is_no_proxy_is_the_client(chain: str, client: str | None) -> None:
    """What is left of it is the client's own word; what can't be read ends the search."""
    origin = origin_of("10.0.0.1", "http", chain, "", PROXIES)
    assert (None if origin.address is None else str(origin.address)) == client


def test_the_nearest_proxys_word_on_the_scheme_counts() -> None:
    """The last value, as each hop appends."""
    assert origin_of("10.0.0.1", "http", "198.51.100.1", "http, https", PROXIES).https
    assert not origin_of("10.0.0.1", "https", "198.51.100.1", "https, http", PROXIES).https
    assert origin_of("10.0.0.1", "https", "198.51.100.1", "", PROXIES).https


def test_loopback_is_safe_without_tls() -> None:
    """Nobody else can listen there; an unknown address is not safe."""
    assert origin_of("127.0.0.1", "http", "", "", NONE).safe
    assert origin_of("::1", "http", "", "", NONE).safe
    assert not origin_of("", "http", "", "", NONE).safe


def test_a_loopback_proxy_that_says_http_is_not_loopback() -> None:
    """A client beyond it spoke plain HTTP over a network."""
    proxy = Networks(("127.0.0.1",))
    assert not origin_of("127.0.0.1", "http", "198.51.100.1", "http", proxy).safe
    assert origin_of("127.0.0.1", "http", "198.51.100.1", "https", proxy).safe
