"""What a provider module is: a table of event names, ``verify``, ``parse``, and a few facts.

Invariants:
1. Pure: ``now`` and ``received_at`` are arguments; nothing here opens a socket or reads a clock.
2. ``verify`` sees the raw bytes, compares in constant time, and says nothing about what was wrong
   beyond a code for the log. Nothing is parsed before it is verified, except where the signature
   lies inside the body.
3. ``parse`` raises nothing but ``BadInput``; one bad item of a batch becomes a reject and its
   neighbours go through: ``len(events) + len(rejects)`` is the number of items (an item that
   names several recipients may give several events).
4. Unknown native events become ``unknown`` with their native name kept; nothing is dropped.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import ClassVar, Protocol

from ingest.columns import Columns
from ingest.verify import NeedsCertificate, SignatureError
from schemas.errors import BadInput
from schemas.event import Event
from schemas.settings import Source


@dataclass(frozen=True, slots=True)
class Request:
    """A webhook call as it came in.

    Attributes:
        method: upper case.
        query: raw query string, without the question mark.
        headers: names in lower case, in order, repeats kept.
        body: raw bytes after content decoding (gzip and the like), else untouched.
        client_ip: caller's address, by the trusted-proxy rules.
    """

    method: str
    query: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    client_ip: str

    def header(self, name: str) -> str | None:
        """The header's value; ``None`` when absent or given more than once (ambiguous)."""
        values = [value for key, value in self.headers if key == name]
        return values[0] if len(values) == 1 else None


@dataclass(frozen=True, slots=True)
class Reject:
    """An item of a verified request that cannot be made an event; goes to the dead letters.

    Attributes:
        reason: stable code.
        detail: for a person.
        content: the item's bytes, or the whole body.
    """

    reason: str
    detail: str
    content: bytes


@dataclass(frozen=True, slots=True)
class ConfirmSubscription:
    """An effect for the shell: GET ``url`` once (host already checked) to confirm it."""

    url: str


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a verified request holds.

    ``batch_index`` of an event is its item's position in the request.
    """

    events: list[Event] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    confirm: ConfirmSubscription | None = None
    note: str = ""
    """What a non-event call was, such as ``subscription_confirmation`` or ``ping``; for the log."""
    answer: bytes = b""
    """JSON body of the 200, where the provider looks at it (Firehose); else anything will do."""
    alike: list[Columns] = field(default_factory=list)
    """Further events, column by column; only ``Provider.parse_alike`` gives any."""

    @property
    def count(self) -> int:
        """Events and rejects."""
        return len(self.events) + len(self.rejects) + sum(map(len, self.alike))

    def one_by_one(self) -> "Parsed":
        """The same with all events in ``events``, in their order in the request."""
        if not self.alike:
            return self
        events = [*self.events, *[event for columns in self.alike for event in columns.events()]]
        events.sort(key=itemgetter("batch_index"))
        return replace(self, events=events, alike=[])


Certificates = Mapping[str, bytes]
"""URL -> PEM certificate, as far as fetched."""


class Provider(Protocol):
    """A provider module's object. One instance per provider, stateless."""

    name: ClassVar[str]
    """Value of ``provider`` in mailpulse.toml."""
    title: ClassVar[str]
    """Name for people."""
    overload_status: ClassVar[int]
    """Answer that makes this provider try again later: 503, or 429 where 5xx discards."""
    methods: ClassVar[tuple[str, ...]]
    """HTTP methods of calls that carry events; others are set-up calls, for ``probe``."""
    tolerance_s: ClassVar[int]
    """Greatest age of a signed time in seconds, wide enough for the provider's retries; 0: none
    is signed, or none is checked. ``Source.tolerance_s`` wins."""
    events: ClassVar[Mapping[str, str]]
    """Native event name -> normalised event type."""
    id_recipe: ClassVar[str]
    """For the conformance table, like the next six: what ``event_id`` is made of."""
    verification: ClassVar[str]
    """How a request is proven."""
    signs: ClassVar[str]
    """What of the body the proof covers: ``raw body``; ``fields``, all that are read;
    ``token only``, not the event; or ``nothing``."""
    reads_body: ClassVar[bool]
    """Whether the proof may lie in the body, see ``proof_in_body``."""
    batch: ClassVar[str]
    """How many events a request may hold."""
    other_calls: ClassVar[str]
    """Calls that carry no events, and what becomes of them."""
    bounces: ClassVar[str]
    """Where bounce class and reason come from."""
    machine: ClassVar[str]
    """The provider's flag for opens and clicks by machines."""

    def proof_in_body(self, request: Request) -> bool:
        """Whether ``verify`` reads into the body of this request, since its proof lies there: only
        then is the body decoded, and its shape looked at, before the proof. Else who proves nothing
        costs no more than the proof."""

    @property
    def required(self) -> tuple[str, ...]:
        """Fields of ``Source`` that verification needs; ``a|b`` means either."""

    def verify(
        self, request: Request, source: Source, now: float, certificates: Certificates
    ) -> None:
        """Proves that the provider sent the request.

        Args:
            now: seconds since 1970, ingress's clock.

        Raises:
            SignatureError: not proven.
            NeedsCertificate: a certificate must be fetched first.
        """

    def verify_content(self, request: Request, source: Source) -> None:
        """What of the proof needs the body read, though a signature covers it from outside.

        Called after ``verify`` and a look at the body's shape.

        Raises:
            SignatureError: not proven after all.
        """

    def by_anyone(self, request: Request) -> bool:
        """Whether a verified request is one that anybody can make: a test call, signed with a key
        that the provider has published. It counts as one that proves nothing."""

    def parse(self, request: Request, source: Source, received_at: int) -> Parsed:
        """The events of a verified request, in their order.

        Args:
            received_at: microseconds since 1970.

        Raises:
            BadInput: the body as a whole can't be read; it goes to the dead letters whole.
        """

    def parse_alike(self, request: Request, source: Source, received_at: int) -> Parsed:
        """As ``parse``, with events that are alike by column where the provider can give them.

        Raises:
            BadInput: as ``parse`` does.
        """

    def probe(self, request: Request, source: Source) -> int | None:
        """Status for a set-up call without events (HEAD, GET); ``None`` if it is not one."""

    def sample(
        self, source: Source, now: float, number: int, signing_key: str | None = None
    ) -> Request:
        """A correctly signed request with one event, as this provider would send it.

        For ``mailpulse send-test``, the simulator and tests.

        Args:
            now: seconds since 1970; time of the event and of the signature.
            number: makes the event distinct; everything else is fixed.
            signing_key: private key (PEM) where the source only holds the public half.

        Raises:
            BadInput: ``needs_private_key`` without it, ``not_configured`` without a secret.
        """

    def check(self, source: Source) -> list[str]:
        """Problems of the source's configuration (key does not parse …), one line each."""


