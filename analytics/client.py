"""Clients of ClickHouse over HTTP, for a server and for the role ``warehouse``.

Invariants:
1. The DSN is read by ``schemas.addresses.clickhouse_address``.
2. A client makes one call at a time, so concurrent calls need several clients.
3. Only this module decides whether an insert that failed is worth retrying.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import clickhouse_connect
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from analytics.damage import part_in, told
from schemas.addresses import ClickHouseAddress, clickhouse_address
from schemas.errors import ConfigError, Unavailable
from schemas.settings import AnalyticsSettings

# ClickHouse's error codes for bad data: the same rows will be refused again.
# https://github.com/ClickHouse/ClickHouse/blob/master/src/Common/ErrorCodes.cpp
REFUSAL_CODES: frozenset[int] = frozenset(
    {
        6, 7, 8, 26, 27, 32, 33, 34, 38, 41, 43, 44, 52, 53, 69, 70, 72, 117, 128, 130, 131, 190,
         321, 349, 376, 395, 407, 441, 469, 631, 632, 633, 675, 676, 691, 748, 1001,
    }
)  # fmt: skip

OF_DISTRIBUTED_INSERTS: Mapping[str, int] = MappingProxyType({"distributed_foreground_insert": 1})
"""On a cluster an insert is answered once the shards have its rows. By default the server that
takes it only queues them on its disk, and the sink would commit offsets of rows that one server has
(ClickHouse documentation, «Distributed Table Engine»)."""


class RowsRefused(Exception):
    """ClickHouse refuses the rows themselves; retrying is useless.

    Attributes:
        code: ClickHouse's error code.
        name: its name, such as ``CANNOT_PARSE_UUID``. Never contains a value of a row.
    """

    def __init__(self, code: int, name: str) -> None:
        super().__init__(f"{name} ({code})")
        self.code = code
        self.name = name


def connect(settings: AnalyticsSettings) -> Client:
    """A client of the configured ClickHouse; creates the database if it is missing.

    Raises:
        ConfigError: the DSN is invalid.
        Unavailable: the server does not answer.
    """
    of_inserts = OF_DISTRIBUTED_INSERTS if settings.clickhouse_cluster else {}
    return _connected(settings, _create_database, of_inserts)


def reader(settings: AnalyticsSettings) -> Client:
    """As ``connect``, for a user who may only read: creates nothing."""
    return _connected(settings, lambda *_: None)


def _connected(
    settings: AnalyticsSettings,
    prepare: Callable[[Client, str, AnalyticsSettings], None],
    of_inserts: Mapping[str, int] = MappingProxyType({}),
) -> Client:
    try:
        address = clickhouse_address(settings.clickhouse_dsn.get_secret_value())
    except ValueError as error:
        raise ConfigError([f"MAILPULSE_CLICKHOUSE_DSN: {error}"]) from None
    try:
        client = _open(settings, address, dict(of_inserts))
        prepare(client, address.database, settings)
        client.database = address.database
    except (ClickHouseError, OSError) as error:
        raise Unavailable(f"ClickHouse: {_first_line(error)}") from error
    return client


def _create_database(client: Client, database: str, settings: AnalyticsSettings) -> None:
    # A query first: who may not create databases can connect, and no statement waits for a replica
    # that is down. Also, the analysts' listener accepts no Identifier parameter.
    if client.command(
        "SELECT count() FROM system.databases WHERE name = {name:String}", {"name": database}
    ):
        return
    if settings.clickhouse_cluster:
        cluster = settings.clickhouse_cluster.replace("'", "")
        client.command(f"CREATE DATABASE IF NOT EXISTS `{database}` ON CLUSTER '{cluster}'")
    else:
        client.command("CREATE DATABASE IF NOT EXISTS {name:Identifier}", {"name": database})


def _open(
    settings: AnalyticsSettings, address: ClickHouseAddress, insert_settings: dict[str, Any]
) -> Client:
    return clickhouse_connect.get_client(
        interface=address.scheme,
        host=address.host,
        port=address.port,
        username=address.user,
        password=address.password,
        connect_timeout=5,
        send_receive_timeout=settings.clickhouse_timeout_s,
        autogenerate_session_id=False,  # a session would allow one query at a time
        compress=settings.clickhouse_compress,
        settings=insert_settings,
    )


def insert_avro(
    client: Client, statement: str, container: bytes, settings: Mapping[str, Any]
) -> None:
    """Inserts the records of an Avro object container; ClickHouse decodes them.

    Args:
        client: from ``connect``.
        statement: ``INSERT INTO … SELECT … FROM input('structure')``.
        container: a whole Avro file.
        settings: ClickHouse settings for this insert.

    Raises:
        RowsRefused: the data is bad.
        Unavailable: any other error; the insert may or may not have happened.
    """
    try:
        answer = client.raw_insert(
            statement.removeprefix("INSERT INTO "),
            insert_block=container,
            fmt="Avro",
            settings=dict(settings),
        )
    except (ClickHouseError, OSError) as error:
        raise judged(error) from error
    check_origin(answer.summary)


def insert_columns(
    client: Client, table: str, columns: Mapping[str, list[Any]], settings: Mapping[str, Any]
) -> None:
    """Inserts columns of equal length into a table.

    Raises:
        RowsRefused: the data is bad.
        Unavailable: any other error; the insert may or may not have happened.
    """
    try:
        answer = client.insert(
            table,
            list(columns.values()),
            column_names=list(columns),
            column_oriented=True,
            settings=dict(settings),
        )
    except (ClickHouseError, OSError) as error:
        raise judged(error) from error
    except (TypeError, ValueError, OverflowError, AttributeError) as error:
        # from clickhouse-connect, before anything is sent: a value does not fit its column's type
        raise RowsRefused(53, type(error).__name__) from error
    check_origin(answer.summary)


def check_origin(summary: Mapping[str, str]) -> None:
    """Takes an answer for ClickHouse's only when it says so.

    A proxy or another program on its port may answer 200 to anything. An insert's answer has no
    body, and an empty one reads as a table without rows. ClickHouse names the query in
    ``X-ClickHouse-Query-Id`` (its documentation, «HTTP Interface»); so does the role ``warehouse``.

    Args:
        summary: of the answer, as clickhouse-connect gives it.

    Raises:
        Unavailable: somebody else answered.
    """
    if not summary.get("query_id"):
        raise Unavailable(
            "ClickHouse: an answer came without X-ClickHouse-Query-Id: what listens at"
            " MAILPULSE_CLICKHOUSE_DSN is not ClickHouse, or a proxy drops its headers"
        )


def judged(error: Exception) -> RowsRefused | Unavailable:
    """The error to raise for an error of ClickHouse's: ``RowsRefused``, or worth a retry."""
    code = getattr(error, "code", None)
    if part_in(str(error)) is not None:  # checked first: its codes include some of bad data
        return Unavailable(told(str(error)))
    if code in REFUSAL_CODES:
        return RowsRefused(int(code), getattr(error, "name", None) or "REFUSED")
    return Unavailable(f"ClickHouse: {_first_line(error)}")


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:300]
