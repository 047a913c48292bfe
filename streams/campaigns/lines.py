"""The lines that rates are judged by: section ``[alerts]`` of ``mailpulse.toml``.

Invariants:
1. Pure. A line's pause is compared with the time that is passed in, the log's.
2. Every problem of the section is reported at once, each with the name of its setting.
3. For each rate the most specific setting applies: pattern of campaign ids, then mailbox provider,
   then the section itself, then the defaults for a mailbox provider, then the defaults.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from itertools import chain
from typing import Any

from schemas.errors import ConfigError
from streams.campaigns.measures import MEASURES
from streams.campaigns.patterns import matcher

LEVELS = ("watch", "warning", "critical")
HOLD_S = 60
"""Default of ``hold_seconds``: longer than the reports of one send usually arrive apart."""
HOLD_S_MAX = 86_400

Levels = tuple[float, float, float]
"""The lines of watch, warning and critical, as ratios."""


@dataclass(frozen=True, slots=True)
class Line:
    """What a rate is judged by in one place.

    Attributes:
        levels: the three lines; ``None``: this rate is never an incident here.
        paused_until_us: before this time nothing opens and nothing escalates.
    """

    levels: Levels | None
    paused_until_us: int = 0


DEFAULT_LINES: Mapping[str, Line] = {
    "hard_bounce_rate": Line((0.02, 0.05, 0.10)),
    "late_bounce_rate": Line((0.02, 0.05, 0.10)),
    "complaint_rate": Line((0.001, 0.003, 0.005)),
}
_BULK_SENDERS = {"complaint_rate": Line((0.001, 0.002, 0.003))}
DEFAULT_MAILBOX_LINES: Mapping[str, Mapping[str, Line]] = {
    "gmail": _BULK_SENDERS,
    "yahoo": _BULK_SENDERS,
}
"""Both ask senders to stay below 0.3 %, and Google for less than 0.1 %; a line that is crossed
only at the limit comes too late, so 0.1 % is the first for both.
Sources: Google, «Email sender guidelines» (support.google.com/a/answer/81126); Yahoo, «Sender
Requirements & Recommendations» (senders.yahooinc.com/best-practices)."""

_NOT_COUNTED = ("source", "tag")
"""Keys that lines can't be set by, because counts are not kept by them."""


@dataclass(frozen=True, slots=True)
class _Setting:
    """Part of a line that one table sets; ``None``: it says nothing of it."""

    levels: Levels | None
    silent: bool
    paused_until_us: int | None

    def over(self, line: Line) -> Line:
        """``line`` with what this table sets."""
        if self.silent:
            line = replace(line, levels=None)
        elif self.levels is not None:
            line = replace(line, levels=self.levels)
        if self.paused_until_us is not None:
            line = replace(line, paused_until_us=self.paused_until_us)
        return line


_Table = Mapping[str, _Setting]


