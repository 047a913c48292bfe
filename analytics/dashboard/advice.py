"""Bounces in words: what each reason means, and what to do about it.

Invariants: pure; every reason of ``schemas.event.BounceReason`` has both (tested). Addresses are
suppressed by ``streams/enrich``; the rest is for the sender to do.
"""

BOUNCES: dict[str, tuple[str, str]] = {
    "invalid_address": (
        "The address can't exist: it is misspelt, or its domain takes no mail.",
        "It is suppressed. Check the form where such addresses come from.",
    ),
    "no_mailbox": (
        "There is no such mailbox.",
        "It is suppressed. More than 2 % of a send: the list is old or bought; confirm addresses"
        " when people sign up.",
    ),
    "mailbox_full": (
        "The mailbox is full.",
        "Nothing now. An address that stays full is suppressed by its repeated soft bounces.",
    ),
    "inactive": (
        "The mailbox is closed or disabled.",
        "Leave out addresses that have opened nothing for a year.",
    ),
    "too_large": (
        "The message is larger than the mailbox takes.",
        "Send a smaller one: link to pictures and files instead of attaching them.",
    ),
    "dns": (
        "The domain's mail server can't be found.",
        "Nothing for single domains. For many at once, ask the provider: its resolver may fail.",
    ),
    "timeout": (
        "The receiving server did not answer, or asked to come back later.",
        "Nothing: the provider tries again. If it lasts, send more slowly to that receiver.",
    ),
    "content": (
        "The message was refused for what is in it.",
        "Look at links, shorteners and attachments; send a plain version to a test mailbox there.",
    ),
    "reputation": (
        "The sending address or domain has a bad name with the receiver.",
        "Send less there, to those who opened lately. See the receiver's postmaster page and"
        " block lists.",
    ),
    "policy": (
        "A rule of the receiver refuses the message.",
        "Read the wording below: rate limits call for slower sending, others for its postmaster.",
    ),
    "auth": (
        "SPF, DKIM or DMARC do not agree with the sender's domain.",
        "Set up SPF and DKIM for the From domain, and a DMARC record; all mail there fails until"
        " then.",
    ),
    "relay_denied": (
        "The receiving server does not take mail for that domain.",
        "Nothing for single domains: their owner has moved. For many, ask the provider.",
    ),
    "suppressed_bounce": (
        "Not attempted: the address bounced before.",
        "Take it off the list.",
    ),
    "suppressed_complaint": (
        "Not attempted: the recipient reported earlier mail as spam.",
        "Take it off the list, for good.",
    ),
    "suppressed_unsubscribe": (
        "Not attempted: the recipient has unsubscribed.",
        "Take it off the list, for good.",
    ),
    "other": (
        "The receiver gave no usable reason.",
        "Read the wording below.",
    ),
    "none": (
        "The provider tells no reason.",
        "Look into the provider's own log for one of these messages.",
    ),
}  # fmt: skip
"""Reason -> what it means, and what to do."""
