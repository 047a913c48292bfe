"""The commands of docker-compose.yml on real Kafka, a real registry and, instead of a server, the
embedded engine.

No container engine: command, environment, health check and dependencies of each service are read
from the file and run as processes. Only names from compose's network are replaced: hosts, ports,
paths of volumes and of secrets.
"""

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from schemas.settings import PREFIX
from streams.simulation.accounts import Accounts, open_accounts
from streams.simulation.simulator import Happening, Simulator
from tests.compose import OURS, SERVICES, resolved
from tests.live.fixtures import KafkaCluster, or_skip
from tests.live.process import Process, free_port
from tests.live.registry import Registry
from tests.live.roles import clean_environ
from tests.live.warehouse_process import WarehouseProcess

pytestmark = pytest.mark.timeout(400)

REGISTRY = SERVICES["registry"]
PORTS = ("INGEST_PORT", "METRICS_PORT", "DASHBOARD_PORT")


class Service:
    """One service of the compose file as a process.

    Args:
        peers: setting -> value, for what compose's network and mounts would give.
    """

    def __init__(self, name: str, folder: Path, peers: dict[str, str]) -> None:
        self.name = name
        self.spec = OURS[name]
        home = folder / name
        home.mkdir()
        environment = {key: resolved(value) for key, value in self.spec["environment"].items()}
        given = {key.removeprefix(PREFIX): value
                 for key, value in environment.items() if key.startswith(PREFIX)}  # fmt: skip
        others = {key: value for key, value in environment.items() if not key.startswith(PREFIX)}
        self.ports = {given[key]: str(free_port()) for key in PORTS if key in given}
        changed = {key: self.ports[given[key]] for key in PORTS if key in given}
        changed |= {key: "127.0.0.1" for key in given if key.endswith("_HOST")}
        for key, value in given.items():
            if value.startswith("/var/lib/mailpulse"):
                changed[key] = value.replace("/var/lib/mailpulse", str(home))
        changed |= {key: "4" for key in given if key == "PARTITIONS"}
        changed |= {key: value for key, value in peers.items() if key in given}
        changed["CLICKHOUSE_MANAGE_ACCESS"] = "false"  # the embedded engine can't
        settings = {PREFIX + key: value for key, value in {**given, **changed}.items()}
        secrets = {key: value for key, value in peers.items() if key.startswith(PREFIX)}
        self.environment = {
            **clean_environ(), **others, **secrets, **settings, "PYTHONUNBUFFERED": "1"
        }  # fmt: skip
        self.process = Process(
            name,
            [sys.executable, "-P", "-m", "streams.cli", *self.spec["command"]],
            folder / f"{name}.log",
            env=self.environment,
            cwd=home,
            death_signal="TERM",
        )

    def healthy(self) -> bool:
        """Whether the service's own health check, run as the container engine would, passes."""
        _, _python, *rest = self.spec["healthcheck"]["test"]
        for inside, here in self.ports.items():
            rest = [word.replace(f"127.0.0.1:{inside}/", f"127.0.0.1:{here}/") for word in rest]
        done = subprocess.run([sys.executable, *rest], capture_output=True, check=False)
        return done.returncode == 0

    def url(self, inside: str) -> str:
        """Where a port of the container is reached here."""
        return f"http://127.0.0.1:{self.ports[inside]}"


@pytest.fixture
def warehouse(tmp_path: Path) -> Iterator[WarehouseProcess]:
    """ClickHouse."""
    folder = tmp_path / "warehouse"
    folder.mkdir()
    with WarehouseProcess(folder) as opened:
        yield opened


