"""The endpoints of ``/sql``: the page, its schema and starters, and queries.

Invariants:
1. A query runs only by a POST of JSON with the header ``ASKED_BY``, which no page of another site
   can send without being asked first (CORS), and which ``schemas.serving.sites`` refuses from other
   sites besides. No address runs a query: a link can only put text into the editor.
2. The page shows what the tables hold, whole addresses too. So it is there for those who may see
   them (``dashboard_show_recipients``), and where nobody signs in and the door asks for no token:
   then whoever reaches this page reaches the door as well.
3. Who asked, for how long and with what outcome is logged; the text is not, as it may hold
   addresses.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.resources import files
from typing import Any

import orjson
import structlog
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from analytics.dashboard import html
from analytics.dashboard.access import Caller, Gate
from analytics.dashboard.formulas import without_formulas
from analytics.dashboard.sql.asking import (
    FORMS,
    ROWS_SHOWN_MAX,
    TABLE_BYTES_MAX,
    DoorClient,
    Result,
    whole,
)
from schemas.errors import BadInput, Unavailable

log = structlog.get_logger("mailpulse.dashboard")

PATH = "/sql"
ASKED_BY = ("x-mailpulse-page", "sql")
BODY_BYTES_MAX = 128 << 10
"""Of a request: a query, escaped as JSON. The door takes longer texts from other clients."""
SCHEMA = """\
SELECT t.name AS table, t.comment AS about, c.name AS column, c.type AS type, c.comment AS comment
FROM system.tables AS t
LEFT JOIN system.columns AS c ON c.database = t.database AND c.table = t.name
WHERE t.database = currentDatabase()
ORDER BY t.engine != 'View', t.name, c.position"""
CLOSED = """\
<section class="panel"><h1>SQL</h1><p>{}</p>
<p>In a terminal: <code>mailpulse query "SELECT …"</code></p></section>"""
WHOLE_NEEDED = (
    "Queries show whole addresses of recipients, and viewers of this dashboard may not see them."
    " <code>MAILPULSE_DASHBOARD_SHOW_RECIPIENTS=true</code> lets them."
)


class SqlPage:
    """The endpoints.

    Args:
        door: what answers queries.
        gate: who is signed in.
        shows_recipients: whether viewers may see whole addresses.
        caller: who makes a request.
    """

    def __init__(
        self,
        door: DoorClient,
        gate: Gate,
        *,
        shows_recipients: bool,
        caller: Callable[[Request], Caller],
    ) -> None:
        self._door = door
        self._gate = gate
        self._caller = caller
        self._is_open = shows_recipients or (gate.open and not door.has_password)
        self._starters = _starters()

    def routes(self) -> list[Route]:
        """Where the endpoints are."""
        return [
            Route(PATH, self.page),
            Route(f"{PATH}/schema", self.schema),
            Route(f"{PATH}/starters", self.starters),
            Route(f"{PATH}/run", self.run, methods=["POST"]),
        ]

    async def page(self, _request: Request) -> Response:
        """The page, without its contents; or why there is none."""
        if not self._is_open:
            content = CLOSED.format(WHOLE_NEEDED)
            page = html.document("SQL · mailpulse", content, self._gate.has_token, "sql")
            return HTMLResponse(page, 403, headers={"cache-control": "no-store"})
        page = html.document(
            "SQL · mailpulse", _CONTENT, self._gate.has_token, "sql", modules=("sql",)
        )
        return HTMLResponse(page)

    async def starters(self, _request: Request) -> Response:
        """The questions of ``analytics/queries``: what each asks, and its text."""
        return Response(self._starters, media_type="application/json")

    async def schema(self, request: Request) -> Response:
        """Tables and views with their columns, as analysts may see them."""

        async def ask() -> bytes:
            result = await self._door.run(SCHEMA, FORMS["table"], {"limit": "0"})
            return await whole(result, TABLE_BYTES_MAX)

        return await self._answered(request, ask)

    async def run(self, request: Request) -> Response:
        """The result of a query, to be shown or saved; or the door's refusal in words."""
        if request.headers.get(ASKED_BY[0]) != ASKED_BY[1]:
            return _problem("This address is for the page /sql only.", 403)
        try:
            sql, form = await _asked(request)
        except BadInput as error:
            return _problem(error.detail or error.reason, 400)
        if not form.file:
            return await self._answered(request, lambda: self._table(sql))
        return await self._saved(request, sql, form)

    async def _table(self, sql: str) -> bytes:
        return await whole(await self._door.run(sql, FORMS["table"]), TABLE_BYTES_MAX)

    async def _answered(self, request: Request, ask: Callable[[], Awaitable[bytes]]) -> Response:
        begun_s = time.monotonic()
        if not self._is_open:
            return _problem("This page is closed.", 403)
        try:
            content = await _while_there(request, ask())
        except (BadInput, Unavailable) as error:
            self._note(request, begun_s, type(error).__name__)
            return _failed(error)
        self._note(request, begun_s, "ok")
        headers = {"cache-control": "no-store", "x-rows-shown-max": str(ROWS_SHOWN_MAX)}
        return Response(content, media_type="application/json", headers=headers)

    async def _saved(self, request: Request, sql: str, form: Any) -> Response:
        begun_s = time.monotonic()
        if not self._is_open:
            return _problem("This page is closed.", 403)
        try:
            result = await _while_there(request, self._door.run(sql, form))
        except (BadInput, Unavailable) as error:
            self._note(request, begun_s, type(error).__name__)
            return _failed(error)
        headers = {
            "cache-control": "no-store",
            "content-disposition": f'attachment; filename="{form.file}"',
        }
        pieces = (
            without_formulas(result.pieces()) if form.file.endswith(".csv") else result.pieces()
        )
        return Saved(
            result, pieces, lambda outcome: self._note(request, begun_s, outcome),
            media_type=form.content_type, headers=headers,
        )  # fmt: skip

    def _note(self, request: Request, begun_s: float, outcome: str) -> None:
        who = "this machine" if self._gate.open else self._gate.user(self._caller(request))
        log.info(
            "query of the page", operator=who, outcome=outcome,
            ms=round((time.monotonic() - begun_s) * 1000),
        )  # fmt: skip


