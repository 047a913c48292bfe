"""What happens to the messages of one campaign: deliveries, views, clicks, fetches, scans."""

import random
from dataclasses import dataclass

from tests.verdicts import networks
from tests.verdicts import parameters as p
from tests.verdicts.delays import Delay, by_day
from tests.verdicts.population import Client, Fleet, Person
from tests.verdicts.truth import Kind

UNSUBSCRIBE = -1
"""Number of the unsubscribe link."""


@dataclass(frozen=True)
class Plan:
    """A campaign.

    Attributes:
        number: among all campaigns.
        provider: that sends it and reports on it.
        links: in the mail, without the unsubscribe link.
        machine_share: of its clicks.
        opens: from delivery to view.
        family: of that distribution.
        code: whether people wait for the mail.
        prefetched: share of Gmail's opens that its prefetch makes.
        sent_s: when it is sent, seconds since 1970.
        list_number: of the sender's list that it goes to.
    """

    number: int
    provider: str
    links: int
    machine_share: float
    opens: Delay
    family: str
    code: bool
    prefetched: float
    sent_s: float
    list_number: int = 0

    @property
    def name(self) -> str:
        """Of the campaign, as the provider tells it."""
        return f"campaign-{self.number}"


@dataclass(frozen=True, slots=True)
class Act:
    """Something that the provider sees.

    Attributes:
        at_s: when, seconds since 1970.
        what: ``delivered``, ``opened`` or ``clicked``.
        kind: who did it; ``None`` for a delivery.
        link: number of the link clicked.
        mangled: the link came with a changed query.
    """

    at_s: float
    what: str
    message: int
    kind: Kind | None = None
    agent: str = ""
    ip: str = ""
    link: int = 0
    fleet: str = ""
    mangled: bool = False


def acts(plan: Plan, people: list[Person], dice: random.Random) -> list[Act]:
    """Everything that happens to a campaign's messages, one to each person, in any order.

    Gateways scan so many mails that their share of all clicks is the plan's in expectation, or
    every mail that they can, if that is fewer.
    """
    out: list[Act] = []
    sent = [plan.sent_s + 0.02 * number for number in range(len(people))]
    for number, person in enumerate(people):
        out.append(Act(sent[number] + p.DELIVERY_DELAY.draw(dice), "delivered", number))
        out += _of_reader(plan, number, person, out[-1].at_s, dice)
    by_people = sum(act.what == "clicked" and act.kind.is_person for act in out if act.kind)
    forwarded = sum(act.kind is Kind.SCAN_FORWARDED for act in out)
    wanted = by_people * plan.machine_share / (1 - plan.machine_share) - forwarded
    possible = sum(person.fleet.clicks(plan.links) for person in people if person.fleet)
    share = min(1.0, max(0.0, wanted / possible)) if possible else 0.0
    for number, person in enumerate(people):
        if person.fleet is not None and dice.random() < share:
            out += _scan(plan, number, person.fleet, person.scanners, sent[number], dice)
    return out


def _of_reader(
    plan: Plan, number: int, person: Person, delivered: float, dice: random.Random
) -> list[Act]:
    """What a person and the person's mail service do with a message."""
    looks = dice.random() < (p.CODE_OPENS if plan.code else p.OPENS)
    seen = _seen_at(plan, delivered, dice) if looks else None
    out = _fetches(plan, number, person, delivered, seen, dice)
    if seen is None:
        return out
    clicks = _clicks(plan, number, person, seen, dice)
    if dice.random() < p.FORWARDED:
        out += _forwarded(plan, number, seen, dice)
    return out + clicks


def _seen_at(plan: Plan, delivered: float, dice: random.Random) -> float | None:
    """When a person looks; ``None``: after the time that is simulated."""
    if plan.code:
        return delivered + p.CODE_VIEW_DELAY.draw(dice)
    delay = by_day(plan.opens, delivered, dice)
    return delivered + delay if delay < p.OPEN_DELAY_MAX_S else None


_VIEWS = {
    Client.GMAIL: (Kind.VIEW_GMAIL, networks.GOOGLE),
    Client.YAHOO: (Kind.VIEW_YAHOO, networks.YAHOO),
    Client.MICROSOFT_WEB: (Kind.VIEW_MICROSOFT, networks.MICROSOFT),
    Client.OTHER_PROXY: (Kind.VIEW_OTHER_PROXY, networks.OTHER_PROXIES),
}


