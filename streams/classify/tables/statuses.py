"""Class and reason of a bounce by status code: enhanced codes and plain SMTP replies.

Invariants:
1. Sources: RFC 3463 (the scheme), RFC 5248 and the IANA registry it established, RFC 7504, 7505,
   7293, 8616; Microsoft's list of Exchange Online non-delivery codes for 5.x.y with y > 99.
2. ``PRECISE`` holds unambiguous codes. ``COARSE`` holds codes that servers use for several
   conditions; they count only if the text gives no verdict.
3. Verdicts are those of 5.x.y. A 4.x.y code has the same reason with class soft (RFC 3463, 2.1: the
   condition may pass).
"""

Verdict = tuple[str, str]
"""(bounce_class, bounce_reason)."""

_HARD_MAILBOX: Verdict = ("hard", "no_mailbox")
_HARD_ADDRESS: Verdict = ("hard", "invalid_address")
_HARD_INACTIVE: Verdict = ("hard", "inactive")
_HARD_DNS: Verdict = ("hard", "dns")
_FULL: Verdict = ("soft", "mailbox_full")
_LARGE: Verdict = ("soft", "too_large")
_TIMEOUT: Verdict = ("soft", "timeout")
_SOFT: Verdict = ("soft", "other")
_CONTENT: Verdict = ("block", "content")
_REPUTATION: Verdict = ("block", "reputation")
_POLICY: Verdict = ("block", "policy")
_AUTH: Verdict = ("block", "auth")
_RELAY: Verdict = ("block", "relay_denied")

PRECISE: dict[str, Verdict] = {
    # RFC 3463 3.2, addressing
    "1.1": _HARD_MAILBOX,
    "1.2": _HARD_DNS,
    "1.3": _HARD_ADDRESS,
    "1.4": _HARD_ADDRESS,
    "1.6": _HARD_MAILBOX,  # moved, no forwarding address
    "1.7": _POLICY,  # the sender's address is malformed
    "1.8": _POLICY,  # the sender's domain does not resolve
    # RFC 3463 3.3, mailbox
    "2.2": _FULL,
    "2.3": _LARGE,
    # RFC 3463 3.4, mail system
    "3.1": _SOFT,
    "3.4": _LARGE,
    # RFC 3463 3.5, network and routing
    "4.3": ("soft", "dns"),
    "4.6": _SOFT,  # routing loop: the recipient's set-up is broken, the address may be fine
    "4.7": _TIMEOUT,
    # RFC 3463 3.7, content or media
    "6.1": _CONTENT,
    "6.2": _CONTENT,
    "6.3": _CONTENT,
    "6.5": _CONTENT,
    # RFC 3463 3.8 and RFC 5248, security or policy
    "7.2": _POLICY,
    "7.8": _AUTH,
    "7.9": _AUTH,
    "7.10": _POLICY,
    "7.11": _POLICY,
    "7.14": _AUTH,
    "7.16": _LARGE,
    "7.17": _HARD_INACTIVE,  # RFC 7293: the mailbox has another owner now
    "7.18": _HARD_INACTIVE,  # RFC 7293: the domain has another owner now
    "7.20": _AUTH,  # RFC 7372, as are the next ones
    "7.21": _AUTH,
    "7.22": _AUTH,
    "7.23": _AUTH,
    "7.24": _AUTH,
    "7.25": _AUTH,
    "7.26": _AUTH,
    "7.28": _REPUTATION,
    # Microsoft, Exchange Online
    "1.90": _POLICY,
    "1.351": _HARD_MAILBOX,
    "2.121": ("soft", "policy"),
    "2.122": ("soft", "policy"),
    "4.14": _SOFT,  # routing loop
    "4.300": _TIMEOUT,
    "4.310": _HARD_DNS,
    "4.312": ("soft", "dns"),
    "4.316": _TIMEOUT,
    "7.54": _RELAY,
    "7.57": _AUTH,
    "7.64": _RELAY,
    "4.317": _POLICY,  # TLS, as are 7.321 to 7.325 but one
    "7.12": _POLICY,
    "7.124": _POLICY,
    "7.129": _POLICY,
    "7.133": _POLICY,
    "7.134": _POLICY,
    "7.135": _POLICY,
    "7.136": _POLICY,
    "7.193": _POLICY,
    "7.321": _POLICY,
    "7.322": _POLICY,
    "7.323": _POLICY,
    "7.325": _POLICY,
    "7.324": ("soft", "dns"),  # DNSSEC of the recipient's domain is broken
    "7.501": _REPUTATION,
    "7.502": _REPUTATION,
    "7.503": _REPUTATION,
    "7.504": _POLICY,
    "7.506": _POLICY,
    "7.507": _POLICY,
    "7.508": _POLICY,
    "7.509": _AUTH,
    "7.510": _POLICY,
    "7.511": _REPUTATION,
    "7.512": _CONTENT,
    "7.513": _POLICY,
    "7.515": _AUTH,
    "7.703": _POLICY,
    "7.705": _REPUTATION,
    "7.708": _REPUTATION,
    "7.750": _POLICY,
    "7.850": _REPUTATION,
}
"""``subject.detail`` of an enhanced status -> verdict of the 5.x.y form."""

