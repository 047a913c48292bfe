"""Sends simulated load to any pipeline and keeps a ledger of the answers on disk.

Invariants:
1. Every answer is written to disk as it comes, one JSON line per event with its status. An event
   that was answered 200 must be found afterwards, whatever was killed meanwhile.
2. Events come from the simulator, which shares no code with the pipeline.
3. Irregularities are configured in ``Shape``: duplicates, bursts, reordering, late events, a hot
   campaign.
"""

import asyncio
import random
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import BinaryIO

import orjson

from streams.simulation.accounts import Accounts
from streams.simulation.ledger import Ledger
from streams.simulation.simulator import PLANS, Happening, Plan, Simulator
from streams.simulation.traffic import GIVE_UP_S, Traffic

DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Shape:
    """Irregularities of the load; shares are between 0 and 1.

    Attributes:
        duplicates: share of events that are sent again, in one of the next requests.
        repeats_max: how often such an event is sent again, at most.
        shuffled_s: events are reported up to this many seconds late, in any order (0: in order).
        late: share of messages whose events are reported three days late.
        hot: share of messages that belong to one campaign.
        burst_every_s: seconds between bursts, with nothing sent between them (0: no bursts).
        clock_skew_s: error of the provider's clock, seconds.
    """

    duplicates: float = 0.0
    repeats_max: int = 4
    shuffled_s: int = 0
    late: float = 0.0
    hot: float = 0.0
    burst_every_s: float = 0.0
    clock_skew_s: int = 0


class Books(Ledger):
    """A ledger that is also written to disk before the sender continues (invariant 1).

    Args:
        path: JSON lines; appended to.
    """

    __slots__ = ("_file",)
    _file: BinaryIO

    def __init__(self, path: Path) -> None:
        super().__init__()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab")

    def accept(self, events: Iterable[Happening]) -> None:
        """See ``Ledger.accept``."""
        events = tuple(events)
        self._write(events, 200)
        super().accept(events)

    def doubt(self, events: Iterable[Happening]) -> None:
        """See ``Ledger.doubt``."""
        events = tuple(events)
        self._write(events, 0)
        super().doubt(events)

    def _write(self, events: Iterable[Happening], status: int) -> None:
        lines = [orjson.dumps({"status": status, **asdict(event)}) for event in events]
        self._file.write(b"\n".join(lines) + b"\n")
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def read_books(path: Path) -> Ledger:
    """Reads a ledger from a file; a truncated last line is ignored.

    Raises:
        OSError: no such file.
    """
    ledger = Ledger()
    for line in path.read_bytes().splitlines():
        try:
            document = orjson.loads(line)
        except ValueError:
            continue
        status = document.pop("status")
        event = [Happening(**document)]
        if status == 200:
            ledger.accept(event)
        else:
            ledger.doubt(event)
    return ledger


class UnrulySimulator(Simulator):
    """The simulator with the irregularities of a ``Shape``.

    The events are the same; only their reports change. The times of a message's events may be
    shifted, all by the same amount.
    """

    def __init__(
        self, run: str, rate_per_s: float, epoch_s: float, dice: random.Random, shape: Shape
    ) -> None:
        super().__init__(run, rate_per_s, epoch_s, dice, plans_of(shape))
        self._shape = shape
        self._chance = dice
        self._again: list[tuple[float, Happening]] = []
        self._burst_s = 0.0

    def advance(self, elapsed_s: float) -> list[Happening]:
        """See ``Simulator.advance``; in bursts if the shape has them."""
        every = self._shape.burst_every_s
        if every:
            if elapsed_s - self._burst_s < every:
                return []
            self._burst_s = elapsed_s
        return self._reported(super().advance(elapsed_s), elapsed_s)

    def finish(self) -> list[Happening]:
        """See ``Simulator.finish``; includes outstanding repeats."""
        out = self._reported(super().finish(), float("inf"))
        out += [event for _, event in self._again]
        self._again.clear()
        return out

    def _reported(self, events: list[Happening], now_s: float) -> list[Happening]:
        shape, chance = self._shape, self._chance
        moved = [self._moved(event) for event in events]
        for event in moved:
            if shape.duplicates and chance.random() < shape.duplicates:
                times = 1 + int(chance.random() ** 3 * shape.repeats_max)
                self._again += [(now_s + 3 * chance.random(), event) for _ in range(times)]
        due = [event for at, event in self._again if at <= now_s]
        self._again = [(at, event) for at, event in self._again if at > now_s]
        out = moved + due
        if shape.shuffled_s:
            chance.shuffle(out)
        return out

    def _moved(self, event: Happening) -> Happening:
        """The event, with its time shifted as the shape says."""
        shape = self._shape
        # the same shift for all events of a message keeps their order and distances
        draw = random.Random(event.message_id)
        by = draw.randint(-shape.shuffled_s, 0) if shape.shuffled_s else 0
        if draw.random() < shape.late:
            by -= 3 * DAY_S
        by += shape.clock_skew_s
        return replace(event, at_s=event.at_s + by) if by else event


def plans_of(shape: Shape) -> Sequence[Plan]:
    """The demo's campaigns; the first has the share ``shape.hot`` of all messages, if given."""
    if not shape.hot:
        return PLANS
    first, *others = PLANS
    rest = sum(plan.weight for plan in others)
    return (
        replace(first, weight=shape.hot),
        *(replace(plan, weight=plan.weight / rest * (1 - shape.hot)) for plan in others),
    )


@dataclass(frozen=True, slots=True)
class Load:
    """What to send.

    Attributes:
        url: of the ingress.
        rate_per_s: events per second, without duplicates.
        seconds: how long; ``None``: until stopped.
        ledger: file for the ledger.
        seed: same seed, same events.
        give_up_s: how long senders go on retrying after the end, seconds.
    """

    url: str
    rate_per_s: float
    seconds: float | None
    ledger: Path
    seed: int
    run: str
    shape: Shape = Shape()
    give_up_s: float = GIVE_UP_S


@dataclass(frozen=True, slots=True)
class Sent:
    """The outcome. ``trouble``: problem -> how often, such as unanswered requests."""

    accepted: int
    unsure: int
    duplicates: int
    requests: int
    trouble: dict[str, int]
    campaigns: tuple[str, ...]


async def send(load: Load, accounts: Accounts, now_s: float, stop: asyncio.Event) -> Sent:
    """Sends; returns when every request was answered or given up.

    Args:
        accounts: with keys that the ingress trusts.
        now_s: seconds since 1970.
        stop: ends it early.
    """
    simulator = UnrulySimulator(
        load.run, load.rate_per_s, now_s, random.Random(load.seed), load.shape
    )
    traffic = Traffic(
        simulator, accounts.senders, load.url, random.Random(load.seed + 1), lambda events: None,
        give_up_s=load.give_up_s,
    )  # fmt: skip
    with closing(Books(load.ledger)) as books:
        traffic.ledger = books
        await traffic.run(load.seconds, stop)
    return Sent(
        accepted=len(books.accepted),
        unsure=len(books.unsure),
        duplicates=books.duplicates_sent,
        requests=books.sent_requests,
        trouble=traffic.trouble,
        campaigns=simulator.campaigns,
    )
