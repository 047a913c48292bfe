"""A trial: load with a ledger on disk, faults meanwhile, and the invariants afterwards.

After a trial: **A** each event answered 200 is stored exactly once; **B** every counter of every
campaign equals the recount from the ledger; **C** no forged event is stored, unanswered ones at
most once; **D** lag is back to 0; **E** memory and disk are bounded.

Invariants:
1. The ledger is read back from disk, as a killed sender would have left it.
2. A role that ends is restarted at once, as a supervisor does, unless the fault holds it down.
3. Nothing is waived: figures are compared repeatedly until they agree or time is up.
"""

import asyncio
import os
import random
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import psutil

from schemas.errors import Unavailable
from schemas.glossary import COUNTER_NAMES
from streams.simulation.accounts import Accounts
from streams.simulation.ledger import (
    Compared,
    Identity,
    Ledger,
    compare_events,
    differences,
    recount,
)
from streams.simulation.load import Load, Sent, Shape, read_books, send
from streams.simulation.readout import ClickHouse
from tests.live.process import ProcessFailed
from tests.live.roles import Pipeline, Role
from tests.live.threads import in_threads

PATIENCE_S = 150.0
LAG_S_MAX = 150.0
GIVE_UP_S = 120.0
"""Of senders, after the load's end, as faults may last longer: providers go on for hours. Half a
burst of clicks that was never accepted would be judged otherwise than the books do, and rightly."""
MEMORY_BYTES_MAX = 1_000_000_000
"""Of one process. The sink holds the whole of ClickHouse's engine."""
DISK_BYTES_MAX = 100_000_000
"""Of state, spool and ClickHouse together while nothing is stored, with room for merges."""
DISK_BYTES_PER_EVENT = 4_000
"""On top of it, for every event accepted."""
BALLAST = "ballast"
"""Name of the file by which a test fills a disk: not the roles'."""
DISK_FOLDERS = ("state", "spool", "clickhouse", "data")

