"""What ClickHouse tells of addresses, as the judgement of fleets takes it.

Invariants:
1. An answer that was cut off never makes a fleet of people: a network is looked at as a whole or
   not at all, and without all people there is no proposal.
2. Whoever asks is told when something was left out.
"""

from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from analytics.verdicts import fleet_questions
from schemas.errors import BadInput, Unavailable
from schemas.settings import Settings
from streams.classify.fleets import Habit, Seen, network_of
from streams.classify.network_rules import Address, Network, NetworkRule, address_of
from streams.cli.clickhouse import ask, rows_of

SCANS_MIN = 5
"""Fewer messages clicked from a network show no habit."""


_PLAIN = {"output_format_json_quote_64bit_integers": "0"}


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


@dataclass(frozen=True, slots=True)
class Looked:
    """What came from addresses.

    Attributes:
        seen: one row per address and user agent.
        is_cut: networks that scan less were left out.
    """

    seen: list[Seen]
    is_cut: bool


def seen_since(
    settings: Settings, since_s: int, until_s: int, fleets: Iterable[NetworkRule] = ()
) -> Looked:
    """What came from addresses in a period, by address and user agent.

    Args:
        since_s, until_s: seconds since 1970.
        fleets: those in force, at which people are looked for too.

    Raises:
        Unavailable: ClickHouse does not answer.
        BadInput: it refuses, as when the period has more clicks than its memory can take; or the
            answer has not all people.
    """
    asked = {"since": str(since_s), "until": str(until_s), "least": str(SCANS_MIN)}
    habits = rows_of(settings, fleet_questions.HABITS, asked, _HabitRow)
    clicked = list(_clicked(habits))
    is_cut = len(habits) >= fleet_questions.ROWS_MAX
    if is_cut and clicked:
        last = network_of(clicked[-1].address)
        clicked = [one for one in clicked if network_of(one.address) != last]
    networks = {network_of(one.address) for one in clicked}
    networks |= {network_of(one.network_address) for rule in fleets for one in rule.networks}
    answer = ask(settings, fleet_questions.READERS, "JSONCompactEachRow", asked, _PLAIN)
    readers = _rows(answer.pieces, len(fleet_questions.READER_COLUMNS))
    return Looked([*clicked, *_opened(readers, networks)], is_cut)


def _clicked(rows: Iterable[_HabitRow]) -> Iterator[Seen]:
    for ip, agent, recipients, days, sure, soon, later, other, surprise in rows:
        habit = Habit(
            frozenset(recipients), frozenset(days), sure=sure, soon=soon, later=later, other=other,
            surprise=surprise,
        )  # fmt: skip
        if address := address_of(ip):
            yield Seen(address, agent, habit)


def _opened(rows: Iterable[Sequence[Any]], networks: Set[Network]) -> Iterator[Seen]:
    for number, (ip, agent, opened) in enumerate(rows, 1):
        if number >= fleet_questions.READERS_MAX:
            raise BadInput(
                "too_many_readers", f"{number:,} addresses and user agents opened messages in this "
                "period, more than can be looked at: choose fewer --days",
            )  # fmt: skip
        if (address := address_of(ip)) and network_of(address) in networks:
            yield Seen(address, agent, Habit(frozenset(), frozenset(), opened=opened))


class Touched:
    """Rows of events, and how many came.

    Attributes:
        read: rows so far.
    """

    def __init__(self, rows: Iterable[dict[str, Any]]) -> None:
        self._rows = rows
        self.read = 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for row in self._rows:
            self.read += 1
            yield row

    @property
    def is_cut(self) -> bool:
        """Whether there may be more than were read: those of campaigns late in the alphabet."""
        return self.read >= fleet_questions.EVENTS_MAX


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
    answer = ask(settings, fleet_questions.TOUCHED, "JSONCompactEachRow", asked, _PLAIN)
    for row in _rows(answer.pieces, len(fleet_questions.TOUCHED_COLUMNS)):
        yield dict(zip(fleet_questions.TOUCHED_COLUMNS, row, strict=True))


def _start(address: Address) -> str:
    """Where the /24 or /48 of an address begins, as ClickHouse writes it: in IPv6's form."""
    first = network_of(address).network_address
    return f"::ffff:{first}" if first.version == 4 else str(first)


def _rows(pieces: Iterable[bytes], columns: int) -> Iterator[Sequence[Any]]:
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield _row(line, columns)
    if rest:
        yield _row(rest, columns)


def _row(line: bytes, columns: int) -> Sequence[Any]:
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError:
        row = None
    if not isinstance(row, list) or len(row) != columns:
        raise Unavailable("the answer of ClickHouse is cut off, or not ClickHouse's")
    return row
