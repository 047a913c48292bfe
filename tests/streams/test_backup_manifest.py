"""What a backup says about itself, and what is refused."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.topics import BY_NAME, ENRICHED, MINUTES, RAW
from streams.backup.manifest import (
    FORM,
    Chunk,
    Found,
    Manifest,
    Partition,
    Place,
    Stored,
    Tables,
    TopicCopy,
    Unusable,
    check_version,
    is_name,
    kafka_is_kept,
    lost_records,
    pack,
    unpack,
)

NAME = "20261128T180000.000Z"
ONE = Stored(3, "ab" * 32)


def made(**changes: Any) -> Manifest:
    """A backup of two partitions."""
    part = Partition(0, 10, (Chunk(0, 10, 10, ONE),))
    log = TopicCopy("f" * 32, {"cleanup.policy": "delete"}, (part, Partition(4, 4)))
    counts = TopicCopy("e" * 32, {"cleanup.policy": "compact"}, (part, part))
    given = {
        "name": NAME, "made_at": 1.5, "version": "0.1.0", "fold": 4, "log_id": "f" * 32,
        "groups": {
            "sink": {RAW: {0: Place(7, ""), 1: Place(4, "log")}, MINUTES: {0: Place(9, "")}}
        },
        "tables": Tables("mailpulse", 27, {"events": 5}, {"data/a": ONE}),
        "topics": {RAW: log, ENRICHED: log, MINUTES: counts},
        "snapshots": {"enrich-0": {NAME: {"a.sst": ONE}}},
    }  # fmt: skip
    return Manifest(**{**given, **changes})


def test_a_manifest_comes_back() -> None:
    """With its types, not only its text."""
    assert unpack(pack(made())) == made()


@given(st.data())
def test_no_changed_byte_of_a_manifest_passes(data: st.DataObject) -> None:
    """What is not what was written is refused, or says the same."""
    text = bytearray(pack(made()))
    place = data.draw(st.integers(0, len(text) - 1))
    text[place] = data.draw(st.integers(0, 255))
    try:
        found = unpack(bytes(text))
    except Unusable:
        return
    assert found == made()


@given(st.integers(0, 200))
def test_a_manifest_that_was_cut_off_is_refused(left: int) -> None:
    """It is no backup."""
    with pytest.raises(Unusable, match="damaged"):
        unpack(pack(made())[:-left] if left > 1 else pack(made())[:-2])


def test_a_newer_form_is_refused_before_its_content_is_read() -> None:
    """Its content may mean something else."""
    document = {**json.loads(pack(made())), "form": FORM + 1, "backup": {"who": "knows"}}
    with pytest.raises(Unusable, match="upgrade"):
        unpack(json.dumps(document).encode())


@pytest.mark.parametrize(("fold", "migration"), [(3, 27), (4, 26)])
def test_a_backup_of_a_newer_version_is_refused(fold: int, migration: int) -> None:
    """The newer fold's state, or tables that this version does not know."""
    with pytest.raises(Unusable, match="newer"):
        check_version(made(), fold, migration, BY_NAME)


def test_a_backup_of_an_earlier_version_is_restored() -> None:
    """Migrations follow."""
    check_version(made(), 5, 40, BY_NAME)
    with pytest.raises(Unusable, match=MINUTES):
        check_version(made(), 5, 40, {RAW, ENRICHED})


def test_every_object_is_named_with_what_it_holds() -> None:
    """For the error of a damaged one."""
    assert {what for what, _ in made().objects()} == {
        "ClickHouse's data/a", f"{RAW}[0] from offset 0", f"{ENRICHED}[0] from offset 0",
        f"{MINUTES}[0] from offset 0", f"{MINUTES}[1] from offset 0", "state enrich-0/a.sst",
    }  # fmt: skip
    assert made().bytes == ONE.bytes  # shared objects count once


EMPTY = Found("0" * 32, ((0, 0), (0, 0)))
MINE = Found("f" * 32, ((0, 20), (4, 9)))
OTHERS = Found("a" * 32, ((0, 1), (0, 0)))


def test_the_kafka_that_was_backed_up_is_kept() -> None:
    """By the id of its raw topic."""
    assert kafka_is_kept(made(), RAW, {RAW: MINE, ENRICHED: MINE})


@pytest.mark.parametrize("found", [{}, {RAW: EMPTY}, {RAW: EMPTY, ENRICHED: EMPTY}])
def test_an_empty_kafka_is_filled(found: dict[str, Found]) -> None:
    """No topics, or new ones."""
    assert not kafka_is_kept(made(), RAW, found)


@pytest.mark.parametrize("found", [{RAW: OTHERS}, {ENRICHED: OTHERS}, {RAW: EMPTY, MINUTES: MINE}])
def test_the_kafka_of_another_mailpulse_is_refused(found: dict[str, Found]) -> None:
    """Offsets of one log mean nothing in another."""
    with pytest.raises(Unusable, match="another mailpulse"):
        kafka_is_kept(made(), RAW, found)


def kept(begin: int, end: int) -> dict[str, Found]:
    """The raw topic as Kafka has it now."""
    return {RAW: Found("f" * 32, ((begin, end), (4, 9))), MINUTES: Found("e" * 32, ((8, 10),))}


@pytest.mark.parametrize(
    ("found", "lost"),
    [
        (kept(0, 20), {}),
        (kept(7, 20), {}),
        (kept(9, 20), {(RAW, 0): (7, 9)}),
        (kept(0, 3), {(RAW, 0): (3, 7)}),
        ({}, {(RAW, 0): (0, 7), (RAW, 1): (0, 4)}),
    ],
)
def test_what_kafka_no_longer_has_is_named(
    found: dict[str, Found], lost: dict[tuple[str, int], tuple[int, int]]
) -> None:
    """Of a compacted topic nothing is lost: it holds what is newest."""
    assert lost_records(made(), "sink", found) == lost


@pytest.mark.parametrize("text", ["", "../x", f"{NAME}.json", f"a/{NAME}", "20261128"])
def test_a_name_leads_nowhere_else(text: str) -> None:
    """It becomes part of a key."""
    assert not is_name(text)
    assert is_name(NAME)
