"""Scopes: which list, group or topic an unsubscribe or a re-subscription is limited to."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.providers import scopes
from schemas.codec import Codec
from schemas.event import ID_CHARS_MAX, Event, EventType
from tests.builders import event
from tests.ingest.cases import ROOT, Case, all_cases
from tests.ingest.reading import parsed, payload

SCOPED = {"subscribed", "unsubscribed", "suppression_added", "suppression_removed"}
NAMES = st.lists(st.text(min_size=1, max_size=8).map("list:".__add__), max_size=8)


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (7, "list:7"), ("7", "list:7"), (" News ", "list:News"),
        (2**63, f"list:{2**63}"), (-1, "list:-1"), ("a@b.example", "list:a@b.example"),
        (0, None), ("0", None), ("", None), ("  ", None), (None, None), (False, None), (True, None),
        (1.5, None), ([1], None), ({"id": 1}, None),
    ],
)  # fmt: skip
def test_a_scope_is_kind_and_id(value: object, wanted: str | None) -> None:
    """Without an id there is none, so that the event concerns the address."""
    assert scopes.scope("list", value) == wanted


def test_a_scope_has_the_length_of_an_id() -> None:
    """And can be written, whatever characters it has."""
    found = scopes.scope("topic", "\ud800\0" + "ü" * 3000) or ""
    assert len(found) == ID_CHARS_MAX
    Codec().encode("raw_event", event(suppression_scope=found))


@given(NAMES, st.randoms(use_true_random=False))
def test_each_scope_is_one_event_with_an_id_of_its_own(names: list[str], order: Any) -> None:
    """The same in another order and with repeats, as a retry may have them; and nothing shared."""
    one = event(event_type="unsubscribed", tags=["a"], metadata={"b": "c"})
    shuffled = names * 2
    order.shuffle(shuffled)
    made = scopes.by_scope(one, names)
    ids = {each["suppression_scope"]: each["event_id"] for each in made}
    assert len(made) == len(ids) == len(set(ids.values())) == max(1, len(set(names)))
    again = scopes.by_scope(event(event_type="unsubscribed"), shuffled)
    assert {each["suppression_scope"]: each["event_id"] for each in again} == ids
    for each in made:
        each["tags"].append("changed")
        each["metadata"]["b"] = "changed"
    assert not names or (one["tags"], one["metadata"]) == (["a"], {"b": "c"})


def test_very_many_scopes_are_all_mail_to_leave_and_none_to_join() -> None:
    """A notification can't become any number of events, and none of it lifts too much."""
    names = [f"list:{number}" for number in range(scopes.SCOPES_MAX + 1)]
    left, joined = event(event_type="unsubscribed"), event(event_type="subscribed")
    assert len(scopes.by_scope(left, names[1:])) == scopes.SCOPES_MAX
    for one, wanted in ((left, "unsubscribed"), (joined, "unknown")):
        (made,) = scopes.by_scope(one, names)
        assert (made["event_type"], made["suppression_scope"]) == (wanted, None)


# --- what providers send -------------------------------------------------------------------------

EXPECTED = {
    "customer_io/preferences_changed":
        {("unsubscribed", "topic:topic_7"), ("unsubscribed", "topic:topic_9"),
         ("subscribed", "topic:topic_8")},
    "iterable/email_subscribe": {("subscribed", "list:1")},
    "iterable/email_unsubscribe": {("unsubscribed", None)},
    "iterable/email_unsubscribe_channel_and_list":
        {("unsubscribed", "channel:27447"), ("unsubscribed", "list:10")},
    "iterable/email_unsubscribe_message_types":
        {("unsubscribed", "message_type:83299"), ("unsubscribed", "message_type:83300")},
    "loops/contact_unsubscribed": {("unsubscribed", None)},
    "loops/mailing_list_subscribed": {("subscribed", "list:cm4ittp2k000l12j3lgrzvlxt")},
    "loops/mailing_list_unsubscribed": {("unsubscribed", "list:cm4ittp2k000l12j3lgrzvlxt")},
    "loops/unsubscribed": {("unsubscribed", None)},
    "mailgun/unsubscribed": {("unsubscribed", "tag:my_tag_1"), ("unsubscribed", "tag:my_tag_2")},
    "mailgun/unsubscribed_from_all": {("unsubscribed", None)},
    "mailgun/unsubscribed_without_tags": {("unsubscribed", None)},
    "mailjet/unsub": {("unsubscribed", "list:1")},
    "mailjet/unsub_without_list": {("unsubscribed", None)},
    "postmark/subscription_change_HardBounce": {("bounced", None)},
    "postmark/subscription_change_ManualSuppression": {("unsubscribed", "stream:outbound")},
    "postmark/subscription_change_ManualSuppression_by_customer":
        {("suppression_added", "stream:broadcasts")},
    "postmark/subscription_change_reactivated":
        {("suppression_removed", None), ("suppression_removed", "stream:outbound")},
    "postmark/subscription_change_without_reason": {("unsubscribed", "stream:outbound")},
    "resend/contact_topics_updated":
        {("unsubscribed", "topic:07d84122-7224-4881-9c31-1c048e204602"),
         ("subscribed", "topic:b6d24b8e-af0b-4c3c-be0c-359bbd97381e")},
    "resend/contact_updated_unsubscribed": {("unsubscribed", None)},
    "sendgrid/group_resubscribe": {("subscribed", "group:10")},
    "sendgrid/group_unsubscribe": {("unsubscribed", "group:10")},
    "sendgrid/group_unsubscribe_without_group": {("unsubscribed", None)},
    "sendgrid/unsubscribe": {("unsubscribed", None)},
    "ses/subscription_back_from_all": {("subscribed", None), ("unsubscribed", "topic:Offers")},
    "ses/subscription_nothing_changed": {("unknown", None)},
    "ses/subscription_several_topics":
        {("unsubscribed", "topic:News"), ("unsubscribed", "topic:Offers"),
         ("subscribed", "topic:Digest")},
    "ses/subscription_unsubscribe_all": {("unsubscribed", None)},
}  # fmt: skip
"""Payload -> its events: type and scope."""


