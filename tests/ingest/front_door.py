"""The basis of the front door's tests: a tiny provider, a log in memory, a client.

Invariants: 1. The provider's rules are minimal: header ``x-key`` must be the source's secret; the
body is a JSON list of ``{"id", "to", "type"}``. Only the exceptions that it raises matter to the
front door. 2. ``MemoryLog`` is a whole ``Log``: it keeps parcels in order, and can be unavailable,
slow or full.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

import httpx
import orjson
from pydantic import SecretStr

from ingest import verify
from ingest.app import IngestApp, create_app
from ingest.parcel import Parcel
from ingest.producer import Overloaded
from ingest.providers.base import (
    Certificates,
    ConfirmSubscription,
    Parsed,
    Provider,
    Reject,
    Request,
    newest,
    post,
)
from ingest.verify import NeedsCertificate, SignatureError
from schemas.codec import AvroRecord, Codec
from schemas.errors import BadInput, Unavailable
from schemas.event import event_id, new_event
from schemas.settings import Settings, Source

NOW = 1_790_000_000.5
KEY = "correct horse"
CERTIFICATE_URL = "https://certificates.example.com/one.pem"


class Tiny(Provider):
    """See the module, invariant 1. It retries after a 503."""

    name: ClassVar[str] = "tiny"
    title: ClassVar[str] = "Tiny"
    required = ("secret",)
    events: ClassVar[Mapping[str, str]] = {"delivered": "delivered"}
    id_recipe: ClassVar[str] = "id"
    verification: ClassVar[str] = "key"

    def verify(
        self, request: Request, source: Source, now: float, certificates: Certificates
    ) -> None:
        """``x-key``; ``x-certificate: yes`` asks for the certificate first."""
        if request.header("x-certificate") and CERTIFICATE_URL not in certificates:
            raise NeedsCertificate(CERTIFICATE_URL)
        if request.header("x-key") == "explode":
            raise ZeroDivisionError
        if request.header("x-key") not in source.secrets("secret"):
            raise SignatureError("wrong_key")

    def parse(self, request: Request, source: Source, received_at: int) -> Parsed:
        """Items without an id are rejected; ``"explode"`` is a bug; an object confirms."""
        try:
            content = orjson.loads(request.body)
        except ValueError:
            raise BadInput("not_json") from None
        if content == "explode":
            raise ZeroDivisionError
        if isinstance(content, dict):
            return Parsed(confirm=ConfirmSubscription(content["confirm"]), note="confirmation")
        parsed = Parsed()
        for item in content:
            if "id" not in item:
                parsed.rejects.append(Reject("no_id", "", orjson.dumps(item)))
                continue
            event = new_event(
                event_id=event_id("tiny", source.account, item["id"]),
                event_type="delivered",
                occurred_at=received_at,
                received_at=received_at,
                provider="tiny",
                native_type="delivered",
            )
            event["recipient"] = item.get("to", "ada@example.com")
            event["recipient_domain"] = "example.com"
            event["message_id"] = item["id"]
            event["diagnostic"] = item.get("said")
            event["metadata"] = item.get("metadata", {})
            parsed.events.append(event)
        return parsed

    def probe(self, request: Request, source: Source) -> int | None:
        """HEAD is a set-up call."""
        return 200 if request.method == "HEAD" else None

    def sample(
        self, source: Source, now: float, number: int, signing_key: str | None = None
    ) -> Request:
        """One delivered event."""
        body = orjson.dumps([{"id": f"sample{number}", "to": "ada@example.com"}])
        return post(body, ("x-key", newest(source, "secret")), query="a=b")


class Tiny429(Tiny):
    """A provider that retries only after a 429."""

    name: ClassVar[str] = "tiny429"
    overload_status = 429


class TinySigned(Tiny):
    """A provider that signs the body: ``x-signature``."""

    name: ClassVar[str] = "tiny_signed"

    def verify(
        self, request: Request, source: Source, now: float, certificates: Certificates
    ) -> None:
        """HMAC of the body."""
        verify.check_hmac_hex(source.secrets("secret"), request.body, request.header("x-signature"))


REGISTRY = {"tiny": Tiny(), "tiny429": Tiny429(), "tiny_signed": TinySigned()}


@dataclass
class MemoryLog:
    """Replaces Kafka: see invariant 2.

    Attributes:
        parcels: those acknowledged.
        up: whether it accepts anything.
        full: whether it is overloaded.
        delay_s: duration of an acknowledgement.
        fails: raised instead of acknowledging.
        tried: number of attempts to send a parcel to it.
    """

    parcels: list[Parcel] = field(default_factory=list)
    up: bool = True
    full: bool = False
    delay_s: float = 0.0
    fails: Exception | None = None
    tried: int = 0

    async def start(self) -> None:
        """Nothing to do."""

    async def stop(self) -> None:
        """Nothing to do."""

    async def wait_up(self) -> None:
        """Polls: tests set ``up`` as they like."""
        while not self.up:  # noqa: ASYNC110 - a plain attribute keeps tests short
            await asyncio.sleep(0.005)

    async def send(self, parcel: Parcel, timeout_s: float) -> None:
        """See ``Log.send``."""
        self.tried += 1
        if self.fails is not None:
            raise self.fails
        if self.full:
            raise Overloaded("full")
        if not self.up:
            raise Unavailable("away")
        if self.delay_s > timeout_s:
            await asyncio.sleep(timeout_s)
            raise Unavailable("slow")
        await asyncio.sleep(self.delay_s)
        self.parcels.append(parcel)

    def events(self) -> list[AvroRecord]:
        """Every raw event, decoded."""
        return [
            Codec().decode(value, "raw_event") for one in self.parcels for _, value in one.events
        ]

    def dead_letters(self) -> list[AvroRecord]:
        """Every dead letter, decoded."""
        return [
            Codec().decode(value, "dead_letter")
            for one in self.parcels
            for _, value in one.dead_letters
        ]


def source(name: str = "news", **overrides: Any) -> Source:
    """A source of the tiny provider."""
    values: dict[str, Any] = {"name": name, "provider": "tiny", "secret": (SecretStr(KEY),)}
    return Source(**values | overrides)


@dataclass
class Door:
    """A running app with its log and a client."""

    app: IngestApp
    log: MemoryLog
    client: httpx.AsyncClient

    async def post(
        self,
        body: bytes | object = b"[]",
        path: str = "/hooks/news",
        key: str = KEY,
        headers: dict[str, str] | None = None,
    ) -> httpx.Response:
        """A POST; anything but bytes is sent as JSON."""
        content = body if isinstance(body, bytes) else orjson.dumps(body)
        return await self.client.post(
            path, content=content, headers={"x-key": key} | (headers or {})
        )

    def client_at(self, address: str) -> httpx.AsyncClient:
        """Another client, at another address; to be closed."""
        transport = httpx.ASGITransport(self.app, client=(address, 40_000))
        return httpx.AsyncClient(transport=transport, base_url="http://door")

    def metric(self, name: str, **labels: str) -> float:
        """A metric's value, 0 when it was never counted."""
        return self.app.metrics.registry.get_sample_value(name, labels) or 0.0


@asynccontextmanager
async def front_door(
    *sources: Source,
    log: MemoryLog | None = None,
    client_host: str = "127.0.0.1",
    parts: Mapping[str, Any] | None = None,
    now: Callable[[], float] = lambda: NOW,
    **settings: Any,
) -> AsyncIterator[Door]:
    """The app with ``sources`` (default: ``news``), its lifespan running."""
    log = log or MemoryLog()
    given = sources or (source(),)
    app = create_app(
        Settings(**settings),
        {one.name: one for one in given},
        log=log,
        now=now,
        **{"registry": REGISTRY, **(parts or {})},
    )
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app, client=(client_host, 40_000))
        async with httpx.AsyncClient(transport=transport, base_url="http://door") as client:
            yield Door(app, log, client)
