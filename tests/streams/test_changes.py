"""What a run writes at its end: exactly the events that stand otherwise, whatever order."""

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from schemas.event import Event
from schemas.versions import REVISION_EPOCH_SHIFT, ROW_OFFSET_BITS
from streams.enrich.changes import Changes, Said, said, version_of
from streams.enrich.derive import LookUps, reissued
from streams.enrich.effects import Restated
from streams.enrich.step import step
from tests.streams.folding import CODEC, Disk, Fold, log_of
from tests.streams.test_step import logs

OFFSETS = st.integers(0, 3)
DIGESTS = st.integers(1, 3)
SAID = st.builds(Said, OFFSETS, st.integers(0, 9), DIGESTS)
ACTIONS = st.lists(st.tuples(st.sampled_from(["stands", "judged", "stored", "killed"]), SAID))


@given(ACTIONS)
def test_what_differs_is_kept_and_nothing_else(actions: list[tuple[str, Said]]) -> None:
    """Against a model that keeps every record; a kill takes both back to the last checkpoint.

    Records of the topic are told again after a kill, as a restore reads them again.
    """
    disk, topic = Disk(), list[Said]()
    changes = Changes(disk.get_many)
    judged: dict[int, Said] = {}
    stored = (0, dict(judged))
    for action, one in actions:
        if action == "stands":
            same = [each.digest for each in topic if each[:2] == one[:2]]
            topic.append(replace_digest(one, same[0]) if same else one)
            changes.stands([(topic[-1], len(topic) - 1)])
        elif action == "judged":
            judged[one.offset] = one
            changes.judged([(one, (None, b"%d" % one.digest, -1))])
        elif action == "stored":
            store(disk, changes)
            stored = len(topic), dict(judged)
        else:
            changes, judged = Changes(disk.get_many), dict(stored[1])
            changes.stands((each, at) for at, each in enumerate(topic) if at >= stored[0])
    store(disk, changes)
    found = {}
    for one_changed in Changes(disk.get_many).changed(disk.scan):
        says = topic[one_changed.position].digest if one_changed.row is None else 0
        if one_changed.row is not None:
            says = int(one_changed.row[1])
        found[one_changed.offset] = says, one_changed.revision << 40 | one_changed.version
    assert found == {
        offset: (one.digest, one.version)
        for offset, one in judged.items()
        if one.digest != digest_that_stands(topic, offset)
    }


def test_what_a_killed_run_wrote_is_not_where_an_event_was_before() -> None:
    """An event that the run moved to another campaign, and of which it was killed before it had
    written the row that says so, is moved from where it stood before the run."""
    disk = Disk()
    changes = Changes(disk.get_many)
    first_of_epoch = 1 << REVISION_EPOCH_SHIFT << ROW_OFFSET_BITS
    changes.stands([(Said(2, 2, 7), 0)], 1)
    changes.judged([(Said(2, first_of_epoch + 2, 8), (None, b"", -1))])
    corrected = Said(2, first_of_epoch + (1 << ROW_OFFSET_BITS) + 6, 8)
    changes.stands([(corrected, 1)], 1)
    store(disk, changes)
    [changed] = Changes(disk.get_many).changed(disk.scan)
    assert (changed.offset, changed.standing) == (2, 0)
    later = Changes(disk.get_many)
    later.stands([(corrected, 1)], 2)  # of a later run it is where the event stands
    store(disk, later)
    assert list(Changes(disk.get_many).changed(disk.scan)) == []


def replace_digest(one: Said, digest: int) -> Said:
    """A record written twice says the same."""
    return one._replace(digest=digest)


def store(disk: Disk, changes: Changes) -> None:
    """A checkpoint."""
    disk.write([*changes.writes()])
    changes.saved()


def digest_that_stands(topic: list[Said], offset: int) -> int:
    """What the highest version of an event says; 0: there is none."""
    mine = [each for each in topic if each.offset == offset]
    return max(mine, key=lambda each: each.version).digest if mine else 0


@given(logs())
def test_a_record_issued_again_says_the_same_as_another_revision(events: list[Event]) -> None:
    """Only its place among the revisions is another one."""
    fold = Fold()
    effects = step(fold.shard, log_of(events), LookUps(), CODEC)
    newer = replace(LookUps(), epoch=2)
    for one in effects.enriched:
        if isinstance(one, Restated):
            continue
        end, fields = CODEC.enrichment_of(one[1])
        again = reissued(one[1], end, fields, newer, version=77, revision=2 << 12 | 1)
        before, after = (CODEC.decode(value, "enriched_event") for value in (one[1], again))
        assert after["event"] == before["event"]
        moved: dict[str, Any] = {"version": 77, "revision": 2 << 12 | 1}
        moved |= {"previous_campaign_id": None, "previous_message_key": None}
        if before["enrichment"]["actor"] != "none":
            moved["rules_version"] = newer.rules.version
        assert after["enrichment"] == before["enrichment"] | moved
        first, second = (said(*CODEC.place_and_verdict(value)) for value in (one[1], again))
        assert second.digest == first.digest
        assert CODEC.enrichment_of(again)[1] == after["enrichment"]
        assert version_of(after["enrichment"]) > version_of(before["enrichment"])
