"""What the requests to a source say of its silence: that none came, or that all were refused.

Invariants:
1. Pure.
2. Anyone can post to a hook, so refusals alone open no incident of a source that has a rhythm: they
   only cut its patience down to the longest gap of a usual week. They have to last
   (``EARLY_S``, ``EARLY_SLOTS``), to be many (``EARLY_REQUESTS``), and ``OVER_BEFORE`` times as
   frequent as on the day before the last request that was accepted.
3. A source without a rhythm has an incident once everything was refused for ``YOUNG_S``. Nothing is
   known to be missing then, so strangers' requests (``of_senders``) neither open it nor keep it
   open: whoever looks for open doors posts for hours.
"""

from datetime import UTC, datetime
from typing import Final, NamedTuple

SILENT, REFUSED, UNREADABLE, REPEATS = "silent", "refused", "unreadable", "repeats"
"""Causes, see ``source_alert``; an empty text: it is not known."""
EARLY_S = 1_200
EARLY_SLOTS = 3
"""Of five minutes, with refusals."""
EARLY_REQUESTS = 5
OVER_BEFORE = 5.0
YOUNG_S = 3_600
YOUNG_SLOTS = 6
FORGOTTEN_S = 7 * 86_400
"""Without a refusal for so long, an incident of a source without a rhythm is over."""
_DAY_S = 86_400
_HOUR_S = 3_600
_MARGIN_US = 60_000_000
"""Between a request's answer and the time at which its events were received."""

_MISSING: Final = (
    "They carry no proof, or not where it belongs: look at the provider whether signing is switched"
    " off, and whether a proxy removes headers or changes the body."
)
_CLOCK: Final = (
    "Their time is too far from the clock of ingress: synchronise that (NTP), and look whether a"
    " proxy holds requests back."
)
_KEY: Final = (
    "Most often the key was changed at the provider: put the new one into the source's settings,"
    " beside the old one while both are used. «mailpulse capture {source}» shows who posts."
)
_LIMIT: Final = "They are beyond a limit of ingress: «mailpulse config show» names it."
_OURS: Final = (
    "The cause lies on this side: see the log of ingest, and «mailpulse doctor» (Kafka away, a"
    " secret that is not set)."
)
_ADVICE: Final = {
    "forbidden": (
        "Their addresses are not in the source's allow_ips: «mailpulse sources refresh» reads what"
        " the provider publishes."
    ),
    "https_required": (
        "They arrive as plain HTTP: name the proxy in MAILPULSE_TRUSTED_PROXIES, or let it pass"
        " X-Forwarded-Proto on."
    ),
    "rate_limited": "They are more than the source's rate allows: raise rate_per_s.",
    "unavailable": _OURS,
    "overloaded": _OURS,
    "internal": _OURS,
    UNREADABLE: (
        "They are kept as dead letters: «mailpulse dlq ls» says what can't be read; after an"
        " upgrade «mailpulse dlq resend» takes them in."
    ),
}
_NOT_OF_THE_PROVIDER: Final = ("not_found", "method_not_allowed")
"""Results of requests that are made by hand, or by whoever looks for open doors."""


_OF_SENDERS: Final = ("unavailable", "overloaded", "internal", UNREADABLE)
"""Results of requests whose proof was right, or could not be judged."""


class Kind(NamedTuple):
    """Requests without events since the last one with some, of one result: a row of the view
    ``source_refusals``; times are microseconds since 1970.

    Attributes:
        before: as many of this kind came on the day before.
    """

    result: str
    reason: str
    requests: int
    since_us: int
    until_us: int
    slots: int
    before: int

    @property
    def name(self) -> str:
        """For people and records: result and reason."""
        return f"{self.result}/{self.reason}" if self.reason else self.result


class Requests(NamedTuple):
    """What is known of the requests to a source.

    Attributes:
        accepted_us: when the last one with events was accepted; 0: not known.
        kinds: what came since.
    """

    accepted_us: int
    kinds: tuple[Kind, ...] = ()


class Facts(NamedTuple):
    """What of them is told with an incident; see ``source_alert``."""

    cause: str = ""
    accepted_until: int | None = None
    refused_since: int | None = None
    refused_until: int | None = None
    refused: int = 0
    refusal: str = ""


NOTHING_KNOWN: Final = Facts()


