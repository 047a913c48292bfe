"""Whole answers: head and body in one write to the socket.

Invariant: the client gets the bytes that uvicorn would send for the same answer; a test on real
sockets compares them. uvicorn sends every answer that is out of the ordinary.

uvicorn writes the head as soon as it has it, which costs another system call per request, and it
checks headers that are ours. Together they took a tenth of a small request's time. What is used of
uvicorn's internals is checked at start (``schemas.serving.internals``).
"""

from collections.abc import Sequence

from starlette.types import Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle


def answer_at_once(
    send: Send, status: int, headers: Sequence[tuple[bytes, bytes]], content: bytes
) -> bool:
    """Sends a whole answer and ends the exchange.

    Args:
        send: what ASGI gave to send with. Only uvicorn's own is known here.
        headers: names in lower case, ``content-length`` among them.

    Returns:
        Whether it did; if not, nothing was sent.
    """
    cycle = getattr(send, "__self__", None)
    if (
        not isinstance(cycle, RequestResponseCycle)
        or cycle.disconnected
        or cycle.response_started
        or cycle.flow.write_paused
        or not cycle.keep_alive
        or cycle.scope["method"] == "HEAD"
    ):
        return False
    cycle.response_started = cycle.response_complete = True
    cycle.waiting_for_100_continue = False
    parts = [STATUS_LINE[status]]
    for name, value in (*cycle.default_headers, *headers):
        parts += (name, b": ", value, b"\r\n")
    parts += (b"\r\n", content)
    cycle.transport.write(b"".join(parts))
    cycle.message_event.set()
    cycle.on_response()
    return True
