"""The identity of an address: one for every spelling of a mailbox, and no other."""

import unicodedata
from email import policy
from email.parser import Parser

import idna
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from schemas.identity import address_identity, domain_identity, is_marked

ATOM = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+/=?^_`{|}~-"
ORDINARY = st.builds(
    lambda locals_, labels: f"{'.'.join(locals_)}@{'.'.join(labels)}",
    st.lists(st.text(ATOM, min_size=1, max_size=12), min_size=1, max_size=3),
    st.lists(st.text(ATOM[:62] + "-_", min_size=1, max_size=12), min_size=1, max_size=4),
)
LABELS = st.text(
    st.characters(codec="utf-8", categories=("Ll", "Lu", "Lo", "Nd")), min_size=1, max_size=8
)


@given(ORDINARY)
def test_of_an_ordinary_address_it_is_the_lower_case(address: str) -> None:
    """Byte for byte what keys are."""
    assert address_identity(address) == address.lower()


@given(st.text(max_size=40) | st.builds("{}@{}".format, st.text(max_size=20), st.text(max_size=20)))
def test_the_identity_of_an_identity_is_itself(address: str) -> None:
    """Whatever a provider sends."""
    once = address_identity(address)
    assert address_identity(once) == once


@given(st.text(st.characters(codec="utf-8", categories=("L", "M", "N")), max_size=20))
def test_forms_of_normalisation_are_one(local: str) -> None:
    """Composed and decomposed letters, of what Unicode 14 has."""
    composed, apart = (unicodedata.normalize(form, local) for form in ("NFC", "NFD"))
    assert address_identity(f"{composed}@a.example") == address_identity(f"{apart}@a.example")


@given(st.lists(LABELS, min_size=1, max_size=3))
def test_a_domain_and_its_a_labels_are_one(labels: list[str]) -> None:
    """Whatever IDNA 2008 takes."""
    domain = ".".join(labels)
    try:
        encoded = idna.encode(domain, uts46=True, std3_rules=False).decode()
    except UnicodeError:
        assume(condition=False)
    for spelling in (domain, encoded, encoded.upper(), f"{domain}.", "\u3002".join(labels)):
        assert domain_identity(spelling) == encoded


@given(st.text(ATOM + ".", min_size=1))
def test_quotes_that_mail_software_adds_or_leaves_out_change_nothing(local: str) -> None:
    """Python's and Go's parsers leave them out around dots that by RFC 5322 need them."""
    plain = f"{local}@a.example"
    header = Parser(policy=policy.default).parsestr(f'To: "{local}"@a.example\n\n')["to"]
    assert header.addresses[0].addr_spec == plain
    assert address_identity(f'"{local}"@a.example') == address_identity(plain)


SAME = [
    ("Kurt.G@example.com", "kurt.g@EXAMPLE.com", "  kurt.g@example.com ", "kurt.g@example.com."),
    ("u@müller.example", "u@xn--mller-kva.example", "U@MÜLLER.example", "u@XN--MLLER-KVA.example",
     "u@mu\u0308ller.example", "u@müller\uff0eexample", "u@müller\u3002example"),
    ("ada@example.com", '"ada"@example.com', '"A\\da"@example.com', "ada@ｅｘａｍｐｌｅ.com"),
    ('"john doe"@example.com', '"John Doe"@Example.com', '"john\\ doe"@example.com'),
    ("用户@例子.广告", "用户@xn--fsqu00a.xn--4rr70v"),
    ("jos\u00e9@example.com", "jose\u0301@example.com", "JOSÉ@example.com", '"josé"@example.com'),
    ("a..b@docomo.example", '"a..b"@docomo.example', "A..B@docomo.example."),
    ("ada.@docomo.example", '"Ada."@docomo.example'),
    ("a@[192.0.2.1]", "A@[192.0.2.1]"),
    ("a@[IPv6:2001:db8::1]", "a@[ipv6:2001:0DB8:0:0:0:0:0:1]"),
]  # fmt: skip


@pytest.mark.parametrize("spellings", SAME, ids=lambda one: one[0])
def test_spellings_of_one_mailbox(spellings: tuple[str, ...]) -> None:
    """As providers have been seen to send them."""
    assert {address_identity(one) for one in spellings} == {address_identity(spellings[0])}


DIFFERENT = [
    "a.b@example.com", "ab@example.com", "a+b@example.com", '"a b"@example.com',
    '"a@b"@example.com', "a@b.example", "а@example.com", "a@example.com",
    "a@straße.example", "a@strasse.example",
    '"a..b"@example.com', "", "@example.com", "a@", "[192.0.2.1]", "a@[192.0.2.1]", "a@192.0.2.1",
    '"a\\"b"@example.com', '"a\\\\b"@example.com', "ａ@example.com",
]  # fmt: skip


def test_mailboxes_that_differ_have_different_identities() -> None:
    """Also look-alikes of other scripts, and what only some hosts take for one."""
    assert len({address_identity(one) for one in DIFFERENT}) == len(DIFFERENT)


@pytest.mark.parametrize("domain", ["☃.example", "mü_ller.example", "-ü.example", "é" * 300])
def test_a_domain_that_idna_refuses_keeps_its_lower_case(domain: str) -> None:
    """And is marked as such."""
    identity = address_identity(f"A@{domain.upper()}")
    assert identity == f"a@{domain}"
    assert is_marked(identity)
    assert not is_marked(address_identity("a@müller.example"))


@pytest.mark.parametrize("added", ["\ua7cb", "\U00010d50", "\U00016ea0", "\u1c89"])
def test_characters_of_later_unicode_stay(added: str) -> None:
    """So that every Python gives the same identity."""
    assert address_identity(f"É{added}É@example.com") == f"é{added}é@example.com"
