"""Sends messages to Slack and PagerDuty.

Invariants:
1. As of ``streams.deliver.connection``: judged addresses, no redirects, every wait bounded.
2. Neither the URL nor the routing key is in what is returned.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, Self

import orjson

from streams.deliver.bodies import TEST, Body
from streams.deliver.channels import pagerduty, slack
from streams.deliver.channels.messages import Message, message_of
from streams.deliver.channels.tables import PagerDuty, Slack
from streams.deliver.connection import Connections, secrets_in, tls_context
from streams.deliver.outcomes import Outcome


class HttpChannel:
    """One Slack channel or PagerDuty service. An async context manager.

    Args:
        table: of the destination.
        where: its section, for errors.
        clock: seconds since 1970.

    Raises:
        ConfigError: a certificate file can't be read.
    """

    def __init__(
        self, table: Slack | PagerDuty, where: str, clock: Callable[[], float] = time.time
    ) -> None:
        self._table = table
        self._clock = clock
        self._url = table.url.get_secret_value()
        secrets = secrets_in(self._url)
        if isinstance(table, PagerDuty):
            secrets.add(table.routing_key.get_secret_value())
        self._hidden = sorted(secrets, key=len, reverse=True)
        self._connections = Connections(
            table.networks, tls_context(where, table.ca_file), table.concurrency,
            table.connect_timeout_s, table.timeout_s, {"content-type": "application/json"},
        )  # fmt: skip

    async def __aenter__(self) -> Self:
        await self._connections.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._connections.__aexit__(*error)

    async def send(self, bodies: Sequence[Body]) -> Outcome:
        """Sends the message of one record; returns what came of it, whatever that is."""
        [body] = bodies
        content = orjson.loads(body.json)
        message = message_of(content, self._table.dashboard_url)
        outcome = Outcome()
        for document in self._documents(message, str(content["type"])):
            outcome = await self._connections.post(
                self._url, orjson.dumps(document), {}, self._hidden, self._clock
            )
            if not outcome.delivered:
                break
        return outcome

    def _documents(self, message: Message, kind: str) -> list[dict[str, Any]]:
        if isinstance(self._table, Slack):
            return [slack.document(message, self._table.template)]
        key = self._table.routing_key.get_secret_value()
        events = [pagerduty.event(message, key)]
        if kind == TEST:  # nothing stays open
            events.append({**events[0], "event_action": "resolve"})
        return events
