"""The analysts' door: ClickHouse's HTTP interface in front of the embedded engine, read-only.

Laws of this file:
1. Any ClickHouse client that speaks HTTP connects: the paths, parameters, headers, formats, error
   codes and texts are ClickHouse's (its documentation, «HTTP Interface»).
2. Nothing is written and nothing outside is reached: ``analytics.door.judge`` judges each query in
   ClickHouse's own words, and in those words the engine runs it, read-only and within limits
   (``analytics.warehouse.engine``).
3. A door bound to this machine answers only those who name this machine: a ``Host`` header of
   another name is a web page trying to look in (DNS rebinding).
4. User names, passwords and sessions are taken and ignored: whoever reaches the door may read.
5. Results are packed in worker threads: the event loop is the sink's as well.
"""

import asyncio
import ipaddress
import json
import re
from collections.abc import Mapping
from urllib.parse import parse_qsl
from uuid import uuid4

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from analytics.door.denied import Denied
from analytics.door.encodings import BodyTooLarge, BrokenBody, decoded, encoded, known
from analytics.door.frames import compressed
from analytics.door.judge import Statement, check_setting, listed_format
from analytics.door.native import Unwalkable, at_revision
from analytics.metrics import SinkMetrics
from analytics.warehouse.engine import Engine, QueryError
from schemas.serving.places import Limits
from schemas.settings import Settings

FORMAT_DEFAULT = "TabSeparated"

_CONTENT_TYPES = {
    "csv": "text/csv; charset=UTF-8; header=absent",
    "csvwithnames": "text/csv; charset=UTF-8; header=present",
    "json": "application/json; charset=UTF-8",
    "jsoncompact": "application/json; charset=UTF-8",
    "jsoneachrow": "application/x-ndjson; charset=UTF-8",
    "native": "application/octet-stream",
    "parquet": "application/octet-stream",
    "arrow": "application/octet-stream",
    "arrowstream": "application/octet-stream",
    "rowbinary": "application/octet-stream",
    "tabseparated": "text/tab-separated-values; charset=UTF-8",
    "tabseparatedwithnames": "text/tab-separated-values; charset=UTF-8",
}
_TRANSPORT = frozenset(
    {
        "query", "database", "default_format", "query_id", "session_id", "session_timeout",
        "session_check", "user", "password", "quota_key", "role", "enable_http_compression",
        "http_zlib_compression_level", "wait_end_of_query", "buffer_size",
        "send_progress_in_http_headers", "http_headers_progress_interval_ms",
        "client_protocol_version", "add_http_cors_header", "stacktrace", "compress",
        "network_compression_method", "network_zstd_compression_level",
        "cancel_http_readonly_queries_on_client_close", "close_session", "readonly",
        "http_write_exception_in_output_format",
    }
)  # fmt: skip
"""Parameters that steer the transport, or that change nothing here."""
_DATA = re.compile(rb"\s*(INSERT\s.*?\sFORMAT \w+)\n", re.DOTALL | re.IGNORECASE)
"""A statement in front of its data."""
_FORMAT_CLAUSE = re.compile(r"\sFORMAT (\w+)\s*;?\s*\Z", re.IGNORECASE)
"""Where queries are not judged: in tests of the HTTP client."""
# exceptionCodeToHTTPStatus of ClickHouse's HTTP handler
_STATUS = {
    **dict.fromkeys((6, 25, 26, 27, 32, 38, 41, 53, 56, 62, 72, 117, 167, 168), 400),
    **dict.fromkeys((46, 47, 50, 56, 60, 63, 73, 78, 81, 115, 173), 404),
    **dict.fromkeys((192, 193, 497, 516), 403),
    48: 501, 158: 413, 159: 408, 164: 500, 194: 401, 202: 500, 209: 503, 223: 413, 410: 503,
}  # fmt: skip


