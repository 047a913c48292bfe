"""Masks addresses for the eyes of people and for logs: the first letter and the domain stay.

Invariants:
1. Pure. Masking again changes nothing.
2. Whatever ``schemas.address_search`` finds is masked, in whatever coding it is; the domain, which
   says who hosts the mailbox, stays as it is written.
"""

import re

from schemas.address_search import Found, has_sign, is_address, replaced, replaced_in_field

STARS = "***"
DOTS = "•••"
"""For pages."""
HASH_SHOWN_CHARS = 8
_HASH = re.compile(r"(h:)?([0-9a-f]{16,})", re.IGNORECASE)


def masked(text: str, sign: str = STARS) -> str:
    """``text`` with every address in it masked: ``a***@example.com``."""
    return replaced(text, lambda found: _mask(text, found, sign))


def masked_field(text: str, sign: str = STARS) -> str:
    """A field of an event, which may be cut within an address."""
    return replaced_in_field(
        text,
        lambda found: _mask(text, found, sign),
        last=lambda word: sign if has_sign(word) else word,
    )


def masked_id(text: str, sign: str = STARS) -> str:
    """A message id, which looks like an address, with those masked that are in it."""
    local, at, domain = text.rpartition("@")
    return masked(local, sign) + at + masked(domain, sign)


def masked_recipient(recipient: str, sign: str = STARS) -> str:
    """A recipient, masked also if it is no address; a keyed hash is shortened."""
    hashed = _HASH.fullmatch(recipient)
    if hashed:
        return f"{hashed[1] or ''}{hashed[2][:HASH_SHOWN_CHARS]}…"
    if is_address(recipient):
        local, _, domain = recipient.rpartition("@")
        return _hidden(local, sign, f"@{domain}") or recipient
    shown = masked(recipient, sign)
    return shown if shown != recipient or not recipient else f"{recipient[0]}{sign}"


def is_hash(recipient: str) -> bool:
    """Whether a recipient is a keyed hash."""
    return _HASH.fullmatch(recipient) is not None


def _mask(text: str, found: Found, sign: str) -> str:
    local = found.address.rpartition("@")[0]
    return _hidden(local, sign, text[found.sign : found.end]) or text[found.begin : found.end]


def _hidden(local: str, sign: str, behind: str) -> str:
    """The mask of an address; empty if it is one already."""
    if local[-len(sign) :] == sign and len(local) <= len(sign) + 1:
        return ""
    first = next((char for char in local if char.isalnum()), "")
    return f"{first}{sign}{behind}"
