"""What single providers promise beyond the shared suite."""

import base64
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from ingest import verify
from ingest.providers import REGISTRY
from ingest.providers.base import Provider, Request, post
from ingest.providers.sendgrid import NO_KEY
from ingest.verify import SignatureError
from schemas.errors import BadInput
from schemas.settings import Source
from tests.ingest.keys import Example, example, key_pair, secret
from tests.ingest.provider_suite import NOW, RECEIVED_AT, accepted, with_header


def refused(code: str) -> pytest.RaisesExc[SignatureError]:
    return pytest.raises(SignatureError, check=lambda error: error.code == code)


def sample(name: str, one: Example) -> tuple[Provider, Request]:
    provider = REGISTRY[name]
    return provider, provider.sample(one.source, NOW, 1, one.signing_key)


# --- other providers -----------------------------------------------------------------------------


def test_sendgrid_verifies_the_line_end_that_it_signs() -> None:
    """sendgrid-nodejs issue 1193: without the trailing line end the same request is refused."""
    one = example("sendgrid")
    provider, request = sample("sendgrid", one)
    assert request.body.endswith(b"\r\n")
    assert not accepted(provider, replace(request, body=request.body.rstrip()), one)


@pytest.mark.parametrize("name", ["sendgrid", "ses"])
def test_samples_of_public_key_sources_need_the_private_key(name: str) -> None:
    """The source alone cannot sign for its provider."""
    with pytest.raises(BadInput, match="needs_private_key"):
        REGISTRY[name].sample(example(name).source, NOW, 1)


@pytest.mark.parametrize(
    "name", sorted(set(REGISTRY) - {"sendgrid", "ses", "postal", "preset:mailpace"})
)
def test_samples_of_sources_without_secrets_say_so(name: str) -> None:
    """``send-test`` on a source that is not configured ends in words, not in a traceback."""
    source = Source(name=name, provider=name)
    with pytest.raises(BadInput, match=r"not_configured|needs_private_key"):
        REGISTRY[name].sample(source, NOW, 1)


def test_mailgun_takes_the_parents_signature_of_a_subaccount() -> None:
    """The configured key may be the parent's; a wrong parent's signature stays refused."""
    one = example("mailgun")
    provider, request = sample("mailgun", one)
    body = orjson.loads(request.body)
    stranger = {**body["signature"], "signature": "0" * 64}
    by_parent = {**body, "signature": stranger, "parent-signature": body["signature"]}
    assert accepted(provider, post(orjson.dumps(by_parent)), one)
    neither = {**body, "signature": stranger, "parent-signature": stranger}
    assert not accepted(provider, post(orjson.dumps(neither)), one)


@pytest.mark.parametrize(
    "body", [b"[]", b"7", b"{}", b'{"signature": []}', b"not json", b"[" * 9999]
)
def test_mailgun_bodies_without_a_signature_are_refused(body: bytes) -> None:
    """Whatever else they are."""
    with refused("missing_signature"):
        REGISTRY["mailgun"].verify(post(body), example("mailgun").source, NOW, {})


def mandrill_request(events: bytes, key: str, url: str) -> Request:
    body = urlencode({"mandrill_events": events}).encode()
    signed = url.encode() + b"mandrill_events" + events
    signature = verify.hmac_base64(key, signed, "sha1")
    return post(body, ("x-mandrill-signature", signature))


def test_mandrill_set_up_key_opens_the_door_to_an_empty_list_only() -> None:
    """Anyone knows that key."""
    one = example("mandrill")
    provider, url = REGISTRY["mandrill"], one.source.public_url
    assert accepted(provider, mandrill_request(b"[]", "test-webhook", url), one)
    for events in (b"[ ]", b'[{"event":"send"}]', b"", b"[][]"):
        assert not accepted(provider, mandrill_request(events, "test-webhook", url), one)


def test_mandrill_signs_the_configured_url() -> None:
    """With its query and its credentials; another spelling of the same place is another URL."""
    url = "https://user:pass@hooks.example.com/hooks/mandrill?x=1&y=2"
    one = example("mandrill", public_url=url)
    key = one.source.secrets("signing_key")[0]
    assert accepted(REGISTRY["mandrill"], mandrill_request(b"[1]", key, url), one)
    for other in (url + "/", url.replace("user:pass@", ""), url.split("?")[0]):
        assert not accepted(REGISTRY["mandrill"], mandrill_request(b"[1]", key, other), one)


def test_mandrill_refuses_a_field_given_twice() -> None:
    """Which of the two is signed would be a guess."""
    one = example("mandrill")
    provider, request = sample("mandrill", one)
    twice = replace(request, body=request.body + b"&" + request.body)
    with refused("field_twice"):
        provider.verify(twice, one.source, NOW, {})


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 200), ("POST", None)])
def test_mandrill_looks_whether_the_url_is_there(method: str, status: int | None) -> None:
    """By HEAD, before any key exists."""
    request = Request(method, "", (), b"", "192.0.2.1")
    assert REGISTRY["mandrill"].probe(request, example("mandrill").source) == status


def test_standard_webhooks_by_public_key_alone() -> None:
    """A source may hold only ed25519 keys; then there is nothing to sign a sample with."""
    key = ed25519.Ed25519PrivateKey.generate()
    public = "whpk_" + base64.b64encode(key.public_key().public_bytes_raw()).decode()
    source = Source(name="s", provider="standard_webhooks", public_key=(public,))
    body = b'{"type": "delivered"}'
    signature = base64.b64encode(key.sign(f"msg_1.{NOW}.".encode() + body)).decode()
    request = post(
        body,
        ("webhook-id", "msg_1"),
        ("webhook-timestamp", str(NOW)),
        ("webhook-signature", f"v1a,{signature}"),
    )
    assert accepted(REGISTRY["standard_webhooks"], request, Example(source))
    assert REGISTRY["standard_webhooks"].check(source) == []
    with pytest.raises(BadInput, match="needs_private_key"):
        REGISTRY["standard_webhooks"].sample(source, NOW, 1)


