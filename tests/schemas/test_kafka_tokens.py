"""Tokens for Kafka: fetched once while they hold, and errors that say what is wrong."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from schemas.errors import ConfigError
from schemas.kafka_tokens import PAUSE_S, TokenRefused, Tokens, tokens_of
from schemas.settings import Settings, load_settings
from tests.live.token_server import SCOPE, TokenServer

SECRET = "s3cret:/+ä"  # what RFC 6749 has encoded
LIFE_S = 100.0


@pytest.fixture
def server() -> Iterator[TokenServer]:
    """It knows one client."""
    with TokenServer({"mail pulse": SECRET}, LIFE_S).serving() as one:
        yield one


class Clock:
    """Monotonic seconds, set by hand."""

    now = 1_000.0

    def __call__(self) -> float:
        """The time."""
        return self.now


def tokens(server: TokenServer, clock: Clock, **other: Any) -> Tokens:
    """Those of the client."""
    given = {"client_id": "mail pulse", "secret": SECRET, "scope": SCOPE, **other}
    return Tokens(server.url, clock=clock, **given)


async def test_a_token_is_fetched_once_while_it_holds(server: TokenServer) -> None:
    """By many at once, too; and anew well before its end."""
    clock = Clock()
    one = tokens(server, clock)
    found = await asyncio.gather(*(one.token() for _ in range(20)))
    assert len(set(found)) == server.given == 1
    clock.now += 0.79 * LIFE_S
    await one.token()
    assert server.given == 1
    clock.now += 0.02 * LIFE_S
    assert await one.token() not in found
    assert server.given == 2


@pytest.mark.parametrize(
    ("other", "status", "says"),
    [
        ({"secret": "wr0ng-canary"}, None, "401 invalid_client"),
        ({"scope": "other"}, None, "400 invalid_request"),
        ({}, 503, "503"),
        ({}, 200, "200"),  # a page instead of a token
    ],
)
async def test_a_refusal_is_told_without_the_secret_and_not_asked_for_at_once_again(
    server: TokenServer, other: dict[str, Any], status: int | None, says: str
) -> None:
    """After a pause it is; then what was mended works."""
    clock = Clock()
    server.status = status
    one = tokens(server, clock, **other)
    for _ in range(3):
        with pytest.raises(TokenRefused, match=says) as refused:
            await one.token()
        assert "canary" not in str(refused.value)
        assert SECRET not in str(refused.value)
    assert server.asked == 1
    server.status, server.clients = None, {"mail pulse": other.get("secret", SECRET)}
    one._scope = SCOPE
    clock.now += PAUSE_S
    assert await one.token()


async def test_a_server_that_is_away_is_told() -> None:
    """As an OSError, which aiokafka takes for a broker that it can try again."""
    away = TokenServer({}, LIFE_S)
    away.port = 1
    with pytest.raises(OSError, match="does not answer"):
        await tokens(away, Clock()).token()


@pytest.mark.parametrize("life", [None, "soon", 0, -1, [], "90"])
async def test_odd_lifetimes_are_no_crash(server: TokenServer, life: Any) -> None:
    """A token that does not say how long it holds is fetched again after a minute at most."""
    clock = Clock()
    server.life_s = life
    server.answer = lambda *_: (  # type: ignore[method-assign]
        200, {"access_token": f"t{clock.now}", "expires_in": life}
    )  # fmt: skip
    one = tokens(server, clock)
    first = await one.token()
    clock.now += 91
    assert await one.token() != first


def test_every_client_of_a_process_has_the_same_tokens() -> None:
    """Ten connections are one token."""
    settings = Settings(
        kafka_security_protocol="SASL_SSL", kafka_sasl_mechanism="OAUTHBEARER",
        kafka_sasl_username="id", kafka_oauth_token_url="https://id.example/token",
        kafka_oauth_extensions=("logicalCluster=lkc-1", "identityPoolId=pool-1"),
    )  # fmt: skip
    one, other = (settings.kafka_client_options() for _ in range(2))
    assert one["sasl_oauth_token_provider"] is other["sasl_oauth_token_provider"]
    found = one["sasl_oauth_token_provider"].extensions()
    assert found == {"logicalCluster": "lkc-1", "identityPoolId": "pool-1"}
    assert tokens_of("u", "a", "b", "", (), None) is not tokens_of("u", "c", "b", "", (), None)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"SASL_MECHANISM": "OAUTHBEARER"}, "OAUTHBEARER needs MAILPULSE_KAFKA_OAUTH_TOKEN_URL"),
        ({"OAUTH_TOKEN_URL": "http://id.example/token"}, "https, except on this machine"),
        ({"OAUTH_TOKEN_URL": "https://me:secret-canary@id.example/"}, "settings of their own"),
        ({"OAUTH_EXTENSIONS": "auth=x"}, "name=value"),
        ({"OAUTH_EXTENSIONS": "a=b\x01c"}, "name=value"),
    ],
)
def test_what_cannot_work_is_refused_at_the_start(given: dict[str, str], says: str) -> None:
    """With the setting's name, and without a secret."""
    environ = {f"MAILPULSE_KAFKA_{name}": value for name, value in given.items()}
    with pytest.raises(ConfigError, match="MAILPULSE_KAFKA_") as refused:
        load_settings(environ, lambda _: "")
    assert says in str(refused.value)
    assert "canary" not in str(refused.value)
