"""Temporary keys: a source like the operator's own, with keys made for one capture.

Invariants:
1. Nothing of the real keys is in the result, not even their length.
2. A key has the kind and the written form of the one that it stands for.
"""

import base64
import binascii
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

from ingest.renaming import Renamer
from ingest.verify import load_public_key
from schemas.settings import Source

SECRET_BYTES = 24
NAME = "captured"
"""Of the source in a capture: the operator's own may name a customer."""
SECRETS = ("signing_key", "secret", "username", "password", "token", "api_key")
_PREFIXES = ("whsec_", "whpk_")
_HEX = re.compile(r"(?:[0-9a-fA-F]{2}){8,}")


@dataclass(frozen=True, slots=True)
class Keys:
    """A source with temporary keys.

    Attributes:
        source: whose requests ``resigned`` signs.
        signing_key: private key (PEM), where the source only holds the public half.
        certificates: URL -> PEM, for Amazon SNS.
    """

    source: Source
    signing_key: str | None = None
    certificates: Mapping[str, bytes] = field(default_factory=dict)


def renewed(source: Source) -> Keys:
    """A source like ``source``, with keys of its own; its name and the rest are the same."""
    values: dict[str, Any] = {"allow_ips": (), "rate_per_s": None}
    for name in SECRETS:
        given = source.secrets(name)
        if given:
            values[name] = (_like(given[0]),)
    signing_key = None
    if source.public_key:
        signing_key, public = _pair_like(source.public_key[0])
        values["public_key"] = (public,)
    if source.topic_arns:
        signing_key = _pem(_rsa())
    return Keys(Source(**{**source.model_dump(), **values}), signing_key)


def temporary(source: Source, renamer: Renamer) -> Keys:
    """``renewed``, and what names its owner replaced."""
    keys = renewed(source)
    values: dict[str, Any] = {"name": NAME}
    if source.topic_arns:
        values["topic_arns"] = tuple(renamer.text(arn) for arn in source.topic_arns)
    if source.public_url:
        values["public_url"] = renamer.link(source.public_url)
    if source.account:
        values["account"] = renamer.word(source.account)
    return replace(keys, source=Source(**{**keys.source.model_dump(), **values}))


def _like(secret: str) -> str:
    """A random secret, written like another one."""
    prefix = next((one for one in _PREFIXES if secret.startswith(one)), "")
    made = secrets.token_bytes(SECRET_BYTES)
    if prefix:
        return prefix + base64.b64encode(made).decode()
    if _HEX.fullmatch(secret):
        return made.hex()
    return base64.b64encode(made).decode() if _is_base64(secret) else secrets.token_urlsafe()


def _is_base64(text: str) -> bool:
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return False
    return True


def _pair_like(text: str) -> tuple[str, str]:
    """A private key in PEM and its public half, of the kind and in the form of ``text``."""
    prefix = next((one for one in _PREFIXES if text.startswith(one)), "")
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
    try:
        kind = load_public_key(text)
    except ValueError:
        key = ed25519.Ed25519PrivateKey.generate()
        return _pem(key), prefix + base64.b64encode(key.public_key().public_bytes_raw()).decode()
    key = _rsa() if isinstance(kind, rsa.RSAPublicKey) else ec.generate_private_key(ec.SECP256R1())
    public = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return _pem(key), base64.b64encode(public).decode()


def _rsa() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65_537, key_size=2_048)


def _pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


def sns_certificate(signing_key: str, received_at: float) -> bytes:
    """A self-signed certificate as Amazon SNS has it, valid around the arrival of a request."""
    key = serialization.load_pem_private_key(signing_key.encode(), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sns.amazonaws.com")])
    day = 86_400
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime.fromtimestamp(received_at - 400 * day, UTC))
        .not_valid_after(datetime.fromtimestamp(received_at + 400 * day, UTC))
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
