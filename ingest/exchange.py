"""One request in progress: what is known about it, and its answer.

Invariants:
1. A request is answered once, with a text that depends on status and code only, never on the
   request.
2. If a request was not received to its end, its connection is closed after the answer, and read for
   a moment before: closing with unread bytes resets the connection, and the answer is lost.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from starlette.types import Receive, Scope, Send

from ingest.body_memory import Holding
from ingest.intake import Taken
from ingest.problems import MEDIA_TYPE, problem
from ingest.providers.base import Request
from ingest.receiving import WHOLE, drain
from ingest.single_write import answer_at_once

Header = tuple[bytes, bytes]


@dataclass(slots=True)
class Call:
    """What is known about one request; the log line is made from it.

    Attributes:
        source: name of the source, empty while it is not known to exist.
        status: of the answer, 0 without one.
        result: ``accepted``, ``probe``, ``disconnected``, or the code of the refusal.
        reason: a detail for the log, never for the answer.
        taken: the outcome of parsing the body.
        kept: where its records are.
        whole: whether the body was read to its end.
        client: counted for by limits per client, see ``origin.client_key``.
        proven: whether it is proven to come from the provider.
        holding: its share of the memory for large bodies.
        trace: ``traceparent`` of its records, empty without a trace.
        headers: sent with any answer to this request.
        request: as received; ``None`` if its body was not read.
    """

    scope: Scope
    receive: Receive
    send: Send
    source: str = ""
    status: int = 0
    result: str = ""
    reason: str = ""
    taken: Taken | None = None
    kept: str = ""
    whole: bool = False
    client: str = ""
    proven: bool = False
    holding: Holding | None = None
    trace: bytes = b""
    headers: list[Header] = field(default_factory=list)
    request: Request | None = None

    async def refuse(self, status: int, code: str, headers: Sequence[Header] = ()) -> None:
        """Answers with the problem document of ``code``."""
        self.result = code
        self.headers += headers
        await self.answer(status, MEDIA_TYPE, problem(status, code))

    async def answer(self, status: int, media_type: bytes, content: bytes) -> None:
        """Answers, and closes the connection where invariant 2 applies."""
        self.status = status
        headers = [
            (b"content-type", media_type),
            (b"content-length", b"%d" % len(content)),
            *self.headers,
        ]
        linger = not self.whole and WHOLE not in self.scope and _has_body(self.scope["headers"])
        if linger:
            headers.append((b"connection", b"close"))
        elif answer_at_once(self.send, status, headers, content):
            return
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        if self.scope["method"] == "HEAD":
            content = b""
        await self.send({"type": "http.response.body", "body": content, "more_body": linger})
        if linger:
            await drain(self.receive)
            await self.send({"type": "http.response.body", "body": b"", "more_body": False})


def _has_body(headers: Sequence[Header]) -> bool:
    return any(
        (name == b"content-length" and value != b"0") or name == b"transfer-encoding"
        for name, value in headers
    )
