"""The capacity plan: it grows with the load, is rounded up, and fits the settings."""

import math
from dataclasses import asdict

from hypothesis import given
from hypothesis import strategies as st

from schemas.settings import Settings
from schemas.topics import BY_NAME
from streams.cli.capacity import (
    BUSY_SHARE,
    DAYS_KEPT,
    SINK_US,
    STATE_BYTES_PER_WORKER,
    TOPIC_BYTES,
    WORKER_US,
    plan,
)

loads = st.integers(1, 10_000_000_000)


@given(smaller=loads, larger=loads)
def test_more_load_never_takes_less(smaller: int, larger: int) -> None:
    """Every figure is monotonic in the load."""
    one, other = sorted((smaller, larger))
    first, second = asdict(plan(one)), asdict(plan(other))
    for name, value in first.items():
        if not isinstance(value, str):
            assert value <= second[name], name


@given(events=loads, peak=st.floats(1, 50))
def test_processes_are_enough(events: int, peak: float) -> None:
    """Planned processes carry the busiest minute at the planned share, and no fewer would."""
    made = plan(events, peak=peak)
    for count, cost in ((made.workers, WORKER_US), (made.sinks, SINK_US)):
        busy = made.events_per_s_peak * cost / 1e6
        assert busy <= count * BUSY_SHARE * (1 + 1e-9)
        held = (count - 1) * STATE_BYTES_PER_WORKER < made.state_bytes and count == made.workers
        assert count == 1 or held or busy > (count - 1) * BUSY_SHARE * (1 - 1e-9)
    assert made.state_bytes <= made.workers * STATE_BYTES_PER_WORKER * (1 + 1e-9)
    assert made.partitions >= made.workers


def test_partitions_are_within_what_the_setting_takes() -> None:
    """Ten billion events a day still give a number that MAILPULSE_PARTITIONS accepts."""
    made = plan(10_000_000_000)
    assert Settings(partitions=made.partitions).partitions == made.partitions >= 3 * made.workers


def test_retention_is_the_topics_own() -> None:
    """Days that Kafka keeps are the topics' retention, where they have one."""
    assert set(DAYS_KEPT) == set(TOPIC_BYTES)
    for name, days in DAYS_KEPT.items():
        kept = BY_NAME[name].retention_ms
        assert kept is None or days == math.ceil(kept / 86_400_000)
