"""From a request as it came to what ``mailpulse capture`` writes down of it.

Invariants:
1. Every part of the request goes through ``Renamer``: no address, id or secret of the original is
   written, and of names none but what that keeps as harmless, such as an ordinary word in the reply
   of a mail server. In headers of credentials and of places every word is replaced.
2. A changed body fits no signature. A request whose proof was right is signed anew with temporary
   keys, which are written beside it; one whose proof was wrong or missing stays without. ``proof``
   says which it was. So ``mailpulse check`` gives the verdict that ingress gave, offline.
3. Bodies are written decoded; ``coding`` says what they had.
"""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson

from ingest import renaming_bodies, vocabulary
from ingest.body import VALUES_PER_EVENT_MAX, BodyLimits, Refused, content_coding, decode_content
from ingest.capture_keys import SECRETS, Keys, sns_certificate, temporary
from ingest.providers import REGISTRY, fields, items
from ingest.providers.base import Request
from ingest.renaming import Mode, Renamer
from ingest.tryout import CheckResult, check_request
from ingest.verify import NeedsCertificate, SignatureError
from schemas.errors import BadInput
from schemas.settings import Settings, Source

FORM = 1
"""Version of the written form."""
TIME_MAX = 4_102_444_800
"""Of an arrival, in seconds since 1970: the year 2100."""
_ANSWERED = (("status", int), ("code", str))
BY_AGE = ("stale_timestamp", "future_timestamp")
_DROPPED = ("content-length", "content-encoding", "transfer-encoding", "connection", "host", "via")
_KEPT = ("content-type", "accept", "accept-encoding")
_HEADER_FORCED = re.compile(
    r"cookie|auth|secret|token|api-?key|passw|session|jwt|credential|forwarded|real-ip|client|"
    r"(?:city|region|location|latitude|longitude|user|email)$"
)


@dataclass(frozen=True, slots=True)
class Heard:
    """A request as ingress handed it over.

    Attributes:
        request: its body as received; empty if it was not read.
        received_at: seconds since 1970.
        status: that it was answered with.
        code: ``accepted``, or the code of the refusal; for a proof the exact one.
        proven: whether its proof was right.
        whole: whether its body is there: it was read, and is not over the capture's limit.
    """

    request: Request
    received_at: float
    status: int
    code: str
    proven: bool
    whole: bool = True


@dataclass(frozen=True, slots=True)
class Record:
    """What is written: the body's file and the document beside it."""

    kind: str
    body: bytes
    document: dict[str, Any]


