"""Damaged parts on the real engine: found, named, removed, and their rows restored."""

import re
import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError
from hypothesis import given
from hypothesis import strategies as st

from analytics.client import judged
from analytics.damage import Ask, Part, examine, part_in, steps, told
from analytics.sink.loading import Loader
from schemas import topics
from schemas.codec import Codec
from schemas.errors import BadInput, Unavailable
from schemas.settings import Settings
from streams.cli import doctor
from streams.cli.clickhouse import rows_of, table_of
from tests.analytics.scenario import KINDS, History, Sent, first_revision
from tests.warehouses import migrated_warehouse

ELSEWHERE = Path("/var/lib/elsewhere")
"""The data directory of a machine whose ClickHouse is a server."""
MONTH_S = 31 * 86_400
EVENTS = 60


def asking(settings: Settings) -> Ask:
    """Queries as ``mailpulse doctor`` makes them."""
    return partial(rows_of, settings)


def months() -> tuple[list[Sent], list[Sent]]:
    """Events of two months, in two parts that no merge joins."""
    found = []
    for month in (0, 1):
        numbers = range(month * EVENTS, (month + 1) * EVENTS)
        items = [
            first_revision(number, number, KINDS[0], number + month * MONTH_S, "gmail", "")
            for number in numbers
        ]
        sent = History([{**one, "enrichment": {**one["enrichment"], "version": 100 + at}}
                        for at, one in enumerate(items)]).sent()  # fmt: skip
        found.append(sent)
    first, second = found
    return first, second


def load(client: Client, records: list[Sent], group: str) -> None:
    """Stores records as a sink of that group does."""
    assert Loader(client, Codec(), topics.ENRICHED, group).load(records) == []


def stored(client: Client) -> int:
    """Events that a query of all columns returns."""
    rows = client.query("SELECT count(), sum(cityHash64(*)) FROM events FINAL").result_rows
    return int(rows[0][0])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A warehouse with both months, closed."""
    folder = tmp_path_factory.mktemp("whole")
    with migrated_warehouse(folder) as (_, client):
        for records in months():
            load(client, records, "sink")
        assert stored(client) == 2 * EVENTS
    return folder


@pytest.fixture
def part(whole: Path, tmp_path: Path) -> Path:
    """The second month's part, in a copy of that warehouse under ``tmp_path``."""
    shutil.copytree(whole, tmp_path, symlinks=True, dirs_exist_ok=True)
    parts = sorted((tmp_path / "clickhouse" / "store").glob("*/*/2026??_*"))
    parts = [one for one in parts if (one / "count.txt").read_text() == str(EVENTS)]
    assert len(parts) == 2
    return max(parts, key=lambda one: one.name)


def flip(file: Path) -> None:
    """Turns a bit in the middle of a file."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0x10
    file.write_bytes(content)


def test_nothing_is_found_where_nothing_is_damaged(part: Path, tmp_path: Path) -> None:
    """With all rights and through the analysts' listener; every table is checked."""
    with migrated_warehouse(tmp_path) as (warehouse, _):
        for settings in (warehouse.settings, warehouse.reader_settings):
            seen = examine(asking(settings))
            assert (seen.parts, seen.unfinished) == ((), ())
            assert seen.tables > 8
            [finding] = doctor._parts(settings)
            assert finding.ok


@pytest.mark.parametrize("listener", ["settings", "reader_settings"])
def test_a_part_with_a_flipped_bit_is_named(part: Path, tmp_path: Path, listener: str) -> None:
    """Queries fail; the doctor names the part and how to remove it, on both listeners."""
    flip(part / "data.bin")
    with migrated_warehouse(tmp_path) as (warehouse, client):
        with pytest.raises(ClickHouseError, match="40"):
            stored(client)
        settings = getattr(warehouse, listener)
        [found] = examine(asking(settings)).parts
        assert found == Part("mailpulse.events", part.name, str(part), EVENTS)
        [finding] = doctor._parts(settings)
        assert not finding.ok
        assert {"mailpulse.events", part.name} <= set(finding.detail.split())
        assert str(part) in finding.mend


def test_what_the_doctor_says_brings_the_rows_back(part: Path, tmp_path: Path) -> None:
    """On a server: the statement removes the part; sinks of a new group store its rows again."""
    flip(part / "data.bin")
    with migrated_warehouse(tmp_path) as (warehouse, client):
        [found] = examine(asking(warehouse.settings)).parts
        said = steps(found, "sink", ELSEWHERE)
        [statement] = re.findall(r"ALTER TABLE \S+ DETACH PART '\S+'", said)
        client.command(statement)
        assert stored(client) == EVENTS
        [group] = re.findall(r"MAILPULSE_SINK_GROUP=(\S+)", said)
        for records in months():
            load(client, records, group)
        assert stored(client) == 2 * EVENTS
        assert examine(asking(warehouse.settings)).parts == ()


def test_the_same_where_the_engine_is_embedded(part: Path, tmp_path: Path) -> None:
    """Nothing would accept the statement, so the directory is moved while everything is stopped."""
    flip(part / "data.bin")
    with migrated_warehouse(tmp_path) as (warehouse, _):
        [found] = examine(asking(warehouse.reader_settings)).parts
    said = steps(found, "sink", tmp_path)
    [command] = re.findall(r"mv .+?(?=, start)", said)
    subprocess.run(command, shell=True, check=True)
    with migrated_warehouse(tmp_path) as (warehouse, client):
        assert stored(client) == EVENTS
        for records in months():
            load(client, records, "sink-2")
        assert stored(client) == 2 * EVENTS
        assert examine(asking(warehouse.reader_settings)).parts == ()


