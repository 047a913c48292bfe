"""Compose file, image and Kubernetes base: nothing dangles, and every setting is one that exists.

No engine and no cluster is needed: files are held against their schema, against each other and
against ``schemas.settings``. That the commands in them run is ``tests/live/test_compose.py``'s.
"""

import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import typer
import yaml

from schemas.settings import PREFIX, Settings, load_settings
from schemas.topics import BY_NAME
from streams.cli import app
from streams.commands.secret_files import SOURCES, USERS, write_missing
from streams.telemetry import ENDPOINTS, tracer_of

ROOT = Path(__file__).parents[1]
KUBERNETES = ROOT / "streams" / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: one for name, one in SERVICES.items() if one["image"].startswith("mailpulse:")}
JOBS = {"topics", "migrate"}
_DEFAULT = re.compile(r"\$\{\w+:-([^}]*)\}")


def resolved(text: Any) -> str:
    """A value with compose's ``${NAME:-default}`` replaced by the defaults."""
    return _DEFAULT.sub(r"\1", str(text))


def load(environment: dict[str, Any]) -> Settings:
    """The settings that a container's environment gives, secret files read as any text."""
    return load_settings(
        {name: resolved(value) for name, value in environment.items() if name.startswith(PREFIX)},
        lambda path: "http://user:password@clickhouse:8123/mailpulse",
    )


def is_command(words: list[str]) -> bool:
    """Whether ``mailpulse`` has a command of these words."""
    command: Any = typer.main.get_command(app)
    for word in words:
        command = getattr(command, "commands", {}).get(word)
    return command is not None


# --- compose --------------------------------------------------------------------------------------


def test_compose_file_follows_the_compose_specification() -> None:
    """The file is valid by the schema that check-jsonschema ships as ``vendor.compose-spec``."""
    # read from the package's files: its command line does not import beside Faust's click
    package = importlib.util.find_spec("check_jsonschema")
    assert package is not None
    assert package.origin is not None
    folder = Path(package.origin).parent / "builtin_schemas" / "vendor"
    schema = json.loads((folder / "compose-spec.json").read_text("utf-8"))
    validator = jsonschema.validators.validator_for(schema)(schema)
    document = json.loads(json.dumps(COMPOSE))
    assert [error.message for error in validator.iter_errors(document)] == []
    document["services"]["sink"]["depends_on"]["kafka"]["condition"] = "service_lucky"
    assert list(validator.iter_errors(document)), "the schema refuses nothing"


@pytest.mark.parametrize("name", SERVICES)
def test_everything_a_service_refers_to_is_there(name: str) -> None:
    """Services, volumes, networks, configs and secrets that a service names are declared."""
    service = SERVICES[name]
    assert set(service.get("depends_on", {})) <= set(SERVICES)
    assert set(service["networks"]) <= set(COMPOSE["networks"])
    for kind in ("configs", "secrets"):
        named = {one if isinstance(one, str) else one["source"] for one in service.get(kind, ())}
        assert named <= set(COMPOSE[kind]), kind
    for volume in service.get("volumes", ()):
        source = resolved(volume).split(":")[0]
        assert source.startswith("./") or source in COMPOSE["volumes"], volume


def test_nothing_is_declared_in_vain() -> None:
    """Each declared volume, network, config and secret is used by a service."""
    text = yaml.safe_dump(SERVICES)
    for kind in ("volumes", "networks", "configs", "secrets"):
        for name in COMPOSE[kind]:
            assert re.search(rf"\b{re.escape(name)}\b", text), f"{kind}: {name}"


def test_config_files_are_in_the_repository_and_secrets_are_made_by_the_command(
    tmp_path: Path,
) -> None:
    """Every mounted file exists, is the user's mailpulse.toml, or is written by config secrets."""
    for name, config in COMPOSE["configs"].items():
        path = resolved(config["file"])
        assert path == "./mailpulse.toml" or (ROOT / path).is_file(), name
    made = set(write_missing(tmp_path / "secrets", "clickhouse"))
    for name, secret in COMPOSE["secrets"].items():
        assert Path(resolved(secret["file"])).name in made, name
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "secrets" / SOURCES).is_dir()
    assert "password_sha256_hex" in (tmp_path / "secrets" / USERS).read_text("utf-8")


