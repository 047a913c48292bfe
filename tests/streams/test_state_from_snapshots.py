"""A worker that lost its state takes the newest usable snapshot and folds the rest."""

import asyncio
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from rocksdict import Cache

import streams.worker.opening
import streams.worker.snapshotting
import streams.worker.store
from schemas import topics
from schemas.settings import Settings
from streams.transport.chunks import TP
from streams.worker.metrics import StreamMetrics
from streams.worker.snapshot_manifest import Lineage, Manifest, Standing, pack, unpack
from streams.worker.snapshotting import Snapshotting
from streams.worker.work import PartitionWork
from tests.streams.damaging import flipped
from tests.streams.engine_rig import PARTITIONS, Broker, EngineMaker, EngineRig
from tests.streams.mailing import Mail, assert_exact
from tests.streams.test_damage import damaged, snapshotted

STORES = 2 * PARTITIONS


@pytest.fixture(autouse=True)
def small_stores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stores that flush often."""
    monkeypatch.setattr(streams.worker.store, "MEMTABLE_BYTES", 64 << 10)


def counted(rig: EngineRig, result: str) -> float:
    """Snapshots with this result, of both stages."""
    registry = rig.worker.metrics.registry
    return sum(
        registry.get_sample_value(
            "mailpulse_state_snapshots_total", {"stage": agent.name, "result": result}
        )
        or 0.0
        for agent in rig.worker.agents
    )


def folded(rig: EngineRig) -> float:
    """Records that were folded to restore state."""
    found = rig.worker.metrics.registry.get_sample_value("mailpulse_restored_records_total")
    return found or 0.0


def lose(folder: Path, *stores: str) -> None:
    """Deletes live stores with their notes, by default all; snapshots stay."""
    for path in (folder / "rig").iterdir():
        name = path.name.removesuffix(".note")
        if name in stores or (not stores and name not in ("snapshots", "LOCK")):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


async def worked(engine_of: EngineMaker, folder: Path, mail: Mail, **options: Any) -> EngineRig:
    """A worker with a snapshot of each store, and some mail after it."""
    rig = await engine_of(mail.broker, folder, **options)
    for _ in range(4):
        mail.send()
        await rig.work_off()
    await snapshotted(rig)
    assert counted(rig, "made") == STORES
    mail.send(fresh=7)
    await rig.work_off()
    return rig


async def test_lost_stores_come_back_from_snapshots_on_the_disk(
    engine_of: EngineMaker, tmp_path: Path
) -> None:
    """Only what came after them is folded; figures agree with a recount."""
    mail = Mail(Broker(), random.Random(5))
    rig = await worked(engine_of, tmp_path / "1", mail)
    await rig.kill(tmp_path / "2")
    lose(tmp_path / "2")
    again = await engine_of(mail.broker, tmp_path / "2")
    mail.send()
    await assert_exact(again, mail)
    assert counted(again, "used") == STORES
    assert 0 < folded(again) < 150
    assert damaged(again) == 0


async def test_a_lost_disk_comes_back_from_the_store(
    engine_of: EngineMaker, tmp_path: Path
) -> None:
    """Another machine has nothing but the store's address."""
    mail = Mail(Broker(), random.Random(5))
    place = {"snapshot_store": str(tmp_path / "store")}
    rig = await worked(engine_of, tmp_path / "1", mail, **place)
    assert counted(rig, "uploaded") == STORES
    await rig.kill(tmp_path / "lost")
    again = await engine_of(mail.broker, tmp_path / "2", **place)
    mail.send()
    await assert_exact(again, mail)
    assert counted(again, "used") == STORES
    assert 0 < folded(again) < 150


async def test_damaged_state_comes_back_from_its_snapshot(
    engine_of: EngineMaker, tmp_path: Path
) -> None:
    """What was set aside need not be rebuilt from the beginning."""
    mail = Mail(Broker(), random.Random(5))
    rig = await worked(engine_of, tmp_path / "1", mail)
    await rig.kill(tmp_path / "2")
    (manifest,) = (tmp_path / "2" / "rig" / "enrich-0").glob("MANIFEST-*")
    manifest.write_bytes(b"nothing of it")
    again = await engine_of(mail.broker, tmp_path / "2")
    mail.send()
    await assert_exact(again, mail)
    assert damaged(again) == 1
    assert counted(again, "used") == 1


