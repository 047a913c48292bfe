"""The deliveries of one destination: which request goes out next, and what is finished.

A state machine without a clock and without a network. Records, answers and times go in; requests,
records to park and offsets to commit come out.

Invariants:
1. Pure: the time (seconds, any origin, never backwards) and the dice are arguments.
2. Records of one key go out in the order of their offsets. The next one is sent only when all
   before it are delivered or parked. Other keys go past.
3. A record is finished when it is delivered, or when its dead letter is acknowledged. Nothing else
   moves the offset to commit: at-least-once delivery.
4. Held are at most ``records_max`` records, and at most ``bytes_max`` bytes and one record more, if
   the caller adds only while there is ``room``. In flight are at most ``concurrency`` requests.
5. A record is parked after ``tries_max`` answers that refuse it, or ``give_up_s`` after its first
   failure. Failures that are about the destination do not count (an answer is, unless others were
   delivered since the record's last such answer), and neither tries nor time count
   while the breaker is open, the destination asked for a pause, or an operator paused it.
6. When everything held waits for another try and there is room for nothing else, the record with
   the most tries is parked early, if it has ``CROWDED_TRIES``: a few refused records do not stop
   the others.
7. A request of several records that fails is sent again in halves, so that the one at fault is
   found.
"""

from collections import deque
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field, replace
from heapq import heapify, heappop, heappush
from itertools import count
from typing import NamedTuple

from streams.deliver.breaker import Breaker, Dice, backoff_s
from streams.deliver.outcomes import Blame, Outcome
from streams.deliver.progress import Progress

CROWDED_TRIES = 3
RETRY_FIRST_S = 5.0
RETRY_S_MAX = 6 * 3600.0
DESTINATION_RETRY_S_MAX = 60.0
"""Longest pause after failures that are about the destination, while the breaker is closed."""


