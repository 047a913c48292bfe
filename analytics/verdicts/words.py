"""Verdicts in words for people who are no engineers.

Invariants:
1. Pure. Every text from outside is masked; escaping is the business of who shows it.
2. ``REASONS`` has every reason that the shipped rules give (tested). A rules file of your own may
   have others, which are shown by their names.
"""

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any

from analytics.verdicts.questions import COUNT_COLUMNS, EXAMPLE_COLUMNS, GROUP_COLUMNS
from schemas.masking import DOTS, masked_field, masked_recipient

Row = Mapping[str, Any]
Answer = dict[str, Any]

REASONS = {
    "": "nothing speaks for a machine",
    "all_links_clicked": "many links of the message within seconds: a scanner checks them all",
    "apple_mpp": (
        "Apple Mail Privacy Protection loads every mail's images, read or not: nobody can know"
    ),
    "bare_ua": "no browser names itself so briefly",
    "barracuda": "comes from Barracuda's mail protection, which may also carry people",
    "fleet": "comes from a network that clicked as scanners do in many people's messages",
    "gmail_proxy": "Gmail's image proxy, which fetches when somebody looks",
    "hey_proxy": "HEY's image proxy, which fetches when somebody looks",
    "hidden_link": "a link that nobody can see",
    "links_at_once": (
        "three links or more of the message within a second: a scanner checks them all"
    ),
    "many_agents": "several programs within seconds: a scanner tries them all",
    "microsoft_network": "comes from Microsoft's mail protection, by its published addresses",
    "no_delivery_time": "nothing speaks for a machine, but no delivery was reported",
    "prefetch_ua": "images loaded ahead of the reader",
    "preview_ua": "a link preview, made when somebody pastes the link",
    "program_ua": "a program, not a mail client or browser",
    "provider_flag": "the provider itself says that it was a machine",
    "scanner_burst": "together with a scanner's clicks, by the same program",
    "scanner_network": "comes from a security scanner's network",
    "scanner_ua": "names itself as a security scanner",
    "soon": "soon after the delivery: scanners come then, and so do fast readers",
    "suspected_network": "comes from a scanner's network, which may also carry people",
    "too_soon": "seconds after the delivery, by your own rules",
    "two_links_at_once": "two links of the message within a second: a scanner, or tabs",
    "yahoo_proxy": "Yahoo's image proxy, which fetches when somebody looks",
}

SETTINGS = (
    ("sure humans", "only what is a human's with high certainty: Gmail's and Yahoo's readers, who"
     " come by a proxy, are left out"),
    ("humans", "what open_rate and click_rate count"),
    ("with unknown", "also what nobody can know, such as Apple's prefetch"),
    ("at most", "all but what is a machine's with high certainty"),
    ("everything", "whoever or whatever opened or clicked"),
)  # fmt: skip
"""Ways of counting, the strictest first, and what each of them counts."""

_NETWORK_BITS = {4: 24, 6: 48}


def reason(name: str) -> str:
    """A verdict's reason in words."""
    return REASONS.get(name, name.replace("_", " "))


def network(ip: str) -> str:
    """The network of an address, which names nobody: a /24 or /48; empty for what is no address."""
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return ""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    bits = _NETWORK_BITS[address.version]
    return str(ipaddress.ip_network((address.packed, bits), strict=False))


def example(row: Row, *, whole: bool = False) -> Answer:
    """One of ``EXAMPLES`` as it is shown.

    Args:
        whole: show whole addresses of recipients; an IP address never is.
    """
    recipient, link = str(row["recipient"]), str(row["link"])
    since = row["seconds_since_delivery"]
    return {
        "at_ms": int(row["at_ms"]),
        "seconds_since_delivery": None if since is None else float(since),
        "recipient": recipient if whole else masked_recipient(recipient, DOTS),
        "mailbox_provider": row["mailbox_provider"],
        "source": row["source"],
        "machine_kind": row["machine_kind"],
        "user_agent": masked_field(str(row["user_agent"]), DOTS),
        "network": network(str(row["ip"])),
        "link": link if whole else masked_field(link, DOTS),
    }


def explained(groups: Sequence[Row], examples: Sequence[Row]) -> list[Answer]:
    """Verdicts with their reasons in words, and with examples of each."""
    names = GROUP_COLUMNS[:4]
    assert EXAMPLE_COLUMNS[:4] == names
    by_verdict: dict[tuple[Any, ...], list[Answer]] = {}
    for row in examples:
        by_verdict.setdefault(tuple(row[name] for name in names), []).append(example(row))
    return [
        {
            **{name: row[name] for name in GROUP_COLUMNS},
            "says": reason(str(row["actor_reason"])),
            "examples": by_verdict.get(tuple(row[name] for name in names), []),
        }
        for row in groups
    ]


def ways(counts: Row, sure: Row) -> list[Answer]:
    """What each way of counting gives, of opens and of clicks; rate ``None``: nothing delivered.

    Of live traffic, events may be stored seconds before they are counted: what is a part of the
    counted is then told as all of it.
    """
    delivered, told = int(counts["delivered"]), []
    for kind in ("opened", "clicked"):
        names = [name for name in COUNT_COLUMNS if name.startswith(f"cohort_{kind}")]
        numbers = [int(counts[name]) for name in names]
        numbers.insert(0, min(int(sure[kind]), numbers[0]))
        told += [
            {
                "event_type": kind, "counts": name, "says": says, "messages": number,
                "rate": number / delivered if delivered else None,
            }
            for (name, says), number in zip(SETTINGS, numbers, strict=True)
        ]  # fmt: skip
    return told
