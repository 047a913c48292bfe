"""Lag and latency of the last hours, sampled by the dashboard itself.

Invariants:
1. At most ``SAMPLES_MAX`` samples are kept, in memory: after a restart of the dashboard the history
   begins again, and the page says since when it is.
2. A sample that can't be taken leaves a gap; it never ends the sampling.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import structlog

from schemas.errors import MailpulseError

log = structlog.get_logger("mailpulse.dashboard")

Document = dict[str, Any]
EVERY_S = 30.0
SAMPLES_MAX = 720
"""Six hours."""


class Sampler:
    """Takes samples while ``run`` is running.

    Args:
        pipeline: reads Kafka; ``lags`` are used.
        behind: seconds by which the database is behind what arrived; ``None`` if that is not known.
        wall: returns seconds since 1970.
    """

    def __init__(
        self,
        pipeline: Callable[[], Awaitable[Document]],
        behind: Callable[[], Awaitable[float | None]],
        wall: Callable[[], float],
    ) -> None:
        self._pipeline = pipeline
        self._behind = behind
        self._wall = wall
        self._samples: deque[Document] = deque(maxlen=SAMPLES_MAX)

    def samples(self) -> list[Document]:
        """Oldest first: ``at_ms``, ``lag`` (consumer group -> records not yet read) and
        ``behind_s``; ``None`` where Kafka, or the database, did not answer."""
        return list(self._samples)

    async def sample(self) -> None:
        """Takes one sample."""
        read = await self._pipeline()
        try:
            behind_s = await self._behind()
        except MailpulseError as error:
            log.warning("no sample of the latency", error=str(error))
            behind_s = None
        self._samples.append(
            {
                "at_ms": int(self._wall() * 1000),
                "lag": _by_group(read["lags"]) if read["lags"] else None,
                "behind_s": behind_s,
            }
        )

    async def run(self, every_s: float = EVERY_S) -> None:
        """Takes a sample now and then, until it is cancelled."""
        while True:
            await self.sample()
            await asyncio.sleep(every_s)


def _by_group(lags: list[Document]) -> dict[str, int]:
    """Lag of each consumer group, over its topics and partitions."""
    found: dict[str, int] = {}
    for row in lags:
        found[row["group"]] = found.get(row["group"], 0) + int(row["lag"])
    return found