class Recorder:
    """Makes the records of one capture.

    Args:
        source: of the operator, with its secrets, which are looked for and never written.
        key: of the stand-ins; random, and kept nowhere.
        now: seconds since 1970.
        settings: limits.
    """

    def __init__(self, source: Source, key: bytes, now: float, settings: Settings) -> None:
        own = vocabulary.of_source(source)
        self._source = source
        self._settings = settings
        self.renamer = Renamer(key, vocabulary.words() | own.words, own.whole, now, own.modes)
        for name in SECRETS:
            for value in source.secrets(name):
                self.renamer.hide(value)
        self._keys = temporary(source, self.renamer)

    def record(self, heard: Heard) -> Record:
        """The record of one request."""
        request, coding = self._decoded(heard)
        renamed = self._renamed(request)
        again, proof = self._proof(heard, request, renamed)
        certificates = self._certificates(again, heard.received_at)
        keys = replace(self._keys, certificates=certificates)
        verdict = check_request(
            keys.source, again, heard.received_at, settings=self._settings,
            certificates=certificates,
        )  # fmt: skip
        kind = kind_of(again)
        return Record(kind, again.body, self._document(heard, again, coding, proof, keys, verdict))

    def _decoded(self, heard: Heard) -> tuple[Request, str]:
        """The request with its body decoded, and the coding that it had."""
        request, settings = heard.request, self._settings
        given = [value for name, value in request.headers if name == "content-encoding"]
        limits = BodyLimits(
            settings.decompressed_bytes_max, settings.decompression_ratio_max,
            settings.json_depth_max, settings.events_per_request_max * VALUES_PER_EVENT_MAX,
        )  # fmt: skip
        try:
            coding = content_coding(",".join(given) if given else None)
            if coding is None or not heard.whole:
                return request, coding or ""
            return replace(request, body=decode_content(request.body, coding, limits)), coding
        except Refused as refused:
            return replace(request, body=b""), f"not decoded: {refused.code}"

    def _renamed(self, request: Request) -> Request:
        # twice: the first time every word that is replaced anywhere gets known
        for _ in range(2):
            body = renaming_bodies.body(request.body, self.renamer)
            query = renaming_bodies.form(request.query, self.renamer)
            headers = self._headers(request)
        path = self.renamer.text(request.path, Mode.FORCE)
        return Request(request.method, query, headers, body, "192.0.2.1", path)

    def _headers(self, request: Request) -> tuple[tuple[str, str], ...]:
        made = []
        for name, value in request.headers:
            if name in _DROPPED:
                continue
            if _HEADER_FORCED.search(name):
                scheme, space, rest = value.partition(" ")
                shown = scheme if scheme.lower() in ("basic", "bearer") and space else ""
                rest = rest if shown else value
                made.append((name, shown + space * bool(shown) + self._forced(rest)))
            elif name in _KEPT:
                made.append((name, self.renamer.text(value, Mode.HIDE)))
            else:
                mode = Mode.AGENT if name == "user-agent" else Mode.HIDE
                made.append((name, self.renamer.text(value, mode)))
        return tuple(made)

    def _forced(self, value: str) -> str:
        """Credentials: a base64 of user and password stays one."""
        try:
            inside = base64.b64decode(value, validate=True).decode()
        except ValueError:
            return self.renamer.text(value, Mode.FORCE)
        return base64.b64encode(self.renamer.text(inside, Mode.FORCE).encode()).decode()

    def _proof(self, heard: Heard, request: Request, renamed: Request) -> tuple[Request, str]:
        """The renamed request, signed anew if its proof was right, and a sentence on that."""
        right = heard.proven or heard.status == 200
        only_old = not right and heard.code in BY_AGE and self._fits_apart_from_age(request, heard)
        if not (right or only_old):
            return renamed, (
                f"wrong or not looked at ({heard.code}); the renamed request has none that is right"
            )
        provider = REGISTRY[self._source.provider]
        try:
            again = provider.resigned(renamed, self._keys.source, self._keys.signing_key)
        except (BadInput, SignatureError, NotImplementedError) as error:
            return renamed, f"right; could not be made anew for the renamed request: {error}"
        said = "right apart from its age" if only_old else "right"
        return again, f"{said}; made anew with the temporary keys below for the renamed request"

    def _fits_apart_from_age(self, request: Request, heard: Heard) -> bool:
        ageless = self._source.model_copy(update={"tolerance_s": 0})
        provider = REGISTRY[ageless.provider]
        for one in (request, heard.request):  # some sign the body decoded, some as it is sent
            try:
                provider.verify(one, ageless, heard.received_at, {})
                return True
            except (SignatureError, NeedsCertificate):
                continue
        return False

    def _certificates(self, request: Request, received_at: float) -> Mapping[str, bytes]:
        if not self._keys.source.topic_arns or self._keys.signing_key is None:
            return {}
        try:
            url = fields.as_dict(items.read_json(request.body)).get("SigningCertURL")
        except BadInput:
            return {}
        if not isinstance(url, str):
            return {}
        return {url: sns_certificate(self._keys.signing_key, received_at)}

    def _document(
        self, heard: Heard, request: Request, coding: str, proof: str, keys: Keys,
        verdict: CheckResult,
    ) -> dict[str, Any]:  # fmt: skip
        same = (verdict.status, verdict.code) == (heard.status, heard.code)
        return {
            "form": FORM,
            "provider": keys.source.provider,
            "method": request.method,
            "path": request.path,
            "query": request.query,
            "headers": [list(one) for one in request.headers],
            "coding": coding,
            "whole": heard.whole,
            "received_at": heard.received_at,
            "answered": {"status": heard.status, "code": heard.code},
            "proof": proof,
            "checked": {"status": verdict.status, "code": verdict.code, "same": same},
            "keys": "temporary: made for this capture, they open nothing",
            "source": plain(keys.source),
            "signing_key": keys.signing_key,
            "certificates": {url: pem.decode() for url, pem in keys.certificates.items()},
        }


def kind_of(request: Request) -> str:
    """The ending of a body's file: ``json``, ``jsonl``, ``form`` or ``txt``."""
    try:
        orjson.loads(request.body.removeprefix(b"\xef\xbb\xbf"))
        return "json"
    except ValueError:
        pass
    if "form" in (request.header("content-type") or ""):
        return "form"
    return "jsonl" if request.body.lstrip()[:1] == b"{" else "txt"


def plain(source: Source) -> dict[str, Any]:
    """The fields of a source that differ from their defaults, secrets as texts.

    Without its ``history``, which proves no request.
    """
    made: dict[str, Any] = {}
    for name, about in Source.model_fields.items():
        value = getattr(source, name)
        if name == "history" or value == about.get_default(call_default_factory=True):
            continue
        if name in SECRETS:
            value = source.secrets(name)
        made[name] = list(value) if isinstance(value, tuple) else value
    return made


def read(document: Mapping[str, Any], body: bytes) -> tuple[Request, Keys, float]:
    """A written request with its temporary keys, and when it came (seconds since 1970).

    Raises:
        BadInput: ``no_capture``: it is none, or of another version.
    """
    try:
        if document["form"] != FORM:
            raise BadInput("no_capture", f"this form is not known here: {FORM} is")
        if not all(isinstance(document[name], str) for name in ("method", "path", "query")):
            raise TypeError
        if not all(isinstance(document["answered"][name], kind) for name, kind in _ANSWERED):
            raise TypeError
        received_at = float(document["received_at"])
        if not 0 <= received_at < TIME_MAX:
            raise ValueError
        headers = tuple((str(name), str(value)) for name, value in document["headers"])
        request = Request(
            document["method"], document["query"], headers, body, "192.0.2.1", document["path"]
        )
        certificates = {url: pem.encode() for url, pem in document["certificates"].items()}
        keys = Keys(Source(**document["source"]), document["signing_key"], certificates)
        if keys.source.provider not in REGISTRY:
            raise BadInput("no_capture", "its provider is not known to this version")
        return request, keys, received_at
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadInput("no_capture", f"{type(error).__name__} in the document") from None


__all__ = ["Heard", "Record", "Recorder", "kind_of", "plain", "read"]
