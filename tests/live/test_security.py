"""Kafka with TLS, SCRAM and client certificates, on a broker that denies everything not granted.

Every client of ours (ingest, worker, sink, admin) has its own user with exactly the rights that
``streams.kafka.acl`` lists; certificates are self-made. Refused must be: a wrong password, a broker
certified by another authority, and each role beyond its rights.
"""

import asyncio
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import TopicAuthorizationFailedError
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from schemas.errors import Unavailable
from schemas.settings import Settings
from schemas.topics import ENRICHED, RAW
from streams.kafka import admin
from streams.kafka.acl import ROLES, rules
from streams.simulation.accounts import open_accounts
from tests.live.certificates import Authority
from tests.live.fixtures import or_skip
from tests.live.kafka import Kafka
from tests.live.process import free_port
from tests.live.roles import Pipeline
from tests.live.token_server import SCOPE, TokenServer
from tests.live.verdict import verdict_of

pytestmark = pytest.mark.timeout(480)

PROTOCOLS = ("SASL_SSL", "SSL")
MECHANISMS = ("PLAIN", "OAUTHBEARER")
TOKEN_LIFE_S = 2.0
_SECURITY = "org.apache.kafka.common.security"
_OAUTH = f"{_SECURITY}.oauthbearer.OAuthBearerLoginModule"
_PLAIN = f"{_SECURITY}.plain.PlainLoginModule"


class Guarded:
    """A broker with a SCRAM listener and one for client certificates, and a user for each role.

    The plain listener is the test's own: it grants rights there, as an operator does before
    anything of mailpulse starts.
    """

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder / "tls")
        self.ports = {protocol: free_port() for protocol in PROTOCOLS}
        self.passwords = {role: secrets.token_urlsafe(18) for role in ROLES}
        clients = {f"mailpulse-{role}": password for role, password in self.passwords.items()}
        self.tokens = TokenServer(clients, TOKEN_LIFE_S)
        self.certificates = {role: self.authority.issue(f"mailpulse-{role}") for role in ROLES}
        port, controller = free_port(), free_port()
        listeners = f"PLAINTEXT://127.0.0.1:{port}" + "".join(
            f",{protocol}://127.0.0.1:{number}" for protocol, number in self.ports.items()
        )
        self.broker = Kafka(
            port,
            voters={1: controller},
            options={
                "listeners": f"{listeners},CONTROLLER://127.0.0.1:{controller}",
                "advertised.listeners": listeners,
                "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,"
                "SASL_SSL:SASL_SSL,SSL:SSL",
                "inter.broker.listener.name": "PLAINTEXT",
                "ssl.keystore.type": "PEM",
                "ssl.keystore.location": str(self.authority.keystore("broker")),
                "ssl.truststore.type": "PEM",
                "ssl.truststore.location": str(self.authority.certificate),
                "listener.name.ssl.ssl.client.auth": "required",
                "ssl.principal.mapping.rules": "RULE:^CN=(.*?)$/$1/",
                "sasl.enabled.mechanisms": "SCRAM-SHA-512,PLAIN,OAUTHBEARER",
                # as managed services end connections whose token is over (KIP-368)
                "listener.name.sasl_ssl.oauthbearer.connections.max.reauth.ms": "3600000",
                "listener.name.sasl_ssl.oauthbearer.sasl.jaas.config": f"{_OAUTH} required;",
                "listener.name.sasl_ssl.plain.sasl.jaas.config": f"{_PLAIN} required "
                + " ".join(f'user_mailpulse-{role}="{self.passwords[role]}"' for role in ROLES)
                + ";",
                "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": "org.apache.kafka.common"
                ".security.scram.ScramLoginModule required;",
                "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
                "allow.everyone.if.no.acl.found": "false",
                "super.users": "User:ANONYMOUS",
            },
        )

    def grant(self) -> None:
        """Creates the users and gives each role what ``streams.kafka.acl`` lists, nothing else."""
        client = AdminClient({"bootstrap.servers": self.broker.bootstrap, "log_level": 0})
        info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 8192)
        users = [
            UserScramCredentialUpsertion(f"mailpulse-{role}", info, password.encode())
            for role, password in self.passwords.items()
        ]
        for made in client.alter_user_scram_credentials(users).values():
            made.result(30)
        bindings = [
            AclBinding(
                ResourceType[rule.resource.upper()], rule.name, ResourcePatternType.LITERAL,
                rule.principal, "*", _operation(operation), AclPermissionType.ALLOW,
            )
            for rule in rules(Settings())
            for operation in rule.operations
        ]  # fmt: skip
        for granted in client.create_acls(bindings).values():
            granted.result(30)

    def settings(self, role: str, way: str) -> dict[str, str]:
        """How a role signs in; names without prefix.

        Args:
            way: the protocol, or a mechanism other than SCRAM.
        """
        protocol = "SASL_SSL" if way in MECHANISMS else way
        given = {
            "KAFKA_BOOTSTRAP": f"127.0.0.1:{self.ports[protocol]}",
            "KAFKA_SECURITY_PROTOCOL": protocol,
            "KAFKA_SSL_CAFILE": str(self.authority.certificate),
        }
        if protocol == "SASL_SSL":
            given |= {
                "KAFKA_SASL_MECHANISM": way if way in MECHANISMS else "SCRAM-SHA-512",
                "KAFKA_SASL_USERNAME": f"mailpulse-{role}",
                "KAFKA_SASL_PASSWORD": self.passwords[role],
            }
            if way == "OAUTHBEARER":
                given |= {"KAFKA_OAUTH_TOKEN_URL": self.tokens.url, "KAFKA_OAUTH_SCOPE": SCOPE}
            return given
        certificate, key = self.certificates[role]
        return given | {"KAFKA_SSL_CERTFILE": str(certificate), "KAFKA_SSL_KEYFILE": str(key)}

    def options(self, role: str, protocol: str = "SASL_SSL", **changed: Any) -> dict[str, Any]:
        """aiokafka's arguments for a role."""
        given: dict[str, Any] = {
            name.lower(): value for name, value in self.settings(role, protocol).items()
        }
        return Settings(**(given | changed)).kafka_client_options()


