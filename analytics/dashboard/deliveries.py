"""What ``deliver`` says of its destinations, and test requests through it.

Invariants:
1. ``together`` is pure: the answers of several processes in, rows out.
2. Of a process that does not answer the last answer is shown, with a message that says since when.
3. Only the URLs of ``dashboard_deliver_urls`` are called, and the name in their path is quoted.
4. Whatever listens there, an answer costs at most ``ANSWER_BYTES_MAX`` and ``TIMEOUT_S``, and one
   of another shape is no answer.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ConfigDict

Document = dict[str, Any]
TIMEOUT_S = 2.0
ANSWER_BYTES_MAX = 4 << 20
TEST_TIMEOUT_S = 310.0
"""Longer than the longest ``timeout_s`` of a destination."""
TRIES_MAX = 50
TOKEN_HEADER = "x-mailpulse-token"
_STATES = ("failing", "waiting", "paused", "dry run", "on")
"""Of several processes the first of these is shown."""


class _Shape(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)


class _Try(_Shape):
    at_ms: int
    records: int
    result: str
    said: str
    seconds: float


class _Row(_Shape):
    destination: str
    kind: str
    host: str
    topics: str
    state: str
    waits_s: int
    lag: int
    held: int
    delivered: int
    failed: int
    last_success_ms: int | None
    tries: list[_Try]


class _Listing(_Shape):
    destinations: list[_Row]


class _Tested(_Shape):
    delivered: bool = False
    said: str = ""
    title: str = ""


def together(answers: Iterable[Sequence[Document]]) -> Document:
    """Rows of destinations, and their last tries.

    Args:
        answers: of each process, the destinations as ``/destinations`` lists them.
    """
    found: dict[str, Document] = {}
    tries: dict[str, list[Document]] = {}
    for one in (one for answer in answers for one in answer):
        name = one["destination"]
        tries.setdefault(name, []).extend(one["tries"])
        plain = {key: value for key, value in one.items() if key != "tries"}
        found[name] = _joined(found[name], plain) if name in found else plain
    rows = [found[name] for name in sorted(found)]
    shown = [
        {"destination": name, **row}
        for name in sorted(tries)
        for row in sorted(tries[name], key=lambda row: -row["at_ms"])[:TRIES_MAX]
    ]
    return {"destinations": rows, "tries": shown}


def _joined(one: Document, other: Document) -> Document:
    def rank(row: Document) -> int:
        return _STATES.index(row["state"]) if row["state"] in _STATES else len(_STATES)

    worst = min(one, other, key=rank)
    latest = [row["last_success_ms"] for row in (one, other) if row["last_success_ms"] is not None]
    sums = {key: one[key] + other[key] for key in ("lag", "held", "delivered", "failed")}
    return {**worst, **sums, "last_success_ms": max(latest, default=None)}


class Deliveries:
    """Calls every process of ``deliver``.

    Args:
        urls: their addresses, without a path.
        token: that they ask for.
        wall: returns seconds since 1970.
    """

    def __init__(self, urls: Sequence[str], token: str, wall: Callable[[], float]) -> None:
        self._urls = tuple(url.rstrip("/") for url in urls)
        self._wall = wall
        self._answers: dict[str, list[Document]] = {}
        self._answered: dict[str, float] = {}
        self._http = httpx.AsyncClient(
            timeout=TEST_TIMEOUT_S, trust_env=False, headers={TOKEN_HEADER: token}
        )

    async def read(self) -> Document:
        """``destinations``, ``tries``, and what is wrong."""
        troubles = await asyncio.gather(*map(self._ask, self._urls))
        return {
            **together(self._answers.values()),
            "deliver_known": bool(self._urls),
            "deliver_trouble": "; ".join(filter(None, troubles)),
        }

    async def _ask(self, url: str) -> str:
        """Asks one process; returns why it did not answer."""
        try:
            status, body = await self._answer("GET", f"{url}/destinations", TIMEOUT_S)
            if status == 403:
                return f"{url}: {_Tested.model_validate_json(body).title}"
            listing = _Listing.model_validate_json(body)
            self._answers[url] = listing.model_dump()["destinations"]
            self._answered[url] = self._wall()
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, ValueError):
            if url not in self._answered:
                return f"deliver at {url} has not answered yet"
            since = datetime.fromtimestamp(self._answered[url], UTC)
            return f"deliver at {url}: no answer since {since:%Y-%m-%d %H:%M:%S} UTC"
        return ""

    async def test(self, name: str) -> Document:
        """Has a test sent to a destination by the first process that knows it.

        Returns:
            ``delivered``, and ``said``: what the destination answered, or why none was sent.
        """
        said = "no process of deliver answers"
        for url in self._urls:
            path = f"{url}/destinations/{quote(name, safe='')}/test"
            try:
                status, body = await self._answer("POST", path, TEST_TIMEOUT_S)
                document = _Tested.model_validate_json(body)
            except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, ValueError):
                continue
            if status == 200:
                return {"delivered": document.delivered, "said": document.said}
            said = document.title or str(status)
        return {"delivered": False, "said": said}

    async def _answer(self, method: str, url: str, limit_s: float) -> tuple[int, bytes]:
        """Status and body (invariant 4).

        Raises:
            httpx.HTTPError, httpx.InvalidURL, TimeoutError: there is none.
            ValueError: it is too large.
        """
        body = b""
        async with asyncio.timeout(limit_s), self._http.stream(method, url) as answer:
            async for piece in answer.aiter_bytes():
                body += piece
                if len(body) > ANSWER_BYTES_MAX:
                    raise ValueError("too large")
            return answer.status_code, body

    async def close(self) -> None:
        """Closes connections."""
        await self._http.aclose()
