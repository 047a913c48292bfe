"""Delivery status notifications (RFC 3464), where a provider passes one on as the diagnostic.

Invariants:
1. The only place that knows ``flufl.bounce``. It is asked for one thing: whether a mail tells of a
   permanent or a passing failure, in the many forms that servers write it.
2. Never raises on outside input. Diagnostics are cut at ingress: a notification may end anywhere.
"""

import re
from email import message_from_string

from flufl.bounce import all_failures

PERMANENT = "permanent"
TEMPORARY = "temporary"

_FIELD = re.compile(r"(?im)^(status|diagnostic-code):[ \t]*(.*(?:\n[ \t]+.*)*)")
_DSN_MARKS = (
    "final-recipient:", "reporting-mta:", "diagnostic-code:", "multipart/report",
    "qmail-send program",
)  # fmt: skip


def is_dsn(text: str) -> bool:
    """Whether a diagnostic is a notification, or a piece of one, and not a server's answer."""
    if len(text) < 30:
        return False
    lower = text.lower()
    return any(mark in lower for mark in _DSN_MARKS)


def read_dsn(text: str) -> tuple[str, str, str]:
    """Reads a delivery status notification (RFC 3464), or what a cut left of one.

    Returns:
        Status field; Diagnostic-Code field without its type, else the words of the mail; and what
        ``flufl.bounce`` makes of the whole: ``PERMANENT``, ``TEMPORARY`` or ``""``.
    """
    fields: dict[str, str] = {}
    for name, value in _FIELD.findall(text.replace("\r\n", "\n")):
        fields.setdefault(name.lower(), value)
    said, bounced, body = fields.get("diagnostic-code", ""), "", ""
    try:
        message = message_from_string(text)
        if "from" not in message:  # a detector of flufl.bounce trips over a mail without one
            message["From"] = "postmaster@localhost.invalid"
        temporary, permanent = all_failures(message)
        bounced = PERMANENT if permanent else TEMPORARY if temporary else ""
        body = next(
            (
                str(part.get_payload())
                for part in message.walk()
                if part.get_content_type() == "text/plain"
            ),
            "",
        )
    except Exception:  # detectors and mail parser trip over odd mails in many ways: a hint less
        body = body or ""
    kind, semicolon, rest = said.partition(";")
    said = rest if semicolon and " " not in kind else said
    return (fields.get("status", ""), said or body, bounced)
