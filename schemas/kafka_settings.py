"""Settings for connecting to Kafka; a part of ``schemas.settings.Settings``."""

import ssl
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, SecretStr, field_validator

from schemas.addresses import brokers, registry_url
from schemas.topics import PARTITIONS_DEFAULT


class KafkaSettings(BaseModel):
    """How every role connects to Kafka."""

    kafka_bootstrap: str = Field("127.0.0.1:9092", description="host:port, comma-separated")
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    kafka_sasl_username: str = ""
    kafka_sasl_password: SecretStr = SecretStr("")
    kafka_ssl_cafile: Path | None = None
    kafka_ssl_certfile: Path | None = None
    kafka_ssl_keyfile: Path | None = None
    kafka_replication_factor: int | None = Field(
        None,
        ge=1,
        description="replicas of a new topic; default: 3, or as many as there are brokers",
    )
    kafka_request_timeout_ms: int = Field(30_000, ge=1_000)
    partitions: int = Field(PARTITIONS_DEFAULT, ge=1, le=10_000, description="of a new topic")
    log_id: str = Field(
        "",
        max_length=64,
        description="incarnation of the raw topic; default: the broker's topic id",
    )
    schema_registry_url: SecretStr = Field(
        SecretStr(""),
        description="Confluent-compatible registry, may contain a password; empty: none",
    )

    @field_validator("kafka_bootstrap")
    @classmethod
    def _names_brokers(cls, value: str) -> str:
        return ",".join(brokers(value))

    @field_validator("schema_registry_url")
    @classmethod
    def _names_a_registry(cls, value: SecretStr) -> SecretStr:
        return SecretStr(registry_url(value.get_secret_value()))

    def kafka_client_options(self) -> dict[str, Any]:
        """Keyword arguments that every aiokafka client takes.

        Raises:
            OSError, ssl.SSLError: a certificate file can't be read.
        """
        options: dict[str, Any] = {
            "bootstrap_servers": brokers(self.kafka_bootstrap),
            "security_protocol": self.kafka_security_protocol,
            "request_timeout_ms": self.kafka_request_timeout_ms,
        }
        if self.kafka_security_protocol.startswith("SASL"):
            options["sasl_mechanism"] = self.kafka_sasl_mechanism
            options["sasl_plain_username"] = self.kafka_sasl_username
            options["sasl_plain_password"] = self.kafka_sasl_password.get_secret_value()
        if self.kafka_security_protocol.endswith("SSL"):
            context = ssl.create_default_context(cafile=self.kafka_ssl_cafile)
            if self.kafka_ssl_certfile is not None:
                context.load_cert_chain(self.kafka_ssl_certfile, self.kafka_ssl_keyfile)
            options["ssl_context"] = context
        return options
