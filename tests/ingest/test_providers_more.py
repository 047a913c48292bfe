"""What the shared suites cannot know: other ways to prove, test calls, dates, retries.

Invariants:
1. One test, one promise of one provider's docstring.
2. Requests are made by ``sample`` or signed here from the documented recipe, never by the code
   under test alone.
"""

import base64
import hashlib
import hmac
from dataclasses import replace

import orjson
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from ingest import verify
from ingest.providers import REGISTRY
from ingest.providers.base import Request, post
from ingest.providers.mailersend import TEST_KEY
from ingest.verify import SignatureError
from schemas.settings import Source
from tests.ingest.keys import Example, example, key_pair
from tests.ingest.provider_suite import NOW, RECEIVED_AT, accepted, with_header


def source(provider: str, **fields: object) -> Example:
    """A source with just these fields."""
    return Example(Source.model_validate({"name": "x", "provider": provider, **fields}))


def refusal(name: str, request: Request, one: Example) -> str:
    """The code of the refusal; fails when the request is accepted."""
    try:
        REGISTRY[name].verify(request, one.source, NOW, {})
        REGISTRY[name].verify_content(request, one.source)
    except SignatureError as error:
        return error.code
    raise AssertionError("it was accepted")


def test_only_brevo_wants_429_when_there_is_too_much() -> None:
    """Brevo may discard after a 5xx; the others come again after a 503."""
    mine = (
        "sparkpost mailjet brevo mailersend mailtrap postal unisender_go customer_io klaviyo "
        "iterable elastic_email"
    ).split()
    answers = {name: REGISTRY[name].overload_status for name in mine}
    assert answers == {**dict.fromkeys(mine, 503), "brevo": 429}


# --- bearer tokens and Basic ---------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sparkpost", "brevo", "iterable", "elastic_email"])
def test_a_bearer_token_proves_where_basic_would(name: str) -> None:
    """The token in the header, and nothing else, opens a source that has only a token."""
    one = source(name, token=("t0ken-new", "t0ken-old"))
    body = b"[]"
    for token, good in (("t0ken-new", True), ("t0ken-old", True), ("t0ken", False), ("", False)):
        request = post(body, ("authorization", f"Bearer {token}"))
        assert accepted(REGISTRY[name], request, one) is good
    assert refusal(name, post(body, ("authorization", "Basic dDpw")), one) == "bad_credentials"
    assert REGISTRY[name].check(one.source) == []


@pytest.mark.parametrize("name", ["sparkpost", "brevo", "iterable", "elastic_email"])
def test_basic_and_bearer_do_not_mix(name: str) -> None:
    """A password is no token, and a token no password."""
    one = source(name, token=("t",), username=("u",), password=("p",))
    header = "Basic " + base64.b64encode(b"u:p").decode()
    assert accepted(REGISTRY[name], post(b"[]", ("authorization", header)), one)
    for wrong in ("Bearer p", "Bearer u:p", "Basic " + base64.b64encode(b"u:t").decode()):
        assert not accepted(REGISTRY[name], post(b"[]", ("authorization", wrong)), one)


@pytest.mark.parametrize("scheme", ["", "Basic ", "OAuth2 ", "Bearer "])
def test_iterable_may_send_its_token_behind_any_of_its_schemes(scheme: str) -> None:
    """Iterable writes the chosen scheme, or none, before the token."""
    one = source("iterable", token=("J1qK1c18",))
    assert accepted(REGISTRY["iterable"], post(b"{}", ("authorization", scheme + "J1qK1c18")), one)
    assert not accepted(
        REGISTRY["iterable"], post(b"{}", ("authorization", "Digest J1qK1c18")), one
    )


@pytest.mark.parametrize("name", ["sparkpost", "mailjet", "brevo", "iterable"])
def test_half_a_basic_configuration_is_a_problem(name: str) -> None:
    """A user without a password is named before the first webhook is refused."""
    assert REGISTRY[name].check(source(name, username=("u",)).source)


def test_sparkposts_older_token_header_proves_too() -> None:
    """The token may come in SparkPost's own header; a wrong one is not mended by good Basic."""
    one = source("sparkpost", token=("t0ken",), username=("u",), password=("p",))
    provider, name = REGISTRY["sparkpost"], "x-messagesystems-webhook-token"
    basic = ("authorization", "Basic " + base64.b64encode(b"u:p").decode())
    assert accepted(provider, post(b"[]", (name, "t0ken")), one)
    assert not accepted(provider, post(b"[]", (name, "t0keN"), basic), one)
    assert not accepted(provider, post(b"[]", (name, "t0ken"), (name, "t0ken")), one)