@pytest.fixture
def peers(
    kafka_cluster: KafkaCluster, warehouse: WarehouseProcess, tmp_path: Path
) -> Iterator[tuple[dict[str, str], Accounts]]:
    """Kafka, a registry, ClickHouse's address and the user's files."""
    (broker,) = kafka_cluster()
    accounts = open_accounts()
    toml = tmp_path / "mailpulse.toml"
    toml.write_text(accounts.toml, encoding="utf-8")
    dsn = tmp_path / "clickhouse_dsn"
    dsn.write_text(f"{warehouse.at.dsn()}\n", encoding="utf-8")
    token = tmp_path / "dashboard_token"
    token.write_text("a-token-for-tests-only\n", encoding="utf-8")
    environment = {
        name: resolved(value).replace("kafka:19092", broker.bootstrap)
        for name, value in REGISTRY["environment"].items()
        if name != "QUARKUS_HTTP_PORT"
    }
    with or_skip(lambda: Registry(environment=environment)) as registry:
        yield (
            {
                "KAFKA_BOOTSTRAP": broker.bootstrap,
                "SCHEMA_REGISTRY_URL": registry.url,
                "CLICKHOUSE_DSN_FILE": str(dsn),
                "DASHBOARD_TOKEN_FILE": str(token),
                "CONFIG_FILE": str(toml),
                **accounts.environ,
            },
            accounts,
        )


def made_up() -> list[Happening]:
    """Some events, of all providers."""
    simulator = Simulator("compose", 400, time.time(), random.Random(3))
    return simulator.advance(0.3) + simulator.finish()[:20]


def send(url: str, accounts: Accounts, events: list[Happening]) -> None:
    """Signed requests of one event each; every one must be answered 200."""
    for event in events:
        sender = accounts.senders[event.source]
        wire = sender.sign(sender.items([event]), time.time())
        answer = httpx.post(
            f"{url}/hooks/{event.source}",
            headers=wire.headers,
            content=wire.body,
            trust_env=False,
        )
        assert answer.status_code == 200, answer.text


def stored(warehouse: WarehouseProcess) -> int:
    """Events that an analyst sees."""
    [[count]] = warehouse.ask("SELECT toUInt32(count()) FROM email_events")
    return int(count)


def test_the_services_of_the_compose_file_run(
    peers: tuple[dict[str, str], Accounts], warehouse: WarehouseProcess, tmp_path: Path
) -> None:
    """Jobs end with 0, roles become healthy by their own checks, events arrive, all stop with 0."""
    given, accounts = peers
    # without its profile compose starts no role that only some have a use for
    started = [name for name, one in OURS.items() if "profiles" not in one]
    services = {name: Service(name, tmp_path, given) for name in started}
    for name in ("topics", "migrate"):
        job = subprocess.run(
            [sys.executable, "-P", "-m", "streams.cli", *OURS[name]["command"]],
            env=services[name].environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert job.returncode == 0, job.stderr
    subjects = httpx.get(f"{given['SCHEMA_REGISTRY_URL']}/subjects", trust_env=False).json()
    assert "email.events.raw.v1-value" in subjects, "the topics job registers no schema"

    roles = [
        one for name, one in services.items() if name not in ("topics", "migrate", "dashboard")
    ]
    for role in roles:
        role.process.start()
    for role in roles:
        role.process.wait_until(role.healthy, "healthy", timeout_s=120)
    dashboard = services["dashboard"]
    reader = tmp_path / "reader_dsn"
    reader.write_text(f"{warehouse.at.url}/mailpulse\n", encoding="utf-8")
    dashboard.environment[f"{PREFIX}CLICKHOUSE_DSN_FILE"] = str(reader)
    dashboard.process = Process(
        "dashboard", [sys.executable, "-P", "-m", "streams.cli", *dashboard.spec["command"]],
        tmp_path / "dashboard.log", env=dashboard.environment, death_signal="TERM",
    )  # fmt: skip
    dashboard.process.start()
    dashboard.process.wait_until(dashboard.healthy, "healthy", timeout_s=60)

    events = made_up()
    for name in ("ingest-1", "ingest-2"):  # the same events to both: each is stored once
        send(services[name].url("8080"), accounts, events)
    sink = services["sink"].process
    sink.wait_until(lambda: stored(warehouse) >= len(events), "holding every event", 60)
    assert stored(warehouse) == len({event.native_id for event in events}) == len(events)

    for role in (dashboard, *roles):
        assert role.process.stop() == 0, f"{role.name}\n{role.process.log_tail()}"
