"""Health and metrics of a role, for probes and Prometheus.

Invariants:
1. Pure: an ASGI application that reads only its arguments, and serves no socket.
2. ``/livez``: the event loop runs. ``/readyz``: 200 while the role can do its work, else 503.
   ``/metrics``: the exposition text.
3. Ingress and dashboard serve these paths beside their own; this is for a separate port.

Source: ASGI specification 3.0, «HTTP».
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
HealthApp = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]],
    Awaitable[None],
]
"""An ASGI application: scope, receive, send."""

_TEXT = "text/plain; charset=utf-8"


def health_app(
    ready: Callable[[], bool], metrics: Callable[[], bytes], content_type: str
) -> HealthApp:
    """The application with the three routes.

    Args:
        ready: whether the role can do its work.
        metrics: the exposition text.
        content_type: of that text.
    """

    def answer(path: str) -> tuple[int, str, bytes]:
        if path == "/livez":
            return 200, _TEXT, b"ok\n"
        if path == "/readyz":
            return (200, _TEXT, b"ready\n") if ready() else (503, _TEXT, b"not ready\n")
        if path == "/metrics":
            return 200, content_type, metrics()
        return 404, _TEXT, b"not found\n"

    async def app(
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        if scope["type"] != "http":
            raise ValueError(f"only HTTP is served, not {scope['type']}")
        if scope["method"] in ("GET", "HEAD"):
            status, kind, body = answer(scope["path"])
        else:
            status, kind, body = 405, _TEXT, b"method not allowed\n"
        headers = [(b"content-type", kind.encode()), (b"content-length", b"%d" % len(body))]
        if status == 405:
            headers.append((b"allow", b"GET, HEAD"))  # RFC 9110, 15.5.6
        await send({"type": "http.response.start", "status": status, "headers": headers})
        shown = b"" if scope["method"] == "HEAD" else body
        await send({"type": "http.response.body", "body": shown})

    return app
