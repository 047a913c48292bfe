"""Amazon SES: one event record -> one event, or one per recipient. Invariants: see ``ses``."""

from collections.abc import Mapping
from typing import Any

from ingest.providers import fields, items
from ingest.providers.bounce_subtypes import ses_verdict
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
        made.append(event)
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
        mailbox, _ = fields.address(entry.get("emailAddress"))
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
    moment = details.get("timestamp") or mail.get("timestamp")
    mailbox, _ = fields.address(recipient.get("emailAddress"))
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
        )
    return event


def _said(recipient: dict[str, Any], details: dict[str, Any]) -> object:
    """The reply of the receiving server, or of SES in its place."""
    for value in (
        recipient.get("diagnosticCode"),
        details.get("smtpResponse"),
        details.get("errorMessage"),
        details.get("reason"),
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
        return kind, otherwise, "none", "content" if details.get("reason") else "none"
    if kind == "Subscription":
        native = f"{kind}.{_choice(details)}"
        return native, EVENTS[native], "none", "none"
    return kind, otherwise, "none", "none"


def _dotted(*parts: object) -> str:
    return ".".join(part for part in parts if isinstance(part, str) and part)


def _choice(details: dict[str, Any]) -> str:
    """``OptOut`` if the reader left everything, or a topic that was chosen before."""
    new = fields.as_dict(details.get("newTopicPreferences"))
    if new.get("unsubscribeAll") is True:
        return "OptOut"
    before = _topics(fields.as_dict(details.get("oldTopicPreferences")))
    left = any(
        status == "OptOut" and before.get(topic) != "OptOut"
        for topic, status in _topics(new).items()
    )
    return "OptOut" if left else "OptIn"


def _topics(preferences: dict[str, Any]) -> dict[str, object]:
    """Topic -> status."""
    listed = fields.as_list(preferences.get("topicSubscriptionStatus"))
    entries = (one for one in listed if isinstance(one, dict))
    return {fields.id_part(one.get("topicName")): one.get("subscriptionStatus") for one in entries}
