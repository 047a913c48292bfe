"""What ClickHouse tells of addresses, as the judgement of fleets takes it."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import orjson

from analytics.verdicts import fleet_questions
from schemas.errors import Unavailable
from schemas.settings import Settings
from streams.classify.fleets import Habit, Seen, network_of
from streams.classify.network_rules import Address, Network, address_of
from streams.cli.clickhouse import ask, rows_of

SCANS_MIN = 5
"""Fewer messages clicked from a network show no habit."""


class _HabitRow(NamedTuple):
    address: str
    agent: str
    recipients: list[int]
    days: list[int]
    sure: int
    soon: int
    later: int
    other: int
    surprise: float


class _ReaderRow(NamedTuple):
    address: str
    agent: str
    opened: int


def seen_since(settings: Settings, since_s: int, until_s: int) -> list[Seen]:
    """What came from addresses in a period, by address and user agent.

    Args:
        since_s, until_s: seconds since 1970.

    Raises:
        Unavailable: ClickHouse does not answer.
        BadInput: it refuses, as when the period has more clicks than its memory can take.
    """
    asked = {"since": str(since_s), "until": str(until_s), "least": str(SCANS_MIN)}
    habits = rows_of(settings, fleet_questions.HABITS, asked, _HabitRow)
    readers = rows_of(settings, fleet_questions.READERS, asked, _ReaderRow)
    return [*_clicked(habits), *_opened(readers)]


def _clicked(rows: Iterable[_HabitRow]) -> Iterator[Seen]:
    for ip, agent, recipients, days, sure, soon, later, other, surprise in rows:
        habit = Habit(
            frozenset(recipients), frozenset(days), sure=sure, soon=soon, later=later, other=other,
            surprise=surprise,
        )  # fmt: skip
        if address := address_of(ip):
            yield Seen(address, agent, habit)


def _opened(rows: Iterable[_ReaderRow]) -> Iterator[Seen]:
    for ip, agent, opened in rows:
        if address := address_of(ip):
            yield Seen(address, agent, Habit(frozenset(), frozenset(), opened=opened))


def touched(
    settings: Settings, networks: Iterable[Network], since_s: int, until_s: int
) -> Iterator[dict[str, Any]]:
    """Events of the messages that were clicked from the surroundings of these networks.

    Raises:
        Unavailable: ClickHouse does not answer, or what it answers is cut off.
        BadInput: it refuses.
    """
    starts = sorted({_start(network.network_address) for network in networks})
    listed = "[" + ",".join(f"'{start}'" for start in starts) + "]"
    asked = {"since": str(since_s), "until": str(until_s), "networks": listed}
    plain = {"output_format_json_quote_64bit_integers": "0"}
    answer = ask(settings, fleet_questions.TOUCHED, "JSONCompactEachRow", asked, plain)
    for row in _rows(answer.pieces):
        yield dict(zip(fleet_questions.TOUCHED_COLUMNS, row, strict=True))


def _start(address: Address) -> str:
    """Where the /24 or /48 of an address begins, as ClickHouse writes it: in IPv6's form."""
    first = network_of(address).network_address
    return f"::ffff:{first}" if first.version == 4 else str(first)


def _rows(pieces: Iterable[bytes]) -> Iterator[Sequence[Any]]:
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield _row(line)
    if rest:
        yield _row(rest)


def _row(line: bytes) -> Sequence[Any]:
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError:
        row = None
    if not isinstance(row, list) or len(row) != len(fleet_questions.TOUCHED_COLUMNS):
        raise Unavailable("the answer of ClickHouse is cut off, or not ClickHouse's")
    return row
