"""Compose's networks on Linux: a namespace for a service, and a link per network.

The service's peer is in the machine's own namespace, with the address that Docker's resolver would
give for its name (``tests.compose.shared_networks``). Needs root and iproute2.
"""

import ipaddress
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from tests.compose import COMPOSE, SERVICES, resolved, shared_networks, subnet
from tests.live.maven import Missing

_ETC = Path("/etc/netns")


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], check=False, capture_output=True, text=True, timeout=20)
    if done.returncode != 0:
        raise RuntimeError(f"ip {' '.join(words)}: {done.stderr.strip()}")


def _subnets(networks: Sequence[str]) -> dict[str, ipaddress.IPv4Network]:
    """Network -> its subnet: as in compose, else one reserved for tests (RFC 2544)."""
    free = ipaddress.IPv4Network("198.18.0.0/16").subnets(new_prefix=24)
    fixed = {name for name in networks if "ipam" in (COMPOSE["networks"][name] or {})}
    return {
        name: ipaddress.IPv4Network(subnet(name)) if name in fixed else next(free)
        for name in networks
    }


@dataclass
class Surroundings:
    """The namespace of one service.

    Attributes:
        service: name in ``docker-compose.yml``.
        peers: services that it calls, all of them processes in the machine's own namespace.
        addresses: network -> the service's address in it.

    Raises:
        Missing: not root, or no iproute2.
    """

    service: str
    peers: tuple[str, ...]
    addresses: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The namespace's name."""
        return f"mailpulse-{self.service}-{os.getpid()}"

    def command(self, *argv: str) -> list[str]:
        """``argv`` inside the namespace."""
        return ["ip", "netns", "exec", self.name, *argv]

    def start(self) -> Self:
        """Creates the namespace and its links."""
        if os.geteuid() != 0 or shutil.which("ip") is None:
            raise Missing("network namespaces need root and iproute2")
        _ip("netns", "add", self.name)
        try:
            self._link()
        except BaseException:
            self.remove()
            raise
        return self

    def _link(self) -> None:
        subnets = _subnets(SERVICES[self.service]["networks"])
        _ip("-n", self.name, "link", "set", "lo", "up")
        theirs = {}
        for number, (network, addresses) in enumerate(subnets.items()):
            outer, inner = self._outer(number), f"eth{number}"
            _ip("link", "add", outer, "type", "veth", "peer", "name", inner, "netns", self.name)
            theirs[network], mine = str(addresses[1]), str(addresses[2])
            _ip("addr", "add", f"{theirs[network]}/24", "dev", outer)
            _ip("link", "set", outer, "up")
            _ip("-n", self.name, "addr", "add", f"{mine}/24", "dev", inner)
            _ip("-n", self.name, "link", "set", inner, "up")
            self.addresses[network] = mine
        found = {peer: theirs[shared_networks(self.service, peer)[0]] for peer in self.peers}
        lines = [f"{address} {name}" for name, address in found.items()]
        folder = _ETC / self.name  # `ip netns exec` mounts what lies here over /etc
        folder.mkdir(parents=True)
        (folder / "hosts").write_text("\n".join(["127.0.0.1 localhost", *lines, ""]), "utf-8")

    @staticmethod
    def _outer(number: int) -> str:
        return f"mp{os.getpid() % 100000}-{number}"

    def remove(self) -> None:
        """Removes them."""
        # a namespace's links go with it, but later: the next one of this name needs theirs now
        for number in range(len(SERVICES[self.service]["networks"])):
            gone = ["ip", "link", "del", self._outer(number)]
            subprocess.run(gone, check=False, capture_output=True)
        subprocess.run(["ip", "netns", "del", self.name], check=False, capture_output=True)
        shutil.rmtree(_ETC / self.name, ignore_errors=True)


def believed(service: str) -> str:
    """The proxies that a service of the compose file trusts."""
    return resolved(SERVICES[service]["environment"]["MAILPULSE_TRUSTED_PROXIES"])
