"""The sources of ``mailpulse.toml``: who may post to ``/hooks/NAME``, and how it is verified.

Invariants:
1. No hidden inputs: the text, the environment and a file reader are arguments.
2. Every problem is reported at once, each with the name of its setting.
3. A secret that is not set can be told apart from a file that is wrong.
4. ``mailpulse.toml`` contains no secrets, only references: ``env:NAME`` or ``file:PATH``. No
   message repeats a value that may be a secret, and an empty secret counts as missing.
"""

import ipaddress
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from schemas.errors import ConfigError
from schemas.source_history import History

ReadFile = Callable[[Path], str]
_SECRET_FIELDS = ("signing_key", "secret", "username", "password", "token", "api_key")
SECTIONS = ("sources", "alerts", "destinations")
"""Of mailpulse.toml; the last two are read by ``streams``."""
PRESET = "preset:"
"""Before the name of a provider that is a data file, in mailpulse.toml alone."""
_PUBLIC = "public_key"
"""May be given in the file itself, or by a reference like a secret."""
_KEYS = (*_SECRET_FIELDS, _PUBLIC)


def problem_lines(error: ValidationError, name_of: Callable[[str], str]) -> list[str]:
    """One line per problem, named by ``name_of(field)``; offending values are left out."""
    return [
        f"{name_of('.'.join(str(part) for part in item['loc']))}: "
        + item["msg"].removeprefix("Value error, ")
        for item in error.errors(include_input=False, include_url=False)
    ]


def is_source_name(text: str) -> bool:
    """Whether a text may name a source: the last part of ``/hooks/NAME``."""
    return re.fullmatch(r"[A-Za-z0-9_-]{1,64}", text) is not None


class SecretUnset(ValueError):
    """What a reference names is not there, or empty: nothing is wrong with the file itself."""


def read_secret_file(path: str, read_file: ReadFile) -> str:
    """The text of a secret file, without white space around it.

    Raises:
        SecretUnset: with a message for the operator: the file can't be read.
        ValueError: likewise: it is not text.
    """
    try:
        return read_file(Path(path)).strip()
    except OSError as error:
        raise SecretUnset(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"cannot read {path}: not UTF-8") from None


class Source(BaseModel):
    """One ``[sources.NAME]`` of ``mailpulse.toml``: who may post to ``/hooks/NAME``.

    Secrets are resolved; all values of one are accepted (rotation, newest first).

    Attributes:
        unset: why its secrets can't be read, line by line. Such a source accepts nothing, and its
            provider is told to send again later.
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
    history: History | None = Field(None, description="for 'mailpulse backfill'")
    unset: tuple[str, ...] = ()

    @field_validator("public_key", "topic_arns", "allow_ips", "campaign_from", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("allow_ips")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for item in value:
            if item != "published":  # the provider's own list, see ``ingest.published``
                ipaddress.ip_network(item, strict=False)
        return value

    @property
    def sender(self) -> str:
        """The provider's name in events: that of a preset is without ``preset:``."""
        return self.provider.removeprefix(PRESET)

    def secrets(self, field: str) -> tuple[str, ...]:
        """The plain values of a secret field, newest first."""
        return tuple(item.get_secret_value() for item in getattr(self, field))


def resolve_secret(ref: str, environ: Mapping[str, str], read_file: ReadFile) -> str:
    """The secret that ``env:NAME`` or ``file:PATH`` refers to.

    Raises:
        SecretUnset: with a message for the operator: what it refers to is not there, or empty.
        ValueError: likewise: it is no reference. The message does not repeat what may be a secret
            given by mistake.
    """
    kind, _, rest = ref.partition(":")
    if kind == "env":
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", rest):
            raise ValueError('"env:" is followed by the name of an environment variable')
        if not environ.get(rest):
            raise SecretUnset(f"environment variable {rest} is not set")
        return environ[rest]
    if kind == "file":
        secret = read_secret_file(rest, read_file)
        if not secret:
            raise SecretUnset(f"{rest} is empty")
        return secret
    raise ValueError('a secret is "env:NAME" or "file:PATH", never the value itself')


def _resolve_source(
    name: str, raw: Mapping[str, Any], environ: Mapping[str, str], read_file: ReadFile
) -> tuple[Source | None, list[str]]:
    if "unset" in raw:
        return None, [f"sources.{name}.unset: no such field"]
    problems: list[str] = []
    unset: list[str] = []
    values: dict[str, Any] = {**raw, "name": name}
    for field in _KEYS:
        if field not in raw:
            continue
        refs = raw[field] if isinstance(raw[field], list) else [raw[field]]
        resolved = []
        for ref in refs:
            try:
                plain = field == _PUBLIC and not str(ref).startswith(("env:", "file:"))
                resolved.append(str(ref) if plain else resolve_secret(str(ref), environ, read_file))
            except SecretUnset as error:
                unset.append(f"sources.{name}.{field}: {error}")
            except ValueError as error:
                problems.append(f"sources.{name}.{field}: {error}")
        values[field] = tuple(resolved)
    values["unset"] = tuple(unset)
    try:
        return Source(**values), problems
    except ValidationError as error:
        return None, problems + unset + problem_lines(
            error, lambda field: f"sources.{name}.{field}"
        )


def document_of(text: str) -> dict[str, Any]:
    """A ``mailpulse.toml``, unchecked.

    Raises:
        ConfigError: the text is not TOML.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([f"mailpulse.toml: {error}"]) from None


def load_sources(
    text: str,
    environ: Mapping[str, str],
    read_file: ReadFile,
    *,
    whole: bool = True,
    keys: bool = True,
) -> dict[str, Source]:
    """The sources of a ``mailpulse.toml``.

    Args:
        whole: a secret that is not set is a problem; otherwise its source has it in ``unset``.
        keys: with what proves requests; without, for what takes none, no secret is read.

    Raises:
        ConfigError: with every problem found. Whether a source has what its provider needs is
            checked by ``ingest.providers``.
    """
    document = document_of(text)
    problems = [
        f"{key}: no such section in mailpulse.toml (known: {', '.join(SECTIONS)})"
        for key in document
        if key not in SECTIONS
    ]
    sources: dict[str, Source] = {}
    tables = document.get("sources", {})
    if not isinstance(tables, dict):
        raise ConfigError([*problems, "sources: a table of tables, as in [sources.news]"])
    for name, raw in tables.items():
        if not is_source_name(name) or not isinstance(raw, dict):
            problems.append(
                f"sources.{name}: a table named by letters, digits, '-' and '_', 64 at most"
            )
            continue
        told = raw if keys else {field: raw[field] for field in raw if field not in _KEYS}
        source, found = _resolve_source(name, told, environ, read_file)
        problems += found
        if source is not None:
            sources[name] = source
            problems += source.unset if whole else ()
    if problems:
        raise ConfigError(problems)
    return sources


def load_alerts(text: str) -> dict[str, Any]:
    """The section ``[alerts]`` of a ``mailpulse.toml``, unchecked.

    Raises:
        ConfigError: the text is not TOML, or ``alerts`` is not a table.
    """
    section = document_of(text).get("alerts", {})
    if not isinstance(section, dict):
        raise ConfigError(["alerts: a table is expected"])
    return section
