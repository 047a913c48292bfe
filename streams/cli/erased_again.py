"""Erases from a restored ClickHouse whom the backup still names and an erasure has taken since.

Invariants:
1. An erasure that was carried out has no address left, only digests. So every identity in the
   tables is looked for among them; nothing is written anywhere about whom.
2. It is about what happened before the erasure, as every reader of old records takes it
   (``schemas.erasure``).
"""

import asyncio
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from pydantic import TypeAdapter

from schemas.settings import Settings
from streams.cli.clickhouse import ask
from streams.cli.context import codec_of

if TYPE_CHECKING:
    from schemas.erasure import Erasures

_IDENTITIES = """
SELECT DISTINCT recipient_identity FROM events WHERE recipient_identity != ''
UNION DISTINCT SELECT DISTINCT recipient FROM suppressions
UNION DISTINCT SELECT DISTINCT recipient FROM scoped_suppressions
"""
_ROW: TypeAdapter[tuple[str]] = TypeAdapter(tuple[str])


class Erased(NamedTuple):
    """What was done: people erased again, and erasures since the backup that no longer say whom."""

    people: int
    unknown: int


async def erase_again(settings: Settings, made_at: float, say: Callable[[str], None]) -> Erased:
    """Obeys every erasure that Kafka knows.

    Args:
        made_at: of the backup, seconds since 1970.

    Raises:
        Unavailable: Kafka or ClickHouse does not answer, or has not done it yet.
    """
    from streams.erasure.topic import ErasureLog

    async with ErasureLog(settings, codec_of(settings), keeps=True) as log:
        await log.fresh(0)
        unknown = sum(
            not one["digests"] and one["at"] / 1_000_000 >= made_at for one in log.newest.values()
        )
        if not log.erasures:
            return Erased(0, unknown)
        say("erasures …")
        return Erased(await asyncio.to_thread(_erase, settings, log.erasures), unknown)


def _erase(settings: Settings, erasures: "Erasures") -> int:
    from analytics.client import connect
    from analytics.migrate import apply
    from analytics.sink.eraser import Eraser

    by_time: dict[int, list[str]] = {}
    client = connect(settings)
    try:
        apply(client, settings)  # the tables may be those of an earlier version
        for name in _identities(settings):
            if at_us := erasures.at(name.encode("utf-8", "replace")):
                by_time.setdefault(at_us // 1_000, []).append(name)
        eraser = Eraser(client, codec_of(settings), settings.clickhouse_cluster)
        for at_ms, names in by_time.items():
            eraser.erase(names, at_ms)
    finally:
        client.close()
    return sum(map(len, by_time.values()))


def _identities(settings: Settings) -> Iterator[str]:
    """Everybody in the tables, as they arrive."""
    rest = b""
    for piece in ask(settings, _IDENTITIES, "JSONCompactEachRow").pieces:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield _ROW.validate_json(line)[0]
    if rest:
        yield _ROW.validate_json(rest)[0]
