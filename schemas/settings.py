"""Settings of every role, from the environment (prefix ``MAILPULSE_``) and ``mailpulse.toml``.

Laws of this file:
1. Nothing is read behind the caller's back: the environment and a file reader are arguments.
2. Every problem is reported at once, each with the name of its setting.
3. A secret never stands in ``mailpulse.toml``: there it is ``env:NAME`` or ``file:PATH``. In the
   environment ``MAILPULSE_X_FILE`` names a file that holds ``MAILPULSE_X``.
4. Limits carry their unit in their name.
"""

import ipaddress
import re
import ssl
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from schemas.errors import ConfigError
from schemas.topics import PARTITIONS_DEFAULT

PREFIX = "MAILPULSE_"
ReadFile = Callable[[Path], str]


class KafkaSettings(BaseModel):
    """How every role reaches Kafka."""

    kafka_bootstrap: str = Field("127.0.0.1:9092", description="host:port, comma-separated")
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    kafka_sasl_username: str = ""
    kafka_sasl_password: SecretStr = SecretStr("")
    kafka_ssl_cafile: Path | None = None
    kafka_ssl_certfile: Path | None = None
    kafka_ssl_keyfile: Path | None = None
    kafka_idempotence: bool = Field(
        True, description="idempotent producer; off for brokers that have none (embedded)"
    )
    kafka_replication_factor: int | None = Field(
        None, ge=1, description="replicas of a new topic; default: 3, or as many as there are brokers"
    )
    kafka_request_timeout_ms: int = Field(30_000, ge=1_000)
    partitions: int = Field(PARTITIONS_DEFAULT, ge=1, le=10_000, description="of a new topic")
    log_id: str = Field(
        "", max_length=64, description="incarnation of the raw topic; default: the broker's topic id"
    )
    schema_registry_url: str = Field("", description="Confluent-compatible registry; empty: none")

    def kafka_client_options(self) -> dict[str, Any]:
        """Keyword arguments that every aiokafka client takes.

        Raises:
            OSError, ssl.SSLError: a certificate file can't be read.
        """
        options: dict[str, Any] = {
            "bootstrap_servers": self.kafka_bootstrap.split(","),
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


class IngestSettings(BaseModel):
    """The front door."""

    ingest_host: str = "127.0.0.1"
    ingest_port: int = Field(8080, ge=0, le=65535)
    tls_cert_file: Path | None = Field(None, description="certificate chain in PEM; turns TLS on")
    tls_key_file: Path | None = Field(None, description="private key in PEM")
    allow_http: bool = Field(
        False, description="take plain HTTP from other machines, as in a closed test network"
    )
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="addresses or networks, comma-separated, whose X-Forwarded-* is believed"
    )
    metrics_allow_ips: Annotated[tuple[str, ...], NoDecode] = Field(
        ("127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"),
        description="networks that may read /metrics; others are told there is no such page",
    )
    connections_max: int = Field(4_096, ge=1)
    header_timeout_ms: int = Field(5_000, ge=100, description="longest wait for a request's headers")
    header_bytes_max: int = Field(65_536, ge=1_024)
    body_timeout_ms: int = Field(10_000, ge=100, description="longest wait for a request's body")
    body_bytes_max: int = Field(5_000_000, ge=1_000)
    bodies_bytes_max: int = Field(
        32_000_000, ge=1_000, description="bodies being read or processed, all requests together"
    )
    decompressed_bytes_max: int = Field(20_000_000, ge=1_000)
    decompression_ratio_max: int = Field(100, ge=1, description="decompressed : compressed bytes")
    json_depth_max: int = Field(64, ge=1)
    events_per_request_max: int = Field(10_000, ge=1)
    record_bytes_max: int = Field(
        1_000_000, ge=10_000, description="largest record that the brokers take"
    )
    rate_per_s: float | None = Field(
        None, gt=0, description="requests per second, all sources together; default: no limit"
    )
    rate_limit_url: SecretStr = Field(
        SecretStr(""), description="Redis or Valkey that shares rate limits between processes"
    )
    ack_timeout_ms: int = Field(2_000, ge=100, description="longest wait for Kafka before a 503")
    inflight_events_max: int = Field(50_000, ge=1, description="events waiting for Kafka")
    inflight_bytes_max: int = Field(64_000_000, ge=10_000, description="bytes waiting for Kafka")
    spool_dir: Path | None = Field(
        None, description="where requests wait on disk while Kafka is away; default: no spool"
    )
    spool_bytes_max: int = Field(1_000_000_000, ge=1_000_000)
    recipients: Literal["plain", "hashed", "dropped"] = Field(
        "plain", description="how recipients' addresses are kept, everywhere"
    )
    recipient_hash_key: SecretStr = Field(
        SecretStr(""), description="key of the HMAC when recipients are hashed"
    )
    log_recipients: bool = Field(False, description="name recipients in the log, for a while")

    @field_validator("trusted_proxies", "metrics_allow_ips", mode="before")
    @classmethod
    def _comma_separated(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("trusted_proxies", "metrics_allow_ips")
    @classmethod
    def _are_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for item in value:
            ipaddress.ip_network(item, strict=False)
        return value


class StreamsSettings(BaseModel):
    """The workers."""

    state_dir: Path | None = Field(None, description="default: data_dir/state")
    consumer_group: str = Field("mailpulse", pattern=r"^[A-Za-z0-9._-]{1,200}$")
    group_instance_id: str = Field("", description="static membership id; unique per worker")
    session_timeout_ms: int = Field(30_000, ge=2_000)
    rebalance_timeout_ms: int = Field(60_000, ge=2_000)
    checkpoint_interval_ms: int = Field(1_000, ge=10)
    checkpoint_records_max: int = Field(50_000, ge=1)
    chunk_records_max: int = Field(2_000, ge=1)
    dedupe_ttl_hours: int = Field(192, ge=1, description="how long an event id is remembered")
    message_ttl_hours: int = Field(720, ge=1, description="how long a message is remembered")
    rates_interval_ms: int = Field(1_000, ge=50)


class AnalyticsSettings(BaseModel):
    """ClickHouse, the sink, the analysts' door and the dashboard."""

    clickhouse_dsn: SecretStr = Field(
        SecretStr("http://127.0.0.1:8123/mailpulse"),
        description="http(s)://user:password@host:port/database, or chdb:///directory",
    )
    clickhouse_cluster: str = Field("", description="cluster name for replicated tables; empty: none")
    clickhouse_timeout_s: int = Field(30, ge=1, description="longest wait for one answer")
    clickhouse_compress: bool = Field(True, description="compress what goes to a server and back")
    sink_group: str = Field("mailpulse-sink", pattern=r"^[A-Za-z0-9._-]{1,200}$")
    sink_rows_max: int = Field(50_000, ge=1)
    sink_bytes_max: int = Field(64_000_000, ge=1_000)
    sink_interval_ms: int = Field(500, ge=10)
    events_ttl_days: int = Field(396, ge=1)
    door_host: str = "127.0.0.1"
    door_port: int = Field(8123, ge=0, le=65535)
    dashboard_host: str = "127.0.0.1"
    dashboard_port: int = Field(8081, ge=0, le=65535)


class Settings(BaseSettings, KafkaSettings, IngestSettings, StreamsSettings, AnalyticsSettings):
    """All settings. Built by ``load_settings``; constructing it reads no environment."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True)

    config_file: Path | None = Field(None, description="mailpulse.toml; default: in this directory")
    data_dir: Path = Path("mailpulse-data")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["auto", "json", "console"] = "auto"
    metrics_host: str = "127.0.0.1"
    metrics_port: int = Field(0, ge=0, le=65535, description="health and metrics; 0: any free port")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what the caller hands over: law 1."""
        return (init_settings,)

    @property
    def streams_state_dir(self) -> Path:
        """Where a worker keeps its state."""
        return self.state_dir or self.data_dir / "state"


class _Given(EnvSettingsSource):
    """pydantic-settings' parsing of environment values, over a mapping that is handed in."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._given = {name.lower(): value for name, value in environ.items()}
        super().__init__(Settings, env_prefix=PREFIX, case_sensitive=False)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return self._given


def _with_secret_files(
    environ: Mapping[str, str], read_file: ReadFile, problems: list[str]
) -> dict[str, str]:
    """Resolves ``MAILPULSE_X_FILE`` into ``MAILPULSE_X``."""
    result = dict(environ)
    for name, value in environ.items():
        target = name.removesuffix("_FILE")
        if not name.startswith(PREFIX) or target == name:
            continue
        if target.removeprefix(PREFIX).lower() not in Settings.model_fields:
            continue
        try:
            result[target] = read_file(Path(value)).strip()
        except OSError as error:
            problems.append(f"{name}: cannot read {value}: {error.strerror}")
        result.pop(name)
    return result


def _unknown_names(environ: Mapping[str, str]) -> list[str]:
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    allowed = (f"{PREFIX}TEST_", f"{PREFIX}SECRET_")
    return [
        f"{name}: no such setting ('mailpulse config show' lists them)"
        for name in sorted(environ)
        if name.startswith(PREFIX) and name not in known and not name.startswith(allowed)
    ]


def _lines(error: ValidationError, prefix: str = PREFIX) -> list[str]:
    """One line per problem; the offending value is left out, it may be a secret."""
    lines = []
    for item in error.errors(include_input=False, include_url=False):
        name = ".".join(str(part) for part in item["loc"])
        name = prefix + name.upper() if prefix == PREFIX else f"{prefix}.{name}"
        lines.append(f"{name}: {item['msg']}")
    return lines


def load_settings(
    environ: Mapping[str, str], read_file: ReadFile, **overrides: Any
) -> Settings:
    """Settings from an environment; ``overrides`` (command-line flags) win, ``None`` is no override.

    Raises:
        ConfigError: with every problem found. Names starting ``MAILPULSE_TEST_`` and
            ``MAILPULSE_SECRET_`` are left alone (tests; secrets that sources refer to).
    """
    problems: list[str] = []
    given = _with_secret_files(environ, read_file, problems)
    problems += _unknown_names(given)
    try:
        values = {**_Given(given)(), **{k: v for k, v in overrides.items() if v is not None}}
        settings = Settings(**values)
    except ValidationError as error:
        raise ConfigError(problems + _lines(error)) from None
    if settings.recipients == "hashed" and not settings.recipient_hash_key.get_secret_value():
        problems.append(f"{PREFIX}RECIPIENT_HASH_KEY: needed when recipients are hashed")
    if (settings.tls_cert_file is None) != (settings.tls_key_file is None):
        problems.append(f"{PREFIX}TLS_CERT_FILE: goes together with {PREFIX}TLS_KEY_FILE")
    if problems:
        raise ConfigError(problems)
    return settings


# --- sources -------------------------------------------------------------------------------------

SecretRef = str | list[str]
_SECRET_FIELDS = ("signing_key", "secret", "username", "password", "token", "api_key")


class Source(BaseModel):
    """One ``[sources.NAME]`` of ``mailpulse.toml``: who may post to ``/hooks/NAME`` and how to tell.

    Secrets are resolved; several values of one are all accepted (rotation, newest first).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    provider: str
    account: str = Field("", description="provider account; part of every event id")
    public_key: tuple[str, ...] = ()
    signing_key: tuple[SecretStr, ...] = ()
    secret: tuple[SecretStr, ...] = ()
    username: tuple[SecretStr, ...] = ()
    password: tuple[SecretStr, ...] = ()
    token: tuple[SecretStr, ...] = ()
    api_key: tuple[SecretStr, ...] = ()
    topic_arns: tuple[str, ...] = ()
    public_url: str = Field("", description="URL as given to the provider, where it is signed")
    allow_ips: tuple[str, ...] = ()
    tolerance_s: int | None = Field(None, ge=0, description="default: the provider's own")
    campaign_from: tuple[str, ...] = ("metadata.campaign_id", "tag", "provider")
    mapping: dict[str, Any] = Field(default_factory=dict, description="field mapping, generic only")
    rate_per_s: float | None = Field(None, gt=0, description="requests per second; default: none")

    @field_validator("public_key", "topic_arns", "allow_ips", "campaign_from", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("allow_ips")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for item in value:
            ipaddress.ip_network(item, strict=False)
        return value

    def secrets(self, field: str) -> tuple[str, ...]:
        """The plain values of a secret field, newest first."""
        return tuple(item.get_secret_value() for item in getattr(self, field))


def resolve_secret(ref: str, environ: Mapping[str, str], read_file: ReadFile) -> str:
    """The secret that ``env:NAME`` or ``file:PATH`` refers to.

    Raises:
        ValueError: in words for the operator; never holds the reference itself when that may be
            a secret typed in by mistake.
    """
    kind, _, rest = ref.partition(":")
    if kind == "env":
        if not environ.get(rest):
            raise ValueError(f"environment variable {rest} is not set")
        return environ[rest]
    if kind == "file":
        try:
            return read_file(Path(rest)).strip()
        except OSError as error:
            raise ValueError(f"cannot read {rest}: {error.strerror}") from None
    raise ValueError('a secret is "env:NAME" or "file:PATH", never the value itself')


def _resolve_source(
    name: str, raw: Mapping[str, Any], environ: Mapping[str, str], read_file: ReadFile
) -> tuple[Source | None, list[str]]:
    problems: list[str] = []
    values: dict[str, Any] = {**raw, "name": name}
    for field in _SECRET_FIELDS:
        if field not in raw:
            continue
        refs = raw[field] if isinstance(raw[field], list) else [raw[field]]
        resolved = []
        for ref in refs:
            try:
                resolved.append(resolve_secret(str(ref), environ, read_file))
            except ValueError as error:
                problems.append(f"sources.{name}.{field}: {error}")
        values[field] = tuple(resolved)
    try:
        return Source(**values), problems
    except ValidationError as error:
        return None, problems + _lines(error, f"sources.{name}")


def load_sources(text: str, environ: Mapping[str, str], read_file: ReadFile) -> dict[str, Source]:
    """The sources of a ``mailpulse.toml``.

    Raises:
        ConfigError: with every problem found. Whether a source has what its provider needs is the
            provider's to say (``ingest.providers``).
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([f"mailpulse.toml: {error}"]) from None
    problems = [
        f"{key}: no such section in mailpulse.toml (known: sources, alerts)"
        for key in document
        if key not in ("sources", "alerts")
    ]
    sources: dict[str, Source] = {}
    for name, raw in document.get("sources", {}).items():
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name) or not isinstance(raw, dict):
            problems.append(f"sources.{name}: a table named by letters, digits, '-' and '_', 64 at most")
            continue
        source, found = _resolve_source(name, raw, environ, read_file)
        problems += found
        if source is not None:
            sources[name] = source
    if problems:
        raise ConfigError(problems)
    return sources
