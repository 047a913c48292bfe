"""Folds and writes the partitions of an import, in several processes if it is large.

Invariants:
1. A partition is folded by one process, alone: its state is a folder that the process holds, also
   against one that outlives a killed command for a moment.
2. What is written does not depend on how many processes fold: partitions have nothing in common.
   See ``streams.history.fold`` for what a kill leaves.
3. Progress is written by the command alone, once for each partition.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from schemas.codec import Codec
from schemas.errors import BadInput, ConfigError, DecodeError
from schemas.settings import Settings
from schemas.topics import HISTORY, MINUTES
from streams.cli import import_processes
from streams.cli.context import now
from streams.cli.import_reading import Pace
from streams.enrich.epochs import History, Ruling
from streams.enrich.shard import Shard
from streams.erasure.topic import ErasureLog
from streams.history.fold import Outcome, PartitionFold
from streams.history.notes import Notes, Progress
from streams.history.sorting import Sorted
from streams.kafka.stretches import stretches_of
from streams.worker.erasing import Erasing
from streams.worker.joined_history import HistoryReader
from streams.worker.outputs import Flight, Outputs
from streams.worker.store import StateDirectory
from streams.worker.worker import look_ups_of

HELD_S = 30.0
"""How long the state of a partition may be held by a process of a command that was killed."""
WORTH_RECORDS = 5_000
"""So few are folded sooner than processes start."""


@dataclass(frozen=True, slots=True)
class Folded:
    """What a partition came to.

    Attributes:
        minutes: counts that were written.
    """

    partition: int
    outcome: Outcome
    minutes: int


Send = Callable[["int | Folded"], None]
"""Is told how many records were folded since the last time; and at last what they came to."""


@dataclass(frozen=True, slots=True)
class FoldWork:
    """How the partitions of an import are folded; can be pickled.

    Attributes:
        data_dir: where the import's notes are.
        history: of the rules, by which the workers judge.
        keep_suppressions: whether standing suppressions are noted.
        apart: whether earlier imports are left out of account.
    """

    settings: Settings
    codec: Codec
    data_dir: Path
    history: History
    progress: Progress
    keep_suppressions: bool
    apart: bool

    def serve(self, partitions: Iterator[int], send: Send) -> None:
        """Folds partitions as a process does that does nothing else."""
        asyncio.run(self.run(partitions, send))

    async def run(self, partitions: Iterator[int], send: Send) -> None:
        """Folds partitions, one after the other.

        Raises:
            Unavailable: Kafka is away.
            BadInput: ``running``: another process folds one of them.
        """
        ruling = Ruling.of(self.history, look_ups_of(self.settings))
        async with (
            ErasureLog(self.settings, self.codec) as erasures,
            _outputs(self.settings) as outputs,
        ):
            folder = _Folder(self, ruling, Erasing(erasures, self.codec, ruling.now), outputs)
            for partition in partitions:
                send(await folder.fold(partition, send))


class _Folder:
    """Folds partitions one after the other."""

    def __init__(self, work: FoldWork, ruling: Ruling, erasing: Erasing, outputs: Outputs) -> None:
        self._work, self._ruling = work, ruling
        self._erasing, self._outputs = erasing, outputs
        self._notes = Notes(work.data_dir)

    async def fold(self, partition: int, send: Send) -> Folded:
        """Folds and writes a partition from its beginning."""
        counts = await self._outputs.partitions(MINUTES)
        flight = Flight(self._outputs)
        name = f"fold-{partition}"

        async def told(count: int) -> None:
            send(count)

        with await _held(self._notes.folder / f"state-{partition}") as stores:
            fold, skip = await self._prepared(stores, name, partition)
            outcome = await fold.run(flight, skip, told)
            minutes = await fold.write_counts(flight, counts, int(now() * 1_000))
            stores.discard(name)
        return Folded(partition, outcome, minutes)

    async def _prepared(
        self, stores: StateDirectory, name: str, partition: int
    ) -> tuple[PartitionFold, int]:
        """A fold from the beginning, and how many of its records the topic has."""
        work, ruling, erasing = self._work, self._ruling, self._erasing
        stores.discard(name)
        store = stores.store(name)
        shard = Shard(partition, store.get_many)

        def write(changed: Shard) -> None:
            store.write(changed.writes(), offset=changed.applied, cleared=changed.cleared())
            changed.saved()

        if not work.apart:
            earlier = HistoryReader(
                work.settings, work.codec, ruling, write, lambda: None, stretches_of, erasing
            )
            await earlier.fold(shard, ruling.histories)
        fold = PartitionFold(
            work.codec, replace(ruling.now, epoch=0), shard, store,
            Sorted(self._notes.sorted_path(partition)), erasing, log_id=work.progress.log_id,
            stamp_ms=work.progress.stamp_ms, keep_suppressions=work.keep_suppressions,
        )  # fmt: skip
        return fold, await self._written(partition)

    async def _written(self, partition: int) -> int:
        """Records of this import that the topic has."""
        work, progress = self._work, self._work.progress
        count, begin = 0, progress.begins[partition]
        async with stretches_of(work.settings, HISTORY, partition) as stored:
            async for records, _ in stored.read(max(begin, stored.begin), stored.end, 2_000):
                for record in records:
                    try:
                        _, _, at = work.codec.split_enriched(record.value or b"")
                    except DecodeError:
                        continue
                    count += at.log_id == progress.log_id
        return count


@asynccontextmanager
async def _outputs(settings: Settings) -> AsyncIterator[Outputs]:
    outputs = Outputs(settings)
    await outputs.start()
    try:
        yield outputs
    finally:
        await outputs.stop()


async def _held(path: Path) -> StateDirectory:
    """The state of a partition, which nobody else has (invariant 1)."""
    deadline = time.monotonic() + HELD_S
    while True:
        try:
            return StateDirectory(path)
        except ConfigError:
            if time.monotonic() >= deadline:
                raise BadInput("running", f"{path}: another process folds it") from None
        await asyncio.sleep(0.2)


async def fold_all(work: FoldWork, notes: Notes, say: Callable[[str], None]) -> Progress:
    """Folds and writes the partitions that are left; returns the progress with all of them done.

    Raises:
        Unavailable: Kafka is away, or a process ended.
    """
    progress = work.progress
    pace = Pace(sum(progress.records), say, "events written")
    pace.add(done=sum(progress.records[partition] for partition in progress.done))

    def take(answer: int | Folded) -> None:
        nonlocal progress
        if isinstance(answer, int):
            pace.add(answer, answer)
            return
        progress = _after(progress, answer)
        notes.write(progress)

    # the largest first, so that no process is left alone with one
    left = [number for number in range(len(progress.records)) if number not in progress.done]
    left.sort(key=lambda number: -progress.records[number])
    number = min(import_processes.processes_max(), len(left))
    if number < 2 or sum(progress.records[partition] for partition in left) < WORTH_RECORDS:
        await work.run(iter(left), take)
    else:
        with import_processes.processes(work, number) as started:
            async for answer in import_processes.answers(started, left, Folded):
                take(answer)
    return progress


def _after(progress: Progress, folded: Folded) -> Progress:
    outcome = folded.outcome
    done = progress.after(
        folded.partition, duplicates=outcome.duplicates, refused=outcome.refused,
        written=outcome.written, minutes=folded.minutes,
    )  # fmt: skip
    fields = ("recipient", "reason", "since", "source", "scope")
    listed = [{name: one[name] for name in fields} for one in outcome.suppressed.values()]
    return replace(done, suppressed=[*done.suppressed, *listed])
