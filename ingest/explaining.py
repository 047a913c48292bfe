"""Why a captured request is refused or accepted, for the operator at the terminal.

Invariants:
1. Pure. Nothing here says a secret, a signature or a body: only names of headers, lengths, ages.
2. A cause is given as certain only where it was tried: with the key of another source, with another
   line end, or at another time, the proof fits. The rest is named as usual causes.
"""

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import replace

from ingest.providers.base import Certificates, Provider, Request
from ingest.verify import BAD_SIGNATURE, CLOCK_SKEW_S, NeedsCertificate, SignatureError
from schemas.errors import BadInput
from schemas.settings import Source

TIME_DIGITS = range(10, 17)
"""Digits of a Unix time in a header, in seconds to microseconds."""

_USUAL = {
    "missing_credentials": "the URL at the provider has no user and password, or a proxy drops the "
    "header Authorization",
    "bad_credentials": "the user or the password at the provider is another one",
    "missing_token": "the URL or the header at the provider has no token",
    "bad_token": "the token at the provider is another one",
    "bad_format": "the header is not written as mapping.signature.format says",
    "bad_encoding": "the signature was cut, or copied with blanks",
    "bad_timestamp": "the time is not in the unit that is expected",
    "topic_not_allowed": "topic_arns of the source does not have this topic",
}


def explain(
    provider: Provider,
    source: Source,
    request: Request,
    code: str,
    now: float,
    certificates: Certificates,
    others: Iterable[Source] = (),
) -> list[str]:
    """Lines that say what was expected, what is there, and what usually causes the difference.

    Args:
        request: that was refused, its body as received.
        code: of the ``SignatureError``.
        now: seconds since 1970: the time that it was judged at.
        others: sources whose keys are tried too; those of other providers are left out.
    """
    lines = [*_proof(provider, source), *_headers(provider, source, request, now)]
    if found := _key_of_another(provider, source, request, now, certificates, others):
        return [*lines, found]
    if code in ("stale_timestamp", "future_timestamp"):
        return lines + _age(provider, source, request, now, certificates)
    if code in _USUAL:
        return [*lines, f"usual cause: {_USUAL[code]}"]
    if code == BAD_SIGNATURE:
        lines.append(f"what was signed had to match this body of {len(request.body)} bytes")
        found = _fits_otherwise(provider, source, request, now, certificates)
        return [*lines, *([found] if found else _usual_of_a_signature(provider))]
    return lines


def proven(provider: Provider, source: Source, request: Request, now: float) -> list[str]:
    """Lines that say by what an accepted request was proven, and how old it was.

    Args:
        now: seconds since 1970: the time that it was judged at.
    """
    ages = _ages(request, now)
    limit = [_limit(provider, source)] if ages else []
    return [*_proof(provider, source), *_headers(provider, source, request, now), *ages, *limit]


def _proof(provider: Provider, source: Source) -> list[str]:
    lines = [f"how it is proven: {provider.verification}; covered: {provider.signs}"]
    signed = provider.what_is_signed(source)
    return [*lines, *([f"what is signed: {signed}"] if signed else [])]


def _key_of_another(
    provider: Provider,
    source: Source,
    request: Request,
    now: float,
    certificates: Certificates,
    others: Iterable[Source],
) -> str:
    """The source whose key proves the request; empty if none does."""
    for other in others:
        alike = other.provider == source.provider and other.name != source.name
        if alike and not other.unset and _fits(provider, other, request, now, certificates):
            return (
                f"cause: it fits the key of the source {other.name}: the provider posts it to the"
                f" hook of {source.name}, or the keys of the two are swapped"
            )
    return ""


def _headers(provider: Provider, source: Source, request: Request, now: float) -> list[str]:
    """Headers that such a request has, by the provider's own sample, and which are missing."""
    with contextlib.suppress(BadInput, ValueError):
        names = [name for name, _ in provider.sample(source, now, 1).headers]
        wanted = [name for name in names if name != "content-type"]
        given = [name for name, _ in request.headers]
        lines = [f"headers of such a request: {', '.join(wanted)}"] if wanted else []
        missing = [name for name in wanted if name not in given]
        twice = sorted({name for name in wanted if given.count(name) > 1})
        lines += [f"not there: {', '.join(missing)}"] if missing else []
        return lines + ([f"given more than once: {', '.join(twice)}"] if twice else [])
    return []


def _age(
    provider: Provider, source: Source, request: Request, now: float, certificates: Certificates
) -> list[str]:
    """How old the signed time is, against which limit."""
    lines = [*_ages(request, now), _limit(provider, source)]
    ageless = source.model_copy(update={"tolerance_s": 0})
    if _fits(provider, ageless, request, now, certificates):
        lines.append(
            "apart from its age it is right: give the time of its arrival with --now; if it came "
            "just now, a clock is wrong ('mailpulse doctor')"
        )
    return lines


def _ages(request: Request, now: float) -> list[str]:
    lines = []
    for name, value in request.headers:
        digits = value.strip()
        if digits.isascii() and digits.isdigit() and len(digits) in TIME_DIGITS:
            at = int(digits) / 10 ** (3 * ((len(digits) - 10) // 3))
            lines.append(f"age by {name}: {now - at:.0f} s")
    return lines


def _limit(provider: Provider, source: Source) -> str:
    return (
        f"limit: {provider.tolerance(source)} s old, {CLOCK_SKEW_S} s ahead (tolerance_s of the "
        "source, or the provider's own)"
    )


def _fits(
    provider: Provider, source: Source, request: Request, now: float, certificates: Certificates
) -> bool:
    try:
        provider.verify(request, source, now, certificates)
        provider.verify_content(request, source)
    except (SignatureError, NeedsCertificate):
        return False
    return True


def _others(body: bytes) -> Iterator[tuple[str, bytes]]:
    """What usually happens to a body on its way into a file."""
    yield "with a line end (LF) after it: the file has lost it", body + b"\n"
    yield "with a line end (CRLF) after it: the file has lost it", body + b"\r\n"
    yield "without the line end after it: an editor has added it", body.rstrip(b"\r\n")
    yield "with CRLF in place of LF: line ends were rewritten", body.replace(b"\n", b"\r\n")
    yield "with LF in place of CRLF: line ends were rewritten", body.replace(b"\r\n", b"\n")
    yield "without the byte order mark before it", body.removeprefix(b"\xef\xbb\xbf")


def _fits_otherwise(
    provider: Provider, source: Source, request: Request, now: float, certificates: Certificates
) -> str:
    """The change of the body with which its proof fits; empty if none does."""
    for change, body in _others(request.body):
        changed = replace(request, body=body)
        if body != request.body and _fits(provider, source, changed, now, certificates):
            return f"cause: it fits {change}"
    return ""


def _usual_of_a_signature(provider: Provider) -> list[str]:
    causes = ["this is the key of another webhook, account or environment"]
    if provider.signs == "raw body":
        causes.append(
            "the body was changed by a proxy or written again by a JSON library: save it byte for "
            "byte"
        )
    if "public_url" in provider.required:
        causes.append("public_url is not, to the letter, the URL as given to the provider")
    return [f"usual cause: {cause}" for cause in causes]
