"""How a sender without a module proves its requests: settings, check, and signing of samples.

In ``mailpulse.toml``, by what the source has:

- ``secret``: an HMAC, described by ``mapping.signature``:

    [sources.crm.mapping.signature]
    header = "x-acme-signature"            # default: x-webhook-signature
    format = "t={timestamp},v1={signature}"   # of the header; default: the signature alone
    signed = "{timestamp}.{body}"          # also {header:NAME} and {url}, which is public_url
    timestamp_header = "x-acme-time"       # default: x-webhook-timestamp
    timestamp_unit = "s"                   # s, ms or iso
    encoding = "hex"                       # hex, base64 or base64url
    algorithm = "sha256"                   # sha256, sha512, sha1, or ed25519 with public_key
    key = "text"                           # how the secret is written: text, base64 or hex

- ``token``: a fixed token; ``mapping.token`` says where: ``bearer`` (the default), ``header:NAME``,
  ``query:NAME``, or ``path`` for ``/hooks/SOURCE/TOKEN``.
- ``username`` and ``password``: Basic.

Invariants:
1. Whatever of the three a source has, a request must prove all of it; without any, all are refused.
2. A time that is signed is required and checked; one that is not signed is not looked at. Only
   without ``signed`` and ``format`` may the sender leave the time out; then the body may not begin
   with a digit, otherwise a request with a timestamp could be replayed without it, with the
   timestamp moved into the body.
3. A source's own ``signed`` has text between its parts, or parts that end by themselves
   (``ambiguities``).
4. In a ``format`` of pairs, the separator and fixed values must be as written, further names are
   ignored, and one good signature of several is enough (rotation at the sender).

Sources: RFC 2104 (HMAC), RFC 7617 (Basic), RFC 6750 (bearer tokens).
"""

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ed25519

from ingest import verify
from ingest.providers import credentials, fields
from ingest.providers.base import (
    Request,
    given_values,
    newest,
    private_key,
    unreadable,
    with_headers,
    with_parameter,
)
from ingest.providers.mapping import in_query
from ingest.providers.signed_template import PART, ambiguities
from ingest.verify import SignatureError
from schemas.settings import Source

DEFAULTS = {
    "header": "x-webhook-signature",
    "format": "",
    "signed": "",
    "timestamp_header": "x-webhook-timestamp",
    "timestamp_unit": "s",
    "encoding": "hex",
    "algorithm": "sha256",
    "key": "text",
}
ED25519 = "ed25519"
CHOICES = {
    "timestamp_unit": ("s", "ms", "iso"),
    "encoding": ("hex", "base64", "base64url"),
    "algorithm": ("sha256", "sha512", "sha1", ED25519),
    "key": ("text", "base64", "hex"),
}

_SEPARATOR = re.compile(r"[,;] ?")
_PLACE = re.compile(r"bearer|path|(?:header|query):[A-Za-z0-9_.-]+")


@dataclass(frozen=True, slots=True)
class Signing:
    """Settings of a signature, see the module."""

    header: str
    format: str
    signed: str
    timestamp_header: str
    timestamp_unit: str
    encoding: str
    algorithm: str
    key: str

    @property
    def pairs(self) -> bool:
        """Whether the header holds several names with values."""
        return "{timestamp}" in self.format or bool(re.search(r"[,;] ?[\w-]+=", self.format))

    @property
    def optional_time(self) -> bool:
        """Whether a sender may leave the time out (invariant 2)."""
        return not self.signed and "{timestamp}" not in self.format

    @property
    def parts(self) -> str:
        """What is signed, as a template."""
        return self.signed or "{timestamp}.{body}"


def read_signing(raw: object) -> tuple[Signing, list[str]]:
    """The settings of ``mapping.signature`` and their problems; a bad entry keeps its default."""
    given = {} if raw is None else raw
    if not isinstance(given, dict):
        return Signing(**DEFAULTS), ["signature: a table is expected"]
    values, problems = dict(DEFAULTS), []
    for key, value in given.items():
        wanted = _wanted(key, value)
        if wanted:
            problems.append(f"signature.{key}: {wanted}")
        else:
            values[key] = value.lower() if key.endswith("header") else value
    return Signing(**values), problems


def _wanted(key: str, value: object) -> str:
    """What is expected in place of a setting's value; empty if it is right."""
    if key not in DEFAULTS:
        return f"one of {', '.join(DEFAULTS)} is expected"
    if not isinstance(value, str) or not value:
        return "a text is expected"
    if key in CHOICES and value not in CHOICES[key]:
        return f"one of {', '.join(CHOICES[key])} is expected"
    if key == "format" and value.count("{signature}") != 1:
        return "a text with {signature} in it is expected, such as t={timestamp},v1={signature}"
    if key == "signed":
        rest = PART.sub("", value)
        if not PART.search(value) or "{" in rest or "}" in rest:
            return (
                "a text of {body}, {timestamp}, {url}, {header:NAME} and what stands between them "
                "is expected, such as {timestamp}.{body}"
            )
    return ""


