"""A request's proof, and what is made of the request once it is proven.

Laws of this file:
1. The order is: decoding, proof, shape, parse; where the proof lies in the body its shape comes
   first.
2. Bodies over ``THREAD_BYTES`` are worked on in a thread, one at a time, so that one large request
   does not hold up the small ones.
3. A provider module that fails has proven nothing.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import structlog

from ingest.body import VALUES_PER_EVENT_MAX, BodyLimits, check_shape, decode_content
from ingest.call import Header
from ingest.certificates import Outgoing
from ingest.intake import Intake, Taken
from ingest.providers.base import NeedsCertificate, Provider, Request, SignatureError
from ingest.turns import Turns
from schemas.errors import Unavailable
from schemas.serving.origin import Networks
from schemas.settings import Settings, Source

THREAD_BYTES = 131_072
_CERTIFICATES_PER_REQUEST_MAX = 2


@dataclass(frozen=True, slots=True)
class Hook:
    """A source, ready to be asked."""

    source: Source
    provider: Provider
    allowed: Networks
    challenge: tuple[Header, ...]
    """``WWW-Authenticate`` for sources that use basic authentication (SNS asks for it first)."""


class Prover:
    """Proves requests and parses them.

    Args:
        settings: limits.
        intake: makes parcels.
        outgoing: fetches certificates.
        clock: monotonic seconds.
    """

    def __init__(
        self, settings: Settings, intake: Intake, outgoing: Outgoing, clock: Callable[[], float]
    ) -> None:
        self._intake = intake
        self._outgoing = outgoing
        self._clock = clock
        self._limits = BodyLimits(
            settings.decompressed_bytes_max,
            settings.decompression_ratio_max,
            settings.json_depth_max,
            settings.events_per_request_max * VALUES_PER_EVENT_MAX,
        )
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="large-body")
        self._turns = Turns()
        self._log = structlog.get_logger("mailpulse.ingest")

    def close(self) -> None:
        """Lets go of the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def proven(
        self, hook: Hook, request: Request, coding: str | None, now: float, deadline: float
    ) -> Taken:
        """The parcel of a request, once it is proven; made in a thread when it is large.

        Args:
            request: its body as it came.
            coding: of the body, as ``content_coding`` gives it.
            now: seconds since 1970.
            deadline: by the clock.

        Raises:
            Refused, SignatureError, Unavailable: as the steps do.
        """
        for _ in range(_CERTIFICATES_PER_REQUEST_MAX):
            try:
                if len(request.body) < THREAD_BYTES and coding is None:
                    await self._turns.take(len(request.body))
                    return self._work(hook, request, coding, now)
                async with asyncio.timeout(deadline - self._clock()):
                    return await asyncio.get_running_loop().run_in_executor(
                        self._thread, self._work, hook, request, coding, now
                    )
            except NeedsCertificate as needed:
                await self._outgoing.fetch_certificate(needed.url)
            except TimeoutError:
                raise Unavailable("large bodies are waiting") from None
        raise SignatureError("certificate")

    def _work(self, hook: Hook, request: Request, coding: str | None, now: float) -> Taken:
        """Decodes, verifies, parses and encodes: what needs the processor and no I/O.

        Raises:
            Refused, SignatureError, NeedsCertificate: as the steps do.
        """
        if coding is not None:
            body = decode_content(request.body, coding, self._limits)
            request = Request(
                request.method, request.query, request.headers, body, request.client_ip
            )
        if hook.provider.reads_body:
            check_shape(request.body, self._limits)
        self._prove(hook, request, now)
        if not hook.provider.reads_body:
            check_shape(request.body, self._limits)
        return self._intake.take(hook.provider, hook.source, request, int(now * 1_000_000))

    def _prove(self, hook: Hook, request: Request, now: float) -> None:
        try:
            hook.provider.verify(request, hook.source, now, self._outgoing.certificates)
        except (SignatureError, NeedsCertificate):
            raise
        except Exception as error:  # law 3
            self._log.error("provider_module_failed", source=hook.source.name, exc_info=error)
            raise SignatureError("module_failed") from None