def limits(settings: Settings, *, body_bytes_max: int | None = None) -> Limits:
    """What the door's listener takes: queries that wait for a place count as requests."""
    connections = settings.door_connections_max
    return Limits(
        connections_max=connections,
        requests_max=connections * 3 // 4,
        body_bytes_max=body_bytes_max or settings.door_query_bytes_max,
        write_timeout_s=settings.door_query_s_max,
    )


class _Unsupported(Exception):
    """Something of ClickHouse's HTTP interface that this door does not speak."""


class Door:
    """The ASGI application.

    Args:
        engine: what answers.
        metrics: to count queries in.
        local_only: refuse calls that name another host (law 3).
    """

    def __init__(self, engine: Engine, metrics: SinkMetrics, *, local_only: bool = True) -> None:
        self._engine = engine
        self._metrics = metrics
        self._local_only = local_only
        self.app = Starlette(
            routes=[
                Route("/ping", self._ping, methods=["GET", "HEAD"]),
                Route("/replicas_status", self._ping, methods=["GET", "HEAD"]),
                Route("/", self._root, methods=["GET", "HEAD", "POST"]),
            ]
        )

    async def _ping(self, _request: Request) -> Response:
        return PlainTextResponse("Ok.\n")

    async def _root(self, request: Request) -> Response:
        query_id = request.query_params.get("query_id") or str(uuid4())
        with self._metrics.query_seconds.time():
            try:
                response = await self._answer(request)
                self._metrics.queries.labels("ok").inc()
            except Denied as error:
                response = self._failure(error.code, error.name, error.text)
            except QueryError as error:
                response = self._failure(error.code, error.name, error.text)
            except _Unsupported as error:
                response = self._failure(48, "NOT_IMPLEMENTED", str(error))
        response.headers["X-ClickHouse-Query-Id"] = query_id
        response.headers["X-ClickHouse-Server-Display-Name"] = "mailpulse"
        response.headers["X-ClickHouse-Timezone"] = self._engine.timezone
        return response

    async def _answer(self, request: Request) -> Response:
        self._check_host(request)
        parameters = dict(parse_qsl(request.url.query, keep_blank_values=True))
        body = await self._body(request)
        if request.headers.get("content-type", "").startswith("multipart/form-data"):
            raise _Unsupported("multipart/form-data (external data) is not supported here")
        if "query" not in parameters and not body:
            return PlainTextResponse("Ok.\n")  # as ClickHouse greets a browser
        sql, data = self._statement(parameters.get("query", ""), body)
        settings = self._settings(parameters)
        if self._engine.writable:
            named = _FORMAT_CLAUSE.search(sql)
            statement = Statement(sql, named[1] if named else None)
        else:
            statement = await self._engine.judged(sql)
        wanted = statement.format or listed_format(
            parameters.get("default_format")
            or request.headers.get("x-clickhouse-format")
            or FORMAT_DEFAULT
        )
        result, read = await self._engine.query(
            statement.sql,
            wanted,
            database=self._database(
                parameters.get("database") or request.headers.get("x-clickhouse-database", "")
            ),
            parameters={k[6:]: v for k, v in parameters.items() if k.startswith("param_")},
            settings={**settings, **statement.settings},
            body=data,
        )
        return await self._result(request, parameters, wanted, result, read)

    def _database(self, name: str) -> str:
        # clients that are not told otherwise ask for 'default'; there is nothing in it
        return self._engine.database if name in ("", "default") else name

    def _check_host(self, request: Request) -> None:
        host = request.url.hostname or ""
        if self._local_only and host not in ("localhost", "127.0.0.1", "::1") and not _is_ip(host):
            raise Denied((497, "ACCESS_DENIED"), "This door answers to localhost only")

    async def _body(self, request: Request) -> bytes:
        limit = (1 << 30) if self._engine.writable else self._engine.limits.query_bytes_max
        content = bytearray()
        async for chunk in request.stream():
            content += chunk
            if len(content) > limit:
                raise QueryError(62, "SYNTAX_ERROR", f"Max query size exceeded: {limit} bytes")
        return _plain(bytes(content), request.headers.get("content-encoding", ""), limit)

    def _statement(self, query: str, body: bytes) -> tuple[str, bytes]:
        """The statement, and behind an insert its data: in the body as a whole, or in its tail."""
        if self._engine.writable and query.lstrip()[:6].upper() == "INSERT":
            return query, body
        found = _DATA.match(body) if self._engine.writable else None
        if found:
            return found[1].decode(), body[found.end() :]
        text = body.decode("utf-8", "replace")
        return (f"{query}\n{text}" if query and text else query or text), b""

    def _settings(self, parameters: Mapping[str, str]) -> dict[str, str]:
        """The settings among the parameters.

        Raises:
            Denied: one that is not on the list, or with a value that is not.
        """
        if parameters.get("decompress") == "1":
            raise _Unsupported("decompress=1: send the body as it is, or with a Content-Encoding")
        settings = {
            name: value
            for name, value in parameters.items()
            if name not in _TRANSPORT and name != "decompress" and not name.startswith("param_")
        }
        if not self._engine.writable:
            for name, value in settings.items():
                check_setting(name, value)
        return settings

    @staticmethod
    async def _result(
        request: Request,
        parameters: Mapping[str, str],
        wanted: str,
        result: bytes,
        read: Mapping[str, str],
    ) -> Response:
        headers = {
            "X-ClickHouse-Format": wanted,
            "X-ClickHouse-Summary": json.dumps(dict(read)),
        }
        if wanted.lower() == "native":
            revision = parameters.get("client_protocol_version", "")
            result = await _at_revision(result, int(revision) if revision.isdecimal() else 0)
        if parameters.get("compress") == "1":
            result = await asyncio.to_thread(compressed, result)
        if parameters.get("enable_http_compression") == "1":
            accepted = request.headers.get("accept-encoding", "")
            result, encoding = await asyncio.to_thread(encoded, result, accepted)
            if encoding:
                headers["Content-Encoding"] = encoding
        kind = _CONTENT_TYPES.get(wanted.lower(), "text/plain; charset=UTF-8")
        return Response(result, media_type=kind, headers=headers)

    def _failure(self, code: int, name: str, text: str) -> Response:
        self._metrics.queries.labels(str(code)).inc()
        if text.startswith("DB::Exception: "):
            text = text.removeprefix("DB::Exception: ")
        words = f"Code: {code}. DB::Exception: {text} ({name}) (version {self._engine.version})\n"
        return PlainTextResponse(
            words,
            status_code=_STATUS.get(code, 500),
            headers={"X-ClickHouse-Exception-Code": str(code)},
        )


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


async def _at_revision(result: bytes, revision: int) -> bytes:
    """A Native result as a client of this protocol version reads it.

    Raises:
        _Unsupported: it has a column of a type that the transcription does not know.
    """
    try:
        return await asyncio.to_thread(at_revision, result, revision)
    except Unwalkable as error:
        raise _Unsupported(
            f"Native with client_protocol_version={revision} is not supported here for {error}:"
            " cast the column, or use another format"
        ) from error


def _plain(content: bytes, encoding: str, limit: int) -> bytes:
    """A request body without its content encoding, at most ``limit`` bytes.

    Raises:
        _Unsupported: an encoding that is not known here.
        QueryError: not what the encoding says, or larger than the limit.
    """
    if encoding in ("", "identity"):
        return content
    if not known(encoding):
        raise _Unsupported(f"Content-Encoding {encoding} is not supported here")
    try:
        return decoded(content, encoding, limit)
    except BrokenBody as error:
        raise QueryError(117, "INCORRECT_DATA", f"Broken {encoding} body") from error
    except BodyTooLarge as error:
        raise QueryError(62, "SYNTAX_ERROR", f"Max query size exceeded: {limit} bytes") from error