def problems_of(source: Source, mapping: Mapping[str, Any], tolerance_s: int) -> list[str]:
    """Problems of a source's proof: one line each, beginning with the key under ``mapping``.

    Args:
        tolerance_s: greatest age of a signed time, in seconds; 0: any.
    """
    how, problems = read_signing(mapping.get("signature"))
    place = mapping.get("token")
    if place is not None and not (isinstance(place, str) and _PLACE.fullmatch(place)):
        problems.append("token: bearer, path, header:NAME or query:NAME is expected")
    if "{url}" in how.signed and not source.public_url:
        problems.append("signature.signed: {url} needs public_url, the URL as given to the sender")
    if source.tolerance_s and "{timestamp}" not in how.parts:
        problems.append("signature.signed: has no {timestamp}, so tolerance_s can't be kept")
    if how.algorithm == ED25519:
        if not given_values(source, "public_key"):
            problems.append("signature.algorithm: ed25519 needs public_key")
        lines = unreadable(source, "public_key", public_key, "is no ed25519 key in base64")
        problems += [f"signature.algorithm: {line}" for line in lines]
    if source.mapping.get("signature"):  # a preset's own recipe is the sender's, see its sources
        counted = how.timestamp_unit != "iso" and tolerance_s > 0
        problems += [f"signature.signed: {one}" for one in ambiguities(how.parts, counted)]
    for secret in source.secrets("secret"):
        try:
            _key(secret, how.key)
        except ValueError:
            problems.append(f"signature.key: a secret of the source is not written in {how.key}")
    return problems


def _key(secret: str, how: str) -> bytes:
    """The key that a secret stands for.

    Raises:
        ValueError: it is not written that way.
    """
    if how == "hex":
        return bytes.fromhex(secret)
    if how == "base64":
        try:
            return base64.b64decode(secret, validate=True)
        except binascii.Error as error:
            raise ValueError(str(error)) from None
    return secret.encode()


def public_key(text: str) -> ed25519.Ed25519PublicKey:
    """An ed25519 key of 32 bytes in base64.

    Raises:
        ValueError: it is none.
    """
    return ed25519.Ed25519PublicKey.from_public_bytes(base64.b64decode(text, validate=True))


# --- the check -----------------------------------------------------------------------------------


def check(
    request: Request, source: Source, mapping: Mapping[str, Any], now: float, tolerance_s: int
) -> None:
    """Checks everything that the source has (invariant 1).

    Raises:
        SignatureError: not proven.
    """
    nothing = True
    if given_values(source, "username"):
        value = verify.given(request.header(credentials.AUTHORIZATION), "missing_credentials")
        verify.check_basic(source.secrets("username"), source.secrets("password"), value)
        nothing = False
    if given_values(source, "token"):
        _check_token(request, source, str(mapping.get("token") or "bearer"))
        nothing = False
    how = read_signing(mapping.get("signature"))[0]
    by_key = how.algorithm == ED25519
    if given_values(source, "secret") or by_key or nothing:
        _check_signature(request, source, how, now, tolerance_s)


def _check_token(request: Request, source: Source, place: str) -> None:
    tokens = source.secrets("token")
    kind, _, name = place.partition(":")
    if kind == "header":
        return verify.check_token(tokens, request.header(name.lower()))
    if kind == "query":
        return verify.check_token(tokens, in_query(request, name))
    if kind == "path":
        return verify.check_token(tokens, request.path)
    value = verify.given(request.header(credentials.AUTHORIZATION), "missing_credentials")
    return verify.check_bearer(tokens, value)


def _check_signature(
    request: Request, source: Source, how: Signing, now: float, tolerance_s: int
) -> None:
    value = verify.given(request.header(how.header))
    timestamp, signatures = _taken_apart(value, how)
    if timestamp is None and "{timestamp}" in how.parts:
        timestamp = request.header(how.timestamp_header)
    if timestamp is None and how.optional_time:
        if any(name == how.timestamp_header for name, _ in request.headers) or source.tolerance_s:
            raise SignatureError("missing_timestamp")
        if request.body[:1].isdigit():
            raise SignatureError(verify.BAD_SIGNATURE)
        signed = request.body
    else:
        if "{timestamp}" in how.parts:
            _check_time(timestamp, how.timestamp_unit, now, tolerance_s)
        signed = signed_bytes(request, source, how, timestamp or "")
    if how.algorithm == ED25519:
        if not any([_made_by_key(one, source, signed) for one in signatures]):
            raise SignatureError(verify.BAD_SIGNATURE)
        return
    keys = []
    for secret in source.secrets("secret"):
        try:
            keys.append(_key(secret, how.key))
        except ValueError:
            continue  # ``problems_of`` tells
    accepted = [_signature(key, signed, how) for key in keys if key]
    if not any([verify.same_as_any(_as_written(one, how), accepted) for one in signatures]):
        raise SignatureError(verify.BAD_SIGNATURE)


