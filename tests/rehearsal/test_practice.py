"""What is typed in a practice is taken as the pages write it."""

from pathlib import Path
from typing import Any, cast

import pytest

from tests.rehearsal.practice import Session
from tests.rehearsal.stack import Trouble
from tests.rehearsal.story import Rehearsal


class Services:
    """Notes what is done to a rehearsal of one service, ``sink``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.done: list[tuple[Any, ...]] = []
        self.stack, self.containers = self, {"sink": self}

    def long_running(self) -> list[str]:
        return ["sink"]

    def operate(self, *command: str) -> tuple[int, str]:
        self.done.append(("operate", *command))
        return 0, "said"

    def stop(self, name: str) -> int:
        self.done.append(("stop", name))
        return 0

    def start(self, name: str) -> None:
        self.done.append(("start", name))

    def wait(self, names: list[str], timeout_s: float) -> None:
        if self.done.count(("start", "sink")) > 1:
            raise Trouble("sink is not healthy")

    def give(self, changed: dict[str, str]) -> None:
        self.done.append(("give", changed))

    def run(self, command: list[str], timeout_s: float) -> tuple[int, str]:
        self.done.append(("run", *command))
        return 0, "ran"


@pytest.mark.parametrize(
    ("line", "done"),
    [
        ("docker compose run --rm operator dlq ls", [("operate", "dlq", "ls")]),
        ("docker compose run --rm topics", [("operate", "topics", "apply")]),
        ("mailpulse doctor", [("operate", "doctor")]),
        ("docker compose start sink", [("start", "sink")]),
        ("docker compose restart sink", [("stop", "sink"), ("start", "sink")]),
        ("docker compose exec sink rm 'a b'", [("run", "rm", "a b")]),
        ("set sink A=b=c", [("stop", "sink"), ("give", {"A": "b=c"}), ("start", "sink")]),
    ],
)  # fmt: skip
def test_a_line_does_what_the_pages_say(line: str, done: list[Any], tmp_path: Path) -> None:
    """With ``docker compose`` before it or without."""
    services = Services(tmp_path)
    Session(cast("Rehearsal", services), {}).act(line)
    assert services.done == done


@pytest.mark.parametrize("line", ["", "help", "start nobody", "rm -rf /", "start"])
def test_anything_else_shows_what_can_be_typed(line: str, tmp_path: Path) -> None:
    """And does nothing."""
    services = Services(tmp_path)
    assert f"{tmp_path}/secrets" in Session(cast("Rehearsal", services), {}).act(line)
    assert services.done == []


def test_a_service_that_does_not_come_is_said(tmp_path: Path) -> None:
    """The practice goes on."""
    session = Session(cast("Rehearsal", Services(tmp_path)), {})
    assert session.act("start sink") == "sink is healthy"
    assert session.act("start sink") == "sink is not healthy"
