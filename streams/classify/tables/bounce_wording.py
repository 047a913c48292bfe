"""What a rule for diagnostics is, and wording that several rules share.

Invariant: pure data. Texts are as ``streams.classify.bounce.words_of`` makes them: lower case, with
one space between words, without addresses and ids.
"""

import re
from typing import NamedTuple


class Rule(NamedTuple):
    """One rule. It fits a text that holds one of ``any_of``, none of ``none_of``, and ``pattern``.

    Attributes:
        name: unique and stable: examples in the tests refer to it.
        bounce_class, bounce_reason: the verdict on a permanent refusal.
        any_of: texts of three characters or more, by which rules are looked up.
        certain: it outranks an unambiguous status code.
        links: it is tried on host and path of links too.
        soft_reason: in place of ``bounce_reason`` where the verdict becomes soft.
    """

    name: str
    bounce_class: str
    bounce_reason: str
    any_of: tuple[str, ...]
    none_of: tuple[str, ...] = ()
    certain: bool = False
    links: bool = False
    pattern: re.Pattern[str] | None = None
    soft_reason: str = ""


# Phrases with too many variants to list: who («user», «mailbox» …) and what («unknown», «does not
# exist» …), a few words apart, in either order.
WHOM = (
    r"\b(?:user|recipient|mailbox|account|address|addressee|alias|person|local[ -]?part|id|"
    r"mail address|destination|target)s?\b"
)
UNKNOWN_AFTER = re.compile(
    WHOM
    + r"[^.;:]{0,30}?\b(?:unknown|unrecogni[sz]ed|invalid|undeliverable|nonexist\w*|inexist\w*|"
    r"no longer exists?|no(?:t|n) (?:be )?(?:exists?|found|known|valid|recogni[sz]ed|verified|"
    r"ok\b|registered|a member|member of|listed|in the directory|in our|available)|has moved|"
    r"no exists?|(?:can|could|do|does|did)(?: ?not|n'?t) "
    r"(?:be )?(?:exist|found|have an account|verified|resolved))"
)
UNKNOWN_BEFORE = re.compile(
    r"\b(?:unknown|invalid|no such|no valid|no|wrong|bad|nonexistent|not an?|not any|not our) "
    r"(?:\w+ ){0,2}?(?:" + WHOM + r"|customer|member)"
    r"|\bnot have an? (?:account|mailbox)"
)
CLOSED = re.compile(
    WHOM + r"[^.;:]{0,25}?\b(?:disabled|inactive|inactivated|suspended|locked|closed|expired?|"
    r"deactivated|frozen|archived|terminated|cancell?ed|not activated|not active|on hold|deleted|"
    r"removed|dormant|overdue|restricted|retired|due to inactivity)"
    r"|\bmailbox (?:\w+ ){0,3}blocked"
    r"|\b(?:inactive|suspended|disabled|expired|closed|deleted|dormant|frozen) "
    r"(?:user|recipient|mailbox|account|address)"
)
FULL = re.compile(
    WHOM + r"[^.;:]{0,30}?\b(?:full|overfull|no (?:more |free |enough )?space|out of space|"
    r"exceed\w* (?:\w+ ){0,3}(?:size|storage|space|limit)s?|not enough space)"
)
_SENDER = r"(?:sender|mail ?from|envelope[ -]from|return[ -]path|from address|from domain)"
SENDER_BAD = re.compile(
    r"\b" + _SENDER + r"\b[^;]{0,40}?\b(?:reject|refus|denied|deny|invalid|unvalidated|fail|fake|"
    r"forge|restrict|not allowed|not permitted|not in |not exist|must exist|has no |mismatch|"
    r"blocked|unknown|unresolv)"
    r"|\b(?:fake|invalid|forged|bad|unknown|denies the|verify|refuse the) (?:\w+ )?" + _SENDER
)
ADDRESS_OF_HOST_BAD = re.compile(
    r"\bip(?: address)?\b[^;]{0,25}?\b(?:reject|block|banned|denied|refused|forbidden|hangup)"
    r"|\b(?:your|the sending) (?:host|server|network|mail server|mta)\b[^;.]{0,25}?"
    r"\b(?:block|banned|denied|listed|history)"
)

PASSING = re.compile(
    r"\btemporar(?:y|ily)\b|\b(?:try|retry)(?: \w+)? later\b|\bthis hour\b|\bfor the day\b"
    r"|\b(?:daily|hourly) limit\b|\btoday\b"
)
"""Words that say that a refusal will pass, whatever the reply code."""
LASTING = re.compile(r"\bpermanently deferred\b|\bwill not succeed\b")
"""Words that say that it won't; they outrank both the code and ``PASSING``."""

SENDERS_QUOTA = re.compile(
    r"(?:daily|weekly|monthly|hourly|package|plan|sending|sender)[ _](?:\w+[ _]){0,2}quota"
)

NO_PERSON = (
    "domain name", "domain does not", "domain not", "domain must", "recipient domain",
    "nonexistent domain", "nonexistentdomain", "non-existent domain", "mail domain",
    "hostname", "host name", "host not", "host does", "host unknown", "unknown host",
    "no such host", "client host", "non-existent host", "dns", "mx ", "sender", "mail from",
    "ip address", "message-id", "message id",
)  # fmt: skip
"""«not found» is said of domains, hosts, senders and messages too."""