COARSE: dict[str, Verdict] = {
    "1.0": _HARD_MAILBOX,
    "1.10": _HARD_MAILBOX,  # null MX (RFC 7505), but «recipient not found» at Exchange Online
    "2.0": _SOFT,
    "2.1": _HARD_INACTIVE,  # disabled mailbox (RFC 3463), but «too much mail» at Gmail
    "2.4": _SOFT,
    "3.0": _SOFT,
    "3.2": _SOFT,
    "3.3": _SOFT,
    "3.5": _SOFT,
    "4.0": _SOFT,
    "4.1": _TIMEOUT,  # no answer from host, but «recipient rejected» at Exchange Online
    "4.2": _TIMEOUT,
    "4.4": _HARD_DNS,
    "4.5": _SOFT,  # congestion (RFC 3463), but also a full disk
    "5.3": ("soft", "policy"),  # too many recipients
    "6.0": _CONTENT,
    "6.4": _CONTENT,
    "7.0": _POLICY,
    "7.1": _POLICY,
    "7.7": _CONTENT,
    "7.13": _HARD_INACTIVE,
    "7.27": _AUTH,  # sender's domain takes no mail (RFC 7505), but «SPF did not pass» at Gmail
    "7.29": _AUTH,  # broken ARC chain (RFC 8617), but «no TLS» at Gmail
    "7.30": _AUTH,  # REQUIRETLS (RFC 8689), but «DKIM did not pass» at Gmail
}
"""The same for ambiguous codes."""

COARSE_SUBJECTS: dict[str, Verdict] = {
    # not "1": 5.1.5 is a valid address, 5.1.20 several senders; hard needs a code that is known
    "2": _SOFT,
    "3": _SOFT,
    "4": _SOFT,
    "5": _SOFT,
    "6": _CONTENT,
    "7": _POLICY,
}
"""``subject`` -> verdict of the 5.x.y form, for details in neither table."""

SENDER_BANNED_DETAILS = range(606, 650)
"""5.7.606 to 5.7.649: Microsoft's «banned sending IP»."""

SMTP_PRECISE: dict[int, Verdict] = {
    512: ("hard", "dns"),  # not in RFC 5321: Exchange and others, «host unknown»
    525: _HARD_INACTIVE,  # RFC 4954 and 5248: user account disabled
    530: _AUTH,
    534: _AUTH,
    535: _AUTH,
    538: _AUTH,
    556: ("hard", "dns"),  # RFC 7504: the domain takes no mail
}
"""Unambiguous replies."""

COMMAND_ERRORS: dict[int, Verdict] = {500: _SOFT, 502: _SOFT, 503: _SOFT, 504: _SOFT}
"""Replies to a wrong command or sequence (RFC 5321, 4.2.2), whatever the words."""

SMTP_COARSE: dict[int, Verdict] = {
    501: _HARD_ADDRESS,
    521: _POLICY,  # the host accepts no mail (RFC 7504), but AOL and AT&T use it for blocks
    523: _LARGE,
    550: ("hard", "other"),
    551: _HARD_MAILBOX,
    552: _FULL,
    553: _HARD_ADDRESS,
}
"""Replies that count only without any text (RFC 5321, 4.2.2)."""
