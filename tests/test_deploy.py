"""Compose file and image: every reference resolves, and every setting exists.

No engine and no cluster is needed: files are checked against their schema, against each other and
against ``schemas.settings``. ``tests/live/test_compose.py`` runs their commands.
"""

import importlib.util
import ipaddress
import json
import re
from itertools import combinations
from pathlib import Path

import jsonschema
import pytest
import yaml

from schemas.settings import PREFIX, Settings
from streams.cli.secret_files import SOURCES, USERS, write_missing
from streams.embedded.role_environ import REFERRING, SETTINGS
from tests.compose import (
    COMPOSE,
    OURS,
    ROOT,
    SERVICES,
    is_command,
    load,
    resolved,
    shared_networks,
    subnet,
)

JOBS = {"topics", "migrate", "operator"}


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
    """Every mounted file exists, is the user's mailpulse.toml, or is written by ``config
    secrets``."""
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
    """A second run replaces nothing, so that ClickHouse and its clients still agree."""
    write_missing(tmp_path, "clickhouse")
    before = {path.name: path.read_text("utf-8") for path in tmp_path.iterdir() if path.is_file()}
    (tmp_path / USERS).unlink()
    assert write_missing(tmp_path, "clickhouse") == []
    after = {path.name: path.read_text("utf-8") for path in tmp_path.iterdir() if path.is_file()}
    assert after == {name: text for name, text in before.items() if name != USERS}


@pytest.mark.parametrize("name", OURS)
def test_settings_and_command_of_a_role_exist(name: str) -> None:
    """Its environment is accepted as it is, and its command is one of mailpulse's."""
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
    """A variable with a secret-like name has a path as its value, and no value is a password."""
    for name, service in SERVICES.items():
        for variable, value in service.get("environment", {}).items():
            secret = re.search(r"PASSWORD|SECRET|TOKEN|DSN|HASH_KEY", variable)
            assert not secret or str(value).startswith("/run/secrets/"), f"{name}: {variable}"
            assert not re.search(r"://[^/\s]*:[^/\s]*@", str(value)), f"{name}: {variable}"


@pytest.mark.parametrize("name", OURS)
def test_a_role_has_the_secrets_that_it_reads(name: str) -> None:
    """ClickHouse's writer for who writes there, the sources' for who refers to them; the operator's
    commands may do anything."""
    service, [role, *_] = OURS[name], OURS[name]["command"]
    secrets = set(service.get("secrets", ()))
    writes = role in ("sink", "migrate") or name == "operator"
    assert ("clickhouse_dsn" in secrets) == writes
    assert ("clickhouse_reader_dsn" in secrets) == (role == "dashboard")
    reads = "clickhouse_dsn" in SETTINGS.get(role, ()) or writes
    assert (f"{PREFIX}CLICKHOUSE_DSN_FILE" in service["environment"]) == reads
    mounted = any(volume.endswith("/sources:ro") for volume in service.get("volumes", ()))
    assert mounted == (role in REFERRING or name == "operator")


def test_roles_start_only_after_the_jobs() -> None:
    """ingest, worker and sink wait for topics and tables; jobs wait for what they need, and run
    once."""
    for name in ("ingest-1", "ingest-2", "worker-1", "worker-2", "sink"):
        waits = {other: how["condition"] for other, how in OURS[name]["depends_on"].items()}
        assert waits["topics"] == waits["migrate"] == "service_completed_successfully"
    for name in JOBS:
        assert OURS[name]["restart"] == "no"


def test_two_of_a_role_share_no_volume_and_no_identity() -> None:
    """State, spool and group membership belong to one process each."""
    volumes = [one.split(":")[0] for s in OURS.values() for one in s.get("volumes", ())
               if not one.startswith("$")]  # fmt: skip
    assert len(volumes) == len(set(volumes))
    ids = [load(OURS[name]["environment"]).group_instance_id for name in ("worker-1", "worker-2")]
    assert len(set(ids)) == 2
    assert all(ids)


def test_the_proxy_and_the_ingress_agree() -> None:
    """Caddy sends hooks to the existing containers, and ingress trusts Caddy's network."""
    caddyfile = (ROOT / "ingest" / "deploy" / "Caddyfile").read_text("utf-8")
    upstreams = set(re.findall(r"(ingest-\d+):(\d+)", caddyfile))
    assert {name for name, _ in upstreams} == {n for n in OURS if n.startswith("ingest-")}
    for name, port in upstreams:
        settings = load(OURS[name]["environment"])
        assert settings.ingest_port == int(port)
        assert shared_networks("caddy", name)[0] == "edge", "the address Caddy gets for it"
        assert settings.trusted_proxies == (subnet("edge"),)
        assert not settings.allow_http
    members = {name for name, service in SERVICES.items() if "edge" in service["networks"]}
    assert members == {"caddy", *(name for name, _ in upstreams)}, "they would be believed too"


