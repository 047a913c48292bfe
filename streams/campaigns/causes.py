"""The likely cause of an incident, as far as counts by mailbox provider and time show it, and what
to do about it. Reasons, sources and tags are in the events: ``mailpulse alerts show`` asks there.

Invariants:
1. Pure. The same counts give the same words.
2. A cause is named only if it explains most of what is wrong and the rest is clearly better.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

Figures = tuple[int, int]
"""Numerator and denominator."""
SHARE_MIN = 0.7
"""A cause explains at least this share of the bad messages …"""
BETTER_MAX = 0.5
"""… and the rate of all other messages is at most this part of its own."""

NO_DELIVERIES = "no_deliveries"
MAILBOX_PROVIDER = "mailbox_provider"
TIME = "time"
EVERYWHERE = "everywhere"


class Cause(NamedTuple):
    """A likely cause.

    Attributes:
        kind: ``no_deliveries``, ``mailbox_provider``, ``time`` or ``everywhere``.
        name: the mailbox provider, or the hour or day (UTC) of the messages; else empty.
        share: part of the bad messages that it explains.
    """

    kind: str
    name: str
    share: float


def likely(
    by_mailbox: Mapping[str, Figures], by_time: Mapping[str, Figures], *, no_deliveries: bool
) -> Cause:
    """The cause that the counts of a judged window point to.

    Args:
        by_mailbox: figures by mailbox provider.
        by_time: figures by the hour or day of the messages.
        no_deliveries: no delivery was told of what was sent in the window.
    """
    if no_deliveries:
        return Cause(NO_DELIVERIES, "", 1.0)
    for kind, parts in ((MAILBOX_PROVIDER, by_mailbox), (TIME, by_time)):
        name, share = _outstanding(parts)
        if name:
            return Cause(kind, name, share)
    return Cause(EVERYWHERE, "", 1.0)


def _outstanding(parts: Mapping[str, Figures]) -> tuple[str, float]:
    """The part that explains what is wrong, and its share; '' if none does."""
    above = sum([figures[0] for figures in parts.values()])
    below = sum([figures[1] for figures in parts.values()])
    if above <= 0:
        return "", 0.0
    name = max(sorted(parts), key=lambda one: parts[one][0])
    bad, messages = parts[name]
    others = below - messages
    if others <= 0 or messages <= 0 or bad < SHARE_MIN * above:
        return "", 0.0
    if (above - bad) / others > BETTER_MAX * bad / messages:
        return "", 0.0
    return name, bad / above


_WHERE = {
    NO_DELIVERIES: "No delivery was reported at all: check that the provider's webhook sends"
    " delivery events, before you believe this rate. ",
    MAILBOX_PROVIDER: "{share} of it is at {name}. ",
    TIME: "{share} of it is mail of {name} UTC: look at the list and the content of that send. ",
    EVERYWHERE: "No mailbox provider and no time stands out. ",
}
_BOUNCES = (
    "Stop the send, and find where these addresses come from: an old or bought list, or a form"
    " without a check. Addresses that bounced for good are suppressed already."
)
_REFUSED = (
    "Read the bounce reasons and the mailbox provider's postmaster page: reputation, policy,"
    " authentication (SPF, DKIM, DMARC) or content. Send less there until it is resolved."
)
_UNWANTED = (
    "Stop the send, and check who is on the list and since when, how often they are mailed, and"
    " whether the unsubscribe link is easy to find. Mail first those who clicked lately."
)
_ADVICE = {
    "complaint_rate": _UNWANTED,
    "unsubscribe_rate": _UNWANTED,
    "soft_bounce_rate": _REFUSED,
    "block_bounce_rate": _REFUSED,
}


def advice(rate: str, cause: Cause) -> str:
    """What the counts say of the cause, and what to do, in words for people."""
    percent = math.floor(100 * cause.share)  # never 100 % while some of it is elsewhere
    where = _WHERE[cause.kind].format(name=cause.name, share=f"{percent} %")
    return where + _ADVICE.get(rate, _BOUNCES)
