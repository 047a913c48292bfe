"""Deliveries of one destination against a brute-force model: order, nothing lost, bounds."""

import itertools
import random
from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from streams.deliver.breaker import FAILURES, PROBE_S_MAX, Breaker, backoff_s
from streams.deliver.core import CROWDED_TRIES, Deliveries, Item, Limits, Place, Request
from streams.deliver.outcomes import DELIVERED, Blame, Outcome, of_answer
from streams.deliver.progress import Progress, restored

NOW = 1_800_000_000.0
"""Seconds since 1970: 2027-01-15T08:00:00Z."""
PLACES = (Place("t", 0), Place("t", 1))
LIMITS = Limits(
    records_max=8, bytes_max=1_000, concurrency=3, batch_max=3, batch_bytes_max=40, tries_max=4,
    give_up_s=3_600.0,
)  # fmt: skip
FAILED = {
    "refused": Outcome("422: no", Blame.RECORD),
    "error": Outcome("500", Blame.UNKNOWN),
    "away": Outcome("no connection", Blame.DESTINATION),
    "busy": Outcome("429", Blame.DESTINATION, hold_s=30.0),
    "gone": Outcome("410", Blame.DESTINATION, gone=True, or_record=True),
    "forbidden": Outcome("403", Blame.DESTINATION, or_record=True),
}


