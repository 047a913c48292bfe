"""The disk budget: nothing goes unannounced, no more than needed, and never what must stay."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.embedded.disk_plan import (
    AIM,
    CUT,
    DAY_S,
    HOUR_S,
    NOTICE_S,
    SETTLE_S,
    Cut,
    Decision,
    Floors,
    Memory,
    Month,
    Segment,
    Use,
    decide,
    plan,
)

FLOORS = Floors(raw_hours=24, events_hours=720)
BEGIN = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
MB = 1_000_000


@dataclass
class Machine:
    """A pipeline whose stores grow by so many bytes an hour, in an hour's steps."""

    raw_per_hour: int
    events_per_hour: int
    rest_per_hour: int
    raw_hours: int = 240
    now: float = BEGIN
    raw: list[Segment] = field(default_factory=list)
    months: dict[str, int] = field(default_factory=dict)
    rest: int = 0

    def pass_hour(self) -> None:
        """What an hour brings, and what Kafka's own retention takes."""
        self.now += HOUR_S
        self.raw.append(Segment(self.raw_per_hour, self.now))
        self.raw = [one for one in self.raw if one.newest_at > self.now - self.raw_hours * HOUR_S]
        month = f"{datetime.fromtimestamp(self.now, UTC):%Y%m}"
        self.months[month] = self.months.get(month, 0) + self.events_per_hour
        self.rest += self.rest_per_hour

    def use(self) -> Use:
        """As it would be measured."""
        taken = sum(one.bytes for one in self.raw) + sum(self.months.values()) + self.rest
        return Use(taken, tuple(self.raw), tuple(Month(*one) for one in self.months.items()))

    def make(self, cut: Cut) -> None:
        """Deletes it."""
        if cut.month is not None:
            del self.months[cut.month]
        else:
            assert cut.raw_before is not None
            self.raw = [one for one in self.raw if one.newest_at >= cut.raw_before]


def lived(machine: Machine, budget: int, hours: int) -> Iterator[tuple[Decision, Use]]:
    """Looks every hour, and does what was decided."""
    memory = Memory()
    for _ in range(hours):
        machine.pass_hour()
        use = machine.use()
        decision = decide(memory, use, budget, FLOORS, machine.now)
        yield decision, use
        memory = decision.memory
        for cut in decision.cuts:
            machine.make(cut)
            memory = Memory(memory.samples, memory.announced_at, memory.told_at,
                            (*memory.made, (machine.now, str(cut))))  # fmt: skip


