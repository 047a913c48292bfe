"""Sends mail by SMTP.

Invariants:
1. A connection goes to an address that was judged, and to no other: the name is resolved once.
2. A password is sent only over TLS with a verified certificate of the server's name. A server that
   does not offer STARTTLS is not used without it.
3. A whole conversation ends within ``timeout_s``: then its socket is closed, whatever it waits for.
4. It waits in threads of its own, so a server that hangs keeps no other destination waiting.
5. A mail is delivered once no address waits for it any more: each took it, or refused it for good.
   What is repeated goes only to those that have not taken it, as far as this process remembers.
"""

import asyncio
import contextlib
import smtplib
import socket
import ssl
import time
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from email.message import EmailMessage
from typing import IO, Any, Self

import orjson
import structlog

from streams.deliver.addresses import may_go_to
from streams.deliver.bodies import Body
from streams.deliver.channels.mail import mail_of
from streams.deliver.channels.messages import message_of
from streams.deliver.channels.tables import Email
from streams.deliver.connection import NotPublic, one_line, tls_context
from streams.deliver.outcomes import DELIVERED, Blame, Outcome

log = structlog.get_logger("mailpulse.deliver")

SAID_CHARS_MAX = 500
READ_BYTES_MAX = 1 << 20
"""Of all that a server says in one conversation: a reply may have any number of lines."""
TAKEN_MAX = 1_000
"""Mails of which it is remembered who took them: those that others were refused."""
_GREETING = "mailpulse"
"""What it calls itself in EHLO: the machine's own name is nobody's business."""


class Mailer:
    """One mail server. An async context manager.

    Args:
        table: of the destination.
        where: its section, for errors.
        clock: seconds since 1970.

    Raises:
        ConfigError: a certificate file can't be read.
    """

    def __init__(self, table: Email, where: str, clock: Callable[[], float] = time.time) -> None:
        self._table = table
        self._clock = clock
        self._tls = tls_context(where, table.ca_file)
        self._threads: ThreadPoolExecutor | None = None
        self._taken: dict[str, frozenset[str]] = {}

    async def __aenter__(self) -> Self:
        self._threads = ThreadPoolExecutor(self._table.concurrency, "smtp")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    async def send(self, bodies: Sequence[Body]) -> Outcome:
        """Sends the mail of one record; returns what came of it, whatever that is."""
        [body] = bodies
        message = message_of(orjson.loads(body.json), self._table.dashboard_url)
        mail = mail_of(message, body.id, self._table, self._clock())
        taken = self._taken.pop(body.id, frozenset())
        outcome, now_taken = await self.post(mail, [e for e in self._table.to if e not in taken])
        if not outcome.delivered and (taken or now_taken):
            self._taken[body.id] = taken | now_taken
            if len(self._taken) > TAKEN_MAX:
                del self._taken[next(iter(self._taken))]
        return outcome

    async def post(self, mail: EmailMessage, to: Sequence[str]) -> tuple[Outcome, frozenset[str]]:
        """Sends one mail to some addresses; returns what came of it, and who took it."""
        assert self._threads is not None, "used outside of its context"
        talk = _Conversation(self._table, self._tls)
        loop = asyncio.get_running_loop()
        late = loop.call_later(self._table.timeout_s, talk.give_up)
        try:
            outcome = await loop.run_in_executor(self._threads, talk.send, mail, to)
        finally:
            late.cancel()
            talk.give_up()
            talk.close()
        return outcome, talk.taken


class _Smtp(smtplib.SMTP):
    """A connection whose socket is given."""

    def __init__(self, host: str, made: socket.socket, timeout_s: float) -> None:
        super().__init__(local_hostname=_GREETING, timeout=timeout_s)
        self._host = host  # the name that STARTTLS verifies
        self._made = made

    def _get_socket(self, *_: Any) -> socket.socket:
        return self._made

    def getreply(self) -> tuple[int, bytes]:
        if self.file is None and self.sock is not None:  # at the start, and after STARTTLS
            self.file = _Bounded(self.sock.makefile("rb"))
        return super().getreply()


