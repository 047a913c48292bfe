"""Imported history before live events: uniques hold across the cut, whatever is killed when."""

import asyncio
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.event import Event, event_hash, message_key
from schemas.history_log import cut_minute, history_log_id
from schemas.topics import HISTORY, MINUTES
from streams.enrich.epochs import Epoch, Joined, Ruling, Span
from streams.enrich.shard import Shard
from streams.enrich.step import step
from streams.history.fold import PartitionFold, raw_of
from streams.history.sorting import Runs, Sorted, Stamped, write
from streams.worker.erasing import Erasing
from streams.worker.joined_history import end_history
from tests.builders import event
from tests.streams.folding import CODEC, LOG, Disk, log_of
from tests.streams.reference import count, unique_in_order
from tests.streams.replaying import LAX, Row, Topics, Worker, ruling
from tests.streams.test_reprocessing import run, stops_of
from tests.streams.test_second_store import Beside

BEGIN_US = 1_764_000_000_000_000
KINDS = (
    "delivered",
    "opened",
    "clicked",
    "opened",
    "clicked",
    "complained",
    "unsubscribed",
    "sent",
)
GAPS_S = (1, 1, 60, 3_600, 40_000)
EXACT = (
    "events", "delivered", "opened_any", "clicked_any", "complained", "unsubscribed",
    "cohort_opened_any", "cohort_clicked_any", "cohort_complained", "cohort_unsubscribed",
)  # fmt: skip
"""Counts that no correction window changes once they are settled: those by anyone."""
STAMP_MS = 1_764_900_000_000


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Event], list[Event], int]:
    """Events before a cut, those that come live (some late, of before it), and the cut."""
    at, events = BEGIN_US, []
    for number in range(draw(st.integers(2, 30))):
        at += draw(st.sampled_from(GAPS_S)) * 1_000_000
        message, kind = draw(st.integers(0, 2)), draw(st.sampled_from(KINDS))
        events.append(
            event(
                event_id=f"{number:032x}", event_type=kind, occurred_at=at, received_at=at,
                message_id=f"m{message}", recipient=f"u{message}@gmail.com",
                recipient_domain="gmail.com", campaign_id=draw(st.sampled_from([None, "c", "c"])),
                user_agent=draw(st.sampled_from(["Mozilla/5.0", "curl/8"])),
                click_url="https://shop.example/1" if kind == "clicked" else None,
            )
        )  # fmt: skip
    cut = draw(st.integers(0, len(events)))
    cut_us = events[cut]["occurred_at"] if cut < len(events) else at + 1
    late = [draw(st.integers(0, 5)) == 0 for _ in range(cut)]
    old = [one for one, is_late in zip(events, late, strict=False) if not is_late]
    came = [one for one, is_late in zip(events, late, strict=False) if is_late]
    live = [*(cast(Event, {**one, "received_at": cut_us}) for one in came), *events[cut:]]
    live = draw(st.permutations(live)) if draw(st.booleans()) else live
    repeats = draw(st.lists(st.sampled_from(old), max_size=3)) if old else []
    return [*old, *repeats], [*live], cut_us


class Kept(Disk):
    """A disk with the rest of what a ``Store`` has."""

    def write(self, changes: Any, *, offset: int = -1, cleared: Sequence[Any] = ()) -> None:
        for begin, end in cleared:
            self.delete_range(begin, end)
        super().write(changes)

    def delete_range(self, begin: bytes, end: bytes) -> None:
        for key in [key for key in self.values if begin <= key < end]:
            del self.values[key]


class Killed(Exception):
    """The import is killed."""


class Kafka(Topics):
    """All topics, that of history too; an import may be killed while it writes."""

    def __init__(self) -> None:
        super().__init__()
        self.history: list[Row] = []
        self.left = 1 << 30

    async def send_to(self, topic: str, _: int, rows: Any) -> None:
        """As ``Flight``."""
        for key, value, timestamp, _headers in rows:
            if self.left <= 0:
                raise Killed
            self.left -= 1
            if topic == HISTORY:
                self.history.append(Row(len(self.history), timestamp, key, value))
            else:
                assert topic == MINUTES
                record = CODEC.decode(value, "campaign_minute")
                self.of_history[record["campaign_id"], record["minute"]] = record

    of_history: dict[Any, dict[str, Any]] = {}  # noqa: RUF012

    async def landed(self) -> None:
        """As ``Flight``."""

    @asynccontextmanager
    async def source(self, given: Any, topic: str, number: int) -> AsyncIterator[Any]:
        if topic != HISTORY:
            async with super().source(given, topic, number) as rows:
                yield rows
            return
        old = Topics()
        old.rows, old.end = self.history, len(self.history)
        yield old


