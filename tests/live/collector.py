"""An OpenTelemetry collector that keeps what it receives: OTLP over HTTP, on a free port."""

import gzip
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True, slots=True)
class Seen:
    """A span as it was sent; ids in hexadecimal digits."""

    service: str
    name: str
    trace: str
    parent: str
    links: tuple[str, ...]
    """Trace ids."""
    failed: bool


def spans_of(body: bytes) -> list[Seen]:
    """The spans of one export request."""
    request = ExportTraceServiceRequest.FromString(body)
    return [
        Seen(
            service=next(
                a.value.string_value for a in group.resource.attributes if a.key == "service.name"
            ),
            name=span.name,
            trace=span.trace_id.hex(),
            parent=span.parent_span_id.hex(),
            links=tuple(link.trace_id.hex() for link in span.links),
            failed=span.status.code == span.status.STATUS_CODE_ERROR,
        )
        for group in request.resource_spans
        for scope in group.scope_spans
        for span in scope.spans
    ]


class Collector:
    """Listens inside its block; ``spans`` grows."""

    def __init__(self) -> None:
        spans = self.spans = list[Seen]()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                if self.path == "/v1/traces":
                    spans.extend(spans_of(body))
                self.send_response(200 if self.path == "/v1/traces" else 404)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Logs nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
