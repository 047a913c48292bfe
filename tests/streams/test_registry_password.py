"""A schema registry that wants a password, as managed ones do."""

import base64
import itertools
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from schemas.codec import FIXED_IDS
from schemas.errors import ConfigError
from streams.kafka.registry import register_all

USER, PASSWORD = "KEY1", "s/cr:t@canary"  # what a URL has to encode
IN_URL = "s%2Fcr%3At%40canary"


class Guarded(BaseHTTPRequestHandler):
    """A registry that answers whoever proves to be ``USER``."""

    ids = itertools.count(100)

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        proof = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        known = self.headers.get("authorization") == f"Basic {proof}"
        said = {"id": next(self.ids)} if known else {"error_code": 401, "message": "Unauthorized"}
        content = json.dumps(said).encode()
        self.send_response(200 if known else 401)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_PUT = do_POST = _answer

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def place() -> Iterator[str]:
    """Its host and port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Guarded)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_user_and_password_of_the_url_are_sent(place: str) -> None:
    """Percent-decoded; every released schema gets an id."""
    assert set(register_all(f"http://{USER}:{IN_URL}@{place}")) == set(FIXED_IDS)


@pytest.mark.parametrize("proof", ["", f"{USER}:wrong-canary@", f"other:{IN_URL}@"])
def test_a_wrong_password_is_told_at_once_and_not_shown(place: str, proof: str) -> None:
    """It is a setting to be mended, not a registry to wait for."""
    with pytest.raises(ConfigError, match=r"MAILPULSE_SCHEMA_REGISTRY_URL: .* 401") as refused:
        register_all(f"http://{proof}{place}")
    assert "canary" not in str(refused.value)
