"""Requests to a provider's API.

Invariants:
1. Requests go to one origin, whose certificate is checked. Redirects are not followed, and a target
   that is no path below the origin is not asked for: both would take the key elsewhere.
2. An answer has limits of time and of size, after decompression.
3. No message has the key, the target or anything of an answer in it.
4. The environment names at most a proxy. Nothing else of it is used: ``.netrc`` would give another
   key.
"""

import re
from types import TracebackType
from typing import Any, Self
from urllib.request import getproxies, proxy_bypass

import aiohttp
from yarl import URL

from schemas.errors import BadInput
from schemas.history_api import Answer, Ask
from streams.books.runner import Unanswered

ANSWER_BYTES_MAX = 32 << 20
"""Of one answer; a page of 1,000 events has 1 to 2 MB."""
ANSWER_S_MAX = 90.0
CONNECT_S_MAX = 10.0
_PART_BYTES = 1 << 16
AGENT = "mailpulse-backfill"
_PATH = re.compile(r"/[!-~]*")


class Client:
    """One connection to an API. An async context manager.

    Args:
        origin: scheme and host.
    """

    def __init__(self, origin: str) -> None:
        self._origin = origin
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(total=ANSWER_S_MAX, sock_connect=CONNECT_S_MAX)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=1), timeout=timeout,
            cookie_jar=aiohttp.DummyCookieJar(), headers={"user-agent": AGENT},
            trust_env=False, **_proxy(URL(self._origin)),
        )  # fmt: skip
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        if self._session is not None:
            await self._session.close()

    async def fetch(self, request: Ask) -> Answer:
        """The answer to a request, whatever its status.

        Raises:
            Unanswered: there is no whole answer within the limits.
            BadInput: ``other_host``: the target is no path below the origin.
        """
        assert self._session is not None, "used outside of its context"
        if _PATH.fullmatch(request.target) is None:
            raise BadInput("other_host", "what is to be asked for is no path of the API")
        url = URL(f"{self._origin}{request.target}", encoded=True)
        try:
            async with self._session.request(
                request.method,
                url,
                headers=dict(request.headers),
                data=request.body or None,
                allow_redirects=False,
            ) as answer:
                headers = {name.lower(): value for name, value in answer.headers.items()}
                return Answer(answer.status, headers, await _body(answer))
        except TimeoutError:
            raise Unanswered(f"not within {ANSWER_S_MAX:.0f} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise Unanswered(type(error).__name__) from None


def _proxy(origin: URL) -> dict[str, Any]:
    """The session's options for the proxy that the environment names (``HTTPS_PROXY``,
    ``NO_PROXY``); TLS goes through it to the API.

    Raises:
        BadInput: ``bad_proxy``: it is no address.
    """
    named = getproxies().get(origin.scheme)
    if not named or proxy_bypass(origin.host or ""):
        return {}
    try:
        url = URL(named if "://" in named else f"http://{named}")
    except ValueError:
        variable = f"{origin.scheme.upper()}_PROXY"
        raise BadInput("bad_proxy", f"{variable} of the environment is no address") from None
    if url.user is None:
        return {"proxy": url}
    auth = aiohttp.BasicAuth(url.user, url.password or "")
    return {"proxy": url.with_user(None), "proxy_auth": auth}


async def _body(answer: aiohttp.ClientResponse) -> bytes:
    read = bytearray()
    async for part in answer.content.iter_chunked(_PART_BYTES):
        read += part
        if len(read) > ANSWER_BYTES_MAX:
            answer.close()
            raise Unanswered(f"more than {ANSWER_BYTES_MAX >> 20} MB")
    return bytes(read)
