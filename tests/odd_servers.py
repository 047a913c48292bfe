"""An HTTP server that stands where ClickHouse should, and answers what ClickHouse never would."""

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

NONSENSE = {
    "nothing": b"",
    "text": b"hello\n",
    "page": b"<html><body>It works!</body></html>",
    "no text": b"\xff\xfe\x00",
    "list": b"[]",
    "null": b"null",
    "cut": b'{"meta":[{"na',
    "no columns": b'{"data":[]}',
    "no rows": b'{"meta":[{"name":"a"}],"data":[]}',
    "too few columns": b'{"meta":[{"name":"a"}],"data":[["26.3"]]}',
    "wider rows": b'{"meta":[{"name":"a"}],"data":[["26.3", 1, 2]]}',
    "no numbers": b'{"meta":[{"name":"a"},{"name":"b"}],"data":[["26.3","soon"]]}',
    "nulls": b'{"meta":[{"name":"a"},{"name":"b"}],"data":[[null,null]]}',
    "infinity": b'{"meta":[{"name":"a"},{"name":"b"}],"data":[["26.3",1e400]]}',
}
"""Bodies of answers with status 200."""


class OddServer:
    """What it answers.

    Attributes:
        port: on 127.0.0.1.
        body: of every answer; ``None``: what the server behind it answers.
        headers, status: that go with ``body``.
        behind: host and port of that one.
    """

    def __init__(self, body: bytes | None, behind: str = "") -> None:
        self.body = body
        self.headers: dict[str, str] = {}
        self.status = 200
        self.behind = behind
        self.port = 0

    def answer(
        self, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, bytes, dict[str, str]]:
        """Status, body and headers of the answer to a POST or GET."""
        if self.body is not None:
            return self.status, self.body, {}
        connection = http.client.HTTPConnection(self.behind, timeout=60)
        try:
            connection.request("POST", path, body, headers)
            got = connection.getresponse()
            return got.status, got.read(), dict(got.getheaders())
        finally:
            connection.close()


@contextmanager
def odd_server(body: bytes | None, dsn: str = "") -> Iterator[OddServer]:
    """Serves until the block is left.

    Args:
        body: see ``OddServer``.
        dsn: of the server behind it.
    """
    odd = OddServer(body, urlsplit(dsn).netloc.rpartition("@")[2])

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            content = self._content()
            given = {
                name: value
                for name, value in self.headers.items()
                if name.lower() not in ("transfer-encoding", "content-length", "connection")
            }
            status, body, headers = odd.answer(self.path, given, content)
            self.send_response(status)
            for name, value in headers.items():
                if name.lower() not in ("content-length", "connection", "date", "server"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST

        def _content(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            content = b""
            while size := int(self.rfile.readline(), 16):
                content += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return content

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    odd.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield odd
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
