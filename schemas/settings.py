"""Settings of every role, from the environment (prefix ``MAILPULSE_``).

Invariants:
1. No hidden inputs: the environment and a file reader are arguments.
2. Every problem is reported at once, each with the name of its setting.
3. ``MAILPULSE_X_FILE`` names a file that contains ``MAILPULSE_X``; no message repeats a value that
   may be a secret.
4. Limits carry their unit in their name.

The sources of ``mailpulse.toml`` are in ``schemas/sources.py``, ``kafka_*`` and related settings in
``schemas/kafka_settings.py``.
"""

import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from schemas.addresses import msk_region, store_url
from schemas.database_settings import ClickHouseSettings, WarehouseSettings
from schemas.errors import ConfigError
from schemas.kafka_settings import KafkaSettings
from schemas.sources import ReadFile as ReadFile
from schemas.sources import Source as Source
from schemas.sources import load_alerts as load_alerts
from schemas.sources import load_sources as load_sources
from schemas.sources import problem_lines, read_secret_file
from schemas.sources import resolve_secret as resolve_secret

PREFIX = "MAILPULSE_"


def _networks(value: tuple[str, ...]) -> tuple[str, ...]:
    """Checks addresses and networks; the message does not repeat the value (invariant 3)."""
    try:
        for item in value:
            ipaddress.ip_network(item, strict=False)
    except ValueError:
        raise ValueError("addresses or networks such as 203.0.113.0/24, comma-separated") from None
    return value


