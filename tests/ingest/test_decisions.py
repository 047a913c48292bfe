"""What was decided where documentation says nothing: ``ingest/README.md``, «Decided readings».

Invariant: each line of that section has a test here, or one that is named there.
"""

from typing import Any

import orjson
import pytest

from ingest import verify
from ingest.providers import REGISTRY
from ingest.providers.base import Request, post
from ingest.providers.elastic_email import SIGNATURE, TIMESTAMP
from ingest.providers.items import read_form
from schemas.errors import BadInput
from schemas.event import Event, unit_key
from tests.ingest.cases import Case, all_cases
from tests.ingest.keys import example
from tests.ingest.provider_suite import NOW, RECEIVED_AT, accepted, proof_headers, with_header
from tests.ingest.reading import judged, parsed, payload

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
PROVIDERS = sorted(REGISTRY)


def outcome_of(name: str, request: Request) -> object:
    """The code of a bad body, or the codes of the rejects; fails if there is an event."""
    try:
        result = REGISTRY[name].parse(request, example(name).source, RECEIVED_AT)
    except BadInput as error:
        return error.reason
    assert not result.events
    return [reject.reason for reject in result.rejects]


# --- bodies --------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", all_cases(), ids=str)
def test_a_body_may_begin_with_a_byte_order_mark(case: Case) -> None:
    """Every documented payload of every provider, in each format: the same events and rejects."""
    headers = tuple(case.expected.get("headers", {}).items())
    source = example(case.provider, **case.expected.get("source", {})).source
    body = case.path.read_bytes()

    def outcome(body: bytes) -> Any:
        request = post(body, *headers, query=case.expected.get("query", ""))
        try:
            result = REGISTRY[case.provider].parse(request, source, RECEIVED_AT)
        except BadInput as error:
            return error.reason
        return result.events, [reject.reason for reject in result.rejects], result.note

    if body:
        assert outcome(BYTE_ORDER_MARK + body) == outcome(body)


@pytest.mark.parametrize("name", ["mailgun", "ses", "mandrill"])
def test_a_proof_in_the_body_is_found_behind_a_byte_order_mark(name: str) -> None:
    """Where the mark itself is not signed."""
    one = example(name)
    request = REGISTRY[name].sample(one.source, NOW, 1, one.signing_key)
    marked = Request("POST", "", request.headers, BYTE_ORDER_MARK + request.body, "192.0.2.1")
    assert accepted(REGISTRY[name], marked, one)
    assert read_form(BYTE_ORDER_MARK + b"a=1") == {"a": ["1"]}


def test_elastic_emails_signature_over_nothing_covers_no_query() -> None:
    """Else anybody could add a query to a signed call without a body; with a body it is unread."""
    one, provider = example("elastic_email"), REGISTRY["elastic_email"]
    signed = provider.sample(one.source, NOW, 1)
    query = "status=Unsubscribed&to=victim@example.com&transaction=t"
    for body in (b"", BYTE_ORDER_MARK, b" ", b"\r\n", b"{}"):
        signature = verify.hmac_hex(one.source.secrets("secret")[0], f"{NOW}.".encode() + body)
        headers = ((SIGNATURE, f"v1={signature}"), (TIMESTAMP, str(NOW)))
        forged = Request("POST", query, headers, body, "192.0.2.1")
        assert accepted(provider, forged, one) is bool(body)
        if body:
            assert outcome_of("elastic_email", forged) in ("no_event", ["no_event_type"])
    beside = Request("POST", query, signed.headers, signed.body, "192.0.2.1")
    (event,) = provider.parse(beside, one.source, RECEIVED_AT).events
    assert event["event_type"] == "delivered"


# --- signatures ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mailersend", "mailtrap", "customer_io", "klaviyo", "generic"])
def test_a_hexadecimal_signature_may_be_written_in_capitals(name: str) -> None:
    """All letters alike; one capital among small ones is a changed signature."""
    one, provider = example(name), REGISTRY[name]
    request = provider.sample(one.source, NOW, 1, one.signing_key)
    header = next(one for one in proof_headers(request) if "signature" in one)
    given = (request.header(header) or "").removeprefix("sha256=")
    assert accepted(provider, with_header(request, header, given.upper()), one)
    place = next(at for at, letter in enumerate(given) if letter.isalpha())
    mixed = given[:place] + given[place].upper() + given[place + 1 :]
    assert not accepted(provider, with_header(request, header, mixed), one)


