"""How often sources with a rhythm are wrongly called silent, and how soon a real silence is found.

200 source-months: 20 sources of each of ten kinds, each judged for a month after 13 weeks, as a
whole and by every event type. In each of these streams four silences begin at any time.

* False alarms: of a source and month, over the source and all of its event types.
* Times the usual gap: how long until a silence is found, in longest gaps of a usual week, which is
  the median of the eight weeks before. Both are counted on the clock, so a silence that begins on
  Friday evening and is found on Monday is as long as the weekend.
* That day's gap: the same of a source as a whole, in longest gaps of that day of the week.

Seeds are fixed: the figures are the same on every machine. No broker is used.
"""

from statistics import mean, median

from tests.streams.silence_proof import judged

QUICK, WHOLE = 2, 20
"""Source-months of each kind."""
USUAL_MAX = 3.0


def run(_bootstrap: str, quick: bool) -> dict[str, float]:
    """The figures."""
    kinds = judged(QUICK if quick else WHOLE)
    alarms = [one for outcome in kinds.values() for one in outcome.false_alarms]
    times = [one for outcome in kinds.values() for one in outcome.times_usual]
    days = [one for outcome in kinds.values() for one in outcome.times_that_day]
    figures: dict[str, float] = {
        "source_months": len(alarms),
        "false_alarms_a_source_month": mean(alarms),
        "source_months_with_more_than_one": sum(one > 1 for one in alarms),
        "silences": len(times),
        "found_usual_gaps_median": median(times),
        "found_usual_gaps_p95": sorted(times)[int(0.95 * len(times))],
        "found_within_3_usual_gaps_share": sum(one <= USUAL_MAX for one in times) / len(times),
        "found_gaps_of_that_day_median": median(days),
    }
    for kind, outcome in kinds.items():
        figures[f"{kind.replace(' ', '_')}_false_alarms"] = mean(outcome.false_alarms)
    return figures