def _parts(value: Any) -> Any:
    """The parts of a comma-separated text; anything else as it is."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


class IngestSettings(BaseModel):
    """The front door."""

    ingest_host: str = "127.0.0.1"
    ingest_port: int = Field(8080, ge=0, le=65535)
    tls_cert_file: Path | None = Field(None, description="certificate chain in PEM; turns TLS on")
    tls_key_file: Path | None = Field(None, description="private key in PEM")
    allow_http: bool = Field(
        False, description="accept plain HTTP from other machines, as in a closed test network"
    )
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="addresses or networks, comma-separated, whose X-Forwarded-* is trusted"
    )
    metrics_allow_ips: Annotated[tuple[str, ...], NoDecode] = Field(
        ("127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"),
        description="networks that may read /metrics; others are answered 404",
    )
    connections_max: int = Field(4_096, ge=1)
    connections_per_client_max: int = Field(
        1_024, ge=1, description="of one address (IPv6: /64) that is not a trusted proxy"
    )
    header_timeout_ms: int = Field(
        5_000, ge=100, description="longest wait for a request's headers"
    )
    header_bytes_max: int = Field(65_536, ge=1_024)
    body_timeout_ms: int = Field(10_000, ge=100, description="longest wait for a request's body")
    answer_timeout_ms: int = Field(
        10_000, ge=100, description="longest wait for a client to read its answers"
    )
    body_bytes_max: int = Field(5_000_000, ge=1_000)
    bodies_bytes_max: int = Field(
        32_000_000,
        ge=1_000,
        description="large bodies in memory, all requests together; at most half of it for one"
        " client, and for all clients that never proved a request",
    )
    decompressed_bytes_max: int = Field(20_000_000, ge=1_000)
    decompression_ratio_max: int = Field(100, ge=1, description="decompressed : compressed bytes")
    json_depth_max: int = Field(64, ge=1)
    events_per_request_max: int = Field(10_000, ge=1)
    record_bytes_max: int = Field(
        1_000_000, ge=10_000, description="largest record that the brokers accept"
    )
    rate_per_s: float | None = Field(
        None,
        gt=0,
        description="proven requests per second, all sources together; default: no limit",
    )
    unproven_rate_per_s: float | None = Field(
        None,
        gt=0,
        description="unproven requests per second of one client to one source; default: the"
        " source's own rate, or rate_per_s",
    )
    rate_limit_url: SecretStr = Field(
        SecretStr(""), description="Redis or Valkey that shares rate limits between processes"
    )
    ack_timeout_ms: int = Field(2_000, ge=100, description="longest wait for Kafka before a 503")
    inflight_events_max: int = Field(50_000, ge=1, description="events waiting for Kafka")
    inflight_bytes_max: int = Field(64_000_000, ge=10_000, description="bytes waiting for Kafka")
    spool_dir: Path | None = Field(
        None, description="where requests wait on disk while Kafka is down; default: no spool"
    )
    spool_bytes_max: int = Field(1_000_000_000, ge=1_000_000)
    recipients: Literal["plain", "hashed", "dropped"] = Field(
        "plain", description="how recipients' addresses are stored, everywhere"
    )
    recipient_hash_key: SecretStr = Field(
        SecretStr(""),
        description="key of the HMAC of recipients and event ids, unless recipients are plain",
    )
    log_recipients: bool = Field(False, description="name recipients in the log; for debugging")
    log_accepted_every: int = Field(
        100, ge=1,
        description="accepted requests: beyond ten of a source within a second one in so many is"
        " logged, with counts of the others; 1: every one",
    )  # fmt: skip

    @field_validator("rate_limit_url")
    @classmethod
    def _names_a_store(cls, value: SecretStr) -> SecretStr:
        return SecretStr(store_url(value.get_secret_value()))

    @field_validator("trusted_proxies", "metrics_allow_ips", mode="before")
    @classmethod
    def _comma_separated(cls, value: Any) -> Any:
        return _parts(value)

    @field_validator("trusted_proxies", "metrics_allow_ips")
    @classmethod
    def _are_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return _networks(value)


class StreamsSettings(BaseModel):
    """The workers."""

    state_dir: Path | None = Field(None, description="default: data_dir/state")
    consumer_group: str = Field("mailpulse", pattern=r"^[A-Za-z0-9._-]{1,200}$")
    group_instance_id: str = Field("", description="static membership id; unique per worker")
    session_timeout_ms: int = Field(30_000, ge=2_000)
    rebalance_timeout_ms: int = Field(60_000, ge=2_000)
    checkpoint_interval_ms: int = Field(1_000, ge=10)
    checkpoint_records_max: int = Field(
        100_000, ge=1, description="of all partitions of a worker and stage together"
    )
    chunk_records_max: int = Field(2_000, ge=1)
    reprocess_core_share: float = Field(
        0.5, gt=0, le=1,
        description="share of a core that reprocessing may use while live events go on",
    )  # fmt: skip
    message_ttl_hours: int = Field(
        720,
        ge=1,
        description="how long a message and the ids of its events are kept in the state;"
        " no longer than the enriched topic keeps records",
    )
    correction_hours: int = Field(
        24, ge=1, le=144,
        description="how long after a message's first event its figures depend on the set of its "
        "events, not on their order",
    )  # fmt: skip
    deliver_group: str = Field(
        "mailpulse-deliver",
        pattern=r"^[A-Za-z0-9._-]{1,130}$",
        description="consumer groups of destinations: this, '-' and the destination's name",
    )
    rates_interval_ms: int = Field(
        250, ge=50, description="rates of a campaign are published at most this often"
    )
    machine_rules_file: Path | None = Field(
        None, description="rules that tell machines from people; default: the built-in ones"
    )
    mailbox_rules_file: Path | None = Field(
        None, description="mailbox providers of hosted domains; default: none"
    )
    geoip_file: Path | None = Field(
        None, description="MaxMind country database (.mmdb) of your own; default: no countries"
    )
    snapshot_interval_s: int = Field(
        600, ge=0, description="snapshots of state, from which lost state comes back; 0: none"
    )
    snapshots_max: int = Field(2, ge=1, description="of one partition and stage, on each place")
    snapshot_bytes_max: int = Field(
        20_000_000_000, ge=0,
        description="disk that snapshots may take besides what the live state shares with them",
    )  # fmt: skip
    snapshot_store: str = Field(
        "",
        description="where snapshots are uploaded to, for a worker that lost its disk: a folder, or"
        " s3://bucket/prefix (also gs://, az://); empty: nowhere",
    )
    snapshot_upload_interval_s: int = Field(900, ge=1)


class AnalyticsSettings(ClickHouseSettings, WarehouseSettings):
    """ClickHouse, the sink, the analysts' door and the dashboard."""

    sink_group: str = Field("mailpulse-sink", pattern=r"^[A-Za-z0-9._-]{1,200}$")
    sink_rows_max: int = Field(50_000, ge=1)
    sink_bytes_max: int = Field(64_000_000, ge=1_000)
    sink_interval_ms: int = Field(500, ge=10)
    sink_backoff_ms_max: int = Field(10_000, ge=100, description="longest pause between tries")
    sink_reconcile: bool = Field(
        True, description="also read the raw topic, so that view reconciliation can compare with it"
    )
    sink_reconcile_interval_s: int = Field(
        60, ge=1, description="shortest pause between two checks of view reconciliation"
    )
    events_ttl_days: int = Field(396, ge=1)
    door_host: str = "127.0.0.1"
    door_port: int = Field(8123, ge=0, le=65535)
    door_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="further names, comma-separated, that the door answers to, such as"
        " ``localhost:9000`` of a tunnel",
    )
    door_token: SecretStr = Field(
        SecretStr(""),
        description="clients' password; at least 16 characters; empty: none is needed",
    )
    door_connections_max: int = Field(
        256, ge=8, description="one more displaces the one that has kept the door waiting longest"
    )
    door_query_bytes_max: int = Field(256 << 10, ge=1 << 10, le=1 << 20, description="of a query")
    door_query_s_max: int = Field(30, ge=1, description="longest run of one query")
    door_memory_bytes_max: int = Field(1 << 30, ge=1 << 20, description="of one query")
    door_result_bytes_max: int = Field(256 << 20, ge=1 << 10, description="of one result")
    door_unsent_bytes_max: int = Field(
        512 << 20, ge=1 << 20, description="of results over 1 MiB that callers have not read yet"
    )
    door_threads_max: int = Field(1, ge=1, description="of one query")
    door_queries_max: int = Field(4, ge=1, description="queries at once; more wait")
    dashboard_host: str = "127.0.0.1"
    dashboard_port: int = Field(8081, ge=0, le=65535)
    dashboard_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="names, comma-separated, that the dashboard answers to; by default its own"
        " without a sign-in, any with one",
    )
    dashboard_token: SecretStr = Field(
        SecretStr(""), description="the token that people sign in with; at least 16 characters"
    )
    dashboard_user_header: str = Field(
        "",
        pattern=r"^[A-Za-z0-9-]*$",
        description="header in which a proxy that signs people in (OIDC) names them",
    )
    dashboard_proxy_ips: Annotated[tuple[str, ...], NoDecode] = Field(
        ("127.0.0.0/8", "::1/128"),
        description="addresses or networks, comma-separated, whose dashboard_user_header,"
        " X-Forwarded-For and X-Forwarded-Proto are trusted",
    )
    dashboard_session_hours: int = Field(12, ge=1, description="how long a sign-in lasts")
    dashboard_show_recipients: bool = Field(
        False, description="show recipients' addresses; otherwise they are masked everywhere"
    )
    dashboard_interval_ms: int = Field(
        1_000, ge=100, le=60_000, description="shortest time between two reads of the database"
    )
    dashboard_viewers_max: int = Field(500, ge=1, description="live connections at once")
    dashboard_metrics_urls: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="/metrics of ingest processes, comma-separated: where refusals are counted",
    )

    dashboard_deliver_urls: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="addresses of deliver processes (their metrics_port), comma-separated: what the"
        " dashboard shows of destinations",
    )
    dashboard_deliver_token: SecretStr = Field(
        SecretStr(""),
        description="what the dashboard proves itself to deliver with, the same for both; at least"
        " 16 characters",
    )

    minutes_ttl_days: int = Field(
        0, ge=0,
        description="how long minute counts are kept, and so the figures of campaigns, from the"
        " minute on that they are of; at least events_ttl_days; 0: for ever",
    )  # fmt: skip

    @field_validator(
        "dashboard_proxy_ips", "dashboard_metrics_urls", "dashboard_deliver_urls",
        "dashboard_hosts", "door_hosts",
        mode="before",
    )  # fmt: skip
    @classmethod
    def _comma_separated_lists(cls, value: Any) -> Any:
        return _parts(value)

    @field_validator("dashboard_proxy_ips")
    @classmethod
    def _proxies_are_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return _networks(value)

    @field_validator("dashboard_metrics_urls", "dashboard_deliver_urls")
    @classmethod
    def _are_http(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for item in value:
            if not item.startswith(("http://", "https://")):
                raise ValueError("http://… or https://…, comma-separated")
        return value

    @field_validator("dashboard_hosts", "door_hosts")
    @classmethod
    def _are_hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for item in value:
            if not re.fullmatch(r"([\w.-]*\w|\[[\da-fA-F:.]+\])(:\d{1,5})?", item, re.ASCII):
                raise ValueError("hosts or host:port, comma-separated, without http://")
        return value

    @field_validator("dashboard_token", "dashboard_deliver_token", "door_token")
    @classmethod
    def _is_hard_to_guess(cls, value: SecretStr) -> SecretStr:
        if 0 < len(value.get_secret_value()) < 16:
            raise ValueError("at least 16 characters; 'openssl rand -hex 16' makes one")
        return value


class Settings(BaseSettings, KafkaSettings, IngestSettings, StreamsSettings, AnalyticsSettings):
    """All settings. Built by ``load_settings``; constructing it reads no environment."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True)

    config_file: Path | None = Field(None, description="mailpulse.toml; default: in this directory")
    data_dir: Path = Path("mailpulse-data")
    disk_bytes_max: int = Field(
        0, ge=0, description="budget of 'up' for data_dir; 0: none; what goes first is in the pages"
    )
    kafka_home: Path | None = Field(
        None,
        description="unpacked Apache Kafka archive for 'up'; default: what 'kafka install' fetched",
    )
    kafka_flush: bool = Field(
        True,
        description="of 'up': Kafka answers once a record is on the disk; off: a power cut can take"
        " the last 30 s",
    )
    maven_url: SecretStr = Field(
        SecretStr(""),
        description="mirror of Maven Central for 'kafka install', may contain a password; empty:"
        " none",
    )
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
        """Only the caller's arguments (invariant 1)."""
        return (init_settings,)

    @property
    def config_path(self) -> Path:
        """Where ``mailpulse.toml`` is, whether or not it exists."""
        return self.config_file or Path("mailpulse.toml")

    @property
    def clickhouse_dir(self) -> Path:
        """Where the warehouse keeps its data."""
        return self.warehouse_dir or self.data_dir / "clickhouse"

    @property
    def streams_state_dir(self) -> Path:
        """Where a worker keeps its state."""
        return self.state_dir or self.data_dir / "state"


class _Given(EnvSettingsSource):
    """pydantic-settings' parsing of environment values, applied to a mapping."""

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
            result[target] = read_secret_file(value, read_file)
        except ValueError as error:
            problems.append(f"{name}: {error}")
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


def _whole(values: Mapping[str, Any], name: str) -> int:
    """A whole number as given, or its default; 0 where it is none."""
    try:
        return int(values.get(name, Settings.model_fields[name].default))
    except (TypeError, ValueError):
        return 0


def _across(values: Mapping[str, Any]) -> list[str]:
    """Problems between settings, found in the values as given, so that all are reported at once."""
    problems = []
    if values.get("recipients") in ("hashed", "dropped") and not values.get("recipient_hash_key"):
        problems.append(
            f"{PREFIX}RECIPIENT_HASH_KEY: needed when recipients are hashed or dropped, for event"
            " ids too; 32 random characters or more, the same for all processes"
        )
    if values.get("kafka_sasl_mechanism") == "OAUTHBEARER" and not all(
        values.get(name) for name in ("kafka_oauth_token_url", "kafka_sasl_username")
    ):
        problems.append(
            f"{PREFIX}KAFKA_SASL_MECHANISM: OAUTHBEARER needs {PREFIX}KAFKA_OAUTH_TOKEN_URL, and"
            f" the client's id and secret in {PREFIX}KAFKA_SASL_USERNAME and _PASSWORD"
        )
    if values.get("kafka_sasl_mechanism") == "AWS_MSK_IAM" and not (
        values.get("kafka_aws_region") or msk_region(str(values.get("kafka_bootstrap")))
    ):
        problems.append(
            f"{PREFIX}KAFKA_AWS_REGION: needed for AWS_MSK_IAM, as no name in"
            f" {PREFIX}KAFKA_BOOTSTRAP is one of Amazon MSK with its region"
        )
    if bool(values.get("tls_cert_file")) != bool(values.get("tls_key_file")):
        problems.append(f"{PREFIX}TLS_CERT_FILE: set it together with {PREFIX}TLS_KEY_FILE")
    minutes, events = _whole(values, "minutes_ttl_days"), _whole(values, "events_ttl_days")
    if 0 < minutes < events:
        problems.append(
            f"{PREFIX}MINUTES_TTL_DAYS: {minutes} is less than {PREFIX}EVENTS_TTL_DAYS ({events}):"
            " campaigns would lose counts of events that are still there; 0 keeps them for ever"
        )
    return problems


def load_settings(environ: Mapping[str, str], read_file: ReadFile, **overrides: Any) -> Settings:
    """Settings from an environment; ``overrides`` (command-line flags) win, unless ``None``.

    Raises:
        ConfigError: with every problem found. Names starting ``MAILPULSE_TEST_`` and
            ``MAILPULSE_SECRET_`` are ignored (tests; secrets that sources refer to).
    """
    problems: list[str] = []
    given = _with_secret_files(environ, read_file, problems)
    problems += _unknown_names(given)
    values = {**_Given(given)(), **{k: v for k, v in overrides.items() if v is not None}}
    problems += _across(values)
    try:
        settings = Settings(**values)
    except ValidationError as error:
        problems += problem_lines(error, lambda field: PREFIX + field.upper())
    if problems:
        raise ConfigError(problems)
    return settings
