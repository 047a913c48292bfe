"""Access tokens for Kafka, for SASL's mechanism OAUTHBEARER: OAuth 2.0 client credentials.

Those of Amazon MSK are made in ``schemas.kafka_msk``.

Invariants:
1. One token per process and identity: every client, in whatever thread or event loop, gets the same
   one until ``FRESH_SHARE`` of its life is over.
2. No message contains the secret or a token. A server that refuses is asked again after a pause, as
   aiokafka connects again and again.

Sources: RFC 6749, §4.4 (client credentials), §5.1 (``expires_in``) and §2.3.1 (HTTP Basic); RFC
7628 (OAUTHBEARER). Extensions are Kafka's (KIP-342).
"""

import asyncio
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
from aiokafka.abc import AbstractTokenProvider

TIMEOUT_S = 10.0
FRESH_SHARE = 0.8
LIFE_S_UNKNOWN = 60.0
"""Of a token whose server does not say how long it holds."""
PAUSE_S = 1.0


class TokenRefused(OSError):
    """The token server does not answer, or gives no token. aiokafka retries after an OSError."""


class FreshTokens(AbstractTokenProvider):  # type: ignore[misc]  # aiokafka ships no types
    """Tokens that are fetched once while they hold (invariant 1), and not again at once after a
    refusal (invariant 2).

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._token, self._until = "", 0.0
        self._error: TokenRefused | None = None

    async def token(self) -> str:
        """A token that holds.

        Raises:
            TokenRefused: there is none now.
        """
        return await asyncio.to_thread(self._fresh)

    def extensions(self) -> dict[str, str]:
        """Names and values that the broker gets beside the token."""
        return {}

    def _asked(self) -> tuple[str, float]:
        """A new token and how long it holds, seconds; called in a thread.

        Raises:
            TokenRefused: there is none now.
        """
        raise NotImplementedError

    def _fresh(self) -> str:
        with self._lock:
            if self._clock() < self._until:
                if self._error is not None:
                    raise self._error
                return self._token
            try:
                self._token, life_s = self._asked()
            except TokenRefused as error:
                self._error, self._until = error, self._clock() + PAUSE_S
                raise
            self._error, self._until = None, self._clock() + FRESH_SHARE * life_s
            return self._token


class Tokens(FreshTokens):
    """Tokens of one identity.

    Args:
        url: of the token endpoint.
        extensions: sent to the broker beside the token.
        cafile: an authority to trust besides the system's.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        url: str,
        client_id: str,
        secret: str,
        scope: str = "",
        extensions: Mapping[str, str] | None = None,
        cafile: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(clock)
        self._url, self._scope, self._extensions = url, scope, dict(extensions or {})
        # RFC 6749 §2.3.1: both are form-encoded before they become user and password
        self._basic = httpx.BasicAuth(quote(client_id, safe=""), quote(secret, safe=""))
        self._cafile = cafile

    def extensions(self) -> dict[str, str]:
        """Names and values that the broker gets, such as a logical cluster's."""
        return self._extensions

    def _asked(self) -> tuple[str, float]:
        context = ssl.create_default_context()
        if self._cafile is not None:
            context.load_verify_locations(self._cafile)
        form = {
            "grant_type": "client_credentials",
            **({"scope": self._scope} if self._scope else {}),
        }
        try:
            answer = httpx.post(
                self._url, data=form, auth=self._basic, timeout=TIMEOUT_S, verify=context
            )
        except httpx.HTTPError as error:
            raise TokenRefused(
                f"the token server does not answer: {type(error).__name__}"
            ) from None
        try:
            said: Any = answer.json()
        except ValueError:
            said = {}
        said = said if isinstance(said, dict) else {}
        token = said.get("access_token")
        if answer.status_code != 200 or not isinstance(token, str) or not token:
            code = str(said.get("error", ""))[
                :40
            ]  # a code of RFC 6749 §5.2, such as invalid_client
            raise TokenRefused(
                f"the token server gives no token: {answer.status_code} {code}".strip()
            )
        return token, _life_s(said.get("expires_in"))


def _life_s(given: Any) -> float:
    try:
        life_s = float(given)
    except (TypeError, ValueError):
        return LIFE_S_UNKNOWN
    return life_s if life_s > 0 else LIFE_S_UNKNOWN


@lru_cache(maxsize=8)
def tokens_of(
    url: str, client_id: str, secret: str, scope: str, extensions: tuple[str, ...],
    cafile: Path | None,
) -> Tokens:  # fmt: skip
    """The tokens of an identity, the same for each who asks (invariant 1).

    Args:
        extensions: as ``name=value``.
    """
    pairs = dict(one.split("=", 1) for one in extensions)
    return Tokens(url, client_id, secret, scope, pairs, cafile)
