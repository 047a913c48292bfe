"""How sure a verdict on an open or click is.

Invariant: pure and total; a reason that is not listed here, as from a rules file of your own, is
``probable``.

``certain``, ``high`` and ``probable`` differ by the expected share of false verdicts: almost
none, up to 3 %, more. The shares are assumptions from public measurements of 2018 to 2026; tune
them on logs of which you know the truth.
"""

from typing import Final

NONE: Final = "none"
CERTAIN: Final = "certain"
HIGH: Final = "high"
PROBABLE: Final = "probable"
_CERTAINTIES: Final = {
    "hidden_link": CERTAIN, "links_at_once": CERTAIN, "prefetch_ua": CERTAIN,
    # what names itself, and a provider's or network owner's own word
    "apple_mpp": HIGH, "microsoft_network": HIGH, "preview_ua": HIGH, "program_ua": HIGH,
    "provider_flag": HIGH, "scanner_ua": HIGH,
    # a person's, with nothing against it, later than machines come
    "": HIGH,
}  # fmt: skip
"""Of every actor. Of an unknown one it is about what is seen: that Apple fetched, not whether
somebody read."""

SURE_MACHINE: Final = 3


def certainty_of(actor: str, reason: str) -> str:
    """``none`` for an event without a verdict, else ``certain``, ``high`` or ``probable``."""
    return NONE if actor == "none" else _CERTAINTIES.get(reason, PROBABLE)


def doubt_of(actor: str, reason: str) -> int:
    """How far an open or click is from a human's (``DOUBT`` of the glossary).

    Returns:
        0: a human's; 1: unknown; 2: probably a machine's; ``SURE_MACHINE``: a machine's with high
        certainty, or certainly.
    """
    if actor == "human":
        return 0
    if actor == "unknown":
        return 1
    return 2 if _CERTAINTIES.get(reason, PROBABLE) == PROBABLE else SURE_MACHINE
