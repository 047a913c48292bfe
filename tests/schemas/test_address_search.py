"""Addresses are found in every coding, in time proportional to the text, and nothing else is."""

import re
import sys
from types import FrameType
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import address_search, codings
from schemas.address_search import Found, find, replaced, replaced_in_id
from schemas.identity import address_identity
from schemas.masking import DOTS, STARS, masked, masked_id, masked_recipient
from tests.schemas.test_identity import SAME
from tests.spellings import ADDRESSES, CODINGS, KNOWN_ONLY, traces

SPELLINGS = ("upper case", "title", "Markdown", "with a break", "with two signs")
"""Not codings: of a coded address they make something else."""
AROUND = st.text("abc <>:;,'\"()=&?/%+\\@.", max_size=12)


@pytest.mark.parametrize("name", CODINGS)
@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_is_found_in_every_coding(address: str, name: str) -> None:
    """Nothing of it is left, and it is the same mailbox however it is written."""
    text = CODINGS[name](address)
    assert traces(text)
    assert not traces(replaced(text, lambda found: "(gone)"))
    identities = {address_identity(found.address) for found in find(text)}
    assert identities == {address_identity(address.replace("\uff20", "@"))}


@pytest.mark.parametrize("name", CODINGS)
@pytest.mark.parametrize("address", KNOWN_ONLY)
def test_a_known_address_is_found_in_every_coding(address: str, name: str) -> None:
    """Also where nobody could tell that it is one."""
    assert not traces(replaced(CODINGS[name](address), lambda found: "(gone)", address))


@given(
    st.sampled_from(ADDRESSES),
    st.lists(st.sampled_from(sorted(CODINGS)), min_size=1, max_size=3),
    AROUND, AROUND,
)  # fmt: skip
def test_it_is_found_in_codings_of_codings(
    address: str, names: list[str], before: str, behind: str
) -> None:
    """Percent in JSON in HTML, with anything around it; base64 within base64 is not read."""
    text = address
    in_base64 = False
    for name in names:
        if text != address and name in SPELLINGS:
            continue  # would damage what is coded
        if not (in_base64 and "64" in name):
            text = CODINGS[name](text)
        in_base64 = in_base64 or "64" in name
    assert not traces(replaced(f"{before} {text} {behind}", lambda found: ""))


@pytest.mark.parametrize("spellings", SAME, ids=lambda one: one[0])
def test_what_is_found_has_the_identity_of_the_mailbox(spellings: tuple[str, ...]) -> None:
    """So a hash in a text is the hash of the recipient."""
    for spelling in spellings:
        (found,) = find(f"to <{spelling.strip()}>, https://a.example/?e={quote(spelling.strip())}")[
            :1
        ]
        assert address_identity(found.address) == address_identity(spellings[0])


NONE = [
    "", "@", "a@", "@example.com", "https://social.example/@ada.lovelace/1", "idna@3.10.1",
    "https://cdn.example/npm/jquery@3.6.0/jquery.js?id=4096.jpg&height=40.5em", "40%",
    "a @ b.example", '{"domain":"@example.com","a":"","b":"@example.com"}', "worker@host",
    "0af7651916cd43dd8448eb2140",
    "https://shop.example/?a=40&b=64&amp;c=%2520", "AbCdEf0123456789AbCdEf-_QGExample",
]  # fmt: skip


@pytest.mark.parametrize("text", NONE)
def test_what_is_no_address_stays(text: str) -> None:
    """Versions, handles, hosts, sizes and tokens."""
    assert find(text) == []


PARTS = [
    ("https://a.example/?to=ada%2Fnews%40example.com&n=1", "ada%2Fnews", "ada/news@example.com"),
    ("https://a.example/?u=https%3A%2F%2Fb.example%2F%3Fto%3Dada%2540example.com", "ada",
     "ada@example.com"),
    ("to=<ada@example.com>, o'neil", "ada", "ada@example.com"),
    ("o'neil@example.com", "o'neil", "o'neil@example.com"),
    ("'ada@example.com'", "ada", "ada@example.com"),
    ("email=ada@example.com&n=1", "ada", "ada@example.com"),
    ("<bounces+7-ada=mail.example@sender.example>", "bounces+7-ada=mail.example",
     "bounces+7-ada=mail.example@sender.example"),
    ('{"to":"\\"john doe\\"@example.com"}', '\\"john doe\\"', '"john doe"@example.com'),
    ("{\"a\":\"x\\nada@example.com\"}", "ada", "ada@example.com"),
    ("a b@[IPv6:2001:db8::1].", "b", "b@[IPv6:2001:db8::1]"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "local", "address"), PARTS, ids=[one[0] for one in PARTS])
