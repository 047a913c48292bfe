"""Each alert leads to its run-book and reaches somebody; Kubernetes finds the roles."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from streams.cli.main import app
from tests.alerting.judging import ALERTS, RULE_FILES, rules
from tests.alerting.pages import KUBERNETES, PAGE, prometheus_rule
from tests.alerting.watching import RULES, program
from tests.compose import ROOT
from tests.live.fixtures import or_skip
from tests.test_kubernetes import base_settings, kubernetes, pods
from tests.test_readme import anchors

JOBS = {"mailpulse-ingest", "mailpulse-worker", "mailpulse-sink", "mailpulse-deliver",
        "mailpulse-dashboard"}  # fmt: skip
ROUTES = RULES / "alertmanager.yml"


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_leads_to_its_run_book(name: str) -> None:
    """Its link is to a heading of the page, and the text below is its own."""
    path, _, anchor = ALERTS[name]["annotations"]["runbook_url"].partition("#")
    assert path == PAGE
    text = (ROOT / path).read_text("utf-8")
    assert anchor in anchors(text)
    assert anchor == name.lower()


@pytest.mark.parametrize(
    "words",
    sorted(
        {
            tuple(word for word in command.split() if not (word.isupper() or word[0] == "-"))
            for rule in ALERTS.values()
            for command in re.findall(r"«mailpulse ([^»]+)»", rule["annotations"]["runbook"])
        }
    ),
    ids=" ".join,
)
def test_a_command_of_a_run_book_explains_itself(words: tuple[str, ...]) -> None:
    """With ``--help``, as somebody who is woken up by the alert would ask."""
    done = CliRunner().invoke(app, [*words, "--help"])
    assert done.exit_code == 0, done.output
    assert " ".join(words) in done.output


def test_kubernetes_gets_the_same_rules() -> None:
    """``python -m tests.alerting.pages`` writes them."""
    text = KUBERNETES.read_text("utf-8")
    assert text == prometheus_rule()
    groups = yaml.safe_load(text)["spec"]["groups"]
    assert [rule for group in groups for rule in group["rules"]] == rules()


def test_the_folder_for_kubernetes_is_whole() -> None:
    """Its kustomization names every object's file, in the namespace of the roles."""
    folder = KUBERNETES.parent
    document = yaml.safe_load((folder / "kustomization.yaml").read_text("utf-8"))
    others = {"kustomization.yaml", "scrape.yml"}
    assert {path.name for path in folder.iterdir()} == {*document["resources"], *others}
    base = yaml.safe_load((ROOT / "streams/deploy/kustomization.yaml").read_text("utf-8"))
    assert document["namespace"] == base["namespace"]


def test_the_operator_finds_every_role_under_its_job() -> None:
    """Each pod is selected by one monitor, at a port that it has; the job is its name label."""
    monitors = list(yaml.safe_load_all((RULES / "kubernetes" / "pod-monitors.yaml").read_text()))
    found = set()
    for template in pods().values():
        labels, [container] = template["metadata"]["labels"], template["spec"]["containers"]
        name = labels["app.kubernetes.io/name"]
        ports = {one["name"]: one["containerPort"] for one in container.get("ports", ())}
        for monitor in monitors:
            spec = monitor["spec"]
            if name in _selected(spec["selector"]):
                assert spec["jobLabel"] == "app.kubernetes.io/name"
                [endpoint] = spec["podMetricsEndpoints"]
                annotated = template["metadata"]["annotations"]["prometheus.io/port"]
                assert str(ports[endpoint["port"]]) == annotated
                assert name not in found
                found.add(name)
    assert found == JOBS


def _selected(selector: dict[str, Any]) -> set[str]:
    return {*selector.get("matchLabels", {}).values()} | {
        value for one in selector.get("matchExpressions", ()) for value in one["values"]
    }


def test_annotations_lead_to_the_same_jobs(tmp_path: Path) -> None:
    """The configuration without an operator, on what Kubernetes would say of each pod."""
    document = yaml.safe_load((RULES / "kubernetes" / "scrape.yml").read_text("utf-8"))
    [scrape] = document["scrape_configs"]
    found = {}
    for template in pods().values():
        meta = template["metadata"]
        given = {"__address__": "10.0.0.7:1", "__meta_kubernetes_pod_ip": "10.0.0.7"}
        for kind in ("label", "annotation"):
            for name, value in meta.get(f"{kind}s", {}).items():
                given[f"__meta_kubernetes_pod_{kind}_{re.sub(r'[^a-zA-Z0-9_]', '_', name)}"] = value
        labels = _relabelled(given, scrape["relabel_configs"])
        if labels is not None:
            found[labels["job"]] = labels["__address__"]
    settings = base_settings()
    ports = {job: settings["MAILPULSE_METRICS_PORT"] for job in JOBS}
    ports["mailpulse-ingest"] = settings["MAILPULSE_INGEST_PORT"]
    assert found == {job: f"10.0.0.7:{port}" for job, port in ports.items()}
    # Debian's promtool is built without Kubernetes' discovery
    scrape["static_configs"] = [{"targets": ["x:1"]}]
    assert scrape.pop("kubernetes_sd_configs")
    config = tmp_path / "prometheus.yml"
    config.write_text(yaml.safe_dump(document), "utf-8")
    _run("promtool", "check", "config", str(config))


def _relabelled(labels: dict[str, str], steps: list[dict[str, Any]]) -> dict[str, str] | None:
    """What Prometheus makes of labels by ``keep`` and ``replace``; ``None``: dropped."""
    labels = dict(labels)
    for step in steps:
        text = ";".join(labels.get(name, "") for name in step["source_labels"])
        match = re.fullmatch(step.get("regex", "(.*)"), text)
        if step.get("action") == "keep":
            if match is None:
                return None
        elif match is not None:
            replacement = re.sub(r"\$(\d)", r"\\\1", step.get("replacement", "$1"))
            labels[step["target_label"]] = match.expand(replacement)
    return labels


def test_the_monitors_namespace_is_admitted() -> None:
    """The port of every role is open to Prometheus; ingress's by the label of its namespace."""
    [policy] = [one for one in kubernetes() if one["metadata"]["name"] == "mailpulse-metrics"]
    assert _selected(policy["spec"]["podSelector"]) == JOBS - {"mailpulse-ingest"}


def _run(*words: str) -> str:
    path = or_skip(lambda: program(words[0]))
    done = subprocess.run([path, *words[1:]], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_prometheus_takes_rules_and_configuration() -> None:
    """As promtool sees them."""
    _run("promtool", "check", "rules", *(str(RULES / name) for name in RULE_FILES))
    _run("promtool", "check", "config", str(RULES / "prometheus.yml"))


def test_alertmanager_takes_its_configuration() -> None:
    """As amtool sees it; whoever is named in a rule of inhibition is an alert."""
    _run("amtool", "check-config", str(ROUTES))
    for part in re.findall(r'alertname=~?"([^"]+)"', ROUTES.read_text("utf-8")):
        prefix, _, names = part.rstrip(")").partition("(")
        for name in [prefix + one for one in names.split("|")]:
            assert name in ALERTS, name


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_reaches_whom_its_severity_says(name: str) -> None:
    """By amtool, on the labels that it has."""
    severity = ALERTS[name]["labels"]["severity"]
    wanted = {"critical": "page", "warning": "ticket", "info": "nobody", "none": "dead-mans-switch"}
    told = _run(
        "amtool", "config", "routes", "test", f"--config.file={ROUTES}",
        f"alertname={name}", f"severity={severity}",
    )  # fmt: skip
    assert told.split() == [wanted[severity]]
