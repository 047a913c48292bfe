"""Human, machine or unknown: each rule with a match and a near miss, and the invariants of
correcting earlier verdicts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.event import EventType, MachineKind
from streams.classify.actor_rules import BY_TIME_REASONS
from streams.classify.actors import (
    DEFAULT_RULES,
    Evidence,
    Rules,
    rejudge,
    seconds_since,
    verdict_alone,
)
from streams.classify.certainty import certainty_of, doubt_of

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
APPLE = ("unknown", "apple_mpp")
FLAGGED = ("machine", "provider_flag")
NETWORKS = Rules.load(
    """
version = 7
hidden_links = ["/h/7f3a"]
[timing]
open_too_soon_s = 2.0
click_too_soon_s = 4.0
network_soon_s = 300
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
[[networks]]
reason = "isolation"
suspected = true
cidrs = ["203.0.113.128/25"]
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
    url: str | None = None,
) -> tuple[str, str]:
    exact = None if since is None else (since, since)
    return verdict_alone(event_type, kind, agent, ip, exact, rules, url=url)


@pytest.mark.parametrize(
    ("kind", "opened", "clicked"),
    [
        ("apple_mpp", APPLE, HUMAN),
        ("gmail_proxy", ("human", "gmail_proxy"), HUMAN),
        ("prefetch", FLAGGED, FLAGGED), ("scanner", FLAGGED, FLAGGED),
        ("unknown", FLAGGED, FLAGGED),
        ("none", HUMAN, HUMAN), ("human", HUMAN, HUMAN),
    ],
)  # fmt: skip
def test_provider_flag(kind: str, opened: tuple[str, str], clicked: tuple[str, str]) -> None:
    """A prefetch has nobody behind it, a proxy has, and of Apple's nobody can know."""
    assert alone("opened", kind=kind) == opened
    assert alone("clicked", kind=kind) == clicked


@pytest.mark.parametrize(
    ("kind", "agent", "opened"),
    [
        # SendGrid's flag covers Apple only: «false» says nothing of a proxy
        ("human", GMAIL_PROXY, ("human", "gmail_proxy")),
        ("none", GMAIL_PROXY, ("human", "gmail_proxy")),
        # what is a machine by either is one
        ("gmail_proxy", GMAIL_PREFETCH, ("machine", "prefetch_ua")),
        ("prefetch", GMAIL_PROXY, FLAGGED), ("apple_mpp", "curl/8", ("machine", "program_ua")),
        ("scanner", "Mozilla/5.0", FLAGGED),
        # what a provider calls a prefetch, and is Apple's, may have been read
        ("prefetch", "Mozilla/5.0", APPLE), ("apple_mpp", CHROME, APPLE),
        ("apple_mpp", None, APPLE),
    ],
)  # fmt: skip
def test_provider_flag_and_user_agent_together(
    kind: str, agent: str | None, opened: tuple[str, str]
) -> None:
    """Whichever says more against a human, except against one with Apple's prefetch."""
    assert alone("opened", agent, kind=kind) == opened


@pytest.mark.parametrize(
    ("agent", "opened", "clicked"),
    [
        # Google fetches when somebody looks; nobody clicks with its proxy
        (GMAIL_PROXY, ("human", "gmail_proxy"), ("machine", "gmail_proxy")),
        ("Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0", HUMAN, HUMAN),
        # uap-core's YahooMailProxy
        ("YahooMailProxy; https://help.yahoo.com/kb/yahoo-mail-proxy-SLN28749.html",
         ("human", "yahoo_proxy"), ("machine", "yahoo_proxy")),
        ("hey.com/imageproxy", ("human", "hey_proxy"), ("machine", "hey_proxy")),
        # mautic issue 10245
        (GMAIL_PREFETCH, ("machine", "prefetch_ua"), ("machine", "prefetch_ua")),
        (GMAIL_PREFETCH.removesuffix(" Mozilla/5.0"), HUMAN, HUMAN),
        # Apple MPP sends nothing but this; Apple Mail without MPP says more
        ("Mozilla/5.0", APPLE, ("machine", "bare_ua")),
        (APPLE_MAIL, HUMAN, HUMAN),
        # Barracuda's link protection
        ("BarracudaCentral Sentinel (EE)", ("machine", "scanner_ua"), ("machine", "scanner_ua")),
        # a vendor's name in a browser's is no proof: isolation has people behind it
        ("Mozilla/5.0 (X11; Linux x86_64) Mimecast Chrome/126.0.0.0", HUMAN, HUMAN),
        # Microsoft's link preview
        ("Mozilla/5.0 (Windows NT 6.1; WOW64) SkypeUriPreview Preview/0.5",
         ("machine", "preview_ua"), ("machine", "preview_ua")),
        ("python-requests/2.32.3", ("machine", "program_ua"), ("machine", "program_ua")),
        # mail apps load images with okhttp; nobody clicks with it
        ("okhttp/4.12.0", HUMAN, ("machine", "program_ua")),
        ("Microsoft Office/16.0 (Windows NT 10.0; Microsoft Outlook 16.0; Pro)", HUMAN, HUMAN),
        (None, HUMAN, HUMAN),
        ("", HUMAN, HUMAN),
    ],
)  # fmt: skip
def test_user_agents(agent: str | None, opened: tuple[str, str], clicked: tuple[str, str]) -> None:
    """Each agent rule with one that matches and one that looks similar."""
    assert alone("opened", agent) == opened
    assert alone("clicked", agent) == clicked


