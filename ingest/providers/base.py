"""What a provider module defines: a table of event names, ``verify``, ``parse``, and a few facts.

Invariants:
1. Pure: ``now`` and ``received_at`` are arguments; nothing here opens a socket or reads a clock.
2. ``verify`` gets the raw bytes, compares in constant time, and reports a failure only as a code
   for the log. Nothing is parsed before it is verified, except where the signature lies inside the
   body.
3. ``parse`` raises nothing but ``BadInput``; one bad item of a batch becomes a reject and its
   neighbours go through: ``len(events) + len(rejects)`` is the number of items (an item that
   names several recipients may give several events).
4. Unknown native events become ``unknown`` with their native name kept; nothing is dropped.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import ClassVar
from urllib.parse import quote, unquote_plus

import orjson

from ingest.columns import Columns
from schemas.errors import BadInput
from schemas.event import Event
from schemas.settings import Source


@dataclass(frozen=True, slots=True)
class Request:
    """A webhook call as received.

    Attributes:
        method: upper case.
        query: raw query string, without the question mark.
        headers: names in lower case, in order, repeats kept.
        body: raw bytes after content decoding (gzip and the like), otherwise unchanged.
        client_ip: caller's address, by the trusted-proxy rules.
        path: what follows ``/hooks/SOURCE/``; only for providers that read it (``reads_path``).
    """

    method: str
    query: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    client_ip: str
    path: str = ""

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
    """Asks the shell to GET ``url`` once (host already checked), which confirms a subscription."""

    url: str


@dataclass(frozen=True, slots=True)
class Parsed:
    """The content of a verified request.

    ``batch_index`` of an event is its item's position in the request.
    """

    events: list[Event] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    confirm: ConfirmSubscription | None = None
    note: str = ""
    """Kind of a call without events, such as ``validation`` or ``ping``; for the log."""
    answer: bytes = b""
    """JSON body of the 200, where the provider reads it (Firehose); empty: a default one."""
    alike: list[Columns] = field(default_factory=list)
    """Further events, column by column; only ``Provider.parse_alike`` gives any."""

    @property
    def count(self) -> int:
        """Events and rejects."""
        return len(self.events) + len(self.rejects) + sum(map(len, self.alike))

    def one_by_one(self) -> "Parsed":
        """A copy with all events in ``events``, in the request's order."""
        if not self.alike:
            return self
        events = [*self.events, *[event for columns in self.alike for event in columns.events()]]
        events.sort(key=itemgetter("batch_index"))
        return replace(self, events=events, alike=[])


Certificates = Mapping[str, bytes]
"""URL -> PEM certificate, as far as fetched."""


