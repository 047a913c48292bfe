"""What mailbox providers' own codes in a reply mean, by their documentation.

Invariants:
1. Pure. Texts are in lower case.
2. A code counts before the words around it: «sender rejected … AUP#In-1310» is a limit on
   connections, for Spectrum says so.
3. A verdict is that of a permanent refusal, unless the documentation says that it passes. A 4yz
   reply makes it soft.
4. Only codes whose meaning is published are here; of unknown ones the words are judged.
"""

import re
from typing import NamedTuple

Verdict = tuple[str, str]
"""(bounce_class, bounce_reason)."""

_REPUTATION: Verdict = ("block", "reputation")
_POLICY: Verdict = ("block", "policy")
_AUTH: Verdict = ("block", "auth")
_CONTENT: Verdict = ("block", "content")
_LIMIT: Verdict = ("soft", "policy")
_LARGE: Verdict = ("soft", "too_large")
_TROUBLE: Verdict = ("soft", "other")
_PASSING_BLOCK: Verdict = ("soft", "reputation")


class Codes(NamedTuple):
    """The codes of one provider.

    Attributes:
        mark: every text with such a code contains it.
        pattern: its first group is the code.
        verdicts: by code; codes that are missing say nothing.
    """

    mark: str
    pattern: re.Pattern[str]
    verdicts: dict[str, Verdict]


def _range(first: int, last: int, verdict: Verdict) -> dict[str, Verdict]:
    """One verdict for the codes from ``first`` to ``last``, both included."""
    return {str(code): verdict for code in range(first, last + 1)}


