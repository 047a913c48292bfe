"""The destinations of ``mailpulse.toml``: where ``mailpulse deliver`` sends what, and how.

Each kind of destination has a table here (``KINDS``) and a sender in ``streams.deliver.senders``.

Invariants:
1. Pure: the text, the environment and a file reader are arguments.
2. Every problem is reported at once, each with the name of its setting.
3. Secrets are references, ``env:NAME`` or ``file:PATH``. No message repeats what may be a secret.
4. What all kinds have in common is checked alike (``streams.deliver.tables``).
"""

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from standardwebhooks import Webhook

from schemas.errors import ConfigError
from schemas.sources import ReadFile, document_of, is_source_name, problem_lines, resolve_secret
from streams.deliver.channels.tables import Email, PagerDuty, Slack
from streams.deliver.suppress.accounts import ACCOUNTS, Account
from streams.deliver.tables import HttpTable

SECTION = "destinations"
SECRET_BYTES = (24, 64)
"""Shortest and longest key of a signature (Standard Webhooks, «Signature scheme»)."""


class Destination(HttpTable):
    """``kind = "webhook"``: signed JSON by Standard Webhooks."""

    SECRETS: ClassVar[tuple[str, ...]] = ("secret", "bearer", "url")

    kind: Literal["webhook"] = "webhook"
    secret: tuple[SecretStr, ...] = Field(
        (), description="keys of the signature, whsec_ and base64; all sign, for rotation"
    )
    bearer: SecretStr | None = None
    client_cert_file: Path | None = Field(None, description="PEM; with client_key_file: mTLS")
    client_key_file: Path | None = None
    records_per_request: int = Field(1, ge=1, le=1_000)

    @field_validator("secret")
    @classmethod
    def _are_keys(cls, value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        least, most = SECRET_BYTES
        for item in value:
            if not least <= key_bytes(item.get_secret_value()) <= most:
                raise ValueError(f"must be whsec_ and base64 of {least} to {most} random bytes")
        return value

    @field_validator("bearer")
    @classmethod
    def _fits_a_header(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not re.fullmatch(r"[\x21-\x7e]+", value.get_secret_value()):
            raise ValueError("must be printable ASCII without spaces")
        return value

    def _own_problems(self) -> list[str]:
        problems = super()._own_problems()
        if bool(self.client_cert_file) != bool(self.client_key_file):
            problems.append("client_cert_file and client_key_file are set together")
        return problems

    @property
    def together_max(self) -> int:
        """Records in one request."""
        return self.records_per_request


AnyDestination = Destination | Slack | PagerDuty | Email | Account
"""What a table of the section may be, by its ``kind``."""
KINDS: Mapping[str, type[AnyDestination]] = {
    "webhook": Destination, "slack": Slack, "pagerduty": PagerDuty, "email": Email, **ACCOUNTS,
}  # fmt: skip


def key_bytes(secret: str) -> int:
    """Length of a signature's key; 0 if it can't be read."""
    if not re.fullmatch(r"(whsec_)?[A-Za-z0-9+/]+={0,2}", secret):
        return 0
    try:
        return len(Webhook(secret)._whsecret)
    except Exception:  # the library raises what base64 raises
        return 0


def load_destinations(
    text: str, environ: Mapping[str, str], read_file: ReadFile
) -> dict[str, AnyDestination]:
    """The destinations of a ``mailpulse.toml``; none if it has no such section.

    Raises:
        ConfigError: with every problem found.
    """
    return load_tables(tables_of(text), environ, read_file)


def load_tables(
    tables: Mapping[str, Any], environ: Mapping[str, str], read_file: ReadFile
) -> dict[str, AnyDestination]:
    """The destinations that the section's tables say, as by ``load_destinations``."""
    problems: list[str] = []
    found: dict[str, AnyDestination] = {}
    for name, raw in tables.items():
        where = f"{SECTION}.{name}"
        if not is_source_name(name) or not isinstance(raw, dict):
            problems.append(f"{where}: a table named by letters, digits, '-' and '_', 64 at most")
            continue
        kind = KINDS.get(str(raw.get("kind", "webhook")))
        if kind is None:
            problems.append(f"{where}.kind: must be one of {', '.join(KINDS)}")
            continue
        values = {**raw, "name": name}
        bad = _resolve(values, kind.SECRETS, where, environ, read_file)
        if "name" in raw:
            bad.append(f"{where}.name: its name is that of its table")
        problems += bad
        try:
            found[name] = kind(**values)
        except ValidationError as error:
            unresolved = {line.split(":")[0] for line in bad}
            lines = problem_lines(error, partial(_setting, where))
            problems += [line for line in lines if line.split(":")[0] not in unresolved]
    if problems:
        raise ConfigError(problems)
    return found


def _setting(where: str, field: str) -> str:
    return f"{where}.{field}" if field else where


def tables_of(text: str) -> dict[str, Any]:
    """The section as it is; empty without one.

    Raises:
        ConfigError: the text is not TOML, or the section is no table.
    """
    tables = document_of(text).get(SECTION, {})
    if not isinstance(tables, dict):
        raise ConfigError([f"{SECTION}: a table of tables, as in [{SECTION}.crm]"])
    return tables


def _resolve(
    values: dict[str, Any],
    fields: tuple[str, ...],
    where: str,
    environ: Mapping[str, str],
    read_file: ReadFile,
) -> list[str]:
    """Replaces the references of fields by what they refer to; returns the problems."""
    problems = []
    for field in fields:
        if field not in values:
            continue
        given = values[field]
        if isinstance(given, list) and field != "secret":
            problems.append(f"{where}.{field}: must be one, not a list")
            continue
        refs = given if isinstance(given, list) else [given]
        resolved = []
        for ref in refs:
            plain = field == "url" and not str(ref).startswith(("env:", "file:"))
            try:
                resolved.append(str(ref) if plain else resolve_secret(str(ref), environ, read_file))
            except ValueError as error:
                problems.append(f"{where}.{field}: {error}")
        values[field] = tuple(resolved) if field == "secret" else "".join(resolved[:1])
    return problems
