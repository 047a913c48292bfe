"""Why an address is on a provider's suppression list, from the provider's words or category.

Providers say it in many forms, with the same words: «Reason: unsubscription» (Mailtrap), «(Spam
Complaint)» (SparkPost), «due to unsubscribed user» (Brevo), ``hard_bounced`` (MailerSend).
"""

_CAUSES = (
    ("unsub", "suppressed_unsubscribe"),
    ("opt out", "suppressed_unsubscribe"),
    ("opted out", "suppressed_unsubscribe"),
    ("complain", "suppressed_complaint"),
    ("spam", "suppressed_complaint"),
    ("fbl", "suppressed_complaint"),
    ("bounce", "suppressed_bounce"),
    ("bouncing", "suppressed_bounce"),
    ("fails", "suppressed_bounce"),
)
"""Part of a word -> bounce reason. The reader's own decision comes first: nobody may undo it."""


def cause(words: str | None, otherwise: str = "other") -> str:
    """The bounce reason of a suppressed address.

    Args:
        words: what the provider says of the list, without the rest of its reply.
        otherwise: the reason if they name no cause.
    """
    text = (words or "").lower().replace("-", " ").replace("_", " ")
    return next((reason for part, reason in _CAUSES if part in text), otherwise)
