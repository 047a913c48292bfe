"""A pipeline with canary secrets everywhere: none in logs or metrics; no unexpected socket.

Roles log at DEBUG; recipients are hashed, so that no address may appear either.
"""

import re
from pathlib import Path

import httpx
import psutil
import pytest

from schemas.settings import PREFIX
from streams.simulation.accounts import open_accounts
from streams.simulation.simulator import DOMAINS
from tests.live.fixtures import KafkaCluster
from tests.live.roles import Pipeline, Role
from tests.live.verdict import verdict_of

pytestmark = pytest.mark.timeout(480)

SECRETS = {
    "KAFKA_SASL_PASSWORD": "canary4f1e9-sasl-password",
    "RECIPIENT_HASH_KEY": "canary4f1e9-hash-key-of-32-bytes",
}
DOCUMENTED = {
    "ingest": {"INGEST_PORT"},
    "worker": {"METRICS_PORT"},
    "sink": {"METRICS_PORT"},
    "warehouse": {"METRICS_PORT", "DOOR_PORT", "WAREHOUSE_PORT"},
}
"""Kind of role -> settings that name the ports where it listens: all there are."""


def listening(role: Role) -> set[tuple[str, int]]:
    """Addresses where a role's process or a child of it listens."""
    process = psutil.Process(role.pid)
    return {
        (one.laddr.ip, one.laddr.port)
        for each in (process, *process.children(recursive=True))
        for one in each.net_connections("inet")
        if one.status == psutil.CONN_LISTEN
    }


def test_nothing_leaks_and_nothing_else_listens(
    kafka_cluster: KafkaCluster, tmp_path: Path
) -> None:
    """After traffic with forgeries and malformed bodies, then an orderly stop."""
    (broker,) = kafka_cluster()
    accounts = open_accounts()
    settings = {**SECRETS, "RECIPIENTS": "hashed", "LOG_LEVEL": "DEBUG"}
    with Pipeline(
        broker.bootstrap, tmp_path, accounts.toml, accounts.environ, settings=settings
    ) as pipeline:
        verdict = verdict_of(pipeline, accounts, seconds=5, rate_per_s=300)
        assert verdict.exact, str(verdict)
        said = {f"{role.name} metrics": role.metrics() for role in pipeline}
        for role in pipeline:
            assert httpx.get(f"{role.url}/readyz", trust_env=False).status_code == 200
            found = listening(role)
            assert role._env is not None
            wanted = {int(role._env[f"{PREFIX}{name}"]) for name in DOCUMENTED[role.kind]}
            assert {port for _, port in found} == wanted, f"{role.name}: {found}"
            assert {address for address, _ in found} == {"127.0.0.1"}
        assert pipeline.stop() == dict.fromkeys(pipeline.roles, 0), pipeline.log_tails()
        said |= {f"{role.name} log": role.log.read_text("utf-8") for role in pipeline}
    planted = [*SECRETS.values(), *(v for v in accounts.environ.values() if len(v) > 12)]
    for where, text in said.items():
        assert text.strip(), where
        assert not [secret for secret in planted if secret in text], where
        assert not re.findall(rf"reader\d+@(?:{'|'.join(map(re.escape, DOMAINS))})", text), where
