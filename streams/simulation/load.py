"""Load for a pipeline of one's own: signed webhooks as providers send them, and books of answers.

Invariants:
1. Every answer is written to disk as it comes, one JSON line per event: id, what it is, status.
   What was answered 200 is what must be found afterwards, whoever was killed meanwhile.
2. What is sent is the simulator's (``streams.simulation``), sharing no code with the pipeline.
3. The shapes of trouble are data: duplicates, bursts, shuffles, late events, a hot campaign.
"""

import asyncio
import random
from collections.abc import Iterable, Sequence
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
    """How unruly the load is; every share is between 0 and 1.

    Attributes:
        duplicates: of events that come again, within one of the next requests.
        repeats_max: how often such an event comes again, at most.
        shuffled_s: events are reported up to so many seconds late, in any order (0: as they are).
        late: of messages whose events come three days after they happened.
        hot: of messages that belong to one campaign.
        burst_every_s: seconds between bursts (0: none); nothing is sent between them.
        clock_skew_s: the provider's clock is wrong by this much.
    """

    duplicates: float = 0.0
    repeats_max: int = 4
    shuffled_s: int = 0
    late: float = 0.0
    hot: float = 0.0
    burst_every_s: float = 0.0
    clock_skew_s: int = 0


class Books(Ledger):
    """A ledger that is on disk as well, before the sender goes on (invariant 1).

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
    """The ledger that a file holds; a last line that was cut off is left out.

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
    """The simulator with a ``Shape``: same true events, reported as badly as the shape says.

    Truth stays the simulator's: what an event is and when it happened. Only reports change, and the
    events of a message whose provider's clock is wrong, which are wrong by the same amount.
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
        """See ``Simulator.advance``; in bursts when the shape has them."""
        every = self._shape.burst_every_s
        if every:
            if elapsed_s - self._burst_s < every:
                return []
            self._burst_s = elapsed_s
        return self._reported(super().advance(elapsed_s), elapsed_s)

    def finish(self) -> list[Happening]:
        """See ``Simulator.finish``; repeats that are outstanding too."""
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
        """The event at the time that its message's clock says."""
        shape = self._shape
        # one amount per message, so that order and distances within it stay
        draw = random.Random(event.message_id)
        by = draw.randint(-shape.shuffled_s, 0) if shape.shuffled_s else 0
        if draw.random() < shape.late:
            by -= 3 * DAY_S
        by += shape.clock_skew_s
        return replace(event, at_s=event.at_s + by) if by else event


def plans_of(shape: Shape) -> Sequence[Plan]:
    """The demo's campaigns, or one of them with ``shape.hot`` of all messages."""
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
        rate_per_s: true events per second, before duplicates.
        seconds: how long; ``None``: until stopped.
        ledger: file for the books.
        seed: same seed, same events.
        give_up_s: how long after the end senders go on trying what was not accepted.
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
    """What came of it. ``trouble``: what senders noted, such as unanswered requests."""

    accepted: int
    unsure: int
    duplicates: int
    requests: int
    trouble: dict[str, int]
    campaigns: tuple[str, ...]


async def send(load: Load, accounts: Accounts, now_s: float, stop: asyncio.Event) -> Sent:
    """Sends; returns when everything is answered or given up.

    Args:
        accounts: whose keys the ingress trusts.
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
    books = Books(load.ledger)
    traffic.ledger = books
    try:
        await traffic.run(load.seconds, stop)
    finally:
        books.close()
    return Sent(
        accepted=len(books.accepted),
        unsure=len(books.unsure),
        duplicates=books.duplicates_sent,
        requests=books.sent_requests,
        trouble=traffic.trouble,
        campaigns=simulator.campaigns,
    )
