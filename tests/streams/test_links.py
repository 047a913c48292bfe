"""Groups of links: spelling and readers' parameters make no difference, everything else does."""

from typing import Literal
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.privacy import Privacy
from streams.classify.actor_rules import Rules
from streams.classify.link_rules import SHIPPED_LINKS
from streams.classify.links import link_group, parameters, read_link
from tests.builders import event
from tests.streams.test_rules_files import GOOD


def group(url: str | None) -> str:
    return link_group(url, SHIPPED_LINKS)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        # the form of most links
        ("https://shop.example/spring", "https://shop.example/spring"),
        (None, ""),
        ("", ""),
        # spelling
        ("HTTPS://Shop.Example/Spring", "https://shop.example/Spring"),
        ("https://shop.example:443/a", "https://shop.example/a"),
        ("http://shop.example:80/a", "http://shop.example/a"),
        ("http://shop.example:443/a", "http://shop.example:443/a"),
        ("https://shop.example./a", "https://shop.example/a"),
        ("https://shop.example/", "https://shop.example"),
        ("https://shop.example", "https://shop.example"),
        ("https://shop.example/a/", "https://shop.example/a"),
        ("https://shop.example/a/?", "https://shop.example/a"),
        ("https://ada:secret@shop.example/a", "https://shop.example/a"),
        ("https://shop.example/%7Eada/%c3%bc", "https://shop.example/~ada/%C3%BC"),
        ("https://shop.example/~ada/ü", "https://shop.example/~ada/%C3%BC"),
        ("https://shop.example/a%2fb", "https://shop.example/a%2Fb"),
        ("https://shop.example/a b", "https://shop.example/a%20b"),
        ("https://shop.example/100%", "https://shop.example/100%25"),
        ("  https://shop.example/a\r\n/b ", "https://shop.example/a/b"),
        ("https:\\\\shop.example\\a", "https://shop.example/a"),
        ("https://müller.example/a", "https://xn--mller-kva.example/a"),
        ("https://xn--mller-kva.example/a", "https://xn--mller-kva.example/a"),
        ("https://MÜLLER.example/a", "https://xn--mller-kva.example/a"),
        ("http://[2001:DB8::1]:80/a", "http://[2001:db8::1]/a"),
        # parameters
        ("https://shop.example/a?b=2&a=1", "https://shop.example/a?a=1&b=2"),
        ("https://shop.example/a?x=2&x=1", "https://shop.example/a?x=2&x=1"),
        ("https://shop.example/a?b=2&amp;a=1", "https://shop.example/a?a=1&b=2"),
        ("https://shop.example/a?&&a=", "https://shop.example/a?a"),
        ("https://shop.example/a?q=%7e%2f", "https://shop.example/a?q=~%2F"),
        ("https://shop.example/a?utm_source=n&UTM_Medium=e", "https://shop.example/a"),
        (
            "https://shop.example/a?utm_campaign=c&utm_content=footer",
            "https://shop.example/a?utm_content=footer",
        ),
        ("https://shop.example/a?mc_eid=8f3&p=7", "https://shop.example/a?p=7"),
        ("https://shop.example/a?email=ada%40example.com", "https://shop.example/a"),
        ("https://shop.example/a?bsft_uid=1&bsft_mid=2", "https://shop.example/a"),
        ("https://shop.example/a?%75tm_source=n", "https://shop.example/a"),
        # fragments: a place in the page is not another page, a route is
        ("https://shop.example/a#prices", "https://shop.example/a"),
        ("https://shop.example/a#", "https://shop.example/a"),
        ("https://app.example/#/sale?u=1", "https://app.example#/sale"),
        ("https://app.example/#!/sale/", "https://app.example#!/sale"),
        # redirects
        (
            "https://eur01.safelinks.protection.outlook.com/"
            "?url=https%3A%2F%2Fshop.example%2Fa%3Fp%3D7%26mc_eid%3D1&data=05%7Cada",
            "https://shop.example/a?p=7",
        ),
        ("https://www.google.com/url?q=https://shop.example/a/&sa=D", "https://shop.example/a"),
        ("https://www.google.com/search?q=shoes", "https://www.google.com/search?q=shoes"),
        # not the web
        ("mailto:sales@example.com?subject=Hello", "mailto:sales@example.com"),
        ("MAILTO:sales@example.com", "mailto:sales@example.com"),
        ("tel:+46123", "tel:+46123"),
        ("javascript:alert('ada@example.com')", "javascript:"),
        ("data:text/html,hello", "data:"),
        ("shop.example/a?u=1", "shop.example/a"),
        ("//shop.example/a/", "//shop.example/a"),
        ("not a link", "not a link"),
    ],
)
def test_groups(url: str | None, expected: str) -> None:
    """What is left out, and what is kept."""
    assert group(url) == expected


