"""Human, machine or scanner: each rule with a match and a near miss, and the invariants of
correcting earlier verdicts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.event import EventType, MachineKind
from streams.classify.actors import DEFAULT_RULES, Evidence, Rules, rejudge, verdict_alone

CHROME = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36"  # noqa: E501 - one user agent
APPLE_MAIL = (
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko)"
)
GMAIL_PROXY = (
    "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)"
)
GMAIL_PREFETCH = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/42.0.2311.135 Safari/537.36 Edge/12.246 Mozilla/5.0"
)
HUMAN = ("human", "")
NETWORKS = Rules.load(
    """
version = 7
[timing]
open_too_soon_s = 2.0
click_too_soon_s = 4.0
before_delivery_s_max = 60.0
[burst]
seconds = 5.0
links_min = 3
agents_min = 3
[[networks]]
reason = "scanner_network"
cidrs = ["192.0.2.0/24", "2001:db8:1::/48"]
[[networks]]
reason = "cloud"
cidrs = ["198.51.100.0/24"]
events = ["clicked"]
"""
)


def alone(
    event_type: str,
    agent: str | None = CHROME,
    *,
    kind: str = "none",
    ip: str | None = None,
    since: float | None = 3600.0,
    rules: Rules = DEFAULT_RULES,
) -> tuple[str, str]:
    return verdict_alone(event_type, kind, agent, ip, since, rules)


@pytest.mark.parametrize(
    ("kind", "opened", "clicked"),
    [
        ("apple_mpp", ("machine", "apple_mpp"), ("machine", "apple_mpp")),
        ("gmail_proxy", ("machine", "gmail_proxy"), ("machine", "gmail_proxy")),
        ("prefetch", ("machine", "provider_flag"), ("scanner", "provider_flag")),
        ("scanner", ("scanner", "provider_flag"), ("scanner", "provider_flag")),
        ("unknown", ("machine", "provider_flag"), ("scanner", "provider_flag")),
        ("none", HUMAN, HUMAN),
        ("human", HUMAN, HUMAN),
    ],
)
def test_provider_flag(kind: str, opened: tuple[str, str], clicked: tuple[str, str]) -> None:
    """SendGrid sg_machine_open, Mailgun client-info.bot, Brevo proxy_open."""
    assert alone("opened", kind=kind) == opened
    assert alone("clicked", kind=kind) == clicked


def test_provider_says_human_but_the_agent_is_a_proxy() -> None:
    """SendGrid's flag covers Apple only: «false» does not exclude a Gmail proxy."""
    assert alone("opened", GMAIL_PROXY, kind="human") == ("machine", "gmail_proxy")


@pytest.mark.parametrize(
    ("agent", "opened", "clicked"),
    [
        # Google, «Images turned on by default»
        (GMAIL_PROXY, ("machine", "gmail_proxy"), ("machine", "gmail_proxy")),
        ("Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0", HUMAN, HUMAN),
        # uap-core's YahooMailProxy
        ("YahooMailProxy; https://help.yahoo.com/kb/yahoo-mail-proxy-SLN28749.html",
         ("machine", "yahoo_proxy"), ("machine", "yahoo_proxy")),
        # mautic issue 10245
        (GMAIL_PREFETCH, ("machine", "prefetch_ua"), ("scanner", "prefetch_ua")),
        (GMAIL_PREFETCH.removesuffix(" Mozilla/5.0"), HUMAN, HUMAN),
        # Apple MPP sends nothing but this; Apple Mail without MPP says more
        ("Mozilla/5.0", ("machine", "apple_mpp"), ("scanner", "scanner_ua")),
        (APPLE_MAIL, HUMAN, HUMAN),
        # Barracuda's link protection
        ("BarracudaCentral Sentinel (EE)", ("scanner", "scanner_ua"), ("scanner", "scanner_ua")),
        # Microsoft's link preview
        ("Mozilla/5.0 (Windows NT 6.1; WOW64) SkypeUriPreview Preview/0.5",
         ("machine", "preview_ua"), ("scanner", "preview_ua")),
        ("python-requests/2.32.3", ("machine", "program_ua"), ("scanner", "program_ua")),
        # mail apps load images with okhttp; nobody clicks with it
        ("okhttp/4.12.0", HUMAN, ("scanner", "program_ua")),
        ("Microsoft Office/16.0 (Windows NT 10.0; Microsoft Outlook 16.0; Pro)", HUMAN, HUMAN),
        (None, HUMAN, HUMAN),
        ("", HUMAN, HUMAN),
    ],
)  # fmt: skip
def test_user_agents(agent: str | None, opened: tuple[str, str], clicked: tuple[str, str]) -> None:
    """Each agent rule with one that matches and one that looks similar."""
    assert alone("opened", agent) == opened
    assert alone("clicked", agent) == clicked


