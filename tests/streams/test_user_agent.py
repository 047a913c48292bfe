"""Device, system and client of user agents that mail programs and browsers send."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.classify.user_agent import AGENTS_CACHED_MAX, client_of

CHROME = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36"  # noqa: E501 - one user agent
IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1"  # noqa: E501 - one user agent


@pytest.mark.parametrize(
    ("agent", "expected"),
    [
        (CHROME, ("desktop", "Windows", "Chrome")),
        (IPHONE, ("phone", "iOS", "Mobile Safari")),
        (IPHONE.replace("iPhone; CPU iPhone OS", "iPad; CPU OS"),
         ("tablet", "iOS", "Mobile Safari")),
        ("Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) "
         "Chrome/126.0.0.0 Mobile Safari/537.36", ("phone", "Android", "Chrome Mobile")),
        ("Mozilla/5.0 (Linux; Android 13; SM-X906C) AppleWebKit/537.36 (KHTML, like Gecko) "
         "Chrome/117.0.0.0 Safari/537.36", ("tablet", "Android", "Chrome")),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 "
         "(KHTML, like Gecko)", ("desktop", "Mac OS X", "Apple Mail")),
        ("Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:115.0) Gecko/20100101 Thunderbird/115.3.1",
         ("desktop", "Windows", "Thunderbird")),
        ("Microsoft Office/16.0 (Windows NT 10.0; Microsoft Outlook 16.0.12026; Pro)",
         ("desktop", "Windows", "Outlook")),
        ("Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) AppleWebKit/537.36 (KHTML, like Gecko) "
         "Chrome/126.0.0.0 Safari/537.36", ("desktop", "Chrome OS", "Chrome")),
    ],
)  # fmt: skip
def test_people_have_a_device(agent: str, expected: tuple[str, str, str]) -> None:
    """Families as uap-core names them."""
    assert client_of(agent) == expected


@pytest.mark.parametrize(
    ("agent", "client"),
    [
        ("Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com "
         "GoogleImageProxy)", "Gmail image proxy"),
        ("YahooMailProxy; https://help.yahoo.com/kb/yahoo-mail-proxy-SLN28749.html",
         "Yahoo mail proxy"),
        ("curl/8.5.0", "curl"),
        ("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", "Googlebot"),
    ],
)  # fmt: skip
def test_proxies_and_programs_are_bots_without_a_system(agent: str, client: str) -> None:
    """The device and system that they name are not the person's, so none is reported."""
    assert client_of(agent) == ("bot", "", client)


@pytest.mark.parametrize("agent", [None, "", "Mozilla/5.0", "xyz"])
def test_unknown_is_empty(agent: str | None) -> None:
    """An unknown user agent gives three empty texts."""
    assert client_of(agent) == ("", "", "")


@pytest.mark.parametrize("agent", ["Mozilla/5.0 (Linux; Android 10; CUBOT X30) AppleWebKit/537.36 "
    "(KHTML, like Gecko) Chrome/88.0 Mobile Safari/537.36"])  # fmt: skip
def test_a_phone_whose_maker_sounds_like_a_bot_is_a_phone(agent: str) -> None:
    """Cubot makes phones; «bot» inside a word does not count."""
    assert client_of(agent)[0] == "phone"


@given(st.one_of(st.none(), st.text(max_size=3000), st.text(st.characters(categories=["Cs"]))))
def test_never_raises(agent: str | None) -> None:
    """Any text gives three texts, the device one of five."""
    device, system, client = client_of(agent)
    assert device in {"desktop", "phone", "tablet", "bot", ""}
    assert isinstance(system, str)
    assert isinstance(client, str)


def test_cache_is_bounded() -> None:
    """A flood of invented user agents can't fill the memory."""
    assert client_of.cache_info().maxsize == AGENTS_CACHED_MAX
