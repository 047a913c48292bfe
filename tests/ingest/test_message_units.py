"""Which events are of one message: also where the provider gives no message id.

Invariants:
1. The unit is the one that every unique count is made of (``schemas.event.unit_key``).
2. Bodies are those that the providers document, made here field by field.
"""

from typing import Any

import pytest

from ingest.providers import REGISTRY, addresses, items
from schemas.event import Event, unit_key
from tests.ingest.cases import all_cases
from tests.ingest.keys import example
from tests.ingest.provider_suite import NOW, RECEIVED_AT
from tests.ingest.reading import events_of, parsed


def brevo(event: str, reader: int = 1, **more: object) -> dict[str, Any]:
    """A marketing event: Brevo documentation, «Marketing webhooks»."""
    base = {
        "id": 7711, "camp_id": 42, "email": f"reader{reader}@example.com", "event": event,
        "campaign name": "My First Campaign", "date_sent": "2026-11-24 10:00:00",
        "date_event": "2026-11-24 11:00:00", "tag": "", "ts_sent": NOW - 7_200,
        "ts_event": NOW - 3_600, "ts": NOW,
    }  # fmt: skip
    return base | more


def test_a_brevo_campaign_is_one_message_per_reader() -> None:
    """Four delivered and three opens of them are an open rate of three in four, not of zero."""
    delivered = [brevo("delivered", reader) for reader in range(4)]
    opens = [brevo("opened", reader, ts_event=NOW - 60) for reader in range(3)]
    events = parsed("brevo", [*delivered, *opens])
    units = [unit_key(event) for event in events]
    assert len(set(units[:4])) == 4
    assert units[4:] == units[:3]


def test_two_sends_of_a_brevo_campaign_are_two_messages() -> None:
    """To the same reader, at another time, or by another account that numbers alike."""
    first, again = parsed("brevo", [brevo("delivered"), brevo("delivered", ts_sent=NOW - 60)])
    (other,) = parsed("brevo", [brevo("delivered")], account="other")
    assert len({unit_key(event) for event in (first, again, other)}) == 3


def test_two_brevo_clicks_in_one_second_on_two_links_are_two_events() -> None:
    """The link is called ``URL`` in marketing events."""
    links = ["https://shop.example/a", "https://shop.example/b"]
    events = parsed("brevo", [brevo("click", URL=link) for link in links])
    assert [event["click_url"] for event in events] == links
    assert len({event["event_id"] for event in events}) == 2
    assert len({unit_key(event) for event in events}) == 1


def klaviyo(topic: str, cohort: str | None) -> dict[str, Any]:
    """An event of a flow's message: Klaviyo documentation, «Working with system webhooks»."""
    properties = {"$message": "01HK", "$flow": "F1", "Campaign Name": "Abandoned cart"}
    if cohort is not None:
        properties["$_cohort$message_send_cohort"] = cohort
    event = {
        "type": "event", "id": f"{topic}{cohort}",
        "attributes": {"timestamp": NOW - 60, "event_properties": properties},
        "relationships": {"profile": {"data": {"type": "profile", "id": "01GD"}}},
    }  # fmt: skip
    return {"topic": f"event:klaviyo.{topic}", "payload": {"data": event}}


def test_two_runs_of_a_klaviyo_flow_are_two_messages_to_the_same_reader() -> None:
    """Each with its own delivery, open and click; without the cohort all are one."""
    topics = ("received_email", "opened_email", "clicked_email")
    runs = ("1795510000:01HK", "1795520000:01HK")
    sent = [klaviyo(topic, run) for run in runs for topic in topics]
    units = [unit_key(event) for event in parsed("klaviyo", {"data": sent})]
    assert len(set(units[:3])) == len(set(units[3:])) == 1
    assert units[0] != units[3]
    odd = [klaviyo(topic, run) for run in (None, "1795510000:01XX", "x", "") for topic in topics]
    assert len({unit_key(event) for event in parsed("klaviyo", {"data": odd})}) == 1