@pytest.mark.parametrize(
    ("since", "opened", "clicked"),
    [
        (0.0, ("machine", "too_soon"), ("scanner", "too_soon")),
        (1.9, ("machine", "too_soon"), ("scanner", "too_soon")),
        (2.0, HUMAN, ("scanner", "too_soon")),
        (4.0, HUMAN, HUMAN),
        (-60.0, ("machine", "too_soon"), ("scanner", "too_soon")),
        (-60.1, HUMAN, HUMAN),
        (None, HUMAN, HUMAN),
        (float("nan"), HUMAN, HUMAN),
    ],
)
def test_too_soon_after_delivery(
    since: float | None, opened: tuple[str, str], clicked: tuple[str, str]
) -> None:
    """Nobody opens within two or clicks within four seconds; long before delivery, clocks
    differ."""
    assert alone("opened", since=since) == opened
    assert alone("clicked", since=since) == clicked


@pytest.mark.parametrize(
    ("ip", "opened", "clicked"),
    [
        ("192.0.2.77", ("scanner", "scanner_network"), ("scanner", "scanner_network")),
        ("::ffff:192.0.2.77", ("scanner", "scanner_network"), ("scanner", "scanner_network")),
        ("2001:db8:1::5", ("scanner", "scanner_network"), ("scanner", "scanner_network")),
        ("198.51.100.4", HUMAN, ("scanner", "cloud")),
        ("203.0.113.1", HUMAN, HUMAN),
        ("2001:db8:2::5", HUMAN, HUMAN),
        ("not an address", HUMAN, HUMAN),
        ("", HUMAN, HUMAN),
    ],
)
def test_scanner_networks(ip: str, opened: tuple[str, str], clicked: tuple[str, str]) -> None:
    """A network may count for clicks only: people read mail in Microsoft's (warmbly 412)."""
    assert alone("opened", ip=ip, rules=NETWORKS) == opened
    assert alone("clicked", ip=ip, rules=NETWORKS) == clicked


def test_only_opens_and_clicks_are_judged() -> None:
    """A delivery has no actor, whatever its user agent."""
    for event_type in map(str, EventType):
        if event_type not in ("opened", "clicked"):
            assert alone(event_type, GMAIL_PROXY) == ("none", "")


def click(at_s: float, link: int, agent: int = 1, actor: str = "human") -> Evidence:
    return Evidence("clicked", round(at_s * 1e6), actor, "", link, agent)


def opened(at_s: float, agent: int = 1, actor: str = "human") -> Evidence:
    return Evidence("opened", round(at_s * 1e6), actor, "", 0, agent)


def test_three_links_within_five_seconds_are_a_scanner() -> None:
    """The first two clicks are corrected when the third reveals the scan."""
    recent = [click(0, 11), click(2, 12), click(5, 13)]
    assert rejudge(recent[:2]) == []
    assert rejudge(recent) == [(i, "scanner", "all_links_clicked") for i in range(3)]
    assert rejudge([click(0, 11), click(2, 12), click(5.1, 13)]) == []


def test_a_person_between_two_scans_stays_a_person() -> None:
    """An event between two bursts belongs to neither."""
    first = [click(i, 11 + i) for i in range(3)]
    again = [click(100 + i, 11 + i) for i in range(3)]
    assert [index for index, _, _ in rejudge([*first, click(50, 11), *again])] == [0, 1, 2, 4, 5, 6]


def test_one_link_again_and_again_is_a_person() -> None:
    """A double click, or an impatient one, is human."""
    assert rejudge([click(0.1 * i, 11) for i in range(6)]) == []
    assert rejudge([click(0, 11), click(1, 12), click(2, 0)]) == []


def test_three_agents_within_five_seconds_are_a_scanner() -> None:
    """A gateway tries a link with several browsers; unknown agents do not count."""
    assert rejudge([click(0, 11, 1), click(1, 11, 2), click(2, 11, 3)]) == [
        (i, "scanner", "many_agents") for i in range(3)
    ]
    assert rejudge([click(0, 11, 1), click(1, 11, 2), click(2, 11, 0)]) == []
    assert rejudge([click(0, 11, 1), click(60, 11, 2), click(120, 11, 3)]) == []


def test_open_in_the_burst_by_the_same_agent_goes_with_it() -> None:
    """A scanner that clicks everything opened it, too; another agent did not."""
    burst = [click(10, 11), click(11, 12), click(12, 13)]
    recent = [opened(9), opened(9, agent=2), opened(30), opened(10, agent=0), *burst]
    assert rejudge(recent) == [
        (0, "scanner", "scanner_burst"),
        *((i, "scanner", "all_links_clicked") for i in (4, 5, 6)),
    ]


