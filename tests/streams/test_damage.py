"""Damaged state is set aside and rebuilt; figures agree with a recount."""

import random
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

import streams.worker.store
from schemas import topics
from streams.transport.chunks import TP
from tests.streams.damaging import damage_something, every_damage, files_of
from tests.streams.engine_rig import PARTITIONS, Broker, EngineMaker, EngineRig
from tests.streams.mailing import Mail, assert_exact

ROUNDS = 7
SEEDS = range(12)
MANY = 60
"""Campaigns, where state must not fit into one block of RocksDB's, which stays in memory."""


@pytest.fixture(autouse=True)
def small_stores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stores that flush often, so that little state makes all kinds of files."""
    monkeypatch.setattr(streams.worker.store, "MEMTABLE_BYTES", 64 << 10)
    monkeypatch.setattr(streams.worker.store, "LINKS_MAX", 5)


def damaged(rig: EngineRig) -> float:
    """Number of stores that this worker found damaged."""
    registry = rig.worker.metrics.registry
    counts = [
        registry.get_sample_value("mailpulse_state_damaged_total", {"stage": agent.name})
        for agent in rig.worker.agents
    ]
    return sum(count or 0.0 for count in counts)


def set_aside(folder: Path) -> list[str]:
    """The stores set aside in a state directory."""
    return sorted(path.name for path in (folder / "rig").iterdir() if ".damaged-" in path.name)


async def worked(engine_of: EngineMaker, folder: Path, mail: Mail) -> EngineRig:
    """A worker that has processed some mail."""
    rig = await engine_of(mail.broker, folder)
    for _ in range(4):
        mail.send()
        await rig.work_off()
    return rig


# --- found on opening -----------------------------------------------------------------------------


@pytest.mark.parametrize(("store", "end"), [("enrich-0", "killed"), ("campaigns-1", "stopped")])
async def test_damage_between_two_runs_changes_no_figure(
    engine_of: EngineMaker, tmp_path: Path, store: str, end: str
) -> None:
    """Any kind of damage, to the most important files: the next run sets the store aside,
    reports it and rebuilds it, or nothing was lost."""
    mail = Mail(Broker(), random.Random(5))
    rig = await worked(engine_of, tmp_path / "run", mail)
    await rig.kill(tmp_path / "killed")
    shutil.copytree(tmp_path / "run", tmp_path / "stopped")
    committed = dict(mail.broker.committed)
    logs = {tp: (list(log.records), log.end) for tp, log in mail.broker.logs.items()}
    events, found = list(mail.events), 0
    names = [path.name for path in files_of(tmp_path / end / "rig" / store)]
    wanted = [name for name in names if name.startswith(("MANIFEST", "CURRENT")) or "." in name]
    for name in wanted:
        for number, (_, damage) in enumerate(every_damage(tmp_path / "none")):
            if number % 3 == 2 or (number % 3 == 1 and not name.startswith("MANIFEST")):
                continue  # a part of them is enough here: tests/streams/test_store.py tries all
            trial = tmp_path / "trial"
            shutil.rmtree(trial, ignore_errors=True)
            shutil.copytree(tmp_path / end, trial)
            (path,) = (one for one in files_of(trial / "rig" / store) if one.name == name)
            damage(path)
            mail.broker.committed.clear()
            mail.broker.committed.update(committed)
            for tp, log in mail.broker.logs.items():
                log.records[:], log.end = logs[tp]
            mail.events[:] = events
            again = await engine_of(mail.broker, trial)
            mail.send()
            await assert_exact(again, mail)
            found += int(damaged(again))
            assert len(set_aside(trial)) == damaged(again)
            await again.stop()
    assert found > 5


async def test_a_store_that_is_gone_is_built_again_and_said(
    engine_of: EngineMaker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line says what happened, to which store, and what comes next."""
    mail = Mail(Broker(), random.Random(5))
    rig = await worked(engine_of, tmp_path / "1", mail)
    await rig.kill(tmp_path / "2")
    store = tmp_path / "2" / "rig" / "enrich-1"
    shutil.rmtree(store)
    store.write_bytes(b"a file")
    capsys.readouterr()
    again = await engine_of(mail.broker, tmp_path / "2")
    await assert_exact(again, mail)
    (line,) = (one for one in capsys.readouterr().out.splitlines() if "set_aside_as" in one)
    for said in (str(store), topics.ENRICHED, "partition=1", "bytes=", ".damaged-"):
        assert said in line
    (name,) = set_aside(tmp_path / "2")
    assert f"set_aside_as={name}" in line