def test_secrets_are_written_once(tmp_path: Path) -> None:
    """A second run replaces nothing, so that ClickHouse and its clients go on agreeing."""
    write_missing(tmp_path, "clickhouse")
    before = {path.name: path.read_text("utf-8") for path in tmp_path.iterdir() if path.is_file()}
    (tmp_path / USERS).unlink()
    assert write_missing(tmp_path, "clickhouse") == []
    after = {path.name: path.read_text("utf-8") for path in tmp_path.iterdir() if path.is_file()}
    assert after == {name: text for name, text in before.items() if name != USERS}


@pytest.mark.parametrize("name", OURS)
def test_settings_and_command_of_a_role_exist(name: str) -> None:
    """Its environment is accepted as it stands, and its command is one of mailpulse's."""
    settings = load(OURS[name]["environment"])
    assert settings.kafka_bootstrap == "kafka:19092"
    assert is_command(OURS[name]["command"])


@pytest.mark.parametrize("name", OURS)
def test_a_role_is_confined(name: str) -> None:
    """Read-only, without capabilities, not root; only its own volumes are writable."""
    service = OURS[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["user"].split(":")[0] not in ("0", "root")
    assert "no-new-privileges:true" in service["security_opt"]
    for volume in service.get("volumes", ()):
        _, target, *mode = resolved(volume).split(":")
        assert mode == ["ro"] or target == "/var/lib/mailpulse"


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_pinned_limited_and_watched(name: str) -> None:
    """A fixed image, a memory and a CPU limit, a health check, ports on this machine alone."""
    service = SERVICES[name]
    tag = resolved(service["image"]).rpartition(":")[2]
    assert re.match(r"v?\d+\.\d+", tag), service["image"]
    assert service["mem_limit"]
    assert service["cpus"]
    if name not in JOBS | {"console"}:
        assert service["healthcheck"]["test"]
        assert service["restart"] == "unless-stopped"
    for port in service.get("ports", ()):
        assert resolved(port).startswith("127.0.0.1:"), port


def test_no_secret_stands_in_an_environment() -> None:
    """What looks like a secret's name holds a path, and no value holds a password."""
    for name, service in SERVICES.items():
        for variable, value in service.get("environment", {}).items():
            secret = re.search(r"PASSWORD|SECRET|TOKEN|DSN|HASH_KEY", variable)
            assert not secret or str(value).startswith("/run/secrets/"), f"{name}: {variable}"
            assert not re.search(r"://[^/\s]*:[^/\s]*@", str(value)), f"{name}: {variable}"


def test_roles_start_only_after_the_jobs() -> None:
    """ingest, worker and sink wait for topics and tables; jobs wait for what they need, once."""
    for name in ("ingest-1", "ingest-2", "worker-1", "worker-2", "sink"):
        waits = {other: how["condition"] for other, how in OURS[name]["depends_on"].items()}
        assert waits["topics"] == waits["migrate"] == "service_completed_successfully"
    for name in JOBS:
        assert OURS[name]["restart"] == "no"


def test_two_of_a_role_share_no_volume_and_no_identity() -> None:
    """State, spool and group membership are each process's own."""
    volumes = [one.split(":")[0] for s in OURS.values() for one in s.get("volumes", ())
               if not one.startswith("$")]  # fmt: skip
    assert len(volumes) == len(set(volumes))
    ids = [load(OURS[name]["environment"]).group_instance_id for name in ("worker-1", "worker-2")]
    assert len(set(ids)) == 2
    assert all(ids)


def test_the_proxy_and_the_ingress_agree() -> None:
    """Caddy sends hooks to the containers there are, and the ingress believes Caddy's network."""
    caddyfile = (ROOT / "ingest" / "deploy" / "Caddyfile").read_text("utf-8")
    upstreams = set(re.findall(r"(ingest-\d+):(\d+)", caddyfile))
    assert {name for name, _ in upstreams} == {n for n in OURS if n.startswith("ingest-")}
    for name, port in upstreams:
        settings = load(OURS[name]["environment"])
        assert settings.ingest_port == int(port)
        [network] = COMPOSE["networks"]["edge"]["ipam"]["config"]
        assert settings.trusted_proxies == (network["subnet"],)
        assert not settings.allow_http
        assert "edge" in OURS[name]["networks"]


def test_grafana_gets_what_its_provisioning_names() -> None:
    """Each variable is given, and boards lie where they are looked for, with their sources."""
    grafana = SERVICES["grafana"]
    folder = ROOT / "analytics" / "grafana"
    sources = (folder / "provisioning" / "datasources" / "clickhouse.yml").read_text("utf-8")
    given = set(grafana["environment"]) | set(re.findall(r"(\w+)=\$\$", grafana["entrypoint"][2]))
    assert set(re.findall(r"\$\{(\w+)\}", sources)) <= given
    boards = yaml.safe_load((folder / "provisioning" / "dashboards" / "mailpulse.yml").read_text())
    path = boards["providers"][0]["options"]["path"]
    assert f"./analytics/grafana/dashboards:{path}:ro" in grafana["volumes"]
    uids = set(re.findall(r"uid: (\S+)", sources))
    prometheus = ROOT / "analytics" / "prometheus" / "grafana-datasource.yml"
    uids |= set(re.findall(r"uid: (\S+)", prometheus.read_text("utf-8")))
    for board in (folder / "dashboards").glob("*.json"):
        named = set(re.findall(r'"type": "[\w-]+",\s+"uid": "([\w-]+)"', board.read_text("utf-8")))
        assert named
        assert named <= uids, board.name


def test_prometheus_asks_every_role_at_its_port() -> None:
    """Each process that has metrics is a target, at the port where it serves them."""
    text = (ROOT / "analytics" / "prometheus" / "prometheus.yml").read_text("utf-8")
    targets = {
        target
        for job in yaml.safe_load(text)["scrape_configs"]
        for group in job["static_configs"]
        for target in group["targets"]
    }
    wanted = set()
    for name, service in OURS.items():
        settings = load(service["environment"])
        if name.startswith("ingest-"):
            wanted.add(f"{name}:{settings.ingest_port}")
        elif name.startswith("worker-") or name == "sink":
            wanted.add(f"{name}:{settings.metrics_port}")
    assert wanted <= targets
    assert {target.split(":")[0] for target in targets} <= {*SERVICES, "127.0.0.1"}


# --- the image ------------------------------------------------------------------------------------


def test_the_image_is_what_the_compose_file_expects() -> None:
    """Its user, its entry point, and that everything it copies exists and is in the context."""
    text = (ROOT / "Dockerfile").read_text("utf-8")
    users = re.findall(r"^USER (\S+)$", text, re.MULTILINE)
    assert users == [OURS["sink"]["user"]]
    assert 'ENTRYPOINT ["mailpulse"]' in text
    ignored = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    for copied in re.findall(r"^COPY (?!--from)(.+)$", text, re.MULTILINE):
        for source in copied.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert f"!{source}" in ignored, source
    assert "*" in ignored
    for variable in re.findall(rf"({PREFIX}\w+)=", text):
        assert variable.removeprefix(PREFIX).lower() in Settings.model_fields


# --- Kubernetes -----------------------------------------------------------------------------------


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
        if "template" in one["spec"]
    }


