"""What ``mailpulse check`` says of a refused request."""

import random
from dataclasses import replace

import pytest

from ingest import verify
from ingest.providers import REGISTRY
from ingest.providers.base import Request
from ingest.tryout import check_request
from schemas.sources import _SECRET_FIELDS
from tests.ingest.keys import Example, example
from tests.ingest.provider_suite import NOW, mutations, proof_headers, with_header


def said(name: str, request: Request, one: Example, now: float = NOW) -> str:
    """The explanation of a refused request, as one text."""
    result = check_request(one.source, request, now, certificates=one.certificates)
    assert not result.accepted
    return "\n".join(result.explanation)


def good(name: str) -> tuple[Example, Request]:
    """A source, and a request that it accepts."""
    one = example(name)
    return one, REGISTRY[name].sample(one.source, NOW, 1, one.signing_key)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda body: body + b"\n", "without the line end after it"),
        (lambda body: body.removesuffix(b"\r\n"), "with a line end (CRLF) after it"),
        (lambda body: b"\xef\xbb\xbf" + body, "without the byte order mark"),
    ],
)
def test_a_body_that_was_changed_on_its_way_into_a_file(change: object, words: str) -> None:
    """The cause is named as certain only where the proof fits the other body."""
    one, request = good("mailersend")
    ends = words.startswith("with a line end")
    body = request.body + b"\r\n" if ends else request.body
    if ends:
        key = one.source.secrets("signing_key")[0]
        request = with_header(request, "signature", verify.hmac_hex(key, body))
    changed = replace(request, body=change(body))  # type: ignore[operator]
    text = said("mailersend", changed, one)
    assert "cause: it fits " + words in text
    assert "usual cause" not in text


def test_another_key_and_a_changed_body_are_usual_causes() -> None:
    """Which of the two it is can't be known."""
    one, request = good("mailersend")
    text = said("mailersend", replace(request, body=b"{}"), one)
    assert "the key of another webhook" in text
    assert "written again by a JSON library" in text


def test_a_stale_request_is_told_its_age_and_its_limit() -> None:
    """And that nothing else is wrong with it."""
    one, request = good("generic")
    text = said("generic", request, one, NOW + 1_000)
    assert "age by x-webhook-timestamp: 1000 s" in text
    assert "limit: 300 s" in text
    assert "apart from its age it is right" in text
    forged = replace(request, body=b"{}")
    assert "apart from" not in said("generic", forged, one, NOW + 1_000)


def test_missing_and_repeated_headers_are_named() -> None:
    """By the names that the provider's own request has."""
    one, request = good("resend")
    text = said("resend", with_header(request, "svix-timestamp", None), one)
    assert "headers of such a request: svix-id, svix-timestamp, svix-signature" in text
    assert "not there: svix-timestamp" in text
    twice = replace(request, headers=(*request.headers, ("svix-id", "x")))
    assert "given more than once: svix-id" in said("resend", twice, one)


def test_a_certificate_file_stands_for_the_one_at_its_url() -> None:
    """So a capture of SNS is judged offline; a wrong file is no proof."""
    one, request = good("ses")
    assert check_request(one.source, request, NOW).code == "needs_certificate"
    [pem] = one.certificates.values()
    assert check_request(one.source, request, NOW, certificate=pem).accepted
    [other] = example("ses", 7).certificates.values()
    assert check_request(one.source, request, NOW, certificate=other).code == "bad_signature"


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_no_explanation_holds_a_secret(name: str) -> None:
    """Whatever is wrong with a request: no secret, no signature, no part of the body."""
    one, request = good(name)
    secrets = [value for field in _SECRET_FIELDS for value in one.source.secrets(field)]
    proofs = [request.header(header) or "" for header in proof_headers(request)]
    for changed in mutations(request, 60, random.Random(name)):
        result = check_request(one.source, changed, NOW, certificates=one.certificates)
        text = "\n".join(result.explanation)
        if result.status == 401:
            assert result.explanation
        told = check_request(
            one.source, changed, NOW, certificates=one.certificates, explained=True,
            others=[one.source],
        )  # fmt: skip
        assert told.explanation or told.status not in (200, 401)
        text += "\n".join(told.explanation)
        for value in (*secrets, *(proof for proof in proofs if len(proof) > 10)):
            assert value not in text
        assert "reader1@example.com" not in text


@pytest.mark.parametrize("name", ["mailersend", "sendgrid", "mailgun", "postmark", "generic"])
def test_the_key_of_another_source_is_found(name: str) -> None:
    """A request that came to the wrong hook, or whose keys were swapped, names its own source."""
    one, request = good(name)
    wrong = example(name, 7).source.model_copy(update={"name": "other"})
    result = check_request(
        wrong, request, NOW, certificates=one.certificates, others=[wrong, one.source]
    )
    text = "\n".join(result.explanation)
    assert f"it fits the key of the source {one.source.name}" in text
    assert "usual cause" not in text
    alone = check_request(wrong, request, NOW, certificates=one.certificates, others=[wrong])
    assert "it fits the key" not in "\n".join(alone.explanation)


def test_an_accepted_request_is_explained_if_asked() -> None:
    """By what it was proven, how old it was, and against which limit."""
    one, request = good("generic")
    assert not check_request(one.source, request, NOW).explanation
    result = check_request(one.source, request, NOW + 7, explained=True)
    assert result.accepted
    text = "\n".join(result.explanation)
    assert "how it is proven: " in text
    assert "age by x-webhook-timestamp: 7 s" in text
    assert "limit: 300 s" in text


def test_what_a_mapping_signs_is_said() -> None:
    """The template, as it counts: of the source or of its preset."""
    one, request = good("generic")
    text = said("generic", replace(request, body=b"{}"), one)
    assert "what is signed: {timestamp}.{body} by sha256 in hex" in text
    one, request = good("preset:sweego")
    text = said("preset:sweego", replace(request, body=b"{}"), one)
    assert "what is signed: {header:webhook-id}.{timestamp}.{body} by sha256 in base64" in text
    assert "what is signed" not in said("brevo", Request("POST", "", (), b"", ""), example("brevo"))
