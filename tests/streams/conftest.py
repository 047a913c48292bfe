"""Fixtures of the stream tests."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from streams.transport.chunks import TP
from tests.streams.engine_rig import Broker, Clock, EngineMaker, EngineRig
from tests.streams.rig import FakeLog, Rig, RigMaker


@pytest.fixture
async def rig_of() -> AsyncIterator[RigMaker]:
    """Makes started rigs and stops them."""
    made: list[Rig] = []

    async def make(logs: dict[TP, FakeLog], agent: Any = None, **options: Any) -> Rig:
        rig = Rig(logs, **options)
        made.append(rig)
        await rig.start(agent)
        return rig

    yield make
    for rig in made:
        await rig.stop()


@pytest.fixture
async def engine_of() -> AsyncIterator[EngineMaker]:
    """Makes started engines, with everything assigned to them, and stops them."""
    made: list[EngineRig] = []

    async def make(
        broker: Broker, folder: Path, clock: Clock | None = None, **options: Any
    ) -> EngineRig:
        rig = EngineRig(broker, folder, clock or Clock(), options)
        made.append(rig)
        await rig.start()
        await rig.assign()
        return rig

    yield make
    for rig in made:
        await rig.stop()