class Courses(RuleBasedStateMachine):
    """Random courses of reading, answering, waiting, crashing and moving partitions.

    The model keeps every record that was ever appended, what the receiver got, and what was parked;
    it knows nothing of how the machine works.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.log: dict[Place, list[tuple[str, int] | None]] = {place: [] for place in PLACES}
        self.got: dict[Place, set[int]] = {place: set() for place in PLACES}
        self.parked: dict[Place, set[int]] = {place: set() for place in PLACES}
        self.commits: dict[Place, tuple[int, str]] = {}
        self.flying: dict[int, Request] = {}
        self.parking: list[Item] = []
        self.counted: dict[tuple[Place, int], int] = defaultdict(int)

    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed: int) -> None:
        self.dice = random.Random(seed).random
        self._start()

    def _start(self) -> None:
        self.machine = Deliveries(LIMITS, self.dice)
        self.flying, self.parking = {}, []
        self.counted.clear()
        for place in PLACES:
            self.machine.assign(place, restored(*self.commits.get(place, (0, ""))))

    # --- what happens ---

    @rule(
        place=st.sampled_from(PLACES), key=st.sampled_from("abc"),
        size=st.sampled_from((1, 15, 60)), gap=st.booleans(),
    )  # fmt: skip
    def append(self, place: Place, key: str, size: int, gap: bool) -> None:
        if gap:
            self.log[place].append(None)  # an offset without a record
        self.log[place].append((key, size))

    @rule(place=st.sampled_from(PLACES), number=st.integers(1, 6), skipped=st.booleans())
    def read(self, place: Place, number: int, skipped: bool) -> None:
        if place not in self.machine.progress:
            return
        progress = self.machine.progress[place]
        for offset in range(progress.position, len(self.log[place])):
            record = self.log[place][offset]
            if record is None:
                continue
            if number == 0 or self.machine.room == 0:
                return
            number -= 1
            if skipped:
                self.machine.skip(place, offset)
                self.parked[place].add(offset)  # the filter left it out: as good as done
                skipped = False
            else:
                self.machine.add(place, offset, (place, record[0]), offset, record[1])

    @rule()
    def send(self) -> None:
        for request in self.machine.take(self.now):
            self._may_be_sent(request)
            self.flying[request.number] = request

    @precondition(lambda self: self.flying)
    @rule(which=st.integers(0, 10), how=st.sampled_from((*FAILED, "ok", "ok", "ok", "ok")))
    def answer(self, which: int, how: str) -> None:
        request = self.flying.pop(sorted(self.flying)[which % len(self.flying)])
        outcome = FAILED.get(how, DELIVERED)
        if outcome.delivered:
            for item in request.items:
                self.got[item.place].add(item.offset)
        alone = len(request.items) == 1 and not self.machine.breaker.is_open
        if alone and (outcome.or_record or outcome.blame in (Blame.RECORD, Blame.UNKNOWN)):
            self.counted[request.items[0].place, request.items[0].offset] += 1
        for item in self.machine.answer(request.number, outcome, self.now):
            assert alone, "only a record that failed alone is parked"
            assert self.counted[item.place, item.offset] >= 2
            self.parking.append(item)

    @rule()
    def make_room(self) -> None:
        item = self.machine.crowded(self.now)
        if item is not None:
            assert self.machine.room == 0
            assert self.counted[item.place, item.offset] >= CROWDED_TRIES
            self.parking.append(item)

    @precondition(lambda self: self.parking)
    @rule()
    def letter_acknowledged(self) -> None:
        item = self.parking.pop(0)
        self.machine.parked(item)
        self.parked[item.place].add(item.offset)

    @rule(seconds=st.sampled_from((0.5, 6.0, 40.0, 400.0, 4_000.0)))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(paused=st.booleans())
    def pause(self, paused: bool) -> None:
        self.machine.pause(paused, self.now)

    @rule(place=st.sampled_from(PLACES))
    def commit(self, place: Place) -> None:
        if place in self.machine.progress:
            progress = self.machine.progress[place]
            self.commits[place] = progress.offset, progress.metadata(24)

    @rule()
    def crash(self) -> None:
        self._start()

    @rule(place=st.sampled_from(PLACES))
    def move(self, place: Place) -> None:
        if place in self.machine.progress:
            self.machine.revoke(place)
        else:
            self.machine.assign(place, restored(*self.commits.get(place, (0, ""))))

    # --- what must hold ---

    def _may_be_sent(self, request: Request) -> None:
        """In order: everything before it of its key is done, or before it in this request."""
        assert len(request.items) <= LIMITS.batch_max
        if len(request.items) > 1:
            assert sum(item.size for item in request.items) <= LIMITS.batch_bytes_max
        for number, item in enumerate(request.items):
            beside = {one.offset for one in request.items[:number] if one.place == item.place}
            done = self.got[item.place] | self.parked[item.place] | beside
            done |= {one.offset for one in self.parking if one.place == item.place}
            for offset, record in enumerate(self.log[item.place][: item.offset]):
                if record is not None and (item.place, record[0]) == item.key:
                    assert offset in done, "sent before one of its key that is not finished"

    @invariant()
    def nothing_is_finished_that_was_not_delivered(self) -> None:
        for place, progress in self.machine.progress.items():
            done = self.got[place] | self.parked[place]
            for offset, record in enumerate(self.log[place]):
                assert record is None or not progress.is_finished(offset) or offset in done

    @invariant()
    def held_and_in_flight_are_bounded(self) -> None:
        assert self.machine.held <= LIMITS.records_max
        assert self.machine.flying <= LIMITS.concurrency
        assert self.machine.held_bytes <= LIMITS.bytes_max + 60
        held = [item for items in self.machine._held.values() for item in items.values()]
        assert self.machine.held_bytes == sum(item.size for item in held)

    @invariant()
    def whatever_is_held_will_be_sent(self) -> None:
        """By time, by an answer, by an acknowledgement or by the operator."""
        machine = self.machine
        if machine.held and not (self.parking or self.flying or machine.paused):
            assert machine.wake_at() is not None

    def teardown(self) -> None:
        """With a receiver that is well again everything is delivered or parked."""
        if not hasattr(self, "machine"):
            return
        self.machine.pause(False, self.now)
        for place in PLACES:
            if place not in self.machine.progress:
                self.move(place)
        for _ in range(200):
            if self._all_done():
                return
            while self.parking:
                self.letter_acknowledged()
            for place in PLACES:
                self.read(place, 100, False)
            self.send()
            while self.flying:
                self.answer(0, "ok")
            self.wait(PROBE_S_MAX)
        raise AssertionError("not delivered")

    def _all_done(self) -> bool:
        return self.machine.held == 0 and all(
            {at for at, record in enumerate(records) if record is not None}
            <= self.got[place] | self.parked[place]
            for place, records in self.log.items()
        )


Courses.TestCase.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
TestCourses = Courses.TestCase


def delivered_all(machine: Deliveries, now: float) -> list[Item]:
    """Delivers whatever may be sent now."""
    sent: list[Item] = []
    for request in machine.take(now):
        sent += request.items
        machine.answer(request.number, DELIVERED, now)
    return sent


def machine_with(records: int, limits: Limits, keys: int = 10**9) -> Deliveries:
    """Deliveries that hold records 0 to ``records - 1`` of one partition."""
    machine = Deliveries(limits, lambda: 0.5)
    machine.assign(PLACES[0], Progress(0))
    for offset in range(records):
        machine.add(PLACES[0], offset, offset % keys, offset, 10)
    return machine


def test_a_refused_record_is_parked_after_its_tries_and_its_key_goes_on() -> None:
    """Others go past it meanwhile; the offset waits for the dead letter."""
    machine = machine_with(4, Limits(tries_max=3), keys=2)
    now, sent = 0.0, list[int]()
    parked: list[Item] = []
    while not parked:
        for request in machine.take(now):
            [item] = request.items
            outcome = FAILED["refused"] if item.offset == 0 else DELIVERED
            sent.append(item.offset)
            parked += machine.answer(request.number, outcome, now)
        now += 100.0
    assert sent == [0, 1, 3, 0, 0]
    assert (parked[0].offset, parked[0].tries, parked[0].said) == (0, 3, "422: no")
    assert [item.offset for item in delivered_all(machine, now)] == [2]
    assert machine.progress[PLACES[0]].offset == 0
    machine.parked(parked[0])
    assert machine.progress[PLACES[0]].offset == 4


@pytest.mark.parametrize("how", ["away", "busy", "gone", "forbidden"])
def test_a_dead_destination_parks_nothing(how: str) -> None:
    """However long it is dead, and however few records there are."""
    machine = machine_with(2, Limits(tries_max=1, give_up_s=10.0))
    now = 0.0
    for _ in range(500):
        for request in machine.take(now):
            assert machine.answer(request.number, FAILED[how], now) == []
        assert machine.crowded(now) is None
        now += 3_600.0
    delivered = delivered_all(machine, now) + delivered_all(machine, now + 100.0)
    assert [item.offset for item in delivered] in ([0, 1], [1, 0])


@pytest.mark.parametrize("how", ["forbidden", "gone"])
@pytest.mark.parametrize("batch", [1, 4])
def test_a_record_that_alone_is_forbidden_is_given_up_in_the_end(how: str, batch: int) -> None:
    """A firewall refuses its words, or an API does not find it: its key would wait for ever."""
    limits = Limits(give_up_s=72 * 3600.0, batch_max=batch, concurrency=2)
    machine = machine_with(4, limits, keys=3)
    now, offset, parked = 0.0, 4, list[int]()
    while now < 30 * 86_400 and not parked:
        for request in machine.take(now):
            bad = any(item.offset == 1 for item in request.items)
            for item in machine.answer(request.number, FAILED[how] if bad else DELIVERED, now):
                parked.append(item.offset)
                machine.parked(item)
        if machine.held < 3:
            machine.add(PLACES[0], offset, offset * 3, offset, 10)  # others come and are delivered
            offset += 1
        now += 60.0
    assert parked == [1]
    assert now > 72 * 3600.0


def test_no_tries_and_no_time_run_while_the_breaker_is_open() -> None:
    """A receiver that answers 500 to everything for a week loses no record its 72 hours."""
    machine = machine_with(FAILURES, Limits(give_up_s=72 * 3600.0))
    now = 0.0
    while now < 7 * 86_400:
        for request in machine.take(now):
            assert machine.answer(request.number, FAILED["error"], now) == []
        now += 600.0
    assert machine.breaker.is_open
    held = machine._held[PLACES[0]].values()
    assert {item.tries for item in held} == {1}
    assert all(item.first_failed is not None and item.first_failed < 60.0 for item in held)


def test_probes_take_turns_so_that_refused_records_keep_the_breaker_open_for_no_one() -> None:
    """The first records are refused for ever: a later one is probed too, and closes it."""
    machine = machine_with(FAILURES + 1, Limits(concurrency=FAILURES))
    now, good = 0.0, list[int]()
    while not good:
        for request in machine.take(now):
            [item] = request.items
            bad = item.offset < FAILURES
            machine.answer(request.number, FAILED["refused"] if bad else DELIVERED, now)
            good += [] if bad else [item.offset]
        now += 400.0
        assert now < 40_000, "never probed"
    assert not machine.breaker.is_open


def test_a_failed_request_of_many_is_halved_until_the_one_at_fault_is_alone() -> None:
    """Each of the others is delivered, and only the one at fault is parked."""
    machine = machine_with(64, Limits(batch_max=64, tries_max=2, concurrency=1))
    now, parked, requests = 0.0, list[int](), 0
    while machine.held:
        for request in machine.take(now):
            requests += 1
            bad = any(item.offset == 37 for item in request.items)
            outcome = FAILED["refused"] if bad else DELIVERED
            for item in machine.answer(request.number, outcome, now):
                parked.append(item.offset)
                machine.parked(item)
        now += 100.0
    assert parked == [37]
    assert requests < 30


def test_refused_records_that_fill_the_window_make_room() -> None:
    """Else the others would wait until the first of them has had its 72 hours."""
    machine = machine_with(5, Limits(records_max=5, concurrency=1))
    machine.breaker.failed = lambda *_, **__: None  # type: ignore[method-assign]  # others succeed
    now, made = 0.0, None
    while made is None:
        for request in machine.take(now):
            machine.answer(request.number, FAILED["error"], now)
        made = machine.crowded(now)
        now += 1.0
        assert now < 3_600
    assert made.tries == CROWDED_TRIES
    machine.parked(made)
    assert machine.room == 1


def test_rate_and_concurrency_are_kept() -> None:
    """A second of requests at once, then one per interval."""
    machine = machine_with(100, Limits(rate_per_s=10.0, concurrency=100))
    sent, now = list[int](), 100.0
    for _ in range(40):
        sent.append(len(machine.take(now)))
        now += 0.05
    assert sent[0] <= 11
    assert sum(sent) - sent[0] == pytest.approx(20, abs=1)


@given(st.text("01+, 9", max_size=14))
def test_any_metadata_can_be_read(text: str) -> None:
    """What a commit says is either its spans or nothing."""
    progress = restored(7, f"1 {text}")
    assert progress.offset >= 7
    if progress.spans and progress.offset == 7:
        assert restored(7, progress.metadata()).spans == progress.spans


DATE_PARTS = st.sampled_from(
    ["Mon,", "1", "Jan", "0001", "2026", "9999", str(10**20), "00:00:00", "24:60:60", "GMT",
     "+0000", "-9999", f"+{10**20}", "(", ")", ",", ":", "-", " ", "\udcff", "é"]
)  # fmt: skip


@given(st.one_of(st.text(), st.lists(DATE_PARTS, max_size=8).map(" ".join)))
def test_any_retry_after_is_a_pause_within_bounds(text: str) -> None:
    """It is the destination's text: nothing in it may end the role."""
    assert 0.0 <= of_answer(429, "", {"retry-after": text}, NOW).hold_s <= 6 * 3600.0


