"""Sends a report by the mail server of a destination, and notes who took it.

Invariants:
1. An address that took a report of a period is not sent it again: not by another try, nor by a run
   that sees the note, since its data directory is the same. Without the note (a process that dies
   between the server's word and the note, another machine) it may come twice, with one Message-ID.
2. What may pass is tried ``PAUSES_S`` again; what a server refuses for good is not.
3. An error never has an address's refusal text with a secret (``channels.smtp``).
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from email.message import EmailMessage
from pathlib import Path
from typing import TYPE_CHECKING

from schemas.errors import BadInput, ConfigError, Unavailable
from streams.cli.whole_files import whole_file

if TYPE_CHECKING:
    from streams.deliver.channels.tables import Email
    from streams.deliver.destinations import AnyDestination

PAUSES_S = (5.0, 20.0, 60.0)
KEPT_MAX = 100
"""Reports of a destination that are remembered."""
FOLDER = "reports"


def mail_table(found: "dict[str, AnyDestination]", name: str) -> "Email":
    """The destination that sends reports.

    Raises:
        ConfigError: there is none of that name, or it is of another kind.
    """
    from streams.deliver.channels.tables import Email

    table = found.get(name)
    if not isinstance(table, Email):
        those = ", ".join(sorted(key for key, one in found.items() if isinstance(one, Email)))
        raise ConfigError(
            [
                f'destinations.{name}: no destination of kind = "email" (there are:'
                f" {those or 'none'})"
            ]
        )
    return table


class Sent:
    """Who took which report of a destination: a file in the data directory."""

    def __init__(self, data_dir: Path, destination: str) -> None:
        self._path = data_dir / FOLDER / f"{destination}.json"

    def _read(self) -> dict[str, list[str]]:
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def taken(self, key: str) -> frozenset[str]:
        """The addresses that took the report ``key``."""
        return frozenset(self._read().get(key, ()))

    def note(self, key: str, taken: frozenset[str]) -> None:
        """Notes them.

        Raises:
            BadInput: ``not_writable``.
        """
        kept = self._read()
        kept[key] = sorted(taken | set(kept.get(key, ())))
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadInput("not_writable", f"{self._path}: {error.strerror}") from None
        with whole_file(self._path) as file:
            file.write(json.dumps(dict(list(kept.items())[-KEPT_MAX:])).encode())


async def send(
    table: "Email",
    mail: EmailMessage,
    key: str,
    sent: Sent,
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> int:
    """Sends it to those who have not taken it; returns to how many.

    Raises:
        BadInput: the server refuses it, or an address, for good; or the note can't be written.
        Unavailable: it does not work now; another run sends it to those who have not taken it.
        ConfigError: a certificate file can't be read.
    """
    from streams.deliver.channels.smtp import Mailer
    from streams.deliver.outcomes import Blame

    sent.note(key, frozenset())  # what can't be noted is not sent
    waiting = [one for one in table.to if one not in sent.taken(key)]
    count = len(waiting)
    async with Mailer(table, f"destinations.{table.name}") as mailer:
        for wait in (*PAUSES_S, None):
            if not waiting:
                return count
            outcome, took = await mailer.post(mail, waiting)
            sent.note(key, took)
            waiting = [one for one in waiting if one not in took]
            if outcome.delivered and waiting:  # the server refused them for good
                raise BadInput("refused", f"not taken for {', '.join(waiting)}; others have it")
            if outcome.delivered:
                return count
            if outcome.or_record or outcome.blame is Blame.RECORD:
                raise BadInput("refused", f"{table.server} refuses the report: {outcome.said}")
            if wait is None:
                raise Unavailable(f"{table.server}: {outcome.said}; the report is not sent")
            await pause(wait)
    return count
