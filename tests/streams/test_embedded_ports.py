"""Ports of an embedded pipeline: easy to remember, and no other pipeline's."""

import contextlib
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from schemas.errors import ConfigError
from schemas.settings import Settings
from streams.embedded import ports
from streams.embedded.ports import PORTS_IN_ORDER, Ports, free_port
from streams.embedded.supervisor import Embedded


def test_taken_port_is_seen(tmp_path: Path) -> None:
    """A preferred port is used if it is free, else another one."""
    with contextlib.closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert free_port(port) != port
    assert free_port(port) == port


def test_a_chosen_port_is_chosen_by_no_other_pipeline(tmp_path: Path) -> None:
    """Its child listens seconds later; it is free again when its pipeline ends, however it ends."""
    with Ports() as ours, Ports() as others:
        wished = free_port()
        assert ours.free(wished) == wished
        assert others.free(wished) != wished
        with socket.socket() as child:
            child.bind(("127.0.0.1", wished))  # a reservation hinders nobody who listens
    assert free_port(wished) == wished
    source = f"""
        import os, signal
        from streams.embedded.ports import Ports
        assert Ports().free({wished}) == {wished}
        os.kill(os.getpid(), signal.SIGKILL)
    """
    killed = subprocess.run([sys.executable, "-P", "-c", textwrap.dedent(source)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert free_port(wished) == wished


async def test_port_that_another_pipeline_reserved_is_refused(tmp_path: Path) -> None:
    """Two that are started in one second: the second says so, and does not fail much later."""
    with Ports() as others:
        taken = others.free()
        pipeline = Embedded(Settings(data_dir=tmp_path, ingest_port=taken), {}, print)
        with pytest.raises(ConfigError, match=f"port {taken} is taken"):
            await pipeline.start()
        await pipeline.stop()


def test_ports_that_follow_are_tried_in_order() -> None:
    """8123, 8124, …: addresses stay easy to remember."""
    first = free_port()
    with contextlib.ExitStack() as stack:
        for port in (first, first + 1):
            taken = stack.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                taken.bind(("127.0.0.1", port))
                taken.listen()
        assert free_port(first) in range(first + 2, first + PORTS_IN_ORDER)


def test_chosen_ports_are_given_to_no_outgoing_connection() -> None:
    """Such a connection could take a child's port while the child is down; all are different."""
    outgoing = Path("/proc/sys/net/ipv4/ip_local_port_range")
    if not outgoing.exists():
        pytest.skip("only Linux says which they are")
    first, last = map(int, outgoing.read_text().split())
    with Ports() as some:
        chosen = some.named(**{f"port{number}": 0 for number in range(50)})
    assert len(set(chosen.values())) == 50
    assert not [port for port in chosen.values() if first <= port <= last]


def test_no_port_is_chosen_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by chance either: here there is one port fewer to choose from than names."""
    monkeypatch.setattr(ports, "PORTS_TRIED", 3)
    monkeypatch.setattr(ports, "_unassigned", lambda: range(30_001, 30_004))
    with Ports() as some:
        chosen = some.named(one=0, two=0, three=0, four=0)
    assert len(set(chosen.values())) == 4
