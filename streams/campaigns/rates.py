"""A campaign's rates as bytes, written straight from the windows.

Invariants:
1. Pure, and exactly the bytes that the general encoder makes of the record's dictionaries
   (``tests/streams/rates_reference.py``).
2. All windows of a young campaign hold the same counts, so the bytes made from a vector of counts
   are kept in a bounded cache.
"""

from functools import lru_cache

from schemas.codec import LATEST, schema_json
from schemas.compiled_writer import Usual, Writers
from schemas.glossary import COUNTER_INDEX, DERIVED, RATES, WINDOWS_S
from schemas.primitives import array, integers
from streams.campaigns.windows import LATENESS_MIN, Windows, summed, wilson

MINUTE_US = 60_000_000
Terms = tuple[tuple[int, int], ...]


def _terms(name: str) -> Terms:
    """Index and sign of the counters that make a figure."""
    if name in COUNTER_INDEX:
        return ((COUNTER_INDEX[name], 1),)
    return tuple((COUNTER_INDEX[counter], sign) for counter, sign in DERIVED[name])


_CAMPAIGN = Writers(schema_json(LATEST["campaign_rates"]))
_WINDOW = _CAMPAIGN.items("windows", Usual(moments=frozenset(("starts_at", "ends_at"))))
_campaign, _ = _CAMPAIGN.parts("campaign_id", "windows")
_window, _ = _WINDOW.parts("window", "counts")
_name, _figures = _WINDOW.items("rates").parts("name", "numerator")

_RATES = [
    (_name(rate.name, rate.basis.value), _terms(rate.numerator), _terms(rate.denominator))
    for rate in RATES
]


@lru_cache(maxsize=4096)
def _counts_and_rates(counts: tuple[int, ...]) -> bytes:
    """``counts`` and ``rates`` of a window."""
    rates = []
    for name, above, below in _RATES:
        numerator = sum([sign * counts[index] for index, sign in above])
        denominator = sum([sign * counts[index] for index, sign in below])
        bounds = wilson(numerator, denominator)
        low, high = bounds or (None, None)
        value = numerator / denominator if bounds else None
        rates.append(name + _figures(numerator, denominator, value, low, high))
    return integers(counts) + array(rates)


def encode_rates(
    windows: Windows, campaign: str, *, as_of_us: int, complete_through_us: int, revision: int
) -> bytes:
    """The ``campaign_rates`` record of a campaign without framing: every window, as of now.

    Args:
        as_of_us: not before the start of the running minute of ``windows``.
    """
    series = list(windows.of_campaign(campaign).values())
    last = max((one.last_minute for one in series), default=0)
    first = min((one.first_minute for one in series), default=0)
    end_us, settled = windows.minute * MINUTE_US, last + LATENESS_MIN < windows.minute
    encoded = []
    for name, seconds in WINDOWS_S.items():
        if seconds is None:  # an event whose provider's clock is ahead may lie after as_of
            starts_us, ends_us = min(first * MINUTE_US, as_of_us), as_of_us
        else:
            starts_us, ends_us = end_us - seconds * 1_000_000, end_us
        window = _window(name, starts_us, ends_us, settled)
        encoded.append(window + _counts_and_rates(tuple(summed(series, name))))
    return _campaign(campaign, as_of_us, complete_through_us, revision) + array(encoded)
