"""``/hooks/{source}``: handles a request from its headers to its answer.

Invariants:
1. 200 means kept: it is sent only after ``Keeper.keep`` returned.
2. The order is: scheme, source, address, the client's budget, size, proof (``ingest/proof.py``),
   rate, parse, keep. A refused request costs no more than the steps up to its refusal.
3. An answer depends on the result only (``ingest.problems``); the log and the metrics give the
   reason.
4. A log line for each request that is kept, of many a sample with counts
   (``ingest/accepted_lines.py``); for refusals of one kind, one a minute with their count. A line
   contains no secret, header or body, and recipients only if the setting asks for them.
5. An internal error is answered so that the provider sends again, and logged with its traceback.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import structlog
from starlette.types import Receive, Scope, Send

from ingest.accepted_lines import AcceptedLines
from ingest.body import Refused, content_coding
from ingest.body_memory import Bodies, Holding, NoRoom
from ingest.capture_feed import Feed
from ingest.certificates import Outgoing
from ingest.counting import Counting
from ingest.delivery import Keeper
from ingest.exchange import Call
from ingest.intake import Intake, Taken
from ingest.metrics import IngestMetrics
from ingest.producer import Overloaded
from ingest.prover import MODULE_FAILED, Hook, Prover
from ingest.providers.base import Registry, Request
from ingest.published import networks_of
from ingest.rate_limits import RateLimits
from ingest.receiving import PROVEN, WHOLE, Disconnected, read_within
from ingest.sparing_log import SparingLog
from ingest.verify import SignatureError
from schemas import trace
from schemas.errors import Unavailable
from schemas.serving.origin import Networks, Origin, came_over_a_network, origin_of, why_unsafe
from schemas.settings import Settings, Source
from schemas.trace import Tracer

PREFIX = "/hooks/"
FREE_BYTES = 16_384
"""Bytes of a body that do not count against the budget of all bodies, so that small requests are
accepted while large or slow ones use it up."""
RETRY_AFTER_S = 5
_NOT_COUNTED = ("overloaded", "unavailable", "rate_limited", "forbidden")
"""Results that do not count as an unproven attempt: our own failures, and earlier refusals."""
Headers = tuple[tuple[str, str], ...]
"""Names in lower case, as in ``Request``."""


def make_hooks(sources: Mapping[str, Source], registry: Registry) -> dict[str, Hook]:
    """Each source with its provider.

    Raises:
        KeyError: a source names a provider that does not exist (see ``check_sources``).
    """
    return {
        name: Hook(
            source=source,
            provider=registry[source.provider],
            allowed=Networks(networks_of(source)),
            challenge=((b"www-authenticate", b'Basic realm="hooks"'),) if source.username else (),
        )
        for name, source in sources.items()
    }


def _rest_of(path: str) -> str:
    """What follows ``/hooks/SOURCE/``."""
    return path[len(PREFIX) :].partition("/")[2].removesuffix("/")


class Hooks:
    """The ASGI endpoint of all sources.

    Args:
        settings: limits.
        hooks: source's name -> hook.
        intake: makes parcels.
        keeper: stores them.
        outgoing: fetches certificates, confirms subscriptions.
        limits: rate limits.
        metrics: where results are counted.
        now: seconds since 1970.
        clock: monotonic seconds.
        feed: hands requests to a capture.
        counting: gets every result.
        tracer: records a span per request that is kept; none without one.
    """

    def __init__(
        self,
        settings: Settings,
        hooks: Mapping[str, Hook],
        intake: Intake,
        keeper: Keeper,
        outgoing: Outgoing,
        limits: RateLimits,
        metrics: IngestMetrics,
        now: Callable[[], float],
        clock: Callable[[], float],
        feed: Feed,
        counting: Counting,
        tracer: Tracer | None = None,
    ) -> None:
        self._feed = feed
        self._counting = counting
        self._settings = settings
        self._hooks = hooks
        self._keeper = keeper
        self._outgoing = outgoing
        self._limits = limits
        self._metrics = metrics
        self._now = now
        self._clock = clock
        self._tracer = tracer
        self._trusted = Networks(settings.trusted_proxies)
        self._bodies = Bodies(settings.bodies_bytes_max)
        self._log = structlog.get_logger("mailpulse.ingest").bind()  # once, not per line
        self._sparing_log = SparingLog("mailpulse.ingest", clock)
        self._accepted = AcceptedLines(settings.log_accepted_every)
        self._prover = Prover(settings, intake, outgoing, clock)
        metrics.body_bytes.set_function(lambda: float(self._bodies.used))

    def close(self) -> None:
        """Ends the thread, and logs the counts of requests that were not logged yet."""
        self._prover.close()
        for source, counts in self._accepted.rest():
            self._log.info("hook", source=source, result="accepted", **counts)
        self._sparing_log.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        started = self._clock()
        call = Call(scope, receive, send)
        try:
            await self._serve(call)
        except Disconnected:
            call.result = "disconnected"
        except Exception as error:  # invariant 5
            self._say_bug("hook_failed", call.source, error)
            hook = self._hooks.get(call.source)
            call.whole = True
            await call.refuse(503 if hook is None else hook.provider.overload_status, "internal")
        finally:
            if call.holding is not None and call.holding.size:
                self._bodies.give_back(call.holding)
        self._note(call, self._clock() - started)
        if call.source in self._feed.listening:
            self._offer(call)

    # --- the steps -------------------------------------------------------------------------------

    async def _serve(self, call: Call) -> None:
        scope = call.scope
        name = scope["path"][len(PREFIX) :].removesuffix("/")
        hook = self._hooks.get(name)
        if hook is None and "/" in name:  # the path goes on, with a token
            hook = self._hooks.get(name.partition("/")[0])
            if hook is not None and not hook.provider.reads_path:
                hook = None
        headers = tuple(
            [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
        )
        # the scheme comes first: a health check through the proxy knows no source's name
        origin = self._origin(scope, headers)
        call.source = "" if hook is None else hook.source.name
        if not (origin.https or self._settings.allow_http):
            peer = (scope.get("client") or [""])[0]
            if came_over_a_network(origin, peer, dict(headers), self._trusted):
                call.reason = why_unsafe(peer, self._trusted)
                return await call.refuse(403, "https_required")
        if hook is None:
            return await call.refuse(404, "not_found")
        call.client = origin.key
        await self._handle(call, hook, headers, origin)
        if self._limits.active and not call.proven and call.result not in _NOT_COUNTED:
            await self._limits.proves_nothing(call.source, call.client)

    async def _handle(self, call: Call, hook: Hook, headers: Headers, origin: Origin) -> None:
        """Answers a request to a known source."""
        method = call.scope["method"]
        try:
            await self._admit(call, hook, origin)
            if hook.source.unset:
                raise Unavailable("its secret is not set")
            if method == "POST":
                await self._take(call, hook, headers, origin)
            elif not await self._probe(call, hook, headers, origin):
                # Some providers send events by GET; these need a proof like any other.
                if method in hook.provider.methods:
                    await self._take(call, hook, headers, origin)
                else:
                    await call.refuse(404, "not_found")
        except Refused as refusal:
            if refusal.proven:
                self._proven(call)
                if self._limits.active:
                    await self._count_proven(call)
            await call.refuse(refusal.status, refusal.code)
        except SignatureError as error:
            if error.code == MODULE_FAILED:
                self._say_bug("provider_module_failed", call.source, error.__cause__)
            call.reason = error.code
            await call.refuse(401, "unauthorized", hook.challenge)
        except (Overloaded, NoRoom) as error:
            call.reason = str(error)
            await self._overloaded(call, hook, "overloaded")
        except Unavailable as error:
            call.reason = str(error)
            await self._overloaded(call, hook, "unavailable")

    async def _admit(self, call: Call, hook: Hook, origin: Origin) -> None:
        """Checks whether the client may try to prove a request.

        Raises:
            Refused: 403 or 429.
        """
        if hook.allowed and origin.address not in hook.allowed:
            raise Refused(403, "forbidden")
        if self._limits.active:
            verdict = await self._limits.may_try(call.source, call.client)
            if verdict is not None:
                call.headers += verdict.headers()
                raise Refused(429, "rate_limited")

    def _proven(self, call: Call) -> None:
        """Notes that the request is proven: its client and its connection are known from now on."""
        call.scope[PROVEN] = call.proven = True
        self._bodies.knows(call.client)

    async def _count_proven(self, call: Call) -> bool:
        """Counts a proven request against its source's rate; false if that is used up."""
        self._limits.proved(call.source, call.client)
        verdict = await self._limits.hit(call.source)
        if verdict is None:
            return True
        call.headers += verdict.headers()
        return verdict.allowed

    async def _take(self, call: Call, hook: Hook, headers: Headers, origin: Origin) -> None:
        """Reads, proves, parses, keeps, answers."""
        body, coding = await self._body(call, headers)
        now = self._now()
        deadline = self._clock() + self._settings.ack_timeout_ms / 1000
        query = call.scope["query_string"].decode("latin-1")
        path = _rest_of(call.scope["path"]) if hook.provider.reads_path else ""
        request = Request(call.scope["method"], query, headers, body, origin.client, path)
        if self._feed.listening:
            call.request = request
        taken = await self._prover.proven(hook, request, coding, call.client, now, deadline)
        if not taken.by_anyone:
            self._proven(call)
            if self._limits.active and not await self._count_proven(call):
                raise Refused(429, "rate_limited")
        call.taken = taken
        if taken.bug is not None:
            self._say_bug("provider_module_failed", call.source, taken.bug)
        if taken.parcel.count:
            remaining = max(0.01, deadline - self._clock())
            await self._keep(call, taken, headers, now, remaining)
        if taken.confirm is not None:
            self._outgoing.confirm(taken.confirm.url)
        call.result = "accepted"
        content = taken.answer or (
            b'{"accepted":%d,"rejected":%d}' % (taken.accepted, taken.rejected)
        )
        await call.answer(200, b"application/json", content)

    async def _keep(
        self, call: Call, taken: Taken, headers: Headers, now: float, remaining: float
    ) -> None:
        """Keeps the parcel, with the request's trace in its records.

        Raises:
            Unavailable, Overloaded: as ``Keeper.keep`` does.
        """
        parent = trace.traceparent(
            ",".join([value for name, value in headers if name == trace.TRACEPARENT])
        )
        if not parent and self._tracer is None:
            call.kept = await self._keeper.keep(taken.parcel, remaining)
            return
        figures: dict[str, str | int] = {
            "mailpulse.source": call.source,
            "mailpulse.events": taken.accepted,
        }
        with trace.span(
            self._tracer, f"POST {PREFIX}{call.source}", "server", parent=parent,
            attributes=figures, began_s=now,
        ) as call.trace:  # fmt: skip
            parcel = replace(taken.parcel, trace=call.trace)
            call.kept = await self._keeper.keep(parcel, remaining)

    async def _body(self, call: Call, headers: Headers) -> tuple[bytes, str | None]:
        """The body as sent, and its coding.

        Raises:
            Refused, Disconnected, NoRoom: as ``read_within`` does.
        """
        encoding: str | None = None
        length = 0
        for name, value in headers:
            if name == "content-length":
                # the parser leaves trailing blanks
                digits = value if value.isdigit() else value.rstrip(" \t")
                if not (digits.isascii() and digits.isdigit()):
                    raise Refused(400, "length_invalid")
                length = int(digits[:20])
            elif name == "content-encoding":
                encoding = value if encoding is None else f"{encoding},{value}"
        coding = None if encoding is None else content_coding(encoding)
        settings = self._settings
        if length > settings.body_bytes_max:
            raise Refused(413, "body_too_large")
        holding = call.holding = Holding(call.client)
        body = await read_within(
            call.receive, self._bodies, holding, settings.body_bytes_max,
            None if WHOLE in call.scope else settings.body_timeout_ms / 1000,
            length, FREE_BYTES,
        )  # fmt: skip
        call.whole = True
        return body, coding

    async def _probe(self, call: Call, hook: Hook, headers: Headers, origin: Origin) -> bool:
        """Answers a set-up call of the provider (HEAD, GET); false if it is not one."""
        method = call.scope["method"]
        if method not in ("GET", "HEAD"):
            await call.refuse(405, "method_not_allowed", ((b"allow", b"GET, HEAD, POST"),))
            return True
        query = call.scope["query_string"].decode("latin-1")
        request = Request(method, query, headers, b"", origin.client)
        status = hook.provider.probe(request, hook.source)
        if status is None:
            return False
        call.result = "probe"
        await call.answer(status, b"application/json", b"{}")
        return True

    def _offer(self, call: Call) -> None:
        """Hands an answered request to the capture of its source."""
        scope, request = call.scope, call.request
        whole = request is not None
        if request is None:  # refused before its body was read
            query = scope["query_string"].decode("latin-1")
            headers = tuple(
                [(k.decode("latin-1"), v.decode("latin-1")) for k, v in scope["headers"]]
            )
            request = Request(scope["method"], query, headers, b"", "", _rest_of(scope["path"]))
        code = call.reason if call.status == 401 else call.result
        self._feed.offer(
            call.source, request, received_at=self._now(), status=call.status, code=code,
            proven=call.proven, whole=whole,
        )  # fmt: skip

    # --- answers ---------------------------------------------------------------------------------

    async def _overloaded(self, call: Call, hook: Hook, code: str) -> None:
        """Answers 503, or the status that makes this provider try again."""
        retry = (b"retry-after", str(RETRY_AFTER_S).encode())
        await call.refuse(hook.provider.overload_status, code, (retry,))

    def _origin(self, scope: Scope, headers: Headers) -> Origin:
        peer = (scope.get("client") or [""])[0]
        forwarded_for = forwarded_proto = ""
        if self._trusted:
            forwarded_for = ",".join([v for k, v in headers if k == "x-forwarded-for"])
            forwarded_proto = ",".join([v for k, v in headers if k == "x-forwarded-proto"])
        return origin_of(peer, scope["scheme"], forwarded_for, forwarded_proto, self._trusted)

    def _say_bug(self, event: str, source: str, error: BaseException | None) -> None:
        """Logs an internal error with its traceback; rate-limited, for callers may cause it."""
        kind = {"source": source, "error": type(error).__name__}
        self._sparing_log.say("error", event, kind, exc_info=error)

    def _note(self, call: Call, seconds: float) -> None:
        """Invariant 4, and the metrics."""
        taken = call.taken
        kept = taken is not None and call.result == "accepted"
        events = taken.accepted if taken is not None and kept else 0
        self._metrics.request(call.source, call.result, seconds, events)
        dead_letters = taken.rejected if taken is not None else 0
        self._counting.count(call.source, call.result, call.reason, events, dead_letters)
        kind = {"source": call.source, "result": call.result}
        line: dict[str, object] = {
            "status": call.status,
            "events": events,
            "ms": round(seconds * 1000, 2),
        }
        if call.trace:
            line["trace"] = trace.trace_id(call.trace)
        if not kept or taken is None:
            # An overload's reason contains figures, so it can't be part of the kind.
            if call.reason:
                (kind if call.status == 401 else line)["reason"] = call.reason
            return self._sparing_log.say("info", "hook", kind, **line)
        odd = bool(taken.rejected or taken.note or call.kept == "spool")
        unlogged = self._accepted.line(call.source, events, self._clock(), always=odd)
        if unlogged is None:
            return
        line |= unlogged
        if taken.rejected:
            line["rejected"] = taken.rejected
            for reason in taken.reasons:
                self._metrics.dead_letters.labels(call.source, reason).inc()
        if taken.note:
            line["note"] = taken.note
        if call.kept == "spool":
            line["kept"] = call.kept
        if taken.recipients:
            line["recipients"] = taken.recipients
        self._log.info("hook", **kind, **line)
