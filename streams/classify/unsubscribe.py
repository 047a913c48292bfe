"""Recognises unsubscribe links by the words in their address.

Invariants:
1. Pure, never raises on input from outside; results are cached and the cache is bounded.
2. A link that is only an opaque token is not recognised; the provider's unsubscribe event then
   reports it.
3. The words must name the action: an article title about unsubscribing does not count.
"""

import re
from functools import lru_cache

LINKS_CACHED_MAX = 8_192
"""Distinct addresses cached per process; tracked links differ per recipient and miss anyway."""

_CHEAP = (
    "unsub", "opt", "abmeld", "austrag", "abbestell", "desab", "sinscri", "baja", "afmeld",
    "uitschrij", "disiscri", "wypisz", "otpis",
)  # fmt: skip
_SEGMENTS = re.compile(r"[/?&=#;:,.\s]+|%2f|%3f|%26|%3d", re.IGNORECASE)
_WORDS = re.compile(r"[-_+]+")
_MEANING = frozenset(
    {"unsub", "unsubs", "optout", "abmelden", "abmeldung", "newsletterabmeldung", "austragen",
     "austrag", "abbestellen", "desabonnement", "desabonner", "desinscription", "desinscrire",
     "darsedebaja", "afmelden", "uitschrijven", "disiscriviti", "disiscrizione",
     "disiscrivi", "wypisz", "otpiska"}
)  # fmt: skip
_SEGMENT_WORDS_MAX = 3
"""A longer run of words is a title («how-to-unsubscribe-from-spam»), not an action."""


@lru_cache(maxsize=LINKS_CACHED_MAX)
def is_unsubscribe_link(url: str | None) -> bool:
    """Whether a clicked address unsubscribes, by words in several languages.

    A part of the address (host label, path segment, query key or value) must have at most three
    words, and one of them must mean unsubscribing.
    """
    if not url:
        return False
    lower = url.lower()
    if not any(mark in lower for mark in _CHEAP):
        return False
    for segment in _SEGMENTS.split(lower):
        words = [word for word in _WORDS.split(segment) if word]
        if not 0 < len(words) <= _SEGMENT_WORDS_MAX:
            continue
        if any("unsubscri" in word or word in _MEANING for word in words):
            return True
        if words == ["baja"] or ("opt" in words and "out" in words):  # Spanish; also means «lower»
            return True
    return False
