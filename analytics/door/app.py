"""The analysts' door: ClickHouse's HTTP interface in front of the embedded engine, read-only.

Laws of this file:
1. Any ClickHouse client that speaks HTTP connects: the paths, parameters, headers, formats, error
   codes and texts are ClickHouse's (its documentation, «HTTP Interface»).
2. Nothing is written and nothing outside is reached: ``analytics.door.judge`` judges each query in
   ClickHouse's own words, and in those words the engine runs it, read-only and within limits
   (``analytics.warehouse.engine``).
3. What a browser asks for another site is refused, also when it was led here by a name of that
   site's (DNS rebinding): ``schemas.serving.sites``.
4. With a token set, it is needed as the password (``analytics.door.access``). Otherwise user names,
   passwords and sessions are taken and ignored: whoever reaches the door may read.
5. Results are packed in worker threads: the event loop is the sink's as well.
"""

import asyncio
import json
import re
from collections.abc import Mapping
from urllib.parse import parse_qsl
from uuid import uuid4

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from analytics.door.access import CHALLENGE, PASSWORD_MISSING, check_token
from analytics.door.denied import UNKNOWN_DATABASE, Denied
from analytics.door.encodings import BodyTooLarge, BrokenBody, decoded, encoded, known
from analytics.door.frames import compressed
from analytics.door.judge import Statement, check_setting, listed_format
from analytics.door.native import Unwalkable, at_revision
from analytics.metrics import SinkMetrics
from analytics.warehouse.engine import Engine, QueryError
from schemas.serving.places import Limits
from schemas.serving.sites import SameSite, Sites
from schemas.settings import PREFIX, Settings

FORMAT_DEFAULT = "TabSeparated"
HOSTS_SETTING = f"{PREFIX}DOOR_HOSTS"
OWN_NAMES = Sites(setting=HOSTS_SETTING)

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


def door_of(settings: Settings, engine: Engine, metrics: SinkMetrics) -> "Door":
    """The door by its settings."""
    sites = Sites.of_listener(settings.door_host, settings.door_hosts, setting=HOSTS_SETTING)
    return Door(engine, metrics, sites=sites, token=settings.door_token.get_secret_value())


class _Unsupported(Exception):
    """Something of ClickHouse's HTTP interface that this door does not speak."""


class Door:
    """The ASGI application.

    Args:
        engine: what answers.
        metrics: to count queries in.
        sites: names that it answers to (law 3).
        token: that callers need, if any (law 4).
    """

    def __init__(
        self,
        engine: Engine,
        metrics: SinkMetrics,
        *,
        sites: Sites = OWN_NAMES,
        token: str = "",
    ) -> None:
        self._engine = engine
        self._metrics = metrics
        self._token = token
        routes = Starlette(
            routes=[
                Route("/ping", self._ping, methods=["GET", "HEAD"]),
                Route("/replicas_status", self._ping, methods=["GET", "HEAD"]),
                Route("/", self._root, methods=["GET", "HEAD", "POST"]),
            ]
        )
        self.app = SameSite(routes, sites, self._turned_away)

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
        check_token(self._token, request.headers)
        parameters = dict(
            parse_qsl(request.scope["query_string"].decode("latin-1"), keep_blank_values=True)
        )
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
        if self._engine.writable or name in ("", "default", self._engine.database):
            return name if name not in ("", "default") else self._engine.database
        raise Denied(
            UNKNOWN_DATABASE,
            f"Database {name[:80]} is not served by this name: leave it out, and write"
            " system.tables and the like in full",
        )

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
        headers = {"X-ClickHouse-Exception-Code": str(code)}
        if code == PASSWORD_MISSING[0]:
            headers["WWW-Authenticate"] = CHALLENGE
        return PlainTextResponse(
            self._words(code, name, text), status_code=_STATUS.get(code, 500), headers=headers
        )

    def _words(self, code: int, name: str, text: str) -> str:
        text = text.removeprefix("DB::Exception: ")
        return f"Code: {code}. DB::Exception: {text} ({name}) (version {self._engine.version})\n"

    def _turned_away(self, reason: str) -> str:
        self._metrics.queries.labels("497").inc()
        return self._words(497, "ACCESS_DENIED", reason)


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
