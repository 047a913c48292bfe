"""A report as mail: figures as plain text, the same as HTML, and the whole file attached.

Invariants:
1. Pure. A report of one period to one destination has one Message-ID, however often it is made, so
   mailboxes that know it show a repeat once.
2. The HTML has no pictures: mail programs leave out SVG and keep its texts. The attached file has
   them.
3. No header has a line break: ``EmailMessage`` refuses one.

Sources: RFC 2046, 5.1.4 (multipart/alternative: the best form last); RFC 3834, 5.
"""

from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from hashlib import sha256

from streams.deliver.channels.tables import Email


def report_mail(
    table: Email, key: str, subject: str, forms: tuple[str, str, str], name: str, now_s: float
) -> EmailMessage:
    """The mail.

    Args:
        table: of the destination.
        key: of the report: its period and zone.
        forms: plain text, HTML without pictures, and the whole file.
        name: of the attached file.
        now_s: seconds since 1970.
    """
    text, shown, whole = forms
    mail = EmailMessage(policy=SMTP)
    mail["From"] = table.sender
    mail["To"] = ", ".join(table.to)
    mail["Subject"] = subject
    mail["Date"] = format_datetime(datetime.fromtimestamp(int(now_s), UTC))
    token = sha256(f"report\n{table.name}\n{key}".encode()).hexdigest()[:32]
    mail["Message-ID"] = f"<mailpulse.{token}@{table.sender.rpartition('@')[2]}>"
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(text)
    mail.add_alternative(shown, subtype="html")
    mail.add_attachment(whole.encode(), maintype="text", subtype="html", filename=name)
    return mail
