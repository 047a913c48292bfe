"""The tables of ``mailpulse.toml`` for destinations of kind ``suppress:PROVIDER``.

Invariants:
1. Pure. Every problem is reported with the name of its setting.
2. Nothing is written unless ``dry_run = false`` is said. A dry run has a consumer group of its own,
   so whoever ends it gets what it only counted.
3. A scope is written only to the place that ``scopes`` maps it to; one that stands for the whole
   account is refused: whoever leaves one list would get no mail at all.
"""

import re
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator

from schemas.sources import is_source_name
from streams.deliver.core import Limits
from streams.deliver.suppress.changes import Rules
from streams.deliver.suppress.exchange import Call
from streams.deliver.suppress.providers import PROVIDERS, Provider
from streams.deliver.suppress.sigv4 import Credentials, signed
from streams.deliver.tables import Table, host_problem

Reason = Literal["hard_bounce", "complaint", "unsubscribe", "manual"]
Region = Literal["us", "eu"]
_ID = re.compile(r"[A-Za-z0-9._-]{1,255}")
"""What may follow the kind of a place: names of domains, streams, lists and tenants, numbers."""
HEADER_SAFE = r"[\x21-\x7e]+"
Token = Annotated[str, Field(pattern=f"^{HEADER_SAFE}$", min_length=1, max_length=2_048)]


