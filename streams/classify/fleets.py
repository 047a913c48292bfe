"""Which networks click as only a fleet of scanners does.

Invariants:
1. Pure. A network is proposed only if nothing speaks against it; each objection is said in words.
2. Nothing wider than a /24 or a /48 is proposed.
3. People's activity only ever speaks against a network: more of it never makes one a fleet.
"""

import ipaddress
from dataclasses import dataclass

WIDEST_BITS = {4: 24, 6: 48}


@dataclass(frozen=True, slots=True)
class Seen:
    """What came from one network in a period. Counts are of messages unless said otherwise.

    Attributes:
        network: a CIDR.
        recipients: people whose messages were clicked.
        days: distinct days with clicks.
        clicked: messages with a click.
        many_links: those of them that have three links or more.
        machine: those of ``many_links`` whose clicks were a machine's, certainly or with high
            certainty.
        human: messages opened or clicked as people do: an open by a mail client or browser, or a
            single link long after the delivery.
    """

    network: str
    recipients: int
    days: int
    clicked: int
    many_links: int
    machine: int
    human: int


@dataclass(frozen=True, slots=True)
class Limits:
    """What a fleet has at least, and at most. Defaults are assumptions: tune them on labelled logs.

    Attributes:
        messages_min: clicked messages.
        recipients_min: people.
        days_min: days.
        many_links_min: clicked messages of three links or more; fewer show no habit.
        machine_share_min: of these, those that were a machine's; 0 to 1.
        human_share_max: messages used as people do, of the clicked ones; 0 to 1.
    """

    messages_min: int = 20
    recipients_min: int = 10
    days_min: int = 1
    many_links_min: int = 10
    machine_share_min: float = 0.9
    human_share_max: float = 0.02


DEFAULT = Limits()


def objections(seen: Seen, limits: Limits = DEFAULT) -> list[str]:
    """Why a network is not proposed as a fleet; empty: it is.

    Raises:
        ValueError: ``seen.network`` is no CIDR.
    """
    network = ipaddress.ip_network(seen.network)
    widest = WIDEST_BITS[network.version]
    told = [
        f"{found} {what}, fewer than {least}"
        for found, least, what in (
            (seen.clicked, limits.messages_min, "messages"),
            (seen.recipients, limits.recipients_min, "recipients"),
            (seen.days, limits.days_min, "days"),
            (seen.many_links, limits.many_links_min, "messages of three links or more"),
        )
        if found < least
    ]
    if network.prefixlen < widest:
        told.append(f"wider than a /{widest}")
    if seen.machine < limits.machine_share_min * seen.many_links:
        told.append(f"a machine's in only {seen.machine} of {seen.many_links} messages")
    if seen.human > limits.human_share_max * seen.clicked:
        told.append(f"people: {seen.human} messages used as people do, beside {seen.clicked}")
    return told
