"""What ``deliver`` answers the dashboard: nothing without the token, and no secret with it."""

from typing import Any

import httpx
import pytest
from starlette.routing import Router

from streams.deliver.console import TOKEN_HEADER, routes
from streams.deliver.outcomes import DELIVERED, Blame, Outcome
from streams.deliver.tries import TRIES_MAX, Tries
from tests.streams.test_deliver_runner import runner

TOKEN = "t" * 32


class Sending:
    """A sender that answers the same each time."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self.sent: list[Any] = []

    async def send(self, given: Any) -> Outcome:
        self.sent += given
        return self.outcome


def client(token: str, outcome: Outcome = DELIVERED, **options: Any) -> tuple[Any, Sending]:
    one, sending = runner(**options), Sending(outcome)
    one._sender = sending  # type: ignore[assignment]
    app = Router(routes({"crm": one}, token), redirect_slashes=False)
    http = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://deliver")
    return http, sending


@pytest.mark.parametrize(
    ("set_", "given"), [("", ""), ("", TOKEN), (TOKEN, ""), (TOKEN, TOKEN[1:]), (TOKEN, "é" * 16)]
)
async def test_without_the_token_nothing_is_told_and_nothing_is_sent(set_: str, given: str) -> None:
    """Also where none is set."""
    http, sending = client(set_)
    async with http:
        headers = {TOKEN_HEADER: given.encode("latin-1")} if given else {}
        assert (await http.get("/destinations", headers=headers)).status_code == 403
        assert (await http.post("/destinations/crm/test", headers=headers)).status_code == 403
    assert not sending.sent


async def test_a_test_is_sent_and_shown_among_the_tries() -> None:
    """With what the destination answered, addresses masked; the next one has to wait."""
    http, sending = client(TOKEN, Outcome("422: no ada@x.example", Blame.RECORD))
    headers = {TOKEN_HEADER: TOKEN}
    async with http:
        answer = await http.post("/destinations/crm/test", headers=headers)
        assert answer.json() == {"delivered": False, "said": "422: no ada@x.example"}
        assert (await http.post("/destinations/crm/test", headers=headers)).status_code == 429
        assert (await http.post("/destinations/x/test", headers=headers)).status_code == 404
        listed = (await http.get("/destinations", headers=headers)).json()["destinations"]
    [row] = listed
    assert (row["destination"], row["state"], row["failed"]) == ("crm", "on", 1)
    [one] = row["tries"]
    assert one["result"] == "test"
    assert "ada@" not in one["said"]
    assert len(sending.sent) == 1


async def test_no_secret_is_listed() -> None:
    """Neither the URL's path nor a key."""
    http, _ = client(TOKEN, url="https://crm.example/s3cret-path?key=s3cret-key", bearer="t0ken-x")
    async with http:
        text = (await http.get("/destinations", headers={TOKEN_HEADER: TOKEN})).text
    assert "crm.example" in text
    assert not any(word in text for word in ("s3cret", "t0ken"))


def test_the_last_tries_are_kept() -> None:
    """Newest first, a bounded number."""
    tries = Tries()
    for number in range(TRIES_MAX + 10):
        tries.add(float(number), 1, "delivered", DELIVERED, 0.1)
    found = tries.document()
    assert len(found) == TRIES_MAX
    assert found[0]["at_ms"] == (TRIES_MAX + 9) * 1_000
    assert tries.delivered == TRIES_MAX + 10
