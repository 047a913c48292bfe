"""What providers report of unsubscribes and of their own lists, from the webhook to the topics."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.providers import fields
from ingest.providers.mandrill import build
from schemas.event import Event
from streams.enrich.telling import Addressee
from tests.ingest.keys import example
from tests.ingest.provider_suite import NOW
from tests.ingest.reading import parsed
from tests.streams.folding import Fold, log_of

ADA = "ada@example.com"
Standing = dict[tuple[str, str], str | None]


def standing(events: list[Event]) -> Standing:
    """Source and scope -> the reason that was told last, of Ada; ``None``: lifted."""
    fold = Fold()
    fold.fold(log_of(events))
    told = {one.addressee: one.record and one.record["reason"] for one in fold.suppressions}
    assert {one.identity for one in told} <= {ADA}
    return {(one.source, one.scope): reason for one, reason in told.items()}


def sendgrid(native: str, at: int, group: int | None = None) -> list[Event]:
    item = {"event": native, "email": "Ada@Example.com", "timestamp": NOW + at,
            "sg_event_id": f"{native}{at}{group}"}  # fmt: skip
    return parsed("sendgrid", [item if group is None else item | {"asm_group_id": group}])


def postmark(record: str, at: int, **more: Any) -> list[Event]:
    time = "BouncedAt" if record == "Bounce" else "ChangedAt"
    item = {"RecordType": record, time: fields.iso(NOW + at), "MessageStream": "news", **more}
    return parsed("postmark", item | {"Email" if record == "Bounce" else "Recipient": ADA})


def resend(kind: str, at: int, **data: Any) -> list[Event]:
    item = {"type": kind, "created_at": fields.iso(NOW + at), "data": {"email": ADA, **data}}
    return parsed("resend", item, ("svix-id", f"msg_{kind}{at}"))


def mandrill(action: str, at: int, reason: str, **more: Any) -> list[Event]:
    entry = {"email": ADA, "reason": reason, **more}
    item = {"type": "blacklist", "action": action, "reject": entry, "ts": NOW + at}
    return build(item, example("mandrill").source, NOW * 1_000_000)


def test_a_group_unsubscribe_does_not_suppress_the_address() -> None:
    """Nor another group; and what was told of the address stays."""
    events = sendgrid("group_unsubscribe", -9, 10)
    assert standing(events) == {("sendgrid", "group:10"): "unsubscribe"}
    events += sendgrid("spamreport", -8) + sendgrid("group_resubscribe", -7, 11)
    assert standing(events) == {("sendgrid", "group:10"): "unsubscribe", ("", ""): "complaint"}


def test_a_group_resubscribe_lifts_that_group_alone() -> None:
    """Not another group, not the unsubscribe from all mail."""
    events = [
        *sendgrid("group_unsubscribe", -9, 10), *sendgrid("group_unsubscribe", -9, 11),
        *sendgrid("unsubscribe", -9), *sendgrid("group_resubscribe", -5, 10),
    ]  # fmt: skip
    assert standing(events) == {
        ("sendgrid", "group:10"): None, ("sendgrid", "group:11"): "unsubscribe",
        ("", ""): "unsubscribe",
    }  # fmt: skip


def test_one_groups_batch_suppresses_it_as_a_single_event_does() -> None:
    """Many in one request, beside usual events that are read by column."""
    item: dict[str, Any] = {"email": ADA, "sg_message_id": "m.filter1"}
    batch = [
        item | {"event": native, "timestamp": NOW - 90 + n, "sg_event_id": f"{native}{n}",
                "asm_group_id": n % 3 + 1}
        for n in range(24) for native in ("delivered", "open", "group_unsubscribe")
    ]  # fmt: skip
    told = standing(parsed("sendgrid", batch))
    assert told == {("sendgrid", f"group:{n}"): "unsubscribe" for n in (1, 2, 3)}


def test_a_reactivation_lifts_a_hard_bounce_and_its_stream() -> None:
    """Postmark's, which names no reason; not a complaint, and no other stream."""
    bounce = postmark("Bounce", -90, ID=1, Type="HardBounce", MessageID="m1")
    manual = {"SuppressSending": True, "SuppressionReason": "ManualSuppression"}
    left = postmark("SubscriptionChange", -80, Origin="Recipient", **manual)
    other = postmark(
        "SubscriptionChange", -80, Origin="Customer", **manual | {"MessageStream": "offers"}
    )
    again = postmark("SubscriptionChange", -70, SuppressSending=False, Origin="Customer")
    assert standing(bounce + left + other) == {
        ("", ""): "hard_bounce", ("postmark", "stream:news"): "unsubscribe",
        ("postmark", "stream:offers"): "manual",
    }  # fmt: skip
    assert standing(bounce + left + other + again) == {
        ("", ""): None, ("postmark", "stream:news"): None, ("postmark", "stream:offers"): "manual",
    }  # fmt: skip
    spam = postmark("SpamComplaint", -85, ID=2, MessageID="m1", BouncedAt=fields.iso(NOW - 85))
    assert standing(spam + again) == {("", ""): "complaint"}