def test_the_local_part_ends_where_the_text_around_it_begins(
    text: str, local: str, address: str
) -> None:
    """In links, bodies and diagnostics; JSON stays JSON."""
    (found,) = find(text)
    assert (text[found.begin : found.sign], found.address) == (local, address)


@given(st.text(max_size=200) | st.lists(st.sampled_from(
    ["%", "25", "40", "@", "&", "amp;", "#64;", "\\", "u0040", '"', "=", "a", ".de", "\ud800", " ",
     "'", "/", "[", "]", "QGE", "\ufdd0", "\n"]), max_size=40).map("".join))  # fmt: skip
def test_any_text_is_searched(text: str) -> None:
    """What is found are parts of it, in order; masking twice is masking once."""
    ends = [0]
    for found in find(text, "ada@example.com"):
        assert ends[-1] <= found.begin <= found.sign <= found.end <= len(text)
        assert found.begin < found.end
        ends.append(found.end)
    for sign in (STARS, DOTS):
        assert masked(masked(text, sign), sign) == masked(text, sign)


def test_a_message_id_keeps_its_own_sign() -> None:
    """It looks like an address; one in it is found."""

    def gone(found: Found) -> str:
        return "-"

    assert replaced_in_id("20261127.1@mail.example", gone) == "20261127.1@mail.example"
    assert replaced_in_id("1.ada%40b.example@mail.example", gone) == "-@mail.example"
    assert replaced_in_id("7-ada@b.example", gone, "ADA@b.example") == "7--"
    assert replaced_in_id("7-ada@b.example", gone) == "7-ada@b.example"
    assert masked_id("1.ada@b.example@mail.example") == "1***@b.example@mail.example"


def test_masks() -> None:
    """The first letter and the domain stay, in the coding that they are in."""
    assert masked("550 <ada@example.com> and bob%40example.org") == (
        "550 <a***@example.com> and b***%40example.org"
    )
    assert masked('"john doe"@example.com') == "j***@example.com"
    assert masked_recipient("ada", DOTS) == "a•••"
    assert masked_recipient("0123456789abcdef0123") == "01234567…"
    assert masked_recipient(f"h:{'0123456789abcdef' * 4}") == "h:01234567…"
    assert masked_recipient("") == ""


# --- time -----------------------------------------------------------------------------------------

HOSTILE = {
    "signs": "@", "names": "a@", "domains": "a@b.", "dots": ".", "labels": "a.", "percents": "%25",
    "percent signs": "%", "deep percents": "%2525", "ampersands": "&", "entities": "&amp;",
    "deep entities": "amp;", "zeros": "&#0", "backslashes": "\\", "escapes": "\\u0040",
    "quotes": '"', "quoted signs": '"@', "escaped quotes": '\\"@', "apostrophes": "'",
    "apostrophe names": "'a", "equals": "=", "printable": "=40", "parameters": "?a=40",
    "brackets": "@[", "base64": "QGEu", "base64 of signs": "QEBA", "slashes": "%2F",
    "paths": "a%2Fb%40",
    "return paths": "+a=b.de@c.de", "spaces": " ", "wide": "\uff20\uff0e", "urls": "a://a:a",
}  # fmt: skip
STEPS_PER_CHARACTER = 60
"""Lines of Python executed for each character, at most, in both lengths that are measured."""


def steps(text: str) -> int:
    """How many lines of Python ``find`` executes."""
    count = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        find(text, "ada@example.com")
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("name", HOSTILE)
def test_the_steps_are_proportional_to_the_length(name: str) -> None:
    """Whatever is repeated, and whatever stands at its end."""
    for end in ("", "@a.de", "%40a.de", '"@a.de', "\u00fc", "!"):
        for length in (500, 4_000):
            text = (HOSTILE[name] * length)[:length] + end
            assert steps(text) < STEPS_PER_CHARACTER * len(text) + 500


def test_patterns_that_search_have_a_greatest_length() -> None:
    """Counted steps don't see what ``re`` does: a search must not read far from each beginning.

    Those without one are possessive, or match at one place that no other match reads again.
    """
    parser: Any = __import__("re._parser", fromlist=["parse"])
    anchored = {
        "_LOCAL", "_DOMAIN", "_HOST", "_NUMERIC", "_DOTTED", "_LIKELY", "_WHOLE", "_BASE64",
        "_CLEAN",
    }  # fmt: skip
    for module in (address_search, codings):
        for name, value in vars(module).items():
            if isinstance(value, re.Pattern) and name not in anchored:
                assert parser.parse(value.pattern).getwidth()[1] <= 200, name