# --- all providers -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_an_event_without_a_message_id_has_one_made_by_the_same_rule(name: str) -> None:
    """Of campaign and time sent, for whichever provider; a tag names too much to identify."""
    source = example(name).source

    def made(**more: Any) -> Event:
        told: dict[str, Any] = {
            "event_type": "delivered", "native_type": "x", "id_parts": (str(more),),
            "native_id": False, "time": NOW, "recipient": "a@example.com",
        }  # fmt: skip
        return items.make_event(source, RECEIVED_AT, **told | more)

    sent = made(campaign_number=7, sent_time=NOW - 60)
    opened = made(campaign_number=7, sent_time=str(NOW - 60), event_type="opened")
    assert sent["message_id"] == opened["message_id"] == f"{source.sender}:7/{NOW - 60}"
    assert unit_key(sent) == unit_key(opened)
    assert made(campaign_name="spring")["message_id"] == "spring"
    assert made(sent_time=NOW - 60)["message_id"] == f"/{NOW - 60}"
    assert made(rfc_message_id="<a@b.example>")["message_id"] == "a@b.example"
    assert made(tags=["spring"])["message_id"] is None
    assert made(campaign_number=7, recipient=None)["message_id"] is None
    assert made(campaign_number=7, message_id="m")["message_id"] == "m"


@pytest.mark.parametrize("name", sorted(set(REGISTRY) - {"sendgrid"}))
def test_no_payload_with_a_campaign_and_a_reader_lacks_a_message(name: str) -> None:
    """Every documented event that names both belongs to a message."""
    for case in all_cases():
        if case.provider == name:
            for event in case.outcome().get("events", []):
                own = event.get("campaign_source") in ("provider", "sender")
                if own and event.get("recipient"):
                    assert event.get("message_id"), str(case)


@pytest.mark.parametrize("value", ["a@x.example, b@y.example", ["a@x.example", "b@y.example"]])
@pytest.mark.parametrize("name", sorted(set(REGISTRY) - {"sendgrid", "ses"}))
def test_of_several_addresses_none_is_the_recipient(name: str, value: object) -> None:
    """No provider's event is put down to the first of two, and none to both as one address."""
    made = items.make_event(
        example(name).source, RECEIVED_AT, event_type="rejected", native_type="x",
        id_parts=("1",), native_id=True, time=NOW, message_id="m", recipient=value,
    )  # fmt: skip
    assert (made["recipient"], made["recipient_identity"]) == (None, None)
    assert made["recipient_certain"] is False


def test_sendgrid_reads_several_addresses_alike_alone_and_in_a_batch() -> None:
    """By column and one by one."""
    item = {
        "event": "delivered", "email": "a@x.example,b@y.example", "timestamp": NOW,
        "sg_message_id": "m1.recvd-1", "smtp-id": "<m1@ismtpd>", "category": ["c"],
    }  # fmt: skip
    batch = [{**item, "sg_event_id": f"e{number}"} for number in range(8)]
    events = parsed("sendgrid", batch)
    assert {(event["recipient"], event["recipient_certain"]) for event in events} == {(None, False)}


@pytest.mark.parametrize(
    ("value", "several"),
    [
        ("a@x.example", False),
        ('"Doe, Jane @ home" <jane@x.example>', False),
        ("Jane (a@x.example, b@x.example) <jane@x.example>", False),
        ("Doe, Jane <jane@x.example>", False),
        ("a@x.example, b@x.example", True),
        ("A <a@x.example>; B <b@x.example>", True),
        (["a@x.example"], False),
        ([], False),
        (None, False),
        (7, False),
    ],
)
def test_what_several_addresses_are(value: object, several: bool) -> None:
    """Commas in names and comments separate nothing (RFC 5322 §3.4)."""
    assert addresses.are_several(value) is several


# --- identities ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_a_composite_id_contains_the_link(name: str) -> None:
    """Two clicks in one second on two links are two events, however the provider calls the link."""
    for case in all_cases():
        if case.provider != name or "bad_input" in case.expected:
            continue
        for event in events_of(case):
            link = (event["click_url"] or "").encode()
            body = case.path.read_bytes()
            if link and link in body and event["dedupe_quality"] == "composite":
                other = events_of(case, body.replace(link, b"https://elsewhere.example/"))
                assert event["event_id"] not in {one["event_id"] for one in other}, str(case)
