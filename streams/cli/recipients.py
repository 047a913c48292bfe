"""Whether a command that writes events stores recipients as ingress does.

With another mode, addresses that ingress hashes would be stored plain; with another key, one event
would have two ids and be counted twice.

Invariants:
1. A pipeline that runs here on the same Kafka is asked first (``context.stores_as_ingress``).
2. Elsewhere the newest records of ``email.source.requests.v1`` say it: every ingress process that
   had requests writes there how it stores recipients, with a mark of its key.
3. Nothing is claimed that was not compared: where no process has told, that is said.
"""

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, NamedTuple

from schemas.codec import Codec
from schemas.errors import ConfigError, DecodeError, Unavailable
from schemas.settings import PREFIX, Settings
from schemas.topics import SOURCE_REQUESTS
from streams.cli.context import say, stores_as_ingress
from streams.embedded.data_dir import recipients_mark, running
from streams.kafka.reader import reader

NEWEST_MAX = 50
"""Records of each partition that are looked at."""
TOGETHER_US = 600_000_000
"""Processes whose last records are not further apart run at the same time."""
_NAMES = f"{PREFIX}RECIPIENTS, {PREFIX}RECIPIENT_HASH_KEY"


class Told(NamedTuple):
    """What an ingress process says of itself; ``at_us``: microseconds since 1970."""

    ingress: str
    recipients: str
    at_us: int


def compare(settings: Settings, codec: Codec, *, needed: bool) -> None:
    """Compares how this command and ingress store recipients; says so if that can't be done.

    Args:
        needed: events are about to be written, so Kafka has to answer.

    Raises:
        ConfigError: they store them in different ways.
        Unavailable: Kafka does not answer.
    """
    stores_as_ingress(settings)
    found = running(settings.data_dir)
    if found is not None and found.recipients and found.kafka_bootstrap == settings.kafka_bootstrap:
        return
    try:
        told = asyncio.run(_told(settings, codec))
    except Unavailable as error:
        if needed:
            raise
        say(f"note: {_NAMES} are not compared with those of ingress: {error}")
        return
    if not told:
        say(
            f"note: {_NAMES} are not compared: no ingress told in 7 days how it stores recipients."
            " They must be those of ingress."
        )
    elif problem := differing(told, recipients_mark(settings)):
        raise ConfigError([f"{_NAMES}: {problem}"])


def differing(told: Iterable[Told], own: str) -> str:
    """What is wrong with this command's own way; empty: every process that runs has the same."""
    newest = latest(told)
    others = sorted((one for one in newest if one.recipients != own), key=lambda one: -one.at_us)
    if not others:
        return ""
    other = others[0]
    mode, mine = other.recipients.partition(" ")[0], own.partition(" ")[0]
    when = f"{datetime.fromtimestamp(other.at_us // 1_000_000, UTC):%Y-%m-%d %H:%M:%S} UTC"
    what = "another key" if mode == mine else f"the mode {mode}, not {mine}"
    if len(others) < len(newest):
        return (
            f"ingress processes differ: one had {what} at {when}. Give all the same, and wait ten"
            " minutes after the last one with others"
        )
    return f"ingress had {what} at {when}: set both for this command too"


def latest(told: Iterable[Told]) -> list[Told]:
    """The last word of each process that ran together with the newest one."""
    by_process: dict[str, Told] = {}
    for one in told:
        before = by_process.get(one.ingress)
        if before is None or before.at_us <= one.at_us:
            by_process[one.ingress] = one
    newest_us = max((one.at_us for one in by_process.values()), default=0)
    return [one for one in by_process.values() if one.at_us >= newest_us - TOGETHER_US]


async def _told(settings: Settings, codec: Codec) -> list[Told]:
    """What the newest records say; nothing without the topic, which older versions lack."""
    found: list[Told] = []
    try:
        async with reader(settings, SOURCE_REQUESTS) as topic:
            await topic.begin(last=NEWEST_MAX)
            async for record in topic.records():
                found += _of_record(codec, record)
    except ConfigError:
        return []
    return found


def _of_record(codec: Codec, record: Any) -> list[Told]:
    try:
        one = codec.decode(record.value or b"", "source_requests")
    except DecodeError:
        return []  # of a newer version, or not ours
    return [Told(one["ingress"], one["recipients"], one["ended_at"])]
