"""Outgoing requests that a provider's protocol requires: fetching certificates, confirmations.

Invariants:
1. The provider module has checked the URL's host. Only HTTPS is used, redirects are not followed,
   and the answer is limited in time and bytes.
2. A certificate is fetched once and cached; requests that need the same one share the fetch.
   Unproven callers can cause these fetches, so failures are cached and concurrent fetches limited.
"""

import asyncio
from collections.abc import Callable
from urllib.parse import urlsplit

import httpx
import structlog

from ingest.sparing_log import SparingLog
from schemas.errors import Unavailable

FETCH_TIMEOUT_S = 1.5
CERTIFICATE_BYTES_MAX = 65_536
CERTIFICATES_MAX = 64
KEPT_S = 86_400.0
FAILURE_KEPT_S = 30.0
FETCHES_AT_ONCE_MAX = 4
CONFIRMATIONS_AT_ONCE_MAX = 16
_IDENTITY = {"accept-encoding": "identity"}


class Outgoing:
    """Fetches certificates and confirms subscriptions.

    Args:
        clock: monotonic seconds.
        transport: for tests; by default the network.
    """

    def __init__(
        self, clock: Callable[[], float], transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._clock = clock
        self._transport = transport
        self._client: httpx.AsyncClient | None = None
        self.certificates: dict[str, bytes] = {}
        self._fetched_at: dict[str, float] = {}
        self._failed_at: dict[str, float] = {}
        self._under_way: dict[str, asyncio.Task[bytes]] = {}
        self._confirming: set[asyncio.Task[None]] = set()
        self._log = structlog.get_logger("mailpulse.ingest.outgoing")
        self._sparing_log = SparingLog("mailpulse.ingest.outgoing", clock)

    async def close(self) -> None:
        """Cancels what is in progress."""
        tasks = [*self._under_way.values(), *self._confirming]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._sparing_log.close()
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def fetch_certificate(self, url: str) -> None:
        """Makes sure that ``certificates`` holds the one at ``url``.

        Raises:
            Unavailable: it can't be fetched right now.
        """
        now = self._clock()
        if url in self.certificates and now - self._fetched_at[url] < KEPT_S:
            return
        if now - self._failed_at.get(url, -FAILURE_KEPT_S) < FAILURE_KEPT_S:
            raise Unavailable("the certificate could not be fetched a moment ago")
        task = self._under_way.get(url)
        if task is None:
            if len(self._under_way) >= FETCHES_AT_ONCE_MAX:
                raise Unavailable("too many certificates are being fetched")
            task = self._under_way[url] = asyncio.create_task(self._get(url))
            task.add_done_callback(lambda done: self._fetched(url, done))
        try:
            await asyncio.shield(task)
        except (httpx.HTTPError, TimeoutError, ValueError) as error:
            raise Unavailable(f"certificate: {type(error).__name__}") from error

    def _fetched(self, url: str, task: asyncio.Task[bytes]) -> None:
        del self._under_way[url]
        now = self._clock()
        if task.cancelled():
            return
        if task.exception() is not None:
            kind = {"host": urlsplit(url).hostname or ""}
            self._sparing_log.say("warning", "certificate_not_fetched", kind)
            if len(self._failed_at) >= CERTIFICATES_MAX:
                self._failed_at.clear()
            self._failed_at[url] = now
            return
        if len(self.certificates) >= CERTIFICATES_MAX:
            oldest = min(self._fetched_at, key=self._fetched_at.__getitem__)
            del self.certificates[oldest], self._fetched_at[oldest]
        self.certificates[url] = task.result()
        self._fetched_at[url] = now

    def confirm(self, url: str) -> None:
        """Sends a GET to ``url`` in the background; if it fails, the sender repeats its call."""
        if len(self._confirming) >= CONFIRMATIONS_AT_ONCE_MAX:
            self._log.warning("subscription_not_confirmed", error="too many at once")
            return
        task = asyncio.create_task(self._confirm(url))
        self._confirming.add(task)
        task.add_done_callback(self._confirming.discard)

    async def _confirm(self, url: str) -> None:
        host = urlsplit(url).hostname
        try:
            await self._get(url)
        except (httpx.HTTPError, TimeoutError, ValueError) as error:
            self._log.warning("subscription_not_confirmed", host=host, error=type(error).__name__)
        else:
            self._log.info("subscription_confirmed", host=host)

    async def _get(self, url: str) -> bytes:
        """The body at ``url``.

        Raises:
            httpx.HTTPError, TimeoutError, ValueError: it can't be fetched within the limits.
        """
        if urlsplit(url).scheme != "https":
            raise ValueError("not HTTPS")
        if self._client is None:
            self._client = httpx.AsyncClient(
                transport=self._transport, follow_redirects=False, timeout=FETCH_TIMEOUT_S
            )
        body = bytearray()
        async with (
            asyncio.timeout(FETCH_TIMEOUT_S),
            self._client.stream("GET", url, headers=_IDENTITY) as response,
        ):
            if response.status_code != 200 or "content-encoding" in response.headers:
                raise ValueError(f"status {response.status_code}")
            async for part in response.aiter_bytes():
                body += part
                if len(body) > CERTIFICATE_BYTES_MAX:
                    raise ValueError("too large")
        return bytes(body)
