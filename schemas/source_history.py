"""``[sources.NAME.history]`` of ``mailpulse.toml``: how a provider's own history is read.

Invariants:
1. The table holds a reference to the API's key, which only the command that needs it resolves:
   ingress reads the same file, and neither has nor needs the key.
2. A key is sent by HTTPS only; plain HTTP is for an address of this machine.
"""

from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator

_THIS_MACHINE = frozenset(("localhost", "127.0.0.1", "::1"))


class History(BaseModel):
    """Access to a provider's history. Which fields a provider reads: ``ingest/README.md``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    api_key: str = Field(description="reference to the secret, as env:NAME or file:PATH")
    region: Literal["us", "eu"] = "us"
    url: str = Field("", description="origin of the API; default: the provider's, by region")
    domains: tuple[str, ...] = Field((), description="sending domains; default: all of the account")
    subaccounts: tuple[str, ...] = Field((), description="default: all of the account")
    webhook_id: str = ""
    events: tuple[str, ...] = Field(
        (), description="native event names to take; default: those that the source knows"
    )

    @field_validator("domains", "subaccounts", "events", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("api_key")
    @classmethod
    def _reference(cls, value: str) -> str:
        if not value.startswith(("env:", "file:")):
            raise ValueError('a secret is "env:NAME" or "file:PATH", never the value itself')
        return value

    @field_validator("url")
    @classmethod
    def _origin(cls, value: str) -> str:
        if not value:
            return value
        parts = urlsplit(value)
        named = f"{parts.scheme}://{parts.netloc}"
        if value.rstrip("/") != named or not parts.hostname or "@" in parts.netloc:
            raise ValueError("a scheme and a host, as in https://api.example.com")
        safe = parts.scheme == "https" or (
            parts.scheme == "http" and parts.hostname in _THIS_MACHINE
        )
        if not safe:
            raise ValueError("https, or else the key would be sent in the clear")
        return named