@pytest.mark.parametrize(
    "damage", [Path.unlink, lambda file: file.write_bytes(b"")], ids=["gone", "empty"]
)
def test_a_part_that_clickhouse_set_aside_itself_is_named(
    part: Path, tmp_path: Path, damage: Callable[[Path], Any]
) -> None:
    """No query fails, but rows are missing; the doctor says so, and how to restore them."""
    damage(part / "data.bin")
    with migrated_warehouse(tmp_path) as (warehouse, client):
        assert stored(client) == EVENTS, "ClickHouse says nothing"
        for settings in (warehouse.settings, warehouse.reader_settings):
            [found] = examine(asking(settings)).parts
            assert (found.table, found.aside) == ("mailpulse.events", True)
            assert part.name in found.name
            [finding] = doctor._parts(settings)
            assert "rows are missing" in finding.detail
        for records in months():
            load(client, records, "sink-2")
        assert stored(client) == 2 * EVENTS
        [statement] = re.findall(r"ALTER TABLE .* = 1", steps(found, "sink", ELSEWHERE))
        client.command(statement)
        assert examine(asking(warehouse.settings)).parts == ()


def test_a_wrong_number_of_rows_is_found_by_the_engines_own_check(
    part: Path, tmp_path: Path
) -> None:
    """Figures are wrong and no query fails; only ``CHECK TABLE`` finds it."""
    (part / "count.txt").write_text(str(EVENTS // 2))
    with migrated_warehouse(tmp_path) as (warehouse, client):
        [(count,)] = client.query("SELECT count() FROM events").result_rows
        assert count != 2 * EVENTS
        [found] = examine(asking(warehouse.settings)).parts
        assert found.name == part.name
        assert examine(asking(warehouse.reader_settings)).parts == ()


def test_whoever_meets_damage_is_sent_to_the_doctor(part: Path, tmp_path: Path) -> None:
    """The sink's log and ``mailpulse query`` name the part, before ClickHouse's own message."""
    flip(part / "data.bin")
    with migrated_warehouse(tmp_path) as (warehouse, client):
        with pytest.raises(ClickHouseError) as met:
            stored(client)
        verdict = judged(met.value)
        assert isinstance(verdict, Unavailable), "no record is to blame"
        for settings in (warehouse.settings, warehouse.reader_settings):
            with pytest.raises(BadInput) as refused:
                table_of(settings, "SELECT sum(cityHash64(*)) FROM events")
            for text in (str(verdict), refused.value.detail):
                assert "'mailpulse doctor'" in text.splitlines()[0]
                assert str(part) in text.splitlines()[0]


def test_other_errors_are_not_called_damage(part: Path, tmp_path: Path) -> None:
    """Nor are those of reading a part for other reasons: a value that is not a number, memory."""
    with migrated_warehouse(tmp_path) as (warehouse, _):
        for sql in (
            "SELECT count() FROM events WHERE toUInt8(message_id) = 1",
            "SELECT sum(cityHash64(*)) FROM events SETTINGS max_memory_usage = 1000",
            "SELECT * FROM nowhere",
        ):
            with pytest.raises(BadInput) as refused:
                table_of(warehouse.settings, sql)
            assert "doctor" not in refused.value.detail


def test_known_messages_are_shortened() -> None:
    """Messages of ClickHouse 26.3 and 26.9 are shortened to the part."""
    place = "/var/lib/clickhouse/store/8b7/8b78dd2f-d656-4f5b-92e1-3096ccbec2f0/202602_2_2_1"
    of_table = f"(while reading from part {place}/ in table m.ev (8b78dd2f) located on disk default"
    for code, text, table in (
        (40, f"Checksum doesn't match: corrupted data. {of_table}", "m.ev"),
        (432, f"Unknown codec family code: 0: While reading {place}/a.bin: {of_table}", "m.ev"),
        (107, f"Cannot open file {place}/a.bin: , errno: 2: {of_table}", "m.ev"),
        (
            1001,
            f'filesystem error: in file_size: No such file or directory ["{place}/a.cmrk2"]',
            "",
        ),
    ):
        said = f"Code: {code}. DB::Exception: {text}"
        assert part_in(said) == Part(table, "202602_2_2_1", place)
        assert told(said).endswith("it is damaged; 'mailpulse doctor' says what to do")
    for code in (6, 159, 241, 394):
        assert part_in(f"Code: {code}. DB::Exception: {of_table}") is None


@given(st.text())
def test_any_text_is_told(text: str) -> None:
    """Messages that are not about damage are unchanged."""
    assert told(text) == text or "doctor" in told(text)


def test_replicas_restore_damaged_parts() -> None:
    """Nothing is removed by hand if another replica has the part."""
    part = Part("mailpulse.events_local", "202602_2_2_1", "/data/store/x", 5, replicated=True)
    assert "another replica" in steps(part, "sink", ELSEWHERE)
    assert "DETACH" not in steps(part, "sink", ELSEWHERE)