class Provider:
    """What a provider module defines: a subclass with its own tables, and one stateless instance.

    The texts from ``id_recipe`` on are the provider's row in the conformance table.
    """

    name: ClassVar[str]
    """Value of ``provider`` in mailpulse.toml."""
    title: ClassVar[str]
    """Name for people."""
    required: ClassVar[tuple[str, ...]] = ()
    """Fields of ``Source`` that verification needs; ``a|b`` means either."""
    overload_status: ClassVar[int] = 503
    """Answer that makes this provider try again later: 503, or 429 where 5xx discards."""
    methods: ClassVar[tuple[str, ...]] = ("POST",)
    """HTTP methods of calls that carry events; others are set-up calls, for ``probe``."""
    tolerance_s: ClassVar[int] = 0
    """Greatest age of a signed time in seconds, wide enough for the provider's retries; 0: no time
    is signed, or none is checked. ``Source.tolerance_s`` wins."""
    events: ClassVar[Mapping[str, str]]
    """Native event name -> normalised event type."""
    reads_body: ClassVar[bool] = False
    """Whether the proof may lie in the body, see ``proof_in_body``."""
    reads_path: ClassVar[bool] = False
    """Whether a request's path may go on after the source's name, with a token."""
    token_at: ClassVar[str] = ""
    """Where a request shows the token, as in a mapping: ``query:NAME``, ``path``, ``bearer``…"""
    id_recipe: ClassVar[str]
    """What ``event_id`` is made of."""
    verification: ClassVar[str]
    """How a request is proven."""
    signs: ClassVar[str] = "raw body"
    """What of the body the proof covers: ``raw body``; ``fields``, all that are read;
    ``token only``, not the event; or ``nothing``."""
    batch: ClassVar[str] = "one"
    """How many events a request may hold."""
    other_calls: ClassVar[str] = "none known"
    """Calls that carry no events, and how they are answered."""
    bounces: ClassVar[str] = "none"
    """Where bounce class and reason come from."""
    campaign: ClassVar[str] = "none"
    """The fields of ``campaign_from = ["provider"]``; an id of the provider's own has it before."""
    machine: ClassVar[str] = "none"
    """The provider's flag for opens and clicks by machines."""

    def tolerance(self, source: Source) -> int:
        """Greatest age of a signed time in seconds, for this source."""
        return self.tolerance_s if source.tolerance_s is None else source.tolerance_s

    def proof_in_body(self, request: Request) -> bool:
        """Whether ``verify`` has to read this request's body, because the proof lies there.

        Only then is the body decoded, and its shape checked, before the proof. Otherwise a request
        without proof costs no more than the check of the proof.
        """
        return self.reads_body

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
        raise NotImplementedError

    def verify_content(self, request: Request, source: Source) -> None:
        """Checks the part of the proof that needs the body parsed, by default nothing.

        Called after ``verify`` and the check of the body's shape.

        Raises:
            SignatureError: not proven after all.
        """

    def what_is_signed(self, source: Source) -> str:
        """What of a request the signature covers, for a person; empty if ``verification`` says it.

        Only where a source's own settings decide it.
        """
        return ""

    def by_anyone(self, request: Request) -> bool:
        """Whether anybody could have made a verified request, by default not.

        True for a test call that is signed with a key that the provider has published. Such a
        request counts as unproven.
        """
        return False

    def parse(self, request: Request, source: Source, received_at: int) -> Parsed:
        """The events of a verified request, in their order.

        Args:
            received_at: microseconds since 1970.

        Raises:
            BadInput: the body as a whole can't be read; it goes to the dead letters whole.
        """
        raise NotImplementedError

    def parse_alike(self, request: Request, source: Source, received_at: int) -> Parsed:
        """As ``parse``, with similar events by column where the provider can give them.

        Raises:
            BadInput: as ``parse`` does.
        """
        return self.parse(request, source, received_at)

    def probe(self, request: Request, source: Source) -> int | None:
        """Status for a set-up call without events (HEAD, GET); ``None`` if it is not one."""
        return None

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
        raise NotImplementedError

    def resigned(self, request: Request, source: Source, signing_key: str | None = None) -> Request:
        """The same request, proven anew by the source's newest secrets; its signed time stays.

        For ``mailpulse capture``, whose requests are changed before they are written down.

        Args:
            request: that was proven when it came, its body decoded; what it says was changed.
            signing_key: private key (PEM) where the source only holds the public half.

        Raises:
            BadInput, SignatureError: it has nothing that could be proven anew.
        """
        raise NotImplementedError

    def check(self, source: Source) -> list[str]:
        """Problems of the source's configuration (a key that does not parse …), one line each.

        By default the fields that are required and missing, and entries of ``campaign_from`` that
        do not exist.
        """
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
"""Entries of ``Source.campaign_from``."""


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


def unreadable(source: Source, name: str, read: Callable[[str], object], what: str) -> list[str]:
    """One line per configured value of a field that ``read`` refuses with ``ValueError``.

    Args:
        what: what is wrong with such a value, such as ``is no key``.
    """
    problems = []
    for number, value in enumerate(given_values(source, name), 1):
        try:
            read(value)
        except ValueError:
            problems.append(f"sources.{source.name}.{name}: number {number} {what}")
    return problems


def with_headers(request: Request, *headers: tuple[str, str]) -> Request:
    """The request with other values of some headers, each where it stood, or at the end."""
    new = dict(headers)
    kept = [(name, new.pop(name, "") if name in dict(headers) else value)
            for name, value in request.headers]  # fmt: skip
    return replace(request, headers=(*kept, *new.items()))


def with_parameter(request: Request, name: str, value: str) -> Request:
    """The request with another value of one parameter of its query, or with it at the end."""
    pairs = [pair for pair in request.query.split("&") if pair]
    new = f"{quote(name)}={quote(value, safe='')}"
    changed = [new if unquote_plus(pair.partition("=")[0]) == name else pair for pair in pairs]
    return replace(request, query="&".join(changed if new in changed else [*changed, new]))


def post(body: bytes, *headers: tuple[str, str], query: str = "") -> Request:
    """A POST as the ingress sees it, for samples: header names in lower case."""
    return Request("POST", query, headers, body, "127.0.0.1")


def post_json(content: object, *headers: tuple[str, str]) -> Request:
    """A POST of JSON, for samples; content that is signed comes as bytes."""
    body = content if isinstance(content, bytes) else orjson.dumps(content)
    return post(body, ("content-type", "application/json"), *headers)


Registry = Mapping[str, Provider]
