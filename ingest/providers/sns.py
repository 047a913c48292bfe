"""Amazon SNS envelopes: proof that a message was published to one of our topics.

Invariants:
1. A signature proves only that some AWS topic sent the message, so its ARN must be configured.
2. The certificate comes from ``https://sns.<region>.amazonaws.com`` (``.com.cn`` in China) and a
   path ``/SimpleNotificationService-<hexadecimal>.pem``, nowhere else; a subscription is confirmed
   at the same hosts. No user, port or fragment. The shell fetches both.
3. An unsubscription is logged and never undone: visiting its ``SubscribeURL`` would subscribe again
   (django-ses issue 199).

Sources: Amazon SNS Developer Guide, «Verifying the signatures of Amazon SNS messages» and «Parsing
Amazon SNS message formats». Signature version 1 is RSA with SHA-1, version 2 with SHA-256. The
default tolerance covers SNS's retries (an hour at most) and a day of redriving from a queue. Names
of certificates: ``SnsHostProvider`` of the AWS SDK for Java 2. Regions are named as the AWS General
Reference lists them: area, perhaps ``gov``, direction, number. ``s3-us-west-2`` is not a
region, and hosts of the isolated partitions (``c2s.ic.gov`` and such) are not accepted.
"""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from ingest import verify
from ingest.providers import fields
from ingest.providers.base import Certificates
from ingest.signing_certificate import read_certificate
from ingest.verify import NeedsCertificate, SignatureError

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

_DIRECTION = "(?:north|south|east|west|central|northeast|northwest|southeast|southwest)"
_HOST = re.compile(
    rf"sns\.((?!cn-)[a-z]{{2}}(?:-gov)?-{_DIRECTION}-[1-9][0-9]?)\.(amazonaws\.com)"
    rf"|sns\.(cn-{_DIRECTION}-[1-9][0-9]?)\.(amazonaws\.com\.cn)",
    re.ASCII,
)
_PATH = re.compile(r"/SimpleNotificationService-[0-9a-f]{4,64}\.pem", re.ASCII)
_TOPIC_ARN = re.compile(
    r"arn:aws[a-z-]{0,16}:sns:[a-z0-9-]{1,32}:[0-9]{12}:[A-Za-z0-9_-]{1,256}(?:\.fifo)?", re.ASCII
)
_ALGORITHMS = {"1": "sha1", "2": "sha256"}


def region_of(host: str) -> tuple[str, str] | None:
    """Region and domain of an SNS host; ``None`` for any other host."""
    found = _HOST.fullmatch(host)
    if found is None:
        return None
    region, domain = found[1] or found[3], found[2] or found[4]
    return region, domain


def is_sns_host(url: str) -> bool:
    """Whether a URL is ``https`` on an SNS host, without user or port."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme == "https" and region_of(parts.netloc) is not None


def confirmation_url(envelope: Mapping[str, Any]) -> str | None:
    """The ``SubscribeURL`` of an envelope, if all it does is to confirm this subscription."""
    url = envelope.get("SubscribeURL")
    if not isinstance(url, str) or not url.isascii() or not is_sns_host(url):
        return None
    parts = urlsplit(url)
    wanted = [
        ("Action", "ConfirmSubscription"),
        ("Token", envelope.get("Token")),
        ("TopicArn", envelope.get("TopicArn")),
    ]
    if parts.path not in ("", "/") or parts.fragment or sorted(parse_qsl(parts.query)) != wanted:
        return None
    return url


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


def algorithm_of(envelope: Mapping[str, Any]) -> str:
    """The hash of an envelope's signature: ``sha1`` or ``sha256``.

    Raises:
        SignatureError: of no version that is known.
    """
    version = envelope.get("SignatureVersion")
    algorithm = _ALGORITHMS.get(version) if isinstance(version, str) else None
    if algorithm is None:
        raise SignatureError("unknown_signature_version")
    return algorithm


def check_topic_arn(text: str) -> None:
    """Refuses what is no ARN of a topic (SNS API reference, CreateTopic: names and ARNs).

    Raises:
        ValueError: it is none.
    """
    if not _TOPIC_ARN.fullmatch(text):
        raise ValueError


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
        NeedsCertificate: the certificate was not fetched yet.
    """
    topic = envelope.get("TopicArn")
    if not isinstance(topic, str) or not verify.same_as_any(topic, topic_arns):
        raise SignatureError("unknown_topic")
    signed = signed_text(envelope)
    algorithm = algorithm_of(envelope)
    at = fields.microseconds(envelope["Timestamp"])
    seconds = None if at is None or at < 0 else str(at // fields.SECOND_US)
    verify.check_timestamp(seconds, now, tolerance_s)
    signature = envelope.get("Signature")
    verify.given(signature if isinstance(signature, str) else None)
    url = certificate_url(envelope.get("SigningCertURL"))
    if url not in certificates:
        raise NeedsCertificate(url)
    verify.check_rsa([_signing_key(url, certificates[url], now)], signed, signature, algorithm)


def certificate_names(host: str) -> frozenset[str]:
    """Names of which the certificate of an SNS host has to contain one."""
    found = region_of(host)
    if found is None:
        return frozenset()
    region, domain = found
    names = [f"sns.{domain}", host, f"sns-signing.{region}.{domain}", f"sns-{region}.{domain}"]
    if region.startswith("us-gov-"):
        names.append(f"sns-us-gov-west-1.{domain}")
    return frozenset(names)


def _signing_key(url: str, pem: bytes, now: float) -> RSAPublicKey:
    """The key of the certificate at ``url``.

    Raises:
        SignatureError: it is not a certificate, not valid now, or not for SNS.
    """
    try:
        certificate = read_certificate(pem)
    except ValueError:
        raise SignatureError("bad_certificate") from None
    if not certificate.first_s <= now <= certificate.last_s:
        raise SignatureError("certificate_not_valid_now")
    if not certificate.names & certificate_names(urlsplit(url).netloc):
        raise SignatureError("certificate_of_another")
    return certificate.key