def test_open_beside_a_known_scanner_click_goes_with_it() -> None:
    """One click from a scanner's network is enough for the open of the same agent."""
    assert rejudge([opened(1), click(2, 11, actor="scanner")]) == [(0, "scanner", "scanner_burst")]
    assert rejudge([opened(1), click(2, 11)]) == []
    for at_s, judged in ((-3, 1), (-3.1, 0), (7, 1), (7.1, 0)):
        assert len(rejudge([opened(at_s), click(2, 11, actor="scanner")])) == judged


evidence = st.builds(
    Evidence,
    st.sampled_from(["opened", "clicked", "delivered"]),
    st.integers(0, 12).map(lambda half: half * 1_000_000),
    st.sampled_from(["human", "human", "machine", "scanner", "none"]),
    st.just(""),
    st.integers(0, 4),
    st.integers(0, 4),
)
recents = st.lists(evidence, max_size=9)


def applied(recent: list[Evidence]) -> list[Evidence]:
    after = list(recent)
    for index, actor, reason in rejudge(recent):
        after[index] = after[index]._replace(actor=actor, reason=reason)
    return after


@given(recents)
def test_rejudging_again_changes_nothing(recent: list[Evidence]) -> None:
    """A replay of the same events gives no further correction."""
    assert rejudge(applied(recent)) == []


@given(recents, st.randoms(use_true_random=False))
def test_order_of_the_list_does_not_matter(recent: list[Evidence], random: object) -> None:
    """Late and early arrival give the same verdicts."""
    assert hasattr(random, "shuffle")
    shuffled = list(recent)
    random.shuffle(shuffled)
    assert sorted(applied(shuffled)) == sorted(applied(recent))


@given(recents)
def test_only_humans_are_corrected_and_only_to_scanner(recent: list[Evidence]) -> None:
    """A verdict never goes back to human, and indexes come in order, each once."""
    changes = rejudge(recent)
    assert [index for index, _, _ in changes] == sorted({index for index, _, _ in changes})
    for index, actor, reason in changes:
        assert recent[index].actor == "human"
        assert recent[index].event_type in ("opened", "clicked")
        assert actor == "scanner"
        assert reason in ("all_links_clicked", "many_agents", "scanner_burst")


@given(recents, evidence)
def test_further_evidence_takes_nothing_back(recent: list[Evidence], further: Evidence) -> None:
    """A scanner stays one, whatever comes later."""
    before = {index for index, _, _ in rejudge(recent)}
    after = {index for index, _, _ in rejudge([*recent, further])}
    assert before <= after


@given(recents)
def test_bursts_are_those_of_a_plain_definition(recent: list[Evidence]) -> None:
    """A click is a scanner's if some span of five seconds that includes it has three links or three
    agents; checked here for every span that starts at a click.
    """
    clicks = [event for event in recent if event.event_type == "clicked"]
    expected = set()
    for first in clicks:
        stretch = [event for event in clicks if 0 <= event.at - first.at <= 5_000_000]
        links = {event.link for event in stretch} - {0}
        agents = {event.agent for event in stretch} - {0}
        if len(links) >= 3 or len(agents) >= 3:
            expected |= {id(event) for event in stretch if event.actor == "human"}
    found = {
        id(recent[index])
        for index, _, _ in rejudge(recent)
        if recent[index].event_type == "clicked"
    }
    assert found == expected


@given(
    st.sampled_from([*map(str, EventType), ""]),
    st.sampled_from([*map(str, MachineKind), ""]),
    st.one_of(st.none(), st.text(max_size=300), st.text(st.characters(categories=["Cs"]))),
    st.one_of(st.none(), st.text(max_size=60), st.ip_addresses().map(str)),
    st.one_of(st.none(), st.floats()),
)
def test_never_raises_and_stays_in_the_vocabulary(
    event_type: str, kind: str, agent: str | None, ip: str | None, since: float | None
) -> None:
    """Any input gives an actor of the schema, and a reason unless it is human."""
    for rules in (DEFAULT_RULES, NETWORKS):
        actor, reason = verdict_alone(event_type, kind, agent, ip, since, rules)
        assert actor in {"none", "human", "machine", "scanner"}
        assert (reason != "") == (actor in {"machine", "scanner"})
        assert (actor == "none") == (event_type not in ("opened", "clicked"))


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
        ("agents = 3" + GOOD, "agents"),
    ],
)  # fmt: skip
def test_wrong_rules_file_is_refused_by_name(text: str, named: str) -> None:
    """At start, with the name of the key; a rules file is never partly used."""
    with pytest.raises(ValueError, match=named):
        Rules.load(text)


def test_rules_that_ship_are_the_ones_described() -> None:
    """The file in the wheel parses, has a version, and ships no network."""
    assert Rules.load(GOOD).version == 2
    assert DEFAULT_RULES.version >= 1
    assert DEFAULT_RULES.networks == ()
    assert DEFAULT_RULES.burst_us == 5_000_000