# --- MailerSend ----------------------------------------------------------------------------------


def _mailersend(content: dict[str, object], key: str) -> Request:
    body = orjson.dumps(content)
    made = hmac.new(key.encode(), body, hashlib.sha256).hexdigest()
    return post(body, ("signature", made))


def test_mailersends_test_call_is_let_in_and_holds_nothing() -> None:
    """A webhook can only be saved when its test call, signed with a public key, gets a 2xx."""
    provider, one = REGISTRY["mailersend"], example("mailersend")
    request = _mailersend({"type": "webhook.test", "message": "ping", "data": {"id": 1}}, TEST_KEY)
    assert accepted(provider, request, one)
    parsed = provider.parse(request, one.source, RECEIVED_AT)
    assert (parsed.events, parsed.rejects, parsed.note) == ([], [], "ping")


def test_mailersends_public_key_opens_nothing_else() -> None:
    """Anyone can sign with it, so an event signed with it is forged."""
    one = example("mailersend")
    forged: list[dict[str, object]] = [
        {"type": "activity.clicked", "data": {"id": "1"}},
        {"type": ["webhook.test"]},
        {"type": "webhook.test", "filler": "x" * 5000},
        {},
    ]
    for content in forged:
        request = _mailersend(content, TEST_KEY)
        assert refusal("mailersend", request, one) == "bad_signature"


# --- Postal --------------------------------------------------------------------------------------


def test_postals_second_signature_counts_alone_where_it_is() -> None:
    """A good SHA-1 signature does not help a bad SHA-256 one."""
    provider, one = REGISTRY["postal"], example("postal")
    request = provider.sample(one.source, NOW, 1, one.signing_key)
    good = sign_sha256(one.signing_key or "", request.body)
    both = replace(request, headers=(*request.headers, ("x-postal-signature-256", good)))
    assert accepted(provider, both, one)
    alone = with_header(both, "x-postal-signature", None)
    assert accepted(provider, alone, one)
    other = sign_sha256(key_pair("rsa", 99)[0], request.body)
    assert not accepted(provider, with_header(both, "x-postal-signature-256", other), one)
    assert not accepted(provider, with_header(both, "x-postal-signature-256", ""), one)
    assert not accepted(provider, replace(both, body=both.body + b" "), one)