def rewritten(path: Path, change: dict[str, Any]) -> None:
    """Changes a manifest as if the worker that wrote it had been another one."""
    old = unpack(path.read_bytes())
    lineage = old.standing.lineage._replace(**change)
    standing = type(old.standing)(lineage, old.standing.reached, old.standing.resumes)
    new = Manifest(old.store, old.name, old.made_at, old.store_id, old.number, standing, old.files)
    path.write_bytes(pack(new))


REFUSALS: dict[str, tuple[dict[str, Any], str]] = {
    "another log": ({"log_id": "log-0"}, "of log log-0"),
    "another epoch": ({"epoch": 3}, "epoch 3"),
    "another fold": ({"fold": 1}, "version 1 of the fold"),
}


@pytest.mark.parametrize("why", [*REFUSALS, "a newer form", "damage"])
async def test_a_snapshot_that_can_not_be_used_is_refused_with_its_reason(
    engine_of: EngineMaker, tmp_path: Path, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The rebuild goes the long way, and is exact."""
    mail = Mail(Broker(), random.Random(5))
    rig = await worked(engine_of, tmp_path / "1", mail)
    await rig.kill(tmp_path / "2")
    lose(tmp_path / "2", "enrich-0")
    folder = tmp_path / "2" / "rig" / "snapshots" / "enrich-0"
    (path,) = folder.glob("*.json")
    if why == "damage":
        (table, *_) = sorted(folder.glob("*/*.sst"))
        flipped(0.5)(table)
        said = f"{table.name} is damaged"
    elif why == "a newer form":
        path.write_bytes(path.read_bytes().replace(b'"form": 1', b'"form": 2'))
        said = "form 2"
    else:
        change, said = REFUSALS[why]
        rewritten(path, change)
    capsys.readouterr()
    again = await engine_of(mail.broker, tmp_path / "2")
    mail.send()
    await assert_exact(again, mail)
    assert (counted(again, "used"), counted(again, "refused")) == (0, 1)
    assert folded(again) > 100
    (line,) = (one for one in capsys.readouterr().out.splitlines() if "snapshot is not used" in one)
    assert said in line


async def test_an_earlier_snapshot_is_taken_if_the_newest_is_damaged(
    engine_of: EngineMaker, tmp_path: Path
) -> None:
    """The newest is refused, and the one before is used."""
    mail = Mail(Broker(), random.Random(5))
    rig = await worked(engine_of, tmp_path / "1", mail, snapshot_interval_s=1)
    await asyncio.sleep(1.1)  # a second one is due
    await snapshotted(rig)
    await rig.kill(tmp_path / "2")
    lose(tmp_path / "2", "enrich-0")
    folder = tmp_path / "2" / "rig" / "snapshots" / "enrich-0"
    newest = sorted(path.name for path in folder.iterdir() if path.is_dir())[-1]
    (folder / newest / "CURRENT").unlink()
    again = await engine_of(mail.broker, tmp_path / "2")
    mail.send()
    await assert_exact(again, mail)
    assert (counted(again, "used"), counted(again, "refused")) == (1, 1)


async def test_a_restore_holds_no_other_partition_up_and_nothing_hides_it(
    engine_of: EngineMaker, tmp_path: Path
) -> None:
    """While the first partition is restored the second works; the worker is not ready, and the lag
    of the first is all that waits."""
    mail = Mail(Broker(), random.Random(5))
    rig = await worked(engine_of, tmp_path / "1", mail)
    await rig.kill(tmp_path / "2")
    lose(tmp_path / "2", "enrich-0")
    shutil.rmtree(tmp_path / "2" / "rig" / "snapshots" / "enrich-0")
    mail.broker.answers.clear()
    again = await engine_of(mail.broker, tmp_path / "2")
    waiting, other = TP(topics.RAW, 0), TP(topics.RAW, 1)
    await again.until(lambda: again.worker.enrich.is_open(other))
    mail.send()
    await again.until(lambda: again.reached(*other))
    await again.settle()
    assert not again.worker.ready
    assert not again.worker.enrich.is_open(waiting)
    await again.worker.measure_waiting()
    registry = again.worker.metrics.registry
    left = registry.get_sample_value(
        "mailpulse_consumer_lag_records", {"topic": topics.RAW, "partition": "0"}
    )
    assert left == mail.broker.log(*waiting).end - mail.broker.committed[waiting] > 0
    closed = [tp for agent in again.worker.agents for tp in agent.assigned if not agent.is_open(tp)]
    assert registry.get_sample_value("mailpulse_restoring_partitions") == len(closed)
    mail.broker.answers.set()
    await again.until(lambda: again.worker.ready)
    await assert_exact(again, mail)
    assert registry.get_sample_value("mailpulse_restoring_partitions") == 0


async def test_what_folds_a_tail_does_not_wait_for_a_rebuild(
    engine_of: EngineMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that has hours to fold, and one that comes from a snapshot: the second is ready first."""
    monkeypatch.setattr(streams.worker.opening, "QUICK_RECORDS", 0)
    monkeypatch.setattr(streams.worker.opening, "TAIL_RECORDS", 60)
    mail = Mail(Broker(), random.Random(5))
    rig = await worked(engine_of, tmp_path / "1", mail)
    await rig.kill(tmp_path / "2")
    lose(tmp_path / "2", "enrich-0", "enrich-1")
    shutil.rmtree(tmp_path / "2" / "rig" / "snapshots" / "enrich-0")
    slow = asyncio.Event()

    again = EngineRig(mail.broker, tmp_path / "2", rig.clock)
    source = again.worker.enrich.source

    def held_up(settings: Any, topic: str, partition: int) -> Any:
        return source(settings, topic, partition) if partition else _Slow(source, slow, topic)

    again.worker.enrich.source = held_up
    await again.start()
    await again.assign()
    try:
        await again.until(lambda: again.worker.enrich.is_open(TP(topics.RAW, 1)))
        assert not again.worker.enrich.is_open(TP(topics.RAW, 0))
        slow.set()
        await again.until(lambda: again.worker.ready)
        await assert_exact(again, mail)
    finally:
        await again.stop()


class _Slow:
    """A partition whose records come when they are let."""

    def __init__(self, source: Any, let: asyncio.Event, topic: str) -> None:
        self._inner, self._let = source(None, topic, 0), let

    async def __aenter__(self) -> Any:
        await self._let.wait()
        return await self._inner.__aenter__()

    async def __aexit__(self, *error: Any) -> None:
        await self._inner.__aexit__(*error)


async def test_a_restore_ends_when_its_partition_is_taken_away(
    engine_of: EngineMaker, tmp_path: Path
) -> None:
    """It is not folded to the end for nobody, and goes on when it comes back."""
    mail = Mail(Broker(), random.Random(5))
    rig = await worked(engine_of, tmp_path / "1", mail)
    await rig.kill(tmp_path / "2")
    lose(tmp_path / "2")
    shutil.rmtree(tmp_path / "2" / "rig" / "snapshots")
    mail.broker.answers.clear()
    again = await engine_of(mail.broker, tmp_path / "2")
    await again.settle()
    await again.revoke()
    mail.broker.answers.set()
    await again.settle()
    assert again.worker.enrich.works() == []
    await again.assign()
    await again.until(lambda: again.worker.ready)
    mail.send()
    await assert_exact(again, mail)


async def test_snapshots_that_are_off_are_gone(engine_of: EngineMaker, tmp_path: Path) -> None:
    """With the interval 0 a worker deletes what earlier runs have made."""
    mail = Mail(Broker(), random.Random(5))
    rig = await worked(engine_of, tmp_path / "1", mail)
    off = rig.worker.settings.model_copy(update={"snapshot_interval_s": 0})
    directory = rig.worker.directory.path
    await Snapshotting(off, directory, rig.worker.metrics).run(rig.worker.agents)
    assert rig.worker.snapshots.folder.stores() == []


class Aging:
    """An agent whose one partition forgets people as the test says."""

    name, is_ready = "enrich", True

    def __init__(self, folder: Path) -> None:
        store = streams.worker.store.Store(folder / "enrich-0", Cache(1 << 20))
        self.work = PartitionWork(TP(topics.RAW, 0), store, cast(Any, None))
        self.erased_through = 0
        self.stands = True

    def works(self) -> list[PartitionWork]:
        return [self.work]

    def standing(self, work: PartitionWork) -> Standing | None:
        lineage = Lineage("log", 0, 1)
        return Standing(lineage, 1, 0, self.erased_through) if self.stands else None


@pytest.fixture
def aging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Aging, Snapshotting]]:
    """With the snapshots of its worker, which also go to a store."""
    monkeypatch.setattr(streams.worker.snapshotting, "STALE_PAUSE_S", 0.0)
    agent = Aging(tmp_path / "state")
    settings = Settings(snapshot_store=str(tmp_path / "store"), consumer_group="rig")
    yield agent, Snapshotting(settings, tmp_path / "state", StreamMetrics())
    agent.work.store.close()


