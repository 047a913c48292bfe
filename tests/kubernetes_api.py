"""Kubernetes' API as a pod sees it: TLS by the cluster's authority, a token, one StatefulSet.

Answers as documented: «API reference: StatefulSet», «Authenticating» (bearer tokens: 401 without a
valid one), «RBAC» (403 for what the account may not get).
"""

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.live.certificates import Authority

NAMESPACE = "mail"
TOKEN = "token-of-the-account"


class KubernetesApi:
    """What it knows.

    Attributes:
        account: the folder that a pod finds its service account in.
        environ: what a pod's environment says of the API.
        sets: name -> StatefulSet.
        body: of every answer, in place of a StatefulSet; ``None``: the one that was asked for.
        forbids: whether the account may get nothing.
    """

    def __init__(self, account: Path) -> None:
        self.account = account
        self.environ: dict[str, str] = {}
        self.sets: dict[str, dict[str, Any]] = {}
        self.body: bytes | None = None
        self.forbids = False

    def scale(self, name: str, replicas: int, first: int | None = None) -> None:
        """Sets how many pods a StatefulSet has, and the number of the first."""
        spec: dict[str, Any] = {"replicas": replicas}
        if first is not None:
            spec["ordinals"] = {"start": first}
        self.sets[name] = {"kind": "StatefulSet", "metadata": {"name": name}, "spec": spec}

    def answer(self, path: str, authorization: str | None) -> tuple[int, bytes]:
        """Status and body of the answer to a GET."""
        base = f"/apis/apps/v1/namespaces/{NAMESPACE}/statefulsets/"
        if authorization != f"Bearer {TOKEN}":
            return 401, b'{"kind":"Status","code":401}'
        if self.forbids or not path.startswith(base):
            return 403, b'{"kind":"Status","code":403}'
        if self.body is not None:
            return 200, self.body
        found = self.sets.get(path.removeprefix(base))
        if found is None:
            return 404, b'{"kind":"Status","code":404}'
        return 200, json.dumps(found).encode()


@contextmanager
def kubernetes_api(folder: Path) -> Iterator[KubernetesApi]:
    """Serves the API; files go into ``folder``."""
    authority = Authority(folder / "authority")
    api = KubernetesApi(folder / "account")
    api.account.mkdir()
    (api.account / "token").write_text(TOKEN, "utf-8")
    (api.account / "namespace").write_text(NAMESPACE, "utf-8")
    (api.account / "ca.crt").write_bytes(authority.certificate.read_bytes())

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = api.answer(self.path, self.headers["Authorization"])
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            """Nothing on the terminal."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(*authority.issue("kubernetes"))
        server.socket = tls.wrap_socket(server.socket, server_side=True)
        port = server.server_address[1]
        api.environ = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(port)}
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield api
        finally:
            server.shutdown()
            thread.join()