SOON = ("unknown", "soon")
UNKNOWN_DELIVERY = ("human", "no_delivery_time")


@pytest.mark.parametrize(
    ("since", "opened", "clicked"),
    [
        (0.0, SOON, SOON), (59.9, SOON, SOON), (60.0, HUMAN, SOON), (299.9, HUMAN, SOON),
        (300.0, HUMAN, HUMAN), (-60.0, SOON, SOON), (-60.1, HUMAN, HUMAN),
        (None, UNKNOWN_DELIVERY, UNKNOWN_DELIVERY), (float("nan"), HUMAN, HUMAN),
    ],
)  # fmt: skip
def test_soon_after_delivery(
    since: float | None, opened: tuple[str, str], clicked: tuple[str, str]
) -> None:
    """Scanners and people both come soon, so nobody can tell; long before it, clocks differ."""
    assert alone("opened", since=since) == opened
    assert alone("clicked", since=since) == clicked


def test_a_person_behind_a_view_time_proxy_may_be_fast() -> None:
    """A code is read a second after its delivery: the proxy fetched because somebody looked."""
    assert alone("opened", GMAIL_PROXY, since=1.0) == ("human", "gmail_proxy")


@pytest.mark.parametrize(
    ("since", "opened", "clicked"),
    [
        (1.9, ("machine", "too_soon"), ("machine", "too_soon")),
        (2.0, HUMAN, ("machine", "too_soon")), (4.0, HUMAN, HUMAN),
    ],
)  # fmt: skip
def test_an_own_file_may_take_the_first_seconds_for_machines(
    since: float, opened: tuple[str, str], clicked: tuple[str, str]
) -> None:
    """As files of the earlier form do."""
    assert alone("opened", since=since, rules=NETWORKS) == opened
    assert alone("clicked", since=since, rules=NETWORKS) == clicked


@pytest.mark.parametrize(
    ("delivered_us", "at_us", "least", "most"),
    [
        (10_000_000, 11_600_000, 0.6, 1.6), (10_500_000, 12_000_000, 1.5, 2.5),
        (10_000_000, 12_000_000, 1.0, 3.0), (10_000_001, 12_000_001, 2.0, 2.0),
        (10_500_000, 10_400_000, -0.1, -0.1),
    ],
)  # fmt: skip
def test_a_whole_second_is_an_interval(
    delivered_us: int, at_us: int, least: float, most: float
) -> None:
    """A provider that cuts times off leaves open where in the second they lie."""
    assert seconds_since(at_us, delivered_us) == pytest.approx((least, most))


def test_what_may_lie_on_either_side_of_a_line_is_no_machines() -> None:
    """1.6 s after a delivery in a whole second is not surely later than 2 s, nor surely sooner."""
    assert verdict_alone("opened", "none", CHROME, None, (1.0, 3.0), NETWORKS) == HUMAN
    assert verdict_alone("opened", "none", CHROME, None, (0.6, 1.6), NETWORKS)[0] == "machine"
    assert verdict_alone("opened", "none", CHROME, None, (59.5, 60.5)) == SOON


