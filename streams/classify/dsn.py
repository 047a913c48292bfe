"""Reads delivery status notifications (RFC 3464) that providers pass on as the diagnostic.

Invariants:
1. Only this module uses ``flufl.bounce``, and only to tell whether a mail reports a permanent or a
   temporary failure, in any of the formats that servers use.
2. Never raises on input from outside. Ingress cuts diagnostics, so a notification may be truncated.
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
    """Whether a diagnostic is a notification, or part of one, rather than an SMTP reply."""
    if len(text) < 30:
        return False
    lower = text.lower()
    return any(mark in lower for mark in _DSN_MARKS)


def read_dsn(text: str) -> tuple[str, str, str]:
    """Reads a delivery status notification (RFC 3464), truncated or not.

    Returns:
        The Status field; the Diagnostic-Code field without its type, or else the text of the mail;
        and the verdict of ``flufl.bounce``: ``PERMANENT``, ``TEMPORARY`` or ``""``.
    """
    fields: dict[str, str] = {}
    for name, value in _FIELD.findall(text.replace("\r\n", "\n")):
        fields.setdefault(name.lower(), value)
    said, bounced, body = fields.get("diagnostic-code", ""), "", ""
    try:
        message = message_from_string(text)
        if "from" not in message:  # a detector of flufl.bounce fails without this header
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
    except Exception:  # detectors and mail parser fail on odd mails in many ways: do without them
        pass
    kind, semicolon, rest = said.partition(";")
    said = rest if semicolon and " " not in kind else said
    return (fields.get("status", ""), said or body, bounced)
