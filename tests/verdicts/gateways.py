"""What mail gateways do: fetch the image, follow links."""

import random

from tests.verdicts import parameters as p
from tests.verdicts.campaign import UNSUBSCRIBE, Act, Plan
from tests.verdicts.population import Fleet
from tests.verdicts.truth import Kind


def burst(links: int, dice: random.Random) -> list[float]:
    """When each link is followed, in seconds from the first."""
    least, most = p.BURST_S
    length = least * (most / least) ** dice.random()
    return [0.0, *sorted(dice.random() * length for _ in range(links - 1))]


def scan(
    plan: Plan,
    number: int,
    fleet: Fleet,
    scanners: tuple[str, ...],
    sent: float,
    dice: random.Random,
) -> list[Act]:
    """One gateway's look at one message."""
    agent, where = dice.choice(fleet.agents), dice.choice(scanners)
    late = dice.random() < p.SCAN_LATE
    begun = sent + (p.SCAN_LATE_DELAY if late else fleet.delay).draw(dice)
    out = []
    if dice.random() < fleet.image:
        at = min(sent + p.SCAN_OPEN_DELAY.draw(dice), begun - 0.2)
        at = max(at, sent + 0.1)
        out.append(Act(at, "opened", number, Kind.SCAN_OPEN, agent, where, fleet=fleet.name))
    kind = Kind.SCAN_LATE if late else fleet.kind
    doubled = dice.random() < fleet.doubled
    for start in _starts(fleet, begun, dice):
        links = _followed(fleet, plan.links, dice)
        for link, offset in zip(links, burst(len(links), dice), strict=True):
            for again in range(1 + doubled):
                at = start + offset + 0.003 * again
                mangled = bool(again) and link >= 0
                out.append(
                    Act(at, "clicked", number, kind, agent, where, link, fleet.name, mangled)
                )
    return out


def _starts(fleet: Fleet, begun: float, dice: random.Random) -> list[float]:
    """When a gateway comes: once, or at the top of several hours."""
    if fleet.kind is not Kind.SCAN_WAVES:
        return [begun]
    hour = (begun // 3600 + 1) * 3600
    return [hour + wave * 3600 + 20 * dice.random() for wave in range(p.WAVES)]


def _followed(fleet: Fleet, links: int, dice: random.Random) -> list[int]:
    """The links that a gateway follows."""
    if fleet.kind is Kind.SCAN_FIRST:
        return [0]
    if fleet.kind is Kind.SCAN_SINGLE:
        return [dice.randrange(links)]
    return [*range(links), *([UNSUBSCRIBE] if fleet.unsubscribes else [])]
