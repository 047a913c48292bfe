"""Names as a container sees them: a resolver at 127.0.0.11 in every namespace, as Docker's.

Invariants:
1. A service is known only while it runs, and only to those that share a network with it.
2. Questions for IPv6 addresses of a known name get an empty answer; unknown names do not exist.
"""

import ctypes
import os
import selectors
import socket
import struct
import threading
from collections.abc import Callable, Iterable, Mapping
from ipaddress import IPv4Address
from pathlib import Path

RESOLVER = "127.0.0.11"
Lookup = Callable[[str], IPv4Address | None]
"""Name -> address."""
_A, _NO_SUCH_NAME, _TTL_S = 1, 3, 600
_NEW_NET = 0x40000000  # CLONE_NEWNET of linux/sched.h


def answer(question: bytes, lookup: Lookup) -> bytes | None:
    """The answer to one DNS message (RFC 1035); ``None`` if it is no question."""
    if len(question) < 17 or question[2] & 0x80 or question[4:6] != b"\0\1":
        return None
    labels, end = [], 12
    while length := question[end]:
        labels.append(question[end + 1 : end + 1 + length].decode("ascii", "replace"))
        end += 1 + length
        if length > 63 or end + 5 > len(question):
            return None
    kind = struct.unpack_from(">H", question, end + 1)[0]
    found = lookup(".".join(labels).lower())
    given = found is not None and kind == _A
    flags = 0x8180 | (0 if found is not None else _NO_SUCH_NAME)
    head = question[:2] + struct.pack(">HHHHH", flags, 1, int(given), 0, 0)
    record = b"\xc0\x0c" + struct.pack(">HHIH", _A, 1, _TTL_S, 4) if given else b""
    packed = found.packed if found is not None and given else b""
    return head + question[12 : end + 5] + record + packed


def socket_in(namespace: str, kind: socket.SocketKind) -> socket.socket:
    """A socket in another network namespace; this thread stays where it is.

    Raises:
        OSError: no such namespace, or not root.
    """
    made: list[socket.socket] = []

    def enter() -> None:  # setns(2) moves one thread, which ends afterwards
        handle = os.open(Path("/run/netns") / namespace, os.O_RDONLY)
        try:
            if ctypes.CDLL(None, use_errno=True).setns(handle, _NEW_NET) == 0:
                made.append(socket.socket(socket.AF_INET, kind))
        finally:
            os.close(handle)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    if not made:
        raise OSError(f"no socket in namespace {namespace}")
    return made[0]


class Resolver(threading.Thread):
    """Answers in the namespaces of ``services`` until the process ends.

    Args:
        find: who asks, name -> address (invariant 1).
    """

    def __init__(
        self, services: Iterable[str], find: Callable[[str, str], IPv4Address | None]
    ) -> None:
        super().__init__(name="resolver", daemon=True)
        self._find = find
        self._sockets: Mapping[str, socket.socket] = {
            one: socket_in(one, socket.SOCK_DGRAM) for one in services
        }
        for each in self._sockets.values():
            each.bind((RESOLVER, 53))

    def run(self) -> None:
        """See the class."""
        with selectors.DefaultSelector() as selector:
            for service, each in self._sockets.items():
                selector.register(each, selectors.EVENT_READ, service)
            while True:
                for key, _ in selector.select():
                    self._serve(self._sockets[key.data], key.data)

    def _serve(self, here: socket.socket, asker: str) -> None:
        question, whom = here.recvfrom(4096)
        told = answer(question, lambda name: self._find(asker, name))
        if told is not None:
            here.sendto(told, whom)
