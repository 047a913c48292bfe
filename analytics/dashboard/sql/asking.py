"""Passes queries of the page on to the analysts' door, and to nothing else.

Invariants:
1. What answers has to say in each answer that it is the door (``DOOR_HEADER``); it judges every
   query, and its limits, time-outs and rights hold. A ClickHouse server, or the sink's listener,
   does not say so, and is asked nothing but the greeting.
2. A text arrives at the door as it was sent; nothing is put into it. How many rows are shown is a
   setting beside it.
3. At most ``AT_ONCE`` queries of the page run; the others wait a moment and are then told so. A
   query whose reader went away is ended: the door kills what nobody reads. Its place is given back
   whether or not anybody began to read the result.
4. Figures that JSON or JavaScript would change arrive as text: integers of 64 bits and more,
   decimals, infinity and what is no number.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass

import httpx

from analytics.door.access import DOOR_HEADER, DOOR_VALUE
from schemas.addresses import clickhouse_address
from schemas.errors import BadInput, Unavailable

AT_ONCE = 2
WAIT_S_MAX = 10.0
ANSWER_S_MAX = 60.0
"""Longest silence of the door; it ends a query after ``MAILPULSE_DOOR_QUERY_S_MAX`` itself."""
ROWS_SHOWN_MAX = 1_000
TABLE_BYTES_MAX = 8 << 20
"""Of a result that is shown; larger ones can be downloaded."""
ERROR_BYTES_MAX = 4_000
NOT_THE_DOOR = (
    "This page asks through mailpulse's own read-only interface, and what answers at"
    " MAILPULSE_CLICKHOUSE_DSN is something else. On a ClickHouse server connect a client of your"
    " own, as a user with the role mailpulse_analyst."
)


@dataclass(frozen=True, slots=True)
class Form:
    """How a result is wanted.

    Attributes:
        name: ClickHouse's name of the format.
        content_type: of the answer.
        settings: for the query.
        file: name of the download; empty for what is shown.
    """

    name: str
    content_type: str
    settings: Mapping[str, str]
    file: str = ""


FORMS = {
    "table": Form(
        "JSONCompact", "application/json",
        {
            "limit": str(ROWS_SHOWN_MAX + 1), "output_format_json_quote_64bit_integers": "1",
            "output_format_json_quote_decimals": "1", "output_format_json_quote_denormals": "1",
        },
    ),
    "csv": Form("CSVWithNames", "text/csv; charset=utf-8", {}, "mailpulse.csv"),
    "parquet": Form("Parquet", "application/vnd.apache.parquet", {}, "mailpulse.parquet"),
}  # fmt: skip


class DoorClient:
    """The door, as the page asks it.

    Args:
        dsn: of the door, with its token if it has one.
        transport: for tests.
    """

    def __init__(self, dsn: str, transport: httpx.AsyncBaseTransport | None = None) -> None:
        address = clickhouse_address(dsn)
        self.has_password = bool(address.password)
        self._database = address.database
        self._places = asyncio.Semaphore(AT_ONCE)
        self._known = False
        self._client = httpx.AsyncClient(
            base_url=address.url, auth=(address.user, address.password), transport=transport,
            timeout=httpx.Timeout(ANSWER_S_MAX, connect=5.0), trust_env=False,
        )  # fmt: skip

    async def close(self) -> None:
        """Ends its connections."""
        await self._client.aclose()

    async def run(self, sql: str, form: Form, given: Mapping[str, str] | None = None) -> "Result":
        """A result, once the door has begun to send it; the caller closes it.

        Args:
            sql: the caller's text.
            form: of the result; a ``FORMAT`` in the text is refused.
            given: further settings.

        Raises:
            BadInput: the door refuses the query; ``detail`` is its message.
            Unavailable: it does not answer, is not the door, or all places are taken.
        """
        stack = AsyncExitStack()
        try:
            await self._place(stack)
            await self._check_door()
            asked = {"database": self._database, "default_format": form.name}
            request = self._client.build_request(
                "POST",
                "/",
                params={**asked, **form.settings, **(given or {})},
                content=sql.encode(),
            )
            answer = await self._client.send(request, stream=True)
            stack.push_async_callback(answer.aclose)
            await self._check_answer(answer, form)
            return Result(answer, stack)
        except httpx.HTTPError as error:
            await stack.aclose()
            raise Unavailable(f"the read-only interface: {type(error).__name__}") from error
        except BaseException:
            await stack.aclose()
            raise

    async def _place(self, stack: AsyncExitStack) -> None:
        try:
            await asyncio.wait_for(self._places.acquire(), WAIT_S_MAX)
        except TimeoutError:
            raise Unavailable(
                f"{AT_ONCE} queries of this page are running: try again when one has ended"
            ) from None
        stack.callback(self._places.release)

    async def _check_door(self) -> None:
        """Invariant 1, before the first query leaves."""
        if not self._known:
            answer = await self._client.get("/")
            if answer.headers.get(DOOR_HEADER) != DOOR_VALUE:
                raise Unavailable(NOT_THE_DOOR)
            self._known = True

    async def _check_answer(self, answer: httpx.Response, form: Form) -> None:
        if answer.headers.get(DOOR_HEADER) != DOOR_VALUE:
            self._known = False
            raise Unavailable(NOT_THE_DOOR)
        if answer.status_code != 200:
            told = b""
            async for piece in answer.aiter_bytes():
                told += piece
                if len(told) > ERROR_BYTES_MAX:
                    break
            raise BadInput("query_refused", told[:ERROR_BYTES_MAX].decode("utf-8", "replace"))
        if answer.headers.get("x-clickhouse-format") != form.name:
            raise BadInput("query_refused", "Leave FORMAT out: the page chooses it.")


class Result:
    """What the door sends, in pieces, to be read once.

    Args:
        answer: of the door.
        stack: what to let go at its end.
    """

    def __init__(self, answer: httpx.Response, stack: AsyncExitStack) -> None:
        self._answer = answer
        self._stack = stack

    async def pieces(self) -> AsyncIterator[bytes]:
        """The pieces, as they arrive.

        Raises:
            httpx.HTTPError: the connection broke: the result is not whole.
        """
        async for piece in self._answer.aiter_bytes():
            yield piece

    async def close(self) -> None:
        """Ends the query if it still runs, and gives its place back; may be called again."""
        await self._stack.aclose()


async def whole(result: Result, bytes_max: int) -> bytes:
    """All pieces of a result together; it is closed.

    Raises:
        BadInput: they are more than ``bytes_max`` bytes.
        Unavailable: the connection broke.
    """
    content = b""
    try:
        async for piece in result.pieces():
            content += piece
            if len(content) > bytes_max:
                raise BadInput(
                    "too_large",
                    f"The result is larger than {bytes_max >> 20} MB: download it as CSV or"
                    " Parquet, or select fewer columns.",
                )
    except httpx.HTTPError as error:
        raise Unavailable(f"the read-only interface: {type(error).__name__}") from error
    finally:
        await result.close()
    return content