class _Bounded:
    """What a server says, up to ``READ_BYTES_MAX``."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._left = READ_BYTES_MAX

    def readline(self, most: int) -> bytes:
        line = self._file.readline(most)
        self._left -= len(line)
        if self._left < 0:
            raise OSError(f"the server said more than {READ_BYTES_MAX:,} bytes")
        return line

    def close(self) -> None:
        self._file.close()


class _Conversation:
    """One mail to one server, in a thread; ``give_up`` may be called from another.

    Attributes:
        taken: the addresses that took it.
    """

    def __init__(self, table: Email, tls: ssl.SSLContext) -> None:
        self._table = table
        self._tls = tls
        self._handle: socket.socket | None = None  # of the connection, whatever wraps its socket
        self._late = False
        self.taken: frozenset[str] = frozenset()

    def give_up(self) -> None:
        """Ends the connection, also within a TLS handshake: whatever waits for it ends."""
        self._late = True
        if self._handle is not None:
            with contextlib.suppress(OSError):
                self._handle.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Lets go of the connection, once nobody uses it."""
        if self._handle is not None:
            self._handle.close()

    def send(self, mail: EmailMessage, to: Sequence[str]) -> Outcome:
        """Sends it to some of the destination's addresses."""
        table = self._table
        try:
            client = _Smtp(table.server, self._connected(), table.timeout_s)
        except (OSError, UnicodeError) as error:
            return Outcome(f"no connection: {_reason(error)}", Blame.DESTINATION)
        accepted = False
        try:
            code, said = client.connect(table.server, table.port_used)
            if code != 220:
                raise smtplib.SMTPConnectError(code, said)
            self._sign_in(client)
            refused = client.send_message(mail, table.sender, list(to))
            accepted = True
            self.taken = frozenset(to) - refused.keys()
            with contextlib.suppress(smtplib.SMTPException, OSError):
                client.quit()
        except smtplib.SMTPException as error:
            return self._judged(error)
        except (OSError, ValueError) as error:
            if not accepted:
                return self._broken(error)
        finally:
            client.close()
        if refused:
            log.warning("some addresses were refused", destination=table.name, refused=len(refused))
            if any(not 500 <= code < 600 for code, _ in refused.values()):
                return self._refused(refused)
        return DELIVERED

    def _refused(self, replies: Mapping[str, tuple[int, bytes]]) -> Outcome:
        """Of addresses that did not take it: the kindest reply decides, as they are the same of
        every mail. One for good is about the destination."""
        code, text = min(replies.values())
        return self._outcome(code, text, Blame.DESTINATION if code >= 500 else Blame.UNKNOWN)

    def _connected(self) -> socket.socket:
        """A connection to the first judged address that takes one."""
        table = self._table
        found = socket.getaddrinfo(table.server, table.port_used, type=socket.SOCK_STREAM)
        trouble: OSError = NotPublic("its host is not found")
        for family, kind, protocol, _, address in found:
            if not may_go_to(str(address[0]), table.networks):
                trouble = NotPublic(f"{address[0]} is not a public address; see allow_networks")
                continue
            made = socket.socket(family, kind, protocol)
            made.settimeout(table.connect_timeout_s)
            self.close()
            self._handle = made.dup()
            try:
                made.connect(address)
                made.settimeout(table.timeout_s)
                if table.encryption == "tls":
                    made = self._tls.wrap_socket(made, server_hostname=table.server)
            except OSError as error:
                made.close()
                trouble = error
                continue
            if self._late:
                raise TimeoutError("timeout_s passed")
            return made
        raise trouble

    def _sign_in(self, client: smtplib.SMTP) -> None:
        table = self._table
        client.ehlo_or_helo_if_needed()
        if table.encryption == "starttls":
            client.starttls(context=self._tls)
            client.ehlo()
        if table.password is not None:
            client.login(table.username, table.password.get_secret_value())

    def _broken(self, error: Exception) -> Outcome:
        if isinstance(error, ssl.SSLError):
            return Outcome(f"no connection: {_reason(error)}", Blame.DESTINATION)
        if self._late or isinstance(error, TimeoutError):
            return Outcome("no answer: timeout_s passed", Blame.UNKNOWN)
        return Outcome(f"no answer: {type(error).__name__}", Blame.UNKNOWN)

    def _judged(self, error: smtplib.SMTPException) -> Outcome:
        if self._late:
            return self._broken(TimeoutError())
        if isinstance(error, smtplib.SMTPServerDisconnected):
            return self._broken(ConnectionError("it closed the connection"))
        if isinstance(error, smtplib.SMTPNotSupportedError):
            return Outcome(f"the server can't do it: {self._line(error)}", Blame.DESTINATION)
        if isinstance(error, smtplib.SMTPRecipientsRefused):
            return self._refused(error.recipients)
        if isinstance(error, smtplib.SMTPResponseException):
            blame = Blame.RECORD if isinstance(error, smtplib.SMTPDataError) else Blame.DESTINATION
            return self._outcome(error.smtp_code, error.smtp_error, blame)
        return Outcome(f"no answer: {type(error).__name__}", Blame.UNKNOWN)

    def _outcome(self, code: int, text: object, blame: Blame) -> Outcome:
        """Of a reply: one for good (5yz) is about ``blame``, any other passes (RFC 5321, 4.2.1)."""
        said = f"{code}: {self._line(text)}"
        if code == 421:
            return Outcome(said, Blame.DESTINATION)
        if not 500 <= code < 600:
            return Outcome(said, blame if blame is Blame.DESTINATION else Blame.UNKNOWN)
        return Outcome(said, blame, or_record=blame is Blame.DESTINATION)

    def _line(self, text: object) -> str:
        shown = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
        return one_line(shown, secrets_of_mail(self._table), SAID_CHARS_MAX)


def secrets_of_mail(table: Email) -> list[str]:
    """The password, and the forms in which AUTH sends it (RFC 4616, RFC 4954)."""
    if table.password is None:
        return []
    password = table.password.get_secret_value()
    plain = f"\0{table.username}\0{password}"
    return [*(b64encode(one.encode()).decode() for one in (plain, password)), password]


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate: {error.verify_message}"
    if isinstance(error, NotPublic):
        return str(error)
    if isinstance(error, socket.gaierror | UnicodeError):
        return "its host is not found"
    if isinstance(error, TimeoutError):
        return "connect_timeout_s passed"
    return getattr(error, "strerror", None) or type(error).__name__
