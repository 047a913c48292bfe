"""How sure a verdict on an open or click is.

Invariant: pure and total; a reason that is not listed here, as from a rules file of your own, is
``probable``.

Sources: ``certain``, ``high`` and ``probable`` are told apart by the expected share of false
verdicts: almost none, up to 3 %, more. A scanner or program that names itself and a provider's own
flag seldom err; fetches by a proxy, bursts and times since the delivery also come from people.
"""

NONE, HIGH, PROBABLE = "none", "high", "probable"
_HIGH = frozenset(
    ("apple_mpp", "prefetch_ua", "preview_ua", "program_ua", "provider_flag", "scanner_ua")
)


def certainty_of(actor: str, reason: str) -> str:
    """``none`` for an event without a verdict, else ``high`` or ``probable``."""
    if actor == "none":
        return NONE
    return HIGH if reason in _HIGH else PROBABLE
