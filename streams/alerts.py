"""Alerts: a rate crossed a line, or came back below it.

Laws of this file (glossary, «Alert lines»):
1. Pure. Raised when the lower Wilson bound lies above the line and at least ``MESSAGES_MIN`` are in
   the denominator; cleared when the rate is below 80 % of the line (hysteresis).
2. One alert per crossing, with the figures that raised it; its id is a function of what crossed
   and of how often it has crossed before.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, NamedTuple

from schemas.glossary import RATES, derived
from streams.windows import wilson

MESSAGES_MIN = 100
CLEAR_BELOW = 0.8
WINDOW = "24h"
LEVELS = ("watch", "warning", "critical")
_RATES = {rate.name: rate for rate in RATES}


@dataclass(frozen=True, slots=True)
class Lines:
    """Lines per rate, one per level, as ratios; overridden per mailbox provider where given."""

    default: Mapping[str, tuple[float, float, float]] = field(
        default_factory=lambda: {
            "hard_bounce_rate": (0.02, 0.05, 0.10),
            "complaint_rate": (0.001, 0.003, 0.005),
        }
    )
    by_mailbox: Mapping[str, Mapping[str, tuple[float, float, float]]] = field(default_factory=dict)

    def of(self, mailbox: str) -> Mapping[str, tuple[float, float, float]]:
        """The lines that hold for a mailbox provider ('' is the campaign as a whole)."""
        return {**self.default, **self.by_mailbox.get(mailbox, {})}


class Place(NamedTuple):
    """What can cross a line."""

    campaign: str
    mailbox: str
    rate: str
    level: str


class Crossing(NamedTuple):
    """How often a place has crossed, and whether it is above now (``raised_at`` 0: it is not)."""

    times: int
    raised_at_us: int


def alert_id(place: Place, times: int) -> str:
    """Identity of the ``times``-th crossing of a place, 32 hexadecimal digits."""
    text = "\x1f".join((*place, str(times)))
    return blake2b(text.encode("utf-8", "replace"), digest_size=16).hexdigest()


def evaluate(
    campaign: str,
    mailbox: str,
    counts: Sequence[int],
    crossings: Mapping[Place, Crossing],
    lines: Lines,
    as_of_us: int,
) -> tuple[list[dict[str, Any]], dict[Place, Crossing]]:
    """Compares the counts of one campaign and mailbox provider with the lines.

    Returns:
        ``alert`` records, and the crossings that changed.
    """
    alerts: list[dict[str, Any]] = []
    changed: dict[Place, Crossing] = {}
    vector = list(counts)
    for name, levels in lines.of(mailbox).items():
        rate = _RATES[name]
        numerator, denominator = derived(vector, rate.numerator), derived(vector, rate.denominator)
        bounds = wilson(numerator, denominator)
        value = numerator / denominator if bounds else 0.0
        low = bounds[0] if bounds else 0.0
        for level, line in zip(LEVELS, levels, strict=True):
            place = Place(campaign, mailbox, name, level)
            before = crossings.get(place, Crossing(0, 0))
            if not before.raised_at_us and denominator >= MESSAGES_MIN and low > line:
                after = Crossing(before.times + 1, as_of_us)
            elif before.raised_at_us and value < CLEAR_BELOW * line:
                after = Crossing(before.times, 0)
            else:
                continue
            changed[place] = after
            alerts.append(
                {
                    "alert_id": alert_id(place, after.times),
                    "campaign_id": campaign,
                    "mailbox_provider": mailbox,
                    "rate": name,
                    "level": level,
                    "state": "raised" if after.raised_at_us else "cleared",
                    "line": line,
                    "window": WINDOW,
                    "numerator": numerator,
                    "denominator": denominator,
                    "value": value,
                    "low": low,
                    "as_of": as_of_us,
                    "raised_at": after.raised_at_us or before.raised_at_us,
                }
            )
    return alerts, changed