@pytest.mark.parametrize(
    ("ip", "opened", "clicked"),
    [
        ("192.0.2.77", ("machine", "scanner_network"), ("machine", "scanner_network")),
        ("::ffff:192.0.2.77", ("machine", "scanner_network"), ("machine", "scanner_network")),
        ("2001:db8:1::5", ("machine", "scanner_network"), ("machine", "scanner_network")),
        (" 192.0.2.77 ", ("machine", "scanner_network"), ("machine", "scanner_network")),
        ("198.51.100.4", HUMAN, ("machine", "cloud")),
        ("203.0.113.1", HUMAN, HUMAN),
        ("2001:db8:2::5", HUMAN, HUMAN),
        ("not an address", HUMAN, HUMAN),
        ("192.", HUMAN, HUMAN),
        ("", HUMAN, HUMAN),
    ],
)
def test_scanner_networks(ip: str, opened: tuple[str, str], clicked: tuple[str, str]) -> None:
    """A network may count for clicks only: people read mail in Microsoft's (warmbly 412)."""
    assert alone("opened", ip=ip, rules=NETWORKS) == opened
    assert alone("clicked", ip=ip, rules=NETWORKS) == clicked


@pytest.mark.parametrize(
    ("since", "actor"),
    [(1.0, "machine"), (299.0, "machine"), (300.0, "unknown"), (None, "unknown")],
)
def test_people_in_isolated_browsers_are_behind_scanners_networks(
    since: float | None, actor: str
) -> None:
    """A machine's soon after the delivery, probably; later nobody can know."""
    verdict = alone("clicked", ip="203.0.113.200", since=since, rules=NETWORKS)
    assert verdict == (actor, "suspected_network")
    assert certainty_of(*verdict) == "probable"


def test_microsofts_published_networks_are_about_clicks() -> None:
    """People read mail there; whole clouds are not listed."""
    assert alone("clicked", ip="40.107.218.12") == ("machine", "microsoft_network")
    assert alone("clicked", ip="2a01:111:f400::7") == ("machine", "microsoft_network")
    assert alone("opened", ip="40.107.218.12") == HUMAN
    assert alone("clicked", ip="52.96.0.1") == HUMAN


def test_a_link_that_nobody_can_see_is_a_machines() -> None:
    """If the sender has one."""
    url = "https://shop.example/h/7f3a?m=1"
    assert alone("clicked", url=url, rules=NETWORKS) == ("machine", "hidden_link")
    assert alone("clicked", url=url) == HUMAN


@pytest.mark.parametrize(
    ("verdict", "certainty", "doubt"),
    [
        (("none", ""), "none", 3), (HUMAN, "high", 0), (UNKNOWN_DELIVERY, "probable", 0),
        (("human", "gmail_proxy"), "probable", 0), (APPLE, "high", 1), (SOON, "probable", 1),
        (("machine", "two_links"), "probable", 2), (("machine", "links_at_once"), "certain", 3),
        (("machine", "prefetch_ua"), "certain", 3), (FLAGGED, "high", 3),
    ],
)  # fmt: skip
def test_certainty(verdict: tuple[str, str], certainty: str, doubt: int) -> None:
    """A reason of an own rules file is probable; doubt grows away from the human."""
    assert certainty_of(*verdict) == certainty
    if verdict[0] != "none":
        assert doubt_of(*verdict) == doubt


def test_only_opens_and_clicks_are_judged() -> None:
    """A delivery has no actor, whatever its user agent."""
    for event_type in map(str, EventType):
        if event_type not in ("opened", "clicked"):
            assert alone(event_type, GMAIL_PROXY) == ("none", "")


def click(at_s: float, link: int, agent: int = 1, actor: str = "human") -> Evidence:
    return Evidence("clicked", round(at_s * 1e6), actor, "", link, agent)


def opened(at_s: float, agent: int = 1, actor: str = "human") -> Evidence:
    return Evidence("opened", round(at_s * 1e6), actor, "", 0, agent)


def reasons(recent: list[Evidence]) -> list[str]:
    """The reason that each event has in the end."""
    return [event.reason for event in applied(recent)]


def test_three_links_within_a_second_are_a_machine() -> None:
    """The first two clicks are corrected when the third reveals the scan, whenever that is."""
    recent = [click(0, 11), click(0.4, 12), click(1, 13)]
    assert rejudge(recent) == [(i, "machine", "links_at_once") for i in range(3)]
    assert "links_at_once" not in reasons([click(0, 11), click(0.4, 12), click(1.1, 13)])


