"""TLS connections of the front door until their handshake is over.

An event loop that accepts TLS connections itself tells of one only then, so that clients who begin
handshakes and do not end them would be in nobody's count: some hundred a second took every file
descriptor, and neither a webhook nor Kafka got one.

Invariant: each has a place in the crowd from the moment it is accepted, and gives it to the
protocol that takes over.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from typing import Any

from ingest.connection import FrontDoorProtocol, client_of
from ingest.crowd import Full

NO_DESCRIPTOR_PAUSE_S = 0.1
"""How long nothing is accepted where the process may open no more files."""


class Handshake:
    """A connection that is accepted, and not encrypted yet.

    Args:
        sock: of the connection.
        protocol: takes over; it is not connected yet.
    """

    def __init__(self, sock: socket.socket, protocol: FrontDoorProtocol) -> None:
        self._sock = sock
        self._protocol = protocol

    async def shake(self, context: ssl.SSLContext, timeout_s: float) -> None:
        """Encrypts the connection and hands it over, or ends it."""
        crowd = self._protocol.crowd
        peer: Any = None
        with contextlib.suppress(OSError):  # it has gone already
            peer = self._sock.getpeername()
        try:
            displaced = crowd.enter(self, client_of(peer, self._protocol.trusted))
        except Full:
            self._count("too_many")
            self._sock.close()
            return
        if displaced is not None:
            displaced.cut("displaced")
        self._protocol.handshake = self
        # errors of TLS and time-outs are OSError; uvloop has the socket closed by then
        with contextlib.suppress(OSError):
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: self._protocol, self._sock, ssl=context, ssl_handshake_timeout=timeout_s
            )
        crowd.leave(self)

    def cut(self, reason: str) -> None:
        """Ends the connection, and with it the handshake."""
        self._count(reason)
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def _count(self, reason: str) -> None:
        self._protocol.metrics.connections_refused.labels(reason).inc()


async def accept(
    listener: socket.socket,
    make_protocol: Callable[[], FrontDoorProtocol],
    context: ssl.SSLContext,
    timeout_s: float,
) -> None:
    """Accepts TLS connections until it is cancelled.

    Args:
        listener: not blocking.
        make_protocol: makes what takes over.
        context: with the server's certificate.
        timeout_s: longest handshake.
    """
    loop = asyncio.get_running_loop()
    shaking: set[asyncio.Task[None]] = set()
    try:
        while True:
            try:
                sock, _ = await loop.sock_accept(listener)
            except OSError:  # no descriptor is free, or the client has gone
                await asyncio.sleep(NO_DESCRIPTOR_PAUSE_S)
                continue
            task = loop.create_task(Handshake(sock, make_protocol()).shake(context, timeout_s))
            shaking.add(task)
            task.add_done_callback(shaking.discard)
    finally:
        for task in tuple(shaking):
            task.cancel()
