"""Every provider whose history can be read by ``mailpulse backfill``."""

from ingest.providers import (
    mailgun_history,
    resend_history,
    sendgrid_history,
    sparkpost_history,
)
from ingest.providers.history import History

_ALL: tuple[History, ...] = (
    mailgun_history.HISTORY,
    sparkpost_history.HISTORY,
    sendgrid_history.HISTORY,
    resend_history.HISTORY,
)

HISTORIES: dict[str, History] = {one.name: one for one in _ALL}
"""Value of ``provider`` in mailpulse.toml -> its history."""
