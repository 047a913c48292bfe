"""A season: many campaigns to several senders' lists, one after another."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from schemas.event import Event
from tests.verdicts import parameters as p
from tests.verdicts.campaign import Plan
from tests.verdicts.course import acts
from tests.verdicts.population import Person, World, people
from tests.verdicts.reports import PAYLOADS, reported
from tests.verdicts.truth import Truth

BEGUN_S = 1_790_000_000 // 86_400 * 86_400
"""Midnight of a day in September 2026."""
_BUSINESS = {0.05: 0.15, 0.30: 0.45, 0.65: 0.75}
"""Machine share of clicks -> share of addresses at companies. Assumed."""
_EVERY_S = 7 * 86_400
CODE_LISTS = 3
"""In every third list, the campaigns with one link are mails that people wait for."""
CODE_PART = 4
"""Such a mail goes to one in so many of a list: else most clicks of all would be on them."""
_CODE_SHARE = 0.5
"""Unless so much of the clicks is machines': most people click, so that gateways could not make
that many by one scan of each mail."""


@dataclass(frozen=True)
class Size:
    """How much is simulated.

    Attributes:
        lists: for each family of delays and machine share.
        rounds: campaigns of each number of links, to each list.
        messages: of a campaign; ``CODE_PART`` times fewer of one that people wait for.
    """

    lists: int
    rounds: int
    messages: int

    @property
    def campaigns(self) -> int:
        """How many."""
        families = len(p.OPEN_DELAYS) * len(p.MACHINE_SHARES)
        return families * self.lists * self.rounds * len(p.LINKS)


@dataclass(frozen=True)
class Played:
    """A campaign that was played.

    Attributes:
        people: by number of the message.
        events: in order of arrival.
        truths: by event id; of every open and click.
    """

    plan: Plan
    people: list[Person]
    events: list[Event]
    truths: dict[str, Truth]


def season(seed: int, size: Size) -> Iterator[Played]:
    """Campaigns, one at a time; the same for the same arguments."""
    world, number, list_number = World(seed), 0, 0
    for share in p.MACHINE_SHARES:
        for family in p.OPEN_DELAYS:
            for _ in range(size.lists):
                dice = random.Random(seed << 32 | list_number)
                crowd = people(world, size.messages, _BUSINESS[share], dice)
                plans = _plans(list_number, number, family, share, size.rounds, dice)
                for plan in plans:
                    waiting = crowd[: size.messages // CODE_PART]
                    yield play(plan, waiting if plan.code else crowd, seed)
                number += len(plans)
                list_number += 1


def _plans(
    list_number: int, first: int, family: str, share: float, rounds: int, dice: random.Random
) -> list[Plan]:
    """The campaigns to one list."""
    providers = list(PAYLOADS)
    prefetched = dice.uniform(*p.GMAIL_PREFETCHED)
    waited_for = share < _CODE_SHARE and list_number % CODE_LISTS == 1
    out = []
    for number, links in enumerate(p.LINKS * rounds):
        hour = dice.choice((7, 8, 9, 9, 10, 10, 11, 14, 16, 19)) + dice.random()
        out.append(
            Plan(
                number=first + number,
                provider=providers[list_number % len(providers)],
                links=links,
                machine_share=share,
                opens=dice.choice(p.OPEN_DELAYS[family]),
                family=family,
                code=links == 1 and waited_for,
                prefetched=prefetched,
                sent_s=BEGUN_S + number * _EVERY_S + hour * 3600,
                list_number=list_number,
            )
        )
    return out


def play(plan: Plan, crowd: list[Person], seed: int) -> Played:
    """One campaign, from its own dice."""
    dice = random.Random(seed << 32 | 1 << 31 | plan.number)
    happened = acts(plan, crowd, dice)
    events, truths = reported(plan, crowd, happened, dice)
    return Played(plan, crowd, events, truths)
