"""Reprocessing beside live events by the whole engine: kills, lost disks, moves and aborts at any
moment, over topics in memory."""

import asyncio
import random
import shutil
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from schemas import topics
from schemas.errors import Unavailable
from schemas.versions import REVISION_EPOCH_SHIFT
from streams.classify.actor_rules import Rules
from streams.enrich.epochs import Epoch, History, Span
from streams.transport.chunks import TP
from streams.worker import reprocessing, second_store
from tests.builders import RECEIVED_AT, event
from tests.streams.engine_rig import PARTITIONS, Broker, EngineMaker, EngineRig
from tests.streams.folding import LOG, LogRecord
from tests.streams.mailing import Mail, identities, merged_minutes
from tests.streams.reference import Counts, count
from tests.streams.replaying import LAX, STRICT, Topics, ruling
from tests.streams.test_reprocessing import fold_once
from tests.streams.test_second_store import differing
from tests.streams.test_step import AGENT

SEEDS = range(8)
EVENTS = 60
KINDS = ("delivered", "delivered", "opened", "opened", "opened", "clicked", "clicked", "bounced")


class Clicks(Mail):
    """Opens and clicks of a few messages at a time, some soon after the delivery."""

    def send(self, fresh: int = EVENTS, again: int = EVENTS) -> None:
        """Feeds new events, with repeats of earlier ones among them."""
        dice, begin = self.dice, len(self.events)
        at = self.events[-1]["received_at"] if self.events else RECEIVED_AT
        new = []
        for number in range(begin, begin + fresh):
            at += dice.choice([100_000, 1_000_000, 40_000_000])
            kind = dice.choice(KINDS)
            message = number // 30 * 6 + dice.randrange(8)
            new.append(
                event(
                    event_id=f"{number:032x}", event_type=kind, message_id=f"m{message}",
                    recipient=f"user-{message}@gmail.com", recipient_domain="gmail.com",
                    campaign_id=dice.choice([None, "c1", "c2"]), received_at=at,
                    occurred_at=at - dice.choice([0, 0, 30_000_000]),
                    user_agent=dice.choice([AGENT, AGENT, "Mozilla/5.0", "curl/8"]),
                    click_url=f"https://shop.example/{dice.randrange(4)}"
                    if kind == "clicked" else None,
                )
            )  # fmt: skip
        self.broker.feed([*new, *(dice.choices(self.events, k=again) if self.events else [])])
        self.events += new


class Book:
    """The topic of rules, in memory (``streams.reprocess.rules_topic.Rulebook``).

    Args:
        hangs: whether a writer is not told that its record was written.
        delays: whether its record stays on its way, in ``late``, until that is added.
    """

    def __init__(self, history: History, *, hangs: bool = False, delays: bool = False) -> None:
        self.history = history
        self.hangs, self.delays = hangs, delays
        self.hung = False
        self.late: list[dict[str, Any]] = []

    async def refresh(self) -> History:
        """Nothing is read."""
        await asyncio.sleep(0)
        return self.history

    async def note_gone_back(self, _: Any, epoch: Epoch, partition: int, span: Span) -> None:
        """Writes a record."""
        await asyncio.sleep(0)
        if self.delays:
            self.late.append(epoch.gone_back(partition, span))
            await asyncio.Event().wait()
        self.history.add([epoch.gone_back(partition, span)])
        if self.hangs:
            self.hung = True
            await asyncio.Event().wait()


