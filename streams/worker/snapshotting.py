"""When a worker makes snapshots of its state, where they go, and which one a lost store becomes.

Invariants:
1. A snapshot that can't be made, uploaded or used is told and counted, and ends nothing: state can
   be rebuilt without any.
2. The newest usable snapshot is taken, on this disk or in the store; what is refused, and why, is
   told. Without one the changelog is folded from its beginning.
3. While one is made, the worker waits for the flush of at most a memtable (``Store.link_to``), as
   it does now and then for every store; checksums and uploads are work of threads.
4. None is made of a partition that is between two epochs of the rules.
5. Evidence of people who were erased does not outlive the erasure here: when a partition has
   forgotten them, its next snapshot comes at once, and earlier ones are deleted, in the store too.
   So are those of partitions that another worker has now.
"""

import asyncio
import math
import time
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Iterator,
    Sequence,
)
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Protocol, TypeVar

import structlog

from schemas.errors import Unavailable
from schemas.settings import Settings
from streams.objects.objects import Check, objects_at
from streams.worker.metrics import StreamMetrics
from streams.worker.opening import in_thread
from streams.worker.snapshot_manifest import Lineage, Manifest, Standing, Unusable, check
from streams.worker.snapshot_store import SnapshotStore
from streams.worker.snapshots import SnapshotFolder, name_at
from streams.worker.work import PartitionWork

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 5.0
STALE_PAUSE_S = 10.0
"""Shortest time between two snapshots of a store, however many erasures there are."""
FLUSH_S = 0.2
"""For the background to write a memtable of 8 MB."""
RETRY_S = 60.0
"""Pause after a snapshot that could not be made or uploaded."""
STORE_TRIES, STORE_PAUSE_S = 3, 2.0
"""How often a store is asked for snapshots before state is rebuilt without them."""


Source = SnapshotFolder | SnapshotStore
Answer = TypeVar("Answer")


class Snapshotted(Protocol):
    """What is needed of an agent (``streams.worker.agent``)."""

    name: str

    @property
    def is_ready(self) -> bool:
        """Whether every assigned partition has its state."""

    def works(self) -> list[PartitionWork]:
        """The partitions whose state is open."""

    def standing(self, work: PartitionWork) -> Standing | None:
        """How far the stored state is; ``None``: not to be snapshotted now."""


@dataclass(frozen=True, slots=True)
class Opening:
    """The opening of a partition whose store is not there.

    Attributes:
        stage: name of the agent.
        store: name of the partition's store.
        wanted: lineages that it goes on by.
        changelog_begin: asks for the first offset that the changelog still holds.
        touch: tells that it goes on; raises ``Abandoned`` when that is for nobody.
    """

    stage: str
    store: str
    wanted: frozenset[Lineage]
    changelog_begin: Callable[[], Awaitable[int]]
    touch: Callable[[], None]


