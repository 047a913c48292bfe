"""Canary secrets in every place appear in no output, error, shown value or log line.

``tests/live/test_leaks.py`` checks running roles.
"""

import io
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import structlog
from pydantic import SecretStr

from ingest.providers import REGISTRY
from schemas.errors import ConfigError
from schemas.settings import PREFIX, Settings, load_settings
from schemas.sources import _SECRET_FIELDS
from streams.cli import logs
from streams.simulation.accounts import open_accounts
from tests.ingest.keys import example

CANARY = "canary4f1e9"
"""Part of every planted secret."""
SECRET_SETTINGS = {
    name: field
    for name, field in Settings.model_fields.items()
    if field.annotation is not None and "SecretStr" in str(field.annotation)
}
PLANTED = {
    "kafka_sasl_password": f"{CANARY}-sasl",
    "schema_registry_url": f"http://user:{CANARY}-registry@127.0.0.1:1/apis",
    "rate_limit_url": f"redis://:{CANARY}-redis@127.0.0.1:1/0",
    "recipient_hash_key": f"{CANARY}-hash",
    "dashboard_token": f"{CANARY}-dashboard-token",
    "dashboard_deliver_token": f"{CANARY}-dashboard-deliver-token",
    "door_token": f"{CANARY}-door-token",
    "maven_url": f"http://user:{CANARY}-maven@127.0.0.1:1/maven2",
    "clickhouse_dsn": f"http://user:{CANARY}-clickhouse@127.0.0.1:1/mailpulse",
}
COMMANDS = (
    ["config", "show"], ["config", "show", "--json"], ["doctor"], ["doctor", "--json"], ["lag"],
    ["topics", "apply"], ["migrate"], ["query", "SELECT 1"], ["sources"], ["worker"], ["dlq", "ls"],
)  # fmt: skip


def environment(folder: Path, **more: str) -> dict[str, str]:
    """An environment in which everything that may contain a secret contains a canary."""
    accounts = open_accounts()
    toml = folder / "mailpulse.toml"
    toml.write_text(accounts.toml, encoding="utf-8")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    return {
        **kept,
        **{name: f"{CANARY}-{number}" for number, name in enumerate(accounts.environ)},
        **{PREFIX + name.upper(): value for name, value in PLANTED.items()},
        f"{PREFIX}CONFIG_FILE": str(toml),
        f"{PREFIX}KAFKA_BOOTSTRAP": "127.0.0.1:1",
        f"{PREFIX}KAFKA_REQUEST_TIMEOUT_MS": "1000",
        f"{PREFIX}DATA_DIR": str(folder / "data"),
        f"{PREFIX}LOG_LEVEL": "DEBUG",
        **more,
    }


def test_every_secret_setting_is_planted() -> None:
    """A new secret setting must be added to these tests."""
    assert set(PLANTED) == set(SECRET_SETTINGS)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_command_tells_no_secret(words: list[str], tmp_path: Path) -> None:
    """Whether it works or fails, at log level DEBUG: neither output nor traceback has a canary."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "streams.cli", *words],
        env=environment(tmp_path), cwd=tmp_path, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert said.strip()
    assert CANARY not in said
    assert "Traceback" not in said


@pytest.mark.parametrize("name", [name for name in Settings.model_fields if name != "config_file"])
def test_a_setting_that_holds_a_secret_by_mistake_is_not_repeated(name: str) -> None:
    """A password in the wrong setting: the message names only the setting."""
    said = ""
    try:
        settings = load_settings({PREFIX + name.upper(): CANARY * 2}, lambda path: "")
    except ConfigError as error:
        said = str(error)
    if said:
        assert PREFIX + name.upper() in said
    elif name in SECRET_SETTINGS:
        said = repr(settings) + str(settings.model_dump())
    assert CANARY not in said


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_a_source_shows_no_secret(name: str) -> None:
    """A source's representation, and the reason of a refusal, contain none of its secrets."""
    one = example(name)
    secrets = {
        value
        for field in _SECRET_FIELDS
        for value in (getattr(one.source, field, None) or ())
        if isinstance(value, str)
    } | {
        value.get_secret_value()
        for field in _SECRET_FIELDS
        for value in (getattr(one.source, field, None) or ())
        if isinstance(value, SecretStr)
    }
    shown = repr(one.source) + str(one.source)
    assert not [secret for secret in secrets if secret in shown]


def test_log_lines_hide_what_looks_like_a_secret() -> None:
    """By name, in a URL, nested, in a library's message, in a traceback."""
    out = io.StringIO()
    before = logging.getLogger().handlers[:], logging.getLogger().level
    try:
        logs.configure(Settings(log_format="json", log_level="DEBUG"), "test", out)
        log = structlog.get_logger("canary")
        log.info("named", password=CANARY, api_key=CANARY, hash_key=CANARY)
        log.info("url", where=f"redis://:{CANARY}@host/0 and http://u:{CANARY}@host/")
        log.info(
            "nested", given={"headers": {"authorization": CANARY}, "list": [{"token": CANARY}]}
        )
        logging.getLogger("library").warning("connecting to %s", f"kafka://u:{CANARY}@host")
        try:
            raise ValueError(f"http://u:{CANARY}@host refused")
        except ValueError:
            log.exception("failed")
        log.info("recipient", text="mail to ada.lovelace@example.com")
    finally:
        logging.getLogger().handlers[:], level = before
        logging.getLogger().setLevel(level)
    said = out.getvalue()
    assert said.count("\n") == 6
    assert CANARY not in said
    assert "ada.lovelace" not in said
