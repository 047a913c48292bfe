r"""Queries ClickHouse for commands.

Invariants:
1. Answers are streamed: the memory that an export needs does not depend on its size.
2. Values are passed as query parameters, never put into the SQL text, and arrive as they are:
   ClickHouse reads escapes in them, and addresses may have backslashes (``"a\"b"@example.com``).
"""

import ssl
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, TypeAdapter, ValidationError

from schemas.addresses import clickhouse_address
from schemas.errors import BadInput, Unavailable
from schemas.settings import Settings

Row = TypeVar("Row")

CONNECT_S = 5.0
ANSWER_S = 300.0
ERROR_CHARS_MAX = 1_000
DAMAGE_CHARS_MAX = 4_000
"""The same for an error that names a damaged part, as the name comes late in it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of ClickHouse's.

    Attributes:
        format: of the answer; a FORMAT clause in the query overrides the requested one.
        pieces: of the answer, as they arrive.
    """

    format: str
    pieces: Iterator[bytes]


def ask(
    settings: Settings,
    sql: str,
    fmt: str,
    parameters: Mapping[str, str] | None = None,
    options: Mapping[str, str] | None = None,
) -> Answer:
    """The answer to ``sql``, by default in ClickHouse format ``fmt``.

    Args:
        parameters: values of ``{name:Type}`` in the query.
        options: ClickHouse settings for this query.

    Raises:
        Unavailable: nothing answers, or not ClickHouse.
        BadInput: ClickHouse rejects the query; ``detail`` is its message.
    """
    dsn = settings.clickhouse_dsn.get_secret_value()
    named = {f"param_{name}": escaped(value) for name, value in (parameters or {}).items()}
    pieces = _over_http(dsn, sql, {**named, **(options or {}), "default_format": fmt})
    return Answer(next(pieces).decode("latin-1") or fmt, pieces)


def escaped(value: str) -> str:
    """A text as ClickHouse reads a parameter: like a field of TabSeparated."""
    for character, code in (("\\", "\\\\"), ("\t", "\\t"), ("\n", "\\n"), ("\r", "\\r")):
        value = value.replace(character, code)
    return value


@cache
def _trust() -> ssl.SSLContext:
    """The certificates that are trusted; reading them takes 40 ms, more than a small query."""
    return httpx.create_ssl_context(trust_env=False)


def _over_http(dsn: str, sql: str, given: Mapping[str, str]) -> Iterator[bytes]:
    """Yields the name of the answer's format, then the answer."""
    address = clickhouse_address(dsn)
    params = {"database": address.database, **given}
    auth = (address.user, address.password)
    timeout = httpx.Timeout(ANSWER_S, connect=CONNECT_S)
    try:
        with (
            httpx.Client(timeout=timeout, trust_env=False, verify=_trust()) as client,
            client.stream(
                "POST", f"{address.url}/", params=params, content=sql, auth=auth
            ) as answer,
        ):
            if answer.status_code != 200:
                answer.read()
                raise BadInput("query_refused", refusal(answer.text.strip()))
            if not answer.headers.get("x-clickhouse-query-id"):
                raise _not_clickhouse(dsn)
            yield answer.headers.get("x-clickhouse-format", "").encode("latin-1", "replace")
            yield from answer.iter_bytes()
    except httpx.HTTPError as error:
        raise Unavailable(
            f"ClickHouse at {address.place}: {type(error).__name__}; is 'mailpulse up' or a server"
            " running? MAILPULSE_CLICKHOUSE_DSN sets the address"
        ) from error


def refusal(text: str) -> str:
    """ClickHouse's error message, shortened; with advice in front if it reports a damaged part."""
    from analytics.damage import told

    sentence = told(text)
    if sentence == text:
        return text[:ERROR_CHARS_MAX]
    return f"{sentence}\n{text[:DAMAGE_CHARS_MAX]}"


class _Column(BaseModel):
    name: str


class _Table(BaseModel):
    meta: list[_Column]
    data: list[list[Any]]


def table_of(
    settings: Settings, sql: str, parameters: Mapping[str, str] | None = None
) -> tuple[list[str], list[list[Any]]]:
    """Column names and rows; numbers are numbers.

    Raises:
        Unavailable: as ``ask``, or what answers is not ClickHouse.
        BadInput: as ``ask``.
    """
    # 64-bit integers as JSON numbers: no figure here comes near 2^53
    plain = {"output_format_json_quote_64bit_integers": "0"}
    content = b"".join(ask(settings, sql, "JSONCompact", parameters, plain).pieces)
    try:
        table = _Table.model_validate_json(content)
    except ValidationError:
        raise _not_clickhouse(settings.clickhouse_dsn.get_secret_value()) from None
    columns = [column.name for column in table.meta]
    if any(len(row) != len(columns) for row in table.data):
        raise _not_clickhouse(settings.clickhouse_dsn.get_secret_value())
    return columns, table.data


def rows_of(
    settings: Settings, sql: str, parameters: Mapping[str, str], row: type[Row]
) -> list[Row]:
    """Rows of a type, such as ``tuple[str, int]``.

    Raises:
        Unavailable: as ``table_of``, or the rows are of another type.
        BadInput: as ``ask``.
    """
    _, rows = table_of(settings, sql, parameters)
    try:
        return TypeAdapter(list[row]).validate_python(rows)  # type: ignore[valid-type]
    except ValidationError:
        raise _not_clickhouse(settings.clickhouse_dsn.get_secret_value()) from None


def dicts_of(
    settings: Settings, sql: str, parameters: Mapping[str, str], names: Sequence[str]
) -> list[dict[str, Any]]:
    """Rows by column; columns whose names end in ``_ms`` are whole numbers.

    Args:
        names: of the columns that the query has.

    Raises:
        Unavailable: as ``table_of``, or the columns are others.
        BadInput: as ``ask``.
    """
    columns, rows = table_of(settings, sql, parameters)
    found = [dict(zip(columns, row, strict=True)) for row in rows]
    times = [name for name in names if name.endswith("_ms")]
    if columns != list(names) or any(type(row[name]) is not int for row in found for name in times):
        raise _not_clickhouse(settings.clickhouse_dsn.get_secret_value())
    return found


def row_of(settings: Settings, sql: str, row: type[Row]) -> Row:
    """The only row of an answer.

    Raises:
        Unavailable: as ``rows_of``, or there is another number of rows.
        BadInput: as ``ask``.
    """
    rows = rows_of(settings, sql, {}, row)
    if len(rows) != 1:
        raise _not_clickhouse(settings.clickhouse_dsn.get_secret_value())
    return rows[0]


def _not_clickhouse(dsn: str) -> Unavailable:
    return Unavailable(
        f"what answers at {clickhouse_address(dsn).place} is not ClickHouse, or its answer"
        " was cut or changed on the way; MAILPULSE_CLICKHOUSE_DSN says where to ask"
    )
