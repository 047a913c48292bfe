"""A token server: OAuth 2.0 client credentials, answered with unsecured JSON Web Tokens (RFC 7519,
§6), which Kafka's own validator takes where no keys are configured."""

import base64
import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote

SCOPE = "kafka"


def unsecured(subject: str, life_s: float, now_s: float) -> str:
    """A token without a signature."""
    claims = {"sub": subject, "iat": now_s, "exp": now_s + life_s, "scope": SCOPE}
    parts = [json.dumps(one).encode() for one in ({"alg": "none"}, claims)]
    return ".".join(base64.urlsafe_b64encode(one).rstrip(b"=").decode() for one in parts) + "."


class TokenServer:
    """Gives tokens to who proves to be one of ``clients``; on 127.0.0.1.

    Attributes:
        clients: id -> secret.
        life_s: of a token.
        given: how many tokens were given.
        status: what it answers to everybody instead, if set.
    """

    def __init__(self, clients: Mapping[str, str], life_s: float) -> None:
        self.clients, self.life_s = clients, life_s
        self.given = self.asked = 0
        self.status: int | None = None
        self.port = 0

    @property
    def url(self) -> str:
        """The token endpoint."""
        return f"http://127.0.0.1:{self.port}/token"

    def answer(self, authorization: str, form: dict[str, list[str]]) -> tuple[int, dict[str, Any]]:
        """Status and JSON for a request."""
        self.asked += 1
        if self.status is not None:
            return self.status, {}
        kind, _, proof = authorization.partition(" ")
        name, _, secret = base64.b64decode(proof).decode().partition(":")
        name, secret = unquote(name), unquote(secret)
        if kind != "Basic" or self.clients.get(name) != secret:
            return 401, {"error": "invalid_client"}
        if form.get("grant_type") != ["client_credentials"] or form.get("scope") != [SCOPE]:
            return 400, {"error": "invalid_request"}
        self.given += 1
        token = unsecured(name, self.life_s, time.time())
        return 200, {"access_token": token, "token_type": "Bearer", "expires_in": self.life_s}

    @contextmanager
    def serving(self) -> Iterator["TokenServer"]:
        """Listens for the length of the block."""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"])).decode()
                status, said = outer.answer(self.headers["authorization"], parse_qs(body))
                content = json.dumps(said).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