def _made_by_key(signature: str, source: Source, signed: bytes) -> bool:
    """Whether one of the source's public keys made a signature in base64."""
    for text in source.public_key:
        try:
            public_key(text).verify(verify.canonical_base64(signature), signed)
            return True
        except (ValueError, InvalidSignature, SignatureError):
            continue
    return False


def _taken_apart(value: str, how: Signing) -> tuple[str | None, list[str]]:
    """Timestamp and signatures of the signature header.

    Raises:
        SignatureError: it does not have the format.
    """
    if not how.format:
        return None, [value.removeprefix(f"{how.algorithm}=")]
    if not how.pairs:
        before, _, after = how.format.partition("{signature}")
        if not (value.startswith(before) and value.endswith(after)):
            raise SignatureError("bad_format")
        return None, [value[len(before) : len(value) - len(after)]]
    return _from_pairs(value, how.format)


def _from_pairs(value: str, written: str) -> tuple[str | None, list[str]]:
    """Timestamp and signatures of a header of pairs (invariant 4).

    Raises:
        SignatureError: it does not have the format.
    """
    found = _SEPARATOR.search(written)
    separator = found.group() if found else ","
    given: dict[str, list[str]] = {}
    for pair in value.split(separator):
        name, sign, content = pair.partition("=")
        if not sign or not name:
            raise SignatureError("bad_format")
        given.setdefault(name, []).append(content)
    timestamp, signatures = None, []
    for pair in written.split(separator):
        name, _, wanted = pair.partition("=")
        contents = given.get(name, [])
        if wanted == "{signature}":
            signatures = contents
        elif len(contents) != 1 or wanted not in ("{timestamp}", contents[0]):
            raise SignatureError("bad_format")
        elif wanted == "{timestamp}":
            timestamp = contents[0]
    if not 0 < len(signatures) <= verify.SIGNATURES_MAX:
        raise SignatureError("bad_format")
    return timestamp, signatures


