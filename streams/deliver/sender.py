"""Sends requests to one destination over HTTP.

Invariants:
1. Connections go to judged addresses (``streams.deliver.connection``): redirects are not followed,
   and every wait has a limit, the destination's ``connect_timeout_s`` and ``timeout_s``.
2. Of an answer at most ``ANSWER_BYTES_MAX`` are read.
3. Nothing that is raised or returned has the URL, a secret or a token in it, at most the host:
   neither by mailpulse nor in the beginning of an answer, which may repeat what was sent.
"""

import time
from collections.abc import Callable, Sequence
from typing import Self

from standardwebhooks import Webhook

from streams.deliver.bodies import Body, signed_headers, together
from streams.deliver.connection import Connections, secrets_in, tls_context
from streams.deliver.destinations import SECTION, Destination
from streams.deliver.outcomes import Outcome


class Sender:
    """Requests to one destination. An async context manager.

    Args:
        destination: where to.
        clock: seconds since 1970.

    Raises:
        ConfigError: a certificate file can't be read.
    """

    def __init__(self, destination: Destination, clock: Callable[[], float] = time.time) -> None:
        self._url = destination.url.get_secret_value()
        self._clock = clock
        self._secrets = [Webhook(one.get_secret_value()) for one in destination.secret]
        headers = {"content-type": "application/json"}
        if destination.bearer is not None:
            headers["authorization"] = f"Bearer {destination.bearer.get_secret_value()}"
        self._hidden = _hidden(destination)
        tls = tls_context(
            f"{SECTION}.{destination.name}", destination.ca_file, destination.client_cert_file,
            destination.client_key_file,
        )  # fmt: skip
        self._connections = Connections(
            destination.networks, tls, destination.concurrency, destination.connect_timeout_s,
            destination.timeout_s, headers,
        )  # fmt: skip

    async def __aenter__(self) -> Self:
        await self._connections.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._connections.__aexit__(*error)

    async def send(self, bodies: Sequence[Body]) -> Outcome:
        """Sends one request; returns what came of it, whatever that is."""
        body = together(bodies)
        headers = signed_headers(body, self._secrets, self._clock())
        return await self._connections.post(
            self._url, body.json, headers, self._hidden, self._clock
        )


def _hidden(destination: Destination) -> list[str]:
    """What no answer is shown with: the token, and of the URL what may be a secret."""
    found = secrets_in(destination.url.get_secret_value())
    if destination.bearer is not None:
        found.add(destination.bearer.get_secret_value())
    return sorted(found, key=len, reverse=True)
