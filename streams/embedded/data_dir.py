"""The data directory of an embedded pipeline: its lock, its ports, its address file.

Invariants:
1. One process owns a data directory; the lock is released when the process ends, however it ends.
2. Other commands find a running pipeline through ``data_dir/embedded.json``; the file of a process
   that ended is ignored. ``operator.dsn`` beside it, the address of its database with all rights,
   is readable for its user alone.
"""

import contextlib
import fcntl
import json
import os
import random
import socket
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from schemas.addresses import encoded
from schemas.errors import ConfigError, Unavailable
from schemas.recipient_hash import mode_mark
from schemas.settings import PREFIX, Settings

STATE_FILE, LOCK_FILE, OPERATOR_FILE = "embedded.json", "lock", "operator.dsn"
PORTS_FROM = 16_384
"""The lowest port that is chosen here: known services have lower ones."""
PORTS_OUTGOING = 49_152
"""From here on systems give ports to outgoing connections (RFC 6335), Linux from a file's on."""
PORTS_TRIED = 64
PORTS_IN_ORDER = 10
"""So many from a wished port on are tried in order, so that addresses stay easy to remember."""
_OUTGOING = Path("/proc/sys/net/ipv4/ip_local_port_range")
_DICE = random.SystemRandom()


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Addresses of a running embedded pipeline, as in ``data_dir/embedded.json``.

    Attributes:
        recipients: how its ingress stores recipients, see ``mode_mark``; empty: not known.
        log_id: of the raw topic, if it is another than the topic's own (after a restore).
    """

    pid: int
    kafka_bootstrap: str
    partitions: int
    ingest_url: str
    clickhouse_dsn: str
    worker_url: str
    dashboard_url: str = ""
    recipients: str = ""
    log_id: str = ""


def recipients_mark(settings: Settings) -> str:
    """How a process of these settings stores recipients, see ``mode_mark``."""
    return mode_mark(settings.recipients, settings.recipient_hash_key.get_secret_value().encode())


@contextlib.contextmanager
def locked(data_dir: Path) -> Iterator[None]:
    """Owns ``data_dir`` for as long as the block runs.

    Raises:
        ConfigError: another process owns it, or it can't be created.
    """
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        handle: IO[str] = (data_dir / LOCK_FILE).open("a+", encoding="utf-8")
    except OSError as error:
        raise ConfigError([f"{PREFIX}DATA_DIR: {data_dir}: {error.strerror}"]) from None
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            handle.seek(0)
            owner = handle.read().strip() or "unknown"
            raise ConfigError(
                [
                    f"{PREFIX}DATA_DIR: {data_dir} is in use by process {owner};"
                    " stop it or choose another with --data-dir"
                ]
            ) from None
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
        yield


def free_port(wished: int = 0) -> int:
    """``wished`` if it is free on 127.0.0.1, else one that follows it, else any free port.

    Raises:
        Unavailable: no port is free.
    """
    return free_ports(port=wished)["port"]


def free_ports(**wished: int) -> dict[str, int]:
    """A port for each name, no two the same: the wished one or one of those that follow it
    (``PORTS_IN_ORDER``), if one is free, else any free port.

    Raises:
        Unavailable: no port is free.
    """
    chosen: dict[str, int] = {}
    with contextlib.ExitStack() as stack:
        for name, port in wished.items():
            chosen[name] = _bound(stack, port, taken=chosen.values())
    return chosen


def _unassigned() -> range:
    """Ports that no outgoing connection is given: one could take a child's while it is down."""
    first = PORTS_OUTGOING
    with contextlib.suppress(OSError, ValueError, IndexError):
        first = int(_OUTGOING.read_text("ascii").split()[0])
    return range(PORTS_FROM, max(first, PORTS_FROM + PORTS_TRIED))


def _bound(stack: contextlib.ExitStack, wished: int, taken: Collection[int]) -> int:
    others = _DICE.sample(_unassigned(), PORTS_TRIED)
    first = range(wished, min(wished + PORTS_IN_ORDER, 65_536)) if wished else ()
    for port in (*first, *others, 0):
        # A port of ours would be bound a second time: SO_REUSEADDR allows that while none listens.
        if port in taken:
            continue
        probe = stack.enter_context(socket.socket())
        if port:  # connections of an earlier server may still be in TIME_WAIT
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise Unavailable("no free port on 127.0.0.1")


def port_is_free(port: int) -> bool:
    """Whether a server could listen on 127.0.0.1 at ``port`` now."""
    return port == 0 or free_port(port) == port


def running(data_dir: Path) -> Endpoints | None:
    """The running embedded pipeline that owns ``data_dir``, if any."""
    try:
        found = Endpoints(**json.loads((data_dir / STATE_FILE).read_text(encoding="utf-8")))
        os.kill(found.pid, 0)
    except (OSError, ValueError, TypeError):
        return None
    return found


def write_secret(path: Path, text: str) -> None:
    """Writes a file that only this user can read."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(f"{text}\n")


def with_token(dsn: str, token: str) -> str:
    """The address of the analysts' listener with ``token`` as its password; unchanged without."""
    if not token:
        return dsn
    scheme, _, rest = dsn.partition("://")
    return f"{scheme}://default:{encoded(token)}@{rest}"
