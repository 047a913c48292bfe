"""The front door as a Starlette app: its parts put together, and the pages beside the hooks.

Invariants:
1. ``create_app`` opens no connection: the lifespan does, and it does not wait for Kafka, so an
   ingress with a spool accepts events from its first second.
2. All other paths are answered by the routes below, errors as problem documents.
"""

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Lifespan, Receive, Scope, Send

from ingest.capture_feed import Feed
from ingest.certificates import Outgoing
from ingest.counting import Counting, KafkaTopic, Topic
from ingest.delivery import Keeper
from ingest.hook import PREFIX, Hooks, make_hooks
from ingest.intake import Intake
from ingest.metrics import CONTENT_TYPE, IngestMetrics
from ingest.openapi import document
from ingest.pages import Pages
from ingest.problems import DETAILS, MEDIA_TYPE, problem
from ingest.producer import Log, Producer
from ingest.providers.base import Registry
from ingest.rate_limits import RateLimits, SharedCount, StoreCount
from ingest.spool import Spool
from schemas.codec import Codec
from schemas.recipient_hash import mode_mark
from schemas.serving.origin import FORWARDED, Address, Networks, address_of, origin_of
from schemas.serving.sites import SameSite, Sites
from schemas.settings import Settings, Source
from schemas.trace import Tracer