@pytest.mark.parametrize("name", ["resend", "loops", "standard_webhooks"])
def test_svix_and_webhook_headers_are_interchangeable(name: str) -> None:
    """As in Svix's own libraries; never one header of each, and the id is read from the same."""
    one, provider = example(name), REGISTRY[name]
    request = provider.sample(one.source, NOW, 1)
    usual = "svix" if any(key.startswith("svix-") for key, _ in request.headers) else "webhook"
    other = "webhook" if usual == "svix" else "svix"
    renamed = tuple((key.replace(f"{usual}-", f"{other}-"), v) for key, v in request.headers)
    swapped = Request("POST", "", renamed, request.body, "192.0.2.1")
    assert accepted(provider, swapped, one)
    first, second = (
        provider.parse(each, one.source, RECEIVED_AT).events[0] for each in (request, swapped)
    )
    assert first["event_id"] == second["event_id"]
    for part in ("id", "timestamp", "signature"):
        mixed = tuple(
            (key.replace(usual, other) if key.endswith(part) else key, v)
            for key, v in request.headers
        )
        assert not accepted(provider, Request("POST", "", mixed, request.body, ""), one)
    stranger = ((f"{other}-id", "msg_other"), (f"{other}-signature", "v1,AAAA"))
    both = Request("POST", "", (*stranger, *request.headers), request.body, "")
    assert accepted(provider, both, one)
    assert provider.parse(both, one.source, RECEIVED_AT).events[0]["event_id"] == first["event_id"]


def test_elastic_emails_and_unisenders_signatures_may_be_in_capitals_too() -> None:
    """One behind ``v1=``, the other inside the body."""
    one, provider = example("elastic_email"), REGISTRY["elastic_email"]
    request = provider.sample(one.source, NOW, 1)
    given = (request.header(SIGNATURE) or "").removeprefix("v1=")
    assert accepted(provider, with_header(request, SIGNATURE, f"v1={given.upper()}"), one)
    assert not accepted(provider, with_header(request, SIGNATURE, f"V1={given.upper()}"), one)
    assert not accepted(provider, with_header(request, SIGNATURE, f"v1={given.title()}"), one)
    one, provider = example("unisender_go"), REGISTRY["unisender_go"]
    body = provider.sample(one.source, NOW, 1).body
    auth = orjson.loads(body)["auth"].encode()
    assert accepted(provider, post(body.replace(auth, auth.upper())), one)
    assert not accepted(provider, post(body.replace(auth, auth.title())), one)


# --- verdicts ------------------------------------------------------------------------------------


def sendgrid(**fields: Any) -> Event:
    item = {
        "event": "bounce", "email": "a@example.com", "timestamp": NOW, "sg_event_id": "e1",
        "sg_message_id": "m1.recvd-1", "type": "bounce",
    }  # fmt: skip
    return parsed("sendgrid", [item | fields])[0]


def test_a_permanent_flag_beside_a_temporary_reply_is_hard() -> None:
    """The provider has put the address on its own list; the reply gives the reason."""
    event = sendgrid(reason="452 4.2.2 mailbox is full", status="4.2.2")
    assert judged(event) == ("hard", "mailbox_full")


def test_a_transient_flag_beside_a_permanent_reply_is_soft() -> None:
    """The provider will try again, and so may the sender: no address is given up for good."""
    notification = payload("ses/bounce_transient_with_a_reply")
    record = orjson.loads(notification["Message"])
    record["bounce"]["bouncedRecipients"][0] |= {
        "status": "5.1.1", "diagnosticCode": "smtp; 550 5.1.1 user unknown",
    }  # fmt: skip
    (event,) = parsed("ses", {**notification, "Message": orjson.dumps(record).decode()})
    assert (event["event_type"], *judged(event)) == ("bounced", "soft", "no_mailbox")


@pytest.mark.parametrize(
    ("message", "verdict"),
    [
        ("550 5.1.1 no such user here", ("hard", "no_mailbox")),
        ("552 5.2.2 mailbox full", ("soft", "mailbox_full")),
        ("Something went wrong", ("undetermined", "other")),
        (None, ("undetermined", "none")),
    ],
)
def test_a_resend_bounce_without_a_type_is_judged_by_its_words(
    message: str | None, verdict: tuple[str, str]
) -> None:
    """Without words either, nothing is known, and nobody is suppressed."""
    body = payload("resend/bounced_without_type")
    body["data"]["bounce"] = {"message": message} if message else {}
    (event,) = parsed("resend", body, ("svix-id", "msg_1"))
    assert (event["event_type"], *judged(event)) == ("bounced", *verdict)


