"""Client addresses by the trusted-proxy rules."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.serving.origin import (
    FORWARDED,
    Networks,
    address_of,
    came_over_a_network,
    client_key,
    origin_of,
)

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


def test_a_stranger_is_not_trusted_when_proxies_are_configured() -> None:
    """Only the configured ones are trusted."""
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
    """Everything to its left was written by the client; an unreadable entry ends the search."""
    origin = origin_of("10.0.0.1", "http", chain, "", PROXIES)
    assert (None if origin.address is None else str(origin.address)) == client


def test_of_one_proxy_the_last_word_on_the_scheme_counts() -> None:
    """Values before it were sent by the client."""
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


@pytest.mark.parametrize(
    ("chain", "schemes", "https"),
    [
        ("198.51.100.1, 10.1.1.1", "https,http", True),
        ("198.51.100.1, 10.1.1.1", "http, https", False),
        ("198.51.100.1, 10.1.1.1", "https, http,http", False),
        ("198.51.100.1, 10.1.1.1", "https", True),
        ("198.51.100.1, 10.1.1.1", "http", False),
        ("198.51.100.1, 10.2.2.2, 10.1.1.1", "https, http", False),
        ("198.51.100.1, 10.2.2.2, 10.1.1.1", "https, https", True),
        ("10.1.1.1, 198.51.100.1", "https, http", False),
        ("198.51.100.1, 10.1.1.1", "HTTPS , http", True),
        ("198.51.100.1", "https,", False),
    ],
)
def test_the_scheme_is_that_of_the_hop_the_client_came_by(
    chain: str, schemes: str, https: bool
) -> None:
    """Two trusted proxies, the inner one reached by plain HTTP: the client spoke HTTPS."""
    assert origin_of("10.0.0.1", "http", chain, schemes, PROXIES).https is https


STRANGERS = st.sampled_from(["198.51.100.1", "203.0.113.9", "2001:db8:2::5", "192.0.2.77"])
OWN = st.sampled_from(["10.0.0.1", "10.9.8.7", "2001:db8:1::9"])
ANY_SCHEME = st.sampled_from(["http", "https"])
FORGED = st.lists(st.one_of(STRANGERS, OWN, st.sampled_from(["", "unknown", "x y"])), max_size=4)


@given(
    client=STRANGERS,
    forged=FORGED,
    forged_schemes=st.lists(st.sampled_from(["http", "https", "", "ftp"]), max_size=4),
    proxies=st.lists(OWN, min_size=1, max_size=4),
    schemes=st.lists(ANY_SCHEME, min_size=4, max_size=4),
    strangers_between=st.lists(st.booleans(), min_size=4, max_size=4),
    other=STRANGERS,
)
def test_a_chain_of_proxies_that_append_tells_who_came_and_how(
    client: str,
    forged: list[str],
    forged_schemes: list[str],
    proxies: list[str],
    schemes: list[str],
    strangers_between: list[bool],
    other: str,
) -> None:
    """Whatever the client claims: each hop is simulated and compared with the last stranger."""
    hops = [other if between else proxy for proxy, between in
            zip(proxies, strangers_between, strict=False)]  # fmt: skip
    hops[-1] = proxies[-1]  # the one that reaches us is ours: else nothing is believed
    chain, claimed = list(forged), list(forged_schemes)
    came, how = client, ""
    entered: tuple[str, str] | None = None
    for hop, scheme in zip(hops, schemes, strict=False):
        # ``came`` connects to ``hop`` by ``scheme``; the hop appends what it sees.
        chain.append(came)
        claimed.append(scheme)
        if came not in proxies:
            entered = (came, scheme)
        came, how = hop, scheme
    assert entered is not None
    assert how
    origin = origin_of(came, "http", ", ".join(chain), ", ".join(claimed), PROXIES)
    assert (origin.client, "https" if origin.https else "http") == entered


@given(
    client=STRANGERS,
    forged=FORGED,
    edge_sees=ANY_SCHEME,
    inner=st.lists(OWN, max_size=3),
)
def test_an_edge_that_sets_the_scheme_and_others_that_pass_it_on(
    client: str, forged: list[str], edge_sees: str, inner: list[str]
) -> None:
    """One value for the whole chain: it is the edge's."""
    hops = ["10.0.0.1", *inner]
    chain = [*forged, client, *hops[:-1]]
    origin = origin_of(hops[-1], "http", ",".join(chain), edge_sees, PROXIES)
    assert (origin.client, origin.https) == (client, edge_sees == "https")


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("nonsense", "None"),
    ],
)
def test_an_ipv6_client_is_its_network(address: str, key: str) -> None:
    """For limits per client: it can use any address of its network."""
    assert client_key(address_of(address)) == key


LOCAL = Networks(("127.0.0.1",))


@pytest.mark.parametrize("name", FORWARDED)
def test_who_comes_by_a_proxy_of_this_machine_is_not_of_this_machine(name: str) -> None:
    """An unconfigured proxy's headers are enough to refuse plain HTTP."""
    origin = origin_of("127.0.0.1", "http", "", "", NONE)
    assert not came_over_a_network(origin, "127.0.0.1", ("host", "via-x"), NONE)
    assert came_over_a_network(origin, "127.0.0.1", ("host", name), NONE)
    assert not came_over_a_network(
        origin_of("127.0.0.1", "https", "", "", NONE), "127.0.0.1", (name,), NONE
    )


@pytest.mark.parametrize(
    ("chain", "scheme", "network"),
    [
        (None, "", True),
        (None, "http", True),
        (None, "https", False),
        ("127.0.0.1", "http", False),
        ("198.51.100.1", "http", True),
        ("198.51.100.1", "https", False),
    ],
)
def test_a_trusted_proxy_of_this_machine_has_to_say_who_came(
    chain: str | None, scheme: str, network: bool
) -> None:
    """nginx sends no such header unless configured: then the client is unknown."""
    origin = origin_of("127.0.0.1", "http", chain or "", scheme, LOCAL)
    names = ("host",) if chain is None else ("host", "x-forwarded-for")
    assert came_over_a_network(origin, "127.0.0.1", names, LOCAL) is network
