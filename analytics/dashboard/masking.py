"""Masks recipients' addresses.

Invariants: pure; whatever looks like an address is masked, also inside a diagnostic or a link. Its
first character and its domain, which says who hosts the mailbox, stay visible.
"""

import re

_ADDRESS = re.compile(
    r"([^\s@<>\"'(),:;\[\]=&?/%]{1,64})(@|%40)((?:[^\s@<>\"'(),:;\[\]=&?/%]+\.)+[^\W\d_]{2,24})"
)
_HASH = re.compile(r"[0-9a-f]{16,}", re.IGNORECASE)


def masked(text: str) -> str:
    """``text`` with every address in it masked: ``a•••@example.com``."""
    return _ADDRESS.sub(lambda found: f"{found[1][0]}•••{found[2]}{found[3]}", text)


def masked_recipient(recipient: str) -> str:
    """A recipient of table ``events``, masked; a keyed hash is shortened."""
    if _HASH.fullmatch(recipient):
        return f"{recipient[:8]}…"
    shown = masked(recipient)
    return shown if shown != recipient or not recipient else f"{recipient[0]}•••"
