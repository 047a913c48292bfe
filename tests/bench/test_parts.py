"""The parts of ``python -m tests.bench`` are there and fit it; what they measure is theirs."""

import inspect
import json
from importlib import import_module

import pytest

from schemas import compiled_build
from tests.bench.__main__ import FAILED, PARTS, main
from tests.live.process import free_port

COMPILED = float(compiled_build.state().compiled)


@pytest.mark.parametrize("name", PARTS)
def test_every_part_can_be_run(name: str) -> None:
    """Each is a module with ``run(kafka_bootstrap, quick)``."""
    run = import_module(f"tests.bench.{name}").run
    inspect.signature(run).bind("127.0.0.1:9092", True)


def test_a_failing_part_still_ends_in_a_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    """Without its broker a part fails, the exit status says so, and the last line is an object."""
    status = main(["--only", "ingress", "--json", "--kafka", f"127.0.0.1:{free_port()}"])
    assert status == FAILED
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"compiled": COMPILED}
