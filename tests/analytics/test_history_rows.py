"""Imported history in ClickHouse: events like others, but not compared with the raw topic."""

from collections.abc import Iterator
from uuid import UUID

import pytest
from clickhouse_connect.driver.client import Client

from analytics.sink.rows import STATEMENTS
from schemas.history_log import history_log_id
from schemas.topics import ENRICHED, HISTORY
from tests.warehouses import migrated_warehouse


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A database with all migrations."""
    with migrated_warehouse(tmp_path_factory.mktemp("history")) as (_, one):
        yield one


def test_history_is_no_record_that_ingress_did_not_accept(client: Client) -> None:
    """Else its last days would be ``unexplained``; its ids are known as stored all the same."""
    history, live = (UUID(int=number) for number in (1, 2))
    for event_id, log_id in ((history, history_log_id(0, 7)), (live, "live")):
        client.command(
            "INSERT INTO events (event_id, log_id, source, event_time, received_at)"
            f" VALUES ('{event_id}', '{log_id}', 'news', now64(3), now64(3))"
        )
    rows = client.query("SELECT event_id FROM stored").result_rows
    assert [*rows] == [(live,)]
    assert client.query("SELECT count() FROM stored_ids").result_rows[0][0] == 2


def test_history_is_stored_as_live_events_are() -> None:
    """By the same statement."""
    assert STATEMENTS[HISTORY] == STATEMENTS[ENRICHED]