def base_settings() -> dict[str, str]:
    """The literals of the base's ConfigMap."""
    base = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text("utf-8"))
    [generator] = base["configMapGenerator"]
    return dict(line.split("=", 1) for line in generator["literals"])


def test_the_base_names_every_file_of_its_folder() -> None:
    """No manifest lies about unused."""
    base = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text("utf-8"))
    files = {path.name for path in KUBERNETES.glob("*.yaml")} - {"kustomization.yaml"}
    assert files == set(base["resources"])


def test_each_role_is_the_workload_it_should_be() -> None:
    """Workers have names and volumes that stay, the others are interchangeable."""
    assert set(pods()) == {
        "Deployment/mailpulse-ingest", "StatefulSet/mailpulse-worker", "Deployment/mailpulse-sink",
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
    """Every role has the setting by the base's ConfigMap, as by compose; the image has the SDK."""
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
    assert "[geo,redis,otel]" in (ROOT / "Dockerfile").read_text("utf-8")


def test_ports_of_pods_are_the_ones_of_the_settings() -> None:
    """A container's port is where the process listens by the base's settings."""
    settings = load(dict(base_settings()))
    wanted = {
        "ingest": settings.ingest_port, "worker": settings.metrics_port,
        "sink": settings.metrics_port, "dashboard": settings.dashboard_port,
    }  # fmt: skip
    for template in pods().values():
        [container] = template["spec"]["containers"]
        for port in container.get("ports", ()):
            assert port["containerPort"] == wanted[container["name"]]


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
    """KEDA watches our groups and topics, never asks for more workers than partitions."""
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
