"""Amazon SES: one event record -> one event, or one per recipient. Invariants: see ``ses``."""

from collections.abc import Mapping
from typing import Any

from ingest.providers import addresses, fields, items, scopes
from ingest.providers.bounce_subtypes import is_automatic_reply, ses_verdict
from schemas.errors import BadInput
from schemas.event import Event
from schemas.settings import Source

EVENTS: Mapping[str, str] = {
    "Send": "sent",
    "Delivery": "delivered",
    "DeliveryDelay": "deferred",
    "Bounce": "bounced",
    "Complaint": "complained",
    "Reject": "rejected",
    "Rendering Failure": "failed",
    "Open": "opened",
    "Click": "clicked",
    "Subscription.OptOut": "unsubscribed",
    "Subscription.OptIn": "subscribed",
}
_CHOICES = ("OptOut", "OptIn")
_PARTS = {"Rendering Failure": "failure", "DeliveryDelay": "deliveryDelay"}
"""Event -> name of the object with its details, unless it is the event's name in lower case."""

_RECIPIENTS = {
    "Bounce": "bouncedRecipients",
    "Complaint": "complainedRecipients",
    "Delivery": "recipients",
    "DeliveryDelay": "delayedRecipients",
}
"""Event -> name of its list of recipients; other events have the message's destinations only."""

_ONE_ACTOR = frozenset(("Open", "Click", "Subscription"))
"""Events caused by one of the destinations, without naming it."""

_DELAYS = {
    "MailboxFull": "mailbox_full",
    "SpamDetected": "content",
    "IPFailure": "reputation",
    "TransientCommunicationFailure": "timeout",
    "BYOIPHostNameLookupUnavailable": "dns",
}


def build(item: items.Item, source: Source, received_at: int, batch_id: object) -> list[Event]:
    """The events of a record, one per recipient.

    Raises:
        BadInput: ``no_event_type``.
    """
    kind = item.get("eventType") or item.get("notificationType")
    if not isinstance(kind, str) or not kind:
        raise BadInput("no_event_type", "record has neither eventType nor notificationType")
    mail = fields.as_dict(item.get("mail"))
    details = fields.as_dict(item.get(_PARTS.get(kind, kind.lower())))
    named, recipients = _recipients(kind, mail, details)
    certain = len(recipients) == 1 or (named and kind != "Complaint") or kind not in _RECIPIENTS
    if kind in _ONE_ACTOR and len(recipients) != 1:
        recipients, certain = [{}], False
    made = []
    for recipient in recipients or [{}]:
        event = _event(kind, mail, details, recipient, source, received_at)
        event["recipient_certain"] = certain and bool(event["recipient"])
        event["batch_id"] = fields.text(batch_id, items.NATIVE_TYPE_CHARS_MAX)
        made.extend(_choices(event, details) if kind == "Subscription" else [event])
    return made


def _recipients(
    kind: str, mail: dict[str, Any], details: dict[str, Any]
) -> tuple[bool, list[dict[str, Any]]]:
    """Recipients as objects with at least ``emailAddress``, without repeats.

    Returns:
        Whether the event itself names them, and the recipients.
    """
    named = fields.as_list(details.get(_RECIPIENTS.get(kind, "")))
    found: dict[str, dict[str, Any]] = {}
    for one in named or fields.as_list(mail.get("destination")):
        entry = {"emailAddress": one} if isinstance(one, str) else fields.as_dict(one)
        mailbox, _ = addresses.address(entry.get("emailAddress"))
        if mailbox is not None:
            found.setdefault(mailbox, entry)
    return bool(named), list(found.values())


