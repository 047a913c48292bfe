"""Proves a request, parses it and encodes its records.

Invariants:
1. Bodies over ``THREAD_BYTES``, and those with a content coding, are worked on in a thread, so that
   one large request does not hold up the small ones. The thread's time is shared fairly among the
   clients of each source, so a flood of unproven bodies does not keep others from it.
2. If a provider module fails, the request is not proven.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from ingest.body import VALUES_PER_EVENT_MAX, BodyLimits, Refused
from ingest.certificates import Outgoing
from ingest.exchange import Header
from ingest.fair_queue import Turns
from ingest.fair_thread import FairThread
from ingest.intake import Intake, Taken
from ingest.proof import prove
from ingest.providers.base import Provider, Request
from ingest.verify import NeedsCertificate, SignatureError
from schemas.serving.origin import Networks
from schemas.settings import Settings, Source

THREAD_BYTES = 131_072
MODULE_FAILED = "module_failed"
"""Code of a ``SignatureError`` whose cause is an error in a provider module."""
_CERTIFICATES_PER_REQUEST_MAX = 2


@dataclass(frozen=True, slots=True)
class Hook:
    """A source with its provider and what was derived from its settings."""

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
        self._thread = FairThread()
        self._turns = Turns()

    def close(self) -> None:
        """Ends the thread."""
        self._thread.close()

    async def proven(
        self,
        hook: Hook,
        request: Request,
        coding: str | None,
        client: str,
        now: float,
        deadline: float,
    ) -> Taken:
        """The parcel of a request, once it is proven; made in a thread when it is large.

        Args:
            request: its body as received.
            coding: of the body, as ``content_coding`` gives it.
            client: the thread's time is counted for it, see ``origin.client_key``.
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
                work = partial(self._work, hook, request, coding, now)
                left_s = deadline - self._clock()
                return await self._thread.run(f"{hook.source.name} {client}", work, left_s)
            except NeedsCertificate as needed:
                await self._outgoing.fetch_certificate(needed.url)
        raise SignatureError("certificate")

    def _work(self, hook: Hook, request: Request, coding: str | None, now: float) -> Taken:
        """Proves, parses and encodes: all the work without I/O.

        Raises:
            Refused, SignatureError, NeedsCertificate: as the steps do.
        """
        provider, source = hook.provider, hook.source
        try:
            proven = prove(
                provider, source, request, coding, self._limits, now, self._outgoing.certificates
            )
        except (Refused, SignatureError, NeedsCertificate):
            raise
        except Exception as error:  # invariant 2
            raise SignatureError(MODULE_FAILED) from error
        try:
            taken = self._intake.take(provider, source, proven.request, int(now * 1_000_000))
        except Refused as refused:
            refused.proven = not proven.by_anyone
            raise
        return replace(taken, by_anyone=True) if proven.by_anyone else taken
