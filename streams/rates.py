"""A campaign's rates as bytes: what ``streams.windows.rates`` says, without the dictionaries.

Laws of this file:
1. Pure, and exactly what the general encoder makes of ``windows.rates``; a test compares.
2. Windows of a young campaign hold the same counts: what is computed of equal counts is kept, in a
   bounded cache.
"""

from functools import lru_cache

from schemas.glossary import COUNTER_INDEX, DERIVED, RATES, WINDOWS_S
from schemas.primitives import boolean, integer, integers, optional_double, text
from streams.windows import LATENESS_MIN, Windows, summed, wilson

Terms = tuple[tuple[int, int], ...]


def _terms(name: str) -> Terms:
    """Index and sign of the counters that make a figure."""
    if name in COUNTER_INDEX:
        return ((COUNTER_INDEX[name], 1),)
    return tuple((COUNTER_INDEX[counter], sign) for counter, sign in DERIVED[name])


_RATES = [
    (text(rate.name) + text(rate.basis.value), _terms(rate.numerator), _terms(rate.denominator))
    for rate in RATES
]
_WINDOWS = [(name, text(name), seconds) for name, seconds in WINDOWS_S.items()]
_UNKNOWN = optional_double(None) * 3


@lru_cache(maxsize=4096)
def _counts_and_rates(counts: tuple[int, ...]) -> bytes:
    """``counts`` and ``rates`` of a window."""
    parts = [integers(counts), integer(len(_RATES))]
    for names, above, below in _RATES:
        numerator = sum([sign * counts[index] for index, sign in above])
        denominator = sum([sign * counts[index] for index, sign in below])
        parts += (names, integer(numerator), integer(denominator))
        bounds = wilson(numerator, denominator)
        if bounds is None:
            parts.append(_UNKNOWN)
        else:
            parts += (
                optional_double(numerator / denominator), optional_double(bounds[0]),
                optional_double(bounds[1]),
            )  # fmt: skip
    parts.append(b"\x00")
    return b"".join(parts)


def encode_rates(
    windows: Windows, campaign: str, *, as_of_us: int, complete_through_us: int, revision: int
) -> bytes:
    """The ``campaign_rates`` record of a campaign without framing: every window, as of now."""
    series = list(windows.of_campaign(campaign).values())
    last = max((one.last_minute for one in series), default=0)
    first = min((one.first_minute for one in series), default=0)
    end = integer((windows.minute + 1) * 60_000_000)
    settled = boolean(last + LATENESS_MIN < windows.minute)
    parts = [
        text(campaign), integer(as_of_us), integer(complete_through_us), integer(revision),
        integer(len(_WINDOWS)),
    ]  # fmt: skip
    for name, name_part, seconds in _WINDOWS:
        start = first if seconds is None else windows.minute - seconds // 60 + 1
        counts = tuple(summed(series, name))
        parts += (
            name_part, integer(start * 60_000_000), end, settled, _counts_and_rates(counts),
        )  # fmt: skip
    parts.append(b"\x00")
    return b"".join(parts)