@dataclass(frozen=True)
class Lines:
    """Lines per rate, and how long a change must last.

    Attributes:
        hold_us: a rate must stay above a line, or below, for this long by the log's time before an
            incident says so.
        own: rate -> setting.
        by_mailbox: mailbox provider -> rate -> setting.
        by_campaign: pattern of a campaign id (``*`` for any text, ``?`` for one character, all else
            as it is, brackets too) -> rate -> setting; the first matching pattern applies.
    """

    hold_us: int = HOLD_S * 1_000_000
    own: _Table = field(default_factory=dict)
    by_mailbox: Mapping[str, _Table] = field(default_factory=dict)
    by_campaign: Mapping[str, _Table] = field(default_factory=dict)

    @cached_property
    def rates(self) -> frozenset[str]:
        """The rates that have a line anywhere."""
        tables = [DEFAULT_LINES, self.own, *self.by_mailbox.values(), *self.by_campaign.values()]
        return frozenset(chain.from_iterable(tables))

    def of(self, campaign: str, mailbox: str) -> Mapping[str, Line]:
        """The lines of a campaign at a mailbox provider ('' for the whole campaign)."""
        lines = {**DEFAULT_LINES, **DEFAULT_MAILBOX_LINES.get(mailbox, {})}
        _lay_over(lines, self.own)
        _lay_over(lines, self.by_mailbox.get(mailbox, {}))
        for pattern, table in self.by_campaign.items():
            if matcher(pattern).fullmatch(campaign):
                _lay_over(lines, table)
                break
        return lines

    def levels_of(self, campaign: str) -> Mapping[str, Levels]:
        """The three lines of each rate of a campaign as a whole, for its charts."""
        found = self.of(campaign, "").items()
        return {name: line.levels for name, line in found if line.levels is not None}

    @classmethod
    def load(cls, document: Mapping[str, Any]) -> "Lines":
        """Lines from the section ``[alerts]``.

        Raises:
            ConfigError: with every problem, each with the name of its setting.
        """
        problems: list[str] = []
        own = {k: v for k, v in document.items() if k not in ("mailbox", "campaign")}
        problems += [
            f"alerts.{kind}: counts are kept by campaign and mailbox provider, not by {kind}; lines"
            " can be set by alerts.mailbox and by patterns of alerts.campaign"
            for kind in _NOT_COUNTED
            if own.pop(kind, None) is not None
        ]
        hold_s = own.pop("hold_seconds", HOLD_S)
        if isinstance(hold_s, bool) or not isinstance(hold_s, int) or not 0 <= hold_s <= HOLD_S_MAX:
            problems.append(f"alerts.hold_seconds: 0 to {HOLD_S_MAX} seconds are expected")
            hold_s = HOLD_S
        lines = cls(
            hold_s * 1_000_000,
            _table("alerts", own, problems),
            _nested("alerts.mailbox", document.get("mailbox", {}), problems),
            _nested("alerts.campaign", document.get("campaign", {}), problems),
        )
        if problems:
            raise ConfigError(problems)
        return lines


def _lay_over(lines: dict[str, Line], table: _Table) -> None:
    for name, setting in table.items():
        lines[name] = setting.over(lines.get(name, Line(None)))


def _nested(where: str, tables: Any, problems: list[str]) -> dict[str, _Table]:
    if not isinstance(tables, Mapping):
        problems.append(f"{where}: a table of tables is expected")
        return {}
    return {str(key): _table(f"{where}.{key}", value, problems) for key, value in tables.items()}


def _table(where: str, table: Any, problems: list[str]) -> _Table:
    if not isinstance(table, Mapping):
        problems.append(f"{where}: a table of rates is expected")
        return {}
    found = {}
    for name, value in table.items():
        if name not in MEASURES:
            known = ", ".join(MEASURES)
            problems.append(f"{where}.{name}: no rate that has lines (these have: {known})")
        elif (setting := _setting(f"{where}.{name}", value, problems)) is not None:
            found[name] = setting
    return found


def _setting(where: str, value: Any, problems: list[str]) -> _Setting | None:
    """One line: three ratios, ``"off"``, or a table of ``lines`` and ``paused_until``."""
    if value == "off":
        return _Setting(None, True, None)
    if not isinstance(value, Mapping):
        levels = _levels(where, value, problems)
        return levels and _Setting(levels, False, None)
    until = value.get("paused_until")
    known = value.keys() <= {"lines", "paused_until"} and bool(value)
    dated = until is None or (isinstance(until, datetime) and until.tzinfo is not None)
    if not known or not dated:
        problems.append(
            f"{where}: a table of 'lines' and 'paused_until' is expected, the latter a time with"
            " its zone, such as 2026-12-01T08:00:00Z"
        )
        return None
    levels = _levels(where, value["lines"], problems) if "lines" in value else None
    paused = None if until is None else int(until.timestamp() * 1_000_000)
    return _Setting(levels, False, paused)


def _levels(where: str, value: Any, problems: list[str]) -> Levels | None:
    if isinstance(value, list) and _are_levels(value):
        return float(value[0]), float(value[1]), float(value[2])
    problems.append(f'{where}: three rising ratios above 0 and below 1 are expected, or "off"')
    return None


def _are_levels(value: list[Any]) -> bool:
    numbers: Iterable[bool] = (
        isinstance(one, int | float) and not isinstance(one, bool) for one in value
    )
    return len(value) == len(LEVELS) and all(numbers) and 0 < value[0] < value[1] < value[2] < 1
