"""Ports of 127.0.0.1 for what an embedded pipeline starts.

Invariants:
1. A port that was chosen stays this pipeline's for as long as it runs: its children listen seconds
   after the choice, and stop listening while they are restarted. Another pipeline of this machine
   does not choose it meanwhile, whoever runs it.
2. A reservation ends with its process, however that ends: it is a UDP socket bound to the same
   number, which no child inherits. TCP and UDP ports are apart (RFC 9293, RFC 768), so the child
   can listen.
"""

import contextlib
import random
import socket
from pathlib import Path

from schemas.errors import Unavailable

PORTS_FROM = 16_384
"""The lowest port that is chosen here: known services have lower ones."""
PORTS_OUTGOING = 49_152
"""From here on systems give ports to outgoing connections (RFC 6335), Linux from a file's on."""
PORTS_TRIED = 64
PORTS_IN_ORDER = 10
"""So many from a wished port on are tried in order, so that addresses stay easy to remember."""
_OUTGOING = Path("/proc/sys/net/ipv4/ip_local_port_range")
_DICE = random.SystemRandom()


class Ports(contextlib.ExitStack):
    """Ports that are reserved until the block ends, or until ``close``."""

    def free(self, wished: int = 0, most: int = PORTS_IN_ORDER) -> int:
        """``wished`` if it is free, else one that follows it, else any free port.

        Args:
            most: so many are tried in order, ``wished`` among them.

        Raises:
            Unavailable: no port is free.
        """
        others = _DICE.sample(_unassigned(), PORTS_TRIED)
        first = range(wished, min(wished + most, 65_536)) if wished else ()
        for port in (*first, *others, 0):
            if (found := self._reserved(port)) is not None:
                return found
        raise Unavailable("no free port on 127.0.0.1")

    def named(self, **wished: int) -> dict[str, int]:
        """A port for each name, as by ``free``.

        Raises:
            Unavailable: no port is free.
        """
        return {name: self.free(port) for name, port in wished.items()}

    def _reserved(self, port: int) -> int | None:
        with contextlib.closing(socket.socket()) as probe:
            if port:  # connections of an earlier server may still be in TIME_WAIT
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            held = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            try:
                probe.bind(("127.0.0.1", port))
                found = int(probe.getsockname()[1])
                held.bind(("127.0.0.1", found))
            except OSError:
                held.close()
                return None
        self.enter_context(held)
        return found


def _unassigned() -> range:
    """Ports that no outgoing connection is given: one could take a child's while it is down."""
    first = PORTS_OUTGOING
    with contextlib.suppress(OSError, ValueError, IndexError):
        first = int(_OUTGOING.read_text("ascii").split()[0])
    return range(PORTS_FROM, max(first, PORTS_FROM + PORTS_TRIED))


def free_port(wished: int = 0) -> int:
    """A port as by ``Ports.free``, which is not reserved: for one that is bound at once.

    Raises:
        Unavailable: no port is free.
    """
    with Ports() as ports:
        return ports.free(wished)


def is_free(port: int) -> bool:
    """Whether an embedded pipeline that starts now could listen on 127.0.0.1 at ``port``."""
    with Ports() as ports:
        return port == 0 or ports.free(port, most=1) == port
