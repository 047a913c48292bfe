"""Shared by all commands: settings, sources, output, and the exit codes of errors.

Invariants:
1. The environment is read only here.
2. Expected errors (invalid settings, an unavailable peer, bad input) give a message and a
   documented exit code, never a traceback.
3. If a pipeline started by ``up`` or ``demo`` runs on the data directory, commands talk to it,
   unless the environment names another Kafka or ClickHouse.
4. With ``--json``, stdout has one JSON document or JSON lines and nothing else; messages go to
   stderr.
"""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import SecretStr

from schemas.errors import BadInput, ConfigError, MailpulseError, Unavailable
from schemas.settings import PREFIX, Settings, Source, load_alerts, load_settings, load_sources
from streams.embedded.data_dir import Endpoints, recipients_mark, running, with_token
from streams.terminal.output import emit as emit
from streams.terminal.output import put as put
from streams.terminal.output import say as say
from streams.terminal.output import table as table
from streams.terminal.output import table_or_json as table_or_json

if TYPE_CHECKING:
    from schemas.codec import Codec
    from streams.campaigns.lines import Lines
    from streams.deliver.destinations import AnyDestination

OK, FAILED, USAGE, CONFIG, UNAVAILABLE = 0, 1, 2, 3, 4
EXIT_CODES = (
    "Exit codes: 0 ok · 1 a check failed · 2 wrong usage · 3 invalid settings · "
    "4 Kafka, ClickHouse or another peer is unavailable."
)
READABLE = 0o644
"""Mode of ``mailpulse.toml``, whatever the umask: it holds no secret, and the containers that
``docker-compose.yml`` gives it to run under users of their own."""

Json = Annotated[bool, typer.Option("--json", help="Output JSON instead of text.")]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="mailpulse.toml. Default: in this directory.")
]


def read_file(path: Path) -> str:
    """A file's text."""
    return path.read_text(encoding="utf-8")


def read_text(path: Path) -> str:
    """The text of a file that was named on the command line.

    Raises:
        BadInput: ``not_readable``: it can't be read, or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise BadInput("not_readable", f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BadInput("not_readable", f"{path}: not UTF-8") from None


def config_text(path: Path) -> str | None:
    """The text of ``mailpulse.toml``; ``None`` where there is no such file.

    Raises:
        ConfigError: it can't be read, or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")  # editors of Windows begin files with a mark
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError([f"{path}: {error.strerror}"]) from None
    except UnicodeDecodeError:
        raise ConfigError([f"{path}: not UTF-8; save it in that encoding"]) from None


def environ() -> dict[str, str]:
    """The environment of this process."""
    return dict(os.environ)


def now() -> float:
    """Seconds since 1970."""
    return time.time()


def settings_of(*, attach: bool = True, **overrides: Any) -> Settings:
    """Settings from the environment, command-line flags and a running pipeline (invariant 3).

    Args:
        attach: look for a running pipeline; not for roles, which are told their peers' addresses.

    Raises:
        ConfigError: with every problem.
    """
    given = environ()
    settings = load_settings(given, read_file, **overrides)
    if not attach:
        return settings
    return attached(settings, given, running(settings.data_dir))


def attached(settings: Settings, given: Mapping[str, str], found: Endpoints | None) -> Settings:
    """``settings`` with the addresses of ``found``, except those that the environment sets."""
    if found is None:
        return settings
    update: dict[str, Any] = {}
    if f"{PREFIX}KAFKA_BOOTSTRAP" not in given:
        update |= {
            "kafka_bootstrap": found.kafka_bootstrap,
            "partitions": found.partitions,
            "log_id": found.log_id or settings.log_id,
        }
    names = (f"{PREFIX}CLICKHOUSE_DSN", f"{PREFIX}CLICKHOUSE_DSN_FILE")
    if not any(name in given for name in names):
        dsn = with_token(found.clickhouse_dsn, settings.door_token.get_secret_value())
        update["clickhouse_dsn"] = SecretStr(dsn)
    return settings.model_copy(update=update)


