"""Fleets learned from a season as an operator learns them: by the query that ``rules propose``
asks of a real ClickHouse engine, from events as they were judged by the rules in force."""

import tempfile
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from clickhouse_connect.driver.client import Client

from schemas.event import Event
from schemas.settings import Settings
from streams.classify.actor_rules import Rules
from streams.classify.fleet_rules import Proposal, fleets_in, proposal_of
from streams.cli.fleet_rows import seen_since
from tests.verdicts.season import Played
from tests.warehouses import migrated_warehouse

COLUMNS = (
    "campaign_id", "message_key", "event_time", "event_id", "event_type", "recipient",
    "recipient_identity", "mailbox_provider", "source", "machine_kind", "user_agent", "ip",
    "click_url", "click_url_group", "actor", "actor_reason", "actor_certainty",
    "unsubscribe_link", "seconds_since_delivery", "version",
)  # fmt: skip


@dataclass
class History:
    """Stored events of many campaigns.

    Attributes:
        settings: that reach them, as an analyst's.
        first_s, last_s: times of the first and last of them, seconds since 1970.
    """

    client: Client
    settings: Settings
    first_s: float = field(default=float("inf"))
    last_s: float = 0.0

    def take(self, played: Played, added: Iterable[tuple[str, dict[str, Any]]]) -> None:
        """Stores a campaign's deliveries, opens and clicks, as the sink does."""
        last = dict(added)
        events = {event["event_id"]: event for event in reversed(played.events)}
        rows = [_row(event, last[event_id]) for event_id, event in events.items()]
        times = [event["occurred_at"] / 1e6 for event in events.values()]
        self.first_s = min(self.first_s, *times)
        self.last_s = max(self.last_s, *times)
        self.client.insert("events", rows, column_names=COLUMNS)

    def proposal(self, text: str) -> Proposal | None:
        """What ``rules propose`` makes of all of it, from the rules in ``text``."""
        fleets = fleets_in(Rules.load(text))
        looked = seen_since(self.settings, int(self.first_s), int(self.last_s) + 1, fleets)
        return proposal_of(text, looked.seen, "2026-11-28")


def _row(event: Event, added: dict[str, Any]) -> list[Any]:
    recipient, message = event["recipient"] or "", event["message_id"] or ""
    return [
        event["campaign_id"] or "", uuid.uuid5(uuid.NAMESPACE_OID, f"{message} {recipient}"),
        datetime.fromtimestamp(event["occurred_at"] / 1e6, UTC), uuid.UUID(event["event_id"]),
        event["event_type"], recipient, recipient, added["mailbox_provider"], event["source"],
        event["machine_kind"], event["user_agent"] or "", event["ip"] or "",
        event["click_url"] or "", added["click_url_group"], added["actor"],
        added["actor_reason"], added["actor_certainty"], added["unsubscribe_link"],
        added["seconds_since_delivery"], 1,
    ]  # fmt: skip


@contextmanager
def history() -> Iterator[History]:
    """An empty one, on an engine of its own."""
    with (
        tempfile.TemporaryDirectory() as folder,
        migrated_warehouse(Path(folder)) as (warehouse, client),
    ):
        yield History(client, warehouse.reader_settings)
