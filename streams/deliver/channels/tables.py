"""The tables of ``mailpulse.toml`` for channels that people read.

Invariants:
1. Pure. Every problem is reported with the name of its setting.
2. A secret is a reference. What goes into a header or an SMTP command has no control characters.
"""

import re
from string import Template
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, SecretStr, StringConstraints, field_validator

from schemas.codec import AvroRecord
from streams.deliver.channels.messages import is_told
from streams.deliver.tables import HttpTable, Table, Topic, host_problem

Level = Literal["watch", "warning", "critical"]
Address = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9.-]{1,253}$")
]
"""In ASCII and without quotes: what any mail server takes."""


class People(Table):
    """What the channels have in common."""

    topics: tuple[Topic, ...] = Field(("alerts",), min_length=1)
    concurrency: int = Field(1, ge=1, le=16, description="requests at once, of each process")
    level: Level = Field("watch", description="of incidents: those that reached this level")
    dashboard_url: str = Field(
        "", description="public address of the dashboard, for links; empty: messages have none"
    )
    troubles: bool = Field(
        True, description="also tell when another destination does not work for a minute"
    )

    @field_validator("dashboard_url")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        value = value.rstrip("/")
        if value and not re.fullmatch(r"https?://[A-Za-z0-9._:\[\]-]+(/[A-Za-z0-9._~/-]*)?", value):
            raise ValueError("must be https://HOST or https://HOST/PATH")
        return value

    def wants(self, topic: str, record: AvroRecord) -> bool:
        """Of incidents each change once, from ``level`` on."""
        return "incident_id" not in record or is_told(record, self.level)


class Templated(People):
    """A channel whose text can be made by a template."""

    template: str = Field(
        "", max_length=2_000,
        description="text instead of the usual one; $title, $text, $link, and fields of the record"
        " such as $campaign_id",
    )  # fmt: skip

    @field_validator("template")
    @classmethod
    def _is_a_template(cls, value: str) -> str:
        if not Template(value).is_valid():
            raise ValueError("must be a text with names such as $title or ${title}; $$ is a dollar")
        return value


class Slack(Templated, HttpTable):
    """``kind = "slack"``: an incoming webhook of Slack, or of what takes its format."""

    kind: Literal["slack"]
    url: SecretStr = Field(description="of the incoming webhook: env:NAME or file:PATH")
    rate_per_s: float | None = Field(1.0, ge=0.001, description="Slack takes one a second")


class PagerDuty(People, HttpTable):
    """``kind = "pagerduty"``: the Events API v2 of PagerDuty."""

    SECRETS: ClassVar[tuple[str, ...]] = ("url", "routing_key")

    kind: Literal["pagerduty"]
    url: SecretStr = SecretStr("https://events.pagerduty.com/v2/enqueue")
    routing_key: SecretStr = Field(description="integration key: env:NAME or file:PATH")
    topics: tuple[Literal["alerts"], ...] = Field(("alerts",), min_length=1)

    @field_validator("routing_key")
    @classmethod
    def _is_a_key(cls, value: SecretStr) -> SecretStr:
        if not re.fullmatch(r"[A-Za-z0-9]{32}", value.get_secret_value()):
            raise ValueError("must be the 32 letters and digits of an integration key")
        return value


class Email(Templated):
    """``kind = "email"``: by SMTP."""

    SECRETS: ClassVar[tuple[str, ...]] = ("password",)

    kind: Literal["email"]
    topics: tuple[Topic, ...] = Field(
        ("alerts",), description="[]: nothing of deliver, only what mailpulse report --send sends"
    )
    server: str = Field(description="the mail server that takes it: HOST")
    port: int | None = Field(None, ge=1, le=65_535, description="default: 587, with tls 465")
    encryption: Literal["starttls", "tls", "none"] = "starttls"
    username: str = Field("", max_length=320, pattern=r"^[^\x00-\x1f\x7f]*$")
    password: SecretStr | None = Field(None, description="env:NAME or file:PATH")
    sender: Address
    to: tuple[Address, ...] = Field(min_length=1, max_length=50)

    @field_validator("to", mode="before")
    @classmethod
    def _one_or_many_addresses(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("server")
    @classmethod
    def _is_a_host(cls, value: str) -> str:
        if problem := host_problem(value):
            raise ValueError(problem)
        return value

    def _own_problems(self) -> list[str]:
        problems = []
        if bool(self.username) != (self.password is not None):
            problems.append("username and password are set together")
        if self.encryption == "none" and not self.allow_networks:
            problems.append("encryption may be none only to addresses that allow_networks names")
        if self.encryption == "none" and self.username:
            problems.append("a password is not sent without encryption")
        return problems

    @property
    def host(self) -> str:
        """The mail server."""
        return self.server

    @property
    def port_used(self) -> int:
        """The port, its default included."""
        return self.port or (465 if self.encryption == "tls" else 587)
