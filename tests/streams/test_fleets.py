"""Fleets of scanners: which networks are proposed, and the rules file that they make."""

from dataclasses import replace
from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.classify.actor_rules import Rules
from streams.classify.actors import by_itself
from streams.classify.certainty import certainty_of
from streams.classify.fleet_rules import REASON, with_fleets
from streams.classify.fleets import DEFAULT, Seen, objections

SHIPPED = files("streams.classify.tables").joinpath("machines.toml").read_text("utf-8")
FLEET = Seen("198.51.100.0/24", recipients=40, days=3, clicked=90, many_links=60, machine=58,
             human=0)  # fmt: skip
COUNTS = st.integers(0, 10_000)
SEEN = st.builds(
    Seen, st.sampled_from(("198.51.100.0/24", "198.51.100.7/32", "2001:db8:1::/48")),
    COUNTS, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS,
)  # fmt: skip


def test_a_scanners_network_is_proposed() -> None:
    assert objections(FLEET) == []


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"clicked": 19}, "messages"),
        ({"recipients": 9}, "recipients"),
        ({"days": 0}, "days"),
        ({"many_links": 9, "machine": 9}, "three links"),
        ({"machine": 53}, "a machine's in only 53 of 60"),
        ({"human": 2}, "people"),
        ({"network": "198.51.100.0/23"}, "wider than a /24"),
        ({"network": "2001:db8::/47"}, "wider than a /48"),
    ],
)
def test_one_objection_is_enough(changed: dict[str, object], says: str) -> None:
    told = objections(replace(FLEET, **changed))  # type: ignore[arg-type]
    assert len(told) == 1
    assert says in told[0]


@given(SEEN, st.integers(1, 10_000))
def test_people_are_never_proposed_and_more_of_them_never_help(seen: Seen, more: int) -> None:
    people = replace(seen, human=int(DEFAULT.human_share_max * seen.clicked) + more)
    assert any(told.startswith("people") for told in objections(people))
    if not objections(replace(seen, human=seen.human + more)):
        assert not objections(seen)


def test_the_file_keeps_the_rules_and_puts_fleets_first() -> None:
    inside_suspected = replace(FLEET, network="209.222.82.0/24")
    other = replace(FLEET, network="2001:db8:1::/48")
    before = Rules.load(SHIPPED)
    made = with_fleets(SHIPPED, [inside_suspected, other], "2026-11-28")
    after = Rules.load(made)
    assert after.version == before.version + 1
    assert [rule.reason for rule in after.networks[:2]] == [REASON, REASON]
    assert after.networks[2:] == before.networks
    assert after.agents == before.agents
    assert after.bursts == before.bursts
    kept = {line for line in SHIPPED.splitlines() if not line.startswith("version")}
    assert kept <= set(made.splitlines())


@pytest.mark.parametrize("network", ["198.51.0.0/16", "2001:db8::/32", "nowhere"])
def test_a_wrong_network_is_not_written(network: str) -> None:
    with pytest.raises(ValueError, match=network):
        with_fleets(SHIPPED, [replace(FLEET, network=network)], "2026-11-28")


def test_networks_in_another_form_are_refused() -> None:
    lines = SHIPPED.replace("[[networks]]", "[[other]]").replace(
        "\nversion", "\nnetworks = []\nversion"
    )
    assert Rules.load(lines).networks == ()
    with pytest.raises(ValueError, match="networks"):
        with_fleets(lines, [FLEET], "2026-11-28")


def test_a_fleets_clicks_are_probably_a_machines_and_its_opens_are_as_before() -> None:
    before, browser = Rules.load(SHIPPED), "Mozilla/5.0 (Windows NT 10.0) Firefox/140.0"
    after = Rules.load(
        with_fleets(SHIPPED, [replace(FLEET, network="209.222.82.0/24")], "2026-11-28")
    )
    for ip in ("209.222.82.9", "::ffff:209.222.82.9"):
        judged = by_itself("clicked", "none", browser, ip, None, after)
        assert judged == ("machine", REASON)
        assert certainty_of(*judged) == "probable"
    for event_type, ip in (("opened", "209.222.82.9"), ("clicked", "209.222.83.9")):
        was = by_itself(event_type, "none", browser, ip, None, before)
        assert by_itself(event_type, "none", browser, ip, None, after) == was
