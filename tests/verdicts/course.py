"""Everything that happens to the messages of a campaign."""

import random

from tests.verdicts import parameters as p
from tests.verdicts.campaign import Act, Plan
from tests.verdicts.gateways import scan
from tests.verdicts.population import Person
from tests.verdicts.readers import of_reader


def acts(plan: Plan, people: list[Person], dice: random.Random) -> list[Act]:
    """Everything that happens to a campaign's messages, one to each person, in any order.

    Gateways scan so many mails that their share of all clicks is the plan's in expectation, or
    every mail that they can, if that is fewer.
    """
    out: list[Act] = []
    sent = [plan.sent_s + 0.02 * number for number in range(len(people))]
    for number, person in enumerate(people):
        out.append(Act(sent[number] + p.DELIVERY_DELAY.draw(dice), "delivered", number))
        out += of_reader(plan, number, person, out[-1].at_s, dice)
    clicks = [act.kind for act in out if act.what == "clicked" and act.kind is not None]
    by_people = sum(kind.is_person for kind in clicks)
    by_gateways = len(clicks) - by_people
    wanted = by_people * plan.machine_share / (1 - plan.machine_share) - by_gateways
    possible = sum(person.fleet.clicks(plan.links) for person in people if person.fleet)
    share = min(1.0, max(0.0, wanted / possible)) if possible else 0.0
    for number, person in enumerate(people):
        if person.fleet is not None and dice.random() < share:
            out += scan(plan, number, person.fleet, person.scanners, sent[number], dice)
    return out