def sign_sha256(private_pem: str, message: bytes) -> str:
    """A base64 RSASSA-PKCS1-v1_5 signature with SHA-256."""
    key = serialization.load_pem_private_key(private_pem.encode(), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    made = key.sign(message, padding.PKCS1v15(), hashes.SHA256())
    return base64.b64encode(made).decode()


def test_postal_wants_an_rsa_key() -> None:
    """An elliptic key, or no key, is named as a problem of the configuration."""
    provider = REGISTRY["postal"]
    for key in (key_pair("ecdsa", 0)[1], "no key"):
        assert any(
            "RSA" in line for line in provider.check(source("postal", public_key=key).source)
        )


# --- Unisender Go --------------------------------------------------------------------------------


def _unisender(template: bytes, key: bytes) -> Request:
    """A body with ``AUTH`` in it, signed by the documented recipe."""
    digest = hashlib.md5(template.replace(b"AUTH", key)).hexdigest()
    return post(template.replace(b"AUTH", digest.encode()))


@pytest.mark.parametrize(
    "template",
    [
        b'{"auth":"AUTH","events_by_user":[]}',
        b'{ "events_by_user" : [ ] ,\n "auth" : "AUTH" }\n',
        b'{"metadata":{"auth":"0123456789abcdef0123456789abcdef"},"auth":"AUTH"}',
        '{"auth":"AUTH","metadata":{"a":"Метаданные \\/"}}'.encode(),
    ],
)
def test_unisenders_signature_does_not_depend_on_how_the_json_is_written(template: bytes) -> None:
    """White space, order, escapes, and another «auth» in the metadata make no difference."""
    one = source("unisender_go", api_key=("k3y",))
    request = _unisender(template, b"k3y")
    assert accepted(REGISTRY["unisender_go"], request, one)
    assert refusal("unisender_go", _unisender(template, b"other"), one) == "bad_signature"
    assert refusal("unisender_go", post(template), one) in ("missing_signature", "bad_signature")


def test_an_extended_md5_is_refused() -> None:
    """MD5 can be extended behind its padding; padding is not UTF-8, and that is refused."""
    one = source("unisender_go", api_key=("k3y",))
    padded = b'{"auth":"AUTH"}' + b"\x80" + b"\0" * 40 + b'{"events_by_user":[]}'
    assert refusal("unisender_go", _unisender(padded, b"k3y"), one) == "bad_encoding"


def test_unisender_may_look_whether_the_address_answers() -> None:
    """The GET when a webhook is set up is answered 200; a POST is no set-up call."""
    provider, one = REGISTRY["unisender_go"], example("unisender_go")
    assert provider.probe(Request("GET", "", (), b"", ""), one.source) == 200
    assert provider.probe(Request("POST", "", (), b"", ""), one.source) is None


# --- Customer.io, Klaviyo ------------------------------------------------------------------------


def test_customer_ios_signature_is_the_documented_one() -> None:
    """HMAC-SHA256 over ``v0:TIMESTAMP:BODY`` in hexadecimal."""
    one = source("customer_io", secret=("s3cret",))
    body = b'{"metric":"sent"}'
    made = hmac.new(b"s3cret", b"v0:%d:" % NOW + body, hashlib.sha256).hexdigest()
    request = post(body, ("x-cio-signature", made), ("x-cio-timestamp", str(NOW)))
    assert accepted(REGISTRY["customer_io"], request, one)


def test_a_call_that_customer_io_held_back_for_a_week_is_still_taken() -> None:
    """Its retries last 7 days and may carry the first attempt's time."""
    provider, one = REGISTRY["customer_io"], example("customer_io")
    week = provider.sample(one.source, NOW - 7 * 86_400, 1)
    assert accepted(provider, week, one)


def _klaviyo(timestamp: str, inside: str = "w1", header: str = "w1") -> Request:
    body = orjson.dumps({"data": [], "meta": {"klaviyo_webhook_id": inside}})
    made = hmac.new(b"s3cret", body + timestamp.encode(), hashlib.sha256).hexdigest()
    return post(
        body,
        ("klaviyo-signature", made),
        ("klaviyo-timestamp", timestamp),
        ("klaviyo-webhook-id", header),
    )


@pytest.mark.parametrize(
    ("timestamp", "code"),
    [
        ("Tue, 24 Nov 2026 12:00:00 GMT", ""),
        (str(NOW), ""),
        ("Tue, 24 Nov 2026 12:10:00 GMT", "future_timestamp"),
        ("Tue, 17 Nov 2026 12:00:00 GMT", "stale_timestamp"),
        ("Tue, 24 Nov 2026 12:00:00 -0000", "bad_timestamp"),
        ("yesterday", "bad_timestamp"),
        ("-5", "bad_timestamp"),
    ],
)
def test_klaviyos_time_is_read_as_a_date_or_as_seconds(timestamp: str, code: str) -> None:
    """The time is signed as it is written, and still has to be near."""
    one = source("klaviyo", secret=("s3cret",))
    request = _klaviyo(timestamp)
    if code:
        assert refusal("klaviyo", request, one) == code
    else:
        assert accepted(REGISTRY["klaviyo"], request, one)


def test_klaviyos_webhook_id_has_to_be_the_signed_one() -> None:
    """The header is not signed, so it only counts where the signed body says the same."""
    one = source("klaviyo", secret=("s3cret",))
    assert refusal("klaviyo", _klaviyo(str(NOW), "w1", "w2"), one) == "wrong_webhook_id"
    assert refusal("klaviyo", _klaviyo(str(NOW), "", "w2"), one) == "wrong_webhook_id"


# --- Elastic Email -------------------------------------------------------------------------------


def test_elastic_email_proves_by_a_token_in_the_query() -> None:
    """Its unsigned calls are GET requests; given twice, the token is a guess and refused."""
    provider, one = REGISTRY["elastic_email"], source("elastic_email", token=("t0ken",))
    request = provider.sample(one.source, NOW, 1)
    assert request.method == "GET"
    assert request.method in provider.methods
    assert accepted(provider, request, one)
    for query in (request.query.replace("t0ken", "t0keN"), "status=Sent", ""):
        assert not accepted(provider, replace(request, query=query), one)
    doubled = replace(request, query=request.query + "&token=t0ken")
    assert refusal("elastic_email", doubled, one) == "missing_token"
    event = provider.parse(request, one.source, RECEIVED_AT).events[0]
    assert "t0ken" not in orjson.dumps(event).decode()


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_elastic_emails_signature_over_nothing_lets_no_query_through(method: str) -> None:
    """Events are read from the query where there is no body, and no signature covers a query."""
    one = source("elastic_email", secret=("s3cret",))
    signed = str(NOW)
    signature = verify.hmac_hex("s3cret", f"{signed}.".encode())
    headers = (
        ("x-elasticemail-signature", f"v1={signature}"),
        ("x-elasticemail-timestamp", signed),
    )
    request = Request(method, "status=Clicked&to=a@b.example", headers, b"", "")
    assert refusal("elastic_email", request, one) == "nothing_signed"


@pytest.mark.parametrize(
    "timestamp",
    [
        "Mon, 01 Jan 99999999999 00:00:00 +0000",
        "Mon, 01 Jan 2024 99999999999999999999:00:00 GMT",
        "Mon, 01 Jan 2024 00:00:00 +99999999",
    ],
)
def test_klaviyo_a_time_that_no_date_holds_is_refused(timestamp: str) -> None:
    """By anyone, unsigned: not a line with a traceback each time."""
    provider, one = REGISTRY["klaviyo"], source("klaviyo", secret=("s3cret",))
    request = with_header(provider.sample(one.source, NOW, 1), "klaviyo-timestamp", timestamp)
    assert refusal("klaviyo", request, one) == "bad_timestamp"


def test_elastic_emails_signature_may_be_written_in_each_assumed_form() -> None:
    """The key as text or decoded, the digest in hexadecimal or base64; nothing else."""
    raw = b"0123456789abcdef"
    secret = "whsec_" + base64.b64encode(raw).decode()
    one = source("elastic_email", secret=(secret,))
    body = b'{"status":"Sent"}'
    good = 0
    for key in (secret.encode(), raw, secret.removeprefix("whsec_").encode()):
        digest = hmac.new(key, b"%d." % NOW + body, hashlib.sha256).digest()
        for written in (digest.hex(), base64.b64encode(digest).decode()):
            request = post(
                body,
                ("x-elasticemail-signature", f"v1={written}"),
                ("x-elasticemail-timestamp", str(NOW)),
            )
            good += accepted(REGISTRY["elastic_email"], request, one)
    assert good == 4


def test_a_bad_signature_is_not_mended_by_a_good_token() -> None:
    """Where Elastic Email signs, the signature has to hold, whatever else is there."""
    one = source("elastic_email", secret=("s3cret",), token=("t0ken",))
    request = post(
        b'{"status":"Sent"}',
        ("x-elasticemail-signature", "v1=00"),
        ("x-elasticemail-timestamp", str(NOW)),
        query="token=t0ken",
    )
    assert refusal("elastic_email", request, one) == "bad_signature"


def test_elastic_emails_empty_calls_are_answered() -> None:
    """A call without a status is a set-up call; one with a status is an event."""
    provider, one = REGISTRY["elastic_email"], example("elastic_email")
    for method, query, status in (
        ("GET", "", 200),
        ("GET", "token=x", 200),
        ("HEAD", "", 200),
        ("GET", "token=x&status=Sent", None),
        ("POST", "", None),
    ):
        assert provider.probe(Request(method, query, (), b"", ""), one.source) == status


# --- batches -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sparkpost", "mailjet", "brevo", "mailtrap", "klaviyo"])
def test_a_thousand_events_and_one_bad_one_lose_none(name: str) -> None:
    """Every neighbour of a bad item goes through, in order, each with an id of its own."""
    provider, one = REGISTRY[name], example(name)
    bodies = [
        provider.sample(one.source, NOW, number, one.signing_key).body for number in range(1000)
    ]
    contents = [orjson.loads(body) for body in bodies]
    if name == "mailtrap":
        merged = {"events": [one for content in contents for one in content["events"]]}
        merged["events"].insert(500, "broken")
    elif name == "klaviyo":
        merged = {"data": [one for content in contents for one in content["data"]]}
        merged["data"].insert(500, "broken")
    else:
        flat = [x for c in contents for x in (c if isinstance(c, list) else [c])]
        merged = [*flat[:500], "broken", *flat[500:]]  # type: ignore[assignment]
    parsed = provider.parse(post(orjson.dumps(merged)), one.source, RECEIVED_AT)
    assert len(parsed.events) == 1000
    assert [reject.reason for reject in parsed.rejects] == ["not_an_object"]
    assert len({event["event_id"] for event in parsed.events}) == 1000
    recipients = [event["recipient"] for event in parsed.events]
    assert recipients == [f"reader{number}@example.com" for number in range(1000)]
