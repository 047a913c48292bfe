"""Tells clicks that unsubscribe from all others.

Invariants:
1. Pure and total: no input from outside raises; caches are bounded.
2. Best evidence first: what the provider says of the click (its own flag, or that the link stands
   in the message's ``List-Unsubscribe`` header; ingress keeps both as ``unsubscribe_link``), then
   known pages of providers, then the words of the link.
3. Words count as whole path segments, host labels or names of parameters, never as parts of
   these; as values only of parameters that name an action. ``/tours/baja`` and
   ``?utm_content=unsubscribe-winback`` are clicks. In doubt a click stays a click: then it is
   counted, and its link is in the list.
4. A link that is only an opaque token is not recognised; the provider's unsubscribe event then
   reports it.
"""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from streams.classify.link_rules import (
    SHIPPED_LINKS,
    SHIPPED_UNSUBSCRIBE,
    UnsubscribeRules,
    plain_word,
)
from streams.classify.links import Link, parameters, read_link, unwrapped

WORDS_CACHED_MAX = 16_384
"""Distinct parts of links cached per process; each of at most ``WORD_CHARS_MAX``."""
LINKS_CACHED_MAX = 8_192
"""Distinct links cached per process."""
WORD_CHARS_MAX = 128
"""Longest part of a link that is compared with words; tokens are longer, no word is."""
SEGMENTS_MAX = 32
"""Parts of one path that are compared; further ones are not."""

_cached_word = lru_cache(maxsize=WORDS_CACHED_MAX)(plain_word)


def unsubscribes(head: Mapping[str, Any], rules: UnsubscribeRules = SHIPPED_UNSUBSCRIBE) -> bool:
    """Whether an event is a click on an unsubscribe link.

    Args:
        head: a raw event, or its head.
    """
    if head["event_type"] != "clicked":
        return False
    told = head["unsubscribe_link"]
    if told is not None:
        return bool(told)
    url = head["click_url"]
    return bool(url) and is_unsubscribe_link(url, rules)


@lru_cache(maxsize=LINKS_CACHED_MAX)
def is_unsubscribe_link(url: str, rules: UnsubscribeRules = SHIPPED_UNSUBSCRIBE) -> bool:
    """Whether a clicked link unsubscribes, by providers' pages and by its words."""
    link = read_link(url)
    if link.query:
        link = unwrapped(link, SHIPPED_LINKS.wrappers)
    if link.scheme == "mailto":
        return _unsubscribes_by_mail(link, rules)
    if link.scheme and not link.host:  # such as tel: and javascript:
        return False
    path = link.path
    if link.fragment[:1] in ("/", "!"):  # a page of a single-page application
        path += "/" + link.fragment.lstrip("!").partition("?")[0]
    if _is_known_page(link, path, rules):
        return True
    words = [
        _cached_word(segment)
        for segment in path.split("/", SEGMENTS_MAX)[:SEGMENTS_MAX]
        if 0 < len(segment) <= WORD_CHARS_MAX
    ]
    labels = link.host.split(".")[:-1]  # without the top-level domain
    if not rules.not_with.isdisjoint(words):
        return False
    if not rules.words.isdisjoint(words) or not rules.words.isdisjoint(labels[:1]):
        return True
    if not rules.words_with_mail.isdisjoint(words):
        return not (rules.mail_words.isdisjoint(words) and rules.mail_words.isdisjoint(labels))
    return bool(link.query) and any(
        name in rules.words or (name in rules.commands and value in rules.words)
        for name, value in _words_of(link.query)
    )


def _is_known_page(link: Link, path: str, rules: UnsubscribeRules) -> bool:
    lower = path.strip("/").lower()
    pages = (*rules.pages.get(lower.partition("/")[0], ()), *rules.pages.get("", ()))
    for page in pages:
        if page.host and link.host != page.host and not link.host.endswith(f".{page.host}"):
            continue
        if page.path.fullmatch(lower) and (not page.parameters or _has_any(link, page.parameters)):
            return True
    return False


def _has_any(link: Link, wanted: frozenset[str]) -> bool:
    return any(
        name in wanted or f"{name}={value}" in wanted for name, value in parameters(link.query)
    )


def _words_of(query: str) -> Iterator[tuple[str, str]]:
    """Names and values of parameters, as words."""
    for name, value in parameters(query):
        if len(name) <= WORD_CHARS_MAX:
            yield _cached_word(name), plain_word(value) if len(value) <= WORD_CHARS_MAX else ""


def _unsubscribes_by_mail(link: Link, rules: UnsubscribeRules) -> bool:
    """By the address or, as RFC 2369 and 8058 have it, by the subject."""
    local = link.path.partition("@")[0].partition("+")[0]
    subjects = [value for name, value in parameters(link.query) if name.lower() == "subject"]
    said = (one for one in (local, *subjects) if 0 < len(one) <= WORD_CHARS_MAX)
    return any(plain_word(one) in rules.words for one in said)