# spectrum.net, «Understanding email error codes» (AUP#In-…)
_SPECTRUM = Codes("aup#", re.compile(r"aup#(?:in|out|i|o)?-?(\d{4})\b"), {
    **_range(1000, 1080, _REPUTATION),  # suspicious activity of an IP or account
    "1090": _TROUBLE,
    **_range(1100, 1150, _AUTH),  # reverse DNS
    **_range(1160, 1190, _POLICY),  # the sender's domain forbids it
    **_range(1200, 1250, _REPUTATION),  # Cloudmark, Spamhaus
    "1260": _POLICY,  # IPv6
    **_range(1300, 1490, _LIMIT),  # connections, messages, recipients
    "1500": _AUTH,  # the sender is not who has logged in
    "1520": _AUTH,
    "1530": _LARGE,
    "1540": _LIMIT,
    "1550": _LIMIT,
    "1560": _REPUTATION,  # too many invalid recipients
    "1580": _LIMIT,
})  # fmt: skip
# postmaster.cox.net, «Error codes»
_COX = Codes("aup#", re.compile(r"aup#(cx[a-z]+|cdrbl|(?:ip|url)bl)"), {
    "cxbl": _REPUTATION,
    "cdrbl": _PASSING_BLOCK,  # at most 24 hours
    "ipbl": _REPUTATION,  # an IP on a public list, named by its digits
    "urlbl": _CONTENT,  # a link on a public list
    "cxdns": _AUTH,  # reverse DNS
    "cxsndr": _AUTH,  # SPF, DKIM
    "cxsmtp": _POLICY,
    "cxcnct": _LIMIT,
    "cxmxrt": _LIMIT,
    "cxthrt": _REPUTATION,  # suspicious activity of an account
    "cxmj": _REPUTATION,
})  # fmt: skip
# postmaster.comcast.net, «Mail delivery error codes»: the code is the fragment of a link
_COMCAST = Codes("smtp-error-codes", re.compile(r"smtp-error-codes\.php#(bl|es|rl|dm)\d"), {
    "bl": _REPUTATION,
    "es": _POLICY,  # a dynamic or residential address
    "rl": _LIMIT,
    "dm": _AUTH,  # DMARC
})  # fmt: skip
# godaddy.com, «Fix rejected email with a bounce error» (secureserver.net)
_GODADDY = Codes("ib", re.compile(r"(?<![\w-])ib(\d{3})\W*(?:\(in reply to [^()]*\))?\W*\Z"), {
    "007": _LIMIT,
    "101": _TROUBLE,
    **_range(103, 106, _REPUTATION),
    "108": _AUTH,  # reverse DNS
    **_range(110, 113, _PASSING_BLOCK),  # an hour, or the day
    "212": _CONTENT,
    "401": _AUTH,
    "501": _POLICY,  # the sender is missing
    "502": _POLICY,  # the sender is an IP address
    "504": _LIMIT,
    "506": _POLICY,  # the sender's domain does not resolve
    "508": _AUTH,  # SPF
    "510": _LIMIT,
    "605": _LIMIT,
    "607": _LIMIT,
    "705": _CONTENT,
})  # fmt: skip
# Orange and La Poste: postmastery.com, «Orange postmaster SMTP error codes», and
# smtpfieldmanual.com/provider/orange
_ORANGE = Codes("_", re.compile(r"(?<![a-z0-9])(?:ofr|lpn|ouk)[a-z]*\d{0,3}_(\d{3})\b"), {
    **_range(101, 103, _REPUTATION),
    "104": _LIMIT,
    "305": _AUTH,
    "401": _AUTH,  # SPF
    "402": _AUTH,
    "403": _POLICY,  # the sender is invalid
    "405": _POLICY,
    "415": _POLICY,
    "416": ("hard", "no_mailbox"),
    "417": ("soft", "mailbox_full"),
    "420": ("hard", "inactive"),  # archived
    "421": _AUTH,  # the sender is not who has logged in
    "426": ("hard", "inactive"),
    "505": _TROUBLE,
    "506": _CONTENT,
    "510": _REPUTATION,
    "514": _LARGE,
    "517": _AUTH,  # DMARC
    "630": _REPUTATION,  # the client is refused
    "999": _PASSING_BLOCK,
})  # fmt: skip
# NetEase (163.com, 126.com): help.163.com, table of returned mail codes
_NETEASE = Codes(":", re.compile(r"(?<![a-z])((?:hl|dt|mi|rp|wm):[a-z]{3})\b"), {
    "hl:icc": _LIMIT,
    "hl:ifc": _LIMIT,
    "hl:rep": _PASSING_BLOCK,  # many recipients that do not exist
    "hl:mep": _PASSING_BLOCK,  # many forged sender domains
    "mi:cel": _LIMIT,
    "mi:dmc": _LIMIT,
    "mi:ccl": _LIMIT,
    "mi:sfq": _LIMIT,
    "mi:spf": _AUTH,
    "rp:drc": _LIMIT,
    "rp:ccl": _LIMIT,
    "rp:cel": _LIMIT,
    "dt:rbl": _REPUTATION,
    "dt:spm": _CONTENT,
    "wm:bli": _REPUTATION,
    "wm:blu": _POLICY,
})  # fmt: skip
# senders.yahooinc.com/smtp-error-codes, and help.yahoo.com SLN5067 (PH01: the message's content)
_YAHOO = Codes("[", re.compile(r"\[(ph|bl|tss?)\d{2}\]"), {
    "ph": _CONTENT,
    "bl": _REPUTATION,
    "ts": _REPUTATION,
    "tss": _REPUTATION,
})  # fmt: skip
# AOL: postmaster.aol.com/error-codes, archived
_AOL = Codes(":", re.compile(r"(?<![a-z])(rly:b|rtr:bl|con:b|dyn:t|hvu:b)[0-9d]?\b"), {
    "rly:b": _REPUTATION,
    "rtr:bl": _REPUTATION,
    "con:b": _REPUTATION,
    "dyn:t": _REPUTATION,
    "hvu:b": _CONTENT,  # a link in the message
})  # fmt: skip
# Tencent: service.mail.qq.com/detail/122, a page for each kind of refusal
_TENCENT = Codes("mail.qq.com/detail/122/", re.compile(r"mail\.qq\.com/detail/122/(\d+)"), {
    "57": _REPUTATION,
    "59": _CONTENT,
    "66": _REPUTATION,
    "71": _CONTENT,
    "72": _AUTH,  # SPF
    "92": _POLICY,  # the recipient refuses it
    "167": ("hard", "invalid_address"),
    "168": _LARGE,
    "169": ("hard", "no_mailbox"),
    "170": _REPUTATION,  # the connection is refused
    "171": _CONTENT,
    **_range(172, 175, _LIMIT),
})  # fmt: skip
# Outlook.com: sendersupport.olc.protection.outlook.com, «Troubleshooting», and Exchange Online:
# learn.microsoft.com, «Non-delivery reports», and the page on 451 4.7.500 to 699
_HOTMAIL = Codes("-00", re.compile(r"(?<![\w-])(sc|dy|ou)-00\d\b"), {
    "sc": _REPUTATION,
    "ou": _REPUTATION,
    "dy": _POLICY,  # a dynamic IP
})  # fmt: skip
_MICROSOFT = Codes("(s", re.compile(r"\((s77714|s77719|s3140|s3150|s775)\)"), {
    "s77714": _LIMIT,  # an IP whose sending pattern changed
    "s77719": _LIMIT,
    "s775": _REPUTATION,
    "s3140": _REPUTATION,
    "s3150": _REPUTATION,
})  # fmt: skip

PROVIDER_CODES: tuple[Codes, ...] = (
    _SPECTRUM, _COX, _COMCAST, _GODADDY, _ORANGE, _NETEASE, _YAHOO, _AOL, _TENCENT, _HOTMAIL,
    _MICROSOFT,
)  # fmt: skip


def explained(text: str) -> Verdict | None:
    """The verdict of the first published code in a text in lower case; ``None`` if it has none."""
    for codes in PROVIDER_CODES:
        if codes.mark in text:
            for code in codes.pattern.findall(text):
                verdict = codes.verdicts.get(code)
                if verdict is not None:
                    return verdict
    return None
