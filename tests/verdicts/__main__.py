"""``python -m tests.verdicts``: plays a season and tells what verdicts are worth, in tables.

Figures are told before and after the fleets that it shows are accepted, the others after that.
"""

import argparse
from collections import Counter, defaultdict
from collections.abc import Callable

from tests.bench.verdicts import FULL, QUICK, RULES_VERSION, SEED, accepted
from tests.verdicts import matrix
from tests.verdicts.campaign import Plan
from tests.verdicts.score import CampaignScore, Interval, Tally, figures


def main() -> None:
    """Prints the figures, verdicts and reasons by truth, and intervals by sort of campaign."""
    parser = argparse.ArgumentParser(prog="python -m tests.verdicts", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="24 small campaigns")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--write", action="store_true", help="keep the confusion matrix")
    arguments = parser.parse_args()
    before, tally, fleets = accepted(arguments.seed, QUICK if arguments.quick else FULL)
    print(f"{'':40} {'as shipped':>12} {f'{fleets} fleets':>12}")
    unlearned = figures(before)
    for name, value in figures(tally).items():
        if not name.startswith("confusion_"):
            print(f"{name:40} {unlearned.get(name, 0):>12,.4f} {value:>12,.4f}")
    if arguments.write:
        matrix.write(tally, fleets, RULES_VERSION)
    print_reasons(tally)
    print_intervals(tally)


def print_reasons(tally: Tally) -> None:
    """Of each truth: how often each verdict, with its reason."""
    by_kind: dict[str, Counter[str]] = defaultdict(Counter)
    for (kind, actor, certainty, reason), count in tally.confusion.items():
        by_kind[kind][f"{actor} {certainty} ({reason})"] += count
    for true, said in sorted(by_kind.items()):
        total = said.total()
        print(f"\n{true}: {total:,}")
        for verdict, count in said.most_common():
            print(f"  {100 * count / total:6.2f} %  {count:>8,}  {verdict}")


def print_intervals(tally: Tally) -> None:
    """How often intervals hold, and how far truth lies outside, by sort of campaign."""
    sorts: dict[str, Callable[[Plan], object]] = {
        "provider": lambda plan: plan.provider,
        "links": lambda plan: plan.links,
        "machine share": lambda plan: plan.machine_share,
        "family": lambda plan: plan.family,
        "waited for": lambda plan: plan.code,
    }
    print(f"\n{'campaigns':28}{'clicks':>30}{'opens':>30}")
    print(f"{'':28}" + f"{'hold':>10}{'too low':>10}{'too high':>10}" * 2)
    for name, of in sorts.items():
        groups: dict[object, list[CampaignScore]] = defaultdict(list)
        for one in tally.campaigns:
            groups[of(one.plan)].append(one)
        for value, some in groups.items():
            clicks, opens = _line([one.clicks for one in some]), _line([one.opens for one in some])
            print(f"{name + ' ' + str(value):28}{clicks}{opens}")


def _line(intervals: list[Interval]) -> str:
    holds = sum(one.holds for one in intervals)
    low = sum(one.truth > one.above for one in intervals)
    high = sum(one.truth < one.below for one in intervals)
    return "".join(f"{count / len(intervals):>10.3f}" for count in (holds, low, high))


if __name__ == "__main__":
    main()
