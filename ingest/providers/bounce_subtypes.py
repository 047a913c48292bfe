"""Bounce types and subtypes of Amazon SES, also used by Resend.

Source: Amazon SES Developer Guide, «Contents of event data that Amazon SES publishes to Amazon
SNS», bounce types. Subtypes that it does not list are classified by their status codes.
"""

from collections.abc import Mapping

_CLASSES: Mapping[str, str] = {
    "Permanent": "hard",
    "Transient": "soft",
    "Undetermined": "undetermined",
}
_SUBTYPES: Mapping[str, tuple[str, str]] = {
    "NoEmail": ("", "no_mailbox"),
    "MailboxFull": ("", "mailbox_full"),
    "MessageTooLarge": ("", "too_large"),
    "ContentRejected": ("block", "content"),
    "AttachmentRejected": ("block", "content"),
    "CustomTimeoutExceeded": ("", "timeout"),
    "Suppressed": ("suppressed", "suppressed_bounce"),
    "OnAccountSuppressionList": ("suppressed", "suppressed_bounce"),
    "UnsubscribedRecipient": ("suppressed", "suppressed_unsubscribe"),
}
"""Subtype -> bounce class (empty: that of the type), and reason."""


def ses_verdict(kind: object, subtype: object) -> tuple[str, str]:
    """Bounce class and reason of a bounce type and subtype; total."""
    base = _CLASSES.get(kind, "none") if isinstance(kind, str) else "none"
    own, reason = _SUBTYPES.get(subtype, ("", "none")) if isinstance(subtype, str) else ("", "none")
    return own or base, reason


def is_automatic_reply(kind: object, subtype: object, reply: object) -> bool:
    """Whether a bounce is an absence note or another automatic reply.

    SES reports these as ``Transient`` and ``General`` and does not count them as bounces (the same
    page). A delivery status notification always has a status, and mostly the server's reply.

    Args:
        reply: what the receiving server replied, or the status; nothing for an automatic reply.
    """
    return kind == "Transient" and subtype == "General" and not reply
