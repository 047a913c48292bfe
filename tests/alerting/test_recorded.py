"""The rules and boards on what a real pipeline exported: `make record-metrics`.

Names and labels are those of running roles, so a rule that looks for what nobody exports fails.
"""

import json
import re
from pathlib import Path

import pytest

from tests.alerting.judging import ALERTS, RECORDED, check, check_firing
from tests.alerting.record import PHASES
from tests.alerting.recorded_series import phases, recording
from tests.alerting.watching import RULES

EXPECTED: dict[str, set[str]] = {
    "idle": set(),
    "busy": set(),
    "worker_away": {"MailpulseRoleDown"},
    "clickhouse_away": {"MailpulseSinkWithoutClickHouse"},
    "kafka_away": {"MailpulseIngestWithoutKafka"},
    "dead_letters": {"MailpulseDeadLetterBurst"},
}
"""Phase -> what has to fire at its end."""
ONLY_WITH = {
    "mailpulse_deliver_expires_seconds": "a destination that is far behind",
    "mailpulse_sink_dead_letters_total": "records that ClickHouse refuses",
    "mailpulse_state_snapshots_total": "a snapshot, which a worker begins after ten minutes",
    "mailpulse_source_silence_seconds": "a source whose rhythm is known, which takes two weeks",
}
"""Metric -> what must happen before there is one; no phase does."""
BOARDS = (RULES.parent / "grafana" / "dashboards").glob("*.json")
PANELS = {
    f"{path.stem}: {panel['title']} {target['refId']}": target["expr"]
    for path in sorted(BOARDS)
    for panel in json.loads(path.read_text("utf-8"))["panels"]
    for target in panel["targets"]
    if target["datasource"]["uid"] == "mailpulse-prometheus"
}
ELSEWHERE = re.compile(r"ClickHouseProfileEvents_|caddy_")
"""Metrics of others' programs, which are not part of these recordings."""


def without_budgets(names: set[str] | frozenset[str]) -> set[str]:
    """Their windows are longer than a recording."""
    return {name for name in names if "Budget" not in name}


def test_every_phase_is_recorded() -> None:
    """And something is expected of each."""
    assert set(phases()) == set(PHASES) == set(EXPECTED)


@pytest.mark.parametrize("phase", EXPECTED)
def test_alerts_fired_in_the_real_run(phase: str) -> None:
    """Those that must, and no other."""
    fired = without_budgets(recording(phase).fired) - {"MailpulseWatchdog"}
    assert fired == EXPECTED[phase]


@pytest.mark.parametrize("kubernetes", [False, True], ids=["compose", "kubernetes"])
@pytest.mark.parametrize("phase", EXPECTED)
def test_the_rules_judge_a_recording_alike(phase: str, kubernetes: bool, tmp_path: Path) -> None:
    """As Prometheus did then, by the labels of compose and by those of Kubernetes."""
    one = recording(phase)
    check_firing(
        one.named(kubernetes), without_budgets(one.fired), tmp_path, at_s=one.seconds,
        step_s=one.step_s, files=("recording.yml", "alerts.yml"),
    )  # fmt: skip


def selectors(expression: str) -> set[tuple[str, frozenset[str]]]:
    """Each metric with the labels that it is selected by."""
    found = re.findall(r"\b(mailpulse_\w+|up)\b(?:\{([^}]*)\})?", expression)
    return {(name, frozenset(re.findall(r"(\w+)\s*(?:=~|!=|=)", inner))) for name, inner in found}


def test_every_metric_that_is_asked_for_was_exported() -> None:
    """By a role that ran, with the labels that it is selected by."""
    exported: dict[str, set[str]] = {}
    for phase in phases():
        for labels in recording(phase).series:
            own = dict(labels)
            exported.setdefault(own["__name__"], set()).update(own)
    asked = [*RECORDED.values(), *(rule["expr"] for rule in ALERTS.values()), *PANELS.values()]
    for expression in asked:
        for name, wanted in selectors(expression):
            if name not in ONLY_WITH:
                assert name in exported, f"{name} in {expression}"
                assert wanted <= exported[name], f"{wanted} of {name}"


def test_no_panel_is_empty(tmp_path: Path) -> None:
    """On a pipeline that has been busy for minutes, each shows a figure."""
    one = recording("busy")
    shown = {
        f"count(({expression}) == ({expression})) > bool 0": [{"value": 1}]
        for expression in PANELS.values()
        if not ELSEWHERE.search(expression)
    }
    assert len(shown) > 20
    check(one.named(), shown, tmp_path, at_s=one.seconds, step_s=one.step_s)


def test_stats_of_an_idle_pipeline_are_figures(tmp_path: Path) -> None:
    """What is shown as one number is 0 rather than nothing."""
    one = recording("idle")
    shown = {
        expression: [{"value": 0, "labels": labels}]
        for expression, labels in (
            ("mailpulse:ingest_events:rate1m", '{__name__="mailpulse:ingest_events:rate1m"}'),
            ("mailpulse:ingest_refused:ratio5m", '{__name__="mailpulse:ingest_refused:ratio5m"}'),
            ("mailpulse:dead_letters:rate5m", '{__name__="mailpulse:dead_letters:rate5m"}'),
            ("mailpulse:slo_loss_events:sum", '{__name__="mailpulse:slo_loss_events:sum"}'),
            ("sum(mailpulse:worker_lag_records:sum)", "{}"),
        )
    }
    check(one.named(), shown, tmp_path, at_s=one.seconds, step_s=one.step_s)