class Place(NamedTuple):
    """A partition."""

    topic: str
    partition: int


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one destination.

    Attributes:
        records_max: held at once.
        bytes_max: of the bodies held.
        concurrency: requests at once.
        batch_max: records in one request.
        batch_bytes_max: bytes of the bodies in one request, unless a single one is larger.
        rate_per_s: requests a second; ``None``: any number.
        tries_max: answers that refuse a record before it is parked.
        give_up_s: how long a record is tried, seconds.
    """

    records_max: int = 2_000
    bytes_max: int = 16_000_000
    concurrency: int = 8
    batch_max: int = 1
    batch_bytes_max: int = 500_000
    rate_per_s: float | None = None
    tries_max: int = 8
    give_up_s: float = 72 * 3600.0


@dataclass(slots=True, eq=False)
class Item:
    """A record to deliver.

    Attributes:
        key: what its order is kept by.
        content: opaque.
        size: of its body, bytes.
        tries: answers that count against it.
        said: the last of them.
        first_failed: when the first came, on the clock that stands still by invariant 5.
        delivered_by_then: requests that had been delivered when the destination last answered this
            one with what may be about either.
        together_max: records that may share a request with it, itself included.
    """

    place: Place
    offset: int
    key: Hashable
    content: object
    size: int
    together_max: int
    tries: int = 0
    said: str = ""
    first_failed: float | None = None
    delivered_by_then: int | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """One request to send.

    Attributes:
        number: to answer it by.
        items: what it carries, those of a key in order.
        probe: sent while the breaker is open.
    """

    number: int
    items: tuple[Item, ...]
    probe: bool


@dataclass(slots=True)
class _Queue:
    """The records of one key, first to last, and how many of them are in flight."""

    items: deque[Item] = field(default_factory=deque)
    flying: int = 0


class Deliveries:
    """See the module.

    Args:
        limits: of the destination.
        dice: for pauses.

    Attributes:
        breaker: of the destination.
        progress: of each assigned partition.
        held_bytes: of the bodies held.
    """

    def __init__(self, limits: Limits, dice: Dice) -> None:
        self.limits = limits
        self.breaker = Breaker(dice)
        self.progress: dict[Place, Progress] = {}
        self.held_bytes = 0
        self._dice = dice
        self._queues: dict[Hashable, _Queue] = {}
        self._ready: deque[Hashable] = deque()
        self._waiting: list[tuple[float, int, Hashable]] = []
        self._flying: dict[int, Request] = {}
        self._numbers = count(1)
        self._delivered = 0
        self._held: dict[Place, dict[int, Item]] = {}
        self._paused = False
        self._hold_until = 0.0
        self._slot = 0.0
        self._active = 0.0
        self._seen: float | None = None

    # --- partitions and records ---

    def assign(self, place: Place, progress: Progress) -> None:
        """Begins a partition, or begins it anew from another place."""
        self.revoke(place)
        self.progress[place] = progress
        self._held[place] = {}

    def revoke(self, place: Place) -> None:
        """Forgets a partition. Answers to what is in flight of it change nothing any more."""
        self.progress.pop(place, None)
        gone = self._held.pop(place, {})
        if not gone:
            return
        self.held_bytes -= sum(item.size for item in gone.values())
        for key in {item.key for item in gone.values()}:
            self._queues.pop(key, None)
        self._ready = deque(key for key in self._ready if key in self._queues)
        self._waiting = [one for one in self._waiting if one[2] in self._queues]
        heapify(self._waiting)

    def holds(self, place: Place) -> bool:
        """Whether a record of a partition is held."""
        return bool(self._held.get(place))

    @property
    def held(self) -> int:
        """Records that are not finished, those that are being parked included."""
        return sum(map(len, self._held.values()))

    @property
    def room(self) -> int:
        """How many more records may be added."""
        if self.held_bytes >= self.limits.bytes_max:
            return 0
        return max(0, self.limits.records_max - self.held)

    @property
    def flying(self) -> int:
        """Requests that have not been answered."""
        return len(self._flying)

    def add(
        self, place: Place, offset: int, key: Hashable, content: object, size: int
    ) -> Item | None:
        """Takes the next record of a partition; ``None`` if it was finished before a restart.

        Args:
            key: of its order; one key has records of one partition only.
        """
        progress = self.progress[place]
        progress.read(offset)
        progress.position = offset + 1
        if progress.is_finished(offset):
            return None
        item = Item(place, offset, key, content, size, self.limits.batch_max)
        self._held[place][offset] = item
        self.held_bytes += size
        queue = self._queues.get(key)
        if queue is None:
            self._queues[key] = queue = _Queue()
            self._ready.append(key)
        queue.items.append(item)
        return item

    def set_aside(self, place: Place, offset: int, content: object, size: int) -> Item:
        """Takes the next record of a partition, which can't be sent: to be parked, out of order.

        Call ``parked`` when its dead letter is acknowledged.
        """
        progress = self.progress[place]
        progress.read(offset)
        progress.position = offset + 1
        item = Item(place, offset, None, content, size, 1)
        self._held[place][offset] = item
        self.held_bytes += size
        return item

    def skip(self, place: Place, offset: int) -> None:
        """Finishes the next record of a partition without sending it: the filter leaves it out."""
        progress = self.progress[place]
        progress.read(offset)
        progress.read(offset + 1)

    def oldest(self, place: Place) -> Item | None:
        """The record at the offset to commit, if it is held."""
        return self._held[place].get(self.progress[place].offset)

    # --- time ---

    @property
    def paused(self) -> bool:
        """Whether an operator paused it."""
        return self._paused

    def waits_s(self, now: float) -> float:
        """How much longer the destination asked to be left alone, seconds."""
        return max(0.0, self._hold_until - now)

    def state(self, now: float) -> str:
        """``paused``, ``failing`` (it is only probed), ``waiting`` (as it asked to), or ``on``."""
        if self._paused:
            return "paused"
        if self.breaker.is_open:
            return "failing"
        return "waiting" if self.waits_s(now) else "on"

    def pause(self, paused: bool, now: float) -> None:
        """Pauses or resumes: nothing is sent meanwhile."""
        self._tick(now)
        self._paused = paused

    def _tick(self, now: float) -> None:
        """Moves the clock of invariant 5."""
        seen = now if self._seen is None else self._seen
        if not self._paused and not self.breaker.is_open:
            self._active += max(0.0, now - max(seen, self._hold_until))
        self._seen = max(seen, now)

    def wake_at(self) -> float | None:
        """When ``take`` may have something again by time alone; ``None``: not by time alone."""
        if self._paused or not self._queues:
            return None
        probes = any(one.probe for one in self._flying.values())
        if self.breaker.is_open:
            none = probes or not (self._ready or self._waiting)
            due = None if none else self.breaker.probe_at
        elif len(self._flying) >= self.limits.concurrency:
            due = None
        elif self._ready:
            due = self._slot
        else:
            due = self._waiting[0][0] if self._waiting else None
        return None if due is None else max(due, self._hold_until)

    # --- requests ---

    def take(self, now: float) -> list[Request]:
        """The requests to send now; each must be answered by ``answer``."""
        self._tick(now)
        while self._waiting and self._waiting[0][0] <= now:
            self._ready.append(heappop(self._waiting)[2])
        if self._paused or now < self._hold_until:
            return []
        if self.breaker.is_open:
            return self._probe(now)
        taken = []
        while len(self._flying) < self.limits.concurrency and now >= self._slot:
            items = self._next_batch()
            if not items:
                break
            taken.append(self._launch(items, probe=False))
            if self.limits.rate_per_s is not None:
                self._slot = max(self._slot, now - 1.0) + 1.0 / self.limits.rate_per_s
        return taken

    def _launch(self, items: list[Item], *, probe: bool) -> Request:
        request = Request(next(self._numbers), tuple(items), probe)
        for item in items:
            self._queues[item.key].flying += 1
        self._flying[request.number] = request
        return request

    def _probe(self, now: float) -> list[Request]:
        """One record whose turn it is: each key in turn, so that a refused one keeps none out."""
        if now < self.breaker.probe_at or any(one.probe for one in self._flying.values()):
            return []
        if not self._ready and self._waiting:
            self._ready.append(heappop(self._waiting)[2])
        while self._ready:
            queue = self._queues.get(self._ready.popleft())
            if queue is not None and not queue.flying:
                return [self._launch([queue.items[0]], probe=True)]
        return []

    def _next_batch(self) -> list[Item]:
        items: list[Item] = []
        room, size = self.limits.batch_max, 0
        while self._ready and len(items) < room:
            key = self._ready[0]
            queue = self._queues.get(key)
            if queue is None or queue.flying:  # of a partition that was revoked since
                self._ready.popleft()
                continue
            for item in queue.items:
                fits = size + item.size <= self.limits.batch_bytes_max
                room = min(room, item.together_max)
                if items and (not fits or len(items) >= room):
                    break
                items.append(item)
                size += item.size
            if items[-1].key != key:  # not even its first record fits
                break
            self._ready.popleft()
        return items

    # --- answers ---

    def answer(self, number: int, outcome: Outcome, now: float) -> list[Item]:
        """What came of a request.

        Returns:
            Records to park, each with what was ``said``: call ``parked`` when its dead letter is
            acknowledged. Their keys go on at once.
        """
        self._tick(now)
        request = self._flying.pop(number)
        items = [item for item in request.items if self._is_held(item)]
        if outcome.delivered:
            self._delivered += 1
            self.breaker.succeeded()
            for item in items:
                self._leave_queue(item)
                self._finish(item)
            self._release(items, None)
            return []
        outcome = self._judged(items, outcome)
        counts = not self.breaker.is_open
        if counts and outcome.hold_s:
            self._hold_until = max(self._hold_until, now + outcome.hold_s)
        elif items:  # of a revoked partition: its next owner judges
            first = items[0]
            self.breaker.failed(
                (first.place, first.offset), now, probe=request.probe, gone=outcome.gone
            )
            if self.breaker.is_open and outcome.hold_s:
                self._hold_until = max(self._hold_until, now + outcome.hold_s)
        return self._failed(items, len(request.items), outcome, now, counts)

    def _judged(self, items: list[Item], outcome: Outcome) -> Outcome:
        """The outcome, about the records if others are delivered while these are not."""
        if not outcome.or_record:
            return outcome
        others = any(
            item.delivered_by_then is not None and item.delivered_by_then < self._delivered
            for item in items
        )
        for item in items:
            item.delivered_by_then = self._delivered
        return replace(outcome, blame=Blame.UNKNOWN, gone=False) if others else outcome

    def _failed(
        self, items: list[Item], together: int, outcome: Outcome, now: float, counts: bool
    ) -> list[Item]:
        park: list[Item] = []
        delay = 0.0
        for item in items:
            item.said = outcome.said
            if not counts:
                continue  # the breaker decides when the next is sent
            if together > 1 and (outcome.or_record or outcome.blame is not Blame.DESTINATION):
                item.together_max = max(1, together // 2)
            if outcome.blame is Blame.DESTINATION:
                row = max(1, self.breaker.failures)
                most = DESTINATION_RETRY_S_MAX
                delay = 0.0 if outcome.hold_s else self._pause_s(row, most)
            elif together > 1:
                delay = self._pause_s(1)
            elif self._is_given_up(item, outcome):
                self._leave_queue(item)
                park.append(item)
            else:
                delay = self._pause_s(item.tries)
        self._release(items, now + delay)
        return park

    def _pause_s(self, failures: int, most_s: float = RETRY_S_MAX) -> float:
        return backoff_s(failures, RETRY_FIRST_S, most_s, self._dice)

    def _is_given_up(self, item: Item, outcome: Outcome) -> bool:
        """Counts a failure of a record that was sent alone."""
        item.tries += 1
        if item.first_failed is None:
            item.first_failed = self._active
        refused = outcome.blame is Blame.RECORD and item.tries >= self.limits.tries_max
        return refused or self._active - item.first_failed >= self.limits.give_up_s

    def crowded(self, now: float) -> Item | None:
        """A record to park early by invariant 6, as in ``answer``; ``None``: there is none."""
        self._tick(now)
        stuck = not (self._ready or self._flying or self.room or self.breaker.is_open)
        if not stuck or self._paused or now < self._hold_until:
            return None
        heads = [self._queues[key].items[0] for _, _, key in self._waiting if key in self._queues]
        worst = max(heads, key=lambda item: item.tries, default=None)
        if worst is None or worst.tries < CROWDED_TRIES:
            return None
        self._waiting = [one for one in self._waiting if one[2] != worst.key]
        heapify(self._waiting)
        self._leave_queue(worst)
        self._release([worst], None)
        return worst

    def parked(self, item: Item) -> None:
        """The dead letter of a record is acknowledged."""
        if self._is_held(item):
            self._finish(item)

    def _is_held(self, item: Item) -> bool:
        return self._held.get(item.place, {}).get(item.offset) is item

    def _finish(self, item: Item) -> None:
        del self._held[item.place][item.offset]
        self.held_bytes -= item.size
        self.progress[item.place].finish(item.offset)

    def _leave_queue(self, item: Item) -> None:
        queue = self._queues[item.key]
        assert queue.items[0] is item, "records of a key finish in order"
        queue.items.popleft()

    def _release(self, items: Iterable[Item], retry_at: float | None) -> None:
        """Lets the keys of answered records go on: those with a failed first record by its time."""
        failed = {item.key for item in items} if retry_at is not None else set()
        for key in dict.fromkeys(item.key for item in items):
            queue = self._queues[key]
            queue.flying = 0
            if not queue.items:
                del self._queues[key]
            elif key in failed and queue.items[0].said and retry_at is not None:
                heappush(self._waiting, (retry_at, next(self._numbers), key))
            else:
                self._ready.append(key)
