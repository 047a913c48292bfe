"""Proves and decodes a request, and checks that its body has a shape that can be parsed.

Invariants:
1. Pure.
2. Every step that costs more than the proof comes after it. That includes decoding where the proof
   lies in a header alone, or is a signature over the bytes as received. If such a signature does
   not match, it may cover the decoded body; then, and where the proof lies in the body, decoding
   comes first. A request without a signature, or with a stale one, is never decoded.
3. The shape of a body is checked before anything parses it: before the proof where that lies in the
   body, else after it.
4. A test call, signed with a key that its provider has published, is answered but counts as
   unproven.
"""

from dataclasses import replace
from typing import NamedTuple

from ingest.body import BodyLimits, Refused, check_shape, decode_content
from ingest.providers.base import Certificates, Provider, Request
from ingest.verify import BAD_SIGNATURE, SignatureError
from schemas.settings import Source


class Proven(NamedTuple):
    """A request that may be parsed.

    Attributes:
        request: with its body decoded.
        by_anyone: whether anybody could have made it, see ``Provider.by_anyone``.
    """

    request: Request
    by_anyone: bool


def prove(
    provider: Provider,
    source: Source,
    request: Request,
    coding: str | None,
    limits: BodyLimits,
    now: float,
    certificates: Certificates,
) -> Proven:
    """The request with its body decoded, once it is proven to come from the provider.

    Args:
        request: as received.
        coding: of its body, as ``content_coding`` gives it.
        now: seconds since 1970.

    Raises:
        Refused: the body is over a limit, or does not decode by its coding.
        SignatureError, NeedsCertificate: as ``Provider.verify`` does.
    """
    in_body = provider.proof_in_body(request)
    proven = False
    signed = request
    if coding is not None:
        if not in_body:
            proven = _fits_as_it_came(provider, source, request, now, certificates)
        try:
            request = replace(request, body=decode_content(request.body, coding, limits))
        except Refused as refused:
            refused.proven = proven and not provider.by_anyone(signed)
            raise
    if in_body:
        check_shape(request.body, limits)
        provider.verify(request, source, now, certificates)
        provider.verify_content(request, source)
        return Proven(request, provider.by_anyone(request))
    if not proven:
        provider.verify(request, source, now, certificates)
        signed = request
    by_anyone = provider.by_anyone(signed)
    try:
        check_shape(request.body, limits)
    except Refused as refused:
        refused.proven = not by_anyone
        raise
    provider.verify_content(request, source)
    return Proven(request, by_anyone)


def _fits_as_it_came(
    provider: Provider, source: Source, request: Request, now: float, certificates: Certificates
) -> bool:
    """Whether the proof fits the body before it is decoded.

    Raises:
        SignatureError: it is missing, or wrong whatever the body is.
    """
    try:
        provider.verify(request, source, now, certificates)
    except SignatureError as error:
        if error.code != BAD_SIGNATURE:
            raise
        return False
    return True
