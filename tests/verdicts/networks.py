"""Networks and user agents of people, proxies and scanners.

Sources: «published» is a list of the operator's own, «seen» is an address in somebody's public
log, «recalled» was not looked up. What is recalled only has to be plausible: the simulation needs
networks that belong together, not the right owner.
"""

import ipaddress
import random

GOOGLE = ("66.249.80.0/20", "74.125.208.0/20")
"""Gmail's proxy. Seen: 66.249.93.73 and .84; the second is recalled."""
YAHOO = ("98.136.160.0/20", "188.125.80.0/21")
"""Yahoo's proxy. Recalled; Yahoo documents only its names."""
APPLE = ("172.224.224.0/20", "104.28.32.0/20", "146.75.128.0/18")
"""Egress of Apple's relay at Akamai, Cloudflare, Fastly. Recalled parts of Apple's published
list."""
MICROSOFT = ("40.92.0.0/15", "40.107.0.0/16", "52.100.0.0/14", "104.47.0.0/17")
"""Microsoft 365 mail. Published; clicks seen from 40.107.218.12 and 104.47.11.62."""
MICROSOFT_OTHER = ("40.94.29.0/24", "20.69.0.0/18")
"""Microsoft outside that list. Seen: 40.94.29.84; the second is recalled (Azure)."""
BARRACUDA = ("209.222.82.0/24",)
"""Published."""
PROOFPOINT = ("67.231.152.0/21", "148.163.128.0/18")
"""Recalled."""
MIMECAST = ("207.211.30.0/23", "205.139.110.0/23", "185.58.84.0/22")
"""Recalled."""
CLOUD = ("3.80.0.0/13", "54.144.0.0/13", "34.64.0.0/13", "35.192.0.0/13")
"""Rented machines. Recalled."""
OTHER_PROXIES = ("103.168.172.0/24", "204.62.114.0/24")
"""Fastmail, HEY. Recalled."""
HOMES = ("73.0.0.0/9", "84.112.0.0/13", "90.0.0.0/10", "109.64.0.0/12", "24.0.0.0/13")
"""Access providers. Recalled."""
COMPANIES = ("194.24.128.0/18", "62.152.96.0/19", "12.160.0.0/13")
"""Companies' own lines. Recalled."""
SHARED_EGRESS = ("165.225.192.0/20",)
"""A security service through which companies browse. Recalled (Zscaler)."""

GMAIL_VIEW = (
    "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)"
)
"""Measured: ScientiaMobile."""
GMAIL_PREFETCH = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/42.0.2311.135 Safari/537.36 Edge/12.246 Mozilla/5.0"
)
"""Measured: SparkPost."""
YAHOO_VIEW = "YahooMailProxy; https://help.yahoo.com/kb/yahoo-mail-proxy-SLN28749.html"
"""Documented: Yahoo."""
APPLE_FETCH = "Mozilla/5.0"
"""Documented: Mailgun, SendGrid."""
MICROSOFT_VIEW = (
    "Mozilla/4.0 (compatible; MSIE 7.0; Windows NT 10.0; OutlookImageProxy/1.0; Microsoft Outlook)"
)
"""That it holds «OutlookImageProxy» is folklore."""
OUTLOOK = "Microsoft Office/16.0 (Windows NT 10.0; Microsoft Outlook 16.0.{}; Pro)"
HEY = "hey.com/imageproxy"
"""Documented: HEY."""
SENTINEL = "Barracuda Sentinel (EE)"
"""In Crawler-Detect issue 552."""
BING_PREVIEW = (
    "Mozilla/5.0 (Windows NT 6.1; WOW64) AppleWebKit/534+ (KHTML, like Gecko) BingPreview/1.0b"
)
"""Measured: phpList issue 415."""
TOOLS = ("python-requests/2.31.0", "Go-http-client/1.1")

_WINDOWS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/{}.0.0.0 Safari/537.36"
)
_EDGE = _WINDOWS + " Edg/{}.0.0.0"
_ANDROID = (
    "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/{}.0.0.0 Mobile Safari/537.36"
)
_FIREFOX = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:{0}.0) Gecko/20100101 Firefox/{0}.0"
_IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_{0} like Mac OS X) AppleWebKit/605.1.15 "
    "(KHTML, like Gecko) Version/18.{0} Mobile/15E148 Safari/604.1"
)
_MAC = (
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 "
    "(KHTML, like Gecko) Version/18.{} Safari/605.1.15"
)


def address_in(networks: tuple[str, ...], dice: random.Random) -> str:
    """An address of one of these networks."""
    network = ipaddress.ip_network(dice.choice(networks))
    return str(network[dice.randrange(1, network.num_addresses - 1)])


def browser(dice: random.Random, *, apple: bool = False, office: bool = False) -> str:
    """A browser's agent.

    Args:
        dice: what is drawn from.
        apple: of someone who reads in Apple Mail.
        office: on a desk.
    """
    if apple:
        return (_MAC if office or dice.random() < 0.3 else _IPHONE).format(dice.randrange(0, 7))
    version = dice.randrange(128, 144)
    form = dice.choice((_WINDOWS, _EDGE, _FIREFOX) if office else (_WINDOWS, _ANDROID, _ANDROID))
    return form.format(version, version)


def old_browser(dice: random.Random) -> str:
    """A browser's agent as scanners have them: of some years ago."""
    return _WINDOWS.format(dice.choice((79, 90, 101, 108, 114, 120, 128)))
