"""Fleets of scanners: which networks are proposed, and the rules file that they make."""

import ipaddress
import math
import random
from dataclasses import replace
from importlib.resources import files

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streams.classify.actor_rules import FLEET, Rules
from streams.classify.actors import Evidence, by_itself, rejudge
from streams.classify.certainty import SURE_MACHINE, certainty_of, doubt_of
from streams.classify.fleet_rules import Covered, fleets_in, proposal_of, with_fleets
from streams.classify.fleets import (
    DEFAULT,
    Fleet,
    Habit,
    Seen,
    evidence,
    fleets_of,
    objections,
    total,
)

SHIPPED = files("streams.classify.tables").joinpath("machines.toml").read_text("utf-8")
BROWSER = "Mozilla/5.0 (Windows NT 10.0) Firefox/140.0"
OLD = 'Mozilla/5.0 (Windows "NT" 6.1)\x7f Chrome/79 \u00e4\U0001f980'
TODAY = "2026-11-28"
PACE_LOG10 = 1.0
"""-log10 of the share of people who click as soon: a tenth."""


def habit(sure: int = 0, soon: int = 0, later: int = 0, opened: int = 0, seed: int = 0) -> Habit:
    """What came to as many people as messages, on two days, in campaigns of slow readers."""
    people = frozenset(range(seed, seed + sure + soon + later))
    return Habit(people, frozenset((1, 2)), sure, soon, later, opened, 0, soon * PACE_LOG10)


LONE = habit(soon=8)
BURSTS = habit(sure=5)


def seen(address: str, what: Habit, agent: str = BROWSER) -> Seen:
    """What came from an address."""
    return Seen(ipaddress.ip_address(address), agent, what)