def _operation(word: str) -> AclOperation:
    """Kafka's word as confluent-kafka has it: DescribeConfigs is DESCRIBE_CONFIGS."""
    return AclOperation["".join(f"_{c}" if c.isupper() else c for c in word).strip("_").upper()]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """The guarded broker, rights granted."""
    made = or_skip(lambda: Guarded(tmp_path_factory.mktemp("guarded")))
    with made.broker, made.tokens.serving():
        made.grant()
        yield made


class GuardedPipeline(Pipeline):
    """A pipeline whose roles sign in, each as its own user; requests from outside are the
    admin's."""

    def __init__(self, guarded: Guarded, protocol: str, folder: Path, **options: Any) -> None:
        self._guarded, self._protocol = guarded, protocol
        bootstrap = guarded.settings("admin", protocol)["KAFKA_BOOTSTRAP"]
        super().__init__(bootstrap, folder, **options)
        self._environ |= guarded.settings("admin", protocol)

    def _add(self, name: str) -> Any:
        kind = name.rsplit("-", 1)[0]
        if kind in ROLES:  # a warehouse has no part in Kafka
            self._environ |= self._guarded.settings(kind, self._protocol)
        return super()._add(name)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_role_works_with_its_own_rights_alone(
    guarded: Guarded, protocol: str, tmp_path: Path
) -> None:
    """From a signed webhook to ClickHouse over TLS, by SCRAM and by certificates: exact."""
    accounts = open_accounts()
    with GuardedPipeline(
        guarded, protocol, tmp_path, config=accounts.toml, secrets=accounts.environ
    ) as pipeline:
        verdict = verdict_of(pipeline, accounts, seconds=4, rate_per_s=300)
        assert verdict.exact, f"{verdict}\n{pipeline.log_tails()}"
        assert verdict.stored > 100
        for role in pipeline:
            text = role.log.read_text("utf-8")
            assert not [p for p in guarded.passwords.values() if p in text], role.name
        assert pipeline.stop() == dict.fromkeys(pipeline.roles, 0), pipeline.log_tails()


