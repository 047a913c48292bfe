"""ClickHouse's HTTP interface, as far as both listeners of the warehouse speak it alike.

Invariants:
1. Paths, parameters, headers, formats, error codes and texts are ClickHouse's (its documentation,
   «HTTP Interface»), so any client that speaks it connects.
2. Results are packed by the engine's side, within the limits of their query.
3. A query whose client went away is killed.
4. What a browser asks for another site is refused, also when it was led here by a name of that
   site's (DNS rebinding): ``schemas.serving.sites``.
"""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import ClassVar
from urllib.parse import parse_qsl
from uuid import uuid4

from prometheus_client import Counter, Histogram
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from analytics.door.access import CHALLENGE, PASSWORD_MISSING
from analytics.door.canonical import NOT_TEXT, text_of
from analytics.door.denied import SYNTAX_ERROR, Denied
from analytics.door.encodings import BodyTooLarge, BrokenBody, decoded, known
from analytics.warehouse.engine import Engine, Job
from analytics.warehouse.errors import QueryError, Unsupported
from analytics.warehouse.packing import Packing, asked_packing
from analytics.warehouse.unsent import Held, Pieces
from schemas.serving.sites import SameSite, Sites

FORMAT_DEFAULT = "TabSeparated"
TRANSPORT = frozenset(
    {
        "query", "database", "default_format", "query_id", "session_id", "session_timeout",
        "session_check", "user", "password", "quota_key", "role", "enable_http_compression",
        "http_zlib_compression_level", "wait_end_of_query", "buffer_size",
        "send_progress_in_http_headers", "http_headers_progress_interval_ms",
        "client_protocol_version", "add_http_cors_header", "stacktrace", "compress", "decompress",
        "network_compression_method", "network_zstd_compression_level",
        "cancel_http_readonly_queries_on_client_close", "close_session", "readonly",
        "http_write_exception_in_output_format",
    }
)  # fmt: skip
"""Parameters that steer the transport, or that change nothing here."""

_QUERY_ID = re.compile(r"[\w.:-]{1,64}", re.ASCII)
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
_CALLERS_FAULTS = (
    36, 42, 43, 44, 69, 70, 130, 131, 153, 164, 184, 215, 376, 386, 395, 407, 441, 456, 457, 467,
    469, 675, 676, 691,
)  # fmt: skip
"""Codes of values, parameters and settings that can't be: a step of 0, a zone that does not exist,
a parameter that is missing. ClickHouse answers 500, which reads as the server's fault."""
# exceptionCodeToHTTPStatus of ClickHouse's HTTP handler
_STATUS = {
    **dict.fromkeys(_CALLERS_FAULTS, 400),
    **dict.fromkeys((6, 25, 26, 27, 32, 38, 41, 53, 56, 62, 72, 117, 167, 168), 400),
    **dict.fromkeys((46, 47, 50, 56, 60, 63, 73, 78, 81, 115, 173), 404),
    **dict.fromkeys((192, 193, 497, 516), 403),
    48: 501, 158: 413, 159: 408, 194: 401, 202: 503, 209: 503, 223: 413, 410: 503,
}  # fmt: skip
# but 202, too many queries at once: clients try again on 503, and do not on 500
_RETRY_AFTER_S = "1"


class Interface:
    """The ASGI application of one listener; subclasses say what it answers.

    Args:
        engine: what answers.
        results: counts answers by result: ``ok``, or ClickHouse's error code.
        seconds: takes the time of each.
        sites: names that it answers to (invariant 4).
    """

    headers: ClassVar[Mapping[str, str]] = {}
    """On every answer of this listener."""

    def __init__(self, engine: Engine, results: Counter, seconds: Histogram, sites: Sites) -> None:
        self.engine = engine
        self._results = results
        self._seconds = seconds
        routes = Starlette(
            routes=[
                Route("/ping", self._ping, methods=["GET", "HEAD"]),
                Route("/replicas_status", self._ping, methods=["GET", "HEAD"]),
                Route("/", self._root, methods=["GET", "HEAD", "POST"]),
            ]
        )
        self.app = SameSite(routes, sites, self._turned_away)

    async def answer(
        self, request: Request, parameters: Mapping[str, str], query_id: str
    ) -> Response:
        """The answer to a request; its errors are worded by the caller.

        Raises:
            QueryError, Denied: as ClickHouse would have it.
        """
        raise NotImplementedError

    async def _ping(self, _request: Request) -> Response:
        return PlainTextResponse("Ok.\n")

    async def _root(self, request: Request) -> Response:
        query_id = str(uuid4())
        with self._seconds.time():
            try:
                parameters = _parameters(request.scope["query_string"])
                if _QUERY_ID.fullmatch(parameters.get("query_id", "")):
                    query_id = parameters["query_id"]
                response = await self.answer(request, parameters, query_id)
                self._results.labels("ok").inc()
            except (QueryError, Denied) as error:
                response = self._failure(error)
        response.headers["X-ClickHouse-Query-Id"] = query_id
        response.headers["X-ClickHouse-Server-Display-Name"] = "mailpulse"
        response.headers["X-ClickHouse-Timezone"] = self.engine.timezone
        response.headers.update(self.headers)
        return response

    def _failure(self, error: QueryError | Denied) -> Response:
        self._results.labels(str(error.code)).inc()
        headers = {"X-ClickHouse-Exception-Code": str(error.code)}
        if _STATUS.get(error.code) == 503:
            headers["Retry-After"] = _RETRY_AFTER_S
        if error.code == PASSWORD_MISSING[0]:
            headers["WWW-Authenticate"] = CHALLENGE
        return PlainTextResponse(
            self._words(error.code, error.name, error.text),
            status_code=_STATUS.get(error.code, 500),
            headers=headers,
        )

    def _words(self, code: int, name: str, text: str) -> str:
        text = text.removeprefix("DB::Exception: ")
        return f"Code: {code}. DB::Exception: {text} ({name}) (version {self.engine.version})\n"

    def _turned_away(self, reason: str) -> str:
        self._results.labels("497").inc()
        return self._words(497, "ACCESS_DENIED", reason)


