"""Grafana's boards: every query runs, every panel explains itself, names are those of the code."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from clickhouse_connect.driver.client import Client

from schemas.glossary import COUNTER_NAMES
from tests.alerting.judging import RECORDED
from tests.metrics_table import metrics
from tests.warehouses import migrated_warehouse

FOLDER = Path(__file__).parents[2] / "analytics"
BOARDS = {
    path.stem: json.loads(path.read_text("utf-8"))
    for path in sorted((FOLDER / "grafana" / "dashboards").glob("*.json"))
}
PANELS = [
    pytest.param(panel, id=f"{name}: {panel['title']}")
    for name, board in BOARDS.items()
    for panel in board["panels"]
]
CLICKHOUSE, PROMETHEUS = "mailpulse-clickhouse", "mailpulse-prometheus"
CAMPAIGN = "it's \\ one"


def targets(uid: str) -> list[Any]:
    """The queries of every panel over one data source."""
    return [
        pytest.param(panel, target, id=f"{name}: {panel['title']} {target['refId']}")
        for name, board in BOARDS.items()
        for panel in board["panels"]
        for target in panel["targets"]
        if target["datasource"]["uid"] == uid
    ]


def expanded(sql: str, now: datetime) -> str:
    """A query as Grafana sends it for the last two hours, with macros and variables expanded.

    Two hours begin in the middle of a day, so a day's row, whose time is midnight, must be found by
    its day. https://github.com/grafana/clickhouse-datasource#macros
    """
    since, until = (f"toDateTime({int(at.timestamp())})" for at in (now - timedelta(hours=2), now))
    sql = re.sub(r"\$__timeFilter\(([\w.]+)\)", rf"\1 >= {since} AND \1 <= {until}", sql)
    sql = sql.replace("$__fromTime", since).replace("$__toTime", until)
    quoted = CAMPAIGN.replace("\\", "\\\\").replace("'", "\\'")
    sql = sql.replace("${campaign:sqlstring}", f"'{quoted}'")
    assert "$" not in sql, sql
    return sql


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A migrated database in which every board has something to show."""
    with migrated_warehouse(tmp_path_factory.mktemp("grafana")) as (_, opened):
        fill(opened)
        yield opened


def fill(client: Client) -> None:
    """One of everything."""
    now = datetime.now(UTC) - timedelta(hours=1)
    names = ["campaign_id", "mailbox_provider", "minute", "log_id", "offset", *COUNTER_NAMES]
    client.insert(
        "campaign_minutes",
        [[CAMPAIGN, "gmail", now, "log", 1, *([7] * len(COUNTER_NAMES))]],
        column_names=names,
    )
    common = {
        "campaign_id": CAMPAIGN, "event_time": now, "occurred_at": now, "received_at": now,
        "source": "news", "recipient": "a@example.com", "mailbox_provider": "gmail",
    }  # fmt: skip
    for number, event in enumerate(
        (
            {"event_type": "bounced", "bounce_class": "hard", "bounce_reason": "no_mailbox"},
            {"event_type": "clicked", "actor": "human", "click_url_group": "https://example.com"},
            {"event_type": "opened", "actor": "machine", "actor_reason": "apple_mpp"},
        )
    ):
        row = {**common, **event, "event_id": f"00000000-0000-0000-0000-00000000000{number}"}
        client.insert("events", [list(row.values())], column_names=list(row))
    client.insert("reconciled", [[now, "news", 3]], column_names=["minute", "source", "accepted"])
    client.insert(
        "incident_changes",
        [[CAMPAIGN, "opened", "critical", "hard_bounce_rate", 0.1, 3, 20, 0.15, now, now]],
        column_names=["campaign_id", "state", "level", "rate", "line", "numerator", "denominator",
                      "value", "as_of", "opened_at"],
    )  # fmt: skip
    client.insert(
        "dead_letters", [["enrich", "not_json", "detail", now]],
        column_names=["stage", "reason", "detail", "occurred_at"],
    )  # fmt: skip
    client.insert("suppressions", [["a@example.com", now]], column_names=["recipient", "since"])


@pytest.mark.parametrize(("panel", "target"), targets(CLICKHOUSE))
def test_every_query_runs_and_finds_the_sample(
    client: Client, panel: dict[str, Any], target: dict[str, Any]
) -> None:
    """On a migrated engine with one of everything; a series begins with a time."""
    result = client.query(expanded(target["rawSql"], datetime.now(UTC)))
    assert result.row_count > 0
    if target["queryType"] == "timeseries":
        assert result.column_names[0] == "time"
        assert "DateTime" in result.column_types[0].name
        assert target["format"] == 0
    for override in panel["fieldConfig"]["overrides"]:
        assert override["matcher"]["options"] in result.column_names


def test_variables_offer_the_sample(client: Client) -> None:
    """The list of campaigns is a query too."""
    for board in BOARDS.values():
        for variable in board["templating"]["list"]:
            rows = client.query(expanded(variable["query"], datetime.now(UTC))).result_rows
            assert rows == [(CAMPAIGN,)]


@pytest.mark.parametrize(("panel", "target"), targets(PROMETHEUS))
def test_every_expression_asks_for_what_exists(
    panel: dict[str, Any], target: dict[str, Any]
) -> None:
    """Metrics that a role exports or a rule records, counters inside a rate."""
    exported = {sample for one in metrics() for sample in one.samples}
    asked = set(re.findall(r"\bmailpulse[a-z0-9_:]+", target["expr"]))
    assert asked or re.search(r"\b(up|ALERTS|ClickHouse\w+|caddy_\w+)\b", target["expr"])
    for name in asked:
        assert name in RECORDED or name in exported, name
        if name.endswith("_total"):
            assert re.search(rf"rate\({name}[^)]*\[", target["expr"])


@pytest.mark.parametrize("panel", PANELS)
def test_every_panel_has_a_unit_and_a_description(panel: dict[str, Any]) -> None:
    """No figure without an explanation."""
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["description"].endswith(".")
    assert len(panel["description"]) > 20
    assert panel["title"]


def test_boards_fit_their_grid_and_data_sources_are_provisioned() -> None:
    """24 columns, no overlap, unique ids; every uid is one that a file provisions."""
    provisioned = {
        source["uid"]
        for path in (
            FOLDER / "grafana" / "provisioning" / "datasources" / "clickhouse.yml",
            FOLDER / "prometheus" / "grafana-datasource.yml",
        )
        for source in yaml.safe_load(path.read_text("utf-8"))["datasources"]
    }
    assert {"campaigns", "deliverability", "pipeline", "operations", "objectives"} == BOARDS.keys()
    for board in BOARDS.values():
        taken: set[tuple[int, int]] = set()
        for panel in board["panels"]:
            place = panel["gridPos"]
            cells = {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
            assert not cells & taken
            assert place["x"] + place["w"] <= 24
            taken |= cells
            for target in panel["targets"]:
                assert target["datasource"]["uid"] in provisioned
        ids = [panel["id"] for panel in board["panels"]]
        assert len(ids) == len(set(ids))
