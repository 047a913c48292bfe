"""The dashboard's ASGI application.

Invariants:
1. Every answer has the headers of ``access.HEADERS``. Only health and the sign-in page are answered
   without the consent of ``access.Gate``. Of cross-site requests only links to pages are answered
   (``schemas.serving.sites``).
2. Every page, document, stream and CSV of a view uses the same ``Hub``.
3. A page's URL reproduces the view; it contains campaign ids but never recipients.
4. A request's path is ``scope["path"]``: ``request.url`` depends on the Host header, which the
   client chooses.
"""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any
from urllib.parse import parse_qs, quote

import orjson
import structlog
from sse_starlette import EventSourceResponse
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from analytics.dashboard import access, csv_tables, html, period, steps
from analytics.dashboard.access import Caller, Gate
from analytics.dashboard.asking import Asker, Query
from analytics.dashboard.comparison import CHOSEN_MAX
from analytics.dashboard.documents import AlertLines, Documents
from analytics.dashboard.examples import Examples
from analytics.dashboard.figures import wording
from analytics.dashboard.hub import Hub, Snapshot, View
from analytics.dashboard.look_up import LookUp
from analytics.dashboard.parquet import parquet
from analytics.dashboard.sql.asking import DoorClient
from analytics.dashboard.sql.page import SqlPage
from analytics.dashboard.topic_pages import Docs
from schemas.errors import BadInput, Unavailable
from schemas.serving.sites import SameSite
from schemas.settings import Settings

log = structlog.get_logger("mailpulse.dashboard")

PING_S = 15
FORM_BYTES_MAX = 4_096
_ZONED = ("overview", "campaign", "deliverability", "audience")
"""Pages with charts of time: they are cut in a time zone."""
_NAME_CHARS_MAX = 2_000
"""Longest name of a campaign or key in an address, characters."""
_PAGES = tuple(path for path, _ in (*html.PAGES.values(), *html.OTHERS.values()))
_OPEN_PATHS = ("/livez", "/readyz", "/login")
PipelineRead = Callable[[], Awaitable[dict[str, Any]]]
Samples = Callable[[], list[dict[str, Any]]]
SendTest = Callable[[str], Awaitable[dict[str, Any]]]


async def _no_pipeline() -> dict[str, Any]:
    return {
        "topics": [], "lags": [], "kafka_trouble": "", "requests": [], "metrics_known": False,
        "metrics_trouble": "", "captures": [], "destinations": [], "tries": [],
        "deliver_known": False, "deliver_trouble": "",
    }  # fmt: skip


async def _no_test(_name: str) -> dict[str, Any]:
    return {"delivered": False, "said": "MAILPULSE_DASHBOARD_DELIVER_URLS is not set"}


def _no_lines(_campaign: str) -> dict[str, list[float]]:
    return {}


def create_app(
    settings: Settings,
    query: Query,
    *,
    wall: Callable[[], float],
    sources: Mapping[str, str] | None = None,
    pipeline: PipelineRead = _no_pipeline,
    lines: AlertLines = _no_lines,
    send_test: SendTest = _no_test,
    door: DoorClient | None = None,
    samples: Samples = list,
) -> Starlette:
    """The application.

    Args:
        settings: ``dashboard_*``, and how recipients are stored.
        query: runs queries; see ``analytics.dashboard.asking``.
        wall: returns seconds since 1970.
        sources: name -> provider of the configured sources, shown while there are no events.
        pipeline: reads Kafka and the roles' metrics, for the pipeline page.
        lines: returns the alert lines of a campaign, for its charts.
        send_test: has a test sent to a destination, by its name.
        door: answers the queries of the page ``/sql``; default: at ``clickhouse_dsn``.
        samples: returns lag and latency of the last hours (``sampling.Sampler.samples``).

    Raises:
        ConfigError: it would be open to the network.
    """
    access.check(settings)
    gate = Gate(settings, wall)
    asker, whole = Asker(query), settings.dashboard_show_recipients
    documents = Documents(asker, wall, whole, sources or {}, pipeline, lines, samples)
    examples = Examples(asker, wall, whole)
    hub = Hub(documents.build, settings.dashboard_interval_ms / 1000, wall)
    pages = Pages(gate, hub, settings.dashboard_viewers_max)
    look_up = LookUp(settings, gate, query, wall)

    static = StaticFiles(packages=[("analytics.dashboard", "static")])
    app = Starlette(
        routes=[
            Route("/api/examples", partial(_examples, examples)),
            *pages.routes(),
            *_of_developers(settings, gate, door),
            Route(
                "/api/destinations/{name}/test",
                partial(_tested, gate, send_test),
                methods=["POST"],
            ),
            Route(html.LOOK_UP[0], partial(_looked_up, look_up), methods=["GET", "POST"]),
            Mount("/static", static),
        ],
        exception_handlers={BadInput: _bad_input},
    )
    app.add_middleware(Guard, gate=gate)
    app.add_middleware(SameSite, sites=access.sites(settings, [*_PAGES, "/login"]))
    app.state.hub = hub
    return app


