"""Mailbox providers: known domains, registrable domains, hosted domains by rules, any input."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streams.classify.mailbox import load_rules, mailbox_provider, with_rules
from streams.classify.tables.mailboxes import BRANDS, DOMAINS, MX_SUFFIXES


@pytest.mark.parametrize(
    ("domain", "provider"),
    [
        ("gmail.com", "gmail"), ("GoogleMail.com.", "gmail"), ("hotmail.com", "microsoft"),
        ("hotmail.co.uk", "microsoft"), ("outlook.fr", "microsoft"), ("live.nl", "microsoft"),
        ("yahoo.com", "yahoo"), ("yahoo.co.uk", "yahoo"), ("ymail.com", "yahoo"),
        ("aol.com", "yahoo"), ("icloud.com", "apple"), ("me.com", "apple"),
        ("privaterelay.appleid.com", "apple"), ("gmx.net", "gmx"), ("gmx.at", "gmx"),
        ("web.de", "gmx"), ("mail.ru", "mailru"), ("bk.ru", "mailru"), ("yandex.com.tr", "yandex"),
        ("ya.ru", "yandex"), ("proton.me", "proton"), ("qq.com", "qq"), ("163.com", "netease"),
        ("vip.163.com", "netease"), ("t-online.de", "telekom"), ("orange.fr", "orange"),
        ("comcast.net", "comcast"), ("mailbox.org", "mailbox_org"),
    ],
)  # fmt: skip
def test_consumer_domains_have_a_name(domain: str, provider: str) -> None:
    """The operators' own sign-up pages say which domains are theirs."""
    assert mailbox_provider(domain) == provider


@pytest.mark.parametrize(
    ("domain", "provider"),
    [
        ("example.com", "example.com"), ("mail.eu.example.co.uk", "example.co.uk"),
        ("Bücher.example", "xn--bcher-kva.example"), ("a.github.io", "a.github.io"),
        ("co.uk", "co.uk"), ("notgmail.com", "notgmail.com"), ("gmail.com.evil.example",
        "evil.example"), ("yahoo.example.org", "example.org"), ("live.example", "live.example"),
    ],
)  # fmt: skip
def test_the_rest_is_the_registrable_domain(domain: str, provider: str) -> None:
    """By the Public Suffix List; a known name inside another domain means nothing."""
    assert mailbox_provider(domain) == provider


def test_yahoo_japan_is_another_company() -> None:
    """yahoo.co.jp runs its own servers, outside Yahoo Inc."""
    assert mailbox_provider("yahoo.co.jp") == "yahoo_japan"
    assert mailbox_provider("yahoo.com.ar") == "yahoo"


@pytest.mark.parametrize(
    "domain", ["", " ", ".", "localhost", "[192.0.2.1]", "a..b.com", "x" * 300 + ".com", "a b.com"]
)
def test_what_is_no_domain_is_nobody(domain: str) -> None:
    """Junk gives an empty name, so it is not a group of its own."""
    assert mailbox_provider(domain) == ""


def test_known_names_have_no_dot_and_registrable_domains_do() -> None:
    """This is how callers distinguish them."""
    names = {*DOMAINS.values(), *BRANDS.values(), *MX_SUFFIXES.values()}
    assert {name for name in names if "." in name} == set()
    assert all(domain == domain.lower() for domain in DOMAINS)


RULES = """
[domains]
"acme.example" = "microsoft"
"lists.acme.example" = "self"
[mx]
"corp.example" = "corp-example.mail.protection.outlook.com"
"shop.example" = "aspmx.l.google.com."
"acme.example" = "mx1.pphosted.com"
"own.example" = "mx.own.example"
"""


def test_hosted_domains_follow_the_rules_file() -> None:
    """The longest suffix wins; a named provider wins over an MX; an unknown MX is ignored."""
    provider = with_rules(load_rules(RULES))
    assert provider("acme.example") == "microsoft"
    assert provider("eu.acme.example") == "microsoft"
    assert provider("lists.acme.example") == "self"
    assert provider("Corp.Example") == "microsoft"
    assert provider("shop.example") == "gmail"
    assert provider("own.example") == "own.example"
    assert provider("gmail.com") == "gmail"
    assert provider("") == ""
    assert with_rules({}) is mailbox_provider


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[hosts]\n", "hosts"), ("domains = 3\n", "domains"), ('[mx]\n"a.b" = 1\n', "mx.a.b"),
        ('[domains]\n"localhost" = "x"\n', "domains.localhost"), ("[", "end of document"),
        ('[domains]\n"a.b" = ""\n', "domains.a.b"),
    ],
)  # fmt: skip
def test_wrong_rules_file_is_refused_by_name(text: str, named: str) -> None:
    """The message names the key, so that the operator finds it."""
    with pytest.raises(ValueError, match=named):
        load_rules(text)


@given(st.one_of(st.text(max_size=300), st.text(st.characters(categories=["Cs", "Cc", "Lu"]))))
def test_never_raises_and_is_stable(domain: str) -> None:
    """Any text gives a provider; a registrable domain stands for itself."""
    provider = mailbox_provider(domain)
    assert provider == mailbox_provider(domain)
    if "." in provider:
        assert mailbox_provider(provider) == provider
        assert len(provider) <= 253


@example("privaterelay.appleid.com", "a")  # not a registrable domain itself
@given(st.sampled_from(sorted(DOMAINS)), st.from_regex(r"[a-z][a-z0-9]{0,9}", fullmatch=True))
def test_subdomains_of_consumer_domains_belong_to_them(domain: str, label: str) -> None:
    """Case, a trailing dot and a subdomain change nothing."""
    assert mailbox_provider(domain.upper() + ".") == DOMAINS[domain]
    assert mailbox_provider(f"{label}.{domain}") in {
        DOMAINS.get(f"{label}.{domain}", DOMAINS[domain]),
        DOMAINS[domain],
    }
