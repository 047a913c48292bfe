"""Patterns of diagnostic texts.

Laws of this file:
1. Rules are asked in order and the first that fits wins, so narrow ones stand before broad ones.
2. A rule fits when the text, in lower case with runs of white space as one blank, contains any of
   ``any_of`` and none of ``none_of``.
3. ``bounce_class`` is that of a permanent refusal; a 4yz reply makes it soft (``classify``).
4. Only wording that says what is wrong: a bare «rejected» or «denied» is no evidence.
"""

from typing import NamedTuple

VERSION = 1


class Rule(NamedTuple):
    """One pattern. ``name`` is unique and stable: examples in the tests refer to it."""

    name: str
    bounce_class: str
    bounce_reason: str
    any_of: tuple[str, ...]
    none_of: tuple[str, ...] = ()


RULES: tuple[Rule, ...] = (
    Rule("suppressed_bounce", "suppressed", "suppressed_bounce",
         ("bounced address", "suppression list", "previously bounced")),
    Rule("mailbox_full", "soft", "mailbox_full",
         ("mailbox full", "mailbox is full", "over quota", "quota exceeded", "overquota",
          "out of storage space", "exceeded storage", "insufficient storage", "mailbox quota")),
    Rule("too_large", "soft", "too_large",
         ("message too large", "message size exceeds", "exceeds size limit", "message is too big")),
    Rule("auth", "block", "auth",
         ("dmarc", "spf check failed", "dkim", "unauthenticated", "not authenticated")),
    Rule("blocklist", "block", "reputation",
         ("spamhaus", "blacklist", "blocklist", "block list", "blocked using", "spamcop",
          "barracudacentral", "bad reputation", "poor reputation", "senderscore")),
    Rule("content", "block", "content",
         ("spam", "virus", "malware", "content rejected", "message content", "phish")),
    Rule("relay", "block", "relay_denied",
         ("relaying denied", "relay access denied", "unable to relay", "relay not permitted")),
    Rule("inactive", "hard", "inactive",
         ("account disabled", "mailbox disabled", "account is disabled", "inactive", "suspended")),
    Rule("no_mailbox", "hard", "no_mailbox",
         ("user unknown", "unknown user", "no such user", "does not exist", "mailbox unavailable",
          "recipient not found", "no mailbox here", "invalid recipient", "unknown recipient",
          "address unknown", "mailbox not found", "user not found", "no such mailbox")),
    Rule("dns", "hard", "dns",
         ("domain not found", "host not found", "nxdomain", "no mx", "unrouteable address")),
    Rule("timeout", "soft", "timeout",
         ("timed out", "timeout", "connection refused", "connection reset", "expired")),
    Rule("greylist", "soft", "policy",
         ("greylist", "graylist", "rate limit", "too many", "try again later")),
)  # fmt: skip