def kept(tmp_path: Path) -> tuple[list[int], list[int]]:
    """Whom each snapshot has forgotten, on the disk and in the store."""
    both = []
    for folder in (tmp_path / "state" / "snapshots", tmp_path / "store" / "rig"):
        texts = [path.read_bytes() for path in sorted(folder.glob("enrich-0/*.json"))]
        both.append([unpack(text).standing.erased_through for text in texts])
    return both[0], both[1]


async def test_snapshots_that_remember_whom_was_erased_are_replaced_at_once(
    aging: tuple[Aging, Snapshotting], tmp_path: Path
) -> None:
    """On the disk and in the store, long before the next one is due."""
    agent, snapshots = aging
    agent.work.store.write([(b"r1", b"x")])
    await snapshots.look(agent, agent.work)
    await snapshots.look(agent, agent.work)
    assert kept(tmp_path) == ([0], [0])
    agent.erased_through = 7
    agent.work.store.write([(b"r1", None)])
    await snapshots.look(agent, agent.work)
    assert kept(tmp_path) == ([7], [7])


async def test_nothing_is_made_between_two_epochs_and_nothing_ends_the_worker(
    aging: tuple[Aging, Snapshotting], tmp_path: Path
) -> None:
    """A partition that does not stand is left alone; a store that is a file is told."""
    agent, snapshots = aging
    agent.work.store.write([(b"r1", b"x")])
    agent.stands = False
    await snapshots.look(agent, agent.work)
    assert kept(tmp_path) == ([], [])
    agent.stands = True
    (tmp_path / "store").write_text("a file")
    await snapshots.look(agent, agent.work)
    assert [path.is_dir() for path in (tmp_path / "state" / "snapshots").glob("*/*Z")] == [True]


async def test_a_damaged_snapshot_on_the_disk_is_taken_from_the_store(
    engine_of: EngineMaker, tmp_path: Path
) -> None:
    """The same snapshot is there twice, and one copy is whole."""
    mail = Mail(Broker(), random.Random(5))
    place = {"snapshot_store": str(tmp_path / "store")}
    rig = await worked(engine_of, tmp_path / "1", mail, **place)
    await rig.kill(tmp_path / "2")
    lose(tmp_path / "2", "enrich-0")
    folder = tmp_path / "2" / "rig" / "snapshots" / "enrich-0"
    for table in folder.glob("*/*.sst"):
        flipped(0.5)(table)
    again = await engine_of(mail.broker, tmp_path / "2", **place)
    mail.send()
    await assert_exact(again, mail)
    assert (counted(again, "used"), counted(again, "refused")) == (1, 1)
