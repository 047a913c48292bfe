"""Pages that the composition root puts beside the hooks."""

import pytest
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


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/openapi.json", "/more/page"])
@pytest.mark.parametrize(
    "headers", [{"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}]
)
async def test_pages_are_not_for_other_sites(path: str, headers: dict[str, str]) -> None:
    """Neither for a page of another site, nor for one that rebound its name to this machine."""

    async def page(request: Request) -> Response:
        return PlainTextResponse("a page")

    pages = [Mount("/more", routes=[Route("/page", page)])]
    async with front_door(parts={"pages": pages}) as door:
        assert (await door.client.get(path, headers=headers)).status_code == 403
        assert (await door.client.get(path, headers={"host": "evil.example"})).status_code == 403
        answer = await door.client.get(path)
        assert answer.status_code != 403
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    async with front_door(trusted_proxies=("127.0.0.1",), parts={"pages": pages}) as door:
        answer = await door.client.get(path, headers={"host": "hooks.example.com"})
        assert answer.status_code != 403
