"""The kustomize base as ``kubectl`` renders it, judged by the schemas of Kubernetes, KEDA and the
Prometheus operator; the Dockerfile, by a linter; and what pods are given against what the roles
need. No cluster is needed.
"""

import hashlib
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from analytics.sink.sink import LANDING_S_MAX
from ingest.server import GRACE_S as INGEST_GRACE_S
from schemas.serving.server import GRACE_S as SERVING_GRACE_S
from streams.deliver.runner import SETTLE_S
from streams.transport.runner import GRACE_S as WORKER_GRACE_S
from tests.compose import ROOT

BASE = ROOT / "streams" / "deploy"
MONITORING = ROOT / "analytics" / "prometheus" / "kubernetes"
VERSIONS = ("1.35", "1.36", "1.37")
"""Of Kubernetes: those that its project supports."""
MANIFESTS = Path(__file__).parent / "manifests"
CRDS = {
    "ScaledObject": (
        "keda.sh_scaledobjects.yaml",
        "207afc4ca44fd9e3f4bbfb1c8fae08f3a365e098a52714fe8eb672bbd239cbcd",
    ),
    "PodMonitor": (
        "monitoring.coreos.com_podmonitors.yaml",
        "45a93443daa687d3654f7e9631909ff7edcdf3ec09c5e60251b74aa2722aee5d",
    ),
    "PrometheusRule": (
        "monitoring.coreos.com_prometheusrules.yaml",
        "78be98554b9c8506ab2b4f4feb91c5f3a56e536a0a510f3a8e876a459970d56d",
    ),
}
"""Kind of a custom resource -> its definition's file and SHA-256; where from: ``manifests``."""
IGNORED_RULES = {"DL3008": "the compiler, in the stage that builds, is not in the image"}
"""hadolint's rules that do not apply -> why."""
MARGIN_S = 5.0


def tool(name: str) -> str:
    """A program that the development environment brings."""
    path = Path(sys.executable).with_name(name)
    assert path.exists(), f"{name} is missing: make .venv/installed-dev"
    return str(path)