# --- generic -------------------------------------------------------------------------------------


def generic_request(body: bytes, timestamp: str | None = None) -> Request:
    key = secret("generic/secret", 0)
    if timestamp is None:
        return post(body, ("x-webhook-signature", verify.hmac_hex(key, body)))
    signature = verify.hmac_hex(key, timestamp.encode() + b"." + body)
    return post(body, ("x-webhook-signature", signature), ("x-webhook-timestamp", timestamp))


def test_generic_without_a_timestamp() -> None:
    """A sender may sign the body only, unless the source asks for a time."""
    one = example("generic")
    assert accepted(REGISTRY["generic"], generic_request(b"{}"), one)
    assert not accepted(REGISTRY["generic"], generic_request(b"{}"), one, tolerance_s=60)


def test_generic_a_stamp_cannot_be_moved_into_the_body() -> None:
    """Else an old stamped request could be replayed unstamped, with its own signature."""
    one = example("generic")
    stamped = generic_request(b"{}", str(NOW - 9_999))
    assert not accepted(REGISTRY["generic"], stamped, one)
    moved = with_header(stamped, "x-webhook-timestamp", None)
    moved = replace(moved, body=f"{NOW - 9_999}.".encode() + b"{}")
    assert verify.hmac_hex(secret("generic/secret", 0), moved.body) == moved.header(
        "x-webhook-signature"
    )
    assert not accepted(REGISTRY["generic"], moved, one)


@pytest.mark.parametrize("encoding", ["hex", "base64"])
@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "sha512"])
def test_generic_signature_by_mapping(encoding: str, algorithm: str) -> None:
    """Header names, encoding and hash can be the sender's."""
    how = {
        "header": "X-Acme-Sig",
        "timestamp_header": "X-Acme-Time",
        "encoding": encoding,
        "algorithm": algorithm,
    }
    one = example("generic", mapping={"signature": how})
    provider, request = sample("generic", one)
    assert {name for name, _ in request.headers} >= {"x-acme-sig", "x-acme-time"}
    assert accepted(provider, request, one)
    assert not accepted(provider, request, example("generic"))
    assert provider.check(one.source) == []


@pytest.mark.parametrize(
    ("mapping", "words"),
    [
        ({"item": "x"}, "mapping.item: no such entry"),
        ({"items": 5}, "mapping.items: a path"),
        ({"time_unit": "days"}, "mapping.time_unit: one of"),
        ({"time_unit": []}, "mapping.time_unit: one of"),
        ({"fields": []}, "mapping.fields: a table"),
        ({"fields": {"colour": "x"}}, "mapping.fields.colour: no such field"),
        ({"fields": {"time": 5}}, "mapping.fields.time: a path"),
        ({"fields": {"time": ["a", ""]}}, "mapping.fields.time: a path"),
        ({"events": "x"}, "mapping.events: a table"),
        ({"events": {"a": "exploded"}}, "mapping.events.a: no such type"),
        ({"events": {"a": {"bounce_class": "hard"}}}, "mapping.events.a: an event type"),
        ({"events": {"a": {"type": "bounced", "x": 1}}}, "mapping.events.a: an event type"),
        ({"events": {"a": {"type": "bounced", "bounce_class": "?"}}}, "no such bounce_class"),
        ({"events": {"a": {"type": []}}}, "no such type"),
        ({"signature": 1}, "mapping.signature: a table"),
        ({"signature": {"headers": "x"}}, "mapping.signature.headers: one of"),
        ({"signature": {"encoding": "rot13"}}, "mapping.signature.encoding: one of"),
        ({"signature": {"algorithm": 5}}, "mapping.signature.algorithm"),
    ],
)
def test_generic_mapping_problems_are_named(mapping: dict[str, Any], words: str) -> None:
    """Each with its place; and a source with such a mapping still neither breaks nor opens."""
    one = example("generic", mapping=mapping)
    problems = REGISTRY["generic"].check(one.source)
    assert len(problems) == 1
    assert words in problems[0]
    provider, request = sample("generic", one)
    assert provider.parse(request, one.source, RECEIVED_AT).rejects == []
    assert not accepted(provider, with_header(request, request.headers[1][0], "x"), one)


def test_all_problems_of_a_mapping_come_at_once() -> None:
    """Nobody fixes a configuration line by line."""
    mapping = {"x": 1, "items": 1, "time_unit": 1, "fields": {"y": 1}, "events": {"z": "q"}}
    assert len(REGISTRY["generic"].check(example("generic", mapping=mapping).source)) == 5


@pytest.mark.parametrize("entry", ["tags", "metadata", "metadata.", "tag.x", "header", "campaign"])
def test_campaign_precedence_that_means_nothing_is_named(entry: str) -> None:
    """For every provider alike."""
    source = example("mailgun", campaign_from=("provider", entry)).source
    assert entry in REGISTRY["mailgun"].check(source)[0]


def test_keys_that_do_not_parse_are_named_by_their_place() -> None:
    """Never by their text: it may be a secret that was put there by mistake."""
    good = key_pair("ecdsa", 0)[1]
    source = example("sendgrid", public_key=(good, "MFkw-broken")).source
    assert REGISTRY["sendgrid"].check(source) == [f"sources.sendgrid.public_key: number 2 {NO_KEY}"]
    source = example("resend", secret=("whsec_not base64",)).source
    problems = REGISTRY["resend"].check(source)
    assert problems == ["sources.resend.secret: number 1 is not whsec_ and base64"]
