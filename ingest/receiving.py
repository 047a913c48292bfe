"""Reading a request's body within bounds.

Invariants:
1. Bytes are counted as they come; ``Content-Length`` is only a reason to refuse sooner.
2. The whole body has one deadline: a client that sends a byte now and then does not extend it.
"""

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial

from starlette.types import Message, Receive

from ingest.body import Refused
from ingest.body_memory import Bodies, Holding, NoRoom

WHOLE = "mailpulse.whole"
"""Key in the scope of a request whose body was complete when its task was started."""
PROVEN = "mailpulse.proven"
"""Key in the scope of a request that is proven to come from a provider."""
_NO_DEADLINE = contextlib.nullcontext()
LINGER_S = 1.0
LINGER_BYTES = 64_000_000
"""An unread body is read and thrown away for so long, or so many bytes, before the connection is
closed."""


class Disconnected(Exception):
    """The client went away before its request was complete."""


async def read_body(
    receive: Receive,
    bytes_max: int,
    deadline: asyncio.Timeout | None,
    reserve: Callable[[int], None],
) -> bytes:
    """The body of a request.

    Args:
        deadline: not entered yet; ``None`` if the body is complete already.
        reserve: told the size of each part before it is kept; raises when there is no room.

    Raises:
        Refused: 413 over ``bytes_max``, 408 when it is not complete at the deadline.
        Disconnected: the client is gone.
    """
    size = 0
    parts: list[bytes] = []
    try:
        async with deadline or _NO_DEADLINE:
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
        parts.clear()  # the error, kept until the answer, refers to this frame and so to the parts
        raise Refused(408, "body_timeout") from None
    except (Refused, NoRoom):
        parts.clear()
        raise
    return parts[0] if len(parts) == 1 else b"".join(parts)


async def read_within(
    receive: Receive,
    bodies: Bodies,
    holding: Holding,
    bytes_max: int,
    timeout_s: float | None,
    length: int = 0,
    free: int = 0,
) -> bytes:
    """The body of a request, within the memory budget of all bodies.

    Args:
        holding: the request's share; the caller gives it back.
        timeout_s: ``None`` if the body is complete already.
        length: as declared, 0 if it is not.
        free: bytes of a body that are not counted.

    Raises:
        Refused, Disconnected: as ``read_body`` does.
        NoRoom: the budget is used up, or the share went to another client's body.
    """
    if timeout_s is None:
        deadline = None
    else:
        deadline = asyncio.timeout(timeout_s)
        holding.give_up = partial(_end_early, deadline)
    read = 0

    def reserve(size: int) -> None:
        nonlocal read
        if holding.given_up:
            raise NoRoom("it gave way to another client's body")
        read += size
        # The declared length is reserved at once. Otherwise large bodies that arrive together could
        # fill the memory with their beginnings, and none of them would ever be complete.
        more = max(read, length) - free - holding.size
        if more > 0 and not bodies.take(more, holding):
            raise NoRoom(f"{bodies.used} bytes of bodies in memory")

    try:
        return await read_body(receive, bytes_max, deadline, reserve)
    except Refused:
        if holding.given_up:
            raise NoRoom("it gave way to another client's body") from None
        raise
    finally:
        if holding.give_up is not None:
            bodies.arrived(holding)


def _end_early(deadline: asyncio.Timeout) -> None:
    if not deadline.expired():
        deadline.reschedule(asyncio.get_running_loop().time())


async def drain(receive: Receive) -> None:
    """Reads what is left of a body and throws it away, for a limited time."""
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
    """A ``receive`` that first gives a body that was read already."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
