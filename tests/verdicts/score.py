"""Scores verdicts against the truth."""

import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from tests.verdicts.campaign import Plan
from tests.verdicts.judged import Verdict
from tests.verdicts.population import Client
from tests.verdicts.reports import SCANS
from tests.verdicts.season import Played
from tests.verdicts.truth import Kind, Truth

BY_APPLE = (Kind.PREFETCH_APPLE, Kind.VIEW_APPLE)


@dataclass(frozen=True)
class Interval:
    """How many messages people opened or clicked: by verdicts, and in truth.

    Attributes:
        below: with a verdict «human».
        above: with a verdict other than «machine» of high certainty or certain.
        truth: with an open or click of a person that was reported.
        of: messages.
    """

    below: int
    above: int
    truth: int
    of: int

    @property
    def holds(self) -> bool:
        """Whether the truth lies inside, bounds included, without any tolerance."""
        return self.below <= self.truth <= self.above

    @property
    def width_points(self) -> float:
        """In percentage points."""
        return 100 * (self.above - self.below) / self.of if self.of else 0.0

    @property
    def error_points(self) -> float:
        """How far the rate by «human» is above the truth, in percentage points."""
        return 100 * (self.below - self.truth) / self.of if self.of else 0.0


def interval(judged: Iterable[tuple[Truth, Verdict]], of: int) -> Interval:
    """Of the opens, or of the clicks, of ``of`` messages."""
    below, above, truth = set(), set(), set()
    for true, verdict in judged:
        if verdict.is_human:
            below.add(true.message)
        if not verdict.is_sure_machine:
            above.add(true.message)
        if true.kind.is_person:
            truth.add(true.message)
    return Interval(len(below), len(above), len(truth), of)


@dataclass(frozen=True)
class CampaignScore:
    """Of one campaign.

    Attributes:
        clicks: of all messages; clicks on the unsubscribe link count nowhere.
        opens: of messages that Apple's proxy did not and could not fetch.
        gmail: the same, to addresses at gmail.com.
        gmail_all: of all messages to gmail.com, some of which people read in Apple Mail.
    """

    plan: Plan
    clicks: Interval
    opens: Interval
    gmail: Interval
    gmail_all: Interval


def score_campaign(played: Played, verdicts: Mapping[str, Verdict]) -> CampaignScore:
    """The figures of a campaign.

    Raises:
        KeyError: an open or click without a verdict.
    """
    judged = [(true, verdicts[event_id]) for event_id, true in played.truths.items()]
    opens = [(true, verdict) for true, verdict in judged if not true.is_click]
    apple = {n for n, one in enumerate(played.people) if one.client is Client.APPLE}
    apple |= {true.message for true, _ in opens if true.kind in BY_APPLE}
    gmail = {n for n, one in enumerate(played.people) if one.is_gmail}

    def of(messages: set[int]) -> Interval:
        return interval((pair for pair in opens if pair[0].message in messages), len(messages))

    clicks = interval((pair for pair in judged if pair[0].is_click and pair[0].counts),
                      len(played.people))  # fmt: skip
    others = set(range(len(played.people))) - apple
    return CampaignScore(played.plan, clicks, of(others), of(gmail - apple), of(gmail))


@dataclass
class Tally:
    """What is known after any number of campaigns.

    Attributes:
        confusion: opens and clicks by truth, actor, certainty and reason.
        gateways: clicks of gateways by links in the mail, kind, and who was seen in them.
        campaigns: their scores.
    """

    confusion: Counter[tuple[Kind, str, str, str]] = field(default_factory=Counter)
    gateways: Counter[tuple[int, Kind, str]] = field(default_factory=Counter)
    campaigns: list[CampaignScore] = field(default_factory=list)

    def take(self, played: Played, verdicts: Mapping[str, Verdict]) -> None:
        """Adds a campaign."""
        self.campaigns.append(score_campaign(played, verdicts))
        for event_id, true in played.truths.items():
            said = verdicts[event_id]
            self.confusion[true.kind, said.actor, said.certainty, said.reason] += 1
            if true.is_click and true.kind in SCANS:
                seen = "machine" if said.is_machine else said.actor
                self.gateways[played.plan.links, true.kind, seen] += 1

    def lost(self, kinds: Iterable[Kind]) -> float:
        """Share of what people did in these ways that is called a machine's."""
        wanted = set(kinds)
        lost = total = 0
        for (kind, actor, _, _), count in self.confusion.items():
            if kind in wanted:
                total += count
                lost += count * Verdict(actor, "", "").is_machine
        return lost / total if total else 0.0

    def gateway_clicks(
        self, links: Iterable[int], seen: str = "machine", kinds: Iterable[Kind] = SCANS
    ) -> float:
        """Share of gateways' clicks on mails of so many links in which this actor was seen."""
        many, how = set(links), set(kinds)
        of = [
            (actor, count)
            for (number, kind, actor), count in self.gateways.items()
            if number in many and kind in how
        ]
        total = sum(count for _, count in of)
        return sum(count for actor, count in of if actor == seen) / total if total else 0.0


