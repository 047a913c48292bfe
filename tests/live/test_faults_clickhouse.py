"""ClickHouse down, hanging, answering 500, closing the connection after the insert: figures hold.

The sink talks HTTP to the real engine through a proxy that fails on command.
"""

import time
from pathlib import Path

import pytest

from streams.simulation.accounts import open_accounts
from streams.simulation.load import Shape
from tests.live.clickhouse_server import Trouble, Troubled
from tests.live.faults import Trial
from tests.live.fixtures import KafkaCluster
from tests.live.roles import Pipeline

pytestmark = pytest.mark.timeout(480)


def test_every_way_in_which_clickhouse_fails(kafka_cluster: KafkaCluster, tmp_path: Path) -> None:
    """Each kind of failure for some seconds, then a kill -9 of the server: each event once, each
    figure."""
    (broker,) = kafka_cluster()
    accounts = open_accounts()
    with Troubled(tmp_path) as clickhouse:
        settings = {
            "CLICKHOUSE_DSN": clickhouse.dsn,
            "CLICKHOUSE_TIMEOUT_S": "3",
            "CLICKHOUSE_COMPRESS": "false",
            "CLICKHOUSE_MANAGE_ACCESS": "false",
            "SINK_BACKOFF_MS_MAX": "500",
        }
        with Pipeline(
            broker.bootstrap, tmp_path, accounts.toml, accounts.environ, settings=settings
        ) as pipeline:
            trial = Trial(pipeline, accounts, tmp_path, dsn=clickhouse.dsn,
                          shape=Shape(duplicates=0.1))  # fmt: skip
            seen: dict[str, int] = {}

            def fault(trial: Trial) -> None:
                troubles: tuple[Trouble, ...] = ("cut_after", "hang", "500", "refuse")
                for trouble in troubles:
                    before = clickhouse.failed + clickhouse.cuts
                    clickhouse.trouble = trouble
                    time.sleep(5)
                    clickhouse.trouble = ""
                    seen[trouble] = clickhouse.failed + clickhouse.cuts - before
                    time.sleep(2)
                clickhouse.process.kill()
                time.sleep(2)
                clickhouse.start()

            trial.check(trial.run(38, fault))
            assert all(seen.values()), f"a trouble met nobody: {seen}"
            assert clickhouse.cuts >= 3
            assert "sink-1" not in trial.restarts, "the sink waits for ClickHouse and does not end"