async def test_an_old_copy_of_the_whole_directory_is_brought_up_to_date(
    engine_of: EngineMaker, tmp_path: Path
) -> None:
    """Stores with their notes from earlier: nothing is damaged, and newer records are read."""
    mail = Mail(Broker(), random.Random(5))
    rig = await worked(engine_of, tmp_path / "1", mail)
    await rig.kill(tmp_path / "2")
    rig = await engine_of(mail.broker, tmp_path / "1")
    mail.send()
    await rig.work_off()
    await rig.stop()
    again = await engine_of(mail.broker, tmp_path / "2")
    mail.send()
    await assert_exact(again, mail)
    assert damaged(again) == 0


async def test_a_store_behind_the_commit_without_a_note_is_built_again(
    engine_of: EngineMaker, tmp_path: Path
) -> None:
    """Then Kafka's committed offset shows it."""
    mail = Mail(Broker(), random.Random(5))
    rig = await worked(engine_of, tmp_path / "1", mail)
    await rig.kill(tmp_path / "2")
    rig = await engine_of(mail.broker, tmp_path / "1")
    mail.send()
    await rig.work_off()
    await rig.stop()
    for note in (tmp_path / "2" / "rig").glob("*.note"):
        note.unlink()
    again = await engine_of(mail.broker, tmp_path / "2")
    await assert_exact(again, mail)
    assert damaged(again) == 2 * PARTITIONS


# --- found while running --------------------------------------------------------------------------


def break_files(rig: EngineRig, store: str) -> None:
    """Damages every data file of an open store."""
    kept = rig.worker.directory._open[store]
    kept._db.flush(True)
    for path in kept.path.glob("*.sst"):
        data = bytearray(path.read_bytes())
        for at in range(0, len(data), 512):
            data[at] ^= 0x5A
        path.write_bytes(data)


async def reopened(rig: EngineRig) -> None:
    """No store stays in memory: a rebalance revokes everything."""
    rig.worker.directory._cache.set_capacity(0)
    await rig.revoke()
    await rig.assign()
    await rig.until(lambda: rig.worker.ready)


async def by_new_events(rig: EngineRig, mail: Mail) -> None:
    """New events need what is in the store."""
    mail.send()


async def by_checkpoint(rig: EngineRig, mail: Mail) -> None:
    """The worker's periodic checkpoint."""
    rig.clock.now_s += 600
    for agent in rig.worker.agents:
        for work in agent.works():
            work.since_checkpoint += 1
            work.checkpointed_at = -1e9
    await rig.worker.tick()


Finding = Callable[[EngineRig, Mail], Awaitable[None]]


@pytest.mark.parametrize("store", ["enrich-0", "campaigns-0"])
@pytest.mark.parametrize("find", [by_new_events, by_checkpoint])
async def test_damage_found_while_running_changes_no_figure(
    engine_of: EngineMaker, tmp_path: Path, store: str, find: Finding
) -> None:
    """The worker goes on: it sets the store aside, is not ready meanwhile, and reads again."""
    mail = Mail(Broker(), random.Random(8), MANY)
    rig = await worked(engine_of, tmp_path, mail)
    await reopened(rig)
    break_files(rig, store)
    mail.broker.answers.clear()
    await find(rig, mail)
    for _ in range(100):
        if damaged(rig):
            break
        mail.send(again=200)
        rig.clock.now_s += 600  # what leaves a window is looked up
        await rig.settle()
        await rig.tick()
    assert damaged(rig) == 1
    await rig.settle()
    assert not rig.worker.ready
    others = [tp for agent in rig.worker.agents for tp in agent.assigned if agent.is_open(tp)]
    assert len(others) == 2 * PARTITIONS - 1
    other = TP(topics.RAW, 1)
    await rig.until(lambda: rig.reached(*other))
    mail.broker.answers.set()
    await rig.until(lambda: rig.worker.ready)
    mail.send()
    await assert_exact(rig, mail)
    assert len(set_aside(tmp_path)) == 1


