"""What a reprocessing run will do, whether it may begin, and how far it is.

Invariants:
1. A run is begun by one record on the topic of rules; the workers do the rest. So a killed command
   has either begun a run or not, and repeating the command watches the run. It is a repetition if
   it has the same rules, and a time that, seen from when the run was begun, is the same moment.
2. A run begins at offsets that are looked up by the arrival time of records, and never after what
   the workers have committed.
3. A run may be aborted until the first partition judges by its rules; it has changed nothing then.
4. A run is refused if records are gone that it needs, of the raw topic or of the enriched one
   (which it folds); if another one is under way; or if its rules are not newer, or too long for a
   record.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from aiokafka import TopicPartition

from schemas.errors import BadInput, ConfigError, Unavailable
from schemas.groups import progress_group
from schemas.settings import Settings
from schemas.topics import ENRICHED, RAW, RULES
from schemas.versions import EPOCH_MAX, FOLD_VERSION
from streams.classify.actor_rules import Rules
from streams.enrich.epochs import Epoch, History, Span
from streams.kafka import admin
from streams.kafka.clients import admin_client, lone_consumer, producer
from streams.reprocess.rules_topic import Rulebook

FIRST_RECORD_MS = 10_000
"""Longest wait for the oldest record of a partition."""
RULES_BYTES_MAX = 900_000
"""Kafka's default limit of a record is 1 MiB; the offsets of partitions need room too."""
Since = Callable[[int], int]
"""Where a run begins: maps the time of asking to a time (such as 7 days before), in milliseconds
since 1970."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """One partition of the raw topic.

    Attributes:
        start, end: of the log.
        oldest_ms: time of the oldest record of it and of the enriched topic's partition, whichever
            is later, if older ones were removed; else ``None``.
        found: first offset from the time asked for; ``end`` if nothing came since.
        committed: by the workers; ``None``: nothing yet.
    """

    start: int
    end: int
    oldest_ms: int | None
    found: int
    committed: int | None

    @property
    def span(self) -> Span:
        """What would be reprocessed (invariant 2)."""
        until = self.start if self.committed is None else self.committed
        return Span(min(max(self.found, self.start), until), until)


@dataclass(frozen=True, slots=True)
class RunProgress:
    """How far a run is.

    Attributes:
        records: of the whole run; ``done`` of them are reprocessed.
        waiting: partitions on which no worker has begun.
        beside: partitions whose live events are judged by the earlier rules still.
    """

    records: int
    done: int
    waiting: int
    beside: int = 0

    @property
    def over(self) -> bool:
        """Whether all figures are those of the new rules."""
        return self.done == self.records and not self.waiting and not self.beside


def progress(
    history: History,
    epoch: Epoch,
    committed: Mapping[int, int | None],
    second: Mapping[int, int] | None = None,
) -> RunProgress:
    """How far ``epoch`` is.

    Args:
        committed: by the workers.
        second: what second stores have reached; ``None``: there is none yet.
    """
    records = done = waiting = beside = 0
    for partition in range(len(epoch.spans)):
        span = history.span(epoch, partition)
        length = span.until - span.begin
        records += length
        reached = committed.get(partition) or 0
        if not history.has_gone_back(epoch, epoch.log_id, partition):
            found = (second or {}).get(partition)
            if found is None:
                waiting += 1
                continue
            beside, reached = beside + 1, found
        done += min(max(reached - span.begin, 0), length)
    return RunProgress(records, done, waiting, beside)


@dataclass(frozen=True, slots=True)
class PartProgress:
    """How far a run is on one partition.

    Attributes:
        state: ``waiting`` for a worker; ``beside``: history is processed beside live events;
            ``under way``: its figures are the new rules' as soon as it is done; ``done``.
        done, until: offsets: processed so far; what there is to process now.
    """

    partition: int
    state: str
    begin: int
    done: int
    until: int


def by_partition(
    history: History, epoch: Epoch, committed: Mapping[int, int | None], second: Mapping[int, int]
) -> list[PartProgress]:
    """How far ``epoch`` is on each partition; arguments as ``progress``."""
    out = []
    for partition in range(len(epoch.spans)):
        span = history.span(epoch, partition)
        reached = committed.get(partition) or 0
        until = span.until
        if history.has_gone_back(epoch, epoch.log_id, partition):
            state = "done" if reached >= until else "under way"
        else:
            state = "beside" if partition in second else "waiting"
            until, reached = max(until, reached), second.get(partition, span.begin)
        done = min(max(reached, span.begin), until)
        out.append(PartProgress(partition, state, span.begin, done, until))
    return out


def iso(ms: int) -> str:
    """A time for people, in UTC; with milliseconds only if they are not 0."""
    fraction = f".{ms % 1000:03d}" if ms % 1000 else ""
    return f"{datetime.fromtimestamp(ms // 1000, UTC):%Y-%m-%dT%H:%M:%S}{fraction}Z"


def check_reach(bounds: Mapping[int, Bounds], from_ms: int) -> None:
    """Refuses a time from which records are gone.

    Raises:
        BadInput: it names the earliest possible time.
    """
    first = earliest(bounds)
    if any(b.oldest_ms is not None and b.oldest_ms > from_ms for b in bounds.values()):
        raise BadInput(
            "too_early", f"{RAW} or {ENRICHED} no longer holds every record since {iso(from_ms)}; "
            f"the earliest possible --from is {iso(first)}",
        )  # fmt: skip


def earliest(bounds: Mapping[int, Bounds]) -> int:
    """The earliest time, a whole second in milliseconds, since which nothing was removed.

    Returns:
        0 if nothing was ever removed.
    """
    oldest = [b.oldest_ms for b in bounds.values() if b.oldest_ms is not None]
    return -(-max(oldest, default=0) // 1000) * 1000


def check_version(new: Rules, active: int, *, again: bool = False) -> None:
    """Refuses rules that are not newer than those in force.

    Args:
        again: the same ones are good too.

    Raises:
        BadInput: they are not.
    """
    if new.version < active or (new.version == active and not again):
        raise BadInput(
            "rules_not_newer", f"the rules have version {new.version}, and version {active} is in "
            "force: raise `version` with every change; --again takes the same rules",
        )  # fmt: skip


def check_under_way(state: RunProgress | None, newest: Epoch | None, from_ms: int) -> None:
    """Refuses to begin a run while another one is under way.

    One of an earlier fold can't go on by this release. A run that begins as early takes its place.

    Raises:
        BadInput: one is under way.
    """
    if state is None or state.over or newest is None:
        return
    done = f"{state.done:,} of {state.records:,} records"
    if newest.fold >= FOLD_VERSION:
        raise BadInput("under_way", f"another run is under way: {done} are done")
    if from_ms > newest.from_time:
        raise BadInput(
            "under_way", f"a run of the release before is not over: {done} are done; --from must "
            f"not be after its own, {iso(newest.from_time)}",
        )  # fmt: skip


def is_begun(newest: Epoch | None, text: str, since: Since) -> bool:
    """Whether the newest epoch is the one that this command would begin (invariant 1).

    An import that was joined had all live records judged again, whatever time is asked for.

    Raises:
        BadInput: a run by these rules was begun with another time; it is named.
    """
    if newest is None or newest.text != text or newest.fold != FOLD_VERSION:
        return False
    if newest.from_time == 0 and newest.histories:
        return True
    if since(newest.begun_at) != newest.from_time:
        raise BadInput(
            "begun_otherwise", f"a run by the same rules was begun at {iso(newest.begun_at)}; "
            f"to watch it, use --from {iso(newest.from_time)}",
        )  # fmt: skip
    return True


class Planner:
    """Plans and begins runs.

    Args:
        rulebook: entered.
        own_version: version of the rules that are in force before any epoch.
    """

    def __init__(
        self, settings: Settings, rulebook: Rulebook, log_id: str, own_version: int
    ) -> None:
        self._settings = settings
        self._rulebook = rulebook
        self._log_id = log_id
        self._own_version = own_version

    async def committed(self) -> dict[int, int | None]:
        """The workers' committed offset of each partition of the raw topic."""
        group: dict[str, tuple[str, ...]] = {self._settings.consumer_group: (RAW,)}
        return {row.partition: row.committed for row in await admin.lag(self._settings, group)}

    async def _second(self, epoch: int) -> dict[int, int]:
        """What second stores of an epoch have reached."""
        group = progress_group(self._settings.consumer_group)
        async with admin_client(self._settings) as client:
            found = await client.list_consumer_group_offsets(group)
        return {tp.partition: at.offset for tp, at in found.items()
                if tp.topic == RAW and at.metadata == str(epoch)}  # fmt: skip

    async def progress(self) -> RunProgress | None:
        """How far the newest epoch is; ``None`` when there is none on this log."""
        history = await self._rulebook.refresh()
        newest = history.newest
        if newest is None or newest.log_id != self._log_id:
            return None
        # in this order: a partition that is switched in between is not taken for one that waits
        second = await self._second(newest.number)
        return progress(history, newest, await self.committed(), second)

    async def by_partition(self) -> tuple[Epoch, list[PartProgress]] | None:
        """The newest epoch and how far it is; ``None`` when there is none on this log."""
        history = await self._rulebook.refresh()
        newest = history.newest
        if newest is None or newest.log_id != self._log_id:
            return None
        second = await self._second(newest.number)
        return newest, by_partition(history, newest, await self.committed(), second)

    async def abort(self) -> Epoch:
        """Aborts the run that is under way; returns it.

        Raises:
            BadInput: there is none, or a partition judges by its rules already.
            Unavailable: Kafka is away. The run may be aborted; repeat the command to find out.
        """
        state = await self.progress()
        epoch = self._rulebook.history.newest
        if state is None or state.over or epoch is None:
            raise BadInput("not_under_way", "no run is under way")
        if not self._rulebook.history.is_begun(epoch.number):
            async with producer(self._settings) as client:
                if await self._rulebook.abort(client, epoch):
                    return epoch
        raise BadInput(
            "switched", "some partitions judge by the new rules already; to return to the earlier "
            "rules, wait until the run is over, and reprocess with them and a higher `version`",
        )  # fmt: skip

    async def plan(
        self, text: str, since: Since, now_ms: int, *, again: bool = False
    ) -> tuple[Epoch, dict[int, Bounds]]:
        """The epoch that would begin, and the partitions that it was computed from.

        Args:
            again: also by the rules that are in force, as after a release that folds otherwise.

        Raises:
            BadInput: it may not begin (invariant 4).
            ConfigError: a topic is missing.
            Unavailable: Kafka is away.
        """
        try:
            rules = Rules.load(text)
        except ValueError as error:
            raise BadInput("bad_rules", str(error)) from error
        check_length(text)
        history = await self._rulebook.refresh()
        if not self._rulebook.is_there:
            raise ConfigError([f"{RULES}: no such topic; 'mailpulse topics apply' creates it"])
        from_ms = since(now_ms)
        state = await self.progress()
        newest = history.newest
        check_under_way(state, newest, from_ms)
        check_version(rules, self._own_version if newest is None else newest.version, again=again)
        if history.number >= EPOCH_MAX:
            raise BadInput("too_many", f"rules were changed {EPOCH_MAX} times already")
        bounds = await self._bounds(from_ms, now_ms)
        check_reach(bounds, from_ms)
        spans = tuple(bounds[partition].span for partition in sorted(bounds))
        epoch = Epoch(history.number + 1, self._log_id, now_ms, from_ms, rules.version, text, spans)
        return epoch, bounds

    async def earliest(self, now_ms: int) -> int:
        """The earliest time that a run can begin at now, in milliseconds; 0: none was removed."""
        return earliest(await self._bounds(0, now_ms))

    async def begin(self, epoch: Epoch) -> None:
        """Announces ``epoch``.

        Raises:
            BadInput: another one was announced at the same moment.
            Unavailable: Kafka is away. The run may have begun; repeat the command to find out.
        """
        async with producer(self._settings) as client:
            await self._rulebook.announce(client, epoch)
        history = await self._rulebook.refresh()
        if history.epochs[epoch.number - 1] != epoch:
            raise BadInput("under_way", "another run was begun at the same moment")

    async def _bounds(self, from_ms: int, now_ms: int) -> dict[int, Bounds]:
        committed = await self.committed()
        places = [TopicPartition(RAW, number) for number in sorted(committed)]
        async with lone_consumer(self._settings) as consumer:
            consumer.assign(places)
            starts = await consumer.beginning_offsets(places)
            ends = await consumer.end_offsets(places)
            found = await consumer.offsets_for_times(dict.fromkeys(places, from_ms))
            oldest = await _oldest(consumer, starts, ends)
        outputs = await self._oldest_outputs(sorted(committed), now_ms)
        return {
            tp.partition: Bounds(
                starts[tp], ends[tp], later(oldest.get(tp), outputs.get(tp.partition)),
                ends[tp] if found[tp] is None else found[tp].offset, committed[tp.partition],
            )
            for tp in places
        }  # fmt: skip

    async def _oldest_outputs(self, partitions: Sequence[int], now_ms: int) -> dict[int, int]:
        """As ``_oldest``, of the enriched topic; where all is gone, the time is now."""
        places = [TopicPartition(ENRICHED, number) for number in partitions]
        async with lone_consumer(self._settings) as consumer:
            consumer.assign(places)
            starts = await consumer.beginning_offsets(places)
            ends = await consumer.end_offsets(places)
            oldest = await _oldest(consumer, starts, ends)
        gone = {tp: now_ms for tp, start in starts.items() if 0 < start == ends[tp]}
        return {tp.partition: at for tp, at in (gone | oldest).items()}