@cache
def rendered(folder: Path = BASE) -> tuple[dict[str, Any], ...]:
    """Every object of the base, or of another folder, as it would be sent to a cluster."""
    done = subprocess.run(
        [tool("kubectl"), "kustomize", str(folder)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return tuple(yaml.safe_load_all(done.stdout))


def example() -> dict[str, Any]:
    """The example of an Ingress."""
    found: dict[str, Any] = yaml.safe_load((BASE / "examples" / "ingress.yaml").read_text("utf-8"))
    return found


def is_keda(one: dict[str, Any]) -> bool:
    """Whether an object is KEDA's, which Kubernetes' own schemas do not know."""
    return str(one["apiVersion"]).startswith("keda.sh/")


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_accepts_every_object_and_knows_every_field(version: str) -> None:
    """A field that is misspelt would be dropped in silence; the strict schemas refuse it."""
    objects = [one for one in (*rendered(), example()) if not is_keda(one)]
    assert len(objects) > 20
    for one in objects:
        used = kubernetes_validate.validate(one, version, strict=True)
        assert used == version, "schemas of this version are not there"
    broken = next(one for one in objects if one["kind"] == "StatefulSet")
    broken = {**broken, "spec": {**broken["spec"], "replicaz": 3}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, version, strict=True)


def closed(schema: Any) -> Any:
    """A CRD's schema that refuses fields which it does not name."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    out = {key: closed(value) for key, value in schema.items()}
    if isinstance(pattern := out.get("pattern"), str):
        out["pattern"] = pattern.replace("^(?i)", "(?i)^")  # flags: Go takes them anywhere
    if isinstance(schema.get("properties"), dict) and "additionalProperties" not in schema:
        out["additionalProperties"] = bool(schema.get("x-kubernetes-preserve-unknown-fields"))
    return out


def schema_of(kind: str) -> tuple[str, dict[str, Any]]:
    """API version and strict schema of a custom resource, vendored by hash."""
    file, sha256 = CRDS[kind]
    content = (MANIFESTS / file).read_bytes()
    assert hashlib.sha256(content).hexdigest() == sha256
    spec = yaml.safe_load(content)["spec"]
    [version] = [one for one in spec["versions"] if one["served"]]
    schema: dict[str, Any] = closed(version["schema"]["openAPIV3Schema"])
    schema["properties"]["metadata"] = {"type": "object"}
    return f"{spec['group']}/{version['name']}", schema


@pytest.mark.parametrize("kind", CRDS)
def test_an_operator_accepts_its_objects_and_knows_every_field(kind: str) -> None:
    """KEDA's scaling, and what Prometheus is told of: by the schemas of their custom resources."""
    objects = [one for one in (*rendered(), *rendered(MONITORING)) if one["kind"] == kind]
    api, schema = schema_of(kind)
    assert objects
    for one in objects:
        assert one["apiVersion"] == api
        jsonschema.validate(one, schema)
    for field in ("minReplicaCounts", "podMetricsEndpoint", "group"):
        wrong = {**objects[0], "spec": {**objects[0]["spec"], field: 1}}
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)


def test_monitoring_is_in_the_namespace_of_the_roles() -> None:
    """A PodMonitor looks for pods in its own namespace alone."""
    assert {one["metadata"]["namespace"] for one in rendered(MONITORING)} == {"mailpulse"}
    assert {one["kind"] for one in rendered(MONITORING)} == CRDS.keys() - {"ScaledObject"}


def test_every_object_is_of_one_namespace_and_names_configuration_by_its_content() -> None:
    """A changed setting then changes pods and jobs, which would else go on with the old one."""
    names = {one["metadata"]["name"] for one in rendered() if one["kind"] == "ConfigMap"}
    assert all(name.startswith("mailpulse-") and name != "mailpulse" for name in names)
    for one in rendered():
        assert one["metadata"]["namespace"] == "mailpulse", one["metadata"]["name"]
        if "template" not in one.get("spec", {}):
            continue
        [container] = one["spec"]["template"]["spec"]["containers"]
        assert container["envFrom"][0]["configMapRef"]["name"] in names
        assert container["image"].startswith("mailpulse:")


@pytest.mark.parametrize("namespace", ["mailpulse", "other"])
def test_a_binding_names_the_account_of_its_namespace(tmp_path: Path, namespace: str) -> None:
    """Also in an overlay: Kubernetes takes no binding to an account without a namespace."""
    shutil.copytree(BASE, tmp_path / "base")
    overlay = tmp_path / "overlay"
    overlay.mkdir()
    (overlay / "kustomization.yaml").write_text(f"namespace: {namespace}\nresources: [../base]\n")
    bound = [one for one in rendered(overlay) if one["kind"] == "RoleBinding"]
    assert bound
    for one in bound:
        assert one["metadata"]["namespace"] == namespace
        assert [subject["namespace"] for subject in one["subjects"]] == [namespace]


def test_the_dockerfile_passes_the_linter() -> None:
    """hadolint, with all rules but the ones that are said above not to apply."""
    ignored = [word for rule in IGNORED_RULES for word in ("--ignore", rule)]
    command = [tool("hadolint"), "--no-color", *ignored, str(ROOT / "Dockerfile")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout


@dataclass(frozen=True)
class Needs:
    """What a role needs of its pod.

    Attributes:
        stop_s: longest time that it takes to end in order, by its own code; the wait before
            (``preStop``) not included.
        keeps: what it writes to the data directory is of use to the next pod (a claim), to the next
            start in the same pod (``pod``), or is not written at all (``none``).
        is_called: other pods or people reach a port that is not for health.
    """

    stop_s: float
    keeps: str
    is_called: bool = False


NEEDS = {
    "ingest": Needs(INGEST_GRACE_S + 10, "pod", is_called=True),  # then what waits for Kafka
    "worker": Needs(WORKER_GRACE_S, "claim"),
    "sink": Needs(LANDING_S_MAX * 1.5 + 30, "pod"),  # an insert that has begun is waited for
    "deliver": Needs(SETTLE_S + 30, "pod"),  # a request may take timeout_s
    "dashboard": Needs(SERVING_GRACE_S, "pod", is_called=True),
}
"""State is a claim; the registry's ids are kept by whoever encodes or decodes records, and are of
use as long as the pod is."""


def roles() -> dict[str, dict[str, Any]]:
    """Role -> its workload."""
    return {
        one["spec"]["template"]["spec"]["containers"][0]["args"][0]: one
        for one in rendered()
        if one["kind"] in ("Deployment", "StatefulSet")
    }


def test_the_table_has_every_role() -> None:
    """A new one needs a decision."""
    assert set(roles()) == set(NEEDS)


@pytest.mark.parametrize("role", NEEDS)
def test_a_pod_waits_until_its_role_has_ended(role: str) -> None:
    """Kubernetes' time-out counts from before ``preStop``."""
    spec = roles()[role]["spec"]["template"]["spec"]
    [container] = spec["containers"]
    sleeps = container.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", [])
    before = float(sleeps[1]) if sleeps else 0.0
    given = spec.get("terminationGracePeriodSeconds", 30)
    assert given >= before + NEEDS[role].stop_s + MARGIN_S


@pytest.mark.parametrize("role", NEEDS)
def test_probes_ask_what_they_mean(role: str) -> None:
    """A role that waits for a peer or rebuilds state is alive, and is not restarted for that; it
    gets traffic once it is ready. A restart takes half a minute of silence."""
    [container] = roles()[role]["spec"]["template"]["spec"]["containers"]
    live = container["livenessProbe"]
    assert live["httpGet"]["path"] == "/livez"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert live["periodSeconds"] * live.get("failureThreshold", 3) >= 30
    if "startupProbe" in container:
        start = container["startupProbe"]
        assert start["httpGet"]["path"] == "/livez"
        assert start["periodSeconds"] * start["failureThreshold"] >= 60


@pytest.mark.parametrize("role", NEEDS)
def test_a_role_may_write_where_it_has_to(role: str) -> None:
    """The root file system is read-only: a data directory that is not mounted keeps nothing."""
    workload = roles()[role]
    spec = workload["spec"]["template"]["spec"]
    [container] = spec["containers"]
    mounts = {one["mountPath"]: one["name"] for one in container["volumeMounts"]}
    claims = {one["metadata"]["name"] for one in workload["spec"].get("volumeClaimTemplates", ())}
    empty = {one["name"]: one["emptyDir"] for one in spec["volumes"] if "emptyDir" in one}
    assert "sizeLimit" in empty[mounts["/tmp"]], "it could fill the node's disk"
    place = mounts.get("/var/lib/mailpulse")
    keeps = "claim" if place in claims else "pod" if place in empty else "none"
    assert keeps == NEEDS[role].keeps
    others = set(mounts) - {"/tmp", "/var/lib/mailpulse"}
    for one in container["volumeMounts"]:
        assert one["mountPath"] not in others or one["readOnly"] is True


def test_policies_let_in_what_is_called_and_close_everything_else() -> None:
    """Ports for hooks and pages to labelled namespaces, health to monitoring; nothing to others."""
    policies = [one["spec"] for one in rendered() if one["kind"] == "NetworkPolicy"]
    [closing] = [one for one in policies if not one.get("ingress")]
    assert closing["policyTypes"] == ["Ingress"]
    for role, workload in roles().items():
        template = workload["spec"]["template"]
        labels = template["metadata"]["labels"]
        assert closing["podSelector"]["matchLabels"].items() <= labels.items()
        [container] = template["spec"]["containers"]
        called = {
            port["containerPort"] for port in container["ports"] if port["name"] == "http"
        }  # fmt: skip
        assert bool(called) == NEEDS[role].is_called
    for one in policies:
        for rule in one.get("ingress", ()):
            assert rule["from"], "open to everybody"
            assert all(peer["namespaceSelector"] or peer["podSelector"] for peer in rule["from"])
