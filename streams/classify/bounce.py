"""Classifies bounces: class and reason.

Invariants:
1. Pure, and never raises on input from outside.
2. Evidence is weighed in this order: the provider's flag (class only); an unambiguous enhanced
   status; an unambiguous SMTP reply; the words of the diagnostic; ambiguous codes (5.0.0, 5.7.1, a
   bare 550). Servers do send wrong status codes, so wording with one meaning only (rules marked
   ``certain``) outranks a status, but never the flag.
3. The reason may be more precise than the provider's: its flag says hard, the text says why. The
   provider's own reason counts before the text, unless a status and words agree on another one:
   «5.2.2 over quota» is a full mailbox, whatever category the provider has put it in. Why an
   address is suppressed is the provider's to say, so only such words are evidence for it.
4. A reply that starts with 4 is a soft bounce, whatever the reason (RFC 5321 4.2.1, RFC 3463 2.1).
   Explicit words of time outrank the digit: «retrying will NOT succeed» after 421 is not soft,
   «try again later» after 550 is, because a hard bounce would suppress a working address for good.
5. What the provider rejected, or failed to send, is judged by words alone only as to whether the
   address is on its suppression list: without a reply code no receiving server has answered, and
   the provider's words are about the message («template does not exist»), not about the address.
6. A single word without a code never makes a hard bounce: it is a category («unknown»), no reply.
7. If a relay quotes the reply of the server behind it, the quoted codes and words count before its
   own, words of time (invariant 4) too: a relay's «temporarily» says nothing of a quoted 5.1.1.
8. A published code of a mailbox provider counts before the words around it
   (``tables/provider_codes.py``).
9. A refusal in reply to MAIL FROM or EHLO came before the recipient was named, so it says nothing
   of the mailbox.
10. Every result is in the vocabulary of ``schemas.event``.
"""

import re
from collections import Counter
from functools import lru_cache
from typing import NamedTuple

from streams.classify.dsn import PERMANENT, TEMPORARY, is_dsn, read_dsn
from streams.classify.tables.bounce_wording import LASTING, PASSING, Rule
from streams.classify.tables.bounces import RULES
from streams.classify.tables.bounces import VERSION as RULES_VERSION
from streams.classify.tables.provider_codes import explained
from streams.classify.tables.statuses import (
    COARSE,
    COARSE_SUBJECTS,
    COMMAND_ERRORS,
    PRECISE,
    SENDER_BANNED_DETAILS,
    SMTP_COARSE,
    SMTP_PRECISE,
    Verdict,
)

__all__ = ["RULES_VERSION", "classify_bounce", "links_of", "matches", "rule_of", "words_of"]

CACHED_MAX = 4096
"""Distinct bounces cached; a diagnostic is at most 2 kB, so at most about 10 MB."""

NO_BOUNCE: Verdict = ("none", "none")
NOTHING: Verdict = ("", "")
_NOTIFIED: dict[str, Verdict] = {PERMANENT: ("hard", "other"), TEMPORARY: ("soft", "other")}
_FLAGS = frozenset({"hard", "soft", "block", "suppressed"})
_VAGUE_REASONS = frozenset({"", "none", "other"})
_FAILURES = frozenset({"bounced", "failed", "rejected"})
_OF_THE_PROVIDER = frozenset({"failed", "rejected"})
_OF_THE_ADDRESS = frozenset({"no_mailbox", "invalid_address", "inactive", "mailbox_full"})
_PROVIDERS_OWN = "[internal]"
"""How SparkPost (Momentum) marks a reply that it made itself, with a code, in a server's place."""
_OF_A_LIST = frozenset({"suppressed_bounce", "suppressed_complaint", "suppressed_unsubscribe"})

