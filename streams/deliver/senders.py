"""Which sender a destination has, by its kind.

A sender is an async context manager with ``send``: it makes one request of the bodies of one or
more records, sends it, and judges the answer. Whatever happens it returns an ``Outcome``, except
for a bug; no secret is in it.
"""

from collections.abc import Callable, Sequence
from functools import partial
from types import TracebackType
from typing import Protocol, Self

from streams.deliver.bodies import Body, of_test
from streams.deliver.channels.http import HttpChannel
from streams.deliver.channels.smtp import Mailer
from streams.deliver.channels.tables import Email, PagerDuty, Slack
from streams.deliver.destinations import SECTION, AnyDestination
from streams.deliver.outcomes import Outcome
from streams.deliver.sender import Sender
from streams.deliver.suppress.accounts import Account
from streams.deliver.suppress.writer import Writer

Count = Callable[[str, str, int], None]
"""Told the destination, what was done with suppressions, and with how many."""


class AnySender(Protocol):
    """See the module."""

    async def __aenter__(self) -> Self:
        """Opens it."""

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
        /,
    ) -> None:
        """Closes it."""

    async def send(self, bodies: Sequence[Body]) -> Outcome:
        """Sends one request; returns what came of it, whatever that is."""


def sender_of(
    destination: AnyDestination, count: Count = lambda _name, _what, _number: None
) -> AnySender:
    """The sender of a destination, to be opened by the caller.

    Args:
        count: of a provider's suppression lists only.

    Raises:
        ConfigError: a certificate file can't be read.
    """
    where = f"{SECTION}.{destination.name}"
    if isinstance(destination, Slack | PagerDuty):
        return HttpChannel(destination, where)
    if isinstance(destination, Email):
        return Mailer(destination, where)
    if isinstance(destination, Account):
        return Writer(destination, partial(count, destination.name))
    return Sender(destination)


async def try_out(destination: AnyDestination, body_id: str, now_us: int) -> Outcome:
    """What comes of a request of type «test»; a provider is only asked for its lists.

    Raises:
        ConfigError: a certificate file can't be read.
    """
    if isinstance(destination, Account):
        async with Writer(destination) as writer:
            return await writer.probe()
    async with sender_of(destination) as sender:
        return await sender.send([of_test(body_id, now_us)])
