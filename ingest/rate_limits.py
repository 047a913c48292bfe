"""Rate limits: of proven requests, and a separate budget for unproven ones.

Invariants:
1. A request over a limit is refused at once, with the time of the next attempt; nothing queues.
2. In-process buckets decide without awaiting. With ``MAILPULSE_RATE_LIMIT_URL`` the count is
   shared between processes: a request that the in-process bucket refuses is refused without asking
   the store, and the number of concurrent queries to the store is bounded. When the store is down,
   slow or busy, the in-process bucket decides: a broken store neither lifts a limit nor blocks
   requests.
3. All times are seconds of a monotonic clock, which is an argument.
4. Only proven requests count against a rate, so nobody else can use it up. Unproven ones count by
   source and client, against a budget of that client's; once it is used up, the client's requests
   are refused before their proof is checked.
5. A client that has proven a request to a source is never refused for its unproven ones there:
   forged posts can come from a provider's address (any of its customers can point webhooks here),
   and checking a proof costs about as much as refusing.

Sources: draft-ietf-httpapi-ratelimit-headers-10 (``RateLimit``, ``RateLimit-Policy``).
"""

import asyncio
import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from limits import RateLimitItem, RateLimitItemPerSecond
from limits.aio.storage import Storage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from limits.storage import storage_from_string