_ENHANCED = re.compile(r"(?<![\d.])([45])\.(\d{1,3})\.(\d{1,3})(?!\.?\d)")
_REPLY = re.compile(r"(?<![\d.#:/=-])([45][0-5]\d)(?=[ -]|$)")
_LINK = re.compile(r"(?:https?:// ?|www\.)([^\s?]*)\S*")
_DIGITS = re.compile(r"\d+")
_FRAME = re.compile(
    r"\bhost \S+ (?:said|refused to talk to me):|\(in reply to [^()]*\)"
    r"|\bdelivery temporarily suspended:|\(delivery attempts: \d+\)"
)
_BEFORE_RECIPIENT = re.compile(r"\(in reply to (?:mail from|ehlo|helo)\b[^()]*\)")
_OF_THE_MAILBOX = frozenset({"no_mailbox", "invalid_address", "inactive"})
_FRAMED = (" said:", "in reply to", "to talk to me:", "temporarily suspended:", "(delivery att")
_DIGIT = re.compile(r"\d")
_NO_WORD = re.compile(r"[^a-z]*\Z")
_ID = re.compile(r"(?:[^\d]*\d){3}")
_ID_CHARS_MIN = 9
_QUOTED = re.compile(
    r"(?:->|\bsaid:|\bhost \S+ \[[^\]]*\]:) *[\'\"]?(?=[45][0-5]\d[ -])| (?=[45][0-5]\d-\')"
)
"""Where a relay begins to quote another server's reply; the last is how Cisco's does it."""
_RFC_NUMBERS = frozenset({"2821", "2822", "5321", "5322"})


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
        provider_class: class that the provider reports, a value of ``BounceClass``.
        provider_reason: reason that the provider reports, a value of ``BounceReason``.
        enhanced_status: ``x.y.z``; ``None``: taken from the diagnostic.
        smtp_code: three digits; ``None``: taken from the diagnostic.
        diagnostic: the receiving server's reply, or a delivery status notification.

    Returns:
        ``(bounce_class, bounce_reason)``. A bounce without evidence is ``undetermined``. A failed
        or rejected event has a class only if there is evidence for one. A deferral is not a bounce,
        so it has a reason but no class. Everything else is ``("none", "none")``.
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
    evidence = _evidence(enhanced_status, smtp_code, diagnostic)
    found_class, found_reason = evidence.verdict
    if found_class != "suppressed":
        if event_type in _OF_THE_PROVIDER and not evidence.coded:
            found_class = ""
            if found_reason in _OF_THE_ADDRESS:
                found_reason = ""
    if flag == "suppressed" and (found_class != "suppressed" or provider_reason == "other"):
        found_reason = ""
    if evidence.agreed and found_reason and reason not in _OF_A_LIST:
        reason = found_reason
    bounce_class = flag or found_class
    bounce_reason = reason or found_reason or ("other" if provider_reason == "other" else "")
    if event_type == "deferred":
        return ("none", bounce_reason or "none")
    if not bounce_class:
        bounce_class = "undetermined" if event_type == "bounced" else "none"
    return (bounce_class, bounce_reason or ("other" if diagnostic else "none"))


class Evidence(NamedTuple):
    """What codes and words say.

    Attributes:
        verdict: class and reason; ``("", "")`` without evidence.
        coded: a receiving server has answered: there is a reply code, a status or a notification.
        agreed: an unambiguous status and certain words give the same reason.
    """

    verdict: Verdict
    coded: bool
    agreed: bool


def _evidence(status: str | None, code: int | None, diagnostic: str | None) -> Evidence:
    """The evidence of codes and words."""
    bounced = ""
    text = diagnostic or ""
    if is_dsn(text):
        field_status, text, bounced = read_dsn(text)
        status = status or field_status
    text = " ".join(text.split()).lower()
    quoted = _quoted_reply(text)
    match = (
        _ENHANCED.search(quoted)
        or (_ENHANCED.search(status) if status else None)
        or _ENHANCED.search(text)
    )
    digit = match.group(1) if match else ""
    detail = f"{int(match.group(2))}.{int(match.group(3))}" if match else ""
    if quoted or code is None or not 400 <= code <= 599:
        reply = _REPLY.search(quoted or text)
        code = int(reply.group(1)) if reply else None
    words = words_of(text)
    rule = _rule_for(words_of(quoted), "") if quoted else None
    links = links_of(text)
    rule = rule or _rule_for(words, links)
    said = _said(rule, detail)
    coded = bool(match or code or bounced) and _PROVIDERS_OWN not in text
    precise = PRECISE.get(detail)
    agreed = precise is not None and precise == said and rule is not None and rule.certain
    if said is not None and said[0] == "hard" and not coded and " " not in words:
        said = None  # invariant 6
    verdict = (
        explained(quoted or text)
        or (said if rule is not None and rule.certain else None)
        or precise
        or SMTP_PRECISE.get(code or 0)
        or said
        or _coarse(digit, detail, code, bool(words or links))
        or _NOTIFIED.get(bounced, NOTHING)
    )
    if verdict[1] in _OF_THE_MAILBOX and _BEFORE_RECIPIENT.search(text):
        verdict = ("block", "policy")
    soft = digit == "4" or (not digit and code is not None and code < 500)
    timed = words_of(quoted) if quoted else words
    if verdict[0] in ("hard", "block") and (soft or PASSING.search(timed)):
        passes = not LASTING.search(timed)
        softer = rule.soft_reason if rule is not None and verdict is said else ""
        verdict = ("soft", softer or verdict[1]) if passes else verdict
    return Evidence(verdict, coded, agreed)