def proposed(*rows: Seen) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Networks and user agents of the fleets."""
    return [(one.cidrs, one.agents) for one in fleets_of(rows, lambda _ip, _agent: False)]


@pytest.mark.parametrize("what", [LONE, BURSTS, habit(sure=2, soon=4), habit(soon=40, later=2)])
def test_a_scanner_is_proposed(what: Habit) -> None:
    """By soon clicks of many people, by bursts, or by both; a late one in twenty may be."""
    assert objections(what) == []
    assert proposed(seen("198.51.100.7", what)) == [(("198.51.100.7/32",), ())]


@pytest.mark.parametrize(
    ("what", "says"),
    [
        (replace(LONE, soon=4), "4 messages"),
        (replace(LONE, recipients=frozenset(range(4))), "4 recipients"),
        (replace(LONE, days=frozenset((1,))), "1 days"),
        (replace(LONE, surprise=4.9), "by chance"),
        (replace(LONE, opened=1), "opened as people do"),
        (replace(habit(sure=9), later=2), "clicked as people do"),
    ],
)
def test_one_objection_is_enough(what: Habit, says: str) -> None:
    """Each is said in words."""
    told = objections(what)
    assert len(told) == 1
    assert says in told[0]
    assert proposed(seen("198.51.100.7", what)) == []


HABITS = st.builds(
    habit, st.integers(0, 50), st.integers(0, 50), st.integers(0, 50), st.integers(0, 3)
)
ADDRESSES = st.sampled_from(
    [f"198.51.100.{n}" for n in range(9)] + [f"2001:db8:1::{n}" for n in range(9)]
)
ROWS = st.lists(
    st.builds(seen, ADDRESSES, HABITS, st.sampled_from((BROWSER, OLD, ""))), max_size=12
)


@given(HABITS, st.integers(1, 50), st.booleans())
def test_more_people_never_make_a_fleet(what: Habit, more: int, opens: bool) -> None:
    """Late clicks and direct opens only ever speak against."""
    people = replace(what, opened=more) if opens else replace(what, later=what.later + more)
    assert evidence(people) <= evidence(what)
    if not objections(people):
        assert not objections(what)


@given(ROWS, st.integers(0, 100))
def test_a_proposal_has_evidence_for_each_fleet_and_is_the_same_in_any_order(
    rows: list[Seen], seed: int
) -> None:
    """Nothing wider than a /24 or /48; a whole network only of many addresses without people."""
    fleets = fleets_of(rows, lambda _ip, _agent: False)
    shuffled = random.Random(seed).sample(rows, len(rows))
    assert sorted(f.cidrs for f in fleets_of(shuffled, lambda _ip, _agent: False)) == sorted(
        fleet.cidrs for fleet in fleets
    )
    for fleet in fleets:
        networks = [ipaddress.ip_network(cidr) for cidr in fleet.cidrs]
        inside = [
            row for row in rows
            if any(row.address in network for network in networks)
            if not fleet.agents or row.agent in fleet.agents
        ]  # fmt: skip
        assert total(row.habit for row in inside) == replace(
            fleet.habit, surprise=total(row.habit for row in inside).surprise
        )
        assert not objections(fleet.habit)
        assert all(n.prefixlen == n.max_prefixlen or n.prefixlen in (24, 48) for n in networks)
        if not fleet.agents:
            assert not any(row.habit.opened for row in inside)
        if any(n.prefixlen != n.max_prefixlen for n in networks):
            assert len({row.address for row in inside}) >= DEFAULT.wide_min


def test_people_behind_one_address_are_never_proposed_whatever_the_share_that_is_quick() -> None:
    """A company's line: each click is soon with the chance that the campaign's readers show."""
    dice = random.Random(20)
    for _ in range(3_000):
        share = dice.choice((0.05, 0.1, 0.3, 0.8, 1.0))
        clicks = dice.randrange(1, 60)
        soon = sum(dice.random() < share for _ in range(clicks))
        people = habit(soon=soon, later=clicks - soon)
        pace = replace(people, surprise=soon * -math.log10(share))
        assert not proposed(seen("198.51.100.7", pace))


def test_a_gateway_that_shares_its_address_with_people_is_told_apart_by_its_user_agent() -> None:
    """Without a user agent of its own, nothing is proposed."""
    people = seen("198.51.100.7", habit(soon=1, later=9, seed=100))
    gateway = seen("198.51.100.7", LONE, OLD)
    assert proposed(gateway, people) == [(("198.51.100.7/32",), (OLD,))]
    assert proposed(replace(gateway, agent=""), people) == []
    assert proposed(seen("198.51.100.7", habit(soon=8, later=9))) == []
    reader = seen("198.51.100.7", habit(opened=1))
    assert proposed(gateway, reader) == [(("198.51.100.7/32",), (OLD,))]


def test_addresses_of_one_network_are_judged_together_and_widened_only_if_many() -> None:
    """One person in the network ends that; then each address needs enough of its own."""
    few = [seen(f"198.51.100.{n}", habit(soon=2, seed=10 * n)) for n in range(4)]
    assert proposed(*few) == [(tuple(f"198.51.100.{n}/32" for n in range(4)), ())]
    many = [seen(f"198.51.100.{n}", habit(soon=2, seed=10 * n)) for n in range(8)]
    assert proposed(*many) == [(("198.51.100.0/24",), ())]
    people = seen("198.51.100.99", habit(later=1, seed=900))
    assert proposed(*many, people) == [], "each has too little of its own"
    sure = [replace(row, habit=LONE) for row in many]
    assert proposed(*sure, people) == [((f"198.51.100.{n}/32",), ()) for n in range(8)]
    mapped = [seen(f"2001:db8:1:{n}::7", habit(soon=2, seed=10 * n)) for n in range(8)]
    assert proposed(*mapped) == [(("2001:db8:1::/48",), ())]


def test_networks_that_a_sure_rule_has_are_left_out_and_suspected_ones_are_not() -> None:
    """A suspected network leaves its later clicks open."""
    covered = Covered(Rules.load(SHIPPED))
    rows = [seen(ip, LONE) for ip in ("40.107.1.2", "209.222.82.9", "198.51.100.7")]
    assert [one.cidrs for one in fleets_of(rows, covered)] == [
        ("198.51.100.7/32",), ("209.222.82.9/32",)
    ]  # fmt: skip


FLEET_OF_TWO = Fleet(("198.51.100.0/24", "2001:db8:1::7/128"), (OLD, BROWSER), LONE)


def test_the_file_keeps_the_rules_and_puts_fleets_first() -> None:
    """Comments too; the first network that has an address wins."""
    inside_suspected = Fleet(("209.222.82.0/24",), (), LONE)
    before = Rules.load(SHIPPED)
    made = with_fleets(SHIPPED, [inside_suspected, FLEET_OF_TWO], TODAY)
    after = Rules.load(made)
    assert after.version == before.version + 1
    assert [rule.reason for rule in after.networks[:2]] == [FLEET, FLEET]
    assert after.networks[1].agents == {OLD.lower(), BROWSER.lower()}
    assert after.networks[2:] == before.networks
    assert after.agents == before.agents
    assert after.bursts == before.bursts
    kept = {line for line in SHIPPED.splitlines() if not line.startswith("version")}
    assert kept <= set(made.splitlines())
    assert fleets_in(after) == after.networks[:2]


def test_a_fleet_goes_once_people_are_seen_there_and_the_rest_of_the_file_stays() -> None:
    """And a proposal that changes nothing is none."""
    lone = Fleet(("203.0.113.9/32",), (), LONE)
    first = with_fleets(SHIPPED, [FLEET_OF_TWO, lone], TODAY)
    rows = [seen("203.0.113.9", habit(opened=1)), seen("203.0.113.9", LONE)]
    proposal = proposal_of(first, rows, TODAY)
    assert proposal is not None
    assert proposal.fleets == []
    ((rule, because),) = proposal.gone.items()
    assert str(rule.networks[0]) == "203.0.113.9/32"
    assert because == ["people: 1 messages opened as people do"]
    expected = with_fleets(SHIPPED, [FLEET_OF_TWO], TODAY)
    version = Rules.load(expected).version
    assert proposal.text == expected.replace(f"version = {version}", f"version = {version + 1}")
    assert proposal_of(first, [seen("203.0.113.9", LONE)], TODAY) is None


@pytest.mark.parametrize("network", ["198.51.0.0/16", "2001:db8::/32", "nowhere"])
def test_a_wrong_network_is_not_written(network: str) -> None:
    """Wider than may be proposed, or no network at all."""
    with pytest.raises(ValueError, match=network):
        with_fleets(SHIPPED, [Fleet((network,), (), LONE)], TODAY)


@given(st.text(min_size=1, max_size=40).filter(str.strip))
@example('\x9b2J\u202egnp.exe\u2066\u2028[[networks]]\n[timing]\n"')
def test_a_hostile_user_agent_is_only_text(agent: str) -> None:
    """The file parses to the user agent, and no character of it moves a cursor or hides text."""
    made = with_fleets(SHIPPED, [fleet_of(agent)], TODAY)
    (found,) = fleets_in(Rules.load(made))
    assert found.agents == {agent.strip().lower()}
    assert all(char.isprintable() or char == "\n" for char in made)
    assert len(made.splitlines()) == len(with_fleets(SHIPPED, [fleet_of("x")], TODAY).splitlines())


def fleet_of(agent: str) -> Fleet:
    """A fleet by a user agent."""
    return Fleet(("192.0.2.1/32",), (agent,), LONE)


def test_a_fleet_without_networks_does_not_hold_up_others_that_go() -> None:
    """As a file that was edited by hand may have one."""
    text = with_fleets(SHIPPED, [fleet_of(BROWSER)], TODAY) + '[[networks]]\nreason = "fleet"\n'
    people = seen("192.0.2.1", habit(opened=3, later=20))
    proposal = proposal_of(text, [people], TODAY)
    assert proposal is not None
    assert [rule.networks for rule in fleets_in(Rules.load(proposal.text))] == [()]


def test_networks_in_another_form_are_refused() -> None:
    """Rather than written over."""
    lines = SHIPPED.replace("[[networks]]", "[[other]]").replace(
        "\nversion", "\nnetworks = []\nversion"
    )
    assert Rules.load(lines).networks == ()
    with pytest.raises(ValueError, match="networks"):
        with_fleets(lines, [FLEET_OF_TWO], TODAY)


def test_a_fleets_clicks_are_probably_a_machines_and_its_opens_are_as_before() -> None:
    """So an interval reaches from humans alone to all of a fleet's clicks."""
    before = Rules.load(SHIPPED)
    after = Rules.load(with_fleets(SHIPPED, [Fleet(("209.222.82.0/24",), (), LONE)], TODAY))
    for ip in ("209.222.82.9", "::ffff:209.222.82.9"):
        judged = by_itself("clicked", "none", BROWSER, ip, None, after)
        assert judged == ("machine", FLEET)
        assert certainty_of(*judged) == "probable"
        assert doubt_of(*judged) < SURE_MACHINE
    for event_type, ip in (("opened", "209.222.82.9"), ("clicked", "209.222.83.9")):
        was = by_itself(event_type, "none", BROWSER, ip, None, before)
        assert by_itself(event_type, "none", BROWSER, ip, None, after) == was


def test_only_the_fleets_user_agents_are_judged_by_it() -> None:
    """Whole, in any case of letters."""
    rules = Rules.load(with_fleets(SHIPPED, [FLEET_OF_TWO], TODAY))
    for agent, ip, verdict in (
        (OLD, "198.51.100.9", ("machine", FLEET)),
        (f" {BROWSER.upper()} ", "2001:db8:1::7", ("machine", FLEET)),
        ("Mozilla/5.0 (Macintosh) Firefox/140.0", "198.51.100.9", None),
        (None, "198.51.100.9", None),
        (OLD, "2001:db8:1::8", None),
    ):
        assert by_itself("clicked", "none", agent, ip, None, rules) == verdict


def test_a_burst_is_certain_also_from_a_fleet() -> None:
    """An accepted fleet never makes a verdict less sure."""
    alone = [Evidence("clicked", 1_000 * n, "machine", FLEET, n + 1, 7) for n in range(3)]
    assert rejudge(alone) == [(n, "machine", "links_at_once") for n in range(3)]
    assert rejudge(alone[:2]) == []
