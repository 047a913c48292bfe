"""The sink's listener: ClickHouse's HTTP interface with all rights, for those who have the token.

Invariants:
1. Nothing is read of a request before its token is proven; only the token's SHA-256 is known here,
   so it is in no memory or environment that a query could show.
2. The data of an insert goes into an anonymous file in memory as it arrives, and the engine reads
   it from there: no Python value is made of it. (Measured: 1.3 times the rate of a file on disk.)
3. A statement goes on when its client goes away, as ClickHouse's inserts do: what was sent whole
   is stored.
"""

import hashlib
import hmac
import os
import re
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response

from analytics.door.access import PASSWORD_WRONG, password_of
from analytics.door.canonical import text_of
from analytics.warehouse.engine import Engine, Job
from analytics.warehouse.errors import QueryError
from analytics.warehouse.metrics import WarehouseMetrics
from analytics.warehouse.protocol import (
    Interface,
    asked_format,
    body_of,
    greeting,
    named_database,
    packing_of,
    pieces,
    query_parameters,
    settings_among,
    too_large,
)
from schemas.serving.places import Limits
from schemas.serving.protocol import is_proven
from schemas.serving.sites import LOOPBACK_NAMES, Sites

STATEMENT_BYTES_MAX = 16 << 20
"""Longest statement, with the values that stand in it."""
INSERT_BYTES_MAX = 1 << 30
"""Most data of one insert. The sink sends ``sink_bytes_max`` and a little more."""
LIMITS = Limits(
    connections_max=64,
    requests_max=48,
    requests_proven=24,
    body_bytes_max=INSERT_BYTES_MAX,
    body_timeout_s=60.0,
    write_timeout_s=60.0,
)
"""Of the listener. Any process of this machine reaches it: requests without the token give way to
those with it."""
SITES = Sites(LOOPBACK_NAMES)
"""This machine's names, with any port: a proxy may stand in front of the listener."""
HEAD_BYTES_MAX = 64 << 10
"""Within so many bytes of a body an insert says the format of the data that follows."""
_DATA = re.compile(rb"\s*(INSERT\s.*?\sFORMAT \w+)[ \r]*\n", re.DOTALL | re.IGNORECASE)
"""A statement in front of its data."""
_FORMAT = re.compile(r"\sFORMAT\s+(\w+)\s*;?\s*$", re.IGNORECASE)


class Private(Interface):
    """The ASGI application of the sink's listener.

    Args:
        engine: what answers.
        metrics: to count statements in.
        token_sha256: of the token, hexadecimal.
    """

    def __init__(self, engine: Engine, metrics: WarehouseMetrics, token_sha256: str) -> None:
        super().__init__(engine, metrics.statements, metrics.statement_seconds, SITES)
        self._token_sha256 = token_sha256.lower().encode()

    async def answer(
        self, request: Request, parameters: Mapping[str, str], query_id: str
    ) -> Response:
        """See ``Interface``."""
        if not is_proven(request.scope):
            raise QueryError(*PASSWORD_WRONG, "The password is not this listener's token")
        async with _received(request, parameters.get("query", "")) as (sql, body):
            if not sql:
                return greeting()
            named = _FORMAT.search(sql) if body is None else None
            wanted = named[1] if named else asked_format(request, parameters)
            packing = packing_of(request, parameters, wanted)
            job = Job(
                sql,
                wanted,
                database=named_database(request, parameters),
                parameters=query_parameters(parameters),
                settings=settings_among(parameters),
                body=body,
                query_id=query_id,
                packing=packing.steps,
            )
            result = await self.engine.command(job)
        return pieces(result, wanted, packing)

    def proves(self, headers: list[tuple[bytes, bytes]]) -> bool:
        """Whether a request brings the token, for its listener to ask once a request."""
        given = password_of(Headers(raw=headers)) or b""
        digest = hashlib.sha256(given).hexdigest().encode()
        return hmac.compare_digest(digest, self._token_sha256)


@asynccontextmanager
async def _received(request: Request, query: str) -> AsyncIterator[tuple[str, str | None]]:
    """The statement, and behind an insert the path of its data, which is gone afterwards.

    The data is the body where the statement is a parameter, else what follows the statement.

    Raises:
        QueryError: the body is too large, or not what its encoding says.
        Denied: the statement is no text.
    """
    pieces = _pieces(request)
    if _inserts(query):
        sql, data, is_data = query, b"", True
    else:
        sql, data, is_data = await _begun(pieces, query)
    if not is_data:
        yield sql, None
        return
    with _BodyFile() as file:
        file.write(data)
        async for piece in pieces:
            file.write(piece)
        yield sql, file.path if file.size else None


async def _begun(pieces: AsyncIterator[bytes], query: str) -> tuple[str, bytes, bool]:
    """The statement that a body begins with, what was read of its data, and whether it has any.

    Raises:
        QueryError: the statement is too long.
        Denied: it is no text.
    """
    text = bytearray()
    async for piece in pieces:
        text += piece
        found = None if query else _DATA.match(text[:HEAD_BYTES_MAX])
        if found:
            return text_of(found[1]), bytes(text[found.end() :]), True
        if len(text) > STATEMENT_BYTES_MAX:
            raise too_large(STATEMENT_BYTES_MAX)
    body = text_of(text)
    return (f"{query}\n{body}" if query and body else query or body), b"", False


def _inserts(query: str) -> bool:
    return query.lstrip()[:6].upper() == "INSERT"


async def _pieces(request: Request) -> AsyncIterator[bytes]:
    """A body as it arrives; one with a content encoding at once, when it is complete."""
    if request.headers.get("content-encoding", "") not in ("", "identity"):
        yield await body_of(request, INSERT_BYTES_MAX)
        return
    async for piece in request.stream():
        yield piece


class _BodyFile:
    """A file in memory, gone when the block is left; where there is no such thing, on disk.

    Attributes:
        path: by which this process opens it.
        size: bytes written.
    """

    def __enter__(self) -> "_BodyFile":
        self.size = 0
        if hasattr(os, "memfd_create"):
            self._descriptor = os.memfd_create("insert", os.MFD_CLOEXEC)
            self.path, self._named = f"/proc/self/fd/{self._descriptor}", False
        else:
            self._descriptor, self.path = tempfile.mkstemp(prefix="insert-")
            self._named = True
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)
        if self._named:
            os.unlink(self.path)

    def write(self, data: bytes) -> None:
        """Appends.

        Raises:
            QueryError: more than an insert may be.
        """
        self.size += len(data)
        if self.size > INSERT_BYTES_MAX:
            raise too_large(INSERT_BYTES_MAX)
        left = memoryview(data)
        while left:
            left = left[os.write(self._descriptor, left) :]