@given(st.integers(0, 50), st.lists(st.tuples(st.integers(0, 80), st.integers(0, 6))))
def test_progress_is_a_set_of_offsets(start: int, spans: list[tuple[int, int]]) -> None:
    """Against the set itself; and a commit gives it back, or less of it."""
    progress, done = Progress(start), set(range(start))
    for begin, length in spans:
        progress.finish(begin, begin + length)
        done |= set(range(begin, begin + length))
    lowest = next(at for at in itertools.count() if at not in done)
    assert progress.offset == lowest
    assert [progress.is_finished(at) for at in range(100)] == [at in done for at in range(100)]
    open_ones = len(set(range(start, start + 20)) - done)
    assert progress.unfinished(start, start + 20) == open_ones
    again = restored(progress.offset, progress.metadata())
    assert (again.offset, again.spans) == (progress.offset, progress.spans)
    short = restored(progress.offset, progress.metadata(12))
    assert set(short.spans) <= set(progress.spans)
    assert len(progress.metadata(12)) <= 12


@pytest.mark.parametrize(
    "text",
    [
        "", "rubbish", "2 0 ", "1 x 1+1", "1 0 1-1", "1 0 9", "1 0 1+11+1", "1 0 1+1,", "1 0 ,",
        "1 0 1+1,1+1+1", "1 ٣ ",
    ],
)  # fmt: skip
def test_metadata_of_another_form_is_empty(text: str) -> None:
    """A commit by someone else's tool resets nothing but what was finished ahead."""
    assert (restored(7, text).offset, restored(7, text).spans) == (7, [])