class Saved(StreamingResponse):
    """A result on its way into a file; it is closed however the sending ends.

    Also when the sending ends before its first piece: a generator that was never begun runs nothing
    at its end.

    Args:
        result: to be closed.
        pieces: of it.
        note: called with the outcome, ``ok`` or ``cut``.
        given: as ``StreamingResponse`` takes it.
    """

    def __init__(
        self,
        result: Result,
        pieces: AsyncIterator[bytes],
        note: Callable[[str], None],
        **given: Any,
    ) -> None:
        super().__init__(pieces, **given)
        self._result = result
        self._note = note

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends it."""
        sent_all = False

        async def sending(message: Message) -> None:
            nonlocal sent_all
            await send(message)
            sent_all = message["type"] == "http.response.body" and not message.get("more_body")

        try:
            await super().__call__(scope, receive, sending)
        finally:
            await self._result.close()
            self._note("ok" if sent_all else "cut")


async def _asked(request: Request) -> tuple[str, Any]:
    """The query and the form of its result.

    Raises:
        BadInput: the body is not what the page sends.
    """
    if request.headers.get("content-type") != "application/json":
        raise BadInput("bad_body", "The body has to be JSON.")
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > BODY_BYTES_MAX:
            raise BadInput("too_large", f"The query is longer than {BODY_BYTES_MAX >> 10} KB.")
    try:
        document = orjson.loads(body)
        sql, form = document["sql"], FORMS[document["form"]]
    except (ValueError, TypeError, KeyError):
        raise BadInput("bad_body", "The body has to be a query and a form.") from None
    if not isinstance(sql, str) or not sql.strip():
        raise BadInput("bad_body", "There is no query.")
    return sql, form


async def _while_there(request: Request, work: Awaitable[Any]) -> Any:
    """The result of ``work``, which is cancelled when the reader goes away; the body was read."""
    task = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait((task, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Unavailable("nobody waits for it any more")
        return task.result()
    except asyncio.CancelledError:
        if task.done() and not task.cancelled() and isinstance(task.result(), Result):
            await task.result().close()
        raise
    finally:
        leaving.cancel()
        if not task.done():
            task.cancel()


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _failed(error: Exception) -> Response:
    if isinstance(error, BadInput):
        return _problem(error.detail or error.reason, 400)
    return _problem(str(error), 503)


def _problem(text: str, status: int) -> Response:
    headers = {"cache-control": "no-store"}
    return Response(orjson.dumps({"problem": text}), status, headers, "application/json")


def _starters() -> bytes:
    """The questions, in the order of their files."""
    found = []
    folder = files("analytics").joinpath("queries")
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        if file.name.endswith(".sql"):
            first, _, sql = file.read_text(encoding="utf-8").partition("\n")
            found.append({"question": first.removeprefix("-- "), "sql": sql.strip()})
    return orjson.dumps(found)


_CONTENT = f"""\
<div class="sql">
<section class="panel" aria-label="Query">
<h1>SQL</h1>
<label for="starter">A question to begin with</label>
<select id="starter"><option value="">Choose …</option></select>
<label for="editor">Query</label>
<textarea id="editor" rows="12" spellcheck="false" autocapitalize="off" autocomplete="off"
 aria-describedby="sql-hint"></textarea>
<p class="sub" id="sql-hint">Read-only. Ctrl+Enter runs it; the first {ROWS_SHOWN_MAX:,} rows are
shown, a download has all. In CSV, text that a spreadsheet would run as a formula has an apostrophe
before it; Parquet has it as it is.</p>
<p class="actions"><button id="run" class="primary">Run</button>
<button id="stop" disabled>Stop</button>
<button id="csv">CSV</button> <button id="parquet">Parquet</button>
<span id="state" role="status"></span></p>
<p class="problem" id="problem" role="alert" hidden></p>
<div id="chart"></div>
<div id="result" class="scroll" tabindex="0" role="region" aria-label="Result"></div>
</section>
<aside class="panel" aria-label="Tables and views"><h2>Tables and views</h2>
<label for="filter">Find a name</label><input id="filter" type="search" autocomplete="off">
<div id="schema"><p>Loading …</p></div></aside>
</div>
<noscript><p>This page needs JavaScript.</p></noscript>"""
