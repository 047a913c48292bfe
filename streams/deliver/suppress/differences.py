"""What the lists of a provider hold against what they should hold.

Invariants:
1. Pure. Addresses are compared by their identity, as the topics have them.
2. Lists that share one entry of an address are one: an address is missing if none of them has it.
3. An address that is on a provider's list only is one of which no suppression is known here at
   that place, for whatever reason and whoever reported it.
"""

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass

from schemas.identity import address_identity
from streams.deliver.suppress.changes import LeftOut, Rules, Suppressed, Target
from streams.deliver.suppress.exchange import Entry
from streams.deliver.suppress.providers import Provider


@dataclass(frozen=True, slots=True)
class Difference:
    """Of one list.

    Attributes:
        name: for people.
        wanted, listed: addresses that should be there, and that are.
        missing: that should be there and are not, sorted.
        only_there: of which nothing is known here, sorted.
    """

    name: str
    wanted: int
    listed: int
    missing: tuple[str, ...]
    only_there: tuple[str, ...]


@dataclass(slots=True)
class Wanted:
    """What should be on each list, and what can't be.

    Attributes:
        by_target: target -> addresses.
        known: place -> addresses with any suppression that concerns it.
        left_out: why and what about -> records.
    """

    by_target: dict[Target, set[str]]
    known: dict[str, set[str]]
    left_out: Counter[tuple[LeftOut, str]]


def wanted(rules: Rules, records: Iterable[Suppressed]) -> Wanted:
    """What the suppressions that hold now come to."""
    found = Wanted({target: set() for target in rules.targets}, defaultdict(set), Counter())
    for record in records:
        told = rules.of(record)
        for change in told.changes:
            found.by_target[change.target].add(record.recipient)
        if told.left_out is not None:
            found.left_out[told.left_out, told.about] += 1
        for place in rules.places_of(record):
            found.known[place].add(record.recipient)
    return found


def differences(
    provider: Provider, what: Wanted, listed: Mapping[Target, Iterable[Entry]]
) -> list[Difference]:
    """One for each list, in the order of the targets.

    Args:
        listed: what the provider's lists hold, by target.
    """
    groups: dict[Hashable, list[Target]] = defaultdict(list)
    for target in what.by_target:
        groups[provider.entry(target)].append(target)
    return [_difference(targets, what, listed) for targets in groups.values()]


def _difference(
    targets: list[Target], what: Wanted, listed: Mapping[Target, Iterable[Entry]]
) -> Difference:
    ours = set().union(*(what.by_target[target] for target in targets))
    theirs = {address_identity(one.address) for target in targets for one in listed[target]}
    known = what.known.get(targets[0].place, set())
    place = targets[0].place
    names = ", ".join(target.list for target in targets)
    return Difference(
        f"{names} of {place}" if place else names, len(ours), len(theirs),
        tuple(sorted(ours - theirs)), tuple(sorted(theirs - ours - known)),
    )  # fmt: skip
