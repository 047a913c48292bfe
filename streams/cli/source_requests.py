"""How requests to sources were answered, for ``mailpulse sources ls`` and ``mailpulse doctor``."""

from typing import NamedTuple

from schemas.errors import BadInput
from schemas.settings import Settings
from streams.books.refusals import Facts, Kind, Requests, advice, facts_of, is_refused
from streams.cli.clickhouse import rows_of

_DAY = """\
SELECT source, sumIf(requests, result = 'accepted'),
    sumIf(requests, result NOT IN ('accepted', 'empty', 'probe', 'disconnected')),
    toUnixTimestamp64Micro(maxIf(last_at, result = 'accepted'))
FROM source_requests FINAL
WHERE began_at > now() - INTERVAL 1 DAY
GROUP BY source"""
_ACCEPTED = """\
SELECT source, toUnixTimestamp64Micro(max(last_at)) FROM source_requests
WHERE result = 'accepted' GROUP BY source"""
_REFUSED = """\
SELECT source, result, reason, requests, toUnixTimestamp64Micro(since),
    toUnixTimestamp64Micro(until), slots, before
FROM source_refusals"""
REFUSED_WHO_ASKS = "Code: 516"
"""ClickHouse's AUTHENTICATION_FAILED, in the text of its answer."""
NOWHERE = ""
"""Stands for all paths that name no source."""


class Day(NamedTuple):
    """Requests to a source in the last 24 hours.

    Attributes:
        accepted: with events.
        refused: or without anything that can be read.
        accepted_us: when the last one was accepted, microseconds since 1970; 0: none was.
    """

    accepted: int
    refused: int
    accepted_us: int


class Refused(NamedTuple):
    """What came to a source since its last request with events.

    Attributes:
        is_fault: it is no stranger's: see ``refusals.is_refused``, or nothing was accepted ever.
    """

    facts: Facts
    is_fault: bool
    advice: str


def last_day(settings: Settings) -> dict[str, Day]:
    """Source -> its requests.

    Raises:
        Unavailable, BadInput: as ``rows_of``.
    """
    found = rows_of(settings, _DAY, {}, tuple[str, int, int, int])
    return {source: Day(*figures) for source, *figures in found}


def refused(settings: Settings) -> dict[str, Refused]:
    """Source -> what was refused since, for sources of which anything was.

    Raises:
        Unavailable: as ``rows_of``.
        BadInput: user or password is refused.
    """
    try:
        accepted = dict(rows_of(settings, _ACCEPTED, {}, tuple[str, int]))
        rows = rows_of(settings, _REFUSED, {}, tuple[str, str, str, int, int, int, int, int])
    except BadInput as error:
        if REFUSED_WHO_ASKS in error.detail:
            raise
        return {}  # not migrated yet, which doctor says
    kinds: dict[str, list[Kind]] = {}
    for row in rows:
        kinds.setdefault(row[0], []).append(Kind(*row[1:]))
    found = {}
    for source, some in kinds.items():
        requests = Requests(accepted.get(source, 0), tuple(some))
        facts = facts_of(requests, 0)
        is_fault = is_refused(requests, 0, young=False) or not requests.accepted_us
        if facts.refused:
            found[source] = Refused(facts, is_fault, advice(source, facts))
    return found


def to_no_source(settings: Settings) -> int:
    """Requests to paths that name no source, in the last 24 hours.

    Raises:
        Unavailable: as ``rows_of``.
    """
    try:
        return last_day(settings).get(NOWHERE, Day(0, 0, 0)).refused
    except BadInput:
        return 0
