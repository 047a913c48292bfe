"""Recipients' addresses out of what is shown.

Invariant: pure. What looks like an address is masked wherever it stands, also inside a diagnostic
   or a
link: one character, dots, and the domain, which says who hosts the mailbox.
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
    """A recipient as the events table holds it; a keyed hash is shortened."""
    if _HASH.fullmatch(recipient):
        return f"{recipient[:8]}…"
    shown = masked(recipient)
    return shown if shown != recipient or not recipient else f"{recipient[0]}•••"
