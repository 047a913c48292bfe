"""What verdicts on opens and clicks are worth, against a simulation that knows the truth.

Needs no broker: the real parsers and the real fold run in memory. The simulation is
``tests.verdicts``; what each figure means is said in ``tests.verdicts.score``, and of
``reprocess_events_per_s`` in ``tests.bench.second_fold``.
"""

from streams.enrich.derive import LookUps
from tests.bench import second_fold
from tests.streams.folding import LOOK_UPS
from tests.verdicts.judged import verdicts
from tests.verdicts.score import Tally, figures
from tests.verdicts.season import Size, season

SEED = 20
FULL = Size(lists=8, rounds=2, messages=800)
"""384 campaigns of 800 messages: each family of delays and machine share to a list of each
provider. About 500,000 events."""
QUICK = Size(lists=1, rounds=1, messages=300)
"""24 campaigns: does it run at all? Its figures move by whole points from seed to seed."""


def tally_of(seed: int, size: Size, look_ups: LookUps = LOOK_UPS) -> Tally:
    """Plays a season and judges it, with the rules that are shipped or with others."""
    tally = Tally()
    for played in season(seed, size):
        tally.take(played, verdicts(played.events, look_ups))
    return tally


def run(_bootstrap: str, quick: bool) -> dict[str, float]:
    """The figures; see the module."""
    told = figures(tally_of(SEED, QUICK if quick else FULL))
    return told | second_fold.figures(quick)
