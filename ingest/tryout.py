"""Checks for the command line: a captured request, and a sample sent to a running ingress.

Invariants:
1. ``check_request`` does no I/O and keeps nothing.
2. A verdict tells the operator at the terminal what was wrong; an HTTP answer never does.
3. Nothing here stores or prints a secret.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import SplitResult, quote, urlsplit

import httpx

from ingest.body import VALUES_PER_EVENT_MAX, BodyLimits, Refused, content_coding
from ingest.explaining import explain, proven
from ingest.proof import prove
from ingest.providers.base import Certificates, Provider, Registry, Reject, Request
from ingest.verify import NeedsCertificate, SignatureError
from schemas.errors import BadInput
from schemas.event import Event
from schemas.serving.origin import Networks, address_of
from schemas.settings import Settings, Source

SEND_TIMEOUT_S = 10.0
BODY_SHOWN_BYTES = 2_000


@dataclass(frozen=True, slots=True)
class CheckResult:
    """How ingress would have answered a request.

    Attributes:
        accepted: whether it would have been answered 200.
        status: the HTTP status.
        code: ``accepted``, or the code of the refusal; for a signature the exact one.
        detail: for a person.
        events: the normalised events.
        rejects: items that would have gone to the dead letters.
        note: kind of a call without events.
        explanation: of a refused proof, or of an accepted one if asked for, line by line; without
            secrets.
    """

    accepted: bool
    status: int
    code: str
    detail: str = ""
    events: tuple[Event, ...] = ()
    rejects: tuple[Reject, ...] = ()
    note: str = ""
    explanation: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The result as plain values."""
        return {
            "accepted": self.accepted,
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
            "note": self.note,
            "explanation": list(self.explanation),
            "events": [dict(event) for event in self.events],
            "rejects": [
                {
                    "reason": reject.reason,
                    "detail": reject.detail,
                    "content": reject.content.decode("utf-8", "replace"),
                }
                for reject in self.rejects
            ],
        }


def _registry(registry: Registry | None) -> Registry:
    if registry is not None:
        return registry
    from ingest.providers import REGISTRY

    return REGISTRY


def check_request(
    source: Source,
    request: Request,
    now: float,
    *,
    registry: Registry | None = None,
    settings: Settings | None = None,
    certificates: Certificates | None = None,
    certificate: bytes | None = None,
    others: Sequence[Source] = (),
    explained: bool = False,
) -> CheckResult:
    """Verifies and parses a captured request as ingress would, without keeping anything.

    Args:
        request: header names in lower case; the body as received.
        now: seconds since 1970: time of arrival, for the age of its signature.
        certificates: URL -> PEM, where the provider signs with one.
        certificate: PEM to take for whichever URL is asked for: the file was saved by hand.
        others: sources whose keys are tried on a request that is refused.
        explained: an accepted request is explained too.
    """
    provider = _registry(registry)[source.provider]
    settings = settings or Settings()
    limits = BodyLimits(
        settings.decompressed_bytes_max,
        settings.decompression_ratio_max,
        settings.json_depth_max,
        settings.events_per_request_max * VALUES_PER_EVENT_MAX,
    )
    try:
        if len(request.body) > settings.body_bytes_max:
            raise Refused(413, "body_too_large")
        given = [value for name, value in request.headers if name == "content-encoding"]
        coding = content_coding(",".join(given) if given else None)
        request = prove(provider, source, request, coding, limits, now, certificates or {}).request
    except Refused as refusal:
        return CheckResult(False, refusal.status, refusal.code, "over a limit or badly encoded")
    except SignatureError as error:
        why = explain(provider, source, request, error.code, now, certificates or {}, others)
        detail = "not proven to come from the provider"
        return CheckResult(False, 401, error.code, detail, explanation=tuple(why))
    except NeedsCertificate as needed:
        if certificate is not None:
            found = {**(certificates or {}), needed.url: certificate}
            return check_request(
                source, request, now, registry=registry, settings=settings, certificates=found,
                others=others, explained=explained,
            )  # fmt: skip
        detail = f"the signature needs the certificate at {needed.url}: --certificate FILE"
        return CheckResult(False, 503, "needs_certificate", detail)
    why = proven(provider, source, request, now) if explained else []
    result = _parsed(provider, source, request, now, settings.events_per_request_max)
    return replace(result, explanation=tuple(why))


