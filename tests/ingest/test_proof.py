"""What comes first: the proof, or what a body costs before it can be looked at."""

import gzip
import zlib
from collections.abc import Callable
from dataclasses import replace

import brotli
import pytest
from pydantic import SecretStr

from ingest import verify
from ingest.body import BodyLimits, Refused
from ingest.proof import prove
from ingest.providers import REGISTRY
from ingest.providers.base import Request
from ingest.verify import SignatureError
from tests.ingest.keys import Example, example
from tests.ingest.provider_suite import NOW, proof_headers, with_header

LIMITS = BodyLimits(1_000_000, 100, 64, 10_000)
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress, "deflate": zlib.compress, "br": brotli.compress,
}  # fmt: skip
POSTING = [name for name in sorted(REGISTRY) if name != "elastic_email"]
BY_HEADER = [name for name in POSTING if not REGISTRY[name].reads_body]
"""Providers whose proof lies outside the body: over it, or apart from it."""


def sample(name: str) -> tuple[Example, Request]:
    """A signed request of the provider."""
    one = example(name)
    return one, REGISTRY[name].sample(one.source, NOW, 1, one.signing_key)


def proven(name: str, one: Example, request: Request, coding: str | None) -> Request:
    """See ``prove``."""
    found = prove(REGISTRY[name], one.source, request, coding, LIMITS, NOW, one.certificates)
    assert not found.by_anyone
    return found.request


@pytest.mark.parametrize("coding", PACKERS)
@pytest.mark.parametrize("name", POSTING)
def test_a_body_that_was_packed_after_it_was_signed_is_proven(name: str, coding: str) -> None:
    """As an HTTP library does it, below what signs; for every provider and coding."""
    one, request = sample(name)
    packed = replace(request, body=PACKERS[coding](request.body))
    assert proven(name, one, packed, coding) == request


@pytest.mark.parametrize("coding", PACKERS)
def test_a_body_that_was_signed_after_it_was_packed_is_proven(coding: str) -> None:
    """The bytes on the wire are signed bytes too."""
    one = example("generic")
    body = PACKERS[coding](b'{"event": "delivered"}')
    for timestamp in ((), (("x-webhook-timestamp", str(NOW)),)):
        signed = b"".join(value.encode() + b"." for _, value in timestamp) + body
        made = verify.hmac_hex(one.source.secrets("secret")[0], signed)
        headers = (("x-webhook-signature", f"sha256={made}"), *timestamp)
        source = one.source.model_copy(update={"tolerance_s": None})
        request = Request("POST", "", headers, body, "")
        assert proven("generic", replace(one, source=source), request, coding).body[:1] == b"{"


@pytest.mark.parametrize("name", BY_HEADER)
def test_who_shows_no_proof_has_nothing_decoded(name: str) -> None:
    """Refused for the proof, though the body is not even of its coding."""
    one, request = sample(name)
    broken = replace(request, body=b"no gzip")
    headers = [one for one in proof_headers(request) if one != "x-webhook-timestamp"]  # optional
    for header in headers:
        with pytest.raises(SignatureError):
            proven(name, one, with_header(broken, header, None), "gzip")


def test_a_stale_signature_decodes_nothing() -> None:
    """Whatever the body is, it is too late."""
    one = example("resend")
    request = REGISTRY["resend"].sample(one.source, NOW - 3_600, 1, one.signing_key)
    with pytest.raises(SignatureError, match="stale"):
        proven("resend", one, replace(request, body=b"no gzip"), "gzip")


@pytest.mark.parametrize("name", ["sendgrid", "resend", "postal", "customer_io"])
def test_only_a_whole_signature_makes_us_decode(name: str) -> None:
    """It may be one over the decoded body: that is all that is looked into before the proof."""
    one, request = sample(name)
    with pytest.raises(Refused, match="content_broken") as caught:
        proven(name, one, replace(request, body=b"no gzip"), "gzip")
    assert not caught.value.proven


def test_a_token_in_a_header_needs_no_body() -> None:
    """Firehose packs its deliveries, and shows a key: nothing is decoded for a wrong one."""
    source = example("ses").source.model_copy(update={"token": (SecretStr("the-token"),)})
    for token, raised in (("the-token", Refused), ("another", SignatureError)):
        headers = (("x-amz-firehose-access-key", token),)
        request = Request("POST", "", headers, b"no gzip", "")
        with pytest.raises(raised):
            proven("ses", Example(source), request, "gzip")


def test_a_refusal_says_whether_the_sender_was_proven_by_then() -> None:
    """Their rate is one thing, a stranger's budget another."""
    one = example("brevo")
    good = REGISTRY["brevo"].sample(one.source, NOW, 1)
    for body, coding in ((b"[" * 100, None), (b"no gzip", "gzip")):
        with pytest.raises(Refused) as caught:
            proven("brevo", one, replace(good, body=body), coding)
        assert caught.value.proven