class Keeper:
    """A consumer that commits what nobody reads."""

    def assign(self, _: Any) -> None:
        """Nothing."""

    async def commit(self, _: Any) -> None:
        """Nothing."""


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    """Topics, and stores that fold a few records at a time."""
    topics_in_memory = Broker()

    @asynccontextmanager
    async def keeper(*_: Any) -> AsyncIterator[Keeper]:
        yield Keeper()

    class Whole:
        def __init__(self, topic: str) -> None:
            self.topic = topic

        async def begin(self) -> None:
            await asyncio.sleep(0)

        async def batches(self, records_max: int) -> AsyncIterator[list[Any]]:
            yield topics_in_memory.records(self.topic)

    @asynccontextmanager
    async def reader(_: Any, topic: str) -> AsyncIterator[Whole]:
        yield Whole(topic)

    monkeypatch.setattr(second_store, "offset_keeper", keeper)
    monkeypatch.setattr(reprocessing, "reader", reader)
    for name, value in {
        "SLICE_RECORDS": 7, "STORE_EVERY": 20, "NEAR_RECORDS": 5, "LOOK_EVERY_S": 0.001,
    }.items():  # fmt: skip
        monkeypatch.setattr(second_store, name, value)
    return topics_in_memory


def begin(history: History, broker: Broker, dice: random.Random | None = None) -> Epoch:
    """Announces stricter rules from some offset of each partition on, by default the first."""
    untils = [broker.committed[TP(topics.RAW, number)] for number in range(PARTITIONS)]
    begins = [dice.choice([0, until // 2, until]) if dice else 0 for until in untils]
    spans = tuple(map(Span, begins, untils))
    epoch = Epoch(history.number + 1, LOG, 0, 0, 3, STRICT, spans)
    history.add([epoch.record()])
    return epoch


def is_over(rig: EngineRig, epoch: Epoch) -> bool:
    """Whether every partition is switched, and everything released."""
    book = rig.worker.enrich.reprocessing._history
    return all(
        book.has_gone_back(epoch, LOG, number)
        and (shard := rig.worker.enrich.shards.get(TP(topics.RAW, number))) is not None
        and shard.deferred is None
        and shard.epoch == epoch.number
        for number in range(PARTITIONS)
    )


async def hurt(
    engine_of: EngineMaker, rig: EngineRig, tmp_path: Path, dice: random.Random, book: Book
) -> EngineRig:
    """The worker goes on, is killed, loses its disk or its partitions for a while; or another one
    takes over whose disk is that of some earlier moment."""
    fate = dice.choice(["goes on", "killed", "lost", "moved", "taken over"])
    if fate == "goes on":
        return rig
    if fate == "moved":
        await rig.revoke()
        await rig.assign()
        return rig
    folder = tmp_path / f"{dice.random()}"
    earlier = folders_of(tmp_path, rig)
    await rig.kill(folder)
    if fate == "lost":
        shutil.rmtree(folder)
    if fate == "taken over":
        shutil.rmtree(folder)
        shutil.copytree(dice.choice(earlier), folder)
    return await engine_of(rig.broker, folder, rulebook=book, reprocess_core_share=1.0)


def folders_of(tmp_path: Path, rig: EngineRig) -> list[Path]:
    """The disks of earlier moments."""
    return sorted(path for path in tmp_path.iterdir() if path != rig.folder)


def standing(broker: Broker) -> Topics:
    """What ClickHouse would hold."""
    return Topics(enriched=broker.decoded(topics.ENRICHED, "enriched_event"))


def check(broker: Broker, epoch: Epoch) -> None:
    """Events and counts are as one ordered fold by both rules gives them."""
    found, counts = standing(broker).events(), Counter[tuple[Any, str]]()
    for number in range(PARTITIONS):
        log = [
            LogRecord(each.offset, each.timestamp, each.key, each.value)
            for each in broker.log(topics.RAW, number).records
        ]
        mine = Epoch(1, LOG, 0, 0, 3, STRICT, (epoch.spans[number],))
        plain = fold_once(ruling(LAX, mine), log)
        wanted = {key: {**row, "partition": number} for key, row in plain.events().items()}
        rows = {key: row for key, row in found.items() if row["partition"] == number}
        assert not [*differing(rows, wanted, mine.spans[0].begin)]
        counts.update(flat(plain.counts()))
    assert Counter(flat(merged_minutes(broker))) == counts


def check_engagement(broker: Broker) -> None:
    """What is told of people, and not withdrawn, holds."""
    told = {}
    for record in broker.decoded(topics.ENGAGEMENT, "engagement"):
        told[record["event_id"]] = not record["withdrawn"]
    assert {True, False} == set(told.values()), "nothing was told, or nothing withdrawn"
    human = {event for (_, event), row in standing(broker).events().items() if row["first_human"]}
    assert {event for event, holds in told.items() if holds} <= human


def flat(counts: Counts) -> dict[tuple[Any, str], int]:
    """Counts by key and name."""
    return {(key, name): value for key, row in counts.items() for name, value in row.items()}


@pytest.mark.parametrize("seed", SEEDS)
async def test_figures_are_the_new_rules_whatever_happens_meanwhile(
    engine_of: EngineMaker, tmp_path: Path, broker: Broker, seed: int
) -> None:
    """Live figures are the earlier rules' until the first switch; nothing is written till then."""
    dice = random.Random(seed)
    mail, book = Clicks(broker, dice), Book(History())
    rig = await engine_of(broker, tmp_path / "first", rulebook=book, reprocess_core_share=1.0)
    for _ in range(3):
        mail.send()
        await rig.work_off()
    epoch = begin(book.history, broker, dice)
    folder = tmp_path / "second"
    await rig.kill(folder)
    rig = await engine_of(broker, folder, rulebook=book, reprocess_core_share=1.0)
    for _ in range(6):
        await rig.settle(dice.randrange(400))
        mail.send(20, 5)
        await rig.work_off()
        if not book.history.is_begun(epoch.number):
            assert merged_minutes(broker) == count(mail.read()), "live figures"
            assert max_revision(broker) < 1 << REVISION_EPOCH_SHIFT, "the second fold is silent"
        rig = await hurt(engine_of, rig, tmp_path, dice, book)
    await rig.until(lambda: is_over(rig, epoch) or not rig.worker.ready)
    while not is_over(rig, epoch):
        await rig.work_off()
        await asyncio.sleep(0.01)
    mail.send()
    await rig.work_off()
    assert all(len(places) == 1 for places in identities(broker).values())
    check(broker, epoch)
    assert count(mail.read()) != count(mail.read(), Rules.load(STRICT)), "the rules say the same"


@pytest.mark.parametrize("seed", SEEDS)
async def test_an_aborted_run_has_changed_nothing_and_another_may_follow(
    engine_of: EngineMaker, tmp_path: Path, broker: Broker, seed: int
) -> None:
    """However far it was; unless a partition was switched: then the abort has no effect."""
    dice = random.Random(seed)
    mail, book = Clicks(broker, dice), Book(History())
    rig = await engine_of(broker, tmp_path / "0", rulebook=book)
    for _ in range(3):
        mail.send()
        await rig.work_off()
    epoch = begin(book.history, broker, dice)
    for folder in ("1", "2"):
        await rig.kill(tmp_path / folder)
        rig = await engine_of(broker, tmp_path / folder, rulebook=book, reprocess_core_share=1.0)
        if folder == "1":
            await rig.settle(dice.randrange(300))
            book.history.add([epoch.aborted()])
            assert book.history.is_aborted(epoch.number) != book.history.is_begun(epoch.number)
    if book.history.is_begun(epoch.number):
        return
    mail.send()
    await rig.work_off()
    assert merged_minutes(broker) == count(mail.read())
    assert max_revision(broker) < 1 << REVISION_EPOCH_SHIFT
    assert not [path for path in (tmp_path / "2" / "rig").iterdir() if "second" in path.name]
    again = begin(book.history, broker, dice)
    await rig.kill(tmp_path / "3")
    rig = await engine_of(broker, tmp_path / "3", rulebook=book, reprocess_core_share=1.0)
    while not is_over(rig, again):
        await rig.work_off()
        await asyncio.sleep(0.01)
    check(broker, again)


@pytest.mark.parametrize("keeps_disk", [True, False])
async def test_a_kill_just_after_the_switch_loses_nothing(
    engine_of: EngineMaker, tmp_path: Path, broker: Broker, keeps_disk: bool
) -> None:
    """Nothing was released yet. The next worker does it, with the second store or without."""
    dice = random.Random(1)
    mail, book = Clicks(broker, dice), Book(History(), hangs=True)
    rig = await engine_of(broker, tmp_path / "0", rulebook=book)
    for _ in range(3):
        mail.send()
        await rig.work_off()
    epoch = begin(book.history, broker)
    await rig.kill(tmp_path / "1")
    rig = await engine_of(broker, tmp_path / "1", rulebook=book, reprocess_core_share=1.0)
    await rig.until(lambda: book.hung)
    assert max_revision(broker) < 1 << REVISION_EPOCH_SHIFT
    await rig.kill(tmp_path / "2")
    book.hangs = False
    folder = tmp_path / ("2" if keeps_disk else "new")
    rig = await engine_of(broker, folder, rulebook=book, reprocess_core_share=1.0)
    while not is_over(rig, epoch):
        await rig.work_off()
        await asyncio.sleep(0.01)
    mail.send()
    await rig.work_off()
    check(broker, epoch)


@pytest.mark.parametrize("when", ["before ours", "after ours", "without a second store"])
async def test_a_switch_that_is_recorded_late_does_not_keep_the_earlier_rules(
    engine_of: EngineMaker, tmp_path: Path, broker: Broker, when: str
) -> None:
    """A worker is held up between its commit and its record, and loses its partitions. The next one
    goes on by the earlier rules; then the record comes, before or after that worker's own."""
    dice = random.Random(2)
    mail, book = Clicks(broker, dice), Book(History(), delays=True)
    rig = await engine_of(broker, tmp_path / "0", rulebook=book)
    for _ in range(3):
        mail.send()
        await rig.work_off()
    epoch = begin(book.history, broker)
    await rig.kill(tmp_path / "1")
    rig = await engine_of(broker, tmp_path / "1", rulebook=book, reprocess_core_share=1.0)
    await rig.until(lambda: bool(book.late))
    await rig.kill(tmp_path / "2")
    book.delays = False
    rig = await engine_of(broker, tmp_path / "new", rulebook=book, reprocess_core_share=1.0)
    await rig.until(lambda: all(agent.is_ready for agent in rig.worker.agents))
    broker.answers.clear()  # the second fold waits, live events do not
    mail.send()
    await rig.work_off()
    mail.send()
    await rig.work_off()
    committed = dict(broker.committed)
    if when != "after ours":
        book.history.add(book.late)
    if when == "without a second store":
        await rig.revoke()
    broker.answers.set()
    if when == "without a second store":
        for number in range(PARTITIONS):
            await rig.worker.enrich.reprocessing.second.discard(TP(topics.RAW, number))
        await rig.assign()
    if when == "after ours":
        await rig.until(lambda: book.history.is_begun(epoch.number))
        book.history.add(book.late)
        await rig.kill(tmp_path / "3")
        rig = await engine_of(broker, tmp_path / "4", rulebook=book, reprocess_core_share=1.0)
    while not is_over(rig, epoch):
        await rig.work_off()
        await asyncio.sleep(0.01)
    (late,) = book.late
    assert committed[TP(topics.RAW, late["partition"])] > late["untils"][0], "nothing went on"
    mail.send()
    await rig.work_off()
    check(broker, epoch)
    check_engagement(broker)


@pytest.mark.parametrize("trouble", ["the disk is full", "Kafka is away"])
async def test_live_events_go_on_while_the_second_fold_is_in_trouble(
    engine_of: EngineMaker, tmp_path: Path, broker: Broker, monkeypatch: pytest.MonkeyPatch,
    trouble: str,
) -> None:  # fmt: skip
    """The disk filled up under it, or the enriched topic can't be read; later it is folded."""
    dice = random.Random(3)
    mail, book = Clicks(broker, dice), Book(History())
    rig = await engine_of(broker, tmp_path / "0", rulebook=book)
    for _ in range(3):
        mail.send()
        await rig.work_off()
    epoch = begin(book.history, broker)
    await rig.kill(tmp_path / "1")
    asked = [0]
    free = second_store.SPACE_BYTES * 9
    bad = [True]

    def usage(_: Path) -> Any:
        asked[0] += 1
        full = bad[0] and trouble == "the disk is full" and asked[0] % 4 == 0
        return SimpleNamespace(free=second_store.SPACE_LEFT_BYTES - 1 if full else free)

    @asynccontextmanager
    async def away(*_: Any) -> AsyncIterator[Keeper]:
        if bad[0] and trouble == "Kafka is away":
            asked[0] += 1
            raise Unavailable("Kafka is away")
        yield Keeper()

    monkeypatch.setattr(shutil, "disk_usage", usage)
    monkeypatch.setattr(second_store, "offset_keeper", away)
    monkeypatch.setattr(second_store, "SPACE_AGAIN_S", 0.001)
    rig = await engine_of(broker, tmp_path / "1", rulebook=book, reprocess_core_share=1.0)
    await rig.until(lambda: asked[0] > 20)
    mail.send()
    await rig.work_off()
    assert merged_minutes(broker) == count(mail.read()), "live figures"
    assert not book.history.is_begun(epoch.number)
    bad[0] = False
    while not is_over(rig, epoch):
        await rig.work_off()
        await asyncio.sleep(0.01)
    check(broker, epoch)


async def test_a_disk_that_was_away_and_had_gone_further_is_used(
    engine_of: EngineMaker, tmp_path: Path, broker: Broker
) -> None:
    """Its live state and second store hold records that were not committed. Another worker switches
    before them; then that disk is back."""
    dice = random.Random(4)
    mail, book = Clicks(broker, dice), Book(History())
    rig = await engine_of(broker, tmp_path / "0", rulebook=book)
    for _ in range(3):
        mail.send()
        await rig.work_off()
    epoch = begin(book.history, broker)
    before = {tp: at for tp, at in broker.committed.items() if tp.topic == topics.RAW}
    await rig.kill(tmp_path / "1")
    shutil.copytree(tmp_path / "1", tmp_path / "other")
    book.delays = True
    rig = await engine_of(broker, tmp_path / "1", rulebook=book, reprocess_core_share=1.0)
    await rig.until(lambda: all(agent.is_ready for agent in rig.worker.agents))
    broker.answers.clear()
    mail.send()
    await rig.work_off()
    broker.answers.set()
    await rig.until(lambda: bool(book.late))
    (mine,) = book.late
    await rig.kill(tmp_path / "2")
    book.delays = False
    broker.committed.update(before)
    rig = await engine_of(broker, tmp_path / "other", rulebook=book, reprocess_core_share=1.0)
    await rig.until(lambda: book.history.has_gone_back(epoch, LOG, mine["partition"]))
    assert book.history.span(epoch, mine["partition"]).until <= mine["untils"][0]
    await rig.kill(tmp_path / "3")
    rig = await engine_of(broker, tmp_path / "2", rulebook=book, reprocess_core_share=1.0)
    while not is_over(rig, epoch):
        await rig.work_off()
        await asyncio.sleep(0.01)
    mail.send()
    await rig.work_off()
    check(broker, epoch)


async def test_rules_that_change_while_a_partition_is_opened_restart_the_worker(
    engine_of: EngineMaker, tmp_path: Path, broker: Broker
) -> None:
    """As when a run is begun just after another was aborted: that is no failure."""
    mail, book = Clicks(broker, random.Random(5)), Book(History())
    rig = await engine_of(broker, tmp_path / "0", rulebook=book)
    mail.send()
    await rig.work_off()
    await rig.revoke()
    begin(book.history, broker)
    await rig.assign()
    await asyncio.wait_for(rig.worker.stop.wait(), 60)
    assert rig.worker.superseded
    assert rig.app.failure is None


def max_revision(broker: Broker) -> int:
    """The highest one on the enriched topic."""
    values = broker.decoded(topics.ENRICHED, "enriched_event")
    return int(max(value["enrichment"]["revision"] for value in values))