@pytest.mark.parametrize("path", sorted(EXPECTED))
def test_what_is_left_or_joined_is_read(path: str) -> None:
    """Written here by what the documentation says of each, not by what the code makes."""
    events = Case(path.partition("/")[0], ROOT / f"{path}.json").outcome()["events"]
    found = {(one["event_type"], one.get("suppression_scope")) for one in events}
    assert found == EXPECTED[path]


@pytest.mark.parametrize("case", all_cases(), ids=str)
def test_only_events_about_subscriptions_and_lists_have_a_scope(case: Case) -> None:
    """A message's group or stream is no scope of its bounce: those concern the address."""
    for one in case.outcome().get("events", []):
        if "suppression_scope" in one:
            assert one["event_type"] in SCOPED
            assert ":" in one["suppression_scope"]
            assert len(one["suppression_scope"]) <= ID_CHARS_MAX


def test_scoped_types_are_known() -> None:
    """So the test above tests something."""
    assert set(EventType) >= SCOPED


def ids(events: list[Event]) -> set[str]:
    return {one["event_id"] for one in events}


def test_two_notifications_that_differ_in_their_scope_alone_are_two_events() -> None:
    """Two choices in one second on a preference page, without a message; none is a duplicate."""
    body = payload("iterable/email_unsubscribe_message_types")
    other = json.loads(json.dumps(body))
    other["dataFields"]["messageTypeIds"] = [1]
    assert not ids(parsed("iterable", body)) & ids(parsed("iterable", other))
    mailjet = payload("mailjet/unsub")
    second = [mailjet[0] | {"mj_list_id": 2}]
    assert not ids(parsed("mailjet", mailjet)) & ids(parsed("mailjet", second))
    plain = {"event": "unsubscribed", "time": 1795520000, "recipient": "ada@example.com"}
    one, two = (plain | {"suppression_scope": name} for name in ("list:a", "list:b"))
    assert not ids(parsed("generic", one)) & ids(parsed("generic", two))


def test_an_ses_choice_is_the_same_event_by_each_way() -> None:
    """By SNS, or bare as EventBridge and Firehose deliver it, with the topics in another order."""
    envelope = payload("ses/subscription_several_topics")
    bare = json.loads(envelope["Message"])
    topics = bare["subscription"]["newTopicPreferences"]["topicSubscriptionStatus"]
    topics.reverse()
    assert ids(parsed("ses", envelope)) == ids(parsed("ses", {"detail": bare}))


def test_any_senders_scope_is_found_by_its_mapping() -> None:
    """In the default shape, or where the mapping says."""
    plain = {"event": "unsubscribed", "id": "1", "recipient": "ada@example.com"}
    (one,) = parsed("generic", plain | {"suppression_scope": "list:news"})
    assert one["suppression_scope"] == "list:news"
    fields = {"fields": {"suppression_scope": "list.name"}}
    (two,) = parsed("generic", plain | {"list": {"name": "news"}}, mapping=fields)
    assert two["suppression_scope"] == "news"
    entry = {"event": "suppression_added", "id": "2", "recipient": "ada@example.com"}
    (three,) = parsed("generic", entry | {"bounce": {"reason": "suppressed_complaint"}})
    assert (three["event_type"], three["bounce_reason"]) == (
        "suppression_added", "suppressed_complaint",
    )  # fmt: skip