def of_senders(requests: Requests) -> Requests:
    """Without what any stranger sends: requests without a proof, from addresses that are not
    allowed, beyond limits, in plain HTTP. One with a wrong proof has seen where a right one is."""
    kinds = tuple(one for one in requests.kinds if _is_of_sender(one))
    return requests._replace(kinds=kinds)


def _is_of_sender(one: Kind) -> bool:
    if one.result == "unauthorized":
        return not one.reason.startswith("missing")
    return one.result in _OF_SENDERS


def facts_of(requests: Requests | None, last_us: int) -> Facts:
    """What requests say of a source of which nothing came since ``last_us`` (0: ever)."""
    if requests is None:
        return NOTHING_KNOWN
    kinds = _since(requests, last_us)
    accepted = max(requests.accepted_us, last_us)
    if not kinds:
        is_repeats = requests.accepted_us > last_us + _MARGIN_US
        cause = "" if not requests.accepted_us else REPEATS if is_repeats else SILENT
        return Facts(cause, accepted or None)
    most = max(kinds, key=lambda one: (one.requests, one.name))
    cause = UNREADABLE if most.result == UNREADABLE else REFUSED
    if not _is_unusual(kinds):
        cause = SILENT
    return Facts(
        cause, accepted or None, min(one.since_us for one in kinds),
        max(one.until_us for one in kinds), sum(one.requests for one in kinds), most.name,
    )  # fmt: skip


def _since(requests: Requests, last_us: int) -> list[Kind]:
    """Those that a provider may have sent, and that came after everything that was accepted."""
    last_us = max(last_us, requests.accepted_us)
    return [
        one
        for one in requests.kinds
        if one.until_us > last_us and one.result not in _NOT_OF_THE_PROVIDER
    ]


def _is_unusual(kinds: list[Kind]) -> bool:
    """Whether there are more of them than there were while others were accepted."""
    lasted_s = (max(one.until_us for one in kinds) - min(one.since_us for one in kinds)) / 1e6
    usual = sum(one.before for one in kinds) / _DAY_S * max(_HOUR_S, lasted_s)
    return sum(one.requests for one in kinds) >= OVER_BEFORE * usual


def is_refused(requests: Requests | None, last_us: int, *, young: bool) -> bool:
    """Whether refusals are evident (invariants 2 and 3).

    Args:
        young: no rhythm is known of the source.
    """
    facts = facts_of(requests, last_us)
    if requests is None or facts.cause not in (REFUSED, UNREADABLE):
        return False
    since, until = facts.refused_since or 0, facts.refused_until or 0
    slots = max(one.slots for one in _since(requests, last_us))
    least_s, least_slots = (YOUNG_S, YOUNG_SLOTS) if young else (EARLY_S, EARLY_SLOTS)
    lasts = until - since >= least_s * 1_000_000 and slots >= least_slots
    return lasts and facts.refused >= EARLY_REQUESTS


def lasts(requests: Requests | None, last_us: int, now_us: int) -> bool:
    """Whether anything was refused lately (``FORGOTTEN_S``), and nothing accepted since."""
    kinds = [] if requests is None else _since(requests, last_us)
    return any(one.until_us > now_us - FORGOTTEN_S * 1_000_000 for one in kinds)


def advice(source: str, facts: Facts) -> str:
    """What was refused, from when to when, and what to do about it."""
    result, _, reason = facts.refusal.partition("/")
    if result == UNREADABLE:
        fate = "brought nothing that can be read"
    else:
        fate = f"were refused, most of them as {result}" + (f" ({reason})" if reason else "")
    accepted = "None with events was accepted before."
    if facts.accepted_until:
        accepted = f"The last one with events was accepted at {_moment(facts.accepted_until)}."
    since = _moment(facts.refused_since or 0)
    number = f"All {facts.refused:,} requests" if facts.refused > 1 else "The only request"
    fate = fate if facts.refused > 1 else fate.replace("were refused, most of them", "was refused")
    return f"{number} since {since} {fate}. {accepted} {_remedy(result, reason, source)}"


def _remedy(result: str, reason: str, source: str) -> str:
    if result == "unauthorized":
        if "timestamp" in reason and not reason.startswith(("missing", "bad")):
            return _CLOCK
        if reason.startswith("missing"):
            return _MISSING
        return _KEY.format(source=source)
    return _ADVICE.get(result, _LIMIT)


def _moment(at_us: int) -> str:
    return f"{datetime.fromtimestamp(at_us // 1_000_000, UTC):%Y-%m-%d %H:%M} UTC"
