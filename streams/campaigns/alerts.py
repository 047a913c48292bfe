"""Alerts: a rate has risen above a line, or fallen back below it.

Invariants (glossary, «Alert lines»):
1. Pure. An alert is raised when the lower Wilson bound is above the line and the denominator is at
   least ``MESSAGES_MIN``; it is cleared when the rate is below 80 % of the line (hysteresis).
2. One alert per crossing, with the figures that raised it. Its id is a function of what crossed and
   of how often that has crossed before.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from hashlib import blake2b
from itertools import chain
from typing import Any, NamedTuple

from schemas.errors import ConfigError
from schemas.glossary import RATES, derived
from streams.campaigns.windows import wilson

MESSAGES_MIN = 100
CLEAR_BELOW = 0.8
WINDOW = "24h"
RECALLED_MAX = 10_000
"""Crossing numbers of a place that are tried to find the one that an alert's id stands for."""
LEVELS = ("watch", "warning", "critical")
_RATES = {rate.name: rate for rate in RATES}
_NOT_COUNTED = frozenset(("source", "tag"))
"""Keys that lines can't be set by, because counts are not kept by them."""


Levels = tuple[float, float, float]
"""The lines of watch, warning and critical, as ratios."""

DEFAULT_LINES: Mapping[str, Levels] = {
    "hard_bounce_rate": (0.02, 0.05, 0.10),
    "complaint_rate": (0.001, 0.003, 0.005),
}


@dataclass(frozen=True, slots=True)
class Lines:
    """Lines per rate. The most specific applies: campaign, then mailbox provider, then default.

    Attributes:
        by_mailbox: mailbox provider -> rate -> levels.
        by_campaign: pattern of a campaign id (``*`` and ``?`` as in a shell) -> rate -> levels;
            the first matching pattern applies.
    """

    default: Mapping[str, Levels] = field(default_factory=lambda: DEFAULT_LINES)
    by_mailbox: Mapping[str, Mapping[str, Levels]] = field(default_factory=dict)
    by_campaign: Mapping[str, Mapping[str, Levels]] = field(default_factory=dict)

    def of(self, campaign: str, mailbox: str) -> Mapping[str, Levels]:
        """The lines of a campaign at a mailbox provider ('' for the whole campaign)."""
        if not self.by_mailbox and not self.by_campaign:
            return self.default
        special: Mapping[str, Levels] = next(
            (
                lines
                for pattern, lines in self.by_campaign.items()
                if fnmatchcase(campaign, pattern)
            ),
            {},
        )
        return {**self.default, **self.by_mailbox.get(mailbox, {}), **special}

    @classmethod
    def load(cls, document: Mapping[str, Any]) -> "Lines":
        """Lines from the section ``[alerts]`` of ``mailpulse.toml``.

        Raises:
            ConfigError: with every problem, each with the name of its setting.
        """
        problems: list[str] = []
        own = {k: v for k, v in document.items() if k not in ("mailbox", "campaign")}
        for kind in _NOT_COUNTED & own.keys():
            del own[kind]
            problems.append(
                f"alerts.{kind}: counts are kept by campaign and mailbox provider, not by {kind};"
                " lines can be set by alerts.mailbox and by patterns of alerts.campaign"
            )
        lines = cls(
            {**DEFAULT_LINES, **_levels("alerts", own, problems)},
            _nested("alerts.mailbox", document.get("mailbox", {}), problems),
            _nested("alerts.campaign", document.get("campaign", {}), problems),
        )
        if problems:
            raise ConfigError(problems)
        return lines


def _nested(where: str, tables: Any, problems: list[str]) -> dict[str, Mapping[str, Levels]]:
    if not isinstance(tables, Mapping):
        problems.append(f"{where}: a table of tables is expected")
        return {}
    return {str(k): _levels(f"{where}.{k}", v, problems) for k, v in tables.items()}


def _levels(where: str, table: Any, problems: list[str]) -> dict[str, Levels]:
    out: dict[str, Levels] = {}
    for name, value in table.items() if isinstance(table, Mapping) else (("", table),):
        if name not in _RATES:
            problems.append(f"{where}.{name}: no such rate (known: {', '.join(_RATES)})")
        elif not _are_levels(value):
            problems.append(f"{where}.{name}: three rising ratios between 0 and 1 are expected")
        else:
            out[name] = (float(value[0]), float(value[1]), float(value[2]))
    return out


def _are_levels(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == len(LEVELS)
        and all(isinstance(v, int | float) and not isinstance(v, bool) for v in value)
        and 0 < value[0] < value[1] < value[2] <= 1
    )


class Place(NamedTuple):
    """What can cross a line: a rate of a campaign at a mailbox provider, and a level."""

    campaign: str
    mailbox: str
    rate: str
    level: str


class Crossing(NamedTuple):
    """How often a place has crossed its line, and since when it is above it (0: it is not)."""

    times: int
    raised_at_us: int


def alert_id(place: Place, times: int) -> str:
    """Identity of the ``times``-th crossing of a place, 32 hexadecimal digits."""
    text = "\x1f".join((*place, str(times)))
    return blake2b(text.encode("utf-8", "replace"), digest_size=16).hexdigest()


def recalled(
    alerts: Iterable[Mapping[str, Any]], crossings: Mapping[Place, Crossing]
) -> dict[Place, Crossing]:
    """The crossings that alerts stand for.

    Args:
        alerts: ``alert`` records, in the order in which they were sent.
        crossings: known crossings; the search for a place's number of crossings starts there.
    """
    changed: dict[Place, Crossing] = {}
    for alert in alerts:
        place = Place(
            *(alert[name] for name in ("campaign_id", "mailbox_provider", "rate", "level"))
        )
        known = (changed.get(place) or crossings.get(place, Crossing(0, 0))).times
        numbers = chain(range(max(1, known), known + RECALLED_MAX), range(known - 1, 0, -1))
        times = next((n for n in numbers if alert_id(place, n) == alert["alert_id"]), known)
        raised_at_us = alert["raised_at"] if alert["state"] == "raised" else 0
        changed[place] = Crossing(times, raised_at_us)
    return changed


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
    for name, levels in lines.of(campaign, mailbox).items():
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
