"""A campaign's rates as dictionaries: the slow way, for comparison with the published bytes."""

from collections.abc import Sequence
from typing import Any

from schemas.glossary import COUNTER_NAMES, RATES, WINDOWS_S, derived
from streams.campaigns.windows import LATENESS_MIN, Windows, summed, wilson


def rates_of(counts: Sequence[int]) -> list[dict[str, Any]]:
    """Every rate of the glossary from a vector of counts; denominator 0 gives ``None``."""
    out = []
    vector = list(counts)
    for rate in RATES:
        numerator, denominator = derived(vector, rate.numerator), derived(vector, rate.denominator)
        low, high = wilson(numerator, denominator) or (None, None)
        out.append(
            {
                "name": rate.name,
                "basis": rate.basis.value,
                "numerator": numerator,
                "denominator": denominator,
                "value": numerator / denominator if denominator > 0 else None,
                "low": low,
                "high": high,
            }
        )
    return out


def rates(
    windows: Windows, campaign: str, *, as_of_us: int, complete_through_us: int, revision: int
) -> dict[str, Any]:
    """The ``campaign_rates`` record of a campaign, with every window."""
    series = list(windows.of_campaign(campaign).values())
    last = max((one.last_minute for one in series), default=0)
    first = min((one.first_minute for one in series), default=0)
    records = []
    for name, seconds in WINDOWS_S.items():
        counts = summed(series, name)
        ended = windows.minute * 60_000_000
        whole = seconds is not None
        records.append(
            {
                "window": name,
                "starts_at": ended - (seconds or 0) * 1_000_000
                if whole
                else min(first * 60_000_000, as_of_us),
                "ends_at": ended if whole else as_of_us,
                "settled": last + LATENESS_MIN < windows.minute,
                "counts": dict(zip(COUNTER_NAMES, counts, strict=True)),
                "rates": rates_of(counts),
            }
        )
    return {
        "campaign_id": campaign,
        "as_of": as_of_us,
        "complete_through": complete_through_us,
        "revision": revision,
        "windows": records,
    }
