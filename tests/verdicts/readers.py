"""What people and their mail services do: fetch the image, view, click, forward."""

import random
from dataclasses import replace

from tests.verdicts import networks
from tests.verdicts import parameters as p
from tests.verdicts.campaign import UNSUBSCRIBE, Act, Plan
from tests.verdicts.delays import by_day
from tests.verdicts.gateways import burst
from tests.verdicts.population import Client, Person
from tests.verdicts.truth import Kind


def of_reader(
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
    """A person's clicks after a view, and what they make the person's gateway do."""
    out: list[Act] = []
    begun = seen + (p.CODE_CLICK_DELAY if plan.code else p.CLICK_AFTER_VIEW).draw(dice)
    if dice.random() < p.UNSUBSCRIBES:
        out.append(_click(number, person, begun, person.click_kind, UNSUBSCRIBE))
    if dice.random() >= (p.CODE_CLICKS if plan.code else p.CLICKS_OF_OPENS):
        return out
    drawn = dice.random()
    wanted = next(count for reached, count in p.CLICKED_LINKS if drawn < reached)
    links = dice.sample(range(plan.links), min(wanted, plan.links))
    tabs = len(links) > 1 and dice.random() < p.TABS_SHARE
    kind = Kind.CLICK_CODE if plan.code else Kind.CLICK_TABS if tabs else person.click_kind
    at = begun
    for link in links:
        out.append(_click(number, person, at, kind, link))
        at += (p.BETWEEN_TABS if tabs else p.BETWEEN_CLICKS).draw(dice)
    if dice.random() < p.DOUBLE_CLICKS:
        out.append(_click(number, person, begun + p.DOUBLE_CLICK_DELAY.draw(dice), kind, links[0]))
    if dice.random() < p.AGAIN_SHARE:
        kind = person.click_kind if tabs else kind
        out.append(_click(number, person, at + p.AGAIN_DELAY.draw(dice), kind, links[0]))
    return [*out, *_checks(person, out, dice)]


def _click(number: int, person: Person, at: float, kind: Kind, link: int) -> Act:
    return Act(at, "clicked", number, kind, person.agent, person.click_from, link)


def _checks(person: Person, clicks: list[Act], dice: random.Random) -> list[Act]:
    """Fetches by a gateway that checks links when they are clicked."""
    if person.fleet is None or not person.fleet.rewrites:
        return []
    agent, where = dice.choice(person.fleet.agents), dice.choice(person.scanners)
    return [
        replace(
            click,
            at_s=click.at_s - dice.uniform(*p.CHECK_BEFORE_S),
            kind=Kind.SCAN_AT_CLICK,
            agent=agent,
            ip=where,
            fleet=person.fleet.name,
        )  # fmt: skip
        for click in clicks
        if dice.random() < p.CHECKED_AT_CLICK
    ]


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
        for link, offset in enumerate(burst(plan.links, dice)):
            then = begun + offset
            out.append(Act(then, "clicked", number, Kind.SCAN_FORWARDED, agent, where, link))
    return out