class BaseProvider:
    """What most providers have in common; a provider is a subclass with its own tables.

    Not in the Protocol's way: callers only know ``Provider``.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    required: ClassVar[tuple[str, ...]] = ()
    overload_status: ClassVar[int] = 503
    methods: ClassVar[tuple[str, ...]] = ("POST",)
    tolerance_s: ClassVar[int] = 0
    events: ClassVar[Mapping[str, str]]
    id_recipe: ClassVar[str]
    verification: ClassVar[str]
    signs: ClassVar[str] = "raw body"
    reads_body: ClassVar[bool] = False
    batch: ClassVar[str] = "one"
    other_calls: ClassVar[str] = "none known"
    bounces: ClassVar[str] = "none"
    machine: ClassVar[str] = "none"

    def tolerance(self, source: Source) -> int:
        """Greatest age of a signed time in seconds, for this source."""
        return self.tolerance_s if source.tolerance_s is None else source.tolerance_s

    def proof_in_body(self, request: Request) -> bool:
        """See ``Provider.proof_in_body``."""
        return self.reads_body

    def verify_content(self, request: Request, source: Source) -> None:
        """See ``Provider.verify_content``: nothing does, unless a provider says otherwise."""

    def by_anyone(self, request: Request) -> bool:
        """See ``Provider.by_anyone``: none are, unless a provider says otherwise."""
        return False

    def parse(self, request: Request, source: Source, received_at: int) -> Parsed:
        """See ``Provider.parse``."""
        raise NotImplementedError

    def parse_alike(self, request: Request, source: Source, received_at: int) -> Parsed:
        """See ``Provider.parse_alike``: none are, unless a provider says otherwise."""
        return self.parse(request, source, received_at)

    def probe(self, request: Request, source: Source) -> int | None:
        """See ``Provider.probe``: no set-up calls, unless a provider says otherwise."""
        return None

    def check(self, source: Source) -> list[str]:
        """See ``Provider.check``: the fields that are required, and the campaign precedence."""
        problems = [
            f"sources.{source.name}: {self.name} needs {' or '.join(wanted.split('|'))}"
            for wanted in self.required
            if not any(given_values(source, one) for one in wanted.split("|"))
        ]
        problems += [
            f"sources.{source.name}.campaign_from: {entry!r} is none of metadata.KEY, tag, tag.N, "
            "provider, header.NAME"
            for entry in source.campaign_from
            if not CAMPAIGN_ENTRY.fullmatch(entry)
        ]
        return problems


CAMPAIGN_ENTRY = re.compile(r"(?:metadata|header)\..+|tag(?:\.[0-9]{1,2})?|provider")
"""What may stand in ``Source.campaign_from``."""


def given_values(source: Source, name: str) -> tuple[str, ...]:
    """The configured plain values of a field of ``Source``, empty ones left out."""
    value = getattr(source, name)
    values = (value,) if isinstance(value, str) else value
    plain = (one if isinstance(one, str) else one.get_secret_value() for one in values)
    return tuple(one for one in plain if one)


def newest(source: Source, name: str) -> str:
    """The value that a sample is signed with: the first one configured.

    Raises:
        BadInput: ``not_configured``.
    """
    values = given_values(source, name)
    if not values:
        raise BadInput("not_configured", f"source has no {name}")
    return values[0]


def private_key(signing_key: str | None) -> str:
    """The private key of a sample.

    Raises:
        BadInput: ``needs_private_key``.
    """
    if signing_key is None:
        raise BadInput("needs_private_key", "the source holds only the public key")
    return signing_key


def post(body: bytes, *headers: tuple[str, str], query: str = "") -> Request:
    """A POST as the ingress sees it, for samples: header names in lower case."""
    return Request("POST", query, headers, body, "127.0.0.1")


Registry = Mapping[str, Provider]
Parse = Callable[[Request, Source, int], Parsed]

__all__ = [
    "BadInput", "BaseProvider", "Certificates", "ConfirmSubscription", "NeedsCertificate", "Parse",
    "Parsed", "Provider", "Registry", "Reject", "Request", "SignatureError", "given_values",
    "newest", "post", "private_key",
]  # fmt: skip