def _event(
    kind: str,
    mail: dict[str, Any],
    details: dict[str, Any],
    recipient: dict[str, Any],
    source: Source,
    received_at: int,
) -> Event:
    native, event_type, bounce_class, bounce_reason = _verdict(kind, details)
    if kind == "Bounce" and is_automatic_reply(
        details.get("bounceType"), details.get("bounceSubType"),
        recipient.get("diagnosticCode") or recipient.get("status"),
    ):  # fmt: skip
        event_type, bounce_class, bounce_reason = "autoresponded", "none", "none"
    moment = details.get("timestamp") or mail.get("timestamp")
    mailbox, _ = addresses.address(recipient.get("emailAddress"))
    headers = fields.header_map(mail.get("headers"))
    common = fields.as_dict(mail.get("commonHeaders"))
    own = details.get("feedbackId") or details.get("link")
    event = items.make_event(
        source,
        received_at,
        event_type=event_type,
        native_type=native,
        id_parts=(mail.get("messageId"), kind, mailbox, moment, own),
        native_id=False,
        time=moment,
        message_id=mail.get("messageId"),
        rfc_message_id=headers.get("message-id") or common.get("messageId"),
        recipient=mailbox,
        metadata=_tags(mail.get("tags")),
        headers=headers,
    )
    items.set_reply(
        event,
        diagnostic=_said(recipient, details),
        enhanced_status=recipient.get("status"),
        bounce_class=bounce_class,
        bounce_reason=bounce_reason,
    )
    if kind in ("Open", "Click"):
        items.set_client(
            event,
            user_agent=details.get("userAgent"),
            ip=details.get("ipAddress"),
            click_url=details.get("link"),
            unsubscribe_link=fields.is_listed(details.get("link"), headers.get("list-unsubscribe")),
        )
    return event


def _said(recipient: dict[str, Any], details: dict[str, Any]) -> object:
    """The reply of the receiving server, or of SES in its place."""
    for value in (
        recipient.get("diagnosticCode"),
        details.get("smtpResponse"),
        details.get("errorMessage"),
    ):
        if value:
            return value
    return None


def _tags(value: object) -> dict[str, Any]:
    """Message tags (name -> list of values) as metadata; a single value stands alone."""
    return {
        name: given[0] if isinstance(given, list) and len(given) == 1 else given
        for name, given in fields.as_dict(value).items()
    }


def _verdict(kind: str, details: dict[str, Any]) -> tuple[str, str, str, str]:
    """Native name with its subtype, event type, bounce class, bounce reason."""
    otherwise = EVENTS.get(kind, "unknown")
    if kind == "Bounce":
        subtype = details.get("bounceSubType")
        bounce_class, reason = ses_verdict(details.get("bounceType"), subtype)
        return _dotted(kind, details.get("bounceType"), subtype), otherwise, bounce_class, reason
    if kind == "Complaint":
        feedback, subtype = details.get("complaintFeedbackType"), details.get("complaintSubType")
        native = _dotted(kind, feedback, subtype)
        if subtype == "OnAccountSuppressionList":  # it was never sent: not a complaint
            return native, "rejected", "suppressed", "suppressed_complaint"
        return native, "unknown" if feedback == "not-spam" else otherwise, "none", "none"
    if kind == "DeliveryDelay":
        delay = details.get("delayType")
        reason = _DELAYS.get(delay, "none") if isinstance(delay, str) else "none"
        return _dotted(kind, delay), otherwise, "soft", reason
    if kind == "Reject":
        why = details.get("reason")  # always «Bad content»: a virus was found
        return _dotted(kind, why), otherwise, "none", "content" if why else "none"
    return kind, otherwise, "none", "none"


def _dotted(*parts: object) -> str:
    return ".".join(part for part in parts if isinstance(part, str) and part)


def _choices(event: Event, details: dict[str, Any]) -> list[Event]:
    """What was left and joined: all mail, or topics whose status is another than before."""
    new = fields.as_dict(details.get("newTopicPreferences"))
    old = fields.as_dict(details.get("oldTopicPreferences"))
    left_all, joined_all = scopes.all_mail(event, _CHOICES)
    if new.get("unsubscribeAll") is True:
        return [left_all]
    before, now = _topics(old), _topics(new)
    changed = {topic: status for topic, status in now.items() if before.get(topic) != status}
    left, joined = (
        scopes.scopes("topic", [topic for topic, status in changed.items() if status == choice])
        for choice in _CHOICES
    )
    if old.get("unsubscribeAll") is not True:
        return scopes.by_choice(event, left, joined, _CHOICES)
    chosen = scopes.by_choice(event, left, joined, _CHOICES) if left or joined else []
    return [joined_all, *chosen]


def _topics(preferences: dict[str, Any]) -> dict[str, object]:
    """Topic -> status."""
    listed = fields.as_list(preferences.get("topicSubscriptionStatus"))
    entries = (one for one in listed if isinstance(one, dict))
    return {fields.id_part(one.get("topicName")): one.get("subscriptionStatus") for one in entries}
