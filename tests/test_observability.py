"""Metrics, rules and alerts agree with each other, with the code and with the run-books'
commands."""

import re
from typing import Any

import pytest
import typer

from ingest.problems import DETAILS
from schemas.settings import PREFIX, Settings
from schemas.topics import BY_NAME
from streams.cli.main import app
from tests.alerting.judging import ALERTS, RECORDED
from tests.metrics_table import Metric, metrics, table

WATCHDOG = "MailpulseWatchdog"
METRICS: dict[str, Metric] = {sample: one for one in metrics() for sample in one.samples}
UNITS = ("_seconds", "_bytes", "_records", "_keys", "_events", "_partitions", "_total", "_up",
         "_connections", "_statements", "_viewers", "_active", "_open", "_paused")  # fmt: skip


# `increase` misses the value at which a series is born: recording.yml, 2
_YOUNG = re.compile(
    r"\((mailpulse_\w+(?:\{[^}]*\})?) unless \1 offset (\w+)\) or (?=increase\(\1\[\2\]\))"
)
_EVER = 'mailpulse_enrich_records_total{result="lost"}'
"""A counter that may be 0 alone."""
EXPRESSIONS = RECORDED | {name: rule["expr"] for name, rule in ALERTS.items()}


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_an_expression_asks_for_what_exists(name: str) -> None:
    """Each metric is exported by a role or recorded by a rule; brackets are closed."""
    expression = EXPRESSIONS[name]
    asked = set(re.findall(r"\bmailpulse[a-z0-9_:]+", expression))
    assert asked or "up{" in expression or name in ("MailpulseProxyWithoutIngress", WATCHDOG)
    for metric in asked:
        assert metric in METRICS or metric in RECORDED, metric
    for pair in ("()", "[]", "{}"):
        assert expression.count(pair[0]) == expression.count(pair[1])


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_counters_are_rated_and_labels_exist(name: str) -> None:
    """A counter is inside rate() or increase(); labels in braces are the metric's own."""
    expression = _YOUNG.sub("", EXPRESSIONS[name]).replace(_EVER, "up")
    expression = re.sub(r"last_over_time\((\w+)\[\w+\]\)", r"\1", expression)
    for metric, braces, behind in re.findall(
        r"\b(mailpulse_[a-z0-9_]+)(\{[^}]*\})?(\[\w+\])?", expression
    ):
        known = METRICS[metric]
        assert bool(behind) == (known.kind != "gauge"), metric
        for label in re.findall(r"(\w+)\s*(?:=~|!=|=)", braces):
            assert label in known.labels, f"{metric}: {label}"


def test_values_of_labels_are_the_codes_words() -> None:
    """A result or topic named in an expression is one that the code uses."""
    text = " ".join(EXPRESSIONS.values())
    for metric, value in re.findall(r'(mailpulse_\w+)\{result=~?"([^"]+)"', text):
        words = set(value.split("|"))
        if metric == "mailpulse_ingest_requests_total":
            assert words <= set(DETAILS)
        else:
            assert words <= set(re.findall(r"[a-z_]+", METRICS[metric].meaning))
    for topic in re.findall(r'topic="([^"]+)"', text):
        assert topic in BY_NAME


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_leads_to_a_command(name: str) -> None:
    """Every alert says what is wrong and what to do; its commands and settings exist."""
    alert = ALERTS[name]
    assert alert["labels"]["severity"] in ("critical", "warning", "info", "none")
    assert re.fullmatch(r"\d+m", alert["for"])
    assert alert["annotations"]["summary"].endswith(".")
    runbook = alert["annotations"]["runbook"]
    commands = re.findall(r"«mailpulse ([^»]+)»", runbook)
    settings = re.findall(rf"{PREFIX}[A-Z_]+", runbook)
    others = re.findall(r"\b(?:As |as |see )(\w+)", runbook)
    assert commands or settings or others
    for words in commands:
        command: Any = typer.main.get_command(app)
        for word in words.split():
            if word.startswith("--"):
                assert word in {o for p in command.params for o in p.opts}, words
            elif not word.isupper():
                assert word in getattr(command, "commands", {}), words
                command = command.commands[word]
    for setting in settings:
        assert setting.removeprefix(PREFIX).lower() in Settings.model_fields
    for other in re.findall(r"\b(?:as|As|see) ([A-Z]\w+)", runbook):
        assert f"Mailpulse{other}" in ALERTS, other


def test_critical_alerts_cover_every_role() -> None:
    """Each step is watched: ingress, workers, sink, end to end."""
    critical = {name for name, rule in ALERTS.items() if rule["labels"]["severity"] == "critical"}
    assert critical >= {
        "MailpulseIngestDown", "MailpulseRoleDown", "MailpulseIngestWithoutKafka",
        "MailpulseWorkersStalled", "MailpulseSinkWithoutClickHouse", "MailpulseFiguresStale",
    }  # fmt: skip


@pytest.mark.parametrize("metric", list(metrics()), ids=lambda one: one.name)
def test_a_metric_follows_the_conventions(metric: Metric) -> None:
    """Our prefix, base units, a help text; no label with an unbounded number of values."""
    assert metric.name.startswith("mailpulse_")
    assert metric.name.endswith(UNITS)
    assert metric.meaning.endswith(".")
    assert set(metric.labels) <= {"source", "destination", "result", "reason", "topic", "partition",
                                  "stage", "state"}  # fmt: skip


def test_the_table_has_every_metric() -> None:
    """One row per metric, for the operators' page."""
    rows = table().splitlines()[2:]
    assert len(rows) == len(list(metrics())) > 35
    assert all(row.count(" | ") == 3 for row in rows)
