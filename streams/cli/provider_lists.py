"""``mailpulse deliver diff``: a provider's suppression lists against the suppressions that hold."""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

import orjson

from schemas.errors import Unavailable
from schemas.settings import Settings
from streams.cli.clickhouse import ask
from streams.cli.context import emit, put, say, table_or_json
from streams.cli.suppressions import STANDS
from streams.deliver.suppress.accounts import Account
from streams.deliver.suppress.changes import LeftOut, Suppressed, Target
from streams.deliver.suppress.differences import Difference, Wanted, differences, wanted
from streams.deliver.suppress.exchange import Entry, Unreadable
from streams.deliver.suppress.writer import WHY, Writer

_HOLD = (
    f"SELECT recipient, source, '' AS scope, reason FROM suppressions FINAL WHERE {STANDS}"
    " UNION ALL "
    f"SELECT recipient, source, scope, reason FROM scoped_suppressions FINAL WHERE {STANDS}"
)
_QUIET = frozenset((LeftOut.OWN, LeftOut.REASON))
"""Left out as the file says."""


def compare(settings: Settings, account: Account, *, addresses: bool, json: bool) -> bool:
    """Shows the differences; returns whether anything is missing at the provider.

    Raises:
        Unavailable: ClickHouse or the provider does not answer as it should.
    """
    what = wanted(account.rules, _holding(settings))
    found = differences(account.provider, what, asyncio.run(_listed(account, what)))
    if json:
        emit({"destination": account.name, "lists": [asdict(one) for one in found],
              "left_out": _left_out(what)})  # fmt: skip
    else:
        _show(account, found, what, addresses=addresses)
    return any(one.missing for one in found)


def _holding(settings: Settings) -> Iterator[Suppressed]:
    """The suppressions that hold, of addresses and of their scopes.

    Raises:
        Unavailable: ClickHouse does not answer, or what it answers is cut off.
    """
    for line in _lines(ask(settings, _HOLD, "JSONCompactEachRow").pieces):
        try:
            recipient, source, scope, reason = orjson.loads(line)
        except (orjson.JSONDecodeError, ValueError):
            raise Unavailable("the answer of ClickHouse is cut off") from None
        yield Suppressed(recipient, source, scope, reason)


def _lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        yield from whole
    if rest:
        yield rest


async def _listed(account: Account, what: Wanted) -> dict[Target, list[Entry]]:
    """What the provider's lists hold.

    Raises:
        Unavailable: one of them can't be read.
    """
    found: dict[Target, list[Entry]] = {}
    async with Writer(account) as writer:
        for target in what.by_target:
            try:
                found[target] = await writer.listed(target)
            except Unreadable as error:
                raise Unavailable(f"{account.name} at {account.host}: {target}: {error}") from None
            say(f"{target}: {len(found[target]):,} read")
    return found


def _left_out(what: Wanted) -> list[dict[str, Any]]:
    return [
        {"because": why, "about": about, "records": number}
        for (why, about), number in what.left_out.most_common()
    ]


def _show(account: Account, found: Sequence[Difference], what: Wanted, *, addresses: bool) -> None:
    rows = [
        (one.name, one.wanted, one.listed, len(one.missing), len(one.only_there)) for one in found
    ]
    columns = ("list", "here", "there", "missing there", "only there")
    table_or_json(False, f"lists of {account.name} at {account.host}", columns, rows)
    for (why, about), number in what.left_out.most_common():
        if why not in _QUIET:
            say(f"{number:,} not written{f' ({about})' if about else ''}: {WHY[why]}")
    if addresses:
        for one in found:
            for address in one.missing:
                put(f"{one.name}: {address}")
