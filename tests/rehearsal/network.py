"""Compose's networks: a bridge each, a namespace for every service, a veth pair for each of its
networks. Made in the run's own network namespace, and gone with it.

Invariant: addresses are planned before anything is made (``plan``, pure), and networks that are not
internal have an address on this machine's side, as Docker gives them.
"""

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from tests.rehearsal.project import Service

DOCKERS = IPv4Network("172.18.0.0/16")
"""From the pool of which Docker gives networks their subnets (libnetwork, ``ipamutils``): the
ingress shows its metrics to private networks alone."""


@dataclass(frozen=True, slots=True)
class Network:
    """One network. ``gateway``: this machine's address in it; an internal network has none."""

    name: str
    subnet: IPv4Network
    internal: bool

    @property
    def gateway(self) -> IPv4Address | None:
        """See the class."""
        return None if self.internal else self.subnet[1]


@dataclass(frozen=True, slots=True)
class Plan:
    """Every network, and every service's address in each of its networks."""

    networks: Mapping[str, Network]
    addresses: Mapping[str, Mapping[str, IPv4Address]]

    def find(self, asker: str, name: str) -> IPv4Address | None:
        """The address that Docker's resolver gives a service for another one's name, if any.

        Networks with a way out come before internal ones, then by name (libnetwork,
        ``Endpoint.Less``).
        """
        theirs = self.addresses.get(name, {})
        shared = theirs.keys() & self.addresses[asker].keys()
        first = min(shared, key=lambda one: (self.networks[one].internal, one), default=None)
        return None if first is None else theirs[first]

    def published_at(self, service: str) -> IPv4Address | None:
        """Where a published port of a service leads to; none without a network that has a way out:
        Docker publishes no port of such a service."""
        theirs = self.addresses[service]
        outer = sorted(name for name in theirs if not self.networks[name].internal)
        return theirs[outer[0]] if outer else None


def plan(networks: Mapping[str, Any], services: Mapping[str, Service]) -> Plan:
    """Addresses for all. Pure.

    Args:
        networks: of the loaded project.
    """
    free = DOCKERS.subnets(new_prefix=24)
    made: dict[str, Network] = {}
    for name, one in networks.items():
        pools = (one.get("ipam") or {}).get("config") or ()
        subnet = IPv4Network(pools[0]["subnet"]) if pools else next(free)
        made[name] = Network(name, subnet, one.get("internal", False))
    taken = dict.fromkeys(made, 1)
    addresses: dict[str, dict[str, IPv4Address]] = {}
    for name, service in services.items():
        addresses[name] = {}
        for network in service.networks:
            taken[network] += 1
            addresses[name][network] = made[network].subnet[taken[network]]
    return Plan(made, addresses)


def make(planned: Plan) -> None:
    """Makes bridges, namespaces and links.

    Raises:
        RuntimeError: the kernel or iproute2 refuses.
    """
    numbers = {name: number for number, name in enumerate(planned.networks)}
    outer = ["link set lo up"]
    for name, network in planned.networks.items():
        outer += [f"link add br{numbers[name]} type bridge", f"link set br{numbers[name]} up"]
        if network.gateway is not None:
            outer.append(f"addr add {network.gateway}/24 dev br{numbers[name]}")
    inner: dict[str, list[str]] = {}
    for count, (service, addresses) in enumerate(planned.addresses.items()):
        outer.append(f"netns add {service}")
        inner[service] = ["link set lo up"]
        for number, (name, address) in enumerate(addresses.items()):
            here, there = f"v{count}-{number}", f"eth{number}"
            outer += [
                f"link add {here} type veth peer name {there} netns {service}",
                f"link set {here} master br{numbers[name]} up",
            ]
            inner[service] += [f"addr add {address}/24 dev {there}", f"link set {there} up"]
        ways_out = [planned.networks[one].gateway for one in sorted(addresses)]
        if gateway := next((one for one in ways_out if one is not None), None):
            inner[service].append(f"route add default via {gateway}")
    _ip([], outer)
    for service, commands in inner.items():
        _ip(["-n", service], commands)


def _ip(options: list[str], commands: list[str]) -> None:
    done = subprocess.run(
        ["ip", *options, "-batch", "-"], input="\n".join(commands) + "\n",
        check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    if done.returncode != 0:
        raise RuntimeError(f"ip {' '.join(options)}: {done.stderr.strip()}")
