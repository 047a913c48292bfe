"""The kustomize base for Kubernetes: every reference resolves, and every setting exists."""

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from schemas.serving.origin import Networks
from schemas.topics import BY_NAME
from streams.cli.telemetry import ENDPOINTS, tracer_of
from streams.embedded.role_environ import REFERRING, SETTINGS
from streams.worker.scaled_away import stateful_set_of
from tests.compose import OURS, ROOT, is_command, load
from tests.lock import packages

KUBERNETES = ROOT / "streams" / "deploy"


def kubernetes() -> Iterator[dict[str, Any]]:
    """Every object of the base."""
    base = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text("utf-8"))
    for name in base["resources"]:
        yield from yaml.safe_load_all((KUBERNETES / name).read_text("utf-8"))


def pods() -> dict[str, dict[str, Any]]:
    """Name -> pod template of every workload."""
    return {
        f"{one['kind']}/{one['metadata']['name']}": one["spec"]["template"]
        for one in kubernetes()
        if "template" in one.get("spec", {})
    }


def base_settings() -> dict[str, str]:
    """The literals of the base's ConfigMap."""
    base = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text("utf-8"))
    [generator] = base["configMapGenerator"]
    return dict(line.split("=", 1) for line in generator["literals"])


def test_the_base_names_every_file_of_its_folder() -> None:
    """No manifest is unused."""
    base = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text("utf-8"))
    files = {path.name for path in KUBERNETES.glob("*.yaml")} - {"kustomization.yaml"}
    assert files == set(base["resources"])


