"""Sources to test with, and the keys that sign for them.

Invariants:
1. No key is written down: shared secrets come from a seed, key pairs are made at import.
2. ``example(provider, seed)`` gives the same keys for the same seed within a test run, and others
   for another seed.
3. A provider needs a line here only if it holds a public key (``PUBLIC_KEY_KINDS``) or something
   else that is not a plain secret (``EXTRA``).
"""

import base64
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

from ingest.providers import REGISTRY
from ingest.providers.ses import sample_certificate_url
from schemas.settings import Source

PUBLIC_KEY_KINDS: dict[str, str] = {
    "sendgrid": "ecdsa",
    "postal": "rsa",
    "preset:mailpace": "ed25519",
}
"""Provider -> kind of the key pair whose public half its source holds."""

STANDARD_SECRETS = ("resend", "loops", "standard_webhooks")
"""Providers whose secret is ``whsec_`` and base64."""


@dataclass(frozen=True)
class Example:
    """A configured source, with what is needed to sign for it.

    Attributes:
        source: as ``mailpulse.toml`` would give it.
        signing_key: private key in PEM, where the source holds only the public half.
        certificates: what the shell would have fetched.
    """

    source: Source
    signing_key: str | None = None
    certificates: dict[str, bytes] = field(default_factory=dict)


def secret(label: str, seed: int) -> str:
    """32 characters that depend on both arguments."""
    return hashlib.sha256(f"{label}/{seed}".encode()).hexdigest()[:32]


def whsec(label: str, seed: int) -> str:
    """A Standard Webhooks secret that depends on both arguments."""
    return "whsec_" + base64.b64encode(secret(label, seed).encode()).decode()


@cache
def key_pair(kind: str, seed: int) -> tuple[str, str]:
    """``(private key in PEM, public key in base64)`` of kind ``ecdsa``, ``rsa`` or ``ed25519``.

    The public key is SPKI, of ``ed25519`` its 32 bytes.
    """
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
    if kind == "ecdsa":
        key = ec.generate_private_key(ec.SECP256R1())
    elif kind == "ed25519":
        key = ed25519.Ed25519PrivateKey.generate()
    else:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()
    if isinstance(key, ed25519.Ed25519PrivateKey):
        public = key.public_key().public_bytes_raw()
    else:
        public = key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    return private, base64.b64encode(public).decode()


@cache
def certificate(
    seed: int,
    common: str = "sns.amazonaws.com",
    names: tuple[str, ...] = (),
    first: datetime = datetime(2020, 1, 1, tzinfo=UTC),
    last: datetime = datetime(2120, 1, 1, tzinfo=UTC),
) -> bytes:
    """A self-signed PEM certificate for the RSA key pair of that seed; ``names``: its DNS names."""
    key = serialization.load_pem_private_key(key_pair("rsa", seed)[0].encode(), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(seed + 1)
        .not_valid_before(first)
        .not_valid_after(last)
    )
    if names:
        alternative = x509.SubjectAlternativeName([x509.DNSName(one) for one in names])
        builder = builder.add_extension(alternative, critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _ses(seed: int) -> dict[str, Any]:
    private, _ = key_pair("rsa", seed)
    return {
        "topic_arns": ("arn:aws:sns:us-east-1:123456789012:mail-events",),
        "signing_key": private,
        "certificates": {sample_certificate_url(private): certificate(seed)},
    }


EXTRA: dict[str, Callable[[int], dict[str, Any]]] = {"ses": _ses}
"""Provider -> further fields of its source and of the example, by seed."""


def example(provider_name: str, seed: int = 0, **overrides: Any) -> Example:
    """A source of that provider with every field it requires (the first of each ``a|b``)."""
    provider = REGISTRY[provider_name]
    values: dict[str, Any] = {"name": provider_name.replace(":", "-"), "provider": provider_name}
    signing_key = None
    for wanted in provider.required:
        name = wanted.split("|", maxsplit=1)[0]
        if name == "public_key":
            signing_key, public = key_pair(PUBLIC_KEY_KINDS[provider_name], seed)
            values[name] = (public,)
        elif name == "public_url":
            values[name] = f"https://hooks.example.com/hooks/{provider_name}"
        elif name == "secret" and provider_name == "preset:sweego":  # a key in base64
            values[name] = (whsec(provider_name, seed).removeprefix("whsec_"),)
        elif name == "secret" and provider_name in STANDARD_SECRETS:
            values[name] = (whsec(provider_name, seed),)
        else:
            values[name] = (secret(f"{provider_name}/{name}", seed),)
    certificates: dict[str, bytes] = {}
    if provider_name in EXTRA:
        extra = EXTRA[provider_name](seed)
        signing_key = extra.pop("signing_key", signing_key)
        certificates = extra.pop("certificates", certificates)
        values |= extra
    return Example(Source(**values | overrides), signing_key, certificates)


def rotated(provider_name: str) -> tuple[Example, Example]:
    """Two examples: one that accepts a new and an old key, and one that only has the old."""
    new, old = example(provider_name, 1), example(provider_name, 0)
    both = {
        name: getattr(new.source, name) + getattr(old.source, name)
        for wanted in REGISTRY[provider_name].required
        for name in [wanted.split("|", maxsplit=1)[0]]
        if name not in ("public_url", "topic_arns")
    }
    merged = new.source.model_copy(update=both)
    return Example(merged, new.signing_key, {**old.certificates, **new.certificates}), old
