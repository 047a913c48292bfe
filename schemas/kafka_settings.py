"""Settings for connecting to Kafka; a part of ``schemas.settings.Settings``."""

import re
import ssl
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, SecretStr, field_validator
from pydantic_settings import NoDecode

from schemas.addresses import brokers, msk_region, registry_url, token_url
from schemas.topics import PARTITIONS_DEFAULT


class KafkaSettings(BaseModel):
    """How every role connects to Kafka."""

    kafka_bootstrap: str = Field("127.0.0.1:9092", description="host:port, comma-separated")
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    kafka_sasl_mechanism: Literal[
        "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "AWS_MSK_IAM"
    ] = Field(
        "SCRAM-SHA-512",
        description="OAUTHBEARER: a token of kafka_oauth_token_url; AWS_MSK_IAM: by the AWS"
        " identity of the process",
    )
    kafka_sasl_username: str = Field("", description="or the client id of OAuth, or an API key")
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

    kafka_oauth_token_url: str = Field(
        "", description="token endpoint (https) for client credentials: username and password above"
    )
    kafka_oauth_scope: str = ""
    kafka_oauth_extensions: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="name=value, comma-separated, that the brokers want beside the token"
    )

    kafka_aws_region: str = Field(
        "",
        pattern=r"^([a-z]{2}(-[a-z]+)+-[0-9]+)?$",
        description="of AWS_MSK_IAM; default: the one in the names of the brokers",
    )

    @field_validator("kafka_oauth_extensions", mode="before")
    @classmethod
    def _comma_separated_extensions(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("kafka_oauth_extensions")
    @classmethod
    def _are_extensions(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(re.fullmatch(r"(?!auth=)[A-Za-z]+=[\x21-\x7e]+", one) for one in value):
            raise ValueError("name=value, comma-separated; a name has letters alone")
        return value

    @field_validator("kafka_oauth_token_url")
    @classmethod
    def _names_a_token_endpoint(cls, value: str) -> str:
        return token_url(value)

    @field_validator("kafka_bootstrap")
    @classmethod
    def _names_brokers(cls, value: str) -> str:
        return ",".join(brokers(value))

    @field_validator("schema_registry_url")
    @classmethod
    def _names_a_registry(cls, value: SecretStr) -> SecretStr:
        return SecretStr(registry_url(value.get_secret_value()))

    @property
    def aws_region(self) -> str:
        """Where a cluster of Amazon MSK is: as set, or as the brokers are named; may be empty."""
        return self.kafka_aws_region or msk_region(self.kafka_bootstrap)

    def _sasl(self) -> dict[str, Any]:
        user, password = self.kafka_sasl_username, self.kafka_sasl_password.get_secret_value()
        if self.kafka_sasl_mechanism == "AWS_MSK_IAM":
            from schemas.kafka_msk import tokens_of as msk_tokens_of

            tokens = msk_tokens_of(self.aws_region)
            return {"sasl_mechanism": "OAUTHBEARER", "sasl_oauth_token_provider": tokens}
        if self.kafka_sasl_mechanism != "OAUTHBEARER":
            return {
                "sasl_mechanism": self.kafka_sasl_mechanism,
                "sasl_plain_username": user, "sasl_plain_password": password,
            }  # fmt: skip
        from schemas.kafka_tokens import tokens_of  # with an HTTP client, which few need

        tokens = tokens_of(
            self.kafka_oauth_token_url, user, password, self.kafka_oauth_scope,
            self.kafka_oauth_extensions, self.kafka_ssl_cafile,
        )  # fmt: skip
        return {"sasl_mechanism": "OAUTHBEARER", "sasl_oauth_token_provider": tokens}

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
            options |= self._sasl()
        if self.kafka_security_protocol.endswith("SSL"):
            context = ssl.create_default_context(cafile=self.kafka_ssl_cafile)
            if self.kafka_ssl_certfile is not None:
                context.load_cert_chain(self.kafka_ssl_certfile, self.kafka_ssl_keyfile)
            options["ssl_context"] = context
        return options
