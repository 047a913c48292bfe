"""``docker-compose.yml`` as tests read it: values, settings, and name resolution."""

import re
from pathlib import Path
from typing import Any

import typer
import yaml

from schemas.settings import PREFIX, Settings, load_settings
from streams.cli.main import app

ROOT = Path(__file__).parents[1]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: one for name, one in SERVICES.items() if one["image"].startswith("mailpulse:")}
_DEFAULT = re.compile(r"\$\{\w+:-([^}]*)\}")


def resolved(text: Any) -> str:
    """A value with compose's ``${NAME:-default}`` replaced by the defaults."""
    return _DEFAULT.sub(r"\1", str(text))


def subnet(network: str) -> str:
    """The subnet of a network that fixes it."""
    [pool] = COMPOSE["networks"][network]["ipam"]["config"]
    return resolved(pool["subnet"])


def shared_networks(asker: str, name: str) -> list[str]:
    """The networks in which one service finds another; Docker answers with the first.

    Docker's resolver tries networks with external access before internal ones, then by name
    (libnetwork, ``Endpoint.Less``).
    """
    both = set(SERVICES[asker]["networks"]) & set(SERVICES[name]["networks"])
    return sorted(
        both, key=lambda one: (bool(COMPOSE["networks"][one].get("internal", False)), one)
    )


def load(environment: dict[str, Any]) -> Settings:
    """The settings from a container's environment; secret files have any text."""
    return load_settings(
        {name: resolved(value) for name, value in environment.items() if name.startswith(PREFIX)},
        lambda path: "http://user:password@clickhouse:8123/mailpulse",
    )


def is_command(words: list[str]) -> bool:
    """Whether ``mailpulse`` has such a command."""
    command: Any = typer.main.get_command(app)
    for word in words:
        command = getattr(command, "commands", {}).get(word)
    return command is not None
