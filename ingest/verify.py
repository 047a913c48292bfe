"""Signature primitives: checks that a request comes from a holder of the key.

Invariants:
1. Pure: the time and the keys are arguments. A check returns nothing or raises ``SignatureError``.
2. Comparisons take constant time, and every configured secret is tried.
3. An empty list of keys refuses every request.
4. A signature has one accepted spelling: encoded values are compared as texts, or must be
   canonical, so that every changed bit of a signature header is noticed. (Hexadecimal has two: all
   letters small, or all capitals.)

Sources: RFC 2104 (HMAC), RFC 7617 (Basic), SEC 1 and FIPS 186-5 (ECDSA), RFC 8017 §8.2
(RSASSA-PKCS1-v1_5), Standard Webhooks specification 1.0.0.
"""

import base64
import binascii
import contextlib
import hmac
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

CLOCK_SKEW_S = 300
"""How far, in seconds, a sender's clock may be ahead of ours."""
STANDARD_TOLERANCE_S = 300
"""Age in seconds at which Standard Webhooks (and Svix) ask to refuse a message."""

SIGNATURES_MAX = 16
"""Most signatures of one Standard Webhooks message; each may cost a public-key operation."""

_DIGITS = re.compile(r"[0-9]{1,16}", re.ASCII)
_P256 = ec.ECDSA(hashes.SHA256())
_PKCS1 = padding.PKCS1v15()


BAD_SIGNATURE = "bad_signature"
"""Code of a well-formed signature that does not match the body, and might match another one. All
other codes mean that something is missing or wrong whatever the body is."""


class SignatureError(Exception):
    """The caller is not proven to be the provider. ``code`` is for log and metrics only."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class NeedsCertificate(Exception):
    """The certificate at ``url`` (host already checked) is needed: fetch it and call again."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.url = url


def given(value: str | None, code: str = "missing_signature") -> str:
    """``value`` if there is one.

    Raises:
        SignatureError: with ``code``, when it is absent, empty, or was sent more than once.
    """
    if not value:
        raise SignatureError(code)
    return value


def same_as_any(value: str, accepted: Iterable[str]) -> bool:
    """Whether ``value`` is one of ``accepted``, in a time that depends on lengths only."""
    encoded = value.encode("utf-8", "surrogatepass")
    found = False
    for one in accepted:
        found |= hmac.compare_digest(encoded, one.encode("utf-8", "surrogatepass"))
    return found


# --- shared secrets ------------------------------------------------------------------------------


def hmac_hex(secret: str | bytes, message: bytes, algorithm: str = "sha256") -> str:
    """HMAC in lower-case hexadecimal."""
    key = secret.encode() if isinstance(secret, str) else secret
    return hmac.digest(key, message, algorithm).hex()


def hmac_base64(secret: str | bytes, message: bytes, algorithm: str = "sha256") -> str:
    """HMAC in base64."""
    key = secret.encode() if isinstance(secret, str) else secret
    return base64.b64encode(hmac.digest(key, message, algorithm)).decode()


def small_letters(hexadecimal: str) -> str:
    """Hexadecimal whose letters are all capitals in small letters; any other text unchanged."""
    return hexadecimal.lower() if hexadecimal.isupper() else hexadecimal


def check_hmac_hex(
    secrets: Sequence[str], message: bytes, signature: str | None, algorithm: str = "sha256"
) -> None:
    """Compares ``signature`` with the hexadecimal HMAC by each secret.

    All of its letters may be capitals, as some senders' libraries write them; mixed case is refused
    (invariant 4).

    Raises:
        SignatureError: none of them made it.
    """
    text = small_letters(given(signature))
    if not same_as_any(text, [hmac_hex(s, message, algorithm) for s in secrets if s]):
        raise SignatureError(BAD_SIGNATURE)


def check_hmac_base64(
    secrets: Sequence[str | bytes], message: bytes, signature: str | None, algorithm: str = "sha256"
) -> None:
    """Compares ``signature`` with the base64 HMAC by each secret.

    Raises:
        SignatureError: none of them made it.
    """
    text = given(signature)
    if not same_as_any(text, [hmac_base64(s, message, algorithm) for s in secrets if s]):
        raise SignatureError(BAD_SIGNATURE)


def check_token(tokens: Sequence[str], value: str | None) -> None:
    """Compares a fixed token with each accepted one.

    Raises:
        SignatureError: absent or wrong.
    """
    if not same_as_any(given(value, "missing_token"), [token for token in tokens if token]):
        raise SignatureError("bad_token")