def _fetches(
    plan: Plan,
    number: int,
    person: Person,
    delivered: float,
    seen: float | None,
    dice: random.Random,
) -> list[Act]:
    """Fetches of the image by the reader's side, with or without the reader."""
    if person.client is Client.APPLE:
        return _apple(number, delivered, seen, dice)
    out: list[Act] = []
    rate = p.CODE_OPENS if plan.code else p.OPENS
    # of all opens, so against those of people, who are as many as look
    prefetched = rate * plan.prefetched / (1 - plan.prefetched)
    if person.client is Client.GMAIL and dice.random() < prefetched:
        at = delivered + p.GMAIL_PREFETCH_DELAY.draw(dice)
        where = networks.address_in(networks.GOOGLE, dice)
        out.append(Act(at, "opened", number, Kind.PREFETCH_GMAIL, networks.GMAIL_PREFETCH, where))
    hidden = bool(out) and dice.random() >= p.SEEN_AFTER_PREFETCH
    if seen is None or not person.shown or hidden:
        return out
    kind, where_from = _VIEWS.get(person.client, (Kind.VIEW, ()))
    kind = Kind.VIEW_CODE if plan.code and kind is Kind.VIEW else kind
    moments = [seen]
    # Yahoo's and Gmail's proxies cache; what is looked at again seldom reaches the sender
    if dice.random() < p.AGAIN_SHARE * (0.3 if where_from else 1):
        moments.append(seen + p.AGAIN_DELAY.draw(dice))
    for at in moments:
        where = networks.address_in(where_from, dice) if where_from else person.home
        out.append(Act(at, "opened", number, kind, person.view_agent, where))
    return out


def _apple(number: int, delivered: float, seen: float | None, dice: random.Random) -> list[Act]:
    """Apple's fetch; a person's view reaches the sender only if it comes first."""
    fetched = delivered + p.APPLE_DELAY.draw(dice) if dice.random() < p.APPLE_FETCHED else None
    if seen is not None and (fetched is None or seen < fetched):
        kind, at = Kind.VIEW_APPLE, seen
    elif fetched is not None:
        kind, at = Kind.PREFETCH_APPLE, fetched
    else:
        return []
    where = networks.address_in(networks.APPLE, dice)
    return [Act(at, "opened", number, kind, networks.APPLE_FETCH, where)]


def _clicks(plan: Plan, number: int, person: Person, seen: float, dice: random.Random) -> list[Act]:
    """A person's clicks after a view."""
    if dice.random() >= (p.CODE_CLICKS if plan.code else p.CLICKS_OF_OPENS):
        return []
    drawn = dice.random()
    wanted = next(count for reached, count in p.CLICKED_LINKS if drawn < reached)
    links = dice.sample(range(plan.links), min(wanted, plan.links))
    tabs = len(links) > 1 and dice.random() < p.TABS_SHARE
    kind = Kind.CLICK_CODE if plan.code else Kind.CLICK_TABS if tabs else person.click_kind
    gap = p.BETWEEN_TABS if tabs else p.BETWEEN_CLICKS
    at = seen + (p.CODE_CLICK_DELAY if plan.code else p.CLICK_AFTER_VIEW).draw(dice)
    out = []
    for link in links:
        out.append(Act(at, "clicked", number, kind, person.agent, person.click_from, link))
        at += gap.draw(dice)
    if dice.random() < p.AGAIN_SHARE:
        again = at + p.AGAIN_DELAY.draw(dice)
        kind = person.click_kind if tabs else kind
        out.append(Act(again, "clicked", number, kind, person.agent, person.click_from, links[0]))
    return out


def _forwarded(plan: Plan, number: int, seen: float, dice: random.Random) -> list[Act]:
    """What someone does, and whose gateway does, to whom a message was forwarded."""
    at = seen + 20 + p.FORWARD_DELAY.draw(dice)
    agent, where = networks.browser(dice, office=True), networks.address_in(networks.HOMES, dice)
    out = [Act(at, "opened", number, Kind.VIEW_FORWARDED, agent, where)]
    if dice.random() < p.FORWARDED_CLICKS:
        then, link = at + p.CLICK_AFTER_VIEW.draw(dice), dice.randrange(plan.links)
        out.append(Act(then, "clicked", number, Kind.CLICK_FORWARDED, agent, where, link))
    if dice.random() < p.FORWARDED_SCANNED:
        agent, where = networks.old_browser(dice), networks.address_in(networks.CLOUD, dice)
        begun = seen + 20 + p.SCAN_DELAY.draw(dice)
        for link, offset in enumerate(_burst(plan.links, dice)):
            then = begun + offset
            out.append(Act(then, "clicked", number, Kind.SCAN_FORWARDED, agent, where, link))
    return out


def _burst(links: int, dice: random.Random) -> list[float]:
    """When each link is followed, in seconds from the first."""
    least, most = p.BURST_S
    length = least * (most / least) ** dice.random()
    return [0.0, *sorted(dice.random() * length for _ in range(links - 1))]


def _scan(
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
    begun = sent + (p.SCAN_LATE_DELAY if late else p.SCAN_DELAY).draw(dice)
    out = []
    if dice.random() < fleet.image:
        at = min(sent + p.SCAN_OPEN_DELAY.draw(dice), begun - 0.2)
        at = max(at, sent + 0.1)
        out.append(Act(at, "opened", number, Kind.SCAN_OPEN, agent, where, fleet=fleet.name))
    kind = Kind.SCAN_LATE if late else fleet.kind
    doubled = dice.random() < fleet.doubled
    for start in _starts(fleet, begun, dice):
        links = _followed(fleet, plan.links, dice)
        for link, offset in zip(links, _burst(len(links), dice), strict=True):
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