def _of_developers(settings: Settings, gate: Gate, door: DoorClient | None) -> list[Route]:
    """The pages of queries and of topics."""
    sql = SqlPage(
        door or DoorClient(settings.clickhouse_dsn.get_secret_value()), gate,
        shows_recipients=settings.dashboard_show_recipients, caller=_caller,
    )  # fmt: skip
    return [*sql.routes(), *Docs(gate.has_token).routes()]


def _bad_input(_request: Request, error: Exception) -> Response:
    assert isinstance(error, BadInput)
    document = {"type": "about:blank", "title": error.reason, "status": 400, "detail": error.detail}
    return Response(orjson.dumps(document), 400, media_type="application/problem+json")


async def _examples(examples: Examples, request: Request) -> Response:
    """Examples of one verdict, as JSON; 503 if the database does not answer."""
    try:
        answer = await examples.of(request.query_params)
    except Unavailable as error:
        return PlainTextResponse(f"{error}\n", 503)
    return _json(answer, 200)


async def _tested(gate: Gate, send_test: SendTest, request: Request) -> Response:
    """Has a test sent to a destination; the log says who asked for it."""
    name = request.path_params["name"]
    who = "this machine" if gate.open else gate.user(_caller(request))
    log.info("test asked for", operator=who, destination=name)
    return _json(await send_test(name), 200)


async def _looked_up(look_up: LookUp, request: Request) -> Response:
    """The page on which a recipient is looked up, and the answer to its form."""
    form = await _form(request) if request.method == "POST" else None
    return await look_up.answer(_caller(request), form)


def _json(document: Mapping[str, Any], status: int) -> Response:
    headers = {"cache-control": "no-store"}
    return Response(orjson.dumps(document), status, headers, "application/json")


class Guard:
    """ASGI middleware: invariant 1 of this file."""

    def __init__(self, app: ASGIApp, gate: Gate) -> None:
        self._app = app
        self._gate = gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuses the request or passes it on, and adds the headers to the answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in access.HEADERS.items():
                    headers[name] = value
                if "cache-control" not in headers:
                    headers["cache-control"] = "private, no-cache"
            await send(message)

        answer = self._judged(Request(scope))
        await (answer or self._app)(scope, receive, with_headers)

    def _judged(self, request: Request) -> Response | None:
        """The answer to a request that is not let in; ``None`` to one that is."""
        caller, path = _caller(request), request.scope["path"]
        refusal = self._gate.refusal(caller)
        if refusal:
            return HTMLResponse(html.refused(refusal), 403)
        if path in _OPEN_PATHS or path.startswith("/static/") or self._gate.allows(caller):
            return None
        if path in _PAGES:
            asked = request.scope["query_string"].decode("latin-1")
            query = f"?{asked}" if asked else ""
            return RedirectResponse(f"/login?next={quote(path + query)}", 303)
        return PlainTextResponse("sign in first\n", 401, headers={"www-authenticate": "Bearer"})