def _check_time(timestamp: str | None, unit: str, now: float, tolerance_s: int) -> None:
    text = verify.given(timestamp, "missing_timestamp")
    if unit == "ms" and text.isascii() and text.isdigit() and len(text) > 3:
        text = text[:-3]
    elif unit == "iso":
        moment = fields.microseconds(text)
        if moment is None or moment < 0:
            raise SignatureError("bad_timestamp")
        text = str(moment // fields.SECOND_US)
    verify.check_timestamp(text, now, tolerance_s)


def signed_bytes(request: Request, source: Source, how: Signing, timestamp: str) -> bytes:
    """The bytes that a request's signature covers.

    Raises:
        SignatureError: a header of the template is missing.
    """
    signed = b""
    for number, part in enumerate(PART.split(how.parts)):
        if number % 2 == 0:
            signed += part.encode()
        elif part == "body":
            signed += request.body
        elif part == "timestamp":
            signed += timestamp.encode("utf-8", "surrogatepass")
        elif part == "url":
            signed += source.public_url.encode()
        else:
            value = verify.given(request.header(part.partition(":")[2].lower()), "missing_header")
            signed += value.encode("latin-1", "replace")
    return signed


def _signature(key: bytes, signed: bytes, how: Signing) -> str:
    if how.encoding == "hex":
        return verify.hmac_hex(key, signed, how.algorithm)
    made = verify.hmac_base64(key, signed, how.algorithm)
    if how.encoding == "base64url":  # RFC 4648 §5, as JSON Web Signatures have it
        return made.replace("+", "-").replace("/", "_").rstrip("=")
    return made


def _as_written(signature: str, how: Signing) -> str:
    """The one spelling that is compared.

    Hexadecimal in capitals becomes small, see ``ingest.verify``. The padding of base64url goes:
    some senders leave it out (RFC 4648 §3.2, RFC 7515 §2).
    """
    if how.encoding == "base64url":
        bare = signature.rstrip("=")
        return bare if signature == bare + "=" * (-len(bare) % 4) else signature
    return verify.small_letters(signature) if how.encoding == "hex" else signature


# --- samples -------------------------------------------------------------------------------------


def proven(
    request: Request,
    source: Source,
    mapping: Mapping[str, Any],
    now: float,
    signing_key: str | None = None,
) -> Request:
    """A sample with everything that proves it, by the newest secrets of the source.

    Args:
        signing_key: private key (PEM), where the source only holds the public half.

    Raises:
        BadInput: ``not_configured``: the source has nothing to prove it with;
            ``needs_private_key``.
    """
    if given_values(source, "username"):
        value = verify.basic_header(newest(source, "username"), newest(source, "password"))
        request = _with(request, credentials.AUTHORIZATION, value)
    if given_values(source, "token"):
        request = _with_token(request, newest(source, "token"), str(mapping.get("token", "bearer")))
    how = read_signing(mapping.get("signature"))[0]
    others = given_values(source, "username") or given_values(source, "token")
    if given_values(source, "secret") or how.algorithm == ED25519 or not others:
        request = _signed(request, source, how, now, signing_key)
    return request


def proven_again(
    request: Request, source: Source, mapping: Mapping[str, Any], signing_key: str | None = None
) -> Request:
    """A changed request with everything that proves it made anew; its time stays.

    Raises:
        BadInput: as ``proven`` does.
        SignatureError: what its signature has to cover is missing.
    """
    if given_values(source, "username"):
        value = verify.basic_header(newest(source, "username"), newest(source, "password"))
        request = with_headers(request, (credentials.AUTHORIZATION, value))
    if given_values(source, "token"):
        place = str(mapping.get("token", "bearer"))
        kind, _, name = place.partition(":")
        if kind == "query":
            request = with_parameter(request, name, newest(source, "token"))
        else:
            header = name.lower() if kind == "header" else credentials.AUTHORIZATION
            request = _without(request, header if kind != "path" else "")
            request = _with_token(request, newest(source, "token"), place)
    how = read_signing(mapping.get("signature"))[0]
    others = given_values(source, "username") or given_values(source, "token")
    if not (given_values(source, "secret") or how.algorithm == ED25519 or not others):
        return request
    timestamp, _ = _taken_apart(verify.given(request.header(how.header)), how)
    if timestamp is None and "{timestamp}" in how.parts:
        timestamp = request.header(how.timestamp_header)
    if timestamp is None and how.optional_time:
        signed = request.body
    else:
        signed = signed_bytes(request, source, how, timestamp or "")
    made = _made(source, how, signed, signing_key)
    written = how.format or f"{how.algorithm}={{signature}}"
    value = written.replace("{timestamp}", timestamp or "").replace("{signature}", made)
    return with_headers(request, (how.header, value))


def _without(request: Request, name: str) -> Request:
    return replace(request, headers=tuple(one for one in request.headers if one[0] != name))


def _made(source: Source, how: Signing, signed: bytes, signing_key: str | None) -> str:
    """A signature over some bytes, by the source's newest key."""
    if how.algorithm == ED25519:
        return verify.sign_ed25519(private_key(signing_key), signed)
    return _signature(_key(newest(source, "secret"), how.key), signed, how)


def _with(request: Request, name: str, value: str) -> Request:
    return replace(request, headers=(*request.headers, (name, value)))


def _with_token(request: Request, token: str, place: str) -> Request:
    kind, _, name = place.partition(":")
    if kind == "header":
        return _with(request, name.lower(), token)
    if kind == "query":
        pair = f"{quote(name)}={quote(token, safe='')}"
        return replace(request, query=f"{request.query}&{pair}" if request.query else pair)
    if kind == "path":
        return replace(request, path=token)
    return _with(request, credentials.AUTHORIZATION, f"Bearer {token}")


def _signed(
    request: Request, source: Source, how: Signing, now: float, signing_key: str | None
) -> Request:
    timestamp = {"ms": str(int(now * 1000)), "iso": fields.iso(int(now))}.get(
        how.timestamp_unit, str(int(now))
    )
    for name in re.findall(r"\{header:([A-Za-z0-9-]+)\}", how.signed):
        if request.header(name.lower()) is None and name.lower() != how.timestamp_header:
            request = _with(request, name.lower(), f"sample-{int(now)}")
    in_header = "{timestamp}" in how.format
    timed = how.optional_time or f"{{header:{how.timestamp_header}}}" in how.signed.lower()
    if not in_header and (timed or "{timestamp}" in how.parts):
        request = _with(request, how.timestamp_header, timestamp)
    signed = signed_bytes(request, source, how, timestamp)
    signature = _made(source, how, signed, signing_key)
    written = how.format or f"{how.algorithm}={{signature}}"
    value = written.replace("{timestamp}", timestamp).replace("{signature}", signature)
    return _with(request, how.header, value)
