"""Epochs: which rules judge which raw records, as announced on the topic of rules.

Invariants:
1. Pure. Epoch 0 is the worker's own rules. Epoch n begins at an offset of each partition; its rules
   replace the earlier ones from there on. State is a fold of the log and of the epochs.
2. The first record with a number is valid, and numbers have no gaps. If two epochs are announced
   with the same number at the same moment, the second has no effect.
3. What an epoch writes replaces what earlier ones wrote: the epoch is the high part of an event's
   revision and of a count's version (``schemas.versions``).
4. A release that folds otherwise folds nothing before an epoch is begun for it: a rebuild folds
   earlier records by today's code, so figures of two folds would mix.
5. An epoch that no partition has begun may be aborted: the first of both kinds of record counts. It
   judges nothing then, and its number is not used again.
6. Before a partition's first output of an epoch, its committed offset is set back to where the
   epoch begins, and a record is written about that. So committed offsets always belong to the
   newest epoch that is recorded for the partition. Of several such records the one that reaches
   furthest counts: a worker that was held up may write its own late.
7. An epoch may join imported history: then state begins with the fold of that, and the raw topic's
   records follow. So a rebuild, and whoever takes a partition over, finds the history again.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any, NamedTuple

from schemas.codec import UNKNOWN_SCHEMA
from schemas.errors import ConfigError, DecodeError, NewerRelease
from schemas.versions import FOLD_VERSION
from streams.classify.actor_rules import Rules
from streams.enrich.derive import LookUps


class Span(NamedTuple):
    """The offsets reprocessed of a partition: from ``begin`` up to but without ``until``."""

    begin: int
    until: int


NOTHING = Span(0, 0)


class Joined(NamedTuple):
    """A log of imported history that comes before the records of the raw topic.

    Attributes:
        log_id: of the import, on the topic of history.
        epoch: that it was joined by, and whose rules judged it.
        ends: offset after its last record, by partition of the topic of history.
    """

    log_id: str
    epoch: int
    ends: tuple[int, ...]

    def end(self, partition: int) -> int:
        """The offset after its last record in a partition; 0: it has none there."""
        return self.ends[partition] if partition < len(self.ends) else 0


_until = attrgetter("until")


@dataclass(frozen=True, slots=True)
class Epoch:
    """One change of rules.

    Attributes:
        number: from 1.
        log_id: incarnation of the raw topic that ``spans`` belong to.
        begun_at: when it was announced, milliseconds since 1970.
        from_time: arrivals from here on are reprocessed, milliseconds since 1970.
        version: of the rules.
        text: the rules, as TOML.
        spans: of each partition, by its number.
        fold: version of the fold that it was begun for (``schemas.versions.FOLD_VERSION``).
        histories: imports that come before the log's own records, in their order. An epoch that
            joins one lists those that were joined before, too.
    """

    number: int
    log_id: str
    begun_at: int
    from_time: int
    version: int
    text: str
    spans: tuple[Span, ...]
    fold: int = FOLD_VERSION
    histories: tuple[Joined, ...] = ()

    def record(self) -> dict[str, Any]:
        """The ``rules`` record that announces it."""
        return {
            "epoch": self.number, "partition": None, "log_id": self.log_id,
            "begun_at": self.begun_at, "from_time": self.from_time,
            "rules_version": self.version, "fold_version": self.fold, "rules": self.text,
            "froms": [span.begin for span in self.spans],
            "untils": [span.until for span in self.spans],
            "histories": [
                {**one._asdict(), "ends": list(one.ends)} for one in self.histories
            ],
        }  # fmt: skip

    def record_key(self) -> bytes:
        """Kafka key, unique to this attempt, so that compaction keeps the first of several."""
        return f"{self.number}-{self.begun_at}".encode()

    def gone_back(self, partition: int, span: Span) -> dict[str, Any]:
        """The ``rules`` record that ``partition`` was set back to ``span.begin``."""
        return {
            **self.record(), "partition": partition, "rules": "", "froms": [span.begin],
            "untils": [span.until],
        }  # fmt: skip

    def aborted(self) -> dict[str, Any]:
        """The ``rules`` record that it is aborted: the epoch without any offsets."""
        return {**self.record(), "rules": "", "froms": [], "untils": []}

    def abort_key(self) -> bytes:
        """Kafka key of that record."""
        return f"{self.number}-aborted".encode()

    def span(self, log_id: str, partition: int) -> Span:
        """What it reprocesses of a partition; nothing in another incarnation of the topic."""
        if log_id != self.log_id or partition >= len(self.spans):
            return NOTHING
        return self.spans[partition]


def check_fold(found: int, newest: Epoch | None) -> None:
    """Refuses what another version of the fold has made (invariant 4).

    Args:
        found: version that folded the state or an enriched record.

    Raises:
        ConfigError: an epoch has to be begun first.
        NewerRelease: a newer release is at work, or was.
    """
    known = found if newest is None else max(found, newest.fold)
    if known > FOLD_VERSION:
        raise NewerRelease(
            [
                f"the partition is folded by version {known} of the fold, and this release has "
                f"version {FOLD_VERSION}: use the newer release that was here before; figures of "
                "two versions would mix, so there is no way back from it"
            ]
        )
    if found < FOLD_VERSION and (newest is None or newest.fold < FOLD_VERSION):
        raise ConfigError(
            [
                f"the partition is folded by version {found} of the fold, and this release has "
                f"version {FOLD_VERSION}: begin an epoch with 'mailpulse reprocess --again "
                "--from 10d', then start the workers"
            ]
        )


def check_schema(error: DecodeError, place: str, offset: int) -> None:
    """Refuses to rebuild state without a record that a newer release wrote.

    Args:
        error: why a record of the changelog can't be read; anything else than an unknown schema is
            no record of ours.
        place: its topic and partition.

    Raises:
        NewerRelease: its schema is not known.
    """
    if error.reason == UNKNOWN_SCHEMA:
        raise NewerRelease(
            [
                f"{place} offset {offset}: {error.detail}. A newer release wrote it, and state "
                "can't be rebuilt without it: use that release"
            ]
        ) from error


class History:
    """All announced epochs, and which partitions have begun them.

    Args:
        records: decoded records of the topic of rules, in order.

    Attributes:
        epochs: all, by number from 1; aborted ones too.
    """

    def __init__(self, records: Iterable[Mapping[str, Any]] = ()) -> None:
        self.epochs: list[Epoch] = []
        self._gone_back: dict[tuple[int, str, int], Span] = {}
        self._aborted: set[int] = set()
        self.add(records)

    def add(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Takes further records into account."""
        for record in records:
            spans = tuple(
                Span(*pair) for pair in zip(record["froms"], record["untils"], strict=True)
            )
            if record["partition"] is not None:
                if record["epoch"] not in self._aborted:
                    place = record["epoch"], record["log_id"], record["partition"]
                    before = self._gone_back.get(place, spans[0])
                    self._gone_back[place] = max(before, spans[0], key=_until)
            elif record["epoch"] <= self.number and not spans:
                if not self.is_begun(record["epoch"]):
                    self._aborted.add(record["epoch"])
            elif record["epoch"] == self.number + 1:
                self.epochs.append(
                    Epoch(
                        record["epoch"],
                        record["log_id"],
                        record["begun_at"],
                        record["from_time"],
                        record["rules_version"],
                        record["rules"],
                        spans,
                        record["fold_version"],
                        tuple(
                            Joined(one["log_id"], one["epoch"], tuple(one["ends"]))
                            for one in record.get("histories", ())
                        ),
                    )  # fmt: skip
                )

    @property
    def number(self) -> int:
        """Of the newest epoch, aborted or not; 0 before the first."""
        return len(self.epochs)

    @property
    def standing(self) -> tuple[Epoch, ...]:
        """The epochs that were not aborted."""
        return tuple(epoch for epoch in self.epochs if epoch.number not in self._aborted)

    @property
    def newest(self) -> Epoch | None:
        """The newest epoch that was not aborted."""
        standing = self.standing
        return standing[-1] if standing else None

    def is_begun(self, number: int) -> bool:
        """Whether a partition has begun the epoch of this number."""
        return any(epoch == number for epoch, _, _ in self._gone_back)

    def is_aborted(self, number: int) -> bool:
        """Whether the epoch of this number was aborted."""
        return number in self._aborted

    def span(self, epoch: Epoch, partition: int) -> Span:
        """What an epoch reprocesses of a partition of its log."""
        noted = self._gone_back.get((epoch.number, epoch.log_id, partition))
        return noted or epoch.span(epoch.log_id, partition)

    def has_gone_back(self, epoch: Epoch, log_id: str, partition: int) -> bool:
        """Whether a partition's committed offset belongs to this epoch.

        It always does in another incarnation of the topic, and in a partition that did not exist
        when the epoch was announced.
        """
        if epoch.log_id != log_id or partition >= len(epoch.spans):
            return True
        return (epoch.number, log_id, partition) in self._gone_back