def test_backoff_doubles_and_is_bounded() -> None:
    """The second half of a pause is random."""
    pauses = [backoff_s(n, 5.0, 100.0, lambda: 0.0) for n in range(1, 8)]
    assert pauses == [2.5, 5.0, 10.0, 20.0, 40.0, 50.0, 50.0]
    assert backoff_s(10**6, 5.0, 100.0, lambda: 0.999) < 100.0


def test_one_request_that_fails_for_ever_does_not_open_the_breaker() -> None:
    """Different ones do."""
    breaker = Breaker(lambda: 0.5)
    for _ in range(100):
        breaker.failed("a", 0.0, probe=False, gone=False)
    assert not breaker.is_open
    for name in range(FAILURES):
        breaker.failed(name, 0.0, probe=False, gone=False)
    assert breaker.is_open


@pytest.mark.parametrize(
    ("status", "after", "blame", "hold_s"),
    [
        (200, "", None, 0.0),
        (299, "60", None, 0.0),
        (302, "", Blame.DESTINATION, 0.0),
        (401, "", Blame.DESTINATION, 0.0),
        (410, "", Blame.DESTINATION, 0.0),
        (422, "60", Blame.RECORD, 0.0),
        (429, "120", Blame.DESTINATION, 120.0),
        (429, "Fri, 15 Jan 2027 08:01:00 GMT", Blame.DESTINATION, 60.0),
        (429, "Fri, 15 Jan 2027 07:00:00 GMT", Blame.DESTINATION, 0.0),
        (429, "soon", Blame.DESTINATION, 0.0),
        (429, "-5", Blame.DESTINATION, 0.0),
        (429, "1e9", Blame.DESTINATION, 0.0),
        (429, "00000000000120", Blame.DESTINATION, 120.0),
        (429, f"Mon, 01 Jan {10**20} 00:00:00 GMT", Blame.DESTINATION, 0.0),
        (429, f"Mon, 01 Jan 2026 00:00:00 +{10**20}", Blame.DESTINATION, 0.0),
        (429, "Fri, 31 Dec 9999 23:59:59 -2359", Blame.DESTINATION, 6 * 3600.0),
        (429, "٣", Blame.DESTINATION, 0.0),
        (503, "9" * 400, Blame.DESTINATION, 6 * 3600.0),
        (500, "", Blame.UNKNOWN, 0.0),
        (503, "", Blame.UNKNOWN, 0.0),
        (600, "", Blame.UNKNOWN, 0.0),
    ],
)
def test_answers(status: int, after: str, blame: Blame | None, hold_s: float) -> None:
    """Whom a status is about, and how long it asks to wait."""
    outcome = of_answer(status, "text", {"retry-after": after}, NOW)
    assert (outcome.blame, outcome.hold_s) == (blame, hold_s)
    assert outcome.said == ("" if blame is None else f"{status}: text")
