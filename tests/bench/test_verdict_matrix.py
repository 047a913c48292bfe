"""The confusion matrix on the analysts' page: made by the rules that ship, and as sure as said."""

import pytest

from analytics.verdicts.words import REASONS
from streams.classify.actor_rules import DEFAULT_RULES
from streams.classify.certainty import certainty_of
from tests.verdicts import matrix
from tests.verdicts.score import Tally, Weighed, by_evidence
from tests.verdicts.truth import Kind


def test_the_page_is_about_the_rules_that_ship() -> None:
    """After a change of rules: ``python -m tests.verdicts --write``, then ``-m tests.readme``."""
    document, rows = matrix.read()
    assert document["rules_version"] == DEFAULT_RULES.version
    assert document["fleets"] > 0
    assert {one.reason for one in rows} <= REASONS.keys()
    assert "fleet" in {one.reason for one in rows}
    for one in rows:
        assert one.certainty == certainty_of(one.actor, one.reason)


@pytest.mark.parametrize(("certainty", "wrong_max"), [("certain", 0.01), ("high", 0.03)])
def test_machines_are_as_sure_as_certainty_says(certainty: str, wrong_max: float) -> None:
    """Almost none wrong, and up to 3 %, of all verdicts of a certainty."""
    _, rows = matrix.read()
    some = [one for one in rows if one.actor == "machine" and one.certainty == certainty]
    people, machines = sum(one.people for one in some), sum(one.machines for one in some)
    assert machines > 500
    assert people <= wrong_max * (people + machines)


def test_events_are_weighed_by_who_made_them() -> None:
    """Clicks and opens apart, kinds of one side together."""
    tally = Tally()
    tally.confusion.update(
        {
            (Kind.CLICK, "machine", "probable", "fleet"): 2,
            (Kind.SCAN_FIRST, "machine", "probable", "fleet"): 30,
            (Kind.SCAN_LATE, "machine", "probable", "fleet"): 10,
            (Kind.SCAN_OPEN, "unknown", "probable", "soon"): 5,
            (Kind.VIEW, "unknown", "probable", "soon"): 1,
        }
    )
    fleet = Weighed("clicked", "machine", "probable", "fleet", 2, 40)
    assert by_evidence(tally) == [fleet, Weighed("opened", "unknown", "probable", "soon", 1, 5)]
    assert matrix.wrong(fleet) == "4.8%"