def stores_as_ingress(settings: Settings) -> None:
    """For commands that write events beside a running ingress.

    Raises:
        ConfigError: the pipeline that runs here stores recipients in another way. Addresses that it
            hashes would be stored plain; and one event would have two ids, and be counted twice.
    """
    found = running(settings.data_dir)
    if found is None or found.kafka_bootstrap != settings.kafka_bootstrap:
        return
    if found.recipients and found.recipients != recipients_mark(settings):
        mode = found.recipients.partition(" ")[0]
        names = f"{PREFIX}RECIPIENTS, {PREFIX}RECIPIENT_HASH_KEY"
        raise ConfigError(
            [f"{names}: the pipeline that runs here has another mode ({mode}) or another key: set"
             " both for this command too"]
        )  # fmt: skip


def sources_of(
    settings: Settings, *, whole: bool = True, keys: bool = True, all_off: bool = False
) -> dict[str, Source]:
    """The sources of ``mailpulse.toml``, each checked by its provider.

    Args:
        whole: a secret that is not set is an error; otherwise its source alone is off.
        keys: with what proves requests; without, no secret is read and none is missed.
        all_off: that all sources are off is no error.

    Raises:
        ConfigError: no such file, or with every problem found in it; or all sources are off.
    """
    from ingest.providers import check_sources

    text = config_text(settings.config_path)
    if text is None:
        reason = f"{settings.config_path}: No such file or directory"
        raise ConfigError([f"{reason}; 'mailpulse config init' writes a commented one"])
    sources = load_sources(text, environ(), read_file, whole=whole, keys=keys)
    problems = check_sources(sources) if keys else []
    if not (problems or all_off) and sources and all(one.unset for one in sources.values()):
        problems = [line for source in sources.values() for line in source.unset]
    if problems:
        raise ConfigError(problems)
    return sources


def destinations_of(settings: Settings) -> "dict[str, AnyDestination]":
    """The destinations of ``mailpulse.toml``; none without such a file.

    Raises:
        ConfigError: with every problem found in its section ``[destinations]``.
    """
    from streams.deliver.destinations import load_destinations

    text = config_text(settings.config_path)
    return {} if text is None else load_destinations(text, environ(), read_file)


def lines_of(settings: Settings) -> "Lines":
    """The alert lines of ``mailpulse.toml``; the defaults without such a file.

    Raises:
        ConfigError: with every problem found in its section ``[alerts]``.
    """
    from streams.campaigns.lines import Lines

    text = config_text(settings.config_path)
    return Lines() if text is None else Lines.load(load_alerts(text))


def codec_of(settings: Settings) -> "Codec":
    """A codec with the schema ids of the registry, if one is configured, or the fixed ids.

    Raises:
        Unavailable: the registry does not answer.
        ConfigError: it rejects a schema.
    """
    from schemas.codec import Codec

    url = settings.schema_registry_url.get_secret_value()
    if not url:
        return Codec()
    from streams.kafka.registry import register_all

    return Codec(register_all(url))


def role_codec(settings: Settings) -> "Codec":
    """As ``codec_of``, for a role: it starts while the registry is away, if it knows its ids.

    Raises:
        Unavailable: the registry does not answer, and no ids of it are kept.
        ConfigError: it rejects a schema.
    """
    url = settings.schema_registry_url.get_secret_value()
    if not url:
        return codec_of(settings)
    from schemas.codec import Codec
    from streams.kafka.kept_ids import registered_or_kept

    return Codec(registered_or_kept(url, settings.data_dir))


def source_named(settings: Settings, name: str) -> Source:
    """One source of ``mailpulse.toml``.

    Raises:
        ConfigError: the file has problems, no such source, or its secrets are not set.
    """
    sources = sources_of(settings, whole=False)
    if name not in sources:
        known = ", ".join(sorted(sources)) or "none"
        raise ConfigError([f"sources.{name}: no such source in {settings.config_path} ({known})"])
    if sources[name].unset:
        raise ConfigError(list(sources[name].unset))
    return sources[name]


# --- errors ---------------------------------------------------------------------------------------


def exit_code(error: MailpulseError) -> int:
    """The documented exit code of an expected error."""
    if isinstance(error, ConfigError):
        return CONFIG
    if isinstance(error, Unavailable):
        return UNAVAILABLE
    return FAILED


def explain(error: MailpulseError) -> list[str]:
    """An expected error in words, one line per problem."""
    if isinstance(error, ConfigError):
        return [f"settings: {line}" for line in error.problems]
    if isinstance(error, BadInput):
        return [f"{error.reason}: {error.detail}" if error.detail else error.reason]
    return str(error).splitlines()
