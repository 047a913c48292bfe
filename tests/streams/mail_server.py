"""A mail server (aiosmtpd) on a real socket, for the tests of ``deliver``."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP as POLICY
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword


@dataclass
class MailServer:
    """What arrived, and how it is answered.

    Attributes:
        replies: command (RCPT, DATA), or RCPT and an address -> its reply, instead of the usual.
        given: the addresses of each mail.
        signed_in: names that signed in.
    """

    port: int = 0
    mails: list[EmailMessage] = field(default_factory=list)
    replies: dict[str, str] = field(default_factory=dict)
    signed_in: list[str] = field(default_factory=list)
    given: list[list[str]] = field(default_factory=list)

    async def handle_RCPT(  # aiosmtpd's name
        self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any
    ) -> str:
        for command in (f"RCPT {address}", "RCPT"):
            if command in self.replies:
                return self.replies[command]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:
        if "DATA" in self.replies:
            return self.replies["DATA"]
        mail = message_from_bytes(envelope.content, EmailMessage, policy=POLICY)
        assert isinstance(mail, EmailMessage)
        self.mails.append(mail)
        self.given.append(list(envelope.rcpt_tos))
        return "250 kept"

    def sign_in(
        self, _server: Any, _session: Any, _envelope: Any, _how: str, who: Any
    ) -> AuthResult:
        assert isinstance(who, LoginPassword)
        good = who.password == b"pass word"
        if good:
            self.signed_in.append(who.login.decode())
        return AuthResult(success=good, handled=False)


@asynccontextmanager
async def mail_server(
    tls: ssl.SSLContext | None = None, *, implicit: bool = False
) -> AsyncIterator[MailServer]:
    """A server on 127.0.0.1 for the block.

    Args:
        tls: offered by STARTTLS, or from the first byte; without, there is none.
    """
    made = MailServer()
    given = None if implicit else tls

    def session() -> SMTP:
        return SMTP(made, hostname="mail", tls_context=given, require_starttls=given is not None,
                    authenticator=made.sign_in, auth_require_tls=not implicit)  # fmt: skip

    loop = asyncio.get_running_loop()
    server = await loop.create_server(session, "127.0.0.1", 0, ssl=tls if implicit else None)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