def test_readers_of_one_link_are_one_group() -> None:
    """Links that differ in a listed parameter only are one group; another path is another."""
    links = {group(f"https://shop.example/a?subscriber_id={n}&size=7") for n in range(100)}
    assert links == {"https://shop.example/a?size=7"}
    assert len({group(f"https://shop.example/{n}") for n in range(100)}) == 100


def test_parameters_are_settable() -> None:
    """A list in a rules file replaces the shipped one."""
    rules = Rules.load(GOOD + '[links]\ndrop = ["who*", "N"]\n').links
    url = "https://shop.example/a?who_is=1&n=2&utm_source=x"
    assert link_group(url, rules) == "https://shop.example/a?utm_source=x"


@pytest.mark.parametrize("mode", ["hashed", "dropped"])
@pytest.mark.parametrize(
    "url",
    [
        "https://shop.example/a?email=ada@example.com&p=1",
        "https://shop.example/a?who=ada%40example.com&p=1",
        "https://shop.example/u/ada@example.com/a",
        "https://www.google.com/url?q=https://shop.example/u/ada@example.com",
        "mailto:ada@example.com",
    ],
)
def test_a_group_of_a_masked_link_names_nobody(
    mode: Literal["hashed", "dropped"], url: str
) -> None:
    """It is made of the link as it was masked, and undoes none of that."""
    clicked = event(event_type="clicked", click_url=url)
    Privacy(mode, b"key").apply(clicked)
    found = group(clicked["click_url"])
    assert "ada" not in found
    assert "ada" not in unquote(found)
    assert group(found) == found


def test_a_long_link_is_grouped() -> None:
    """8 kB of parameters that are listed leave the link alone; others are kept whole."""
    assert group("https://shop.example/a?mkt_tok=" + "x" * 8000) == "https://shop.example/a"
    assert len(group("https://shop.example/a?z=" + "x" * 8000)) == 8025


PIECES = st.sampled_from(
    ["http://", "https://", "HTTP:", "//", "/", "\\", "?", "&", "=", "#", "#!/", "%", "%7e",
     "%41", "%2F", "%25", "&amp;", "a", "B", "ü", "utm_source", "x=1", "shop.example", ":80", "@",
     "[", "]", " ", "\t", "mailto:", "www.google.com/url?q=https://", "\ud800", "%u", ".",
     "é.example"]
)  # fmt: skip


@given(st.lists(PIECES, max_size=14).map("".join) | st.text(max_size=200))
def test_a_group_is_its_own_group(url: str) -> None:
    """Never raises, and grouping a group changes nothing."""
    once = group(url)
    assert group(once) == once


NAMES = st.text("abcxyz_%3", min_size=1, max_size=4)


@given(st.lists(st.tuples(NAMES, st.text("abc%=/", max_size=4)), max_size=6), st.randoms())
def test_the_order_of_different_parameters_makes_no_difference(
    pairs: list[tuple[str, str]], random: object
) -> None:
    """Nor does a parameter that is listed."""
    unique = list(dict(pairs).items())
    shuffled = unique.copy()
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    texts = ["&".join(f"{n}={v}" for n, v in some) for some in (unique, shuffled)]
    assert group(f"https://a.example/?{texts[0]}&gclid=1") == group(
        f"https://a.example/?{texts[1]}"
    )


@given(st.text(max_size=300))
def test_any_text_is_read(text: str) -> None:
    """Every text has parts, and every query has parameters."""
    link = read_link(text)
    assert all(name or value is not None for name, value in parameters(link.query))
