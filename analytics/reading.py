"""Reading for the command line and the dashboard, wherever the data is.

Laws of this file:
1. Read only. A server is asked directly; an embedded directory belongs to the sink's process, so
   it is asked through the analysts' door, whose address that process leaves in ``data_dir``.
2. Only where no process owns the directory is it opened here, for the one query, through the same
   judge and limits as the door.
3. A result is bytes in a ClickHouse format; making it nice is the caller's.
"""

import json
import re
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlencode

import clickhouse_connect
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from analytics.client import chdb_directory, connect, database_of, judged
from schemas.errors import BadInput, Unavailable
from schemas.settings import Settings

DOOR_NOTE = "door.json"
"""File in ``data_dir`` that says where the door is: url, host, port."""
_VIEW = re.compile(r"\w+(?:\s*\(.*\))?", re.DOTALL)
_FORMAT = re.compile(r"\w+")


def door_url(settings: Settings) -> str | None:
    """Address of the open door, ``None`` when there is none.

    Raises:
        Unavailable: there is a note of a door, but nobody answers: its process died just now.
    """
    try:
        note = json.loads((settings.data_dir / DOOR_NOTE).read_text())
        url = str(note["url"])
    except (OSError, ValueError, KeyError):
        return None
    try:
        with urllib.request.urlopen(f"{url}/ping", timeout=5):
            return url
    except OSError as error:
        raise Unavailable(f"the analysts' door at {url} does not answer: {error}") from error


def reader(settings: Settings) -> Client:
    """A client that reads: of the server, or of the door in embedded mode.

    Raises:
        ConfigError: the DSN can't be used.
        Unavailable: nobody answers, or the embedded pipeline does not run.
    """
    dsn = settings.clickhouse_dsn.get_secret_value()
    if chdb_directory(dsn) is None:
        return connect(settings)
    url = door_url(settings)
    if url is None:
        raise Unavailable("the embedded pipeline does not run: no door.json in the data directory")
    host, _, port = url.removeprefix("http://").rpartition(":")
    try:
        return clickhouse_connect.get_client(
            host=host.strip("[]"),
            port=int(port),
            password=settings.door_token.get_secret_value(),
            database=database_of(dsn),
            autogenerate_session_id=False,
        )
    except (ClickHouseError, OSError) as error:
        raise judged(error) from error


def query(settings: Settings, sql: str, fmt: str = "PrettyCompactMonoBlock") -> bytes:
    """The result of a query.

    Args:
        settings: of the process.
        sql: one statement; a ``FORMAT`` clause in it wins over ``fmt``.
        fmt: ClickHouse's name of a format.

    Raises:
        BadInput: ClickHouse refuses the query; the detail is its text.
        ConfigError: the DSN can't be used.
        Unavailable: nobody answers.
    """
    if not _FORMAT.fullmatch(fmt):
        raise BadInput("bad_format", fmt)
    dsn = settings.clickhouse_dsn.get_secret_value()
    directory = chdb_directory(dsn)
    if directory is None:
        return _from_server(settings, sql, fmt)
    url = door_url(settings)
    if url is not None:
        return _through_door(settings, url, sql, fmt)
    return _from_directory(settings, directory, sql, fmt)


def export(settings: Settings, view: str, fmt: str, path: Path) -> int:
    """Writes a table or view into a file.

    Args:
        settings: of the process.
        view: its name; a parameterised view with its arguments in brackets.
        fmt: ClickHouse's name of a format, such as ``Parquet`` or ``CSVWithNames``; the short
            names ``parquet``, ``csv`` and ``json`` are understood.
        path: of the file, which is replaced once the result is complete.

    Returns:
        Bytes written.

    Raises:
        BadInput: no such view, or the result is larger than ``door_result_bytes_max``.
        ConfigError: the DSN can't be used.
        Unavailable: nobody answers.
        OSError: the file can't be written.
    """
    if not _VIEW.fullmatch(view.strip()):
        raise BadInput("bad_view", "the name of one view, with arguments in brackets if it has any")
    short = {"parquet": "Parquet", "csv": "CSVWithNames", "json": "JSONEachRow"}
    content = query(settings, f"SELECT * FROM {view}", short.get(fmt.lower(), fmt))
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_bytes(content)
    unfinished.replace(path)
    return len(content)


def _from_server(settings: Settings, sql: str, fmt: str) -> bytes:
    client = connect(settings)
    try:
        # as a header, the format is that of a query which names none
        headers = {"X-ClickHouse-Format": fmt}
        return bytes(client.raw_query(sql.rstrip().rstrip(";"), transport_settings=headers))
    except (ClickHouseError, OSError) as error:
        if getattr(error, "code", None) is not None:
            raise BadInput("refused_by_clickhouse", str(error)) from error
        raise Unavailable(f"ClickHouse: {error}") from error
    finally:
        client.close()


def _through_door(settings: Settings, url: str, sql: str, fmt: str) -> bytes:
    token = settings.door_token.get_secret_value()
    request = urllib.request.Request(
        f"{url}/?{urlencode({'default_format': fmt})}",
        data=sql.encode(),
        headers={"X-ClickHouse-Key": token} if token else {},
        method="POST",
    )
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return bytes(answer.read())
    except urllib.error.HTTPError as error:
        text = error.read().decode("utf-8", "replace").strip()
        raise BadInput("refused_by_clickhouse", text) from error
    except OSError as error:
        raise Unavailable(f"the analysts' door at {url}: {error}") from error


def _from_directory(settings: Settings, directory: Path, sql: str, fmt: str) -> bytes:
    if not (directory / "data").exists() and not (directory / "metadata").exists():
        raise Unavailable(f"nothing is stored in {directory} yet")
    from analytics.door.denied import Denied
    from analytics.door.judge import listed_format
    from analytics.warehouse.engine import Engine, QueryError, query_limits

    database = database_of(settings.clickhouse_dsn.get_secret_value())

    try:
        engine = Engine(directory, database, query_limits(settings))
    except RuntimeError as error:  # chDB: another process holds the directory
        raise Unavailable(f"the directory {directory} is in use: {error}") from error
    try:
        statement = engine.judge(sql)
        wanted = statement.format or listed_format(fmt)
        return engine.run(statement.sql, wanted, settings=statement.settings)[0]
    except (Denied, QueryError) as error:
        raise BadInput(
            "refused_by_clickhouse", f"{error.name} ({error.code}): {error.text}"
        ) from error
    finally:
        engine.close()