def test_a_year_stays_within_its_budget_and_every_cut_was_announced_days_before() -> None:
    """Steady load: what is told is what goes, and the budget holds to the end."""
    machine = Machine(raw_per_hour=10 * MB, events_per_hour=4 * MB, rest_per_hour=MB // 10)
    budget = 20_000 * MB
    first_told: dict[str, float] = {}
    made: list[str] = []
    for decision, use in lived(machine, budget, 365 * 24):
        assert use.bytes <= budget
        if decision.tell and not decision.cuts:
            for cut in decision.outlook.first:
                first_told.setdefault("raw" if cut.month is None else cut.month, machine.now)
        for cut in decision.cuts:
            kind = "raw" if cut.month is None else cut.month
            made.append(kind)
            assert machine.now - first_told[kind] >= 2 * DAY_S
    assert "raw" in made
    assert [kind for kind in made if kind != "raw"][:2] == ["202601", "202602"]
    assert len(machine.months) >= 2


@pytest.mark.parametrize("budget", [1, 10 * MB, 3_000 * MB])
def test_a_budget_that_is_too_small_takes_nothing_that_must_stay(budget: int) -> None:
    """It is told, day by day, that it is exceeded, and by how much."""
    machine = Machine(raw_per_hour=10 * MB, events_per_hour=10 * MB, rest_per_hour=0)
    told = 0
    for decision, use in lived(machine, budget, 60 * 24):
        oldest = min(one.newest_at for one in machine.raw)
        assert decision.outlook.short == 0 or use.bytes > budget
        told += decision.tell and decision.outlook.short > 0
        assert oldest <= machine.now - 23 * HOUR_S or machine.now < BEGIN + 25 * HOUR_S
    assert {"202601", "202602", "202603"} >= set(machine.months) >= {"202602", "202603"}
    assert told >= 20
    assert "raise MAILPULSE_DISK_BYTES_MAX" in str(decision.outlook)


def test_nothing_is_said_with_room_to_spare() -> None:
    """Nor remembered as announced."""
    machine = Machine(raw_per_hour=MB, events_per_hour=0, rest_per_hour=0, raw_hours=24)
    for decision, _ in lived(machine, 1_000 * MB, 40 * 24):
        assert not decision.tell
        assert decision.memory.announced_at is None


@st.composite
def _uses(draw: st.DrawFn) -> Use:
    ages = draw(st.lists(st.floats(0, 20 * DAY_S), max_size=20))
    raw = tuple(Segment(draw(st.integers(1, 50 * MB)), BEGIN - age) for age in ages)
    first = draw(st.integers(0, 12))
    months = tuple(
        Month(f"{(datetime(2025, 1, 1, tzinfo=UTC) + timedelta(days=31 * n)):%Y%m}",
              draw(st.integers(1, 500 * MB)))
        for n in range(first, 13)
    )  # fmt: skip
    parts = sum(one.bytes for one in raw) + sum(one.bytes for one in months)
    return Use(parts + draw(st.integers(0, 1_000 * MB)), raw, months)


@given(use=_uses(), needed=st.integers(1, 3_000 * MB))
def test_no_more_goes_than_needed_and_the_floors_hold(use: Use, needed: int) -> None:
    """Without the newest thing that goes, too little would be freed; raw records go first."""
    cuts, short = plan(use, needed, FLOORS, BEGIN)
    freed = sum(cut.bytes for cut in cuts)
    assert short == max(0, needed - freed)
    for cut in cuts:
        if cut.raw_before is not None:
            gone = [one for one in use.raw if one.newest_at < cut.raw_before]
            assert all(one.newest_at < BEGIN - FLOORS.raw_hours * HOUR_S for one in gone)
            newest = max(one.newest_at for one in gone)
            assert cut.bytes - sum(o.bytes for o in gone if o.newest_at == newest) < needed
        else:
            assert cut.month is not None
            assert Month(cut.month, 0).ends_at <= BEGIN - FLOORS.events_hours * HOUR_S
            assert freed - cuts[-1].bytes < needed
    may_go = [one for one in use.raw if one.newest_at < BEGIN - FLOORS.raw_hours * HOUR_S]
    if short or any(cut.month for cut in cuts):
        assert sum(c.bytes for c in cuts if c.month is None) == sum(one.bytes for one in may_go)


@settings(max_examples=60)
@given(
    steps=st.lists(st.tuples(st.floats(-2 * HOUR_S, 60 * HOUR_S), _uses()), max_size=30),
    budget=st.integers(1, 3_000 * MB),
)
def test_whatever_the_disk_does_a_cut_was_announced_a_day_before_and_the_last_has_settled(
    steps: list[tuple[float, Use]], budget: int
) -> None:
    """The clock may be set back, and stores may shrink and grow by leaps."""
    memory, now, announced, last = Memory(), BEGIN, None, None
    for step, use in steps:
        now += step
        decision = decide(memory, use, budget, FLOORS, now)
        memory = decision.memory
        if announced is None and memory.announced_at is not None:
            assert decision.tell
        announced = memory.announced_at
        if decision.cuts:
            assert announced is not None
            assert now >= announced + NOTICE_S
            assert use.bytes >= CUT * budget
            assert last is None or now >= last + SETTLE_S
            last = now
            memory = Memory(memory.samples, announced, memory.told_at, ((now, "cut"),))


def test_growth_is_told_from_a_day_on() -> None:
    """And with it when something goes."""
    memory = Memory()
    for hour in range(60):
        use = Use((500 + 10 * hour) * MB)
        decision = decide(memory, use, 1_200 * MB, FLOORS, BEGIN + hour * HOUR_S)
        memory = decision.memory
        known = decision.outlook.growth_per_day
        assert (known is None) == (hour < 24)
    assert known == pytest.approx(240 * MB)
    assert decision.outlook.cut_at == pytest.approx(
        BEGIN + 59 * HOUR_S + (CUT * 1_200 - 1_090) / 10 * HOUR_S
    )
    assert "+240.0 MB a day" in str(decision.outlook)
    assert AIM < CUT