def test_a_postmark_subscription_change_without_a_reason() -> None:
    """Sending stopped: unsubscribed. Sending allowed again: off the list. Neither: unknown."""
    body = payload("postmark/subscription_change_without_reason")
    for reason in ({}, {"SuppressionReason": None}, {"SuppressionReason": ""}):
        assert parsed("postmark", body | reason)[0]["event_type"] == "unsubscribed"
    again = parsed("postmark", body | {"SuppressSending": False})
    assert {one["event_type"] for one in again} == {"suppression_removed"}
    body.pop("SuppressSending")
    assert parsed("postmark", body)[0]["event_type"] == "unknown"


# --- SendGrid ------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 8])
def test_custom_arguments_named_like_sendgrids_fields_are_sendgrids(count: int) -> None:
    """They are no metadata, and a value that SendGrid would not give does no harm."""
    item = {
        "event": "delivered", "email": "a@example.com", "timestamp": NOW,
        "sg_message_id": "m1.recvd-1", "response": "250 OK", "status": "premium", "type": "vip",
        "url": "https://shop.example/", "pool": "gold", "reason": 7, "plan": "gold",
    }  # fmt: skip
    batch = [{**item, "sg_event_id": f"e{number}"} for number in range(count)]
    for event in parsed("sendgrid", batch):
        assert event["metadata"] == {"plan": "gold"}
        assert (event["native_type"], event["bounce_class"]) == ("delivered", "none")
        assert (event["click_url"], event["enhanced_status"]) == (None, None)


def test_a_sendgrid_retry_with_a_new_event_id_is_a_new_event_of_the_same_message() -> None:
    """``sg_event_id`` is believed: plain counts have it twice, counts of messages once."""
    first, again = sendgrid(sg_event_id="e1"), sendgrid(sg_event_id="e2")
    assert first["event_id"] != again["event_id"]
    assert unit_key(first) == unit_key(again)


def test_an_asynchronous_bounce_names_its_message_by_the_senders_message_id() -> None:
    """It has no ``sg_message_id``, and no other id is made up: later events have only that."""
    delivered, bounced = parsed("sendgrid", payload("sendgrid/bounce_async_with_own_message_id"))
    assert delivered["rfc_message_id"] == bounced["rfc_message_id"] == "order-77@shop.example"
    assert bounced["message_id"] is None
    assert delivered["recipient_identity"] == bounced["recipient_identity"]


# --- Klaviyo -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "domain"),
    [
        ("example.com", "example.com"), ("Example.COM", "example.com"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("nonsense", ""), ("a@example.com", ""), ("", ""), (7, ""), (None, ""),
    ],
)  # fmt: skip
def test_klaviyos_email_domain_is_the_domain_where_there_is_no_address(
    given: object, domain: str
) -> None:
    """It tells mailbox providers apart; it is never taken for a recipient."""
    body = payload("klaviyo/recipient_unknown")
    properties = body["data"][0]["payload"]["data"]["attributes"]["event_properties"]
    properties["Email Domain"] = given
    (event,) = parsed("klaviyo", body)
    assert (event["recipient"], event["recipient_domain"]) == (None, domain)
    properties["$email"] = "a@other.example"
    assert parsed("klaviyo", body)[0]["recipient_domain"] == "other.example"


# --- Mailgun -------------------------------------------------------------------------------------


def test_resend_tells_no_resubscription() -> None:
    """Any change of a contact has its ``unsubscribed``, which was false before too."""
    contact = payload("resend/contact_updated_not_unsubscribed")
    (event,) = parsed("resend", contact)
    assert (event["event_type"], event["suppression_scope"]) == ("unknown", None)


def test_mailguns_scope_of_an_unsubscribe_is_no_campaign() -> None:
    """``*`` means all mail of the domain; other tags are those of the message."""
    body = payload("mailgun/unsubscribed_from_all")
    (event,) = parsed("mailgun", body)
    assert (event["campaign_id"], event["tags"]) == (None, [])
    body["event-data"]["tags"] = ["*", "spring"]
    (event,) = parsed("mailgun", body)
    assert (event["campaign_id"], event["suppression_scope"]) == ("spring", None)
