"""Clicks that unsubscribe: the provider's word, then known pages, then whole words of the link."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.classify.actor_rules import DEFAULT_RULES, Rules
from streams.classify.unsubscribe import is_unsubscribe_link, unsubscribes
from tests.builders import event
from tests.streams.test_rules_files import GOOD

UNSUBSCRIBES = (
    # words alone
    "https://shop.example/unsubscribe",
    "https://news.example/unsubscribe/abc123",
    "https://news.example/en/Unsubscribe/?u=8f3a&id=77",
    "https://news.example/unsubscribe.php?list=3",
    "https://news.example/UnsubscribeConfirm.aspx",
    "https://news.example/email-unsubscribe",
    "https://news.example/list_unsubscribe/eyJhbGciOiJIUzI1NiJ9",
    "https://shop.example/newsletter/unsubscribe?token=a.b.c",
    "https://shop.example/account/email/unsub/9912",
    "https://unsubscribe.example.com/x",
    "https://shop.example/%75nsubscribe",
    "https://shop.example/index.php/newsletter/manage/unsubscribe/;jsessionid=12",
    "https://app.example/#/unsubscribe?token=1",
    "https://app.example/#!/newsletter/unsubscribe",
    "https://shop.example/?unsubscribe=4f0c",
    "https://news.example/u?action=Unsubscribe&id=3",
    "https://shop.example/index.php?route=newsletter&do=unsubscribe",
    "mailto:unsubscribe+8812@lists.example.com",
    "mailto:lists@example.com?subject=unsubscribe",
    # about mail: an opt-out of email, not of something else
    "https://shop.example/email/opt-out",
    "https://shop.example/email/optout.html?x=1",
    "https://news.example/opt-out",
    "https://news.example/optout?x=1",
    "https://shop.example/email-opt-out/9812",
    "https://shop.example/newsletter/stop",
    "https://email.shop.example/remove?m=3",
    # other languages
    "https://laden.example/newsletter/abmelden/77",
    "https://laden.example/newsletter-abmeldung",
    "https://laden.example/austragen?id=1",
    "https://newsletter.laden.example/abmelden",
    "https://magasin.example/desinscription?id=7",
    "https://magasin.example/d%C3%A9sinscription?id=7",
    "https://magasin.example/désabonnement",
    "https://magasin.example/se-desabonner",
    "https://tienda.example/boletin/baja?id=7",
    "https://tienda.example/darse-de-baja",
    "https://tienda.example/cancelar-suscripci%C3%B3n",
    "https://loja.example/descadastrar/123",
    "https://negozio.example/disiscriviti",
    "https://winkel.example/uitschrijven",
    "https://winkel.example/nieuwsbrief/afmelden",
    "https://butik.example/avregistrera",
    "https://sklep.example/wypisz-sie",
    "https://obchod.example/odhlasit-odber",
    "https://magazin.example/%D0%BE%D1%82%D0%BF%D0%B8%D1%81%D0%B0%D1%82%D1%8C%D1%81%D1%8F",
    "https://shop.example/配信停止",
    "https://shop.example/退订?u=1",
    # providers' pages
    "https://u123.ct.sendgrid.net/asm/?user_id=123&data=abc",
    "https://u123.ct.sendgrid.net/asm/?data=abc",
    "https://links.shop.example/asm/?user_id=123&data=abc",
    "https://links.shop.example/asm/unsubscribe/?user_id=123&data=abc",
    "https://u123.ct.sendgrid.net/wf/unsubscribe?upn=abc",
    "https://x.us1.list-manage.com/unsubscribe?u=1&id=2&e=3",
    "https://manage.kmail-lists.com/subscriptions/unsubscribe?a=X&c=Y",
    "https://mandrillapp.com/track/unsub.php?u=1&id=2",
    "https://r.mail.shop.example/mk/un/v2/sKLMz",
    "https://x.mjt.lu/unsub2?m=abc",
    "https://shop.createsend1.com/t/r-u-trtltj-l/",
    "https://visitor.constantcontact.com/do?p=un&m=abc",
    "https://acc.activehosted.com/proc.php?nl=1&c=2&act=unsub",
    "https://links.iterable.example/e/encryptedUnsubscribe?_r=abc",
    "https://eur01.safelinks.protection.outlook.com/?url=https%3A%2F%2Fn.example%2Funsubscribe&data=1",
)
CLICKS = (
    # words inside words, titles, values
    "https://travel.example/tours/baja",
    "https://travel.example/baja-california",
    "https://shop.example/winback?utm_content=unsubscribe-winback",
    "https://shop.example/?utm_campaign=unsubscribe",
    "https://shop.example/?utm_term=opt-out",
    "https://shop.example/sale?ref=unsubscribe",
    "https://shop.example/search?q=unsubscribe",
    "https://t.example/r?to=https%3A%2F%2Fnews.example%2Funsubscribe%3Fid%3D1",
    "https://blog.example/how-to-unsubscribe-from-all-spam-mail",
    "https://shop.example/blog/unsubscribe",
    "https://help.example/hc/en-us/articles/unsubscribe",
    "https://docs.example/docs/api/unsubscribe",
    "https://shop.example/unsubscribe-and-win-campaign",
    "https://shop.example/unsubstantiated",
    "https://shop.example/dont-unsubscribe",
    # opting out of other things, and leaving other things
    "https://shop.example/privacy/opt-out",
    "https://shop.example/privacy/opt-out?source=email",
    "https://shop.example/ccpa/optout",
    "https://optout.networkadvertising.org/",
    "https://shop.example/cookies/opt-out.html",
    "https://shop.example/opt-in?out=1",
    "https://shop.example/options",
    "https://shop.example/adopt/outdoor-cat",
    "https://laden.example/konto/abmelden",
    "https://laden.example/abo/abbestellung",
    "https://shop.example/orders/12/cancel",
    "https://shop.example/basket/remove?item=3",
    "https://game.example/team/leave",
    "https://gym.example/subscription/cancel",
    "https://festival.example/bus/stop",
    # preferences are a choice, not the end
    "https://shop.example/email/preferences",
    "https://shop.example/newsletter",
    "https://shop.example/newsletter/archive/12",
    "https://shop.example/subscribe",
    "https://shop.example/resubscribe",
    # pages that only look like a provider's
    "https://asm.org/",
    "https://asm.org/conferences",
    "https://shop.example/asm/",
    "https://shop.example/asm/catalogue?item=1",
    "https://social.example/u/ada",
    "https://shop.example/wf/workflow",
    "https://notlist-manage.com/u",
    # neither
    "https://shop.example/",
    "https://shop.example",
    "https://example.baja",
    "mailto:sales@example.com?subject=Offer",
    "tel:+4612345",
    "javascript:unsubscribe()",
    "unsubscribed today?",
    "//",
    "%",
)


@pytest.mark.parametrize("url", UNSUBSCRIBES)
def test_unsubscribe_links(url: str) -> None:
    """An action in the link, in its path, host, or the name of a parameter, unsubscribes."""
    assert is_unsubscribe_link(url)


@pytest.mark.parametrize("url", CLICKS)
def test_other_links(url: str) -> None:
    """A part of a word, a title, a value, or another thing to leave is a click."""
    assert not is_unsubscribe_link(url)


@pytest.mark.parametrize(
    ("told", "url", "expected"),
    [
        (True, "https://shop.example/a8f3", True),
        (False, "https://shop.example/unsubscribe", False),
        (None, "https://shop.example/unsubscribe", True),
        (None, "https://shop.example/a8f3", False),
        (None, None, False),
        (None, "", False),
        (True, None, True),
    ],
)
def test_what_the_provider_says_comes_first(
    told: bool | None, url: str | None, expected: bool
) -> None:
    """Its flag wins over the words of the link, either way."""
    clicked = event(event_type="clicked", click_url=url, unsubscribe_link=told)
    assert unsubscribes(clicked) is expected


def test_only_clicks_unsubscribe_by_a_link() -> None:
    """An open never does, whatever else it says."""
    opened = event(event_type="opened", click_url="https://a.example/unsubscribe")
    assert not unsubscribes(opened)


def test_words_are_settable() -> None:
    """A list in a rules file replaces the shipped one; a file without it keeps that."""
    own = '[unsubscribe]\nwords = ["adieu"]\n[[unsubscribe.pages]]\npath = "bye/*"\n'
    rules = Rules.load(GOOD + own).unsubscribe
    assert is_unsubscribe_link("https://shop.example/adieu", rules)
    assert is_unsubscribe_link("https://shop.example/bye/now", rules)
    assert is_unsubscribe_link("https://news.example/opt-out", rules)
    assert not is_unsubscribe_link("https://shop.example/unsubscribe", rules)
    kept = Rules.load(GOOD).unsubscribe
    assert kept.words == DEFAULT_RULES.unsubscribe.words


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[unsubscribe]\nwords = 3\n", "unsubscribe.words"),
        ('[unsubscribe]\nwords = [""]\n', "unsubscribe.words"),
        ('[unsubscribe]\nword = ["a"]\n', "unsubscribe.word"),
        ("[[unsubscribe.pages]]\n", "unsubscribe.pages"),
        ('[[unsubscribe.pages]]\npath = "*/a"\n', "unsubscribe.pages.path"),
        ('[[unsubscribe.pages]]\npath = "a"\nparameters = "x"\n', "unsubscribe.pages.parameters"),
        ('[links]\ndrop = "x"\n', "links.drop"),
        ("[links]\nwrappers = [{}]\n", "links.wrappers.host"),
        ("unsubscribe = 3\n", "unsubscribe"),
    ],
)
def test_wrong_rules_are_refused_by_name(text: str, named: str) -> None:
    """The message names the key."""
    with pytest.raises(ValueError, match=named):
        Rules.load(text + GOOD if text.startswith("unsubscribe =") else GOOD + text)


@given(st.one_of(st.text(max_size=3000), st.text(st.characters(categories=["Cs"]))))
def test_any_link_gives_an_answer(url: str) -> None:
    """Never raises, and the same link gives the same answer in any case of letters."""
    assert is_unsubscribe_link(url) in (True, False)
    if url.isascii():
        assert is_unsubscribe_link(url) is is_unsubscribe_link(url.upper())


@given(st.sampled_from(UNSUBSCRIBES + CLICKS), st.text("abcdefgh0123456789", min_size=1))
def test_an_unrelated_parameter_changes_nothing(url: str, value: str) -> None:
    """A link is judged the same with a parameter of the sender's."""
    if url.startswith("http") and "#" not in url:
        longer = f"{url}{'&' if '?' in url else '?'}utm_content={value}-unsubscribe"
        assert is_unsubscribe_link(longer) is is_unsubscribe_link(url)
