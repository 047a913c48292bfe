"""What verdicts on opens and clicks are worth, against a simulation that knows the truth.

Needs no broker: the real parsers and the real fold run in memory, and events are stored in the
embedded engine. The simulation is ``tests.verdicts``; what each figure means is said in
``tests.verdicts.score``. A season is judged by the rules that are shipped; then fleets are proposed
from what is stored and accepted, and the season is judged again. Figures are of the second time,
those that end in ``_unlearned`` of the first.
``reprocess_events_per_s`` is of ``tests.bench.second_fold``.
"""

from dataclasses import replace
from importlib.resources import files

from streams.classify.actor_rules import DEFAULT_RULES, Rules
from streams.classify.fleet_rules import Proposal
from streams.enrich.derive import LookUps
from tests.bench import second_fold
from tests.bench.learned_fleets import history
from tests.streams.folding import LOOK_UPS
from tests.verdicts.judged import enriched, last_of, verdicts
from tests.verdicts.score import Tally, figures
from tests.verdicts.season import Size, season

SEED = 20
RULES_VERSION = DEFAULT_RULES.version
FULL = Size(lists=8, rounds=2, messages=800)
"""384 campaigns of 800 messages: each family of delays and machine share to a list of each
provider. About 500,000 events."""
QUICK = Size(lists=1, rounds=1, messages=300)
"""24 campaigns: does it run at all? Its figures move by whole points from seed to seed."""
UNLEARNED = (
    "gateway_found_3_links", "gateway_found_1_link", "gateway_bursts_found_3_links", "human_lost",
    "interval_coverage", "interval_coverage_clicks", "interval_width_clicks_points",
)  # fmt: skip
"""Figures that are told of the first judgement too."""


def tally_of(seed: int, size: Size, look_ups: LookUps = LOOK_UPS) -> Tally:
    """Plays a season and judges it, with the rules that are shipped or with others."""
    tally = Tally()
    for played in season(seed, size):
        tally.take(played, verdicts(played.events, look_ups))
    return tally


def learn(seed: int, size: Size) -> tuple[Tally, Proposal | None]:
    """Judges a season by the rules that are shipped, and proposes fleets from what is stored."""
    tally = Tally()
    shipped = files("streams.classify.tables").joinpath("machines.toml").read_text("utf-8")
    with history() as stored:
        for played in season(seed, size):
            added = enriched(played.events)
            tally.take(played, last_of(added))
            stored.take(played, added)
        return tally, stored.proposal(shipped)


def accepted(seed: int, size: Size) -> tuple[Tally, Tally, int]:
    """A season judged before and after its fleets are accepted, and how many they are."""
    before, proposal = learn(seed, size)
    if proposal is None:
        return before, before, 0
    rules = Rules.load(proposal.text)
    after = tally_of(seed, size, replace(LOOK_UPS, rules=rules))
    return before, after, len(proposal.fleets)


def run(_bootstrap: str, quick: bool) -> dict[str, float]:
    """The figures; see the module."""
    before, after, fleets = accepted(SEED, QUICK if quick else FULL)
    unlearned = figures(before)
    return second_fold.figures(quick) | {
        **figures(after),
        **{f"{name}_unlearned": unlearned[name] for name in UNLEARNED},
        "fleets_accepted": fleets,
    }
