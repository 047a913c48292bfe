"""The identity of an address: one for every spelling of a mailbox, and no other."""

import unicodedata
from email import policy
from email.parser import Parser

import idna
import pytest
from hypothesis import assume, given, settings
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


ODD = st.text(
    st.sampled_from(
        ' \t\xa0.@"\\()[]aKk\u212a\u00e9e\u0301\u0130\u0131\u03a3\u03c3\u03c2\u00df\u1e9e'
        "\u200b\u200c\u200d\u00ad\u200e\ufe0f\u3002\uff0e\uff20\ufe6b\u0915\u094d"
    ),
    max_size=12,
)


@settings(max_examples=2000)
@given(ODD)
def test_the_identity_of_odd_text_is_itself(address: str) -> None:
    """Quotes, comments, signs, joiners and capitals in any order."""
    once = address_identity(address)
    assert address_identity(once) == once


# --- spellings of one mailbox: what software adds, leaves out and changes ------------------------

WORD = st.text(
    st.sampled_from(ATOM + "\u00e9\u00fc\u0131\u00df\u03c3\u03c2\u03b2\u0436\u7528\u0649"),
    min_size=1, max_size=6,
)  # fmt: skip
UNSEEN = ("", "\u200b", "\ufeff", "\u00ad", "\u2060", "\u200e", "\u202a", "\u2069", "\ufe0f")
GAP = st.sampled_from(("", " ", "(c)", " (a (nested@x.example) one\\)) ", "\t"))
DOMAINS = (
    ("example.com", "EXAMPLE.com.", "example\u3002com", "\uff45xample\uff0ecom",
     "ex\u00adample.com",),
    ("xn--mller-kva.example", "M\u00fcller.example", "mu\u0308ller.example."),
    ("[192.0.2.1]",),
)  # fmt: skip


def capital(text: str) -> str:
    """Capitals of one character each, as mail software makes them; the dotless i has none."""
    return "".join(c if c == "\u0131" or len(c.upper()) > 1 else c.upper() for c in text)


@st.composite
def spelling(draw: st.DrawFn, words: list[str], domain: tuple[str, ...]) -> str:
    """One of the ways to spell an address."""
    spelled = []
    for word in words:
        made = capital(word) if draw(st.booleans()) else word
        made = unicodedata.normalize(draw(st.sampled_from(("NFC", "NFD"))), made)
        quoted = draw(st.booleans())
        if quoted:
            made = "".join(draw(st.sampled_from(("", "\\"))) + c for c in made)
        made = draw(st.sampled_from(UNSEEN)) + made + draw(st.sampled_from(UNSEEN))
        made = f'"{made}"' if quoted else made
        spelled.append(draw(GAP) + made + draw(GAP))
    whole = ".".join(spelled)
    sign = draw(st.sampled_from("@\uff20\ufe6b")) if "@" not in whole else "@"
    behind = draw(GAP) + draw(st.sampled_from(domain)) + draw(GAP)
    return whole + sign + behind


@settings(max_examples=500)
@given(st.lists(WORD, min_size=1, max_size=3), st.sampled_from(DOMAINS), st.data())
def test_every_spelling_of_a_mailbox_has_its_identity(
    words: list[str], domain: tuple[str, ...], data: st.DataObject
) -> None:
    """Case, forms, quotes, comments, gaps, unseen characters, signs and dots at the end."""
    address = f"{'.'.join(words)}@{domain[0]}"
    assert address_identity(data.draw(spelling(words, domain))) == address_identity(address)


def test_small_letters_that_share_a_capital_are_one() -> None:
    """The table is the simple case folding of Unicode 14.0; what folds to two letters stays."""
    for code in range(0x80, 0x110000):
        letter = chr(code)
        if unicodedata.category(letter) in ("Cn", "Cs") or letter in "\u0130\u0131":
            continue
        if unicodedata.ucd_3_2_0.category(letter) == "Cn" and is_later(letter):
            continue
        lower, folded = letter.lower(), letter.casefold()
        wanted = folded if len(folded) == 1 and folded == folded.lower() else lower
        found = address_identity(f"{letter}@a.example").removesuffix("@a.example")
        if found and letter not in "\u200c\u200d":
            assert found == unicodedata.normalize("NFC", wanted), hex(code)


def is_later(letter: str) -> bool:
    """Whether the identity leaves a character as it is since Unicode 14 does not have it."""
    return address_identity(f"{letter}@a.example") == f"{letter}@a.example"


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
    ("u.v@example.com", '"u".v@example.com', 'u."v"@example.com', '"u"."v"@Example.com',
     '"u.v"@example.com'),
    ('"u v.w"@example.com', '"u v".w@example.com', '"U V"."w"@example.com'),
    ("ada@example.com", "ada\uff20example.com", "ada\ufe6bexample\uff0ecom", 
     "ada(at home)@example.com", "ada@\u200bexample.com",
     "\u202aada@example.com\u202c", "a\u00adda@example.com", "ada\u200d@example.com",
     '"ada"(c)@(c)example.com..'),
    ('"a@b"@example.com', '"a@b"\uff20example.com'),
    ("\u03bf\u03b4\u03bf\u03c2@example.com", "\u039f\u0394\u039f\u03a3@example.com",
     "\u03bf\u03b4\u03bf\u03c3@example.com"),
    ("\u00b5@example.com", "\u039c@example.com", "\u03bc@example.com"),
    ("stra\u00dfe@example.com", "STRA\u1e9eE@example.com"),
    ("a@[192.0.2.1]", "A@[192.0.2.1]"),
    ("a@[IPv6:2001:db8::1]", "a@[ipv6:2001:0DB8:0:0:0:0:0:1]"),
]  # fmt: skip


IN_TEXT = [
    ("ada@example.com", "ada @ example.com", "ada@example.com .", "(A) ada@example.com (b (c))"),
    ("ada.b@example.com", "ada . b@ example .com", '"ada" . b@example.com'),
]  # fmt: skip
"""Spellings that nobody could tell from the words around them."""


@pytest.mark.parametrize("spellings", SAME + IN_TEXT, ids=lambda one: one[0])
def test_spellings_of_one_mailbox(spellings: tuple[str, ...]) -> None:
    """As providers have been seen to send them."""
    assert {address_identity(one) for one in spellings} == {address_identity(spellings[0])}


DIFFERENT = [
    "a.b@example.com", "ab@example.com", "a+b@example.com", '"a b"@example.com',
    '"a@b"@example.com', "a@b.example", "а@example.com", "a@example.com",
    "a@straße.example", "a@strasse.example",
    '"a..b"@example.com', "", "@example.com", "a@", "[192.0.2.1]", "a@[192.0.2.1]", "a@192.0.2.1",
    "stra\u00dfe@a.example", "strasse@a.example", "\u0131@example.com", "i@example.com",
    "i\u0307@example.com", "\u0645\u06cc\u200c\u062e@example.com", "\u0645\u06cc\u062e@example.com",
    "(555) 123", "(556) 123", "123", "a b@example.com", "a(c)b@example.com", "a(b@example.com",
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
