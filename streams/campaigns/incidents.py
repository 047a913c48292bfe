"""Incidents: a rate of a campaign is above its line, as one thing that changes.

There is at most one open incident per campaign and rate. Its level is that of its worst place: the
campaign as a whole, or one of its mailbox providers. It is opened, escalated, eased and closed.

Invariants:
1. Pure. Time is an argument: the log's.
2. A place reaches a level when ``evidence.stands_out`` says so and more bad messages are known than
   at the last look: good ones that leave the window make no news of bad ones that stay. It keeps
   the level until its rate is below 80 % of that level's line (hysteresis).
3. A change of the incident's level is told once it has lasted for the lines' hold, at every look;
   then with the level of the last look.
4. ``incident_id`` is a function of campaign, rate, how many incidents these had before, and the
   period in which it was opened; with ``sequence`` it identifies a change. A replay tells the same
   change under the same identity. The period is for a worker that counts from 1 again, because it
   has no state and the topic no longer holds the earlier records.
5. ``Held`` can be restored from the last record of an incident, but for a change that has not
   lasted long enough yet.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from hashlib import blake2b
from typing import Any, NamedTuple

from streams.campaigns.causes import Cause, Figures, advice, likely
from streams.campaigns.evidence import (
    CAMPAIGN_SHARE,
    MAILBOX_SHARE,
    MAILBOXES_MAX,
    NUMERATOR_MIN,
    stands_out,
)
from streams.campaigns.lines import LEVELS, Lines
from streams.campaigns.measures import MEASURES, SENT, SPANS, Judged, Measure, Span, Sums

CLEAR_BELOW = 0.8
REFRESH_US = 60_000_000
"""An open incident's figures are told again when they changed, at most this often."""
ID_PERIOD_US = 30 * 86_400_000_000
"""At most as long as the topic keeps incidents: two of the same number, of which the later one is
counted without knowing of the earlier one, were opened in different periods."""
OPENED, ESCALATED, EASED, CLOSED = "opened", "escalated", "eased", "closed"
WHOLE = ""
"""The place that is the campaign as a whole."""

Key = tuple[str, str]
"""Campaign and rate."""
Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Held:
    """What is remembered of the incidents of a campaign and rate.

    Attributes:
        number: how many there have been, this one included.
        sequence: changes told of this one.
        state: the last change told; ``closed``: none is open.
        level: index into ``LEVELS`` plus 1; 0: none is open.
        worst: the highest level of this one.
        levels: place -> its level, of those that have one.
        place: whose figures stand for the incident.
        opened: when, in microseconds, and the figures then.
        changed_us: when the last change was told.
        told: when its figures were last told, and which.
        pending: 1: it would rise, -1: it would fall, since ``pending_us``; 0: neither.
    """

    number: int = 0
    sequence: int = 0
    state: str = CLOSED
    level: int = 0
    worst: int = 0
    levels: Mapping[str, int] = field(default_factory=dict)
    place: str = WHOLE
    opened: tuple[int, int, int] = (0, 0, 0)
    changed_us: int = 0
    told: tuple[int, int, int] = (0, 0, 0)
    pending: int = 0
    pending_us: int = 0

    @property
    def is_idle(self) -> bool:
        """No incident is open, and none is about to be."""
        return not self.level and not self.pending


NOTHING = Held()


class _View(NamedTuple):
    """What one look at a campaign and rate sees."""

    campaign: str
    rate: str
    figures: Mapping[str, Figures]
    lines: Lines
    levels: Mapping[str, int]
    at_us: int

    def line_of(self, place: str, level: int) -> float:
        """The line of a level; 0 if this rate has none here any more."""
        line = self.lines.of(self.campaign, place).get(self.rate)
        return line.levels[level - 1] if line and line.levels else 0.0


