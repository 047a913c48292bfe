"""ClickHouse's own BACKUP and RESTORE.

Invariants:
1. ClickHouse works in its background, and is asked how far it is: no request lasts long.
2. A database is restored only where it has no tables.

Source: ClickHouse documentation, «Backup and Restore», «system.backups». Tried on chDB 26.9:
``File`` needs ``backups.allowed_path``, and works as on a server.
"""

import re
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from schemas.errors import BadInput, Unavailable

Ask = Callable[[str, Mapping[str, str]], Sequence[Sequence[Any]]]
"""Rows of a query with ``{name:Type}`` parameters; raises ``BadInput`` or ``Unavailable``."""
Do = Callable[[str], None]
"""Runs a statement without an answer; raises ``BadInput`` or ``Unavailable``."""
Say = Callable[[str], None]

POLL_S = 0.5
TELL_EVERY_S = 10.0
_PLACE = re.compile(r"(File|Disk|S3|AzureBlobStorage)\((?:[^()']|'(?:[^'\\]|\\.)*')*\)")
_ROWS = """
SELECT table, sum(rows) FROM system.parts
WHERE active AND database = currentDatabase() GROUP BY table ORDER BY table
"""
_MIGRATION = "SELECT max(number) FROM schema_migrations"
_SIZE = "SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND database = currentDatabase()"
_HAS = "SELECT count() FROM system.tables WHERE database = currentDatabase()"
_NAMES = """
SELECT name FROM system.tables WHERE database = currentDatabase() ORDER BY engine LIKE '%MergeTree'
"""
_STATE = """
SELECT toString(status), error, num_files, files_read, total_size, bytes_read
FROM system.backups WHERE id = {id:String} ORDER BY start_time DESC LIMIT 1
"""


class Tables:
    """The database of a ClickHouse.

    Args:
        ask, do: with all rights.
        say: called with how far it is.
    """

    def __init__(self, ask: Ask, do: Do, say: Say) -> None:
        self._ask, self._do, self._say = ask, do, say

    def name(self) -> str:
        """Of the database."""
        return str(self._ask("SELECT currentDatabase()", {})[0][0])

    def rows(self) -> dict[str, int]:
        """Table -> rows, those that newer ones replace included."""
        return {str(table): int(rows) for table, rows in self._ask(_ROWS, {})}

    def migration(self) -> int:
        """Number of the newest migration."""
        return int(self._ask(_MIGRATION, {})[0][0])

    def bytes(self) -> int:
        """What its parts take on the disk."""
        return int(self._ask(_SIZE, {})[0][0] or 0)

    def refuse_any(self) -> None:
        """Refuses a database that has tables.

        Raises:
            BadInput: ``not_empty``.
        """
        count = int(self._ask(_HAS, {})[0][0])
        if count:
            raise BadInput(
                "not_empty",
                f"the database {self.name()} has {count} tables, and a restore replaces nothing:"
                " restore into another MAILPULSE_CLICKHOUSE_DSN or --data-dir, or drop it first",
            )

    def drop(self) -> None:
        """Empties the database."""
        for (name,) in self._ask(_NAMES, {}):  # a session needs the database itself
            self._do(f"DROP TABLE IF EXISTS `{name}` SYNC SETTINGS max_table_size_to_drop = 0")

    def back_up(self, place: str, name: str, base: str = "") -> None:
        """Makes ClickHouse write a backup.

        Args:
            place: such as ``File('20261128T180000.000Z')``.
            name: of the backup.
            base: place of an earlier one, whose parts are not written again.

        Raises:
            BadInput: ClickHouse refuses it, or could not do it.
        """
        based = f", base_backup = {base}" if base else ""
        sql = f"BACKUP DATABASE `{self.name()}` TO {place} SETTINGS id = '{name}'{based} ASYNC"
        self._ask(sql, {})
        self._until(name, "BACKUP_CREATED", "ClickHouse's backup")

    def restore(self, place: str, name: str, database: str) -> None:
        """Makes ClickHouse read a backup into this database.

        Args:
            database: that was backed up.

        Raises:
            BadInput: ClickHouse refuses it, or could not do it.
        """
        source, target = (text.replace("`", "") for text in (database, self.name()))
        renamed = "" if source == target else f" AS `{target}`"
        number = f"{name}-{secrets.token_hex(4)}"
        self._ask(
            f"RESTORE DATABASE `{source}`{renamed} FROM {place} SETTINGS id = '{number}' ASYNC", {}
        )
        self._until(number, "RESTORED", "ClickHouse's restore")

    def add(self, place: str, name: str, database: str, table: str) -> None:
        """Adds the rows that a backup has of a table to those that are there.

        Args:
            database: that was backed up.

        Raises:
            BadInput: ClickHouse refuses it, or could not do it.
        """
        source, target = (text.replace("`", "") for text in (database, self.name()))
        number = f"{name}-{secrets.token_hex(4)}"
        self._ask(
            f"RESTORE TABLE `{source}`.`{table}` AS `{target}`.`{table}` FROM {place} SETTINGS"
            f" id = '{number}', allow_non_empty_tables = 1, allow_different_table_def = 1 ASYNC",
            {},
        )
        self._until(number, "RESTORED", f"{table} from the backup")

    def _until(self, name: str, wanted: str, what: str) -> None:
        told = time.monotonic()
        while True:
            rows = self._ask(_STATE, {"id": name})
            if not rows:
                raise Unavailable(f"{what} ended: ClickHouse was started anew; run it again")
            status, error, files, read, size, bytes_read = rows[0]
            if status == wanted:
                return
            if error or status.endswith(("FAILED", "CANCELLED")):
                raise BadInput("clickhouse", f"{what} failed: {str(error)[:1_000] or status}")
            if time.monotonic() - told > TELL_EVERY_S:
                told = time.monotonic()
                self._say(f"{what}: {read or files:,} files, {bytes_read or size:,} bytes")
            time.sleep(POLL_S)


def place_of(text: str, name: str) -> str:
    """Where a server keeps a backup, from what an operator says.

    Args:
        text: such as ``Disk('backups', 'mailpulse/{name}')``.

    Raises:
        BadInput: ``bad_place``: it is no place of ClickHouse's, or has no ``{name}``.
    """
    if not _PLACE.fullmatch(text) or "{name}" not in text:
        raise BadInput(
            "bad_place", f"{text!r}: such as Disk('backups', '{{name}}') or"
            " S3(a_named_collection, '{name}')"
        )  # fmt: skip
    return text.replace("{name}", name)
