"""Networks of a rules file are found by address as a look at each of them in turn finds them."""

import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from streams.classify.network_rules import (
    Address,
    Network,
    NetworkRule,
    NetworkTable,
    address_of,
    beginnings,
)

NEAR_V4 = st.integers(0xC6336400, 0xC6336440).map(ipaddress.IPv4Address)
NEAR_V6 = st.integers(0, 64).map(lambda n: ipaddress.IPv6Address((0x20010DB8 << 96) + n))
ADDRESSES = st.one_of(NEAR_V4, NEAR_V6, st.ip_addresses())


@st.composite
def networks(draw: st.DrawFn) -> Network:
    """Any, most of them close to each other and within one another."""
    address = draw(ADDRESSES)
    most = address.max_prefixlen
    bits = draw(st.one_of(st.integers(most - 6, most), st.integers(0, most)))
    return ipaddress.ip_network((int(address).to_bytes(most // 8, "big"), bits), strict=False)


RULES = st.lists(
    st.builds(
        NetworkRule,
        st.sampled_from(("a", "b")),
        st.lists(networks(), min_size=1, max_size=4).map(tuple),
        st.just(frozenset(("clicked",))),
    ),
    max_size=6,
)


@given(RULES, ADDRESSES)
def test_a_table_finds_what_a_look_at_each_network_finds(
    rules: list[NetworkRule], address: Address
) -> None:
    """In the file's order, each rule once; an address of IPv4 is in no network of IPv6."""
    slow = tuple(rule for rule in rules if any(address in network for network in rule.networks))
    found = NetworkTable(rules).containing(address)
    assert found == slow
    if found and address.version == 4:
        assert str(address).partition(".")[0] in beginnings(rules)


@given(st.one_of(st.text(max_size=12), ADDRESSES.map(str)))
def test_any_text_is_an_address_or_none(text: str) -> None:
    """Of IPv4 also in IPv6's form."""
    found = address_of(text)
    if found is not None:
        assert str(address_of(f"::ffff:{found}" if found.version == 4 else str(found))) == str(
            found
        )
