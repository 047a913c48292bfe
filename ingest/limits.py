"""Limits on how much is under way and how often: rate limits and the budget of body bytes.

Laws of this file:
1. A limit that is reached refuses at once and says when to come again; nothing queues here.
2. In-process buckets decide without awaiting. With ``MAILPULSE_RATE_LIMIT_URL`` the count is
   shared between processes; when that store is away or slow the in-process bucket decides, so a
   broken store neither opens nor closes the door.
3. Seconds everywhere, by a monotonic clock that comes in as an argument.

Sources: draft-ietf-httpapi-ratelimit-headers-10 (``RateLimit``, ``RateLimit-Policy``).
"""

import asyncio
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from limits import RateLimitItemPerSecond
from limits.aio.storage import Storage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from limits.storage import storage_from_string

Clock = Callable[[], float]
STORE_TIMEOUT_S = 0.2
"""Longest wait for the shared store."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a rate limit says to one request.

    Attributes:
        allowed: whether it may go on.
        policy: name of the limit: ``source`` or ``all``.
        quota: requests per window.
        window_s: length of the window.
        remaining: requests left in it.
        reset_s: seconds until there is at least one more.
    """

    allowed: bool
    policy: str
    quota: int
    window_s: int
    remaining: int
    reset_s: int

    def headers(self) -> list[tuple[bytes, bytes]]:
        """``RateLimit`` and ``RateLimit-Policy``, and ``Retry-After`` on a refusal."""
        headers = [
            (b"ratelimit-policy", f'"{self.policy}";q={self.quota};w={self.window_s}'.encode()),
            (b"ratelimit", f'"{self.policy}";r={self.remaining};t={self.reset_s}'.encode()),
        ]
        if not self.allowed:
            headers.append((b"retry-after", str(max(1, self.reset_s)).encode()))
        return headers


def window_of(rate_per_s: float) -> tuple[int, int]:
    """Quota and window in whole numbers: ``(rate, 1)``, or ``(1, seconds)`` below one a second."""
    if rate_per_s >= 1:
        return int(rate_per_s), 1
    return 1, math.ceil(1 / rate_per_s)


class TokenBucket:
    """A bucket that holds one window's quota and fills at ``rate_per_s``.

    Args:
        policy: name for the headers.
        rate_per_s: requests per second.
        clock: monotonic seconds.
    """

    def __init__(self, policy: str, rate_per_s: float, clock: Clock) -> None:
        self.policy = policy
        self.quota, self.window_s = window_of(rate_per_s)
        self._rate = rate_per_s
        self._clock = clock
        self._tokens = float(self.quota)
        self._filled_at = clock()

    def hit(self) -> Verdict:
        """Takes a token if there is one."""
        now = self._clock()
        gained = (now - self._filled_at) * self._rate
        self._tokens = min(float(self.quota), self._tokens + gained)
        self._filled_at = now
        allowed = self._tokens >= 1
        if allowed:
            self._tokens -= 1
        remaining = int(self._tokens)
        reset_s = 0 if remaining else math.ceil((1 - self._tokens) / self._rate)
        return Verdict(allowed, self.policy, self.quota, self.window_s, remaining, reset_s)


class SharedCount(Protocol):
    """A count that several processes share."""

    async def hit(self, bucket: TokenBucket, name: str) -> Verdict:
        """Counts a request against the quota of ``bucket``, under ``name``."""


class StoreCount:
    """Counts in Redis or Valkey, by a sliding window (``limits``).

    Args:
        url: ``redis://``, ``rediss://``, ``valkey://``, ``valkeys://``, or as ``limits`` takes it.
        now: seconds since 1970, for the time until the window moves on.
    """

    def __init__(self, url: str, now: Clock) -> None:
        scheme, rest = url.removeprefix("async+").split(":", 1)
        # One client for both servers: they speak one protocol, and the newest of it.
        scheme = scheme.replace("redis", "valkey", 1)
        storage = storage_from_string(f"async+{scheme}:{rest}")
        if not isinstance(storage, Storage):
            raise TypeError("not an asynchronous store")
        self._limiter = SlidingWindowCounterRateLimiter(storage)
        self._now = now

    async def hit(self, bucket: TokenBucket, name: str) -> Verdict:
        """See ``SharedCount.hit``.

        Raises:
            Exception: the store's client has its own for being away.
        """
        item = RateLimitItemPerSecond(bucket.quota, bucket.window_s, namespace="mailpulse")
        allowed = await self._limiter.hit(item, name)
        stats = await self._limiter.get_window_stats(item, name)
        reset_s = max(0, math.ceil(stats.reset_time - self._now()))
        return Verdict(
            allowed, bucket.policy, bucket.quota, bucket.window_s, stats.remaining, reset_s
        )


class RateLimits:
    """The limits of all sources, and the one over all of them.

    Args:
        rate_per_s: of all sources together, ``None``: no limit.
        per_source: source's name -> its rate.
        clock: monotonic seconds.
        shared: where the counts are shared; ``None``: each process counts for itself.
        on_store_error: told when the shared store failed and the bucket decided.
    """

    def __init__(
        self,
        rate_per_s: float | None,
        per_source: Mapping[str, float | None],
        clock: Clock,
        shared: SharedCount | None = None,
        on_store_error: Callable[[Exception], None] = lambda error: None,
    ) -> None:
        self._all = TokenBucket("all", rate_per_s, clock) if rate_per_s else None
        self._sources = {
            name: TokenBucket("source", rate, clock) for name, rate in per_source.items() if rate
        }
        self._shared = shared
        self._on_store_error = on_store_error
        self.active = self._all is not None or bool(self._sources)

    async def hit(self, source: str) -> Verdict | None:
        """The verdict for a request to ``source``: the tightest one; ``None`` without a limit.

        A request that its source's limit refuses is not counted against all.
        """
        own = self._sources.get(source)
        verdict = None if own is None else await self._one(own, f"source:{source}")
        if self._all is None or (verdict is not None and not verdict.allowed):
            return verdict
        overall = await self._one(self._all, "all")
        if verdict is None or not overall.allowed or overall.remaining < verdict.remaining:
            return overall
        return verdict

    async def _one(self, bucket: TokenBucket, name: str) -> Verdict:
        if self._shared is not None:
            try:
                async with asyncio.timeout(STORE_TIMEOUT_S):
                    return await self._shared.hit(bucket, name)
            except Exception as error:  # law 2; the store's clients raise many kinds
                self._on_store_error(error)
        return bucket.hit()


class Budget:
    """An amount that all requests share, such as bytes of bodies in memory."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.used = 0

    def take(self, amount: int) -> bool:
        """Takes ``amount`` if it is there. A request of its own always gets through when nothing
        else is under way, however large (other limits hold it)."""
        if self.used and self.used + amount > self.most:
            return False
        self.used += amount
        return True

    def give_back(self, amount: int) -> None:
        """Returns what was taken."""
        self.used -= amount