def test_a_bounce_after_the_reactivation_suppresses_again() -> None:
    """By the times at which things happened, in whichever order they are told."""
    again = postmark("SubscriptionChange", -70, SuppressSending=False, Origin="Customer")
    bounce = postmark("Bounce", -60, ID=1, Type="HardBounce", MessageID="m1")
    assert standing(again + bounce)["", ""] == "hard_bounce"
    assert standing(bounce + again)["", ""] == "hard_bounce"


@pytest.mark.parametrize(
    ("origin", "reason"),
    [("bounce", "hard_bounce"), ("complaint", "complaint"), ("manual", "manual")],
)
def test_entries_of_resends_list_are_told_and_lifted(origin: str, reason: str) -> None:
    """Each as what it stands for."""
    added = resend("suppression.added", -9, origin=origin, id="s")
    removed = resend("suppression.removed", -5, origin=origin, id="s")
    assert standing(added) == {("", ""): reason}
    assert standing(added + removed) == {("", ""): None}


def test_a_bounce_off_resends_list_lifts_no_complaint() -> None:
    """Which another provider told."""
    events = sendgrid("spamreport", -9) + resend("suppression.added", -8, origin="bounce")
    events += resend("suppression.removed", -5, origin="bounce")
    assert standing(events) == {("", ""): "complaint"}


def test_a_contact_that_left_resend_is_suppressed_until_it_is_lifted_by_hand() -> None:
    """A later change of the contact with ``unsubscribed`` false says nothing."""
    left = resend("contact.updated", -9, unsubscribed=True, id="c")
    later = resend("contact.updated", -5, unsubscribed=False, id="c")
    assert standing(left + later) == {("", ""): "unsubscribe"}


def test_resends_topics_are_told_apart() -> None:
    """And from the address."""
    topics = [{"id": "a", "subscription": "opt_out"}, {"id": "b", "subscription": "opt_out"}]
    back = [{"id": "a", "subscription": "opt_in"}]
    events = resend("contact.topics.updated", -9, topics=topics)
    events += resend("contact.topics.updated", -5, topics=back)
    assert standing(events) == {
        ("resend", "topic:a"): None, ("resend", "topic:b"): "unsubscribe",
    }  # fmt: skip


def test_mandrills_denylist_is_followed() -> None:
    """Entries limited to a subaccount or sender concern that; soft bounces are judged here.

    What has ended by itself does not begin again.
    """
    events = [
        *mandrill("add", -9, "unsub", subaccount="shop"), *mandrill("add", -9, "spam"),
        *mandrill("add", -9, "soft-bounce"), *mandrill("add", -9, "unsub", sender="n@a.example"),
        *mandrill("change", -4, "hard-bounce", expired=True),
        *mandrill("remove", -5, "spam"), *mandrill("remove", -5, "unsub", subaccount="shop"),
    ]  # fmt: skip
    assert standing(events) == {
        ("", ""): None, ("mandrill", "subaccount:shop"): None,
        ("mandrill", "sender:n@a.example"): "unsubscribe",
    }  # fmt: skip


CHOICES = st.lists(
    st.tuples(
        st.sampled_from(["group_unsubscribe", "group_resubscribe", "unsubscribe"]),
        st.integers(-99, -1), st.integers(1, 3),
    ), max_size=12,
)  # fmt: skip


@given(CHOICES)
def test_each_group_is_judged_by_its_own_events(choices: list[tuple[str, int, int]]) -> None:
    """Against a recount: of each group the latest choice holds; in one second, leaving."""
    events = [
        one
        for native, at, group in choices
        for one in sendgrid(native, at, None if native == "unsubscribe" else group)
    ]
    told = standing(events)
    for group in (1, 2, 3):
        mine = [(at, native) for native, at, of in choices if of == group and "group" in native]
        latest = max(mine, key=lambda one: (one[0], one[1] == "group_unsubscribe"), default=None)
        suppressed = latest is not None and latest[1] == "group_unsubscribe"
        assert (told.get(("sendgrid", f"group:{group}")) == "unsubscribe") is suppressed
    everywhere = any(native == "unsubscribe" for native, _, _ in choices)
    assert (told.get(("", "")) == "unsubscribe") is everywhere


def test_whom_a_scope_concerns_is_its_source_too() -> None:
    """Two accounts may number their groups alike."""
    one = sendgrid("group_unsubscribe", -9, 10)
    other = [dict(each) | {"source": "shop", "event_id": f"{7:032x}"} for each in one]
    fold = Fold()
    fold.fold(log_of([*one, *other]))  # type: ignore[list-item]
    assert {each.addressee for each in fold.suppressions} == {
        Addressee(ADA, "sendgrid", "group:10"), Addressee(ADA, "shop", "group:10"),
    }  # fmt: skip