def test_every_role_signs_in_with_tokens(guarded: Guarded, tmp_path: Path) -> None:
    """OAUTHBEARER by client credentials. Tokens hold for two seconds, after which the broker ends
    their connections: nothing is lost or doubled."""
    accounts = open_accounts()
    with GuardedPipeline(
        guarded, "OAUTHBEARER", tmp_path, config=accounts.toml, secrets=accounts.environ
    ) as pipeline:
        verdict = verdict_of(pipeline, accounts, seconds=4, rate_per_s=100)
        assert verdict.exact, f"{verdict}\n{pipeline.log_tails()}"
        assert guarded.tokens.given > 2 * len(pipeline.roles), "no connection was ended"
        for role in pipeline:
            text = role.log.read_text("utf-8")
            assert not [p for p in guarded.passwords.values() if p in text], role.name
        assert pipeline.stop() == dict.fromkeys(pipeline.roles, 0), pipeline.log_tails()


async def test_keys_of_managed_services_sign_in_by_plain(guarded: Guarded) -> None:
    """As an API key and its secret."""
    options: Any = {k.lower(): v for k, v in guarded.settings("admin", "PLAIN").items()}
    assert (await admin.topics_show(Settings(**options))).brokers == 1


def test_a_wrong_password_and_a_foreign_authority_are_refused(
    guarded: Guarded, tmp_path: Path
) -> None:
    """Both give a message, without the password."""
    given = {name.lower(): value for name, value in guarded.settings("admin", "SASL_SSL").items()}
    wrong: dict[str, Any] = given | {"kafka_sasl_password": "canary-not-the-password"}
    foreign: dict[str, Any] = given | {
        "kafka_ssl_cafile": str(Authority(tmp_path, "foreign").certificate)
    }
    unknown: dict[str, Any] = given | {"kafka_security_protocol": "SASL_PLAINTEXT"}
    for case in (wrong, foreign, unknown):
        with pytest.raises(Unavailable) as told:
            asyncio.run(admin.topics_show(Settings(**case, kafka_request_timeout_ms=3_000)))
        assert str(case["kafka_sasl_password"]) not in str(told.value)


async def _may_write(guarded: Guarded, role: str, topic: str) -> bool:
    producer = AIOKafkaProducer(**guarded.options(role), acks="all")
    await producer.start()
    try:
        await producer.send_and_wait(topic, b"{}", partition=0)
    except TopicAuthorizationFailedError:
        return False
    finally:
        await producer.stop()
    return True


async def _may_read(guarded: Guarded, role: str, topic: str) -> bool:
    consumer = AIOKafkaConsumer(**guarded.options(role), enable_auto_commit=False)
    await consumer.start()
    try:
        place = TopicPartition(topic, 0)
        consumer.assign([place])
        consumer.seek(place, 0)
        await consumer.getmany(place, timeout_ms=3_000)
    except TopicAuthorizationFailedError:
        return False
    finally:
        await consumer.stop()
    return True


async def test_no_role_can_do_another_ones_work(guarded: Guarded) -> None:
    """Ingress can't read, the sink can't write events, the dashboard can do neither."""
    settings = {k.lower(): v for k, v in guarded.settings("admin", "SASL_SSL").items()}
    given: dict[str, Any] = settings
    await admin.topics_apply(Settings(**given))
    assert await _may_read(guarded, "sink", RAW), "what is granted works"
    for role in ("ingest", "dashboard"):
        assert not await _may_read(guarded, role, RAW), role
    for role, topic in (("ingest", ENRICHED), ("sink", RAW), ("worker", RAW), ("dashboard", RAW)):
        assert not await _may_write(guarded, role, topic), f"{role} {topic}"