def check_bearer(tokens: Sequence[str], authorization: str | None) -> None:
    """Compares an ``Authorization: Bearer`` header with each accepted token (RFC 6750).

    Raises:
        SignatureError: absent, another scheme, or wrong.
    """
    scheme, _, value = given(authorization, "missing_token").partition(" ")
    if scheme.lower() != "bearer":
        raise SignatureError("missing_token")
    check_token(tokens, value)


def basic_header(username: str, password: str) -> str:
    """Value of the ``Authorization`` header for a user and password (RFC 7617, UTF-8)."""
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


def check_basic(
    usernames: Sequence[str], passwords: Sequence[str], authorization: str | None
) -> None:
    """Compares an ``Authorization: Basic`` header with every user and every password.

    Raises:
        SignatureError: absent, another scheme, or wrong.
    """
    scheme, _, value = given(authorization, "missing_credentials").partition(" ")
    if scheme.lower() != "basic":
        raise SignatureError("missing_credentials")
    accepted = [
        basic_header(user, password).removeprefix("Basic ")
        for user in usernames
        for password in passwords
        if user and password
    ]
    if not same_as_any(value, accepted):
        raise SignatureError("bad_credentials")


# --- time ----------------------------------------------------------------------------------------


def check_timestamp(value: str | None, now: float, tolerance_s: int) -> None:
    """Refuses a signed time (whole seconds since 1970) that is too old or in the future.

    Args:
        now: seconds since 1970.
        tolerance_s: greatest age in seconds; 0 turns the check off.

    Raises:
        SignatureError: not a number, older than the tolerance, or ahead of ``now`` by more than
            ``CLOCK_SKEW_S`` (or the tolerance, when that is less).
    """
    text = given(value, "missing_timestamp")
    if not _DIGITS.fullmatch(text):
        raise SignatureError("bad_timestamp")
    if tolerance_s == 0:
        return
    age = now - int(text)
    if age > tolerance_s:
        raise SignatureError("stale_timestamp")
    if -age > min(CLOCK_SKEW_S, tolerance_s):
        raise SignatureError("future_timestamp")


# --- public keys ---------------------------------------------------------------------------------


def canonical_base64(text: str) -> bytes:
    """Decodes base64 in its canonical spelling.

    Raises:
        SignatureError: any other spelling.
    """
    try:
        decoded = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise SignatureError("bad_encoding") from None
    if base64.b64encode(decoded) != text.encode():
        raise SignatureError("bad_encoding")
    return decoded


@lru_cache(maxsize=1024)
def load_public_key(text: str) -> ec.EllipticCurvePublicKey | rsa.RSAPublicKey:
    """A public key from base64 SubjectPublicKeyInfo, with or without PEM armour.

    Raises:
        ValueError: it is none, or neither ECDSA on P-256 nor RSA.
    """
    bare = "".join(line for line in text.strip().splitlines() if not line.startswith("-----"))
    key = serialization.load_der_public_key(base64.b64decode("".join(bare.split())))
    if isinstance(key, rsa.RSAPublicKey):
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    raise ValueError("neither ECDSA on P-256 nor RSA")


def load_rsa_key(text: str) -> rsa.RSAPublicKey:
    """An RSA public key, as ``load_public_key`` reads it.

    Raises:
        ValueError: it is none.
    """
    key = load_public_key(text)
    if not isinstance(key, rsa.RSAPublicKey):
        raise ValueError("not RSA")
    return key


def check_ecdsa(public_keys: Sequence[str], message: bytes, signature: str | None) -> None:
    """Checks a base64 DER signature (P-256, SHA-256) by each key.

    Raises:
        SignatureError: none of the keys made it.
    """
    raw = canonical_base64(given(signature))
    for text in public_keys:
        try:
            key = load_public_key(text)
            if isinstance(key, ec.EllipticCurvePublicKey):
                key.verify(raw, message, _P256)
                return
        except (InvalidSignature, ValueError):
            continue
    raise SignatureError(BAD_SIGNATURE)


def check_rsa(
    keys: Sequence[rsa.RSAPublicKey], message: bytes, signature: str | None, algorithm: str
) -> None:
    """Checks a base64 RSASSA-PKCS1-v1_5 signature by each key.

    Args:
        algorithm: ``sha1`` (only where the provider has nothing better) or ``sha256``.

    Raises:
        SignatureError: none of the keys made it.
    """
    raw = canonical_base64(given(signature))
    digest: hashes.HashAlgorithm = hashes.SHA1() if algorithm == "sha1" else hashes.SHA256()
    for key in keys:
        try:
            key.verify(raw, message, _PKCS1, digest)
            return
        except InvalidSignature:
            continue
    raise SignatureError(BAD_SIGNATURE)


