"""What the tables of all kinds of destinations have that mailpulse's records go to.

Invariants:
1. Pure. Every problem is reported with the name of its setting.
2. A filter that one of the topics can't be filtered by is a problem, not ignored: what a
   destination gets is what its table says.
"""

import ipaddress
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from schemas import topics
from schemas.codec import AvroRecord
from schemas.event import EventType
from streams.deliver.addresses import Network
from streams.deliver.core import Limits

TOPICS: Mapping[str, tuple[str, ...]] = {
    "engagement": (topics.ENGAGEMENT,),
    "suppressions": (topics.SUPPRESSIONS, topics.SCOPED_SUPPRESSIONS),
    "alerts": (topics.ALERTS, topics.SOURCE_ALERTS),
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
HOST_CHARS_MAX = 253
_NAME = re.compile(r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?")
Topic = Literal["engagement", "suppressions", "alerts", "rates", "events"]


class Table(BaseModel):
    """One ``[destinations.NAME]`` of any kind. Secrets are resolved.

    Attributes:
        SECRETS: fields that are references, or may be.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    SECRETS: ClassVar[tuple[str, ...]] = ()

    name: str
    kind: str
    topics: tuple[Topic, ...] = Field(min_length=1)
    campaigns: tuple[str, ...] = Field((), description="patterns of campaign ids; * is any text")
    events: tuple[EventType, ...] = Field((), description="of engagement: opened, clicked")
    sources: tuple[str, ...] = ()
    mailbox_providers: tuple[str, ...] = ()
    begin: Literal["now", "earliest"] = Field(
        "now", description="where a new destination begins to read its topics"
    )
    ca_file: Path | None = Field(None, description="PEM; default: the system's authorities")
    allow_networks: tuple[str, ...] = Field(
        (), description="addresses or networks that are not public and may be sent to all the same"
    )
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

    @model_validator(mode="after")
    def _fits_together(self) -> "Table":
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
        problems += self._own_problems()
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _own_problems(self) -> list[str]:
        """What a kind's own fields have against each other."""
        return []

    def wants(self, topic: str, record: AvroRecord) -> bool:
        """Whether the kind has any use for a record that its filters let pass."""
        return True

    def filters(self) -> frozenset[str]:
        """Names of the filters that are set."""
        names = ("campaigns", "events", "sources", "mailbox_providers")
        return frozenset(name for name in names if getattr(self, name))

    @property
    def host(self) -> str:
        """Where to: what logs and lists may show."""
        raise NotImplementedError

    @property
    def dry_run_only(self) -> bool:
        """Whether nothing is sent, only counted."""
        return False

    @property
    def group_names(self) -> tuple[str, ...]:
        """What its consumer groups may be named by; the first is the one in use."""
        return (self.name,)

    @property
    def networks(self) -> tuple[Network, ...]:
        """``allow_networks``, parsed."""
        return tuple(ipaddress.ip_network(item, strict=False) for item in self.allow_networks)

    @property
    def topic_names(self) -> tuple[str, ...]:
        """The topics that it reads."""
        return tuple(dict.fromkeys(name for topic in self.topics for name in TOPICS[topic]))

    @property
    def together_max(self) -> int:
        """Records in one request."""
        return 1

    @property
    def limits(self) -> Limits:
        """Of its state machine."""
        return Limits(
            concurrency=self.concurrency, batch_max=self.together_max,
            rate_per_s=self.rate_per_s, tries_max=self.tries,
            give_up_s=self.give_up_hours * 3600.0,
        )  # fmt: skip


class HttpTable(Table):
    """A destination that is reached by a URL."""

    SECRETS: ClassVar[tuple[str, ...]] = ("url",)

    url: SecretStr = Field(description="https://…; may be a reference, as it may be a secret")

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
        if problem := host_problem(parts.hostname or ""):
            raise ValueError(problem)
        return value

    def _own_problems(self) -> list[str]:
        if self.is_tls or self.allow_networks:
            return []
        return ["url may be http:// only to addresses that allow_networks names"]

    @property
    def is_tls(self) -> bool:
        """Whether its connections are encrypted."""
        return urlsplit(self.url.get_secret_value()).scheme == "https"

    @property
    def host(self) -> str:
        """The host of its URL: what logs and lists may show."""
        return urlsplit(self.url.get_secret_value()).hostname or ""


def host_problem(host: str) -> str | None:
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