def test_each_role_is_the_workload_it_should_be() -> None:
    """Workers have stable names and volumes, the others are interchangeable."""
    assert set(pods()) == {
        "Deployment/mailpulse-ingest", "StatefulSet/mailpulse-worker", "Deployment/mailpulse-sink",
        "Deployment/mailpulse-deliver",
        "Deployment/mailpulse-dashboard", "Job/mailpulse-topics", "Job/mailpulse-migrate",
    }  # fmt: skip
    [worker] = [one for one in kubernetes() if one["kind"] == "StatefulSet"]
    [claim] = worker["spec"]["volumeClaimTemplates"]
    mounts = worker["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]
    assert {"name": claim["metadata"]["name"], "mountPath": "/var/lib/mailpulse"} in mounts
    assert base_settings()["MAILPULSE_DATA_DIR"] == "/var/lib/mailpulse"
    env = worker["spec"]["template"]["spec"]["containers"][0]["env"]
    [instance] = [one for one in env if one["name"] == "MAILPULSE_GROUP_INSTANCE_ID"]
    assert instance["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name"


@pytest.mark.parametrize("name", pods())
def test_a_pod_is_confined_and_complete(name: str) -> None:
    """Not root, read-only, limits set, every mount has its volume, its command exists."""
    spec = pods()[name]["spec"]
    # with service links, MAILPULSE_INGEST_PORT would be Kubernetes' word for a Service
    assert spec["enableServiceLinks"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    [container] = spec["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["capabilities"]["drop"] == ["ALL"]
    assert container["resources"]["limits"]["memory"]
    assert is_command(container["args"])
    volumes = {one["name"] for one in spec["volumes"]}
    claims = {"state"} if name.startswith("StatefulSet") else set()
    assert {one["name"] for one in container["volumeMounts"]} == volumes | claims
    given = base_settings() | {
        one["name"]: one.get("value", "x") for one in container.get("env", ())
    }
    load(given)
    if not name.startswith("Job"):
        port = container["readinessProbe"]["httpGet"]["port"]
        assert port in {one["name"] for one in container["ports"]}
        assert "livenessProbe" in container


@pytest.mark.parametrize("name", [name for name in pods() if not name.startswith("Job")])
def test_spans_are_off_until_an_overlay_says_where_they_go(name: str) -> None:
    """Every role gets the setting from the base's ConfigMap, as with compose; the image has the
    SDK."""
    [container] = pods()[name]["spec"]["containers"]
    assert container["envFrom"] == [{"configMapRef": {"name": "mailpulse"}}]
    settings, [role] = base_settings(), container["args"]
    assert tracer_of(settings, role) is None
    compose = [one for one in OURS.values() if one["command"] == [role]]
    assert compose
    assert all(ENDPOINTS[0] in one["environment"] for one in compose)
    overlay = settings | {ENDPOINTS[0]: "http://collector.monitoring:4318"}
    assert set(overlay) == set(settings), "the overlay sets what is not there to be set"
    assert tracer_of(overlay, role) is not None
    assert ".ci/lock/image.txt" in (ROOT / "Dockerfile").read_text("utf-8")
    assert "opentelemetry-sdk" in packages("image")


def test_ports_of_pods_are_the_ones_of_the_settings() -> None:
    """A container's port is the one on which the process listens by the base's settings."""
    settings = load(dict(base_settings()))
    wanted = {
        "ingest": {settings.ingest_port}, "worker": {settings.metrics_port},
        "sink": {settings.metrics_port}, "deliver": {settings.metrics_port},
        "dashboard": {settings.dashboard_port, settings.metrics_port},
    }  # fmt: skip
    for template in pods().values():
        [container] = template["spec"]["containers"]
        ports = {port["containerPort"] for port in container.get("ports", ())}
        assert ports == wanted.get(container["name"], set())


def test_prometheus_finds_the_metrics_of_every_role() -> None:
    """Each role's pods are annotated with the port of its metrics, and monitoring may reach it."""
    settings = load(dict(base_settings()))
    [policy] = [one for one in kubernetes() if one["metadata"]["name"] == "mailpulse-metrics"]
    [reached] = policy["spec"]["podSelector"]["matchExpressions"]
    [rule] = policy["spec"]["ingress"]
    annotated = set()
    for template in pods().values():
        annotations = template["metadata"].get("annotations")
        if annotations is None:
            continue
        [container] = template["spec"]["containers"]
        role = container["name"]
        annotated.add(role)
        assert annotations["prometheus.io/scrape"] == "true"
        port = settings.ingest_port if role == "ingest" else settings.metrics_port
        assert annotations["prometheus.io/port"] == str(port)
        if role != "ingest":
            assert template["metadata"]["labels"]["app.kubernetes.io/name"] in reached["values"]
            assert rule["ports"] == [{"port": port}]
    assert annotated == {"ingest", "worker", "sink", "deliver", "dashboard"}


def test_selectors_find_their_pods() -> None:
    """Services, disruption budgets and policies select labels that pods carry."""
    labels = [template["metadata"]["labels"] for template in pods().values()]
    carried = {(key, value) for one in labels for key, value in one.items()}
    carried.add(("app.kubernetes.io/part-of", "mailpulse"))  # by the base's `labels`
    selected = 0
    for one in kubernetes():
        if one["kind"] in ("Service", "PodDisruptionBudget", "NetworkPolicy"):
            spec = one["spec"]
            selector = spec.get("selector") or spec.get("podSelector")
            wanted = selector.get("matchLabels", selector)
            pairs = {pair for pair in wanted.items() if isinstance(pair[1], str)}
            pairs |= {
                (rule["key"], value)
                for rule in selector.get("matchExpressions", ())
                for value in rule["values"]
            }
            assert pairs
            assert pairs <= carried, one["metadata"]["name"]
            selected += 1
    assert selected >= 8


def test_scaling_is_slow_bounded_and_about_lag_that_exists() -> None:
    """KEDA watches our groups and topics, and never asks for more workers than partitions."""
    settings = load(dict(base_settings()))
    groups = {"mailpulse-worker": settings.consumer_group, "mailpulse-sink": settings.sink_group}
    scaled = [one for one in kubernetes() if one["kind"] == "ScaledObject"]
    assert {one["spec"]["scaleTargetRef"]["name"] for one in scaled} == set(groups)
    for one in scaled:
        spec = one["spec"]
        kind, name = spec["scaleTargetRef"]["kind"], spec["scaleTargetRef"]["name"]
        assert f"{kind}/{name}" in pods()
        assert 1 <= spec["minReplicaCount"] <= spec["maxReplicaCount"] <= settings.partitions
        assert spec["cooldownPeriod"] >= 900
        down = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]
        assert down["stabilizationWindowSeconds"] >= 900
        [trigger] = spec["triggers"]
        assert trigger["metadata"]["topic"] in BY_NAME
        assert trigger["metadata"]["consumerGroup"] == groups[name]
        assert trigger["metadata"]["bootstrapServers"] == settings.kafka_bootstrap


def test_trusted_networks_are_admitted_by_label() -> None:
    """A network of pods is trusted, so the policy admits only labelled namespaces."""
    assert Networks(load(base_settings()).trusted_proxies)
    [hooks] = [one for one in kubernetes() if one["metadata"]["name"] == "mailpulse-hooks"]
    [rule] = hooks["spec"]["ingress"]
    [allowed] = rule["from"]
    [(label, value)] = allowed["namespaceSelector"]["matchLabels"].items()
    setup = (KUBERNETES / "kustomization.yaml").read_text("utf-8")
    assert f" {label}={value}\n" in setup, "the set-up does not say how to set the label"


def secret_keys(spec: dict[str, Any]) -> dict[str, set[str] | None]:
    """Secret -> the keys of it that a pod gets, ``None``: all."""
    return {
        one["secret"]["secretName"]: {item["key"] for item in one["secret"]["items"]}
        if "items" in one["secret"]
        else None
        for one in spec["volumes"]
        if "secret" in one
    }


@pytest.mark.parametrize("name", pods())
def test_a_pod_gets_the_secrets_that_its_role_reads(name: str) -> None:
    """By the settings that a role reads; ``topics`` and ``migrate`` talk to one peer each."""
    spec = pods()[name]["spec"]
    [container] = spec["containers"]
    role = container["args"][0]
    reads = SETTINGS.get(role, frozenset({"clickhouse_dsn"} if role == "migrate" else ()))
    keys = secret_keys(spec)
    own = keys.get("mailpulse", set())
    assert own is not None, "every secret of the pipeline"
    assert ("clickhouse_dsn" in reads) == any(key.startswith("clickhouse") for key in own)
    assert ("clickhouse_dsn" in own) == (role in ("sink", "migrate")), "writes to ClickHouse"
    assert ("dashboard_token" in own) == (role == "dashboard")
    assert (keys["mailpulse-sources"] is None) == (role in REFERRING), "secrets of sources"
    given = {one["name"]: one.get("value") for one in container.get("env", ())}
    mounts = {one["name"]: one["mountPath"] for one in container["volumeMounts"]}
    for setting in (value for key, value in given.items() if key.endswith("_FILE")):
        assert setting in {f"{mounts['secrets']}/{key}" for key in own}


def test_only_a_worker_may_ask_kubernetes_and_only_for_its_stateful_set() -> None:
    """Its ``streams.worker.scaled_away`` gets the object of which it is a pod."""
    for name, pod in pods().items():
        is_worker = name == "StatefulSet/mailpulse-worker"
        assert pod["spec"]["automountServiceAccountToken"] is is_worker, name
        assert ("serviceAccountName" in pod["spec"]) is is_worker, name
    worker = pods()["StatefulSet/mailpulse-worker"]["spec"]
    by_kind = {one["kind"]: one for one in kubernetes()}
    assert by_kind["ServiceAccount"]["metadata"]["name"] == worker["serviceAccountName"]
    assert by_kind["ServiceAccount"]["automountServiceAccountToken"] is False
    assert by_kind["Role"]["rules"] == [{
        "apiGroups": ["apps"], "resources": ["statefulsets"], "verbs": ["get"],
        "resourceNames": [stateful_set_of("mailpulse-worker-2")[0]],
    }]  # fmt: skip
    bound = by_kind["RoleBinding"]
    assert bound["roleRef"]["name"] == by_kind["Role"]["metadata"]["name"]
    [subject] = bound["subjects"]
    assert (subject["kind"], subject["name"]) == ("ServiceAccount", worker["serviceAccountName"])
    kinds = [one["kind"] for one in kubernetes()]
    assert {kinds.count(kind) for kind in ("ServiceAccount", "Role", "RoleBinding")} == {1}


def test_the_base_names_no_number_of_pods_that_something_scales() -> None:
    """Each apply would set the scale back."""
    scaled = {
        (one["spec"]["scaleTargetRef"]["kind"], one["spec"]["scaleTargetRef"]["name"])
        for one in kubernetes()
        if one["kind"] in ("ScaledObject", "HorizontalPodAutoscaler")
    }
    assert len(scaled) == 3
    for one in kubernetes():
        if (one["kind"], one["metadata"]["name"]) in scaled:
            assert "replicas" not in one["spec"], one["metadata"]["name"]


def test_every_port_that_people_or_machines_call_is_let_in() -> None:
    """Each port of a pod is in a policy for it: without one ``mailpulse-closed`` refuses it."""
    admitted: dict[str, set[int]] = {}
    for one in kubernetes():
        if one["kind"] != "NetworkPolicy":
            continue
        selector = one["spec"]["podSelector"]
        names = {selector.get("matchLabels", {}).get("app.kubernetes.io/name")} - {None}
        names |= {name for rule in selector.get("matchExpressions", ()) for name in rule["values"]}
        for rule in one["spec"].get("ingress", ()):
            for name in names:
                admitted.setdefault(name, set()).update(port["port"] for port in rule["ports"])
    for template in pods().values():
        [container] = template["spec"]["containers"]
        ports = {port["containerPort"] for port in container.get("ports", ())}
        name = template["metadata"]["labels"]["app.kubernetes.io/name"]
        assert ports <= admitted.get(name, set()), name


def test_the_example_of_an_ingress_leads_hooks_in_and_nothing_else() -> None:
    """To a port that exists, and with room for the largest body that mailpulse takes."""
    example = yaml.safe_load((KUBERNETES / "examples" / "ingress.yaml").read_text("utf-8"))
    [rule] = example["spec"]["rules"]
    [path] = rule["http"]["paths"]
    assert (path["path"], path["pathType"]) == ("/hooks", "Prefix")
    to = path["backend"]["service"]
    [service] = [
        one
        for one in kubernetes()
        if one["kind"] == "Service" and one["metadata"]["name"] == to["name"]
    ]
    assert to["port"]["name"] in {port["name"] for port in service["spec"]["ports"]}
    size = example["metadata"]["annotations"]["nginx.ingress.kubernetes.io/proxy-body-size"]
    assert size.endswith("m")
    assert int(size[:-1]) << 20 > load(base_settings()).body_bytes_max
