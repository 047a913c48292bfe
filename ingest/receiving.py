"""Reading a request's body within bounds.

Laws of this file:
1. Bytes are counted as they come; ``Content-Length`` is only a reason to refuse sooner.
2. The whole body has one deadline: a client that sends a byte now and then does not extend it.
"""

import asyncio
import contextlib
from collections.abc import Callable

from starlette.types import Message, Receive

from ingest.body import Refused

WHOLE = "mailpulse.whole"
"""In the scope of a request whose body had arrived to its end when its task was started."""
PROVEN = "mailpulse.proven"
"""In the scope of a request that is proven to come from a provider."""
_NO_DEADLINE = contextlib.nullcontext()
LINGER_S = 1.0
LINGER_BYTES = 64_000_000
"""How long, and how much of, an unread body is thrown away before the connection is closed."""


class Disconnected(Exception):
    """The client went away before its request was complete."""


async def read_body(
    receive: Receive,
    bytes_max: int,
    timeout_s: float,
    reserve: Callable[[int], None],
    *,
    whole: bool = False,
) -> bytes:
    """The body of a request.

    Args:
        reserve: told the size of each part before it is kept; raises when there is no room.
        whole: there is nothing to wait for, so no timer is set.

    Raises:
        Refused: 413 over ``bytes_max``, 408 when it is not complete after ``timeout_s``.
        Disconnected: the client is gone.
    """
    size = 0
    parts: list[bytes] = []
    try:
        async with _NO_DEADLINE if whole else asyncio.timeout(timeout_s):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Disconnected
                part = message.get("body", b"")
                size += len(part)
                if size > bytes_max:
                    raise Refused(413, "body_too_large")
                reserve(len(part))
                parts.append(part)
                if not message.get("more_body", False):
                    break
    except TimeoutError:
        raise Refused(408, "body_timeout") from None
    return parts[0] if len(parts) == 1 else b"".join(parts)


async def drain(receive: Receive) -> None:
    """Throws away what is left of a body, for a moment."""
    size = 0
    try:
        async with asyncio.timeout(LINGER_S):
            while size < LINGER_BYTES:
                message = await receive()
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return
                size += len(message.get("body", b""))
    except TimeoutError:
        pass


def replayed(body: bytes, receive: Receive) -> Receive:
    """A ``receive`` that gives a body that was read already, and then what comes."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