def _said(rule: Rule | None, detail: str) -> Verdict | None:
    """What a rule says beside a status (``subject.detail``); ``None`` if the status says more."""
    if rule is None:
        return None
    if detail and (detail in rule.yields_to or detail.partition(".")[0] in rule.yields_to):
        return None
    if rule.only_with and detail not in rule.only_with:
        return None
    return (rule.bounce_class, rule.bounce_reason)


def _quoted_reply(text: str) -> str:
    """The innermost reply that a relay quotes; empty if it quotes none."""
    if "->" not in text and "said:" not in text and "]: " not in text and "-'" not in text:
        return ""
    *_, last = _QUOTED.split(text)
    return last if len(last) < len(text) else ""


def words_of(text: str) -> str:
    """A server's reply without its variable parts, so that equal replies give equal text.

    Args:
        text: lower case.

    Returns:
        The text without links, mail and IPv4 addresses, ids and reply codes.
    """
    if "://" in text or "www." in text:
        text = _LINK.sub(" ", text)
    if any(mark in text for mark in _FRAMED):
        text = _FRAME.sub(" ", text)  # added by Postfix
    kept = []
    for token in text.split():
        if not token.isalpha():
            if "@" in token:
                _, _, token = token.rpartition(":")  # what is said of an address: «a@b.c:blocked»
                if "@" in token or not token.strip("<>()").isalpha():
                    continue
            if token[3:4] == "-" and token[:3].isdigit():
                token = token[4:]  # reply code, repeated on each line of a multi-line reply
            if _DIGIT.search(token) and token not in _RFC_NUMBERS:
                if _NO_WORD.match(token):
                    continue  # codes, counts, IPv4
                if len(token) >= _ID_CHARS_MIN and _ID.match(token):
                    continue  # session, queue and host ids
        kept.append(token)
    return " ".join(kept).strip(" .;,:-<>[]()")


def rule_of(diagnostic: str) -> Rule | None:
    """The rule that matches a diagnostic; ``None`` if no rule does."""
    text = " ".join(diagnostic.split()).lower()
    return _rule_for(words_of(text), links_of(text))


def links_of(text: str) -> str:
    """Host and path of every link in a text, without digits and query strings."""
    return _DIGITS.sub("", " ".join(_LINK.findall(text))) if "://" in text or "www." in text else ""


def _index(rules: tuple[Rule, ...]) -> dict[str, int]:
    """Three letters -> rules (bit set by position) with wording that contains them.

    Each wording is filed under those of its letters that are the rarest in all wordings, so few
    rules are tried on a text.
    """
    counts = Counter(
        gram for rule in rules for needle in rule.any_of for gram in _three_letters(needle)
    )
    index: dict[str, int] = {}
    for number, rule in enumerate(rules):
        for needle in rule.any_of:
            rarest = min(_three_letters(needle), key=lambda gram: (counts[gram], gram))
            index[rarest] = index.get(rarest, 0) | 1 << number
    return index


def _three_letters(text: str) -> list[str]:
    return [text[at : at + 3] for at in range(len(text) - 2)]


_INDEX = _index(RULES)


@lru_cache(maxsize=CACHED_MAX)
def _rule_for(words: str, links: str) -> Rule | None:
    """The first rule that matches. Both texts are free of ids, so the cache hits often."""
    both = f"{words} {links}"
    bits = 0
    for gram in _three_letters(both):
        bits |= _INDEX.get(gram, 0)
    while bits:
        lowest = bits & -bits
        rule = RULES[lowest.bit_length() - 1]
        if matches(rule, both if rule.links else words):
            return rule
        bits ^= lowest
    return None


def matches(rule: Rule, text: str) -> bool:
    """Whether a rule matches a text that ``words_of`` has given."""
    return (
        any(needle in text for needle in rule.any_of)
        and not any(other in text for other in rule.none_of)
        and (rule.pattern is None or rule.pattern.search(text) is not None)
    )


def _coarse(digit: str, detail: str, code: int | None, worded: bool) -> Verdict | None:
    """The verdict of ambiguous codes, the last resort."""
    if digit:
        subject, _, rest = detail.partition(".")
        if subject == "7" and int(rest) in SENDER_BANNED_DETAILS:
            return ("block", "reputation")
        known = COARSE.get(detail) or COARSE_SUBJECTS.get(subject)
        if known is not None:
            return known
    if code is not None:
        if code < 500:
            return ("soft", "other")
        # with words that match no rule, a 550 proves nothing, and hard would suppress the address
        return COMMAND_ERRORS.get(code) or (None if worded else SMTP_COARSE.get(code))
    return ("soft", "other") if digit == "4" else None
