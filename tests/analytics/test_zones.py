"""Whatever zone the machine is in: the engine's zone is UTC, and every answer is the same.

Each test starts the role ``warehouse`` in its own process, as users do.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import clickhouse_connect
import pytest
from clickhouse_connect.driver.client import Client
from pydantic import SecretStr

from analytics import migrate
from analytics.client import connect
from schemas.settings import PREFIX, Settings
from tests.live.roles import clean_environ
from tests.live.warehouse_process import WarehouseProcess

pytestmark = pytest.mark.timeout(180)

AT = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
ZONES = ("America/New_York", "Asia/Kolkata", "Pacific/Apia")


@pytest.fixture(scope="module", params=ZONES)
def zone(request: pytest.FixtureRequest) -> Iterator[str]:
    """This process, and those that it starts, in a zone other than UTC."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", request.param)
        time.tzset()
        yield request.param
    time.tzset()


@pytest.fixture(scope="module")
def warehouse(zone: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarehouseProcess]:
    """A warehouse that was started in that zone, with one delivery in it, at noon UTC."""
    tmp_path = tmp_path_factory.mktemp("warehouse")
    with WarehouseProcess(tmp_path) as opened:
        dsn = SecretStr(opened.at.dsn())
        settings = Settings(clickhouse_dsn=dsn, clickhouse_manage_access=False, data_dir=tmp_path)
        client = connect(settings)
        migrate.apply(client, settings)
        client.command(
            "INSERT INTO events (campaign_id, event_type, event_time, received_at)"
            f" SELECT 'c', 'delivered', toDateTime({int(AT.timestamp())}, 'UTC') AS at, at"
        )
        client.command(
            "INSERT INTO campaign_minutes (campaign_id, minute, events, delivered)"
            f" SELECT 'c', toDateTime({int(AT.timestamp())}, 'UTC'), 1, 1"
        )
        client.close()
        yield opened


@pytest.fixture(scope="module")
def client(warehouse: WarehouseProcess) -> Iterator[Client]:
    """An analyst's client."""
    made = clickhouse_connect.get_client(host="127.0.0.1", port=warehouse.at.door)
    yield made
    made.close()


def test_the_engine_is_in_utc(client: Client) -> None:
    """It says so to every client, and so does each column with a time."""
    assert client.command("SELECT timezone()") == client.command("SELECT serverTimezone()") == "UTC"
    assert str(client.server_tz) == "UTC"
    [[text]] = client.query("SELECT toString(max(event_time)) FROM email_events").result_rows
    assert text == "2026-11-24 12:00:00.000"


@pytest.mark.parametrize("kind", ["DateTime", "DateTime64(3)", "DateTime('UTC')"])
@pytest.mark.parametrize("at", ["2026-11-24 12:00:00", datetime(2026, 11, 24, 12), AT])
def test_a_parameter_without_a_zone_is_utc(client: Client, kind: str, at: object) -> None:
    """``TZ=America/New_York mailpulse up`` once made such a question find nothing."""
    for comparison, expected in ((">=", 1), ("<=", 1), (">", 0), ("<", 0)):
        asked = f"SELECT count() FROM email_events WHERE event_time {comparison} {{a:{kind}}}"
        assert client.query(asked, parameters={"a": at}).result_rows == [(expected,)]


def test_commands_print_utc(warehouse: WarehouseProcess) -> None:
    """``mailpulse query`` and ``campaigns show``: the same in every zone."""
    for words in (
        ("query", "SELECT event_time FROM email_events FORMAT TSV"),
        ("campaigns", "show", "c", "--json"),
    ):
        done = subprocess.run(
            [sys.executable, "-P", "-m", "streams.cli", *words],
            env={
                **clean_environ(),
                "TZ": os.environ["TZ"],
                f"{PREFIX}CLICKHOUSE_DSN": f"http://127.0.0.1:{warehouse.at.door}/mailpulse",
            },
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "2026-11-24 12:00:00" in done.stdout, (words, done.stdout)