def later(one: int | None, other: int | None) -> int | None:
    """The later of two times, of which any may be unknown."""
    return max((at for at in (one, other) if at is not None), default=None)


def check_length(text: str) -> None:
    """Refuses rules that do not fit into a record.

    Raises:
        BadInput: they don't.
    """
    length = len(text.encode())
    if length > RULES_BYTES_MAX:
        raise BadInput(
            "rules_too_long", f"the rules have {length:,} bytes, more than {RULES_BYTES_MAX:,}: "
            "leave out fleets, or join addresses to networks",
        )  # fmt: skip


async def _oldest(
    consumer: Any, starts: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]
) -> dict[TopicPartition, int]:
    """Time of the oldest record of each partition that has lost records, milliseconds."""
    out: dict[TopicPartition, int] = {}
    wanted = {tp for tp, start in starts.items() if 0 < start < ends[tp]}
    for tp in starts:
        consumer.seek(tp, starts[tp])
        if tp not in wanted:
            consumer.pause(tp)
    deadline = asyncio.get_running_loop().time() + FIRST_RECORD_MS / 1000
    while wanted - out.keys():
        if asyncio.get_running_loop().time() > deadline:
            raise Unavailable("the oldest records of Kafka's topics can't be read")
        for tp, records in (await consumer.getmany(timeout_ms=500)).items():
            out.setdefault(tp, records[0].timestamp)
            consumer.pause(tp)
    return out