@pytest.mark.parametrize("links", [3, 5, 9, 20])
@pytest.mark.parametrize("whole_seconds", [True, False])
def test_a_burst_is_found_whatever_second_it_begins_in(links: int, whole_seconds: bool) -> None:
    """All links in a second, told by a provider that may cut times off to whole seconds."""
    for start in (0.0, 0.3, 0.7, 0.99):
        times = [start + 0.9 * number / links for number in range(links)]
        recent = [
            click(float(int(at)) if whole_seconds else at, 11 + number)
            for number, at in enumerate(times)
        ]
        assert set(reasons(recent)) == {"links_at_once"}


def test_three_tabs_in_four_seconds_are_a_person() -> None:
    """And two at once are not known to be one's, nor a gateway's."""
    tabs = [click(0, 11), click(2, 12), click(4, 13)]
    assert rejudge(tabs) == []
    assert rejudge([click(0, 11), click(1, 12)]) == [
        (i, "unknown", "two_links_at_once") for i in range(2)
    ]


def test_five_links_within_ten_seconds_are_probably_a_machine() -> None:
    """A slow scanner; its certainty leaves the doubt that it is somebody with many tabs."""
    slow = [click(2.5 * number, 11 + number) for number in range(5)]
    assert rejudge(slow) == [(i, "machine", "all_links_clicked") for i in range(5)]
    assert rejudge(slow[:4]) == []
    assert certainty_of("machine", "all_links_clicked") == "probable"


def test_a_person_between_two_scans_stays_a_person() -> None:
    """An event between two bursts belongs to neither."""
    first = [click(0.1 * i, 11 + i) for i in range(3)]
    again = [click(100 + 0.1 * i, 11 + i) for i in range(3)]
    assert [index for index, _, _ in rejudge([*first, click(50, 11), *again])] == [0, 1, 2, 4, 5, 6]


def test_one_link_again_and_again_is_a_person() -> None:
    """A double click, or an impatient one, is human."""
    assert rejudge([click(0.1 * i, 11) for i in range(6)]) == []
    assert rejudge([click(0, 11), click(5, 12), click(5.1, 0)]) == []


def test_three_agents_within_ten_seconds_are_probably_a_machine() -> None:
    """A gateway tries a link with several browsers; unknown agents do not count."""
    assert rejudge([click(0, 11, 1), click(1, 11, 2), click(2, 11, 3)]) == [
        (i, "machine", "many_agents") for i in range(3)
    ]
    assert rejudge([click(0, 11, 1), click(1, 11, 2), click(2, 11, 0)]) == []
    assert rejudge([click(0, 11, 1), click(60, 11, 2), click(120, 11, 3)]) == []


def test_open_beside_the_burst_by_the_same_agent_goes_with_it() -> None:
    """A scanner that clicks everything opened it half a minute before; another agent did not."""
    burst = [click(50, 11), click(50.2, 12), click(50.4, 13)]
    recent = [opened(9), opened(9, agent=2), opened(300), opened(10, agent=0), *burst]
    assert rejudge(recent) == [
        (0, "machine", "scanner_burst"),
        *((i, "machine", "links_at_once") for i in (4, 5, 6)),
    ]


def test_what_is_beside_a_known_machines_click_goes_with_it() -> None:
    """One click by a flag is enough for the open of the same agent, and for a click close to it."""
    flagged = click(200, 11)._replace(actor="machine", reason="provider_flag")
    for at_s, judged in ((80, 1), (79.9, 0), (320, 1), (320.1, 0)):
        assert len(rejudge([opened(at_s), flagged])) == judged
    for at_s, judged in ((190, 1), (189.9, 0), (210, 1), (210.1, 0)):
        assert len(rejudge([click(at_s, 11), flagged])) == judged


def test_what_says_what_it_is_stays() -> None:
    """Gmail's proxy is not a scanner's because a scanner came at the same time."""
    proxied = opened(9)._replace(reason="gmail_proxy")
    burst = [click(10, 11), click(10.2, 12), click(10.4, 13)]
    assert [index for index, _, _ in rejudge([proxied, *burst])] == [1, 2, 3]


VERDICTS = (
    HUMAN, HUMAN, HUMAN, SOON, UNKNOWN_DELIVERY, ("human", "gmail_proxy"), APPLE, FLAGGED,
    ("machine", "too_soon"), ("machine", "suspected_network"), ("unknown", "suspected_network"),
    ("none", ""),
)  # fmt: skip
evidence = st.tuples(
    st.sampled_from(["opened", "clicked", "clicked"]),
    st.integers(0, 30).map(lambda half: half * 500_000),
    st.sampled_from(VERDICTS),
    st.integers(0, 6),
    st.integers(0, 4),
).map(lambda one: Evidence(one[0], one[1], one[2][0], one[2][1], one[3], one[4]))
recents = st.lists(evidence, max_size=9)


