"""Amazon SNS envelopes: proof that a message was published to one of our topics.

Laws of this file:
1. A signature proves «some AWS topic», so the topic's ARN must be one of the configured ones.
2. The certificate comes from ``https://sns.<region>.amazonaws.com`` (``.cn`` in China) and a
   ``.pem`` path, nowhere else; no user, port, query or fragment. It is fetched by the shell.
3. An unsubscription is noted and never undone: visiting its ``SubscribeURL`` would subscribe again
   (django-ses issue 199).

Sources: Amazon SNS Developer Guide, «Verifying the signatures of Amazon SNS messages» and «Parsing
Amazon SNS message formats». Signature version 1 is RSA with SHA-1, version 2 with SHA-256. The
default tolerance spans SNS's retries (an hour at most) and a day of redriving from a queue.
"""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from ingest import verify
from ingest.providers import fields
from ingest.providers.base import Certificates, NeedsCertificate, SignatureError

TYPES: Mapping[str, tuple[str, ...]] = {
    "Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    "SubscriptionConfirmation": (
        "Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type",
    ),
    "UnsubscribeConfirmation": (
        "Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type",
    ),
}  # fmt: skip
"""Type of envelope -> the fields that are signed, in order; an absent ``Subject`` is left out."""

_HOST = re.compile(r"sns\.[a-z0-9-]{3,40}\.amazonaws\.com(?:\.cn)?", re.ASCII)
_PATH = re.compile(r"/(?:[A-Za-z0-9_-]+/)*[A-Za-z0-9_.-]+\.pem", re.ASCII)
_ALGORITHMS = {"1": "sha1", "2": "sha256"}


def is_sns_host(url: str) -> bool:
    """Whether a URL is ``https`` on a host of SNS, with nothing unusual in its authority."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme == "https" and _HOST.fullmatch(parts.netloc) is not None


def certificate_url(value: object) -> str:
    """A ``SigningCertURL`` that may be fetched.

    Raises:
        SignatureError: not SNS's host, or not the path of a certificate.
    """
    if isinstance(value, str) and value.isascii() and is_sns_host(value):
        parts = urlsplit(value)
        if f"https://{parts.netloc}{parts.path}" == value and _PATH.fullmatch(parts.path):
            return value
    raise SignatureError("bad_certificate_url")


def signed_text(envelope: Mapping[str, Any]) -> bytes:
    """The bytes that SNS signs: ``Key\\nValue\\n`` for each field of its type.

    Raises:
        SignatureError: unknown type, or a field is missing or not text.
    """
    kind = envelope.get("Type")
    names = TYPES.get(kind) if isinstance(kind, str) else None
    if names is None:
        raise SignatureError("unknown_envelope")
    lines = []
    for name in names:
        value = envelope.get(name)
        if value is None and name == "Subject":
            continue
        if not isinstance(value, str):
            raise SignatureError("incomplete_envelope")
        lines.append(f"{name}\n{value}\n")
    return "".join(lines).encode("utf-8", "surrogatepass")


def check_envelope(
    envelope: Mapping[str, Any],
    topic_arns: tuple[str, ...],
    now: float,
    tolerance_s: int,
    certificates: Certificates,
) -> None:
    """Proves an envelope.

    Raises:
        SignatureError: not one of the topics, too old, or not signed by the certificate's key.
        NeedsCertificate: the certificate is not there yet.
    """
    topic = envelope.get("TopicArn")
    if not isinstance(topic, str) or not verify.same_as_any(topic, topic_arns):
        raise SignatureError("unknown_topic")
    signed = signed_text(envelope)
    version = envelope.get("SignatureVersion")
    algorithm = _ALGORITHMS.get(version) if isinstance(version, str) else None
    if algorithm is None:
        raise SignatureError("unknown_signature_version")
    at = fields.microseconds(envelope["Timestamp"])
    seconds = None if at is None or at < 0 else str(at // fields.SECOND_US)
    verify.check_timestamp(seconds, now, tolerance_s)
    signature = envelope.get("Signature")
    verify.given(signature if isinstance(signature, str) else None)
    url = certificate_url(envelope.get("SigningCertURL"))
    if url not in certificates:
        raise NeedsCertificate(url)
    try:
        key = verify.certificate_public_key(certificates[url])
    except ValueError:
        raise SignatureError("bad_certificate") from None
    verify.check_rsa([key], signed, signature, algorithm)
