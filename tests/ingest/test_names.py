"""Names that providers give: their campaigns stay apart, and their word on a link is kept."""

from typing import Any

import orjson
import pytest

from ingest.providers import REGISTRY
from ingest.providers.base import Request
from schemas.event import Event
from tests.ingest.keys import example
from tests.ingest.provider_suite import RECEIVED_AT

OF_THE_PROVIDER: dict[str, tuple[dict[str, Any], str]] = {
    "brevo": ({"event": "click", "email": "ada@example.com", "camp_id": 4242}, "4242"),
    "mailjet": (
        {"event": "click", "email": "ada@example.com", "mj_campaign_id": 4242, "MessageID": 1},
        "4242",
    ),
    "iterable": (
        {"eventName": "emailClick", "email": "ada@example.com", "dataFields": {"campaignId": 4242}},
        "4242",
    ),
    "customer_io": (
        {"object_type": "email", "metric": "clicked", "data": {"campaign_id": 4242}},
        "4242",
    ),
    "loops": ({"eventName": "email.clicked", "campaignId": "4242"}, "4242"),
    "resend": ({"type": "email.clicked", "data": {"broadcast_id": "4242"}}, "4242"),
}
"""Provider -> an event with its own campaign 4242, and the id after its name."""


def parsed(provider: str, body: object, **source: Any) -> Event:
    """The event in a body."""
    request = Request("POST", "", (), orjson.dumps(body), "192.0.2.1")
    given = example(provider, **source).source
    [event] = REGISTRY[provider].parse(request, given, RECEIVED_AT).one_by_one().events
    return event


@pytest.mark.parametrize("provider", sorted(OF_THE_PROVIDER))
def test_a_campaign_that_a_provider_numbers_names_it(provider: str) -> None:
    """Brevo's 4242 and Mailjet's are two campaigns, and so are those of two accounts."""
    body, number = OF_THE_PROVIDER[provider]
    for account in ("north", "south"):
        event = parsed(provider, body, account=account)
        assert event["campaign_id"] == f"{provider}:{account}:{number}"
        assert event["campaign_source"] == "provider"
    assert parsed(provider, body, account="")["campaign_id"] == f"{provider}:{number}"


def test_a_name_that_the_sender_gives_is_shared_across_providers() -> None:
    """By tag, metadata, header, or the provider's field for it; whatever it looks like."""
    brevo = {"event": "click", "email": "ada@example.com", "camp_id": 4242}
    events = [
        parsed("brevo", {**brevo, "tags": ["brevo:4242"]}),
        parsed("brevo", {**brevo, "X-Mailin-custom": '{"campaign_id": "brevo:4242"}'}),
        parsed("mailjet", {"event": "open", "customcampaign": "brevo:4242", "mj_campaign_id": 7}),
        parsed("sparkpost", [{"msys": {"a": {"type": "open", "campaign_id": "brevo:4242"}}}]),
        parsed("generic", {"event": "opened", "campaign_id": "brevo:4242"}),
        parsed("brevo", brevo, account=""),
    ]
    assert {event["campaign_id"] for event in events} == {"brevo:4242"}
    sources = [event["campaign_source"] for event in events]
    assert sources == ["tag", "metadata", "tag", "sender", "metadata", "provider"]


def test_ids_that_a_provider_keeps_in_metadata_name_it_too() -> None:
    """A source that takes Iterable's template for the campaign gets Iterable's, not a name."""
    body = {"eventName": "emailOpen", "dataFields": {"templateId": 7, "campaignName": "Spring"}}
    found = {
        key: parsed("iterable", body, account="", campaign_from=(f"metadata.{key}",))["campaign_id"]
        for key in ("templateId", "campaignName")
    }
    assert found == {"templateId": "iterable:7", "campaignName": "Spring"}


LINK = "https://shop.example/l/8f3?u=1"
HEADER = {"name": "List-Unsubscribe", "value": f"<mailto:leave@shop.example>, <{LINK}>"}


def _ses(link: str, *headers: dict[str, str]) -> dict[str, Any]:
    return {
        "eventType": "Click",
        "mail": {"messageId": "m1", "destination": ["ada@example.com"], "headers": list(headers)},
        "click": {"link": link},
    }


@pytest.mark.parametrize(
    ("provider", "body", "expected"),
    [
        ("ses", _ses(LINK, HEADER), True),
        ("ses", _ses("https://shop.example/a", HEADER), None),
        ("ses", _ses(LINK), None),
        (
            "resend",
            {"type": "email.clicked", "data": {"headers": [HEADER], "click": {"link": LINK}}},
            True,
        ),
        ("iterable", {"eventName": "hostedUnsubscribeClick", "dataFields": {}}, True),
        ("iterable", {"eventName": "emailClick", "dataFields": {"url": LINK}}, None),
        ("generic", {"event": "clicked", "url": LINK, "unsubscribe_link": True}, True),
        ("generic", {"event": "clicked", "url": LINK, "unsubscribe_link": False}, False),
        ("generic", {"event": "clicked", "url": LINK, "unsubscribe_link": "yes"}, None),
        ("sendgrid", [{"event": "click", "url": LINK}], None),
    ],
)
def test_what_a_provider_says_of_a_link_is_kept(
    provider: str, body: object, expected: bool | None
) -> None:
    """Its own flag, or a link in the message's List-Unsubscribe header."""
    event = parsed(provider, body)
    assert event["event_type"] == "clicked"
    assert event["unsubscribe_link"] is expected
