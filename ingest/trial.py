"""A sample of a source that only its provider can sign for.

The running ingress refuses what is signed with any other key, and it must. So the sample goes to an
ingress of this process, which is told the public half of a temporary key and is the same code in
everything else; it stores what it accepts as the running one does.

Invariants:
1. The running ingress is asked first, and has to refuse an unsigned request with 401: that shows
   that it is there and knows the source. Nothing is stored if it does anything else.
2. No temporary key is written anywhere, and no ingress but this process's own accepts it.
"""

import asyncio
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
from pydantic import SecretStr

from ingest.app import create_app
from ingest.capture_keys import renewed, sns_certificate
from ingest.certificates import Outgoing
from ingest.producer import Log
from ingest.providers.base import Registry
from ingest.tryout import SendResult, forwarded, hook_of, posted, sample_for, send_test
from schemas.codec import Codec
from schemas.errors import BadInput, Unavailable
from schemas.serving.origin import Networks
from schemas.settings import Settings, Source

KAFKA_WAIT_S = 15.0
REFUSED = 401
_HERE = "http://ingress.of.this.process"


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of it.

    Attributes:
        refused: the running ingress's answer.
        kept: the answer of the ingress of this process; ``None`` if it was not asked.
    """

    refused: SendResult
    kept: SendResult | None = None

    @property
    def ok(self) -> bool:
        """Whether both answered as they should."""
        return self.kept is not None and self.kept.ok


def only_its_provider_signs(source: Source, registry: Registry | None = None) -> bool:
    """Whether a sample of it can be signed by its provider alone."""
    try:
        sample_for("", source, 0.0, 0, registry=registry)
    except BadInput as error:
        return error.reason == "needs_private_key"
    return False


async def send_trial(
    url: str,
    source: Source,
    settings: Settings,
    *,
    codec: Codec,
    now: Callable[[], float],
    number: int = 1,
    registry: Registry | None = None,
    log: Log | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
    wait_s: float = KAFKA_WAIT_S,
) -> Trial:
    """Sends a sample that is signed with a temporary key; see the module.

    Args:
        url: of the running ingress, or of the hook itself.
        codec: with the schema ids that the running ingress uses.
        now: seconds since 1970.
        number: makes the event distinct from other samples.
        registry: providers; by default all.
        log: where the event is stored; by default Kafka.
        transport: to the running ingress; by default the network.
        wait_s: longest wait for Kafka, seconds.

    Raises:
        Unavailable: Kafka does not answer.
        BadInput: the source can't sign, see ``sample_for``.
    """
    refused = await _unsigned(url, source, Networks(settings.trusted_proxies), transport)
    if refused.status != REFUSED:
        return Trial(refused)
    keys = renewed(source)
    pem = sns_certificate(keys.signing_key or "", now()) if source.topic_arns else None
    with tempfile.TemporaryDirectory(prefix="mailpulse-trial-") as folder:
        app = create_app(
            _alone(settings, Path(folder)), {source.name: keys.source}, codec=codec,
            registry=registry, log=log, outgoing=_serving(pem), now=now,
        )  # fmt: skip
        async with app.router.lifespan_context(app):
            await _ready(lambda: app.keeper.ready, wait_s)
            kept = await send_test(
                _HERE, keys.source, registry=registry, signing_key=keys.signing_key, number=number,
                now=now(), transport=httpx.ASGITransport(app), certificate=pem,
            )  # fmt: skip
    return Trial(refused, kept)


async def _unsigned(
    url: str, source: Source, trusted: Networks, transport: httpx.AsyncBaseTransport | None
) -> SendResult:
    """The running ingress's answer to a request that proves nothing."""
    target = hook_of(url, source)
    headers = {"content-type": "application/json", **forwarded(target, trusted)}
    return await posted(target, b"{}", list(headers.items()), transport=transport)


def _alone(settings: Settings, folder: Path) -> Settings:
    """The settings, without what an ingress shares with other processes of its machine."""
    return settings.model_copy(
        update={
            "data_dir": folder, "spool_dir": None, "rate_limit_url": SecretStr(""),
            "trusted_proxies": (), "allow_http": True,
        }
    )  # fmt: skip


def _serving(pem: bytes | None) -> Outgoing:
    """Fetches this certificate, whichever is asked for; nothing from the network."""

    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200 if pem else 404, content=pem or b"")

    return Outgoing(time.monotonic, httpx.MockTransport(answer))


async def _ready(is_ready: Callable[[], bool], wait_s: float) -> None:
    end = time.monotonic() + wait_s
    while not is_ready():
        if time.monotonic() > end:
            raise Unavailable(f"Kafka does not answer within {wait_s:.0f} s; nothing is stored")
        await asyncio.sleep(0.05)
