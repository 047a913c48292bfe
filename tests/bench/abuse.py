"""Abuse for the ingress bench: its effect on healthy requests, as a ratio of two latencies.

``python -m tests.bench.abuse PORT PATH`` abuses a server until it is ended: 2,000 connections that
send their headers slowly and are reopened when they are closed, and one hostile body after another.

Invariants:
1. The abuser is a process of its own and only sends: the costs are those of the server, and of the
   machine that both share.
2. Baseline and abuse are measured with the same client on the same server, one after the other.
"""

import asyncio
import contextlib
import gzip
import itertools
import resource
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

from tests.bench.sendgrid_load import Round
from tests.live.process import Process

SLOW_CONNECTIONS = 2_000
ADDRESSES = 50
"""That the slow connections come from: of one address ingress takes fewer."""
DRIBBLE_S = 2.0
BETWEEN_BODIES_S = 0.2
ROUNDS = 3

BODIES: tuple[tuple[str, bytes], ...] = (
    ("gzip", gzip.compress(bytes(100_000_000))),
    ("identity", b"[" * 100_000 + b"]" * 100_000),
    ("identity", b"[" + b"{}," * 999_999 + b"{}]"),
    ("identity", b'["' + b'\\"' * 2_400_000 + b'"]'),
)
"""Coding and body: a bomb of 1000:1, JSON 100,000 deep, 1,000,000 events, 5 MB of quotes."""


async def _dribble(port: int, path: str, number: int) -> None:
    """One slow connection, for ever."""
    await asyncio.sleep(DRIBBLE_S * number / SLOW_CONNECTIONS)
    while True:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection(
                "127.0.0.1", port, local_addr=(f"127.0.1.{1 + number % ADDRESSES}", 0)
            )
            writer.write(f"POST {path} HTTP/1.1\r\n".encode())
            while not writer.is_closing():
                await asyncio.sleep(DRIBBLE_S)
                writer.write(b"X-A: b\r\n")
                await writer.drain()
        await asyncio.sleep(DRIBBLE_S)


async def _attack(port: int, path: str) -> None:
    """One hostile body after another, for ever; every answer is read."""
    for coding, body in itertools.cycle(BODIES):
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(
                f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Encoding: {coding}\r\n"
                f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
                + body
            )
            await reader.read()
            writer.close()
        await asyncio.sleep(BETWEEN_BODIES_S)


async def _abuse(port: int, path: str) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    slow = [_dribble(port, path, number) for number in range(SLOW_CONNECTIONS)]
    await asyncio.gather(_attack(port, path), *slow)


def measure(port: int, path: str, folder: Path, load: Callable[[], Round]) -> dict[str, float]:
    """Measures the effect on a healthy client.

    Args:
        load: one round of a healthy client; raises if a request is not answered 200.

    Returns:
        ``abuse_p99_ratio``: median p99 under abuse by that without; both, in milliseconds.
    """
    quiet = [load().p99_ms for _ in range(ROUNDS)]
    argv = [sys.executable, "-m", "tests.bench.abuse", str(port), path]
    abuser = Process("abuser", argv, folder / "abuser.log")
    abuser.start()
    try:
        abuser.wait_until(lambda: _connections_to(port) >= SLOW_CONNECTIONS * 0.9, "connected")
        abused = [load().p99_ms for _ in range(ROUNDS)]
        if not abuser.running:
            raise RuntimeError(f"the abuser ended\n{abuser.log_tail()}")
    finally:
        abuser.kill()
    before, under = statistics.median(quiet), statistics.median(abused)
    return {
        "abuse_p99_ratio": under / before,
        "abuse_p99_ms": under,
        "abuse_p99_baseline_ms": before,
    }


def _connections_to(port: int) -> int:
    """Connections established to a port of this machine, by the kernel's table."""
    remote = f":{port:04X} 01 "
    return Path("/proc/net/tcp").read_text(encoding="ascii").count(remote)


if __name__ == "__main__":
    asyncio.run(_abuse(int(sys.argv[1]), sys.argv[2]))
