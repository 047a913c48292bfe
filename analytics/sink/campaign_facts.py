"""Finds conflicting facts about campaigns, so that the sink can report them.

Invariants:
1. ``conflicts`` is pure. Facts with a later ``updated_at`` replace others, as in the table, whose
   version it is; with equal times, those later in the log.
2. Writing the same facts again is not a conflict.
3. ``known_facts`` reads the table; a campaign that is not in it has no facts yet.
"""

from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from analytics.client import check_origin, judged

FIELDS = ("name", "owner", "started_at", "expected_recipients", "tags")


@dataclass(frozen=True, slots=True)
class Account:
    """Facts about a campaign, as written at one time.

    Attributes:
        updated_at: microseconds since 1970, by the writer's clock.
        facts: by name; times in milliseconds; empty if withdrawn.
    """

    updated_at: int
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Conflict:
    """Two accounts of a campaign that differ.

    Attributes:
        fields: names of the facts that differ.
        replaced: whether the one that comes later in the log replaces the other; if not, it was
            written earlier and is ignored.
    """

    campaign: str
    fields: tuple[str, ...]
    replaced: bool


def account_of(record: Mapping[str, Any]) -> Account:
    """The account in a decoded record, or in the substitute for a tombstone."""
    if record.get("tombstone"):
        return Account(record["updated_at"], {})
    started = record["started_at"]
    facts = {name: record[name] for name in FIELDS}
    facts |= {
        "tags": list(record["tags"]),
        "started_at": None if started is None else started // 1000,
    }
    return Account(record["updated_at"], facts)


def conflicts(
    known: MutableMapping[str, Account], records: Iterable[Mapping[str, Any]]
) -> list[Conflict]:
    """Compares records, in log order, with the known accounts, which it updates."""
    found = []
    for record in records:
        campaign, account = record["campaign_id"], account_of(record)
        before = known.get(campaign)
        if before is None or account.updated_at >= before.updated_at:
            known[campaign] = account
        if before is None or not before.facts:
            continue
        fields = tuple(name for name in FIELDS if before.facts.get(name) != account.facts.get(name))
        if fields:
            found.append(Conflict(campaign, fields, account.updated_at >= before.updated_at))
    return found


KNOWN = (
    "SELECT campaign_id, toUnixTimestamp64Micro(updated_at), name, owner,"
    " toUnixTimestamp64Milli(started_at), expected_recipients, tags"
    " FROM campaigns FINAL WHERE campaign_id IN {campaigns:Array(String)}"
)


def known_facts(client: Client, campaigns: Iterable[str]) -> dict[str, Account]:
    """The accounts in the table, by campaign.

    Raises:
        Unavailable: ClickHouse is unavailable or too slow.
    """
    try:
        answer = client.query(KNOWN, parameters={"campaigns": sorted(set(campaigns))})
        rows = answer.result_rows
    except (ClickHouseError, OSError) as error:
        raise judged(error) from error
    check_origin(answer.summary)
    return {
        campaign: Account(
            updated_at, dict(zip(FIELDS, (*facts[:-1], list(facts[-1])), strict=True))
        )
        for campaign, updated_at, *facts in rows
    }