_CLICKS = tuple(kind for kind in Kind if kind.startswith("person_click"))
CLICKS = frozenset((*_CLICKS, *(SCANS - {Kind.SCAN_OPEN})))
"""What clicks; all others open."""
_FEW, _MANY = range(1, 3), range(3, 1_000)
_BURSTS = (Kind.SCAN_ALL, Kind.SCAN_HEAD, Kind.SCAN_WAVES)
"""Fleets that follow all links of a mail; what the others do is a lone click on any mail."""
_VIEWS = tuple(kind for kind in Kind if kind.startswith("person_view"))


def figures(tally: Tally) -> dict[str, float]:
    """Everything by name; the names of the aims first.

    Raises:
        ValueError: no campaigns.
    """
    if not tally.campaigns:
        raise ValueError("no campaign was scored")
    clicks = [one.clicks for one in tally.campaigns]
    opens = [one.opens for one in tally.campaigns]
    coverage = {"clicks": _covered(clicks), "opens": _covered(opens)}
    width = {"clicks": _width(clicks), "opens": _width(opens)}
    return {
        "gateway_found_3_links": tally.gateway_clicks(_MANY),
        "gateway_found_1_link": tally.gateway_clicks(_FEW),
        "gateway_bursts_found_3_links": tally.gateway_clicks(_MANY, kinds=_BURSTS),
        "gateway_called_human_3_links": tally.gateway_clicks(_MANY, "human"),
        "gateway_called_human_1_link": tally.gateway_clicks(_FEW, "human"),
        "human_lost": tally.lost(_CLICKS),
        "human_opens_lost": tally.lost(kind for kind in _VIEWS if kind is not Kind.VIEW_APPLE),
        "gmail_open_error_points": _error(one.gmail for one in tally.campaigns),
        "gmail_open_error_with_apple_points": _error(one.gmail_all for one in tally.campaigns),
        "interval_coverage": min(coverage.values()),
        "interval_coverage_clicks": coverage["clicks"],
        "interval_coverage_opens": coverage["opens"],
        "interval_width_points": max(width.values()),
        "interval_width_clicks_points": width["clicks"],
        "interval_width_opens_points": width["opens"],
        "human_click_rate_error_points": _error(clicks),
        "human_open_rate_error_points": _error(opens),
        "verdicts_campaigns": len(tally.campaigns),
        "verdicts_judged": tally.confusion.total(),
        **{f"gateway_found_of_{n}_links": tally.gateway_clicks((n,)) for n in _links(tally)},
        **dict(_matrix(tally)),
    }


@dataclass(frozen=True, slots=True)
class Weighed:
    """What a verdict by one reason was given to: events of people and of machines.

    Attributes:
        event_type: ``opened`` or ``clicked``.
    """

    event_type: str
    actor: str
    certainty: str
    reason: str
    people: int
    machines: int


def by_evidence(tally: Tally) -> list[Weighed]:
    """The confusion matrix by evidence: clicks, then opens; the most frequent first."""
    cells: dict[tuple[str, str, str, str], list[int]] = {}
    for (kind, actor, certainty, reason), count in tally.confusion.items():
        key = ("clicked" if kind in CLICKS else "opened", actor, certainty, reason)
        cells.setdefault(key, [0, 0])[not kind.is_person] += count
    found = [Weighed(*key, people, machines) for key, (people, machines) in cells.items()]
    return sorted(found, key=lambda one: (
        one.event_type, -one.people - one.machines, one.actor, one.certainty, one.reason
    ))  # fmt: skip


def _covered(intervals: list[Interval]) -> float:
    return statistics.fmean(one.holds for one in intervals)


def _width(intervals: list[Interval]) -> float:
    return statistics.median(one.width_points for one in intervals)


def _error(intervals: Iterable[Interval]) -> float:
    """Median distance of the rate by «human» from the truth, in points; 0 without messages."""
    errors = [abs(one.error_points) for one in intervals if one.of]
    return statistics.median(errors) if errors else 0.0


def _links(tally: Tally) -> list[int]:
    return sorted({many for many, _, _ in tally.gateways})


def _matrix(tally: Tally) -> Iterator[tuple[str, int]]:
    """How many of each kind got each verdict."""
    cells: Counter[str] = Counter()
    for (kind, actor, certainty, _), count in tally.confusion.items():
        cells[f"confusion_{kind}_{actor}_{certainty}"] += count
    yield from sorted(cells.items())
