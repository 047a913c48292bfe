"""Fixtures of the stream tests."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from streams.chunks import TP
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
