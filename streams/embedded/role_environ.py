"""The environment of each role under the supervisor: what that role needs, and nothing else.

Invariants:
1. Pure: the caller's environment and the supervisor's settings are arguments.
2. A role gets only the settings that it reads, so that an attacker inside one process finds no
   secret of another: only ingress has the secrets of sources, only the sink the database's token,
   only ingress and the dashboard the key that hashes recipients, and the database has none.
3. Of all other variables a role gets those that the interpreter and the C library read, and the
   worker the credentials of an object store if its snapshots go to one.
"""

import tomllib
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from schemas.database_settings import ClickHouseSettings, WarehouseSettings
from schemas.kafka_settings import KafkaSettings
from schemas.settings import PREFIX, IngestSettings, Settings, StreamsSettings
from streams.objects.cloud import ENVIRONMENT as STORE_VARIABLES
from streams.objects.cloud import is_cloud

_BASE = frozenset(
    {
        "HOME", "LANG", "LANGUAGE", "LD_LIBRARY_PATH", "LD_PRELOAD", "LOGNAME", "NO_COLOR", "PATH",
        "SSL_CERT_DIR", "SSL_CERT_FILE", "TERM", "TMPDIR", "TZ", "USER", "VIRTUAL_ENV",
    }
)  # fmt: skip
_BASE_PREFIXES = ("LC_", "MALLOC_", "PYTHON")
_PROXIES = ("http_proxy", "https_proxy", "no_proxy", "all_proxy")
_KAFKA = frozenset(KafkaSettings.model_fields)
_CLICKHOUSE = frozenset(ClickHouseSettings.model_fields)
_COMMON = frozenset({"data_dir", "log_format", "log_level", "metrics_host", "metrics_port"})


def _starting(prefix: str) -> frozenset[str]:
    return frozenset(name for name in Settings.model_fields if name.startswith(prefix))


SETTINGS: Mapping[str, frozenset[str]] = {
    "broker": frozenset(),
    "ingest": _COMMON | _KAFKA | frozenset(IngestSettings.model_fields) | {"config_file"},
    "worker": _COMMON | _KAFKA | frozenset(StreamsSettings.model_fields)
    | {"config_file", "record_bytes_max", "sink_group", "sink_reconcile"},
    "sink": _COMMON | _KAFKA | _CLICKHOUSE | _starting("sink_")
    | {"consumer_group", "door_memory_bytes_max", "door_query_s_max", "door_threads_max",
       "events_ttl_days", "minutes_ttl_days", "rebalance_timeout_ms", "session_timeout_ms"},
    "deliver": _COMMON | _KAFKA
    | {"config_file", "consumer_group", "deliver_group", "group_instance_id",
       "rebalance_timeout_ms", "session_timeout_ms", "sink_group", "sink_reconcile",
       "dashboard_deliver_token"},
    "warehouse": _COMMON | frozenset(WarehouseSettings.model_fields) | _starting("door_"),
    "dashboard": _COMMON | _KAFKA | _CLICKHOUSE | _starting("dashboard_")
    | {"config_file", "consumer_group", "sink_group", "sink_reconcile", "recipients",
       "recipient_hash_key"},
}  # fmt: skip
"""Role -> names of the settings that it reads, without prefix."""
_TRACED = frozenset({"ingest", "worker", "sink"})
_OUTGOING = frozenset({"ingest", "worker", "sink"})
"""Roles that make HTTP requests to other hosts: the registry, providers' certificates. Not deliver:
its requests go to the addresses that it judged."""
REFERRING = {"ingest": "sources", "deliver": "destinations"}
"""Role -> section of ``mailpulse.toml`` whose references to variables it resolves."""


def role_environ(
    role: str,
    given: Mapping[str, str],
    told: Mapping[str, str],
    references: Mapping[str, Iterable[str]] = MappingProxyType({}),
) -> dict[str, str]:
    """The whole environment of a role.

    Args:
        role: one of ``SETTINGS``.
        given: the supervisor's own environment.
        told: settings that the supervisor determines, by name without prefix; those that the role
            does not read are left out.
        references: section of ``mailpulse.toml`` -> names of variables that it refers to; each role
            gets those of its section (``REFERRING``).
    """
    wanted = {PREFIX + name.upper() for name in SETTINGS[role]}
    files = {f"{name}_FILE" for name in wanted}
    referred = frozenset(references.get(REFERRING.get(role, ""), ()))
    kept = {
        name: value
        for name, value in given.items()
        if name in wanted or name in files or name in referred or _is_base(role, name)
    }
    if role == "worker" and is_cloud(given.get(f"{PREFIX}SNAPSHOT_STORE", "")):
        kept |= {name: given[name] for name in STORE_VARIABLES if name in given}
    for name, value in told.items():
        if PREFIX + name in wanted:
            kept[PREFIX + name] = value
            kept.pop(f"{PREFIX}{name}_FILE", None)
    return kept


def _is_base(role: str, name: str) -> bool:
    return (
        name in _BASE
        or name.startswith(_BASE_PREFIXES)
        or (role in _TRACED and name.startswith("OTEL_"))
        or (role in _OUTGOING and name.lower() in _PROXIES)
    )


def references_in(text: str) -> dict[str, set[str]]:
    """Section -> names of environment variables that it refers to (``env:NAME``).

    None if the file is not TOML: the role that loads it reports what is wrong.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return {}
    return {section: set(_references(value)) for section, value in document.items()}


def _references(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        return [value.removeprefix("env:")] if value.startswith("env:") else []
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    if isinstance(value, dict):  # the key of a source's history is for no role
        parts = [part for name, part in value.items() if name != "history"]
    return [name for part in parts for name in _references(part)]
