"""Whatever is not a hook: its body is read within bounds before anything looks at the request.

Laws of this file:
1. A body has the same deadline here as at a hook, whether a page reads it or there is no such page;
   it has a size, and all of them together have one.
2. A page is given its body whole: no page waits for a client.
"""

from starlette.types import ASGIApp, Receive, Scope, Send

from ingest.body import Refused
from ingest.call import Call
from ingest.limits import Budget
from ingest.receiving import WHOLE, Disconnected, read_body, replayed

BODY_BYTES_MAX = 1_000_000
BODIES_BYTES_MAX = 4_000_000
"""Of all requests together."""


class Pages:
    """An ASGI app around that of the pages.

    Args:
        app: the pages.
        body_timeout_ms: see the setting.
    """

    def __init__(self, app: ASGIApp, body_timeout_ms: int) -> None:
        self._app = app
        self._timeout_s = body_timeout_ms / 1000
        self._bodies = Budget(BODIES_BYTES_MAX)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        call = Call(scope, receive, send)

        def reserve(size: int) -> None:
            if not self._bodies.take(size):
                raise Refused(503, "overloaded")
            call.reserved += size

        try:
            whole = WHOLE in scope
            body = await read_body(receive, BODY_BYTES_MAX, self._timeout_s, reserve, whole=whole)
            await self._app(scope, replayed(body, receive), send)
        except Refused as refusal:
            await call.refuse(refusal.status, refusal.code)
        except Disconnected:
            pass
        finally:
            self._bodies.give_back(call.reserved)
