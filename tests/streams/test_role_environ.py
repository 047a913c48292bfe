"""Each role's environment: every setting that it reads, and no secret of another role."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.settings import PREFIX, Settings
from streams.embedded.role_environ import SETTINGS, references_in, role_environ
from tests.test_style import ROOT

ENTRIES = {
    "ingest": ("ingest.server", "ingest.registry_endpoint"),
    "worker": ("streams.worker.worker",),
    "sink": ("analytics.sink.sink",),
    "deliver": ("streams.deliver.role",),
    "warehouse": ("analytics.warehouse.serve",),
    "dashboard": ("analytics.dashboard.serve",),
}
"""Role -> modules from which all of its code is reached (``streams.cli.roles``)."""
UNUSED_UNDER_A_SUPERVISOR = {"state_dir"}
SECRETS = {
    name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)
}
SECRETS_OF = {
    "broker": set(),
    "ingest": {"kafka_sasl_password", "schema_registry_url", "rate_limit_url",
               "recipient_hash_key"},
    "worker": {"kafka_sasl_password", "schema_registry_url"},
    "sink": {"kafka_sasl_password", "schema_registry_url", "clickhouse_dsn"},
    "deliver": {"kafka_sasl_password", "schema_registry_url", "dashboard_deliver_token"},
    "warehouse": {"door_token"},  # of its own callers: who gets that far has it
    "dashboard": {"kafka_sasl_password", "schema_registry_url", "clickhouse_dsn",
                  "dashboard_token", "dashboard_deliver_token", "recipient_hash_key"},
}  # fmt: skip
TOML = """
[sources.a]
provider = "generic"
secret = ["env:NEW_KEY", "env:OLD_KEY"]
[sources.b]
provider = "postmark"
username = "plain"
password = "env:POSTMARK_PASSWORD"
[destinations.crm]
bearer = "env:CRM_TOKEN"
"""


def _file(module: str) -> Path | None:
    path = ROOT.joinpath(*module.split("."))
    found = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return found if found.exists() else None


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _settings_read(tree: ast.AST) -> Iterator[str]:
    """Attributes of anything called ``settings``, in any object."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in Settings.model_fields:
            owner = node.value
            name = owner.id if isinstance(owner, ast.Name) else getattr(owner, "attr", "")
            if name.endswith("settings"):
                yield node.attr


def read_by(role: str) -> set[str]:
    """Names of the settings that the role's code reads."""
    read: set[str] = set()
    seen: set[str] = set()
    waiting = list(ENTRIES[role])
    while waiting:
        module = waiting.pop()
        file = _file(module)
        if file is None or module in seen:
            continue
        seen.add(module)
        tree = ast.parse(file.read_text(encoding="utf-8"))
        waiting += _imports(tree)
        read |= set(_settings_read(tree))
    return read


@pytest.mark.parametrize("role", ENTRIES)
def test_a_role_is_given_every_setting_that_it_reads(role: str) -> None:
    """A user's setting reaches the role that needs it."""
    read = read_by(role)
    assert len(read) > 10, "nothing was found: the search is broken"
    assert read <= SETTINGS[role]


def test_every_setting_is_some_roles() -> None:
    """None is missing, except those that only ``kafka install`` or the supervisor reads."""
    roles = set().union(*SETTINGS.values())
    assert set(Settings.model_fields) == roles | {
        "disk_bytes_max", "kafka_home", "kafka_flush", "maven_url",
    }  # fmt: skip


@pytest.mark.parametrize("role", SETTINGS)
def test_a_role_is_given_no_secret_of_another(role: str) -> None:
    """Neither a setting nor a variable that it does not need."""
    assert SECRETS_OF[role] == SETTINGS[role] & SECRETS
    given = {PREFIX + name.upper(): f"canary-{name}" for name in SECRETS}
    given |= {f"{PREFIX}KAFKA_SASL_PASSWORD_FILE": "canary-file", "AWS_SECRET_ACCESS_KEY": "canary"}
    given |= {"NEW_KEY": "canary-source", f"{PREFIX}SECRET_OTHER": "canary-other", "PATH": "/bin"}
    given |= {"OTEL_EXPORTER_OTLP_HEADERS": "canary-otel"}
    given |= {"CRM_TOKEN": "canary-destination"}
    got = role_environ(role, given, {}, {"sources": ["NEW_KEY"], "destinations": ["CRM_TOKEN"]})
    secret = {value for value in got.values() if value.startswith("canary")}
    own = {f"canary-{name}" for name in SECRETS_OF[role]}
    own |= {"canary-file"} if "kafka_sasl_password" in SECRETS_OF[role] else set()
    own |= {"canary-source"} if role == "ingest" else set()
    own |= {"canary-destination"} if role == "deliver" else set()
    own |= {"canary-otel"} if role in ("ingest", "worker", "sink") else set()
    assert secret == own
    assert got["PATH"] == "/bin"


def test_an_object_stores_credentials_go_to_who_uses_it_alone() -> None:
    """To the worker, and only where its snapshots go to an object store."""
    given = {"AWS_SECRET_ACCESS_KEY": "canary", f"{PREFIX}SNAPSHOT_STORE": "s3://bucket/mail"}
    got = {role: role_environ(role, given, {}) for role in SETTINGS}
    assert [role for role, names in got.items() if "AWS_SECRET_ACCESS_KEY" in names] == ["worker"]
    given[f"{PREFIX}SNAPSHOT_STORE"] = "/mnt/snapshots"
    assert "AWS_SECRET_ACCESS_KEY" not in role_environ("worker", given, {})


def test_what_is_told_wins_over_the_callers_own() -> None:
    """Also over a file named by the caller; settings that a role does not read are left out."""
    given = {f"{PREFIX}CLICKHOUSE_DSN_FILE": "/x", f"{PREFIX}SINK_ROWS_MAX": "7"}
    told = {"CLICKHOUSE_DSN": "http://sink:t@h/d", "DASHBOARD_PORT": "1"}
    assert role_environ("sink", given, told) == {
        f"{PREFIX}CLICKHOUSE_DSN": "http://sink:t@h/d", f"{PREFIX}SINK_ROWS_MAX": "7"
    }  # fmt: skip


def test_references_of_a_configuration_are_found() -> None:
    """In lists too; other texts have none; nor does an invalid file."""
    assert references_in(TOML) == {
        "sources": {"NEW_KEY", "OLD_KEY", "POSTMARK_PASSWORD"}, "destinations": {"CRM_TOKEN"}
    }  # fmt: skip
    assert references_in("[sources") == {}


def test_the_key_of_a_sources_history_goes_to_no_role() -> None:
    """Only the command that reads the history needs it."""
    text = """
[sources.news]
secret = "env:NEWS"
[sources.news.history]
api_key = "env:NEWS_HISTORY"
"""
    assert references_in(text) == {"sources": {"NEWS"}}