class IngestApp(Starlette):
    """Starlette with the hooks in front.

    Requests under ``/hooks/`` go to their endpoint directly: routing and the exception middleware
    would cost about as much as reading the request, and the endpoint handles its own errors.
    """

    hooks: ASGIApp
    pages: ASGIApp
    metrics: IngestMetrics
    keeper: Keeper

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ``Starlette``."""
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
        elif scope["path"].startswith(PREFIX):
            await self.hooks(scope, receive, send)
        else:
            await self.pages(scope, receive, send)


def create_app(
    settings: Settings,
    sources: Mapping[str, Source],
    *,
    codec: Codec | None = None,
    registry: Registry | None = None,
    log: Log | None = None,
    outgoing: Outgoing | None = None,
    shared: SharedCount | None = None,
    counts_topic: Topic | None = None,
    pages: Sequence[BaseRoute] = (),
    tracer: Tracer | None = None,
    now: Callable[[], float] = time.time,
    clock: Callable[[], float] = time.monotonic,
) -> IngestApp:
    """The app.

    Args:
        settings: see ``IngestSettings``.
        sources: source's name -> source.
        codec: schema ids; by default the fixed ones.
        registry: providers; by default all of ``ingest.providers``.
        log: where events are stored; by default Kafka.
        outgoing: requests that providers' protocols require; by default over the network.
        shared: shared rate-limit counts; by default by the ``rate_limit_url`` setting.
        counts_topic: gets counts of requests; by default Kafka, or nothing if a ``log`` is given.
        pages: further routes to serve beside the hooks.
        tracer: records spans; by default none.
        now: seconds since 1970.
        clock: monotonic seconds.

    Raises:
        KeyError: a source names a provider that does not exist (see ``check_sources``).
    """
    registry = registry or _all_providers()
    metrics = IngestMetrics(sources)
    codec = codec or Codec()
    if counts_topic is None and log is None:
        counts_topic = KafkaTopic(settings, codec)
    log = log or Producer(settings, metrics, clock)
    keeper = Keeper(log, _spool(settings, metrics), settings.ack_timeout_ms / 1000, metrics, clock)
    outgoing = outgoing or Outgoing(clock)
    if shared is None and settings.rate_limit_url.get_secret_value():
        shared = StoreCount(settings.rate_limit_url.get_secret_value(), now)
    limits = _limits(settings, sources, shared, metrics, clock)
    key = settings.recipient_hash_key.get_secret_value().encode()
    counting = Counting(counts_topic, mode_mark(settings.recipients, key), now, clock)
    feed = Feed(settings.data_dir, sources, metrics, now)
    hooks = Hooks(
        settings, make_hooks(sources, registry), Intake(settings, codec), keeper,
        outgoing, limits, metrics, now, clock, feed, counting, tracer,
    )  # fmt: skip

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        await keeper.start()
        feed.start()
        counting.start()
        try:
            yield
        finally:
            await feed.stop()
            await counting.stop()
            await keeper.stop()
            await outgoing.close()
            hooks.close()

    app = _make_app(keeper, log, metrics, settings, pages, lifespan)
    app.hooks = hooks
    return app


def _limits(
    settings: Settings,
    sources: Mapping[str, Source],
    shared: SharedCount | None,
    metrics: IngestMetrics,
    clock: Callable[[], float],
) -> RateLimits:
    return RateLimits(
        settings.rate_per_s, {name: one.rate_per_s for name, one in sources.items()}, clock, shared,
        lambda error: metrics.rate_store_failures.inc(), settings.unproven_rate_per_s,
    )  # fmt: skip


def _make_app(
    keeper: Keeper,
    log: Log,
    metrics: IngestMetrics,
    settings: Settings,
    pages: Sequence[BaseRoute],
    lifespan: Lifespan[IngestApp],
) -> IngestApp:
    app = IngestApp(
        routes=[*_routes(keeper, log, metrics, settings), *pages],
        exception_handlers={HTTPException: _problem, Exception: _problem},
        lifespan=lifespan,
    )
    app.add_middleware(SameSite, sites=_sites(settings))  # hooks prove themselves
    app.metrics, app.keeper = metrics, keeper
    app.pages = Pages(super(IngestApp, app).__call__, settings.body_timeout_ms)
    return app


def _spool(settings: Settings, metrics: IngestMetrics) -> Spool | None:
    if settings.spool_dir is None:
        return None
    damaged = metrics.spool_damaged_bytes.inc
    return Spool(settings.spool_dir, settings.spool_bytes_max, on_damage=damaged)


def _sites(settings: Settings) -> Sites:
    """Host names that the pages answer to; behind a proxy any, since it may pass on its own."""
    if settings.trusted_proxies:
        return Sites(any_name=True)
    return Sites.of_listener(settings.ingest_host, open_=True)


def _all_providers() -> Registry:
    from ingest.providers import REGISTRY

    return REGISTRY


def _routes(keeper: Keeper, log: Log, metrics: IngestMetrics, settings: Settings) -> list[Route]:
    may_read_metrics = Networks(settings.metrics_allow_ips)
    trusted = Networks(settings.trusted_proxies)
    described = orjson.dumps(document(version("mailpulse")))
    if isinstance(log, Producer):
        metrics.inflight_events.set_function(lambda: float(log.waiting()[0]))
        metrics.inflight_bytes.set_function(lambda: float(log.waiting()[1]))

    async def live(request: Request) -> Response:
        return _json({"live": True})

    async def ready(request: Request) -> Response:
        ready = keeper.ready
        content = {"ready": ready, "kafka": log.up, "spooled_bytes": keeper.spooled_bytes}
        return _json(content, 200 if ready else 503)

    async def exposition(request: Request) -> Response:
        if _asker(request, trusted) not in may_read_metrics:
            raise HTTPException(404)
        return Response(metrics.exposition(), media_type=CONTENT_TYPE.decode())

    async def openapi(request: Request) -> Response:
        return Response(described, media_type="application/json")

    pages = {"/livez": live, "/readyz": ready, "/metrics": exposition, "/openapi.json": openapi}
    return [Route(path, page, methods=["GET"]) for path, page in pages.items()]


def _asker(request: Request, trusted: Networks) -> Address | None:
    """The client that requests a page; ``None`` behind a proxy that is not trusted.

    The peer of the socket does not count: it may be a proxy whose own address has access.
    """
    peer = request.client.host if request.client else ""
    if address_of(peer) not in trusted:
        return None if any(name in request.headers for name in FORWARDED) else address_of(peer)
    chain = ",".join(request.headers.getlist("x-forwarded-for"))
    return origin_of(peer, "http", chain, "", trusted).address


def _json(content: Mapping[str, object], status: int = 200) -> Response:
    return Response(orjson.dumps(content), status, media_type="application/json")


_CODES = {404: "not_found", 405: "method_not_allowed"}


async def _problem(request: Request, error: Exception) -> Response:
    """Any error of a page as a problem document."""
    status, headers = 500, None
    if isinstance(error, HTTPException):
        status, headers = error.status_code, error.headers
    code = _CODES.get(status, "internal")
    assert code in DETAILS
    return Response(problem(status, code), status, headers, media_type=MEDIA_TYPE.decode())
