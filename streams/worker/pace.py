"""When the partitions of an agent are checkpointed: together, and less often while they lag.

A checkpoint costs something for each partition, and something for each campaign whose counts have
changed since the last one. Both are paid by one process, whatever the number of its partitions, so
the limits are those of all partitions together, and partitions are checkpointed in rounds.

Invariants:
1. Pure: time comes in as ages.
2. A round ends early only what it saves a round for: a partition takes part once it has waited for
   half of its own wait.
3. Counts are absolute, so a longer wait leaves out values in between and loses nothing.
"""

from collections.abc import Sequence
from typing import NamedTuple

from streams.transport.chunks import TP

FEW_RECORDS = 2_000
"""With at most so many records of all partitions, a round is cheap and comes twice as soon: counts
are published by it."""
BEHIND_S = 2.0
"""A partition that lags by more than this is behind."""
BEHIND_TIMES = 10
"""How many times longer a partition that is behind waits: nobody sees its newest counts yet, and
the same counts change again and again meanwhile."""


class Standing(NamedTuple):
    """A partition since its last checkpoint.

    Attributes:
        records: read since.
        age_s: time since.
        lag_s: age of the newest record read, 0 if no record is left to read.
    """

    tp: TP
    records: int
    age_s: float
    lag_s: float


def due(standings: Sequence[Standing], interval_s: float, records_max: int) -> list[TP]:
    """The partitions to be checkpointed now, in one round; empty: none is due.

    Args:
        standings: of all partitions whose state is open.
        interval_s: how long a partition waits that is not behind.
        records_max: records of all partitions together that are not checkpointed.
    """
    records = sum(standing.records for standing in standings)
    if records >= records_max:
        return [standing.tp for standing in standings if standing.records]
    wait_s = interval_s / 2 if records <= FEW_RECORDS else interval_s
    waited = [
        (standing.tp, standing.age_s / _times(wait_s, standing.lag_s)) for standing in standings
    ]
    if all(share < 1 for _, share in waited):
        return []
    return [tp for tp, share in waited if share >= 0.5]


def _times(wait_s: float, lag_s: float) -> float:
    return wait_s * BEHIND_TIMES if lag_s > BEHIND_S else wait_s


def pause_s(cost_s: float, share_max: float, least_s: float, most_s: float) -> float:
    """How long to wait after something that took ``cost_s`` of the CPU, so that it takes at most
    ``share_max`` of it; at least ``least_s``, at most ``most_s``."""
    return min(max(least_s, cost_s / share_max), max(least_s, most_s))


def lag_of(age_s: float, left: int) -> float:
    """The lag of a partition after a chunk.

    Args:
        age_s: of the chunk's newest record, by the time stamp in the log. Records that waited
            before they reached the log, as in ingress's spool, are old although nothing lags.
        left: records of the log behind the chunk.
    """
    return max(0.0, age_s) if left > 0 else 0.0