def applied(recent: list[Evidence]) -> list[Evidence]:
    after = list(recent)
    for index, actor, reason in rejudge(recent):
        after[index] = after[index]._replace(actor=actor, reason=reason)
    return after


@given(recents, st.randoms(use_true_random=False))
def test_order_of_the_list_does_not_matter(recent: list[Evidence], random: object) -> None:
    """Late and early arrival give the same verdicts."""
    assert hasattr(random, "shuffle")
    shuffled = list(recent)
    random.shuffle(shuffled)
    assert sorted(applied(shuffled)) == sorted(applied(recent))


@given(recents)
def test_corrections_lead_away_from_the_human(recent: list[Evidence]) -> None:
    """Only of verdicts by time, and each event once, in order."""
    changes = rejudge(recent)
    assert [index for index, _, _ in changes] == sorted({index for index, _, _ in changes})
    for index, *verdict in changes:
        before = recent[index]
        assert before.reason in BY_TIME_REASONS
        assert doubt_of(*verdict) >= max(1, doubt_of(before.actor, before.reason))


@given(recents, evidence)
def test_further_evidence_takes_nothing_back(recent: list[Evidence], further: Evidence) -> None:
    """What is unknown or a machine's stays so, or becomes it more surely."""
    before, after = applied(recent), applied([*recent, further])
    for one, other in zip(before, after, strict=False):
        assert doubt_of(one.actor, one.reason) <= doubt_of(other.actor, other.reason)


@given(recents)
def test_bursts_are_those_of_a_plain_definition(recent: list[Evidence]) -> None:
    """Checked for every span that starts at a click; what is beside a machine's click left out."""
    clicks = [event for event in recent if event.event_type == "clicked"]
    for index, event in enumerate(applied(clicks)):
        if clicks[index].reason not in BY_TIME_REASONS or clicks[index].actor == "none":
            assert event == clicks[index]
            continue
        found = {"all_links_clicked": spanned(clicks, index, 10, "link") >= 5,
                 "many_agents": spanned(clicks, index, 10, "agent") >= 3,
                 "links_at_once": spanned(clicks, index, 1, "link") >= 3,
                 "two_links_at_once": spanned(clicks, index, 1, "link") >= 2}  # fmt: skip
        if event.reason in found:
            assert found[event.reason]
        elif event.reason != "scanner_burst":
            surely = doubt_of(event.actor, event.reason)
            assert not found["links_at_once"]
            assert surely >= 2 or not (found["all_links_clicked"] or found["many_agents"])
            assert surely >= 1 or not found["two_links_at_once"]


def spanned(clicks: list[Evidence], index: int, seconds: int, feature: str) -> int:
    """The most distinct links or agents of a span that has the click in it."""
    at = clicks[index].at
    starts = [one.at for one in clicks if 0 <= at - one.at <= seconds * 1_000_000]
    return max(
        len({getattr(one, feature) for one in clicks
             if 0 <= one.at - start <= seconds * 1_000_000} - {0})
        for start in starts
    )  # fmt: skip


@given(
    st.sampled_from([*map(str, EventType), ""]),
    st.sampled_from([*map(str, MachineKind), ""]),
    st.one_of(st.none(), st.text(max_size=300), st.text(st.characters(categories=["Cs"]))),
    st.one_of(st.none(), st.text(max_size=60), st.ip_addresses().map(str)),
    st.one_of(st.none(), st.tuples(st.floats(), st.floats())),
    st.one_of(st.none(), st.text(max_size=60)),
)
def test_never_raises_and_stays_in_the_vocabulary(
    event_type: str,
    kind: str,
    agent: str | None,
    ip: str | None,
    since: tuple[float, float] | None,
    url: str | None,
) -> None:
    """Any input gives an actor of the schema, and a reason unless it is human."""
    for rules in (DEFAULT_RULES, NETWORKS):
        actor, reason = verdict_alone(event_type, kind, agent, ip, since, rules, url=url)
        assert actor in {"none", "human", "machine", "unknown"}
        assert reason or actor in {"none", "human"}
        assert (actor == "none") == (event_type not in ("opened", "clicked"))
