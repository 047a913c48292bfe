"""Health and metrics of a role, for probes and Prometheus, and what else it serves there.

``/livez``: the event loop runs. ``/readyz``: 200 while the role can do its work, else 503.
``/metrics``: the exposition text. Ingress and dashboard serve these paths beside their own; this is
for a separate port.
"""

from collections.abc import Callable, Sequence

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, Router


def health_app(
    ready: Callable[[], bool],
    metrics: Callable[[], bytes],
    content_type: str,
    more: Sequence[Route] = (),
) -> Router:
    """An ASGI application with the three routes, and ``more``.

    Args:
        ready: whether the role can do its work.
        metrics: the exposition text.
        content_type: of that text.
    """

    async def live(_request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readiness(_request: Request) -> Response:
        return PlainTextResponse("ready\n") if ready() else PlainTextResponse("not ready\n", 503)

    async def exposition(_request: Request) -> Response:
        return Response(metrics(), headers={"content-type": content_type})

    pages = {"/livez": live, "/readyz": readiness, "/metrics": exposition}
    routes = [Route(path, page, methods=["GET"]) for path, page in pages.items()]
    return Router([*routes, *more], redirect_slashes=False)
