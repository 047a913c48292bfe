"""Paths that are not hooks: the body is read within limits before a page sees the request.

Invariants:
1. A body has the same deadline as at a hook, whether a page reads it or there is no such page. Its
   size is limited, and so is the size of all of them together.
2. A page gets its body complete: no page waits for a client.
"""

from starlette.types import ASGIApp, Receive, Scope, Send

from ingest.body import Refused
from ingest.body_memory import Bodies, Holding, NoRoom
from ingest.exchange import Call
from ingest.receiving import WHOLE, Disconnected, read_within, replayed

BODY_BYTES_MAX = 1_000_000
BODIES_BYTES_MAX = 4_000_000
"""Of all requests together; only half of it is used, since no client here is proven."""


class Pages:
    """An ASGI app around that of the pages.

    Args:
        app: the pages.
        body_timeout_ms: see the setting.
    """

    def __init__(self, app: ASGIApp, body_timeout_ms: int) -> None:
        self._app = app
        self._timeout_s = body_timeout_ms / 1000
        self._bodies = Bodies(BODIES_BYTES_MAX)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        call = Call(scope, receive, send)
        holding = Holding((scope.get("client") or [""])[0])
        timeout_s = None if WHOLE in scope else self._timeout_s
        try:
            body = await read_within(receive, self._bodies, holding, BODY_BYTES_MAX, timeout_s)
            await self._app(scope, replayed(body, receive), send)
        except Refused as refusal:
            await call.refuse(refusal.status, refusal.code)
        except NoRoom:
            await call.refuse(503, "overloaded")
        except Disconnected:
            pass
        finally:
            if holding.size:
                self._bodies.give_back(holding)