def imported(kafka: Kafka, old: list[Event], cut_us: int, kills: list[int]) -> str:
    """Runs an import of one partition, killed after so many records; returns its log."""
    log_id = history_log_id(cut_us, 7)
    kafka.of_history = {}
    with tempfile.TemporaryDirectory() as folder:
        runs = Runs(Path(folder), run_bytes=2_000)
        for one in old:
            value = CODEC.encode("raw_event", one)
            identity = event_hash(one["event_id"])
            runs.add(Stamped(0, one["occurred_at"], value, message_key(one), identity))
        path = Path(folder) / "sorted"
        with path.open("wb") as file:
            for record in runs.merged():
                write(file, record)
        for kill in [*kills, 1 << 30]:
            kafka.left = kill
            store = Kept()
            shard = Shard(0, store.get_many)
            records = Sorted(path)
            fold = PartitionFold(
                CODEC, ruling(LAX).now, shard, cast(Any, store), records,
                Erasing(None, CODEC, ruling(LAX).now), log_id=log_id, stamp_ms=STAMP_MS,
            )  # fmt: skip
            try:
                asyncio.run(_import(kafka, fold))
            except Killed:
                continue
            finally:
                records.close()
    return log_id


async def _import(kafka: Kafka, fold: PartitionFold) -> None:
    async def told(_: int) -> None:
        return

    await fold.run(cast(Any, kafka), len(kafka.history), told)
    await fold.write_counts(cast(Any, kafka), 1, STAMP_MS)


def joining(number: int, log_id: str, kafka: Kafka, until: int) -> Epoch:
    """An epoch of the same rules that joins an import."""
    ends = (len(kafka.history),)
    epoch = Epoch(number, LOG, number, 0, 2, LAX, (Span(0, until),))
    return replace(epoch, histories=(Joined(log_id, number, ends),))


def folded_as_one(old: list[Event], live: list[Event], log_id: str) -> Topics:
    """History and then live events through one shard, nothing killed."""
    topics = Topics()
    worker = Worker(ruling(LAX), log_of(live), topics)
    shard = worker.shard = Shard(0, worker.disk.get_many)
    shard.begin_log(log_id)
    stamped = sorted(
        Stamped(0, one["occurred_at"], CODEC.encode("raw_event", one), message_key(one), 0)
        for one in old
    )
    records = [raw_of(offset, one) for offset, one in enumerate(stamped)]
    step(shard, records, ruling(LAX).now, CODEC)
    shard.forget_recipients()
    end_history(shard)
    shard.begin_log(LOG)
    effects = step(shard, worker.log, ruling(LAX).now, CODEC)
    worker.write(worker.completed(effects, ruling(LAX).now))
    worker.checkpoint()
    return topics


def totals(counts: Any) -> Counter[str]:
    """Counts over everything, of those that are exact."""
    out: Counter[str] = Counter()
    for row in counts.values():
        out.update({name: row.get(name, 0) for name in EXACT})
    return +out


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(histories(), st.data())
def test_live_events_behind_imported_history_count_as_one_fold_of_both(
    mail: tuple[list[Event], list[Event], int], data: st.DataObject
) -> None:
    """Live runs, an import is killed while it writes, live is folded again behind it, with kills
    and lost disks, and goes on. The figures are those of one fold of everything; what counts once
    per message is what a plain recount of all events gives."""
    old, live, cut_us = mail
    log, kafka = log_of(live), Kafka()
    until = data.draw(st.integers(0, len(log)))
    worker = Worker(ruling(LAX), log, kafka)
    run(worker, None, [until], data)
    kills = data.draw(st.lists(st.integers(0, len(old) + 3), max_size=2))
    log_id = imported(kafka, old, cut_us, kills)
    assert (cut_minute(log_id) or 0) * 60_000_000 >= cut_us
    check_log(kafka, old)
    new = joining(1, log_id, kafka, until)
    assert Ruling.of(history_of(new), ruling(LAX).now).histories == new.histories
    beside = Beside(ruling(LAX, new), log, kafka, begin=0)
    for stop in sorted(data.draw(st.lists(st.integers(until, len(log)), max_size=3))):
        run(worker, None, [stop], data)
        beside.follow(worker, data)
    span = beside.switch(worker)
    if data.draw(st.booleans()):
        beside.disk = Disk()  # another worker opens the partition
    run(beside, span, stops_of(data, len(log)), data)
    plain = folded_as_one(old, live, log_id)
    assert kafka.counts() == plain.counts()
    assert differing(kafka.events(), plain.events()) == []
    whole = totals(kafka.counts()) + totals(kafka.of_history)
    assert whole == totals(count(unique_in_order([*old, *live])))


def differing(found: Any, wanted: Any) -> list[Any]:
    """Events of live that are told otherwise, but for what is not written again for itself."""
    keys = found.keys() ^ wanted.keys()
    fields = ("campaign_id", "actor", "first_of_kind", "first_human", "event_time")
    return [*keys] + [
        (key, name, found[key][name], wanted[key][name])
        for key in found.keys() & wanted.keys()
        for name in fields
        if found[key][name] != wanted[key][name]
    ]


def history_of(epoch: Epoch) -> Any:
    """The announced epochs, through the record that announces it."""
    from streams.enrich.epochs import History

    stored = CODEC.decode(CODEC.encode("rules", epoch.record()), "rules")
    return History([stored])


def check_log(kafka: Kafka, old: list[Event]) -> None:
    """The topic of history has each event once, in order, whatever was killed."""
    firsts = []
    for row in kafka.history:
        added = CODEC.decode(row.value, "enriched_event")["enrichment"]
        if added["version"] == added["offset"]:
            firsts.append(added["offset"])
    assert firsts == sorted(set(firsts))
    assert len(firsts) == len({one["event_id"] for one in old})