Clock = Callable[[], float]
STORE_TIMEOUT_S = 0.2
"""Longest wait for the shared store."""
STORE_PAUSE_S = 0.2
"""How long it is not asked again after a failure: one request asks several times."""
QUESTIONS_MAX = 32
"""Concurrent queries to the shared store about proven requests; each takes a connection."""
STRANGERS_QUESTIONS_MAX = 8
"""The same for unproven requests, in addition: a flood of them leaves the others theirs."""
CLIENTS_MAX = 10_000
"""Clients with unproven requests that are remembered (the least recently active is dropped first),
and clients with proven ones (the one known longest is dropped first)."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision of a rate limit on one request.

    Attributes:
        allowed: whether it may go on.
        policy: name of the limit: ``source``, ``all`` or ``unproven``.
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
        self._fill()
        allowed = self._tokens >= 1
        if allowed:
            self._tokens -= 1
        return self._verdict(allowed)

    def look(self) -> Verdict:
        """What ``hit`` would say, without taking a token."""
        self._fill()
        return self._verdict(self._tokens >= 1)

    def owe(self) -> None:
        """Takes a token, if need be in advance: for a request that was let through already."""
        self._fill()
        self._tokens = max(-float(self.quota), self._tokens - 1)

    def give_back(self) -> None:
        """Puts back the token of a request that another count refused."""
        self._tokens = min(float(self.quota), self._tokens + 1)

    def drain(self) -> None:
        """Empties the bucket, for another count says that the quota is used up."""
        self._fill()
        self._tokens = min(0.0, self._tokens)

    def _fill(self) -> None:
        now = self._clock()
        gained = (now - self._filled_at) * self._rate
        self._tokens = min(float(self.quota), self._tokens + gained)
        self._filled_at = now

    def _verdict(self, allowed: bool) -> Verdict:
        remaining = max(0, int(self._tokens))
        reset_s = 0 if remaining else math.ceil((1 - self._tokens) / self._rate)
        return Verdict(allowed, self.policy, self.quota, self.window_s, remaining, reset_s)


class SharedCount(Protocol):
    """A count that is shared by several processes."""

    async def hit(self, bucket: TokenBucket, name: str) -> Verdict:
        """Counts a request against the quota of ``bucket``, under ``name``."""

    async def look(self, bucket: TokenBucket, name: str) -> Verdict:
        """What ``hit`` would say, without counting."""


class StoreCount:
    """Counts in Redis or Valkey, by a sliding window (``limits``).

    Args:
        url: as ``schemas.addresses.store_url`` gives it, or another that ``limits`` takes.
        now: seconds since 1970, for the time until the window moves on.
    """

    def __init__(self, url: str, now: Clock) -> None:
        storage = storage_from_string(f"async+{url.removeprefix('async+')}")
        if not isinstance(storage, Storage):
            raise TypeError("not an asynchronous store")
        self._limiter = SlidingWindowCounterRateLimiter(storage)
        self._now = now

    async def hit(self, bucket: TokenBucket, name: str) -> Verdict:
        """See ``SharedCount.hit``.

        Raises:
            Exception: the store's client has its own kinds.
        """
        item = _item(bucket)
        return await self._verdict(bucket, item, name, await self._limiter.hit(item, name))

    async def look(self, bucket: TokenBucket, name: str) -> Verdict:
        """See ``SharedCount.look``.

        Raises:
            Exception: as ``hit`` does.
        """
        item = _item(bucket)
        return await self._verdict(bucket, item, name, await self._limiter.test(item, name))

    async def _verdict(
        self, bucket: TokenBucket, item: RateLimitItem, name: str, allowed: bool
    ) -> Verdict:
        stats = await self._limiter.get_window_stats(item, name)
        reset_s = max(0, math.ceil(stats.reset_time - self._now()))
        return Verdict(
            allowed, bucket.policy, bucket.quota, bucket.window_s, stats.remaining, reset_s
        )


def _item(bucket: TokenBucket) -> RateLimitItem:
    return RateLimitItemPerSecond(bucket.quota, bucket.window_s, namespace="mailpulse")


class RateLimits:
    """The limits of each source, of all together, and of unproven requests.

    Args:
        rate_per_s: of proven requests to all sources together, ``None``: no limit.
        per_source: source's name -> its rate.
        clock: monotonic seconds.
        shared: where the counts are shared; ``None``: each process counts for itself.
        on_store_error: told when the shared store failed and the bucket decided.
        unproven_rate_per_s: of unproven requests by one client to one source; ``None``: the rate of
            the source, or that of all sources.
    """

    def __init__(
        self,
        rate_per_s: float | None,
        per_source: Mapping[str, float | None],
        clock: Clock,
        shared: SharedCount | None = None,
        on_store_error: Callable[[Exception], None] = lambda error: None,
        unproven_rate_per_s: float | None = None,
    ) -> None:
        self._all = TokenBucket("all", rate_per_s, clock) if rate_per_s else None
        self._sources = {
            name: TokenBucket("source", rate, clock) for name, rate in per_source.items() if rate
        }
        self._unproven_rates = {
            name: unproven_rate_per_s or rate or rate_per_s for name, rate in per_source.items()
        }
        self._clients: OrderedDict[tuple[str, str], TokenBucket] = OrderedDict()
        self._known: dict[tuple[str, str], None] = {}
        self._clock = clock
        self._shared = shared
        self._asking = {True: 0, False: 0}
        """Queries in progress, about proven requests and about unproven ones."""
        self._store_away_until = -math.inf
        self._on_store_error = on_store_error
        self.active = any(self._unproven_rates.values())

    async def may_try(self, source: str, client: str) -> Verdict | None:
        """The verdict that keeps a client from proving a request to ``source``; ``None`` if it may.

        Args:
            client: see ``origin.client_key``.
        """
        own = self._clients.get((source, client))
        if own is not None and not (verdict := own.look()).allowed:
            if (source, client) not in self._known:  # invariant 5
                return verdict
        # The proof is not checked only to refuse the request for the source's rate.
        for bucket in (self._sources.get(source), self._all):
            if bucket is not None and not (verdict := bucket.look()).allowed:
                return verdict
        if self._shared is None or (source, client) in self._known:
            return None
        own = self._client(source, client)
        if own is None:
            return None
        said = await self._ask(self._shared.look, own, _unproven(source, client), proven=False)
        if said is None or said.allowed:
            return None
        own.drain()
        return said

    def proved(self, source: str, client: str) -> None:
        """The client has proven a request to ``source``: see invariant 5."""
        if (source, client) in self._known:
            return
        self._known[source, client] = None
        if len(self._known) > CLIENTS_MAX:
            del self._known[next(iter(self._known))]

    async def proves_nothing(self, source: str, client: str) -> None:
        """Counts an unproven request against its client."""
        own = self._client(source, client)
        if own is None:
            return
        has_some = own.look().allowed
        own.owe()
        if self._shared is not None and has_some:
            await self._ask(self._shared.hit, own, _unproven(source, client), proven=False)

    async def hit(self, source: str) -> Verdict | None:
        """The verdict for a proven request to ``source``: the tightest; ``None`` without a limit.

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

    def _client(self, source: str, client: str) -> TokenBucket | None:
        """The bucket of a client at a source; ``None`` without a limit."""
        rate = self._unproven_rates.get(source)
        if not rate:
            return None
        bucket = self._clients.get((source, client))
        if bucket is None:
            if len(self._clients) >= CLIENTS_MAX:
                self._clients.popitem(last=False)
            bucket = self._clients[source, client] = TokenBucket("unproven", rate, self._clock)
        else:
            self._clients.move_to_end((source, client))
        return bucket

    async def _one(self, bucket: TokenBucket, name: str) -> Verdict:
        verdict = bucket.hit()
        if self._shared is None or not verdict.allowed:
            return verdict
        said = await self._ask(self._shared.hit, bucket, name, proven=True)
        if said is None:
            return verdict
        if not said.allowed:
            bucket.give_back()
        return said

    async def _ask(
        self,
        shared: Callable[[TokenBucket, str], Awaitable[Verdict]],
        bucket: TokenBucket,
        name: str,
        proven: bool,
    ) -> Verdict | None:
        """The shared store's answer; ``None`` when it is down, slow or busy (invariant 2)."""
        most = QUESTIONS_MAX if proven else STRANGERS_QUESTIONS_MAX
        if self._asking[proven] >= most or self._clock() < self._store_away_until:
            return None
        self._asking[proven] += 1
        try:
            async with asyncio.timeout(STORE_TIMEOUT_S):
                return await shared(bucket, name)
        except Exception as error:  # the store's clients raise many kinds
            self._store_away_until = self._clock() + STORE_PAUSE_S
            self._on_store_error(error)
            return None
        finally:
            self._asking[proven] -= 1


def _unproven(source: str, client: str) -> str:
    """Name of a client's count."""
    return f"unproven:{source}:{client}"
