"""Rules files: what is refused by name, the one that ships, and those of an earlier form."""

import pytest

from streams.classify.actors import DEFAULT_RULES, Rules, rejudge
from streams.classify.certainty import doubt_of
from tests.streams.test_actors import HUMAN, alone, click

GOOD = """
version = 2
[timing]
open_too_soon_s = 1
click_too_soon_s = 1
before_delivery_s_max = 1
[burst]
seconds = 1
links_min = 2
agents_min = 2
"""


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "timing"),
        (GOOD.replace("version = 2", "version = 0"), "version"),
        (GOOD.replace("links_min = 2", "links_min = 1"), "links_min"),
        (GOOD.replace("seconds = 1", "seconds = true"), "seconds"),
        (GOOD.replace("open_too_soon_s = 1", "open_too_soon_s = nan"), "open_too_soon_s"),
        (GOOD + "[[agents]]\nreason = 'x'\nopened = 'robot'\n", "opened"),
        (GOOD + "[[agents]]\nopened = 'machine'\n", "reason"),
        (GOOD + "[[agents]]\nreason = 'x'\ncontains = ['']\n", "contains"),
        (GOOD + "[[networks]]\nreason = 'x'\ncidrs = ['192.0.2.1/24']\n", "cidrs"),
        (GOOD + "[[networks]]\nreason = 'x'\nevents = ['delivered']\n", "events"),
        (GOOD + "[[networks]]\nreason = 'x'\nsuspected = 1\n", "suspected"),
        (GOOD + "[[flags]]\nreason = 'x'\n", "kind"),
        (GOOD + "[[agents]]\nreason = 'soon'\n", "reason"),
        (GOOD + "[[bursts]]\nseconds = 1\nlinks_min = 2\nreason = 'x'\n", "actor"),
        ("hidden_links = 'x'" + GOOD, "hidden_links"),
        ("agents = 3" + GOOD, "agents"),
        (GOOD.replace("version = 2", "version = inf"), "version"),
        (GOOD.replace("version = 2", "version = 2147483648"), "version"),
        (GOOD.replace("links_min = 2", "links_min = inf"), "links_min"),
        (GOOD.replace("agents_min = 2", "agents_min = inf"), "agents_min"),
        (GOOD.replace("seconds = 1", "seconds = inf"), "seconds"),
        (GOOD + "[[bursts]]\nseconds = 1\nlinks_min = inf\nreason = 'x'\nactor = 'machine'", "min"),
        ("x = " + "[" * 100_000 + GOOD, "too deep"),
    ],
)  # fmt: skip
def test_wrong_rules_file_is_refused_by_name(text: str, named: str) -> None:
    """At start, with the name of the key; a rules file is never partly used."""
    with pytest.raises(ValueError, match=named):
        Rules.load(text)


def test_rules_that_ship_are_the_ones_described() -> None:
    """The file in the wheel parses, and takes nobody for a machine by time alone."""
    assert DEFAULT_RULES.version >= 2
    assert max(DEFAULT_RULES.open_s[0], DEFAULT_RULES.click_s[0]) < 0
    surest_first = [doubt_of(*burst.verdict) for burst in DEFAULT_RULES.bursts]
    assert surest_first[0] == 3
    assert len({burst.verdict for burst in DEFAULT_RULES.bursts}) == 3


def test_a_file_of_the_earlier_form_means_what_it_meant() -> None:
    """Epochs of the past hold such files: a scanner is a machine, a flag is what it was."""
    old = Rules.load(GOOD + "[[agents]]\nreason = 'x'\ncontains = ['bot']\nclicked = 'scanner'\n")
    assert alone("clicked", "a bot", rules=old) == ("machine", "x")
    assert alone("opened", kind="apple_mpp", rules=old) == ("machine", "apple_mpp")
    assert alone("opened", since=1.5, rules=old) == HUMAN
    assert rejudge([click(0, 1), click(1, 2)], old) == [
        (index, "machine", "all_links_clicked") for index in range(2)
    ]