def _parsed(
    provider: Provider, source: Source, request: Request, now: float, events_max: int
) -> CheckResult:
    """What a proven request holds."""
    try:
        parsed = provider.parse(request, source, int(now * 1_000_000))
    except BadInput as error:
        reject = Reject(error.reason, error.detail, request.body)
        return CheckResult(True, 200, "accepted", "kept as a dead letter", rejects=(reject,))
    if len(parsed.events) + len(parsed.rejects) > events_max:
        return CheckResult(False, 413, "too_many_events")
    for event in parsed.events:
        event["source"] = source.name
    return CheckResult(
        True, 200, "accepted", "", tuple(parsed.events), tuple(parsed.rejects), parsed.note
    )


@dataclass(frozen=True, slots=True)
class SendResult:
    """The answer of a running ingress to a sample.

    Attributes:
        status: HTTP status; 0 when there was no answer.
        body: the answer, cut to ``BODY_SHOWN_BYTES``, or why there was none.
        seconds: from sending to the answer.
        event_ids: of the events that were sent, for finding them downstream.
    """

    status: int
    body: str
    seconds: float
    event_ids: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether it was accepted."""
        return self.status == 200


def _parts(url: str) -> SplitResult:
    """The parts of a URL; empty if it is none."""
    try:
        return urlsplit(url)
    except ValueError:
        return urlsplit("")


def hook_of(url: str, source: Source) -> str:
    """The address of a source's hook.

    Args:
        url: of the ingress, or of the hook itself.
    """
    at_hook = _parts(url).path.startswith("/hooks/")
    return url if at_hook else f"{url.rstrip('/')}/hooks/{source.name}"


def forwarded(target: str, trusted: Networks | None) -> dict[str, str]:
    """The header by which a request from the address of a trusted proxy names its sender."""
    here = _parts(target).hostname or ""
    is_proxy = trusted is not None and address_of(here) in trusted
    return {"x-forwarded-for": here} if is_proxy else {}


async def posted(
    target: str,
    body: bytes,
    headers: list[tuple[str, str]],
    *,
    method: str = "POST",
    transport: httpx.AsyncBaseTransport | None = None,
) -> SendResult:
    """An ingress's answer to a request; its status is 0 if there was none."""
    started = time.monotonic()
    try:
        async with httpx.AsyncClient(
            transport=transport, timeout=SEND_TIMEOUT_S, trust_env=not _is_here(target)
        ) as client:
            answer = await client.request(method, target, content=body, headers=headers)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return SendResult(0, type(error).__name__, time.monotonic() - started, ())
    text = answer.text[:BODY_SHOWN_BYTES]
    return SendResult(answer.status_code, text, time.monotonic() - started, ())


def _is_here(target: str) -> bool:
    """Whether an address is of this machine: a proxy of the environment does not lead there."""
    host = _parts(target).hostname or ""
    address = address_of(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def sample_for(
    url: str,
    source: Source,
    now: float,
    number: int,
    *,
    registry: Registry | None = None,
    signing_key: str | None = None,
) -> tuple[str, Request]:
    """Where to send a sample, and the sample.

    Raises:
        BadInput: ``needs_private_key`` or ``not_configured``, see ``Provider.sample``.
    """
    provider = _registry(registry)[source.provider]
    request = provider.sample(source, now, number, signing_key)
    target = hook_of(url, source)
    if request.path:
        target = f"{target.rstrip('/')}/{quote(request.path, safe='')}"
    return f"{target}?{request.query}" if request.query else target, request


async def send_test(
    url: str,
    source: Source,
    *,
    registry: Registry | None = None,
    signing_key: str | None = None,
    number: int = 1,
    now: float | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
    trusted: Networks | None = None,
    certificate: bytes | None = None,
) -> SendResult:
    """Sends a correctly signed sample to a running ingress.

    Args:
        url: of the ingress, or of the hook itself.
        signing_key: private key (PEM), where the source only holds the public half.
        number: makes the event distinct from other samples.
        now: seconds since 1970; by default the clock's.
        transport: for tests.
        trusted: the ingress's trusted proxies: at the address of one, the sample names its sender.
        certificate: PEM of the certificate that the sample names, if it names one.

    Raises:
        BadInput: the source can't sign, see ``sample_for``.
    """
    now = time.time() if now is None else now
    target, request = sample_for(
        url, source, now, number, registry=registry, signing_key=signing_key
    )
    expected = check_request(source, request, now, registry=registry, certificate=certificate)
    ids = tuple(event["event_id"] for event in expected.events)
    headers = [*request.headers, *forwarded(target, trusted).items()]
    answer = await posted(target, request.body, headers, method=request.method, transport=transport)
    return replace(answer, event_ids=ids)
