"""A small customer system: it receives the demo's webhooks and says whom to follow up.

Invariants:
1. Only requests whose signature verifies are taken (Standard Webhooks, by that project's library).
2. It keeps the last few lines and a count: its memory is bounded, however long the demo runs.
3. A repeat, known by its ``webhook-id`` among the last ``IDS_MAX``, is counted once.
"""

import base64
import secrets
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from standardwebhooks import Webhook, WebhookVerificationError

from schemas.settings import PREFIX

LINES_MAX = 3
IDS_MAX = 10_000
BODY_BYTES_MAX = 1 << 20
SECRET_NAME = f"{PREFIX}SECRET_DEMO_CRM_HOOK"
_TOML = """
[destinations.crm]
url = "http://127.0.0.1:{port}/clicks"
allow_networks = ["127.0.0.1"]
topics = "engagement"
events = "clicked"
secret = "env:{name}"
"""


class Crm:
    """What it got.

    Attributes:
        lines: the newest, oldest first.
        got: clicks to follow up, each once.
        refused: requests without a valid signature.
    """

    def __init__(self) -> None:
        self.secret = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
        self.port = 0
        self.lines: deque[str] = deque(maxlen=LINES_MAX)
        self.got = 0
        self.refused = 0
        self._ids: OrderedDict[str, None] = OrderedDict()
        self._webhook = Webhook(self.secret)

    @property
    def toml(self) -> str:
        """The section of ``mailpulse.toml`` that sends it clicks."""
        return _TOML.format(port=self.port, name=SECRET_NAME)

    @property
    def environ(self) -> dict[str, str]:
        """The secret that the section refers to."""
        return {SECRET_NAME: self.secret}

    def take(self, body: bytes, headers: dict[str, str]) -> bool:
        """Takes a request; ``False``: its signature is wrong."""
        try:
            document: Any = self._webhook.verify(body, headers)
        except WebhookVerificationError:
            self.refused += 1
            return False
        if document["id"] in self._ids:
            return True
        self._ids[document["id"]] = None
        if len(self._ids) > IDS_MAX:
            self._ids.popitem(last=False)
        if document["type"] == "engagement.clicked":
            self.got += 1
            self.lines.append(f"CRM: {_shown(document['data']['recipient'])} clicked, follow up")
        return True


def _shown(recipient: str) -> str:
    """An address without its domain; one that is stored hashed, shortened."""
    local, at, _ = recipient.rpartition("@")
    return f"{local}@…" if at else f"{recipient[:12]}…"


@asynccontextmanager
async def receiving() -> AsyncIterator[Crm]:
    """A receiver on a free port of this machine, for the block."""
    crm = Crm()

    async def answer(request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        taken = crm.take(await request.read(), headers)
        return web.Response(status=204 if taken else 401)

    app = web.Application(client_max_size=BODY_BYTES_MAX)
    app.router.add_post("/clicks", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        crm.port = runner.addresses[0][1]
        yield crm
    finally:
        await runner.cleanup()
