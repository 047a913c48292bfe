"""The law of figures: no count is below 0, and no rate is outside [0, 1] unless it is a flow rate.

A flow rate compares what happened with what was delivered meanwhile, so it can exceed 1; its name
begins with ``flow_``.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

_RATE = re.compile(r"(^|_)rate(_|$)")


def is_rate(name: str) -> bool:
    """Whether a column or figure of this name is a rate."""
    return bool(_RATE.search(name))


def impossible(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Those figures that break the law, by name; ``None`` breaks none, NaN every one."""
    return {name: value for name, value in figures.items() if not _possible(name, value)}


def _possible(name: str, value: Any) -> bool:
    if not isinstance(value, int | float):
        return True
    if is_rate(name):
        return bool(0 <= value <= (math.inf if name.startswith("flow_") else 1))
    return isinstance(value, float) or value >= 0
