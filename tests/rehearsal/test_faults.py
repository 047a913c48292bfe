"""What the ten faults rest on exists, and the page says the same. They themselves need root."""

import pytest

from tests.alerting.judging import ALERTS
from tests.compose import ROOT, SERVICES, is_command
from tests.rehearsal import __main__ as command
from tests.rehearsal.faults import FAULTS, Fault

PAGE = (ROOT / "streams" / "deploy" / "README.md").read_text("utf-8")


def rows() -> dict[str, str]:
    """Fault -> its row of the page's table."""
    section = PAGE.partition("## Ten faults")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")][1:]
    return {line.split(" | ")[0].removeprefix("| "): line for line in lines}


def test_there_are_ten_and_the_page_has_each() -> None:
    """In the order in which ``--fault N`` counts them."""
    assert len(FAULTS) == command.FAULTS == 10
    assert list(rows()) == [fault.name for fault in FAULTS]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_is_named_and_mended_as_the_page_says(fault: Fault) -> None:
    """Its signs are of services, alerts and commands that exist, and its row has them and the
    step."""
    row = rows()[fault.name]
    assert fault.step in row
    for sign in fault.signs:
        first, _, rest = sign.where.partition(" ")
        if first == "alerts":
            assert sign.says in ALERTS
            assert f"`{sign.says}`" in row
        elif first == "ps":
            assert sign.says.partition(":")[0] in SERVICES
            assert "`ps`" in row
        elif first == "logs":
            assert rest in SERVICES
            assert f"`{sign.says}`" in row
        else:
            assert is_command(sign.where.split())
            assert f"`{sign.where}`" in row
