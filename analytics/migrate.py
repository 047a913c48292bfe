"""Applies numbered SQL files to ClickHouse, each once and in order.

Invariants:
1. ``migrations/NNNN_name.sql`` is ClickHouse SQL for one server; ``analytics.cluster`` rewrites it
   for a cluster. Every statement is idempotent, so after a crash the file is applied again.
2. Applied migrations are recorded in ``schema_migrations`` with the file's SHA-256. If a file was
   changed afterwards or is missing, nothing is applied.
3. Two processes may migrate at the same time: they run the same idempotent statements.
4. The TTL of the events is a setting, so it is set at the end rather than by a migration.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from analytics.client import judged
from analytics.cluster import for_cluster, table_on_server
from analytics.sql import statements
from schemas.errors import ConfigError, MailpulseError
from schemas.settings import AnalyticsSettings

_NAME = re.compile(r"(\d{4})_(\w+)\.sql")
SERVER_ONLY = "-- server only"
"""First line of a migration that creates roles and quotas. With ``clickhouse_manage_access`` off
(the operator creates them, or the engine is chDB, which can't) it is recorded but not run."""

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


def pending(known: Sequence[Migration], applied: dict[int, str]) -> list[Migration]:
    """The migrations that are not applied yet. Pure.

    Args:
        known: the migrations of this version, in order.
        applied: number -> checksum, as recorded in the database; empty: not known.

    Raises:
        MigrationError: the database is newer than this version, or an applied file was changed.
    """
    newer = sorted(set(applied) - {migration.number for migration in known})
    if newer:
        raise MigrationError(f"the database has migration {newer[0]:04}: upgrade mailpulse first")
    for migration in known:
        if applied.get(migration.number) not in (None, "", migration.checksum):
            raise MigrationError(
                f"migration {migration.number:04} was changed after it was applied"
            )
    return [migration for migration in known if migration.number not in applied]


def _applied(client: Client) -> dict[int, str]:
    """Number -> checksum; for analysts, who may not read them, empty checksums."""
    try:
        if not client.command("EXISTS TABLE schema_migrations"):
            return {}
        rows = client.query("SELECT number, checksum FROM schema_migrations FINAL").result_rows
    except ClickHouseError as error:
        if getattr(error, "code", None) != ACCESS_DENIED:
            raise
        rows = client.query("SELECT arrayJoin(migrations), '' FROM pipeline_state").result_rows
    return {int(number): str(checksum) for number, checksum in rows}


def plan(client: Client) -> list[Migration]:
    """The migrations that ``apply`` would apply.

    Raises:
        MigrationError: as ``pending``.
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
        _set_ttl(client, settings)
    except ClickHouseError as error:
        raise MigrationError(str(error)) from error
    return steps


def _run(client: Client, statement: str, cluster: str) -> None:
    for each in for_cluster(statement, cluster):
        client.command(each)


def _set_ttl(client: Client, settings: AnalyticsSettings) -> None:
    """Sets the TTL of ``events`` if it differs: an ALTER is expensive on a cluster."""
    table = table_on_server("events", settings.clickhouse_cluster)
    definition = str(client.command(f"SHOW CREATE TABLE {table}"))
    if f"toIntervalDay({settings.events_ttl_days})" in definition:
        return
    ttl = f"toDateTime(event_time) + toIntervalDay({settings.events_ttl_days})"
    alter = f"ALTER TABLE {table} MODIFY TTL {ttl} SETTINGS materialize_ttl_after_modify = 0"
    _run(client, alter, settings.clickhouse_cluster)