Fault = Callable[["Trial"], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a trial; see the invariants above."""

    sent: Sent
    stored: int
    lost: int
    double: int
    forged: int
    differing: dict[str, dict[str, tuple[int, int]]]
    campaigns: int
    memory_peak_bytes: dict[str, int]
    disk_peak_bytes: int
    restarts: dict[str, int]

    @property
    def holds(self) -> bool:
        """Invariants A, B, C and E; without D a trial ends by itself."""
        return (
            not (self.lost or self.double or self.forged or self.differing)
            and max(self.memory_peak_bytes.values()) < MEMORY_BYTES_MAX
            and self.disk_peak_bytes < DISK_BYTES_MAX + DISK_BYTES_PER_EVENT * self.stored
        )


def added(runs: Iterable[Sent]) -> Sent:
    """The sums of what several runs sent."""
    accepted = unsure = duplicates = requests = 0
    trouble: Counter[str] = Counter()
    campaigns: tuple[str, ...] = ()
    for one in runs:
        accepted, unsure = accepted + one.accepted, unsure + one.unsure
        duplicates, requests = duplicates + one.duplicates, requests + one.requests
        trouble.update(one.trouble)
        campaigns += one.campaigns
    return Sent(accepted, unsure, duplicates, requests, dict(trouble), campaigns)


@dataclass
class Trial:
    """A running pipeline under load and under faults.

    It may run more than once; then every outcome is of all its runs together.

    Attributes:
        ingest: name of the ingress that is posted to.
        counters: those that invariant B compares.
        held: names of roles that a fault keeps down.
        dsn: where to query; default: the warehouse.
    """

    pipeline: Pipeline
    accounts: Accounts
    folder: Path
    rate_per_s: float = 300.0
    shape: Shape = field(default_factory=Shape)
    seed: int = 1
    dsn: str = ""
    ingest: str = "ingest-1"
    counters: tuple[str, ...] = COUNTER_NAMES
    held: set[str] = field(default_factory=set)
    restarts: dict[str, int] = field(default_factory=dict)
    memory_peak_bytes: dict[str, int] = field(default_factory=dict)
    disk_peak_bytes: int = 0
    _runs: list[tuple[str, Sent, Ledger]] = field(default_factory=list)
    _end_load: Callable[[], object] = field(init=False)
    dice: random.Random = field(default_factory=lambda: random.Random(7))

    def roles(self, *kinds: str) -> list[Role]:
        """Roles of these kinds; all without a kind."""
        return [role for role in self.pipeline if not kinds or role.kind in kinds]

    @contextmanager
    def supervised(self) -> Iterator[None]:
        """Restarts roles that end (invariant 2), and records peaks of memory."""

        def watch(over: threading.Event) -> None:
            for turn in count():
                if over.wait(0.1):
                    return
                if turn % 10 == 0:
                    self.disk_peak_bytes = max(self.disk_peak_bytes, self._disk_bytes())
                for role in tuple(self.pipeline):
                    if role.running:
                        self._weigh(role)
                    elif role.name not in self.held:
                        with suppress(ProcessFailed):
                            role.start()
                        self.restarts[role.name] = self.restarts.get(role.name, 0) + 1

        with in_threads(watch):
            yield

    def _disk_bytes(self) -> int:
        """Bytes of the roles' files on disk now; files come and go meanwhile."""
        total = 0
        for name in DISK_FOLDERS:
            for parent, _, files in os.walk(self.pipeline.folder / name):
                for file in files:
                    if file == BALLAST:
                        continue
                    with suppress(OSError):
                        total += os.stat(os.path.join(parent, file)).st_blocks * 512
        return total

    def _weigh(self, role: Role) -> None:
        with suppress(psutil.Error, ProcessFailed):
            now = psutil.Process(role.pid).memory_info().rss
            self.memory_peak_bytes[role.name] = max(self.memory_peak_bytes.get(role.name, 0), now)

    @contextmanager
    def down(self, role: Role) -> Iterator[None]:
        """Holds a role down during the block (SIGKILL), and restarts it afterwards."""
        self.held.add(role.name)
        role.kill()
        try:
            yield
        finally:
            self.held.discard(role.name)

    def run(self, seconds: float, fault: Fault) -> Outcome:
        """Sends for ``seconds`` while ``fault`` runs, waits until all was read, and compares.

        Raises:
            ProcessFailed: invariant D: not caught up in time.
            Unavailable: ClickHouse does not answer in the end.
        """
        with self.supervised():
            return asyncio.run(self._run(seconds, fault))

    async def _run(self, seconds: float, fault: Fault) -> Outcome:
        run = secrets.token_hex(3)
        books = self.folder / f"ledger-{run}.jsonl"
        load = Load(self.pipeline[self.ingest].url, self.rate_per_s, seconds, books,
                    self.seed + len(self._runs), run, self.shape, give_up_s=GIVE_UP_S)  # fmt: skip
        over, loop = asyncio.Event(), asyncio.get_running_loop()
        self._end_load = lambda: loop.call_soon_threadsafe(over.set)
        disturbing = asyncio.ensure_future(asyncio.to_thread(fault, self))
        sent = await send(load, self.accounts, time.time(), over)
        await disturbing
        await asyncio.to_thread(self.pipeline.wait_caught_up, LAG_S_MAX)
        self._runs.append((run, sent, read_books(books)))
        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                outcome = await self.look_again()
            except Unavailable:
                if time.monotonic() > end:
                    raise
            else:
                if outcome.holds or time.monotonic() > end:
                    return outcome
            await asyncio.sleep(0.5)

    def compared(self, ledger: Ledger, stored: dict[Identity, int]) -> Compared:
        """Invariant A: compares the ledger with the rows in ClickHouse."""
        return compare_events(ledger, stored)

    def end_load(self) -> None:
        """Ends the load of this run early; for the fault, which runs in a thread."""
        self._end_load()

    async def look_again(self) -> Outcome:
        """The present figures of all runs.

        Raises:
            Unavailable: ClickHouse does not answer.
        """
        sent = added(sent for _, sent, _ in self._runs)
        ledger, stored = Ledger(), dict[Identity, int]()
        try:
            clickhouse = ClickHouse(self.dsn or self.pipeline.clickhouse_dsn)
        except (OSError, ValueError) as error:
            raise Unavailable(str(error)) from error
        try:
            for run, _, books in self._runs:  # no message is in two of them
                stored |= await clickhouse.stored(run)
                ledger.accepted.update(books.accepted)
                ledger.unsure |= books.unsure
            found = await clickhouse.counters(sent.campaigns)
        finally:
            await clickhouse.close()
        compared = self.compared(ledger, stored)
        # an event in doubt that was kept all the same is a true event, and is counted
        kept = [
            event
            for event in ledger.unsure.values()
            if stored.get((event.message_id, event.kind, event.at_s))
        ]
        recounted = recount([*ledger.accepted.values(), *kept])
        expected = {name: counts for name, counts in recounted.items() if name in sent.campaigns}
        return Outcome(
            sent=sent,
            stored=compared.stored,
            lost=compared.lost,
            double=compared.double_counted,
            forged=sum(rows for (message, _, _), rows in stored.items() if "forged" in message),
            differing=differences(expected, found, self.counters),
            campaigns=len({*expected, *found}),
            memory_peak_bytes=dict(self.memory_peak_bytes),
            disk_peak_bytes=self.disk_peak_bytes,
            restarts=dict(self.restarts),
        )

    def check(self, outcome: Outcome) -> None:
        """Asserts the invariants, with the logs' tails; and that something was sent."""
        assert outcome.holds, f"{outcome}\n{self.pipeline.log_tails()}"
        assert outcome.stored >= outcome.sent.accepted > 100
        assert outcome.campaigns >= 5
