"""A partition reprocessed beside live state: live figures go on, then those of the new rules."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.event import Event
from streams.classify.actor_rules import Rules
from streams.enrich.changes import Changes
from streams.enrich.deferred import Deferred
from streams.enrich.epochs import Span
from streams.enrich.shard import Shard
from streams.worker.store import StateDirectory
from tests.streams.folding import CODEC, Disk, log_of
from tests.streams.reference import count
from tests.streams.replaying import LAX, STRICT, Topics, Worker, epoch, ruling
from tests.streams.test_reprocessing import (
    differences,
    fold_once,
    run,
    spaced_logs,
    standing,
    stops_of,
)
from tests.streams.test_step import logs

NEVER = 1 << 62


class Beside(Worker):
    """A partition's second store, folded as ``streams.worker.second_store`` does."""

    def __init__(self, *given: Any, begin: int) -> None:
        super().__init__(*given)
        self.begin = begin
        self.load()

    def load(self) -> None:
        """As ``_Fold._open``."""
        self.shard = shard = Shard(0, self.disk.get_many)
        shard.load_meta()
        shard.load_watched(self.disk.scan)
        shard.epoch = self.number
        shard.deferred = Deferred(Span(self.begin, NEVER), Changes(self.disk.get_many))

    def follow(self, live: Worker, draw: st.DataObject) -> None:
        """Folds up to what the live state holds; perhaps killed, or on another worker then."""
        before = dict(self.disk.values)
        self.restore(self.shard, live.committed)
        fate = draw.draw(st.sampled_from(["stored", "stored", "killed", "wiped"]))
        if fate == "killed":
            self.disk.values = before
        if fate == "wiped":
            self.disk = Disk()
        if fate != "stored":
            self.load()

    def switch(self, live: Worker) -> Span:
        """Takes the rest, and the committed offset back to the last record."""
        self.restore(self.shard, live.committed)
        span = Span(self.begin, live.committed)
        self.committed = max(span.begin, span.until - 1)
        return span


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(spaced_logs(), st.booleans(), st.data())
def test_a_switch_gives_what_one_ordered_fold_gives(
    events: list[Event], stricter: bool, data: st.DataObject
) -> None:
    """Live goes on by the earlier rules, with kills of either store and lost disks, before and
    after the switch: the result is that of a fold by the earlier rules up to where the epoch
    begins, and by the new ones from there."""
    first, second = (LAX, STRICT) if stricter else (STRICT, LAX)
    log, topics = log_of(events), Topics()
    until = data.draw(st.integers(0, len(log)))
    live = Worker(ruling(first), log, topics)
    run(live, None, stops_of(data, until), data)
    new = epoch(1, second, Span(data.draw(st.integers(0, until)), until))
    begin = new.spans[0].begin
    beside = Beside(ruling(first, new), log, topics, begin=begin)
    for stop in sorted(data.draw(st.lists(st.integers(until, len(log)), max_size=4))):
        run(live, None, [stop], data)
        beside.follow(live, data)
        assert topics.counts() == count(events_of(log, stop), Rules.load(first)), "live figures"
    before, rows = topics.events(), len(topics.rows)
    told_before = {event_id for event_id, holds in topics.told().items() if holds}
    span = beside.switch(live)
    fate = data.draw(st.sampled_from(["adopted", "wiped", "cut off"]))
    if fate == "wiped":
        beside.disk = Disk()  # another worker opens the partition first
    beside.open(span)
    if fate == "cut off":
        beside.checkpoint(cut_off=True)
        beside.open(span)
    beside.checkpoint()
    if span.until > span.begin:
        changed = [*differing(before, topics.events())]
        again = [row["enrichment"]["offset"] for row in topics.enriched[rows:]]
        assert set(again) == set(changed), "what is unchanged is not written again"
    run(beside, span, stops_of(data, len(log)), data)
    plain = fold_once(ruling(first, new), log)
    assert not [*differing(topics.events(), plain.events(), begin)]
    assert topics.counts() == plain.counts()
    assert standing(topics.suppressions) == standing(plain.suppressions)
    human = {i for (_, i), row in plain.events().items() if row["first_human"]}
    told = {event_id for event_id, holds in topics.told().items() if holds}
    assert told <= human
    assert human & told_before <= told, "what was told and holds was withdrawn"
    news = {i for (_, i), row in plain.events().items() if row["offset"] >= span.until}
    assert human & news <= told


def differing(
    found: dict[tuple[str, str], dict[str, Any]],
    wanted: dict[tuple[str, str], dict[str, Any]],
    newest: int = 0,
) -> Iterator[Any]:
    """As ``differences``, without the version of the rules: a verdict that both rules give keeps
    that of the earlier ones. Offsets of the events."""
    for key, name, _, _ in differences(found, wanted, Span(newest, newest)):
        if name != "rules_version":
            yield wanted[key]["offset"]


def events_of(log: list[Any], end: int) -> list[Any]:
    """The events of a log's first records."""
    return [CODEC.decode(record.value, "raw_event") for record in log[:end]]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(logs(), st.data())
def test_counts_after_a_switch_equal_a_recount(events: list[Event], data: st.DataObject) -> None:
    """From the start of the log: a brute-force recount by the new rules."""
    log, topics = log_of(events), Topics()
    until = data.draw(st.integers(0, len(log)))
    live = Worker(ruling(LAX), log, topics)
    run(live, None, [until], data)
    new = epoch(1, STRICT, Span(0, until))
    beside = Beside(ruling(LAX, new), log, topics, begin=0)
    beside.follow(live, data)
    run(beside, beside.switch(live), stops_of(data, len(log)), data)
    assert topics.counts() == count(events, Rules.load(STRICT))


@pytest.mark.parametrize("cut", [0, 1, 2, 3])
def test_a_store_that_is_replaced_is_one_of_both_whenever_it_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: int
) -> None:
    """The process ends before any of the renames; then replacing is repeated, or was done."""
    with StateDirectory(tmp_path) as directory:
        directory.store("live").write([(b"key", b"old")])
        directory.store("second").write([(b"key", b"new")])
        done = iter(range(cut))
        for name in ("rename", "replace"):
            whole = getattr(Path, name)

            def limited(path: Path, target: Path, whole: Any = whole) -> Any:
                if next(done, None) is None:
                    raise KeyboardInterrupt
                return whole(path, target)

            monkeypatch.setattr(Path, name, limited)
        with suppress(KeyboardInterrupt):
            directory.replace("live", "second")
    monkeypatch.undo()
    with StateDirectory(tmp_path) as directory:
        if (tmp_path / "second").exists():
            directory.replace("live", "second")
        assert directory.store("live").get_many([b"key"]) == [b"new"]
