"""What a provider module is: a table of event names, ``verify``, ``parse``, and a few facts.

Laws of this package:
1. Pure: ``now`` and ``received_at`` are arguments; nothing here opens a socket or reads a clock.
2. ``verify`` sees the raw bytes, compares in constant time, and says nothing about what was wrong
   beyond a code for the log. Nothing is parsed before it is verified, except where the signature
   lies inside the body.
3. ``parse`` raises nothing but ``BadInput``; one bad item of a batch becomes a reject and its
   neighbours go through: ``len(events) + len(rejects)`` is the number of items (an item that
   names several recipients may give several events).
4. Unknown native events become ``unknown`` with their native name kept; nothing is dropped.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

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


class SignatureError(Exception):
    """The caller is not proven to be the provider. ``code`` is for log and metrics only."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class NeedsCertificate(Exception):
    """Verification needs the certificate at ``url`` (host already checked): fetch and call again."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.url = url


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
    """An effect for the shell: GET ``url`` once (host already checked) to confirm a subscription."""

    url: str


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a verified request holds."""

    events: list[Event] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    confirm: ConfirmSubscription | None = None
    note: str = ""
    """What a non-event call was, such as ``subscription_confirmation`` or ``ping``; for the log."""


Certificates = Mapping[str, bytes]
"""URL -> PEM certificate, as far as fetched."""


class Provider(Protocol):
    """A provider module's object. One instance per provider, stateless."""

    name: str
    """Value of ``provider`` in mailpulse.toml."""
    title: str
    """Name for people."""
    required: tuple[str, ...]
    """Fields of ``Source`` that verification needs; ``a|b`` means either."""
    overload_status: int
    """Answer that makes this provider try again later: 503, or 429 where 5xx discards."""
    events: Mapping[str, str]
    """Native event name -> normalised event type."""
    id_recipe: str
    """In words, for the conformance table: what ``event_id`` is made of."""
    verification: str
    """In words, for the conformance table."""

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

    def parse(self, request: Request, source: Source, received_at: int) -> Parsed:
        """The events of a verified request, in their order.

        Args:
            received_at: microseconds since 1970.

        Raises:
            BadInput: the body as a whole can't be read; it goes to the dead letters whole.
        """

    def probe(self, request: Request, source: Source) -> int | None:
        """Status for a set-up call that carries no events (HEAD, GET), ``None`` if it is not one."""

    def sample(self, source: Source, now: float, number: int) -> Request:
        """A correctly signed request with one event, as this provider would send it.

        For ``mailpulse send-test``, the simulator and tests. ``number`` makes it distinct.
        """

    def check(self, source: Source) -> list[str]:
        """Problems of the source's configuration (key does not parse …), one line each."""


Registry = Mapping[str, Provider]
Parse = Callable[[Request, Source, int], Parsed]

__all__ = [
    "BadInput", "Certificates", "ConfirmSubscription", "NeedsCertificate", "Parse", "Parsed",
    "Provider", "Registry", "Reject", "Request", "SignatureError",
]  # fmt: skip
