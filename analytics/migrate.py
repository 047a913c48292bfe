"""Applies numbered SQL files to ClickHouse, each once and in order.

Invariants:
1. ``migrations/NNNN_name.sql`` is ClickHouse SQL for one server; ``analytics.cluster`` rewrites it
   for a cluster. Every statement is idempotent, so after a crash the file is applied again.
2. Applied migrations are recorded in ``schema_migrations`` with the file's SHA-256. If a file was
   changed afterwards or is missing, nothing is applied.
3. Two processes may migrate at the same time: they run the same idempotent statements.
4. TTLs of events and minute counts are settings, so they are set at the end rather than by a
   migration.
5. What the release before reads and writes stays: columns, tables and views are added, and views
   keep their columns. So that release works on after a roll-back. A migration that can't keep this
   ends its name in ``BREAKING``; older releases refuse the database then.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import NamedTuple

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from analytics.client import judged
from analytics.cluster import for_cluster, table_on_server
from analytics.sql import statements
from schemas.errors import ConfigError, MailpulseError, NewerRelease
from schemas.settings import AnalyticsSettings

_NAME = re.compile(r"(\d{4})_(\w+)\.sql")
SERVER_ONLY = "-- server only"
"""First line of a migration that creates roles and quotas. With ``clickhouse_manage_access`` off
(the operator creates them, or the engine is chDB, which can't) it is recorded but not run."""
BREAKING = "_breaks"

ACCESS_DENIED = 497
"""ClickHouse's code (``src/Common/ErrorCodes.cpp``)."""

HISTORY = """\
-- Which migrations were applied; written by mailpulse migrate.
-- shard: number
CREATE TABLE IF NOT EXISTS schema_migrations
(
    number     UInt32 COMMENT 'Number of the migration.',
    name       String COMMENT 'Its name.',
    checksum   String COMMENT 'SHA-256 of the file, hexadecimal.',
    applied_at DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'When it was applied, UTC.'
)
ENGINE = ReplacingMergeTree(applied_at)
ORDER BY number
COMMENT 'Migrations that were applied to this database.'"""


class MigrationError(MailpulseError):
    """The database and this version are incompatible, or a statement failed."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file.

    Attributes:
        number: its position in the order.
        name: what it does.
        checksum: SHA-256 of the file, hexadecimal.
        text: the SQL.
    """

    number: int
    name: str
    checksum: str
    text: str

    @property
    def server_only(self) -> bool:
        """Whether it is about access on a server."""
        return self.text.startswith(SERVER_ONLY)


class Applied(NamedTuple):
    """A migration as recorded in the database; empty texts: not known."""

    name: str
    checksum: str


_UNKNOWN = Applied("", "")


def load() -> list[Migration]:
    """The migrations of this version, in order.

    Raises:
        MigrationError: a number is missing or used twice.
    """
    found = []
    for file in files("analytics").joinpath("migrations").iterdir():
        matched = _NAME.fullmatch(file.name)
        if matched:
            text = file.read_text(encoding="utf-8")
            checksum = hashlib.sha256(text.encode()).hexdigest()
            found.append(Migration(int(matched[1]), matched[2], checksum, text))
    found.sort(key=lambda migration: migration.number)
    if [migration.number for migration in found] != list(range(1, len(found) + 1)):
        raise MigrationError("migrations are not numbered 1, 2, 3, …")
    return found


def pending(known: Sequence[Migration], applied: Mapping[int, Applied]) -> list[Migration]:
    """The migrations that are not applied yet; those of newer releases are left alone. Pure.

    Args:
        known: the migrations of this version, in order.
        applied: as recorded in the database, by number.

    Raises:
        MigrationError: an applied file was changed.
        NewerRelease: invariant 5.
    """
    for number in sorted(set(applied) - {migration.number for migration in known}):
        if applied[number].name.endswith(BREAKING):
            raise NewerRelease(
                [
                    f"the database has migration {number:04}_{applied[number].name} of a newer "
                    "release, on which this one can't work: upgrade mailpulse"
                ]
            )
    for migration in known:
        before = applied.get(migration.number, _UNKNOWN)
        if before.checksum not in ("", migration.checksum):
            raise MigrationError(
                f"migration {migration.number:04} was changed after it was applied"
            )
    return [migration for migration in known if migration.number not in applied]


def _applied(client: Client) -> dict[int, Applied]:
    """What was applied, by number; for analysts, who may not read more, numbers alone."""
    try:
        if not client.command("EXISTS TABLE schema_migrations"):
            return {}
        rows = client.query(
            "SELECT number, name, checksum FROM schema_migrations FINAL"
        ).result_rows
    except ClickHouseError as error:
        if getattr(error, "code", None) != ACCESS_DENIED:
            raise
        rows = client.query("SELECT arrayJoin(migrations), '', '' FROM pipeline_state").result_rows
    return {int(number): Applied(str(name), str(checksum)) for number, name, checksum in rows}


def plan(client: Client) -> list[Migration]:
    """The migrations that ``apply`` would apply.

    Raises:
        MigrationError, NewerRelease: as ``pending``.
        Unavailable: ClickHouse does not answer.
    """
    try:
        return pending(load(), _applied(client))
    except ClickHouseError as error:
        raise judged(error) from error


def apply(client: Client, settings: AnalyticsSettings) -> list[Migration]:
    """Migrates the database of ``client`` to this version.

    Returns:
        The migrations that were applied now.

    Raises:
        MigrationError: as ``pending``; or a statement failed, and those before it were applied.
        NewerRelease: as ``pending``.
        ConfigError: the cluster's name is invalid.
        Unavailable: ClickHouse does not answer.
    """
    cluster = settings.clickhouse_cluster
    if cluster and not re.fullmatch(r"[\w.-]+", cluster):
        raise ConfigError(["MAILPULSE_CLICKHOUSE_CLUSTER: letters, digits, '.', '_' and '-' only"])
    no_access = not settings.clickhouse_manage_access
    steps = plan(client)
    try:
        if steps:
            _run(client, HISTORY, cluster)
        for migration in steps:
            if not (no_access and migration.server_only):
                for statement in statements(migration.text):
                    _run(client, statement, cluster)
            client.insert(
                "schema_migrations",
                [[migration.number, migration.name, migration.checksum]],
                column_names=["number", "name", "checksum"],
            )
        _set_ttls(client, settings)
    except ClickHouseError as error:
        raise MigrationError(str(error)) from error
    return steps


def _run(client: Client, statement: str, cluster: str) -> None:
    for each in for_cluster(statement, cluster):
        client.command(each)


def _set_ttls(client: Client, settings: AnalyticsSettings) -> None:
    """Sets TTLs that differ: an ALTER is expensive on a cluster."""
    _set_ttl(client, settings, "events", "toDateTime(event_time)", settings.events_ttl_days)
    _set_ttl(client, settings, "campaign_minutes", "minute", settings.minutes_ttl_days)


def _set_ttl(client: Client, settings: AnalyticsSettings, name: str, time: str, days: int) -> None:
    """Sets how many days a table keeps rows; 0: for ever.

    Parts that are there take the new time over too, by a mutation: those of old months are not
    merged any more, and would stay for as long as was set when they were written.
    """
    table = table_on_server(name, settings.clickhouse_cluster)
    definition = str(client.command(f"SHOW CREATE TABLE {table}"))
    if f"toIntervalDay({days})" in definition or not (days or f"TTL {time}" in definition):
        return
    change = f"MODIFY TTL {time} + toIntervalDay({days})" if days else "REMOVE TTL"
    _run(client, f"ALTER TABLE {table} {change}", settings.clickhouse_cluster)