def incident_id(campaign: str, rate: str, number: int, opened_us: int) -> str:
    """Identity of the ``number``-th incident of a campaign and rate, 32 hexadecimal digits."""
    text = "\x1f".join((campaign, rate, str(number), str(opened_us // ID_PERIOD_US)))
    return blake2b(text.encode("utf-8", "replace"), digest_size=16).hexdigest()


def look(
    campaign: str, judged: Judged, held: Mapping[Key, Held], lines: Lines, at_us: int
) -> tuple[list[Record], dict[Key, Held]]:
    """Judges every rate of a campaign now; what grew in ``judged`` is no news afterwards.

    Returns:
        ``alert`` records to send, in order, and what is to be remembered where it changed.
    """
    minute = at_us // 60_000_000
    windows = {span: judged.window(span, minute) for span in SPANS}
    records: list[Record] = []
    changed: dict[Key, Held] = {}
    news = judged.news()
    wholes = {span: _added(span, sums) for span, sums in windows.items()}
    for rate, measure in MEASURES.items():
        before = held.get((campaign, rate), NOTHING)
        whole = measure.figures(wholes[measure.span])
        if before.is_idle and (whole[0] < NUMERATOR_MIN or rate not in lines.rates):
            continue
        figures = _places(measure, windows[measure.span], whole)
        day = judged.first_day(measure.span, minute)
        may_rise = before.pending > 0 or not news.isdisjoint(measure.above)
        levels = _levels(campaign, rate, figures, before.levels, lines, day, at_us, may_rise)
        view = _View(campaign, rate, figures, lines, levels, at_us)
        after, is_told = _next(view, before, lines.hold_us)
        if after != before:
            changed[campaign, rate] = after
        if is_told:
            cause = _cause(measure, windows[measure.span], judged, minute)
            records.append(_record(view, after, cause))
    return records, changed


def _added(span: Span, sums: Sums) -> list[int]:
    """The sums of all mailbox providers together."""
    return [sum(column) for column in zip(*sums.values(), strict=True)] or [0] * len(span.counters)


def _places(measure: Measure, sums: Sums, whole: Figures) -> dict[str, Figures]:
    """Figures of the campaign as a whole and of its largest mailbox providers."""
    by_mailbox = {name: measure.figures(values) for name, values in sums.items() if name}
    out = {WHOLE: whole}
    largest = sorted(by_mailbox, key=lambda name: (-by_mailbox[name][1], name))
    out.update((name, by_mailbox[name]) for name in largest[:MAILBOXES_MAX])
    return out


def _levels(
    campaign: str, rate: str, figures: Mapping[str, Figures], held: Mapping[str, int],
    lines: Lines, day: int, at_us: int, may_rise: bool,
) -> dict[str, int]:  # fmt: skip
    """The places that are above a line, each with its level."""
    out: dict[str, int] = {}
    for place, (above, below) in figures.items():
        before = held.get(place, 0)
        if above < NUMERATOR_MIN and not before:
            continue
        line = lines.of(campaign, place).get(rate)
        if line is None or line.levels is None:
            continue
        share = CAMPAIGN_SHARE if place == WHOLE else MAILBOX_SHARE
        per_day = MEASURES[rate].span.per_day
        level = 0
        for number, edge in enumerate(line.levels, 1):
            stays = number <= before and above >= CLEAR_BELOW * edge * max(below, 1)
            if stays or stands_out(
                above, below, edge, share=share, day=day, windows_per_day=per_day
            ):
                level = number
        if not may_rise or at_us < line.paused_until_us:
            level = min(level, before)
        if level:
            out[place] = level
    return out


def _next(view: _View, before: Held, hold_us: int) -> tuple[Held, bool]:
    """What is remembered after a look, and whether a record is due."""
    target = max(view.levels.values(), default=0)
    direction = (target > before.level) - (target < before.level)
    if direction == 0:
        after = replace(before, pending=0, pending_us=0)
        return _refreshed(view, after) if before.level else (after, False)
    if before.pending != direction or view.at_us < before.pending_us:
        before = replace(before, pending=direction, pending_us=view.at_us)
    if view.at_us - before.pending_us < hold_us:
        return before, False
    return _changed(view, before, target), True


def _refreshed(view: _View, held: Held) -> tuple[Held, bool]:
    figures = view.figures.get(held.place, (0, 0))
    same = figures == held.told[1:] and view.levels == held.levels
    if same or view.at_us - held.told[0] < REFRESH_US:
        return held, False
    place = _place(view, held)
    return replace(held, levels=view.levels, place=place, told=_now(view, place)), True


def _changed(view: _View, held: Held, target: int) -> Held:
    """The incident with its level changed to ``target``."""
    if held.level == 0:
        held = replace(held, number=held.number + 1, sequence=0, worst=0, place=WHOLE)
    place = _place(view, held)
    now = _now(view, place)
    if held.level == 0:
        state = OPENED
    elif target == 0:
        state = CLOSED
    else:
        state = ESCALATED if target > held.level else EASED
    return replace(
        held, sequence=held.sequence + 1, state=state, level=target,
        worst=max(held.worst, target), place=place, levels=view.levels,
        opened=now if state == OPENED else held.opened, changed_us=view.at_us, told=now,
        pending=0, pending_us=0,
    )  # fmt: skip


def _now(view: _View, place: str) -> tuple[int, int, int]:
    return view.at_us, *view.figures.get(place, (0, 0))


def _place(view: _View, held: Held) -> str:
    """Whose figures stand for the incident: as before, unless another place is worse."""
    most = max(view.levels.values(), default=0)
    if view.levels.get(held.place, 0) == most:
        return held.place
    worst = [place for place, level in view.levels.items() if level == most]
    return max(sorted(worst), key=lambda place: (place == WHOLE, view.figures[place][0]))


def _cause(measure: Measure, sums: Sums, judged: Judged, minute: int) -> Cause:
    """The likely cause, from all of the window's counts."""
    by_mailbox = {name or "unknown": measure.figures(values) for name, values in sums.items()}
    by_time = {}
    for number, parts in judged.inside(measure.span, minute):
        one = [measure.figures(values) for values in parts.values()]
        when = _moment(number * measure.span.minutes, is_day=measure.span is not SENT)
        by_time[when] = (sum([f[0] for f in one]), sum([f[1] for f in one]))
    no_deliveries = measure.span is SENT and all(
        values[0] == sum(values[1:]) for values in sums.values()
    )
    return likely(by_mailbox, by_time, no_deliveries=no_deliveries)


def _moment(minute: int, *, is_day: bool) -> str:
    """A minute since 1970 as ``2026-12-01 08:00``, or its day."""
    days, rest = divmod(minute, 1440)
    day = (date(1970, 1, 1) + timedelta(days)).isoformat()
    return day if is_day else f"{day} {rest // 60:02}:{rest % 60:02}"


def _record(view: _View, held: Held, cause: Cause) -> Record:
    figures = view.figures.get(held.place, (0, 0))
    level = held.level or held.worst
    opened_us, opened_above, opened_below = held.opened
    return {
        "incident_id": incident_id(view.campaign, view.rate, held.number, opened_us),
        "sequence": held.sequence,
        "state": held.state,
        "campaign_id": view.campaign,
        "rate": view.rate,
        "level": LEVELS[level - 1],
        "worst_level": LEVELS[held.worst - 1],
        "mailbox_provider": held.place,
        "line": view.line_of(held.place, level),
        "window": MEASURES[view.rate].span.name,
        "numerator": figures[0],
        "denominator": figures[1],
        "value": _ratio(*figures),
        "opened_numerator": opened_above,
        "opened_denominator": opened_below,
        "opened_value": _ratio(opened_above, opened_below),
        "opened_at": opened_us,
        "changed_at": held.changed_us,
        "as_of": view.at_us,
        "number": held.number,
        "places": [_place_record(view, place, one) for place, one in sorted(held.levels.items())],
        "cause": cause.kind,
        "cause_name": cause.name,
        "cause_share": cause.share,
        "advice": advice(view.rate, cause),
    }


def _place_record(view: _View, place: str, level: int) -> Record:
    above, below = view.figures.get(place, (0, 0))
    return {
        "mailbox_provider": place,
        "level": LEVELS[level - 1],
        "line": view.line_of(place, level),
        "numerator": above,
        "denominator": below,
        "value": _ratio(above, below),
    }


def _ratio(above: int, below: int) -> float:
    return above / below if below > 0 else 0.0


def recalled(records: Iterable[Mapping[str, Any]], held: Mapping[Key, Held]) -> dict[Key, Held]:
    """What is to be remembered after these ``alert`` records, in the order they were sent."""
    changed: dict[Key, Held] = {}
    for record in records:
        key = (record["campaign_id"], record["rate"])
        known = changed.get(key) or held.get(key, NOTHING)
        told = _of_record(record)
        if (told.number, told.sequence, told.told[0]) <= (
            known.number, known.sequence, known.told[0],
        ):  # fmt: skip
            continue
        changed[key] = told
    return changed


def _of_record(record: Mapping[str, Any]) -> Held:
    is_open = record["state"] != CLOSED
    figures = record["numerator"], record["denominator"]
    opened = record["opened_numerator"], record["opened_denominator"]
    return Held(
        number=record["number"], sequence=record["sequence"], state=record["state"],
        level=LEVELS.index(record["level"]) + 1 if is_open else 0,
        worst=LEVELS.index(record["worst_level"]) + 1,
        levels={one["mailbox_provider"]: LEVELS.index(one["level"]) + 1
                for one in record["places"]},
        place=record["mailbox_provider"], opened=(record["opened_at"], *opened),
        changed_us=record["changed_at"], told=(record["as_of"], *figures),
    )  # fmt: skip