def _caller(request: Request) -> Caller:
    peer = request.client.host if request.client else ""
    headers: dict[str, str] = {}
    for name, value in request.headers.items():  # one pass: a client may send many
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    return Caller(peer, headers, request.cookies, request.scope["scheme"])


def _view(request: Request) -> View:
    page, asked = request.path_params["page"], request.query_params
    name = asked.get("period") or period.DEFAULT
    if page not in html.PAGES:
        raise BadInput("no_such_page", f"one of {', '.join(html.PAGES)}")
    zone = asked.get("zone") or steps.ZONE_DEFAULT if page in _ZONED else "UTC"
    # what is invalid is refused before the hub keeps a view for it
    period.parse(name, 2e9)
    steps.zone_of(zone)
    campaign = _name(asked.get("campaign", "")) if page == "campaign" else ""
    if page == "compare":
        chosen = tuple(dict.fromkeys(map(_name, asked.getlist("c"))))
        if len(chosen) > CHOSEN_MAX:
            raise BadInput("too_many_campaigns", f"at most {CHOSEN_MAX} can be compared")
        return View(
            page, period.DEFAULT, "", zone, chosen, _age(asked), _name(asked.get("key", ""))
        )
    if page == "audience" and "campaign" in asked:
        return View(page, name, "", zone, (_name(asked["campaign"]),))
    return View(page, name, campaign, zone)


def _name(text: str) -> str:
    """A campaign or a key of an address."""
    if len(text) > _NAME_CHARS_MAX:
        raise BadInput("bad_campaign", f"longer than {_NAME_CHARS_MAX} characters")
    return text


def _age(asked: Mapping[str, str]) -> int:
    text = asked.get("age", "") or "0"
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise BadInput("bad_age", "age: whole seconds since the delivery")
    return int(text)


