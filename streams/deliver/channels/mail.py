"""Mail to people, as bytes.

Invariants:
1. Pure: the time is an argument. The same body has the same Message-ID, so that a mailbox shows a
   repeat once.
2. All mail of an incident names the same first Message-ID (In-Reply-To, References), also where
   that was never sent, so mail programs show it as one thread.
3. No header has a line break: texts are single lines (``messages``), ``EmailMessage`` refuses
   others, and none is taken for an encoded word (RFC 2047), which could hold one.

Sources: RFC 5322, 3.6.4; RFC 3834, 5 (Auto-Submitted).
"""

from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from hashlib import sha256

from streams.deliver.channels.messages import Message, filled
from streams.deliver.channels.tables import Email

SUBJECT_CHARS_MAX = 200


def mail_of(message: Message, body_id: str, table: Email, now_s: float) -> EmailMessage:
    """The mail of a message.

    Args:
        body_id: of the body that it was made of.
        now_s: seconds since 1970.
    """
    mail = EmailMessage(policy=SMTP)
    domain = table.sender.rpartition("@")[2]
    first = f"<{_token(message.thread)}@{domain}>"
    mail["From"] = table.sender
    mail["To"] = ", ".join(table.to)
    mail["Subject"] = _plain(f"[mailpulse] {message.title}"[:SUBJECT_CHARS_MAX])
    mail["Date"] = format_datetime(datetime.fromtimestamp(int(now_s), UTC))
    if message.first:
        mail["Message-ID"] = first
    else:
        mail["Message-ID"] = f"<{_token(body_id)}@{domain}>"
        mail["In-Reply-To"] = first
        mail["References"] = first
    mail["Auto-Submitted"] = "auto-generated"
    if table.template:
        mail.set_content(filled(table.template, message))
    else:
        link = (message.link,) if message.link else ()
        mail.set_content("\n\n".join((message.title, *message.lines, *link)) + "\n")
    return mail


def _plain(text: str) -> str:
    """A text without the beginning of an encoded word: ``EmailMessage`` would decode it."""
    return text.replace("=?", "= ?")


def _token(text: str) -> str:
    """What can stand in a Message-ID."""
    return "mailpulse." + sha256(text.encode()).hexdigest()[:32]
