"""A rules file with learned fleets, for a person to read, edit and accept.

Invariants:
1. Pure. All of the given rules stays, comments too; only ``version`` is raised.
2. What is returned parses, and its networks are the fleets before the given ones: the first that
   contains an address wins, and a suspected wider network would hide a fleet.
"""

import ipaddress
import json
import re
from collections.abc import Sequence

from streams.classify.actor_rules import NetworkRule, Rules
from streams.classify.fleets import WIDEST_BITS, Seen

REASON = "fleet"
_CLICKED = frozenset(("clicked",))
_VERSION = re.compile(r"^version\s*=\s*\d+", re.MULTILINE)
_NETWORKS = re.compile(r"^\[\[networks\]\]", re.MULTILINE)


def with_fleets(text: str, fleets: Sequence[Seen], day: str) -> str:
    """The rules in ``text`` with the fleets, which judge clicks only: opens may be people's.

    Args:
        text: a rules file.
        fleets: those proposed.
        day: when they were learned, as in 2026-11-28.

    Raises:
        ValueError: ``text`` is no rules file, a fleet's network is none or too wide, or the text
            has its networks or version in a form that can't be added to.
    """
    rules = Rules.load(text)
    networks = [ipaddress.ip_network(fleet.network) for fleet in fleets]
    for network in networks:
        if network.prefixlen < WIDEST_BITS[network.version]:
            raise ValueError(f"{network}: wider than a /{WIDEST_BITS[network.version]}")
    added = "".join(_entry(fleet, day) for fleet in fleets)
    found = _NETWORKS.search(text)
    begin = found.start() if found else len(text)
    gap = "" if found or text.endswith("\n") else "\n"
    made = _VERSION.sub(
        f"version = {rules.version + 1}", text[:begin] + gap + added + text[begin:], count=1
    )
    new = Rules.load(made)
    expected = *(NetworkRule(REASON, (network,), _CLICKED) for network in networks), *rules.networks
    if new.version != rules.version + 1 or new.networks != expected:
        raise ValueError("version, networks: in a form that fleets can't be added to")
    return made


def _entry(fleet: Seen, day: str) -> str:
    return f"""\
[[networks]]
# Learned on {day}: {fleet.clicked} messages to {fleet.recipients} recipients on {fleet.days} days;
# a machine's in {fleet.machine} of {fleet.many_links} with three links or more; people's: \
{fleet.human}.
reason = {json.dumps(REASON)}
cidrs = [{json.dumps(fleet.network)}]
events = ["clicked"]

"""