def test_two_services_share_one_network_at_most() -> None:
    """So a name resolves to one address, in whatever order Docker's resolver answers; except
    replicas."""
    for one, other in combinations(SERVICES, 2):
        if one.rpartition("-")[0] != other.rpartition("-")[0] or "-" not in one:
            shared = shared_networks(one, other)
            assert len(shared) <= 1, f"{one}, {other}: {shared}"
            assert set(shared) <= {"edge", "backend", "caddy-metrics"}, f"{one}, {other}: {shared}"


def test_a_fixed_subnet_is_none_that_docker_gives_by_itself() -> None:
    """Another project's network may have it already: Docker assigns 172.17 to 172.31 and
    192.168."""
    network = ipaddress.ip_network(subnet("edge"))
    taken = [f"172.{second}.0.0/16" for second in range(17, 32)] + ["192.168.0.0/16"]
    assert not [one for one in taken if network.overlaps(ipaddress.ip_network(one))]


def test_the_proxys_health_is_that_of_hooks() -> None:
    """Its check requests a hook, through TLS, on the same way as a provider's request."""
    caddyfile = (ROOT / "ingest" / "deploy" / "Caddyfile").read_text("utf-8")
    check = SERVICES["caddy"]["healthcheck"]["test"][1]
    [site] = re.findall(r"(https://\S+:\d+)/hooks/", check)
    [block] = re.findall(rf"^{re.escape(site)} \{{\n(.*?)^\}}", caddyfile, re.MULTILINE | re.DOTALL)
    assert "import hooks" in block
    assert "bind 127.0.0.1" in block
    assert caddyfile.count("import hooks") == 2


def test_grafana_gets_what_its_provisioning_names() -> None:
    """Each variable is set, and boards are where they are looked for, with their data sources."""
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
    """Each process that has metrics is a target, at its port and under its job; so are the others
    whose images have metrics."""
    text = (ROOT / "analytics" / "prometheus" / "prometheus.yml").read_text("utf-8")
    document = yaml.safe_load(text)
    targets = {
        (target, job["job_name"])
        for job in document["scrape_configs"]
        for group in job.get("static_configs", ())
        for target in group["targets"]
    }
    targets |= {
        (f"{name}:{group['port']}", job["job_name"])
        for job in document["scrape_configs"]
        for group in job.get("dns_sd_configs", ())
        for name in group["names"]
    }
    wanted = {("alertmanager:9093", "alertmanager"), ("127.0.0.1:9090", "prometheus")}
    for name, service in OURS.items():
        settings, role = load(service["environment"]), service["command"][0]
        if name not in JOBS:
            port = settings.ingest_port if role == "ingest" else settings.metrics_port
            wanted.add((f"{name}:{port}", f"mailpulse-{role}"))
    caddyfile = (ROOT / "ingest" / "deploy" / "Caddyfile").read_text("utf-8")
    [port] = re.findall(r"^http://:(\d+) \{\n\tmetrics /metrics\n\}$", caddyfile, re.MULTILINE)
    wanted.add((f"caddy:{port}", "mailpulse-caddy"))
    server = (ROOT / "analytics" / "deploy" / "clickhouse.xml").read_text("utf-8")
    [port] = re.findall(r"<prometheus>.*?<port>(\d+)</port>", server, re.DOTALL)
    wanted.add((f"clickhouse:{port}", "mailpulse-clickhouse"))
    assert targets == wanted
    for target, _ in targets - {("127.0.0.1:9090", "prometheus")}:
        assert shared_networks("prometheus", target.partition(":")[0]), target
    [told] = document["alerting"]["alertmanagers"]
    assert told["static_configs"][0]["targets"] == ["alertmanager:9093"]


def test_every_file_of_rules_is_mounted() -> None:
    """At the place where Prometheus' configuration looks for it."""
    folder = ROOT / "analytics" / "prometheus"
    rules = yaml.safe_load((folder / "prometheus.yml").read_text("utf-8"))["rule_files"]
    mounted = {
        Path(one["target"]).name: resolved(COMPOSE["configs"][one["source"]]["file"])
        for one in SERVICES["prometheus"]["configs"]
    }
    for name in rules:
        assert mounted[name] == f"./analytics/prometheus/{name}"


# --- the image ------------------------------------------------------------------------------------


def test_the_image_holds_no_installer() -> None:
    """Neither in mailpulse's environment nor in the base's."""
    build, _, final = (
        (ROOT / "Dockerfile").read_text("utf-8").partition("\nFROM python:${PYTHON}\n")
    )
    assert "python -m venv --without-pip /opt/mailpulse" in build
    assert "/opt/mailpulse/bin/pip" not in build
    for gone in ("site-packages/*", "ensurepip"):
        assert re.search(rf"^RUN rm -rf [^&]*{re.escape(gone)}", final, re.MULTILINE)


def test_the_image_is_what_the_compose_file_expects() -> None:
    """Its user, its entry point; everything that it copies exists and is in the context."""
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