class Snapshotting:
    """Snapshots of one worker.

    Args:
        directory: its state directory.

    Raises:
        ConfigError: ``snapshot_store`` can't be used.
    """

    def __init__(self, settings: Settings, directory: Path, metrics: StreamMetrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self.folder = SnapshotFolder(directory)
        self.remote = store_of(settings)
        self._not_before: dict[str, float] = {}
        self._made: dict[str, float] = {}
        self._uploaded: dict[str, tuple[float, int]] = {}
        """Store -> when its newest snapshot was uploaded, and whom that had forgotten."""
        self._refused: set[tuple[str, str, str]] = set()
        """Store, name and place of snapshots that are not tried again."""
        self._taken: dict[str, tuple[str, str, str]] = {}
        self.folder.clean()

    # --- using

    async def bring(self, opening: Opening) -> bool:
        """Puts the newest usable snapshot in the place of a store that is not there.

        Returns:
            Whether there was one.

        Raises:
            Abandoned: see ``Opening.touch``.
        """
        begin: int | None = None
        async for name, source in self._found(opening):
            begin = await opening.changelog_begin() if begin is None else begin
            place = (opening.store, name, _place(source))
            try:
                manifest = await self._used(opening, source, name, begin)
            except (Unusable, Unavailable, OSError) as error:
                self._refused.add(place)
                self._count(opening.stage, "refused")
                log.warning(
                    "a snapshot is not used: another one is tried, or state is rebuilt from the "
                    "changelog", store=opening.store, snapshot=name, source=_place(source),
                    reason=str(error),
                )  # fmt: skip
                continue
            self._taken[opening.store] = place
            self._count(opening.stage, "used")
            log.info(
                "state comes from a snapshot; what was written since is folded",
                store=opening.store, snapshot=name, bytes=manifest.bytes,
                offset=manifest.standing.reached, source=_place(source),
            )  # fmt: skip
            return True
        return False

    async def _found(self, opening: Opening) -> AsyncIterator[tuple[str, Source]]:
        """Names of snapshots that were not refused and where they are: newest first, and of one
        name this disk's first."""
        found: list[tuple[str, bool, Source]] = [
            (name, True, self.folder)
            for name in await asyncio.to_thread(self.folder.listed, opening.store)
        ]
        if (remote := self.remote) is not None:
            try:
                listed = await self._asked(opening, lambda _: remote.listed(opening.store))
            except Unavailable as error:
                log.warning(
                    "the store of snapshots can't be read: state is restored without it",
                    reason=str(error),
                )  # fmt: skip
            else:
                found += [(name, False, remote) for name in listed]
        for name, _, source in sorted(found, key=itemgetter(0, 1), reverse=True):
            if (opening.store, name, _place(source)) not in self._refused:
                yield name, source

    async def _used(self, opening: Opening, source: Source, name: str, begin: int) -> Manifest:
        """Puts a snapshot in place.

        Raises:
            Unusable: it is damaged, or not of this state.
            Unavailable: the store does not answer, though it was asked several times.
            OSError: the disk can't hold it.
        """
        read = partial(source.manifest, opening.store, name)
        manifest = await self._asked(opening, lambda _: read())
        check(manifest, opening.wanted, begin)

        def install(check: Check) -> None:
            if isinstance(source, SnapshotFolder):
                source.install(manifest, check)
            else:
                source.install(manifest, self.folder, check)

        await self._asked(opening, install)
        return manifest

    async def _asked(self, opening: Opening, ask: Callable[[Check], Answer]) -> Answer:
        """What a place answers, asked ``STORE_TRIES`` times while it does not; in a thread.

        Raises:
            Unavailable: it never did.
        """
        tries = 0
        while True:
            try:
                return await in_thread(ask, opening.touch)
            except Unavailable as error:
                tries += 1
                if tries == STORE_TRIES:
                    raise
                log.warning("the store of snapshots is asked again", reason=str(error))
                await asyncio.sleep(STORE_PAUSE_S)
                opening.touch()

    def damaged(self, store: str, reason: str) -> bool:
        """State of a store is damaged: whether it came from a snapshot, which is then refused."""
        place = self._taken.pop(store, None)
        if place is None:
            return False
        self._refused.add(place)
        log.warning(
            "the state that came from a snapshot is damaged: that is not used any more",
            store=store, snapshot=place[1], reason=reason,
        )  # fmt: skip
        return True

    # --- making

    async def run(self, agents: Sequence[Snapshotted]) -> None:
        """Makes snapshots when they are due, for ever."""
        if not self._settings.snapshot_interval_s:
            await asyncio.to_thread(self.folder.prune, 0, 0)
            return
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            for agent, work in _works(agents):
                await self.look(agent, work)
            if all(agent.is_ready for agent in agents):
                mine = {work.store.path.name for _, work in _works(agents)}
                await asyncio.to_thread(self._drop_others, mine)

    async def look(self, agent: Snapshotted, work: PartitionWork) -> None:
        """Makes a snapshot of a partition and uploads it, if either is due (invariant 1)."""
        store = work.store.path.name
        if time.monotonic() < self._not_before.get(store, 0):
            return
        try:
            newest = await asyncio.to_thread(self._newest, store)
            standing = agent.standing(work) if work.live else None
            if standing is not None and self._is_due(newest, work, standing):
                newest = await self._make(agent, work) or newest
            if newest is not None:
                await self._upload(agent.name, newest)
        except (OSError, Unavailable) as error:
            self._failed(agent.name, store, error)
        except Exception as error:
            if type(error) is not Exception:  # RocksDB's own have no other type
                raise
            self._failed(agent.name, store, error)

    def _newest(self, store: str) -> Manifest | None:
        return next(self.folder.of(store), None)

    def _is_due(self, newest: Manifest | None, work: PartitionWork, standing: Standing) -> bool:
        if newest is None:
            made_s = self._made.get(work.store.path.name, -math.inf)
            return time.monotonic() - made_s >= self._settings.snapshot_interval_s
        age_s = time.time() - newest.made_at
        if age_s < 0:  # the clock was set back
            return True
        if newest.standing.erased_through < standing.erased_through:
            return age_s >= STALE_PAUSE_S
        is_same = newest.store_id == work.store.id and newest.number == work.store.number
        return not is_same and age_s >= self._settings.snapshot_interval_s

    async def _make(self, agent: Snapshotted, work: PartitionWork) -> Manifest | None:
        work.store.flush_soon()  # so that the link below waits for what is written meanwhile alone
        await asyncio.sleep(FLUSH_S)
        standing = agent.standing(work) if work.live else None
        if standing is None:
            return None
        begun_s = self._made[work.store.path.name] = time.monotonic()
        linked = self.folder.link(work.store, name_at(time.time()), standing)
        manifest = await asyncio.to_thread(self.folder.seal, linked)
        self._count(agent.name, "made")
        is_kept = await asyncio.to_thread(self._keep, manifest)
        self._metrics.snapshot_seconds.labels(agent.name).observe(time.monotonic() - begun_s)
        if not is_kept:
            log.warning(
                "a snapshot is deleted at once: MAILPULSE_SNAPSHOT_BYTES_MAX is below what it "
                "takes", store=manifest.store, bytes=manifest.bytes,
            )  # fmt: skip
        return manifest if is_kept else None

    def _keep(self, newest: Manifest) -> bool:
        settings = self._settings
        self.folder.keep(newest, settings.snapshots_max)
        extent = self.folder.prune(settings.snapshots_max, settings.snapshot_bytes_max)
        self._metrics.snapshot_bytes.set(extent.bytes)
        return newest.name in self.folder.listed(newest.store)

    def _drop_others(self, mine: Collection[str]) -> None:
        for store in self.folder.stores():
            if store not in mine:
                for name in self.folder.listed(store):
                    self.folder.delete(store, name)

    async def _upload(self, stage: str, newest: Manifest) -> None:
        remote, store = self.remote, newest.store
        if remote is None:
            return
        at_s, forgotten = self._uploaded.get(store, (-math.inf, -1))
        is_new = newest.standing.erased_through > forgotten
        age_s = time.monotonic() - at_s
        if not is_new and age_s < self._settings.snapshot_upload_interval_s:
            return
        if newest.name not in await asyncio.to_thread(remote.listed, store):
            await asyncio.to_thread(remote.upload, newest, self.folder)
            self._count(stage, "uploaded")
        await asyncio.to_thread(remote.prune, store, newest, self._settings.snapshots_max)
        self._uploaded[store] = (time.monotonic(), newest.standing.erased_through)

    def _failed(self, stage: str, store: str, error: Exception) -> None:
        self._not_before[store] = time.monotonic() + RETRY_S
        self._count(stage, "failed")
        log.warning(
            "a snapshot was not made or uploaded; state would have to be rebuilt from an earlier "
            "one", store=store, reason=str(error), again_in_s=RETRY_S,
        )  # fmt: skip

    def _count(self, stage: str, result: str) -> None:
        self._metrics.snapshots.labels(stage, result).inc()


def store_of(settings: Settings) -> SnapshotStore | None:
    """The store that snapshots are uploaded to, if one is set.

    Raises:
        ConfigError: it can't be used.
    """
    if not settings.snapshot_store:
        return None
    objects = objects_at(settings.snapshot_store, "MAILPULSE_SNAPSHOT_STORE")
    return SnapshotStore(objects, settings.consumer_group)


def _place(source: Source) -> str:
    return "disk" if isinstance(source, SnapshotFolder) else source.name


def _works(agents: Iterable[Snapshotted]) -> Iterator[tuple[Snapshotted, PartitionWork]]:
    for agent in agents:
        for work in agent.works():
            yield agent, work
