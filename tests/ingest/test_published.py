"""Addresses that providers publish: dated data, told when old."""

import ipaddress
from datetime import UTC, date, datetime

import pytest

from ingest.hook import make_hooks
from ingest.providers import REGISTRY, check_sources
from ingest.published import (
    OLD_DAYS,
    Compared,
    Published,
    ages,
    compare,
    confirmed,
    networks_of,
    shipped,
    told,
)
from schemas.sources import load_sources
from tests.ingest.keys import example


@pytest.mark.parametrize("name", sorted(shipped()))
def test_a_list_is_of_a_provider_dated_and_of_public_addresses(name: str) -> None:
    """None of them is so wide that it lets in anybody."""
    one = shipped()[name]
    assert name in REGISTRY
    assert one.page.startswith("https://")
    assert date(2026, 1, 1) < one.read
    for item in one.networks:
        network = ipaddress.ip_network(item)
        assert network.is_global
        assert network.prefixlen >= 16


def test_published_lets_in_the_providers_addresses_and_your_own() -> None:
    """Beside networks that the source gives itself; nobody else."""
    source = example("brevo", allow_ips=("published", "192.0.2.0/24")).source
    assert check_sources({"brevo": source}) == []
    allowed = make_hooks({"brevo": source}, REGISTRY)["brevo"].allowed
    for address, good in (("1.179.112.9", True), ("192.0.2.1", True), ("198.51.100.1", False)):
        assert (ipaddress.ip_address(address) in allowed) is good


def test_a_provider_that_publishes_none_is_a_problem_and_lets_in_nobody_by_mistake() -> None:
    """It is said at start, with what is known; an empty list would mean everybody."""
    source = example("mailgun", allow_ips=("published",)).source
    [problem] = check_sources({"mailgun": source})
    assert problem.startswith("sources.mailgun.allow_ips: no published addresses of mailgun")
    assert "postmark" in problem
    with pytest.raises(KeyError):
        networks_of(source)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mailtrap", 'allow_ips = "published" lets in those of https://docs.mailtrap.io'),
        ("sparkpost", "published as the addresses of the host wh.egress.sparkpost.com"),
        ("iterable", "published as ip-ranges.json"),
        ("mailgun", "none published by mailgun are known"),
        ("preset:plunk", "none published by preset:plunk are known"),
    ],
)
def test_what_is_known_is_told_when_a_source_is_added(name: str, words: str) -> None:
    """Also what can't be a list here, so that nobody takes it for nothing."""
    assert words in told(name)
    assert name in REGISTRY


def test_a_network_of_ipv6_is_found_on_its_page() -> None:
    """It is not taken for one that is gone."""
    one = Published(("2600:1f24:64:8000::/52", "192.0.2.1"), date(2026, 1, 1), "")
    assert compare(one, "x 2600:1F24:64:8000::/52 192.0.2.1") == Compared((), ())
    assert compare(one, "192.0.2.1").gone == ("2600:1f24:64:8000::/52",)


def test_the_file_takes_the_word_alone() -> None:
    """As a text or in a list; any other word is refused."""
    text = '[sources.a]\nprovider = "brevo"\nallow_ips = "published"\n'
    assert load_sources(text, {}, lambda path: "")["a"].allow_ips == ("published",)


def test_an_old_list_is_told_with_its_page() -> None:
    """Only of providers that a source asks for."""
    sources = {
        "a": example("brevo", allow_ips=("published",)).source,
        "b": example("postmark").source,
    }
    then = datetime(2026, 11, 28, tzinfo=UTC).timestamp()
    assert ages(sources, then) == {"brevo": (1, shipped()["brevo"].page)}
    later = then + OLD_DAYS * 86_400
    assert ages(sources, later)["brevo"][0] > OLD_DAYS


def test_a_page_is_compared_by_its_addresses() -> None:
    """What is gone and what is new is named; versions, dates and private addresses are none."""
    one = Published(("1.179.112.0/20", "8.8.8.8"), date(2026, 11, 27), "https://a.example")
    text = "<li>8.8.8.8</li> from 9.9.9.0/24, 10.0.0.1, 1.2.3, 999.1.1.1, v1.2.3.4.5"
    assert compare(one, text) == Compared(("1.179.112.0/20",), ("9.9.9.0/24",))


def test_a_confirmed_list_is_as_young_as_its_confirmation() -> None:
    """And a damaged note confirms nothing."""
    sources = {"a": example("brevo", allow_ips=("published",)).source}
    then = datetime(2027, 11, 28, tzinfo=UTC).timestamp()
    assert ages(sources, then, confirmed('{"brevo": "2027-11-27"}'))["brevo"][0] == 1
    for damaged in ("", "[]", '{"brevo": 5}', '{"brevo": "soon"}', "null"):
        assert confirmed(damaged) == {}
