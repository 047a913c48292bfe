"""Alerts about the reconciliation, as Prometheus itself judges them (``promtool test rules``)."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

RULES = Path(__file__).parents[1] / "analytics" / "prometheus" / "alerts.yml"
ACTIVE = 'mailpulse_sink_reconciliation_active{instance="%s"}'
COMPARED = 'mailpulse_sink_reconciled_seconds{instance="%s"}'
MISSING = 'mailpulse_sink_reconciliation_difference_events{instance="%s"}'
UNEXPLAINED = 'mailpulse_sink_reconciliation_unexplained_events{instance="%s"}'
NOT_HERE = {ACTIVE % "b": "0x120", COMPARED % "b": "0x120"}
"""A sink that leaves comparing to another."""

CASES: dict[str, tuple[dict[str, str], set[str]]] = {
    "compared every minute": (
        {ACTIVE % "a": "1x120", COMPARED % "a": "0+60x120", MISSING % "a": "0x120"} | NOT_HERE,
        set(),
    ),
    "nobody is to compare": (NOT_HERE, set()),
    "never compared": (
        {ACTIVE % "a": "1x120", COMPARED % "a": "0x120"} | NOT_HERE,
        {"MailpulseReconciliationStale"},
    ),
    "no longer compared": (
        {ACTIVE % "a": "1x120", COMPARED % "a": "0+60x20 1200x100"} | NOT_HERE,
        {"MailpulseReconciliationStale"},
    ),
    "missing": (
        {ACTIVE % "a": "1x120", COMPARED % "a": "0+60x120", MISSING % "a": "2x120"},
        {"MailpulseEventsMissing"},
    ),
    "stored more than was accepted": (
        {ACTIVE % "a": "1x120", COMPARED % "a": "0+60x120", UNEXPLAINED % "a": "1x120"},
        {"MailpulseEventsUnexplained"},
    ),
}
WATCHED = ("MailpulseReconciliationStale", "MailpulseEventsMissing", "MailpulseEventsUnexplained")


@pytest.mark.parametrize("name", CASES)
def test_an_alert_fires_when_it_should_and_only_then(name: str, tmp_path: Path) -> None:
    """After 100 minutes of the given metrics."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    series, firing = CASES[name]
    annotated = {rule["alert"]: rule for rule in _rules()}
    document = {
        "rule_files": [str(RULES)],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": k, "values": v} for k, v in series.items()],
                "alert_rule_test": [
                    {
                        "eval_time": "100m",
                        "alertname": alert,
                        "exp_alerts": [
                            {
                                "exp_labels": annotated[alert]["labels"],
                                "exp_annotations": annotated[alert]["annotations"],
                            }
                        ]
                        if alert in firing
                        else [],
                    }
                    for alert in WATCHED
                ],
            }
        ],
    }
    path = tmp_path / "case.yml"
    path.write_text(yaml.safe_dump(document, allow_unicode=True), "utf-8")
    done = subprocess.run([promtool, "test", "rules", str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def _rules() -> list[dict[str, Any]]:
    return [
        rule
        for group in yaml.safe_load(RULES.read_text("utf-8"))["groups"]
        for rule in group["rules"]
    ]
