"""How strongly counts speak against «this rate is at most the line».

A sequential test that stays valid however often one looks. For messages judged in any order that
does not depend on their outcome, ``evidence`` is the logarithm of a mixture of likelihood ratios
of «the rate is FACTOR times the line» against «the rate is the line»; near 1, where no rate is that
high, of «good messages are FACTOR times rarer». While the true rate of every message is at most the
line, whatever it is and however it changes, each of these ratios is a non-negative supermartingale
that begins at 1, and so is their mixture. Ville's inequality then bounds the chance that it ever
reaches 1 / e by e, over all looks together.

Sources: J. Ville, «Étude critique de la notion de collectif» (1939); H. Robbins, «Statistical
methods related to the law of the iterated logarithm», Ann. Math. Statist. 41 (1970), for the
mixture; S. R. Howard, A. Ramdas, J. McAuliffe, J. Sekhon, «Time-uniform, nonparametric,
nonasymptotic confidence sequences», Ann. Statist. 49 (2021), for the form used here.

Invariants:
1. Pure. The value is a function of the counts alone, not of the path by which they came, so a
   replay and another batching give the same.
2. It grows with the numerator and falls with the denominator. So outcomes that are still missing
   make an incident later, never false: a message without its complaint counts as a good one.
3. ``ERROR`` is the chance of any false incident of a healthy campaign and rate. It is divided:
   ``CAMPAIGN_SHARE`` for the campaign as a whole and the rest for its mailbox providers; within
   each, by the day on which the judged window begins, so that it holds for all days together.
"""

import math
from functools import lru_cache

ERROR = 0.001
"""Chance that a campaign which is never above a line ever gets an incident for that rate."""
NUMERATOR_MIN = 3
"""Fewer bad messages than this are never an incident."""
CAMPAIGN_SHARE = 0.8
"""Part of ``ERROR`` for the campaign as a whole."""
MAILBOXES_MAX = 20
"""Mailbox providers of a campaign that are judged each on its own, those with most messages."""
MAILBOX_SHARE = (1 - CAMPAIGN_SHARE) / MAILBOXES_MAX
"""Part of ``ERROR`` for each of them."""
FIRST_DAY_SHARE = 0.8
"""Part for windows that begin with the campaign itself; later days divide the rest."""
FACTORS = ((1.7, 0.6), (3.0, 0.2), (8.0, 0.12), (30.0, 0.08))
"""Rates that the mixture looks for, as multiples of the line, and their weights, which add up to 1.
1.7 is chosen for what 50 / line messages at twice the line show with 95 %: at least 1.68 times the
line."""


@lru_cache(maxsize=256)
def _terms(line: float) -> tuple[tuple[float, float, float], ...]:
    """Per factor: log weight, and what each bad and each good message adds."""
    found = []
    for factor, weight in FACTORS:
        # near 1 no rate is FACTOR times the line: there the good messages are FACTOR times rarer
        rate = min(factor * line, 1 - (1 - line) / factor)
        each_good = math.log1p(-rate) - math.log1p(-line)
        found.append((math.log(weight), math.log(rate / line), each_good))
    return tuple(found)


def evidence(numerator: int, denominator: int, line: float) -> float:
    """Logarithm of the mixture; above 0 it speaks for a rate above the line.

    Args:
        numerator: bad messages, of those in ``denominator``: at most as many.
        denominator: messages judged.
        line: the highest healthy rate, above 0 and below 1.
    """
    good = denominator - numerator
    logs = [weight + numerator * bad + good * each_good for weight, bad, each_good in _terms(line)]
    most = max(logs)
    return most + math.log(sum([math.exp(one - most) for one in logs]))


def needed(share: float, day: int, windows_per_day: int) -> float:
    """The evidence that an incident needs.

    Args:
        share: part of ``ERROR``: ``CAMPAIGN_SHARE`` or ``MAILBOX_SHARE``.
        day: days from the campaign's first to the one in which the judged window begins; 0: the
            window has all of the campaign.
        windows_per_day: windows that begin in one day: 24 if they begin on the hour.
    """
    if day <= 0:
        return -math.log(ERROR * share * FIRST_DAY_SHARE)
    # the shares of days 1, 2, 3 … are 1/2, 1/6, 1/12 …, whose sum is 1
    later = (1 - FIRST_DAY_SHARE) / (day * (day + 1) * windows_per_day)
    return -math.log(ERROR * share * later)


def stands_out(
    numerator: int, denominator: int, line: float, *, share: float, day: int, windows_per_day: int
) -> bool:
    """Whether the rate is above the line, with an error of at most ``ERROR`` over all looks.

    More bad messages than messages say nothing yet: those that they belong to are not counted.
    """
    if numerator < NUMERATOR_MIN or not line * denominator < numerator <= denominator:
        return False
    return evidence(numerator, denominator, line) >= needed(share, day, windows_per_day)
