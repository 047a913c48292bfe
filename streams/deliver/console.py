"""What the dashboard asks of ``deliver``: how destinations do, and a test request.

Invariants:
1. Nothing is answered without the token that both processes share (``dashboard_deliver_token``);
   none is set: nothing is answered. It is compared in constant time.
2. A destination gets at most one test every ``TEST_S``: whoever has the token can't flood it.
3. No answer has a secret or a recipient's address in it.
"""

import asyncio
import hmac
from collections.abc import Mapping
from uuid import uuid4

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from streams.deliver.runner import Runner

TEST_S = 5.0
TOKEN_HEADER = "x-mailpulse-token"


def routes(runners: Mapping[str, Runner], token: str) -> list[Route]:
    """The routes, for the listener that also serves health.

    Args:
        runners: by name; filled while they start.
        token: empty: nothing is answered.
    """
    tested: dict[str, float] = {}

    def refused(request: Request) -> Response | None:
        given = request.headers.get(TOKEN_HEADER, "")
        if token and hmac.compare_digest(given.encode(), token.encode()):
            return None
        return _json({"title": "MAILPULSE_DASHBOARD_DELIVER_TOKEN is not set, or another"}, 403)

    async def listed(request: Request) -> Response:
        documents = [runner.document() for runner in list(runners.values())]
        return refused(request) or _json({"destinations": documents})

    async def test(request: Request) -> Response:
        if (answer := refused(request)) is not None:
            return answer
        name = request.path_params["name"]
        if name not in runners:
            return _json({"title": "no such destination"}, 404)
        now = asyncio.get_running_loop().time()
        if now - tested.get(name, -TEST_S) < TEST_S:
            return _json({"title": "one test every five seconds"}, 429)
        tested[name] = now
        outcome = await runners[name].test(uuid4().hex)
        return _json({"delivered": outcome.delivered, "said": outcome.said})

    return [
        Route("/destinations", listed, methods=["GET"]),
        Route("/destinations/{name}/test", test, methods=["POST"]),
    ]


def _json(document: object, status: int = 200) -> Response:
    return Response(orjson.dumps(document), status, media_type="application/json")
