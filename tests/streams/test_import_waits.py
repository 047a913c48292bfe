"""An import that is not joined begins when live events are stored, or says that they are not."""

import pytest

from schemas.errors import BadInput
from schemas.settings import Settings
from schemas.topics import ENRICHED, RAW
from streams.cli.import_effects import LIVE_STORED_S, wait_for_live
from streams.kafka.admin import Lag


class Pipeline:
    """A worker and a sink that read on while time passes, and live events that never stop.

    Args:
        rate: records that each reads in a second; 0: it is down.
    """

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self.now_s = 0.0
        self.ends = {RAW: 100, ENRICHED: 90}
        self.committed: dict[str, int | None] = {RAW: 60, ENRICHED: None}

    async def lag(self, _settings: Settings, groups: dict[str, tuple[str, ...]]) -> list[Lag]:
        """As ``streams.kafka.admin.lag``."""
        ((group, (topic,)),) = groups.items()
        committed, end = self.committed[topic], self.ends[topic]
        behind = end - (committed or 0)
        return [Lag(group, topic, 0, committed, end, behind), Lag(group, topic, 1, 7, 7, 0)]

    async def sleep(self, seconds: float) -> None:
        """A second passes."""
        self.now_s += seconds
        for topic, end in self.ends.items():
            self.committed[topic] = min(end, (self.committed[topic] or 0) + self.rate)
            self.ends[topic] += 5


@pytest.fixture
def pipeline(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    """One of a rate."""
    made = Pipeline(request.param)
    monkeypatch.setattr("streams.cli.import_effects.admin.lag", made.lag)
    monkeypatch.setattr("streams.cli.import_effects.asyncio.sleep", made.sleep)
    monkeypatch.setattr("streams.cli.import_effects.time.monotonic", lambda: made.now_s)
    return made


@pytest.mark.parametrize("pipeline", [20], indirect=True)
async def test_what_had_come_is_waited_for_and_what_comes_after_is_not(pipeline: Pipeline) -> None:
    """Live traffic never stands still, so no lag of 0 is asked for."""
    await wait_for_live(Settings())
    assert (pipeline.committed[RAW] or 0) >= 100
    assert (pipeline.committed[ENRICHED] or 0) >= 90


@pytest.mark.parametrize("pipeline", [0], indirect=True)
async def test_a_worker_that_is_down_is_told_after_a_while(pipeline: Pipeline) -> None:
    """Its events would be counted again: they are in no table, by which they are recognised."""
    with pytest.raises(BadInput, match="not stored"):
        await wait_for_live(Settings())
    assert pipeline.now_s >= LIVE_STORED_S