async def test_a_store_that_fails_again_ends_the_worker(
    engine_of: EngineMaker, tmp_path: Path
) -> None:
    """With a message that names the directory and the disk; the next worker tries again."""
    mail = Mail(Broker(), random.Random(8), MANY)
    rig = await worked(engine_of, tmp_path / "1", mail)
    for _ in range(2):
        await reopened(rig)
        break_files(rig, "enrich-0")
        for _ in range(100):
            before = damaged(rig)
            mail.send(again=200)
            await rig.settle()
            if rig.app.failure or damaged(rig) > before:
                break
        if not rig.app.failure:
            await rig.until(lambda: rig.worker.ready)
    assert rig.app.failure is not None
    for said in ("enrich-0", "damaged again", "mounted at", "MAILPULSE_STATE_DIR"):
        assert said in rig.app.failure
    await rig.stop()
    again = await engine_of(mail.broker, tmp_path / "1")
    await assert_exact(again, mail)


# --- drawn at random ------------------------------------------------------------------------------


class Misfortune:
    """A worker that is killed, stopped and rebalanced, and whose files are damaged meanwhile."""

    def __init__(self, engine_of: EngineMaker, folder: Path, mail: Mail) -> None:
        self.engine_of, self.folder, self.mail = engine_of, folder, mail
        self.dice = mail.dice
        self.runs = self.lives = 0
        self.said: list[str] = []

    @property
    def home(self) -> Path:
        """The state directory of the present run."""
        return self.folder / str(self.runs)

    async def begin(self) -> EngineRig:
        """Starts the next run, on what is on disk."""
        self.lives += 1
        assert self.lives < 4 * ROUNDS, "it comes back and dies for ever"
        return await self.engine_of(self.mail.broker, self.home, snapshot_interval_s=1)

    def damage(self, state: Path) -> None:
        """Damages some store."""
        store = (
            state
            / "rig"
            / self.dice.choice(
                [
                    f"{name}-{number}"
                    for name in ("enrich", "campaigns")
                    for number in range(PARTITIONS)
                ]
            )
        )
        before = self.folder / str(self.dice.randrange(self.runs or 1)) / "rig" / store.name
        self.said.append(f"{store.name}: {damage_something(self.dice, store, before)}")
        files = sorted((state / "rig" / "snapshots" / store.name).rglob("*"))
        files = [path for path in files if path.is_file()]
        if files and self.dice.random() < 0.5:
            path = self.dice.choice(files)
            name, damage = self.dice.choice(list(every_damage(before)))
            damage(path)
            self.said.append(f"snapshot's {path.name} {name}")

    async def strike(self, rig: EngineRig) -> EngineRig:
        """Makes one thing happen."""
        kinds = ("kill", "kill", "stop", "damage", "rebalance", "nothing", "snapshot", "snapshot")
        kind = self.dice.choice(kinds)
        self.said.append(kind)
        if kind == "damage":
            self.damage(self.home)
        elif kind == "snapshot":
            await snapshotted(rig)
        elif kind == "rebalance":
            await rig.revoke()
            await rig.assign()
        elif kind in ("kill", "stop"):
            if kind == "stop":
                await rig.revoke()
                await rig.stop()
                shutil.copytree(self.home, self.folder / str(self.runs + 1))
            else:
                await rig.kill(self.folder / str(self.runs + 1))
            self.runs += 1
            if self.dice.random() < 0.8:
                self.damage(self.home)
            return await self.begin()
        return rig

    async def survive(self, rig: EngineRig) -> EngineRig:
        """Processes all records, with as many runs as that takes."""
        while True:
            try:
                await rig.work_off()
                return rig
            except AssertionError:
                assert rig.app.failure is not None
                self.said.append(f"ended: {rig.app.failure}")
                await rig.stop()
                rig = await self.begin()


async def snapshotted(rig: EngineRig) -> None:
    """Snapshots of all that is open, now."""
    for agent in rig.worker.agents:
        for work in agent.works():
            await rig.worker.snapshots.look(agent, work)


@pytest.mark.parametrize("seed", SEEDS)
async def test_figures_are_exact_whatever_happens_to_the_files(
    engine_of: EngineMaker, tmp_path: Path, seed: int
) -> None:
    """No crash loop, no double count; snapshots of any age are used meanwhile, or refused."""
    mail = Mail(Broker(), random.Random(seed))
    fate = Misfortune(engine_of, tmp_path, mail)
    rig = await fate.begin()
    try:
        for _ in range(ROUNDS):
            mail.send()
            if mail.dice.random() < 0.7:
                rig = await fate.survive(rig)
            else:
                await rig.settle(mail.dice.randrange(400))
            rig = await fate.strike(rig)
        rig = await fate.survive(rig)
        await assert_exact(rig, mail)
    finally:
        print(f"seed {seed}", *fate.said, sep="\n  ")
