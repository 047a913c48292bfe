"""How much of a campaign is sent: columns of ``campaign_summary``."""

from collections.abc import Iterator

import pytest
from clickhouse_connect.driver.client import Client

from tests.warehouses import migrated_warehouse


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A client of a migrated database."""
    with migrated_warehouse(tmp_path_factory.mktemp("sent")) as (_, client):
        yield client


@pytest.mark.parametrize("nulls", [0, 1])
@pytest.mark.parametrize(
    ("facts", "expected", "share"),
    [
        (None, None, None),
        ("NULL", None, None),
        ("0", None, None),
        ("-5", None, None),
        ("120000", 120_000, 0.94),
        ("112800", 112_800, 1.0),
        ("100000", 100_000, 1.128),
    ],
)
def test_share_of_the_expected_recipients(
    client: Client, facts: str | None, expected: int | None, share: float | None, nulls: int
) -> None:
    """NULL where nobody said how many, above 1 where it was sent to more, by the newest facts."""
    client.command("TRUNCATE TABLE campaign_minutes")
    client.command("TRUNCATE TABLE campaigns")
    client.command(
        "INSERT INTO campaign_minutes (campaign_id, minute, log_id, offset, events, delivered,"
        " bounced_hard, suppressed) VALUES ('spring', now() - 100, 'log', 1, 9, 110000, 2800, 7)"
    )
    if facts is not None:
        for amount, at in (("1", "now64(6) - 60"), (facts, "now64(6)")):
            client.command(
                f"INSERT INTO campaigns VALUES ('spring', '', '', NULL, {amount}, [], {at}, 0)"
            )
    found = client.query(
        "SELECT expected_recipients, sent_of_expected FROM campaign_summary"
        f" SETTINGS join_use_nulls = {nulls}"
    ).result_rows
    assert list(map(tuple, found)) == [(expected, share)]


def test_facts_that_were_withdrawn_are_unknown(client: Client) -> None:
    """A tombstone of the topic takes the number away."""
    client.command("TRUNCATE TABLE campaigns")
    for amount, gone in (("120000", 0), ("NULL", 1)):
        client.command(
            "INSERT INTO campaigns VALUES"
            f" ('spring', '', '', NULL, {amount}, [], now64(6) + {gone}, {gone})"
        )
    found = client.query("SELECT sent_of_expected FROM campaign_summary").result_rows
    assert list(map(tuple, found)) == [(None,)]