class Pages:
    """The endpoints."""

    def __init__(self, gate: Gate, hub: Hub, viewers_max: int) -> None:
        self._gate = gate
        self._hub = hub
        self._viewers_max = viewers_max
        self._wording = orjson.dumps(wording())

    def routes(self) -> list[Route]:
        """Where they are."""
        return [
            *(Route(path, self.page, name=name) for name, (path, _) in html.PAGES.items()),
            Route("/api/wording", self.wording),
            Route("/api/{page}", self.document),
            Route("/live/{page}", self.live),
            Route("/csv/{page}/{table}.csv", self.table),
            Route("/parquet/{page}/{table}.parquet", self.parquet),
            Route("/login", self.login, methods=["GET", "POST"]),
            Route("/logout", self.logout, methods=["POST"]),
            Route("/livez", self.livez),
            Route("/readyz", self.livez),
        ]

    async def page(self, request: Request) -> Response:
        """The HTML of a page, without its contents."""
        name = next(n for n, (path, _) in html.PAGES.items() if path == request.scope["path"])
        return HTMLResponse(html.shell(name, self._gate.has_token))

    async def wording(self, _request: Request) -> Response:
        """Names and definitions of every figure."""
        return Response(self._wording, media_type="application/json")

    async def document(self, request: Request) -> Response:
        """A view's document, as JSON; 304 if the browser has it."""
        snapshot = await self._hub.snapshot(_view(request))
        headers = {
            "etag": f'"{snapshot.version}"',
            "vary": "accept-encoding",
            "x-now-ms": str(self._hub.now_ms()),
            "x-built-ms": str(snapshot.built_ms),
            "x-interval-ms": str(self._hub.interval_ms),
            "x-trouble": quote(snapshot.trouble),
        }
        if snapshot.document is None:
            return Response(status_code=503, headers=headers)
        if request.headers.get("if-none-match") == headers["etag"]:
            return Response(status_code=304, headers=headers)
        body = snapshot.body
        if "gzip" in request.headers.get("accept-encoding", ""):
            body, headers["content-encoding"] = snapshot.packed, "gzip"
        return Response(body, media_type="application/json", headers=headers)

    async def live(self, request: Request) -> Response:
        """Server-sent events: one per build of the view, with its version, and one each
        second."""
        view = _view(request)
        if self._hub.viewers >= self._viewers_max:
            return PlainTextResponse("too many live connections\n", 503)

        async def ticks() -> Any:
            async with self._hub.watching(view) as snapshots:
                async for snapshot in snapshots:
                    yield {"event": "tick", "data": self._hub.tick(snapshot).decode()}

        return EventSourceResponse(ticks(), ping=PING_S, headers={"cache-control": "no-store"})

    async def table(self, request: Request) -> Response:
        """A table of a view as CSV."""
        snapshot: Snapshot = await self._hub.snapshot(_view(request))
        if snapshot.document is None:
            return PlainTextResponse(f"{snapshot.trouble}\n", 503)
        table = request.path_params["table"]
        text = csv_tables.csv_of(snapshot.document, table, request.query_params.get("q", ""))
        return Response(
            text.encode(),
            media_type="text/csv; charset=utf-8",
            headers={"content-disposition": f'attachment; filename="mailpulse-{table}.csv"'},
        )

    async def parquet(self, request: Request) -> Response:
        """The same table as Parquet."""
        snapshot: Snapshot = await self._hub.snapshot(_view(request))
        if snapshot.document is None:
            return PlainTextResponse(f"{snapshot.trouble}\n", 503)
        table = request.path_params["table"]
        wished = request.query_params.get("q", "")
        names, *rows = csv_tables.table_of(snapshot.document, table, wished)
        return Response(
            parquet(names, rows),
            media_type="application/vnd.apache.parquet",
            headers={"content-disposition": f'attachment; filename="mailpulse-{table}.parquet"'},
        )

    async def login(self, request: Request) -> Response:
        """The sign-in page and the submission of its form."""
        if request.method != "POST":  # GET, or HEAD, which Starlette adds
            return self._login_page(request.query_params.get("next", "/"), "", 200)
        form = await _form(request)
        caller = _caller(request)
        goes_to = form.get("next", "/")
        if self._gate.is_slowed(caller):
            return self._login_page(goes_to, "Too many tries. Wait a minute.", 429)
        if not self._gate.is_token(form.get("token", "").strip(), caller):
            return self._login_page(goes_to, "That is not the token.", 403)
        value, seconds = self._gate.session()
        answer = RedirectResponse(self._local(goes_to), 303)
        self._set_cookie(answer, caller, value, seconds)
        return answer

    def _set_cookie(self, answer: Response, caller: Caller, value: str, seconds: int) -> None:
        secure = self._gate.origin(caller).https
        answer.set_cookie(
            self._gate.cookie(caller), value, max_age=seconds, httponly=True, samesite="lax",
            secure=secure,
        )  # fmt: skip

    def _login_page(self, goes_to: str, problem: str, status: int) -> Response:
        page = html.login(self._local(goes_to), problem, self._gate.has_token)
        return HTMLResponse(page, status, headers={"cache-control": "no-store"})

    @staticmethod
    def _local(wished: str) -> str:
        return access.local_path(wished, _PAGES)

    async def logout(self, request: Request) -> Response:
        """Ends the session of this browser."""
        answer = RedirectResponse("/login", 303)
        self._set_cookie(answer, _caller(request), "", 0)
        return answer

    async def livez(self, _request: Request) -> Response:
        """Answers 200 while the event loop runs."""
        return PlainTextResponse("ok\n")


async def _form(request: Request) -> dict[str, str]:
    """The fields of a URL-encoded form.

    Raises:
        BadInput: it is larger than ``FORM_BYTES_MAX``.
    """
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > FORM_BYTES_MAX:
            raise BadInput("too_large", "a sign-in form is small")
    fields = parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True)
    return {name: values[-1] for name, values in fields.items()}