def rsa_keys(public_keys: Sequence[str]) -> list[rsa.RSAPublicKey]:
    """The RSA keys among configured public keys; values that do not parse are left out."""
    keys = []
    for text in public_keys:
        with contextlib.suppress(ValueError):
            keys.append(load_rsa_key(text))
    return keys


def sign_ecdsa(private_key_pem: str, message: bytes) -> str:
    """A base64 DER signature, for samples and tests.

    Raises:
        ValueError: not an ECDSA private key in PEM.
    """
    key = serialization.load_pem_private_key(private_key_pem.encode(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("not an ECDSA private key")
    return base64.b64encode(key.sign(message, _P256)).decode()


def sign_rsa(private_key_pem: str, message: bytes, algorithm: str) -> str:
    """A base64 RSASSA-PKCS1-v1_5 signature, for samples and tests.

    Raises:
        ValueError: not an RSA private key in PEM.
    """
    key = serialization.load_pem_private_key(private_key_pem.encode(), None)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise ValueError("not an RSA private key")
    digest: hashes.HashAlgorithm = hashes.SHA1() if algorithm == "sha1" else hashes.SHA256()
    return base64.b64encode(key.sign(message, _PKCS1, digest)).decode()


def sign_ed25519(private_key_pem: str, message: bytes) -> str:
    """An ed25519 signature in base64, for samples and tests.

    Raises:
        ValueError: not an ed25519 private key in PEM.
    """
    key = serialization.load_pem_private_key(private_key_pem.encode(), None)
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise ValueError("not an ed25519 private key")
    return base64.b64encode(key.sign(message)).decode()


# --- Standard Webhooks ---------------------------------------------------------------------------


def standard_key(secret: str) -> bytes:
    """The key bytes of a ``whsec_`` secret (the prefix may be missing).

    Raises:
        ValueError: what follows the prefix is not base64.
    """
    encoded = secret.removeprefix("whsec_")
    return base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)


def standard_signature(secret: str, message_id: str, timestamp: str, body: bytes) -> str:
    """One ``v1,…`` signature of a message."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + hmac_base64(standard_key(secret), signed)


def check_standard(
    secrets: Sequence[str],
    public_keys: Sequence[str],
    headers: tuple[str | None, str | None, str | None],
    body: bytes,
    now: float,
    tolerance_s: int,
) -> None:
    """Checks a Standard Webhooks message by every secret (``v1``) and ed25519 key (``v1a``).

    Args:
        public_keys: ``whpk_`` and 32 bytes in base64.
        headers: id, timestamp and signatures (separated by spaces).

    Raises:
        SignatureError: none of the signatures is made by any of the keys, or the time is off.
    """
    message_id = given(headers[0], "missing_id")
    timestamp = given(headers[1], "missing_timestamp")
    signatures = given(headers[2]).split(" ")
    if len(signatures) > SIGNATURES_MAX:
        raise SignatureError("too_many_signatures")
    if "." in message_id:
        raise SignatureError("bad_id")  # the separator: the signed text would be ambiguous
    check_timestamp(timestamp, now, tolerance_s)
    signed = f"{message_id}.{timestamp}.".encode("utf-8", "surrogatepass") + body
    accepted = []
    for secret in secrets:
        try:
            key = standard_key(secret)
        except ValueError:
            continue
        if key:
            accepted.append("v1," + hmac_base64(key, signed))
    if any([same_as_any(one, accepted) for one in signatures]):
        return
    if not any(_ed25519_ok(one, public_keys, signed) for one in signatures):
        raise SignatureError(BAD_SIGNATURE)


def _ed25519_ok(signature: str, public_keys: Sequence[str], signed: bytes) -> bool:
    version, _, encoded = signature.partition(",")
    if version != "v1a":
        return False
    for text in public_keys:
        try:
            key = ed25519.Ed25519PublicKey.from_public_bytes(
                base64.b64decode(text.removeprefix("whpk_"), validate=True)
            )
            key.verify(canonical_base64(encoded), signed)
            return True
        except (ValueError, InvalidSignature, SignatureError):
            continue
    return False
