"""Consumer mail domains and the provider behind each.

Invariants:
1. A domain is listed only if its operator, or the named provider on its behalf, runs the mailboxes
   under it, according to the operator's own sign-up or help pages.
2. ``BRANDS`` holds names that their owner registered under many country codes; exceptions are in
   ``DOMAINS``, which is looked up first (yahoo.co.jp is another company with its own servers).
"""

VERSION = 1

_FAMILIES: dict[str, str] = {
    "gmail": "gmail.com googlemail.com google.com",
    "microsoft": (
        "outlook.com hotmail.com live.com msn.com passport.com windowslive.com live.co.uk live.fr "
        "live.nl live.be live.it live.de live.at live.ca live.com.au live.com.mx live.com.ar "
        "live.com.pt live.cl live.cn live.dk live.hk live.ie live.in live.jp live.no live.ru "
        "live.se live.co.za live.com.my live.com.sg outlook.jp onmicrosoft.com"
    ),
    "yahoo": (
        "yahoo.com ymail.com rocketmail.com aol.com aim.com verizon.net netscape.net cs.com "
        "love.com wow.com games.com yahooinc.com myyahoo.com"
    ),
    "apple": "icloud.com me.com mac.com privaterelay.appleid.com",
    "gmx": (
        "web.de gmx.net gmx.de gmx.at gmx.ch gmx.com mail.com caramail.com email.de "
        "usa.com europe.com email.com consultant.com engineer.com"
    ),
    "mailru": "mail.ru inbox.ru list.ru bk.ru internet.ru xmail.ru",
    "yandex": "yandex.ru yandex.com ya.ru narod.ru",
    "proton": "proton.me protonmail.com protonmail.ch pm.me passmail.net",
    "qq": "qq.com foxmail.com",
    "netease": "163.com 126.com yeah.net 188.com vip.163.com vip.126.com",
    "sina": "sina.com sina.cn sina.com.cn",
    "naver": "naver.com",
    "daum": "daum.net hanmail.net kakao.com",
    "rambler": "rambler.ru lenta.ru autorambler.ru myrambler.ru ro.ru",
    "comcast": "comcast.net xfinity.com",
    "att": (
        "att.net sbcglobal.net bellsouth.net pacbell.net ameritech.net swbell.net flash.net "
        "nvbell.net prodigy.net snet.net wans.net currently.com"
    ),
    "charter": "charter.net spectrum.net rr.com twc.com roadrunner.com brighthouse.com",
    "cox": "cox.net",
    "orange": "orange.fr wanadoo.fr",
    "free": "free.fr",
    "sfr": "sfr.fr neuf.fr cegetel.net club-internet.fr numericable.fr",
    "laposte": "laposte.net",
    "telekom": "t-online.de magenta.de",
    "freenet": "freenet.de",
    "libero": "libero.it iol.it inwind.it blu.it giallo.it",
    "seznam": "seznam.cz email.cz post.cz",
    "wp": "wp.pl o2.pl tlen.pl",
    "onet": "onet.pl op.pl onet.eu poczta.onet.pl vp.pl",
    "interia": "interia.pl interia.eu poczta.fm",
    "bt": "btinternet.com btopenworld.com bt.com",
    "ziggo": "ziggo.nl home.nl upcmail.nl",
    "kpn": "kpnmail.nl planet.nl hetnet.nl",
    "bluewin": "bluewin.ch",
    "uol": "uol.com.br bol.com.br",
    "rediffmail": "rediffmail.com",
    "docomo": "docomo.ne.jp",
    "au": "ezweb.ne.jp au.com",
    "softbank": "softbank.ne.jp i.softbank.jp",
    "yahoo_japan": "yahoo.co.jp ybb.ne.jp",
    "fastmail": "fastmail.com fastmail.fm",
    "zoho": "zoho.com zohomail.com zoho.eu zoho.in",
    "tuta": "tuta.com tutanota.com tutanota.de tutamail.com tuta.io keemail.me",
    "mailbox_org": "mailbox.org",
    "posteo": "posteo.de posteo.net",
}

DOMAINS: dict[str, str] = {
    domain: provider for provider, domains in _FAMILIES.items() for domain in domains.split()
}
"""Domain, or registrable domain, -> provider."""

BRANDS: dict[str, str] = {
    "hotmail": "microsoft",
    "outlook": "microsoft",
    "yahoo": "yahoo",
    "aol": "yahoo",
    "gmx": "gmx",
    "yandex": "yandex",
}
"""First label of a registrable domain -> provider, under any country code."""

MX_SUFFIXES: dict[str, str] = {
    "google.com": "gmail",
    "googlemail.com": "gmail",
    "psmtp.com": "gmail",
    "protection.outlook.com": "microsoft",
    "mx.microsoft": "microsoft",
    "olc.protection.outlook.com": "microsoft",
    "yahoodns.net": "yahoo",
    "icloud.com": "apple",
    "kundenserver.de": "ionos",
    "ionos.com": "ionos",
    "gmx.net": "gmx",
    "web.de": "gmx",
    "mail.ru": "mailru",
    "yandex.net": "yandex",
    "yandex.ru": "yandex",
    "protonmail.ch": "proton",
    "qq.com": "qq",
    "netease.com": "netease",
    "mxhichina.com": "alibaba",
    "zoho.com": "zoho",
    "zoho.eu": "zoho",
    "messagingengine.com": "fastmail",
    "pphosted.com": "proofpoint",
    "ppe-hosted.com": "proofpoint",
    "mimecast.com": "mimecast",
    "barracudanetworks.com": "barracuda",
    "iphmx.com": "cisco",
    "messagelabs.com": "broadcom",
    "trendmicro.com": "trendmicro",
    "trendmicro.eu": "trendmicro",
    "secureserver.net": "godaddy",
    "emailsrvr.com": "rackspace",
    "ovh.net": "ovh",
    "gandi.net": "gandi",
    "amazonaws.com": "amazon",
}
"""Suffix of an MX host's name -> its operator."""
