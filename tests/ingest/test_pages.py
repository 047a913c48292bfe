"""Pages that the composition root puts beside the hooks."""

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route

from tests.ingest.front_door import front_door


async def test_more_pages_can_be_served() -> None:
    """They answer below their path; hooks, and errors elsewhere, stay as they are."""

    async def page(request: Request) -> Response:
        return PlainTextResponse("a page")

    pages = [Mount("/more", routes=[Route("/page", page)])]
    async with front_door(parts={"pages": pages}) as door:
        assert (await door.client.get("/more/page")).text == "a page"
        answer = await door.client.get("/more/other")
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"
        assert (await door.post([{"id": "m1"}])).status_code == 200
