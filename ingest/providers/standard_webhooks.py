"""Any sender that signs by the Standard Webhooks specification, and the base of known ones.

Invariants:
1. All secrets and signatures are tried: one matching pair is enough. ``v1`` is HMAC with a
   ``whsec_`` secret, ``v1a`` is ed25519 with a ``whpk_`` public key.
2. Svix sends the headers of Standard Webhooks under its own prefix (``svix-id``), and may send
   either: both are read, from one prefix at a time, the sender's usual one first.
3. The id header is the event's identity: it is the same on every retry, the timestamp is not.
4. The body is read by ``mapping`` (see ``ingest.providers.mapping``); without one, by the default
   shape, whose fields may also be under ``data`` beside ``type`` and ``timestamp``.

Sources: Standard Webhooks specification 1.0.0; Svix documentation, «Verifying payloads manually».
"""

from typing import ClassVar

import orjson

from ingest import verify
from ingest.providers import fields, generic
from ingest.providers.base import (
    Certificates,
    Parsed,
    Provider,
    Request,
    newest,
    post_json,
    unreadable,
    with_headers,
)
from schemas.errors import BadInput
from schemas.settings import Source

_PREFIXES = ("webhook", "svix")


class StandardSigned(Provider):
    """Verification of a Standard Webhooks sender, and how its samples are signed."""

    prefix: ClassVar[str] = "webhook"
    """Prefix of the three headers; Svix has its own."""
    required = ("secret",)
    tolerance_s = verify.STANDARD_TOLERANCE_S
    verification = "Standard Webhooks: HMAC-SHA256 over id, timestamp and raw body"

    def verify(
        self, request: Request, source: Source, now: float, certificates: Certificates
    ) -> None:
        """See ``Provider.verify``."""
        prefix = self._prefix(request)
        headers = (
            request.header(f"{prefix}-id"),
            request.header(f"{prefix}-timestamp"),
            request.header(f"{prefix}-signature"),
        )
        verify.check_standard(
            source.secrets("secret"),
            source.public_key,
            headers,
            request.body,
            now,
            self.tolerance(source),
        )

    def resigned(self, request: Request, source: Source, signing_key: str | None = None) -> Request:
        """See ``Provider.resigned``."""
        prefix = self._prefix(request)
        names = (f"{prefix}-id", f"{prefix}-timestamp")
        told, timestamp = (request.header(name) or "" for name in names)
        secret = newest(source, "secret")
        made = verify.standard_signature(secret, told, timestamp, request.body)
        return with_headers(request, (f"{prefix}-signature", made))

    def message_id(self, request: Request) -> str | None:
        """The sender's id of the webhook message, the same on every retry."""
        return request.header(f"{self._prefix(request)}-id")

    def _prefix(self, request: Request) -> str:
        """The prefix of the request's headers (invariant 2)."""
        signed = {name for name, _ in request.headers if name.endswith("-signature")}
        usual_first = sorted(_PREFIXES, key=lambda one: one != self.prefix)
        return next((one for one in usual_first if f"{one}-signature" in signed), self.prefix)

    def signed(self, source: Source, now: float, message_id: str, body: bytes) -> Request:
        """A request with that body, signed by the source's newest secret."""
        timestamp = str(int(now))
        signature = verify.standard_signature(newest(source, "secret"), message_id, timestamp, body)
        parts = {"id": message_id, "timestamp": timestamp, "signature": signature}
        return post_json(body, *((f"{self.prefix}-{part}", parts[part]) for part in parts))

    def check(self, source: Source) -> list[str]:
        """See ``Provider.check``: also that every secret is base64."""
        secrets = unreadable(source, "secret", verify.standard_key, "is not whsec_ and base64")
        return super().check(source) + secrets


class StandardWebhooks(StandardSigned):
    """See the module."""

    name = "standard_webhooks"
    title = "Standard Webhooks (any sender)"
    required = ("secret|public_key",)
    events = generic.EVENTS
    verification = "Standard Webhooks: HMAC-SHA256 or ed25519 over id, timestamp and raw body"
    campaign = "sender's: by mapping"
    id_recipe = "the mapped event_id; else webhook-id, message, event, recipient, time, url, ip"
    batch = "by mapping"
    bounces = "by mapping"
    machine = "by mapping"

    def parse(self, request: Request, source: Source, received_at: int) -> Parsed:
        """See ``Provider.parse``."""
        return generic.parse_mapped(request, source, received_at, self.message_id(request))

    def sample(
        self, source: Source, now: float, number: int, signing_key: str | None = None
    ) -> Request:
        """See ``Provider.sample``: in the default shape, whatever the mapping says.

        Raises:
            BadInput: also ``needs_private_key``, when the source has only public keys.
        """
        if not source.secret:
            raise BadInput("needs_private_key", "the source holds only public keys")
        body = orjson.dumps(generic.sample_event(fields.iso(now), number))
        return self.signed(source, now, f"msg_sample{number}", body)

    def check(self, source: Source) -> list[str]:
        """See ``Provider.check``."""
        return super().check(source) + generic.mapping_problems(source)


PROVIDER = StandardWebhooks()

__all__ = ["PROVIDER", "StandardSigned", "StandardWebhooks"]
