"""The destinations of ``mailpulse.toml``: where ``mailpulse deliver`` sends what, and how.

Invariants:
1. Pure: the text, the environment and a file reader are arguments.
2. Every problem is reported at once, each with the name of its setting.
3. Secrets are references, ``env:NAME`` or ``file:PATH``. No message repeats what may be a secret.
4. A filter that one of the topics can't be filtered by is a problem, not ignored: what a
   destination gets is what its table says.
"""

import ipaddress
import re
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from standardwebhooks import Webhook

from schemas import topics
from schemas.errors import ConfigError
from schemas.event import EventType
from schemas.sources import ReadFile, document_of, is_source_name, problem_lines, resolve_secret
from streams.deliver.addresses import Network
from streams.deliver.core import Limits

SECTION = "destinations"
TOPICS: Mapping[str, tuple[str, ...]] = {
    "engagement": (topics.ENGAGEMENT,),
    "suppressions": (topics.SUPPRESSIONS, topics.SCOPED_SUPPRESSIONS),
    "alerts": (topics.ALERTS,),
    "rates": (topics.RATES,),
    "events": (topics.ENRICHED,),
}
"""Name in ``mailpulse.toml`` -> topics."""
FILTERS: Mapping[str, frozenset[str]] = {
    "engagement": frozenset({"campaigns", "events"}),
    "suppressions": frozenset({"campaigns", "sources", "mailbox_providers"}),
    "alerts": frozenset({"campaigns", "mailbox_providers"}),
    "rates": frozenset({"campaigns"}),
    "events": frozenset({"campaigns", "events", "sources", "mailbox_providers"}),
}
"""What each topic can be filtered by."""
EVENTS: Mapping[str, frozenset[EventType]] = {
    "engagement": frozenset({EventType.OPENED, EventType.CLICKED}),
    "events": frozenset(EventType),
}
"""The events that a topic which can be filtered by them has."""
_SECRETS = ("secret", "bearer", "url")
HOST_CHARS_MAX = 253
_NAME = re.compile(r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?")
SECRET_BYTES = (24, 64)
"""Shortest and longest key of a signature (Standard Webhooks, «Signature scheme»)."""


class Destination(BaseModel):
    """One ``[destinations.NAME]``. Secrets are resolved."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    kind: Literal["webhook"] = "webhook"
    url: SecretStr = Field(description="https://…; may be a reference, as it may be a secret")
    topics: tuple[Literal["engagement", "suppressions", "alerts", "rates", "events"], ...] = Field(
        min_length=1
    )
    campaigns: tuple[str, ...] = Field((), description="patterns of campaign ids; * is any text")
    events: tuple[EventType, ...] = Field((), description="of engagement: opened, clicked")
    sources: tuple[str, ...] = ()
    mailbox_providers: tuple[str, ...] = ()
    begin: Literal["now", "earliest"] = Field(
        "now", description="where a new destination begins to read its topics"
    )
    secret: tuple[SecretStr, ...] = Field(
        (), description="keys of the signature, whsec_ and base64; all sign, for rotation"
    )
    bearer: SecretStr | None = None
    client_cert_file: Path | None = Field(None, description="PEM; with client_key_file: mTLS")
    client_key_file: Path | None = None
    ca_file: Path | None = Field(None, description="PEM; default: the system's authorities")
    allow_networks: tuple[str, ...] = Field(
        (), description="addresses or networks that are not public and may be sent to all the same"
    )
    records_per_request: int = Field(1, ge=1, le=1_000)
    concurrency: int = Field(8, ge=1, le=256, description="requests at once, of each process")
    rate_per_s: float | None = Field(
        None, ge=0.001, description="requests a second, of each process"
    )
    tries: int = Field(8, ge=1, le=100, description="4xx answers before a record is parked")
    give_up_hours: float = Field(72.0, gt=0, le=24 * 30)
    connect_timeout_s: float = Field(5.0, gt=0, le=60)
    timeout_s: float = Field(20.0, gt=0, le=300, description="longest wait for a whole answer")

    @field_validator(
        "topics", "campaigns", "events", "sources", "mailbox_providers", "allow_networks",
        mode="before",
    )  # fmt: skip
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("allow_networks")
    @classmethod
    def _are_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for item in value:
            try:
                ipaddress.ip_network(item, strict=False)
            except ValueError:
                raise ValueError("must be addresses or networks such as 10.0.0.0/8") from None
        return value

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

    @field_validator("url")
    @classmethod
    def _is_a_url(cls, value: SecretStr) -> SecretStr:
        try:
            parts = urlsplit(value.get_secret_value())
            good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            good = False
        if not good or parts.username is not None or parts.fragment:
            raise ValueError("must be https://HOST/PATH without user and fragment; see bearer")
        if re.search(r"[\x00-\x20\x7f]", value.get_secret_value()):
            raise ValueError("must have no spaces and control characters")
        if problem := _host_problem(parts.hostname or ""):
            raise ValueError(problem)
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> "Destination":
        problems = [
            f"{topic} can't be filtered by {name}"
            for topic in self.topics
            for name in sorted(self.filters() - FILTERS[topic])
        ]
        problems += [
            f"{topic} has none of these events, only {', '.join(sorted(EVENTS[topic]))}"
            for topic in self.topics
            if self.events and topic in EVENTS and not EVENTS[topic] & set(self.events)
        ]
        if bool(self.client_cert_file) != bool(self.client_key_file):
            problems.append("client_cert_file and client_key_file are set together")
        if not self.is_tls and not self.allow_networks:
            problems.append("url may be http:// only to addresses that allow_networks names")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def filters(self) -> frozenset[str]:
        """Names of the filters that are set."""
        names = ("campaigns", "events", "sources", "mailbox_providers")
        return frozenset(name for name in names if getattr(self, name))

    @property
    def is_tls(self) -> bool:
        """Whether its connections are encrypted."""
        return urlsplit(self.url.get_secret_value()).scheme == "https"

    @property
    def host(self) -> str:
        """The host of its URL: what logs and lists may show."""
        return urlsplit(self.url.get_secret_value()).hostname or ""

    @property
    def networks(self) -> tuple[Network, ...]:
        """``allow_networks``, parsed."""
        return tuple(ipaddress.ip_network(item, strict=False) for item in self.allow_networks)

    @property
    def topic_names(self) -> tuple[str, ...]:
        """The topics that it reads."""
        return tuple(dict.fromkeys(name for topic in self.topics for name in TOPICS[topic]))

    @property
    def limits(self) -> Limits:
        """Of its state machine."""
        return Limits(
            concurrency=self.concurrency, batch_max=self.records_per_request,
            rate_per_s=self.rate_per_s, tries_max=self.tries,
            give_up_s=self.give_up_hours * 3600.0,
        )  # fmt: skip


def _host_problem(host: str) -> str | None:
    """Why requests can't go to a host; ``None``: they can."""
    with suppress(ValueError):
        ipaddress.ip_address(host)
        return None
    if re.fullmatch(r"(.*\.)?([0-9]+|0x[0-9a-f]*)\.?", host):  # a resolver would read it as one
        return "must have four decimal numbers in an IPv4 address"
    try:
        encoded = host.encode("idna").decode("ascii")
    except UnicodeError:  # a part is empty, longer than 63, or of no letters
        encoded = ""
    if len(encoded) > HOST_CHARS_MAX or not _NAME.fullmatch(encoded):
        return "must have the name or address of a host"
    return None


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
) -> dict[str, Destination]:
    """The destinations of a ``mailpulse.toml``; none if it has no such section.

    Raises:
        ConfigError: with every problem found.
    """
    return load_tables(tables_of(text), environ, read_file)


def load_tables(
    tables: Mapping[str, Any], environ: Mapping[str, str], read_file: ReadFile
) -> dict[str, Destination]:
    """The destinations that the section's tables say, as by ``load_destinations``."""
    problems: list[str] = []
    found: dict[str, Destination] = {}
    for name, raw in tables.items():
        where = f"{SECTION}.{name}"
        if not is_source_name(name) or not isinstance(raw, dict):
            problems.append(f"{where}: a table named by letters, digits, '-' and '_', 64 at most")
            continue
        values = {**raw, "name": name}
        bad = _resolve(values, where, environ, read_file)
        if "name" in raw:
            bad.append(f"{where}.name: its name is that of its table")
        problems += bad
        try:
            found[name] = Destination(**values)
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
    values: dict[str, Any], where: str, environ: Mapping[str, str], read_file: ReadFile
) -> list[str]:
    """Replaces references by what they refer to; returns the problems."""
    problems = []
    for field in _SECRETS:
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
