"""Why a message bounced, and how bad that is.

Laws of this file:
1. Pure, and never raises on outside input.
2. Order of belief: the provider's flag for the class; then an enhanced status that means one
   thing; then an SMTP reply that means one thing; then the words of the diagnostic; then codes
   that servers use for many things (5.0.0, 5.7.1, a bare 550) by their first digit.
3. The reason may be more precise than the provider's: a flag says «hard», the text says why.
4. A reply that starts with 4 is a soft bounce, whatever the reason (RFC 5321 4.2.1, RFC 3463 2.1).
5. Every answer is in the vocabulary of ``schemas.event``.
"""

import re
from functools import lru_cache

from streams.rules.bounces import RULES
from streams.rules.bounces import VERSION as RULES_VERSION
from streams.rules.statuses import (
    COARSE,
    COARSE_SUBJECTS,
    PRECISE,
    SENDER_BANNED_DETAILS,
    SMTP_COARSE,
    SMTP_PRECISE,
    Verdict,
)

__all__ = ["RULES_VERSION", "classify_bounce"]

CACHED_MAX = 4096
"""Distinct bounces remembered; a diagnostic is at most 2 kB, so at most about 10 MB."""

NO_BOUNCE: Verdict = ("none", "none")
_FLAGS = frozenset({"hard", "soft", "block", "suppressed"})
_VAGUE_REASONS = frozenset({"", "none", "other"})
_FAILURES = frozenset({"bounced", "failed", "rejected"})

_ENHANCED = re.compile(r"(?<![\d.])([245])\.(\d{1,3})\.(\d{1,3})(?!\.?\d)")
_REPLY = re.compile(r"(?<![\d.#:-])([45][0-5]\d)(?=[ -])")
_SPACES = re.compile(r"\s+")


def classify_bounce(
    event_type: str,
    provider_class: str,
    provider_reason: str,
    enhanced_status: str | None,
    smtp_code: int | None,
    diagnostic: str | None,
) -> Verdict:
    """Class and reason of a bounce.

    Args:
        event_type: a value of ``EventType``.
        provider_class: what the provider's flag says, a value of ``BounceClass``.
        provider_reason: what the provider's flag says, a value of ``BounceReason``.
        enhanced_status: ``x.y.z``; looked for in the diagnostic when ``None``.
        smtp_code: three digits; looked for in the diagnostic when ``None``.
        diagnostic: the receiving server's words, or a delivery status notification.

    Returns:
        ``(bounce_class, bounce_reason)``. A bounce without evidence is ``undetermined``. A failed
        or rejected event has a class only when something gives one. A deferral has no class, for
        it is no bounce, but a reason. Everything else is ``("none", "none")``.
    """
    if event_type == "bounced" or event_type == "deferred" or event_type in _FAILURES:
        return _classify(
            event_type, provider_class, provider_reason, enhanced_status, smtp_code, diagnostic
        )
    return NO_BOUNCE


@lru_cache(maxsize=CACHED_MAX)
def _classify(
    event_type: str,
    provider_class: str,
    provider_reason: str,
    enhanced_status: str | None,
    smtp_code: int | None,
    diagnostic: str | None,
) -> Verdict:
    flag = provider_class if provider_class in _FLAGS else ""
    reason = "" if provider_reason in _VAGUE_REASONS else provider_reason
    found_class, found_reason = _evidence(enhanced_status, smtp_code, diagnostic)
    bounce_class = flag or found_class
    bounce_reason = reason or found_reason or ("other" if provider_reason == "other" else "")
    if event_type == "deferred":
        return ("none", bounce_reason or "none")
    if not bounce_class:
        bounce_class = "undetermined" if event_type == "bounced" else "none"
    return (bounce_class, bounce_reason or ("other" if diagnostic else "none"))


def _evidence(status: str | None, code: int | None, diagnostic: str | None) -> Verdict:
    """What codes and words say; ``("", "")`` when nothing."""
    text = _SPACES.sub(" ", diagnostic).strip().lower() if diagnostic else ""
    match = _ENHANCED.search(status or text)
    if match is None and status:
        match = _ENHANCED.search(text)
    digit = match.group(1) if match else ""
    detail = f"{int(match.group(2))}.{int(match.group(3))}" if match else ""
    if code is None or not 400 <= code <= 599:
        reply = _REPLY.search(text)
        code = int(reply.group(1)) if reply else None
    verdict = PRECISE.get(detail) or SMTP_PRECISE.get(code or 0) or _by_words(text)
    if verdict is None:
        verdict = _coarse(digit, detail, code)
    soft = digit == "4" or (not digit and code is not None and code < 500)
    return ("soft", verdict[1]) if soft and verdict[0] not in ("", "suppressed") else verdict


def _by_words(text: str) -> Verdict | None:
    if not text:
        return None
    for rule in RULES:
        for needle in rule.any_of:
            if needle in text and not any(other in text for other in rule.none_of):
                return (rule.bounce_class, rule.bounce_reason)
    return None


def _coarse(digit: str, detail: str, code: int | None) -> Verdict:
    """The fall-back: codes that say little."""
    if digit and digit != "2":
        known = COARSE.get(detail)
        if known is not None:
            return known
        subject, _, rest = detail.partition(".")
        if subject == "7" and int(rest) in SENDER_BANNED_DETAILS:
            return ("block", "reputation")
        known = COARSE_SUBJECTS.get(subject)
        if known is not None:
            return known
    if code is not None:
        return SMTP_COARSE.get(code) or (("soft", "other") if code < 500 else ("hard", "other"))
    return ("soft", "other") if digit == "4" else ("", "")