class Account(Table):
    """What the tables of all providers have. Secrets are resolved.

    Attributes:
        PROVIDER: name of the provider.
    """

    PROVIDER: ClassVar[str] = ""
    SECRETS: ClassVar[tuple[str, ...]] = ("key",)

    topics: tuple[Literal["suppressions"], ...] = Field(("suppressions",), min_length=1)
    url: str = Field("", description="of the API, other than usual: https://HOST without a path")
    begin: Literal["now", "earliest"] = "earliest"
    concurrency: int = Field(2, ge=1, le=64, description="batches at once, of each process")
    rate_per_s: float | None = Field(
        None, ge=0.01, le=1_000, description="calls a second, of each process"
    )
    timeout_s: float = Field(30.0, gt=0, le=300, description="longest wait for a whole answer")
    key: SecretStr = Field(description="the provider's API key: env:NAME or file:PATH")
    dry_run: bool = Field(True, description="only count what would be written")
    source: str = Field(
        "", description="the source in this file that reports of this very account: what it"
        " reports is not written back",
    )  # fmt: skip
    reasons: tuple[Reason, ...] = Field(
        ("hard_bounce", "complaint", "unsubscribe", "manual"), min_length=1,
        description="which are written",
    )  # fmt: skip
    lists: dict[Reason, tuple[str, ...]] = Field(
        default_factory=dict, description="reason -> the provider's list, other than usual"
    )
    scopes: dict[str, dict[str, str]] = Field(
        default_factory=dict, description="source -> scope -> place at the provider"
    )
    lifts: Literal["own", "all", "none"] = Field(
        "own", description="what is taken off when a suppression is lifted"
    )

    @property
    def base_url(self) -> str:
        """Of every call; without a slash at its end."""
        return self.url.rstrip("/") or self._usual_url()

    def _usual_url(self) -> str:
        raise NotImplementedError

    @property
    def authority(self) -> str:
        """Host, and port if the URL has one."""
        return urlsplit(self.base_url).netloc

    @property
    def host(self) -> str:
        """The host of its URL: what logs and lists may show."""
        return urlsplit(self.base_url).hostname or ""

    @property
    def dry_run_only(self) -> bool:
        """Whether nothing is written, only counted."""
        return self.dry_run

    @property
    def group_names(self) -> tuple[str, ...]:
        """That of dry runs, and that which writes (invariant 2)."""
        names = f"{self.name}.dry-run", self.name
        return names if self.dry_run else names[::-1]

    @property
    def together_max(self) -> int:
        """Records in one batch."""
        return self.provider.batch_max

    @property
    def calls_per_s(self) -> float:
        """Calls a second, of each process."""
        return self.rate_per_s or self.provider.calls_per_s

    @property
    def limits(self) -> Limits:
        """Of its state machine. What has a rate is calls, not batches."""
        return replace(super().limits, rate_per_s=None)

    @property
    def secrets(self) -> tuple[str, ...]:
        """Every secret that is set."""
        given = (getattr(self, field) for field in self.SECRETS)
        return tuple(one.get_secret_value() for one in given if one is not None)

    @property
    def hidden(self) -> tuple[str, ...]:
        """What no log or list may show: secrets, in every form in which they are sent."""
        return self.secrets

    @property
    def provider(self) -> Provider:
        """What its provider's API does."""
        return PROVIDERS[self.PROVIDER]

    @property
    def whole(self) -> tuple[str, ...]:
        """The places that a suppression of the whole address stands for."""
        return ("",)

    @property
    def may_remove(self) -> bool:
        """Whether entries are taken off that don't show that they were put there by its API."""
        return self.lifts == "all"

    @property
    def rules(self) -> Rules:
        """What it writes."""
        scopes = {
            (source, scope): place
            for source, mapped in self.scopes.items()
            for scope, place in mapped.items()
        }
        takes_off = self.lifts == "all" or (self.lifts == "own" and self.provider.shows_own)
        lists: dict[str, tuple[str, ...]] = {**self.provider.defaults}
        lists.update(self.lists.items())
        return Rules(
            lists, self.whole, scopes, self.reasons,
            self.source, lifts=takes_off, lifts_own=self.may_remove,
        )  # fmt: skip

    def headers(self, call: Call, now_s: float) -> dict[str, str]:
        """What authenticates a call made now, seconds since 1970."""
        raise NotImplementedError

    @field_validator("reasons", mode="before")
    @classmethod
    def _one_or_many_reasons(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("key", "key_id", "session_token", check_fields=False)
    @classmethod
    def _fits_a_header(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not re.fullmatch(HEADER_SAFE, value.get_secret_value()):
            raise ValueError("must be printable ASCII without spaces")
        return value

    @field_validator("source")
    @classmethod
    def _is_a_source(cls, value: str) -> str:
        if value and not is_source_name(value):
            raise ValueError("must be the name of a source in this file")
        return value

    @field_validator("url")
    @classmethod
    def _is_an_origin(cls, value: str) -> str:
        try:
            parts = urlsplit(value)
            good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            good = False
        if value and (not good or value.rstrip("/") != f"{parts.scheme}://{parts.netloc}"):
            raise ValueError("must be https://HOST, without a path")
        if value and (parts.username is not None or host_problem(parts.hostname or "")):
            raise ValueError("must have the name or address of a host, and nobody's name")
        return value

    def _own_problems(self) -> list[str]:
        if not self.url.startswith("http://") or self.allow_networks:
            return []
        return ["url may be http:// only to addresses that allow_networks names"]

    @field_validator("lists", mode="before")
    @classmethod
    def _one_or_many_lists(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {name: (one,) if isinstance(one, str) else one for name, one in value.items()}

    @field_validator("lists")
    @classmethod
    def _are_its_lists(cls, value: dict[Reason, tuple[str, ...]]) -> dict[Reason, tuple[str, ...]]:
        known = PROVIDERS[cls.PROVIDER].lists
        for names in value.values():
            if not set(names) <= set(known):
                raise ValueError(f"{cls.PROVIDER} has these lists: {', '.join(known)}")
        return value

    @field_validator("scopes")
    @classmethod
    def _are_places(cls, value: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
        kind = PROVIDERS[cls.PROVIDER].place
        for source, mapped in value.items():
            if not is_source_name(source):
                raise ValueError("must be tables named by sources, such as scopes.mailgun")
            for scope, place in mapped.items():
                given, _, one = place.partition(":")
                if given != kind or not _ID.fullmatch(one) or not cls._is_place_id(one):
                    raise ValueError(f"{source}, {scope}: must be a {kind}, as in {kind}:ID")
        return value

    @classmethod
    def _is_place_id(cls, text: str) -> bool:
        return not text.startswith(".") and ".." not in text


class SendGrid(Account):
    """``kind = "suppress:sendgrid"``. Not tried on a live account."""

    PROVIDER = "sendgrid"

    kind: Literal["suppress:sendgrid"]
    region: Region = "us"
    subuser: Token | None = Field(None, description="the account is that of this subuser")

    def _usual_url(self) -> str:
        return "https://api.eu.sendgrid.com" if self.region == "eu" else "https://api.sendgrid.com"

    @classmethod
    def _is_place_id(cls, text: str) -> bool:
        return text.isascii() and text.isdigit()

    def headers(self, call: Call, now_s: float) -> dict[str, str]:
        """A bearer token, and the subuser."""
        of = {} if self.subuser is None else {"on-behalf-of": self.subuser}
        return {"authorization": f"Bearer {self.key.get_secret_value()}", **of}


class Mailgun(Account):
    """``kind = "suppress:mailgun"``. Not tried on a live account."""

    PROVIDER = "mailgun"

    kind: Literal["suppress:mailgun"]
    region: Region = "us"
    domains: tuple[str, ...] = Field(min_length=1, description="those that mail is sent from")

    @field_validator("domains", mode="before")
    @classmethod
    def _one_or_many_domains(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("domains")
    @classmethod
    def _are_names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return _ids(value, "domains such as mg.example.com")

    def _usual_url(self) -> str:
        return "https://api.eu.mailgun.net" if self.region == "eu" else "https://api.mailgun.net"

    @property
    def whole(self) -> tuple[str, ...]:
        """Each of its domains."""
        return tuple(f"domain:{one}" for one in self.domains)

    def headers(self, call: Call, now_s: float) -> dict[str, str]:
        """Basic authentication as ``api``."""
        return {"authorization": f"Basic {self._basic}"}

    @property
    def hidden(self) -> tuple[str, ...]:
        """Also as Basic authentication has it."""
        return (*self.secrets, self._basic)

    @property
    def _basic(self) -> str:
        return b64encode(f"api:{self.key.get_secret_value()}".encode()).decode()


class Postmark(Account):
    """``kind = "suppress:postmark"``. Not tried on a live account."""

    PROVIDER = "postmark"

    kind: Literal["suppress:postmark"]
    streams: tuple[str, ...] = Field(
        min_length=1, description="message streams of the key's server; all reasons go to each"
    )

    @field_validator("streams", mode="before")
    @classmethod
    def _one_or_many_streams(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("streams")
    @classmethod
    def _are_names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return _ids(value, "ids of message streams such as broadcast")

    def _usual_url(self) -> str:
        return "https://api.postmarkapp.com"

    @property
    def whole(self) -> tuple[str, ...]:
        """Each of its streams."""
        return tuple(f"stream:{one}" for one in self.streams)

    def headers(self, call: Call, now_s: float) -> dict[str, str]:
        """The token of one server."""
        return {"x-postmark-server-token": self.key.get_secret_value(),
                "accept": "application/json"}  # fmt: skip


class SparkPost(Account):
    """``kind = "suppress:sparkpost"``, SparkPost or Bird Email. Not tried on a live account."""

    PROVIDER = "sparkpost"

    kind: Literal["suppress:sparkpost"]
    region: Region = "us"
    subaccount: int = Field(0, ge=0, description="0: the primary account")

    def _usual_url(self) -> str:
        eu = self.region == "eu"
        return "https://api.eu.sparkpost.com" if eu else "https://api.sparkpost.com"

    def headers(self, call: Call, now_s: float) -> dict[str, str]:
        """The key, and the subaccount; a search that names none would be of all of them."""
        named = self.subaccount or not call.writes
        of = {"x-msys-subaccount": str(self.subaccount)} if named else {}
        return {"authorization": self.key.get_secret_value(), **of}


class Ses(Account):
    """``kind = "suppress:ses"``, the API v2 of Amazon SES. Not tried on a live account.

    The key is the secret access key of an IAM user with ``ses:PutSuppressedDestination``,
    ``ses:DeleteSuppressedDestination``, ``ses:GetSuppressedDestination`` and
    ``ses:ListSuppressedDestinations``. Roles of machines are not looked up.
    """

    PROVIDER = "ses"
    SECRETS = ("key", "key_id", "session_token")

    kind: Literal["suppress:ses"]
    region: str = Field(pattern=r"^[a-z0-9-]{3,32}$", description="such as eu-north-1")
    key_id: SecretStr = Field(description="access key id: env:NAME or file:PATH")
    session_token: SecretStr | None = Field(None, description="of temporary credentials")
    tenant: str | None = Field(None, pattern=r"^[A-Za-z0-9._-]{1,64}$")

    def _usual_url(self) -> str:
        return f"https://email.{self.region}.amazonaws.com"

    @property
    def whole(self) -> tuple[str, ...]:
        """The account's list in this region, or that of the tenant."""
        return ("",) if self.tenant is None else (f"tenant:{self.tenant}",)

    def headers(self, call: Call, now_s: float) -> dict[str, str]:
        """A signature, version 4."""
        token = "" if self.session_token is None else self.session_token.get_secret_value()
        credentials = Credentials(
            self.key_id.get_secret_value(), self.key.get_secret_value(), token
        )
        return signed(credentials, call.method, self.authority, call.path, call.query, call.body,
                      self.region, "ses", now_s)  # fmt: skip


def _ids(value: tuple[str, ...], what: str) -> tuple[str, ...]:
    if not all(_ID.fullmatch(one) and ".." not in one and one[0] != "." for one in value):
        raise ValueError(f"must be {what}")
    if len(set(value)) < len(value):
        raise ValueError("must name each once")
    return value


ACCOUNTS: Mapping[str, type[Account]] = {
    f"suppress:{one.PROVIDER}": one for one in (SendGrid, Mailgun, Postmark, SparkPost, Ses)
}
"""``kind`` -> its table."""


def problems_with(recipients: str, accounts: Mapping[str, Any]) -> list[str]:
    """Why destinations of a pipeline can't write to providers' lists.

    Args:
        recipients: how the pipeline stores addresses (``MAILPULSE_RECIPIENTS``).
        accounts: destinations of any kind, by name.
    """
    if recipients == "plain":
        return []
    return [
        f"destinations.{name}: addresses are stored {recipients}, and a provider's list needs them"
        " plain"
        for name, one in accounts.items()
        if isinstance(one, Account)
    ]