@dataclass(frozen=True, slots=True)
class Ruling:
    """The look-ups of every epoch. A worker judges by the newest, a restore by each in turn.

    Attributes:
        epochs: those in force when the worker started; it ends when the newest is another one.
        by_epoch: look-ups of each epoch, by its number, of aborted ones too; number 0 are the
            worker's own.
    """

    epochs: tuple[Epoch, ...]
    by_epoch: tuple[LookUps, ...]

    @classmethod
    def of(cls, history: History, own: LookUps) -> "Ruling":
        """The look-ups that ``history`` gives to a worker whose own are ``own``.

        Raises:
            ValueError: the rules of an epoch can't be read by this version.
        """
        later = (
            replace(own, rules=Rules.load(epoch.text), epoch=epoch.number)
            for epoch in history.epochs
        )
        return cls(history.standing, (own, *later))

    @property
    def newest(self) -> Epoch | None:
        """The epoch by which the worker judges."""
        return self.epochs[-1] if self.epochs else None

    @property
    def now(self) -> LookUps:
        """The look-ups of the newest epoch."""
        return self.by_epoch[self.number]

    @property
    def histories(self) -> tuple[Joined, ...]:
        """The imports that come before the raw topic's records now, in their order."""
        for epoch in reversed(self.epochs):
            if epoch.histories:
                return epoch.histories
        return ()

    @property
    def number(self) -> int:
        """Of the newest epoch; 0: none."""
        return self.epochs[-1].number if self.epochs else 0

    def before_newest(self) -> "Ruling":
        """Without the newest epoch, of which there is at least one."""
        return Ruling(self.epochs[:-1], self.by_epoch)

    def changes(self, log_id: str, partition: int, current: str) -> list[tuple[int, LookUps]]:
        """Offsets of a log's partition from which on look-ups hold, ascending; the first is 0.

        Args:
            current: the log that is read now. A log that no epoch names is newer than all epochs
                if it is the current one, and older than all of them otherwise.
        """
        logs = [epoch.log_id for epoch in self.epochs]
        if log_id in logs:
            first = logs.index(log_id)  # so many epochs began in earlier logs
        else:
            first = len(logs) if log_id == current else 0
        number = self.epochs[first - 1].number if first else 0
        out: list[tuple[int, LookUps]] = [(0, self.by_epoch[number])]
        for epoch in self.epochs:
            if epoch.log_id != log_id or partition >= len(epoch.spans):
                continue
            begin = epoch.spans[partition].begin
            while out and out[-1][0] >= begin:
                out.pop()
            out.append((begin, self.by_epoch[epoch.number]))
        return out

    def judged_at(self, log_id: str, partition: int) -> Callable[[int], LookUps]:
        """Maps an offset to the look-ups that judged it before the newest epoch.

        They carry the number of the newest epoch.
        """
        earlier = self.before_newest()
        changes = earlier.changes(log_id, partition, log_id)
        begins = [begin for begin, _ in changes]
        as_now = [replace(look_ups, epoch=self.now.epoch) for _, look_ups in changes]
        return lambda offset: as_now[bisect_right(begins, offset) - 1]