def _parameters(query_string: bytes) -> dict[str, str]:
    """A request's parameters.

    Raises:
        Denied: one of them is no text.
    """
    try:
        pairs = parse_qsl(text_of(query_string), keep_blank_values=True, errors="strict")
    except UnicodeDecodeError:
        raise Denied(SYNTAX_ERROR, NOT_TEXT) from None
    return dict(pairs)


def named_database(request: Request, parameters: Mapping[str, str]) -> str:
    """The database that a request names; empty for none, and for the one that clients put in."""
    name = parameters.get("database") or request.headers.get("x-clickhouse-database", "")
    return "" if name == "default" else name


def greeting() -> Response:
    """The answer to a request without a query: as ClickHouse greets a browser."""
    return PlainTextResponse("Ok.\n")


def query_parameters(parameters: Mapping[str, str]) -> dict[str, str]:
    """Values of ``{name:Type}`` among a request's parameters."""
    return {
        name.removeprefix("param_"): value
        for name, value in parameters.items()
        if name.startswith("param_")
    }


def settings_among(parameters: Mapping[str, str]) -> dict[str, str]:
    """What among a request's parameters is a setting.

    Raises:
        Unsupported: a body in ClickHouse's own compressed frames.
    """
    if parameters.get("decompress") == "1":
        raise Unsupported("decompress=1: send the body as it is, or with a Content-Encoding")
    return {
        name: value
        for name, value in parameters.items()
        if name not in TRANSPORT and not name.startswith("param_")
    }


def asked_format(request: Request, parameters: Mapping[str, str]) -> str:
    """The format that a request wants where the statement names none: a parameter, or a header."""
    return (
        parameters.get("default_format")
        or request.headers.get("x-clickhouse-format")
        or FORMAT_DEFAULT
    )


async def unless_gone(request: Request, job: Job, run: Callable[[Job], Awaitable[Held]]) -> Held:
    """Runs a job for as long as its client is there (invariant 3); the body has been read."""
    answer = asyncio.ensure_future(run(job))
    leaving = asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait({answer, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            job.gone.set()
        return await answer
    finally:
        leaving.cancel()
        if not answer.done():  # this one was cancelled itself
            job.gone.set()
            answer.cancel()


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def packing_of(request: Request, parameters: Mapping[str, str], wanted: str) -> Packing:
    """How a request wants a result in the format ``wanted`` packed."""
    return asked_packing(parameters, request.headers.get("accept-encoding", ""), wanted)


def pieces(held: Held, wanted: str, packing: Packing) -> Response:
    """The answer with a result that is packed already."""
    headers = {
        "X-ClickHouse-Format": wanted,
        "X-ClickHouse-Summary": json.dumps(held.figures),
    }
    if packing.encoding:
        headers["Content-Encoding"] = packing.encoding
    kind = _CONTENT_TYPES.get(wanted.lower(), "text/plain; charset=UTF-8")
    return Pieces(held, kind, headers)


async def body_of(request: Request, bytes_max: int) -> bytes:
    """A request's body without its content encoding.

    Raises:
        QueryError: more than ``bytes_max`` bytes, as sent or unpacked.
        Unsupported: form data, or an encoding that is not known here.
    """
    if request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise Unsupported("multipart/form-data (external data) is not supported here")
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > bytes_max:
            raise too_large(bytes_max)
    encoding = request.headers.get("content-encoding", "")
    if encoding in ("", "identity"):
        return bytes(content)
    return await asyncio.to_thread(plain, bytes(content), encoding, bytes_max)


def plain(content: bytes, encoding: str, bytes_max: int) -> bytes:
    """A body without its content encoding.

    Raises:
        QueryError: not what the encoding says, or more than ``bytes_max`` bytes.
        Unsupported: an encoding that is not known here.
    """
    if not known(encoding):
        raise Unsupported(f"Content-Encoding {encoding} is not supported here")
    try:
        return decoded(content, encoding, bytes_max)
    except BrokenBody as error:
        raise QueryError(117, "INCORRECT_DATA", f"Broken {encoding} body") from error
    except BodyTooLarge as error:
        raise too_large(bytes_max) from error


def too_large(bytes_max: int) -> QueryError:
    """The error of a body that is too large."""
    return QueryError(62, "SYNTAX_ERROR", f"Max query size exceeded: {bytes_max} bytes")
