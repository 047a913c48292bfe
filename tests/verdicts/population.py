"""Scanner fleets, companies, and the people of a sender's list."""

import random
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum

from tests.verdicts import networks
from tests.verdicts import parameters as p
from tests.verdicts.delays import Delay
from tests.verdicts.networks import address_in
from tests.verdicts.truth import Kind


@dataclass(frozen=True)
class Fleet:
    """Scanners of one operator.

    Attributes:
        kind: how they click.
        weight: share of gateways that are of this fleet.
        where: their networks; empty: their company's own addresses.
        agents: their user agents.
        image: share of scans that fetch the image too.
        doubled: share of scans in which each link comes twice.
        unsubscribes: whether they follow the unsubscribe link.
        isolates: share of their companies whose people browse in the vendor's network.
        addresses: how many they scan from.
        delay: from the send to the burst.
        rewrites: whether links are rewritten and checked when clicked.
    """

    name: str
    kind: Kind
    weight: float
    where: tuple[str, ...]
    agents: tuple[str, ...]
    image: float = 0.6
    doubled: float = 0.0
    unsubscribes: bool = False
    isolates: float = 0.0
    addresses: int = 24
    delay: Delay = p.SCAN_DELAY
    rewrites: bool = False

    def clicks(self, links: int) -> float:
        """Clicks expected of one scan of a mail with so many links."""
        if self.kind in (Kind.SCAN_FIRST, Kind.SCAN_SINGLE):
            return 1 + self.doubled
        waves = p.WAVES if self.kind is Kind.SCAN_WAVES else 1
        return waves * (links + self.unsubscribes) * (1 + self.doubled)


def _old(seed: int, number: int) -> tuple[str, ...]:
    dice = random.Random(seed)
    return tuple(networks.old_browser(dice) for _ in range(number))


FLEETS = (
    Fleet("microsoft", Kind.SCAN_ALL, 0.12, networks.MICROSOFT, _old(1, 5), doubled=0.3,
          delay=p.SCAN_SLOW_DELAY, rewrites=True),
    Fleet("microsoft_other", Kind.SCAN_ALL, 0.06, networks.MICROSOFT_OTHER, _old(2, 3)),
    Fleet("proofpoint", Kind.SCAN_ALL, 0.05, networks.PROOFPOINT, _old(3, 8), image=0.9,
          unsubscribes=True, isolates=0.5, addresses=60),
    Fleet("mimecast", Kind.SCAN_ALL, 0.05, networks.MIMECAST, _old(4, 2), isolates=0.5),
    Fleet("trend", Kind.SCAN_ALL, 0.02, networks.CLOUD, _old(5, 1), addresses=6,
          delay=p.SCAN_SLOW_DELAY),
    Fleet("appliance", Kind.SCAN_ALL, 0.03, (), _old(6, 2)),
    Fleet("tools", Kind.SCAN_ALL, 0.02, networks.CLOUD, networks.TOOLS, image=0.0, addresses=4),
    Fleet("microsoft_head", Kind.SCAN_HEAD, 0.25, networks.MICROSOFT, ("", "", *_old(7, 1)),
          image=0.2),
    Fleet("barracuda", Kind.SCAN_FIRST, 0.12, networks.BARRACUDA, _old(8, 3), addresses=16),
    Fleet("sentinel", Kind.SCAN_FIRST, 0.03, networks.CLOUD, (networks.SENTINEL,)),
    Fleet("single_cloud", Kind.SCAN_SINGLE, 0.10, networks.CLOUD, _old(9, 6), addresses=80),
    Fleet("single_appliance", Kind.SCAN_SINGLE, 0.06, (), _old(10, 2)),
    Fleet("bing", Kind.SCAN_SINGLE, 0.04, networks.MICROSOFT_OTHER, (networks.BING_PREVIEW,),
          image=0.0),
    Fleet("waves", Kind.SCAN_WAVES, 0.05, networks.CLOUD, _old(11, 2), image=0.3, addresses=12),
)  # fmt: skip
"""Vendors, networks and habits: seen or documented (SparkPost, gophish 973, SergeyMosin 293,
mautic 9400 and 9798, MillionSend 22, Act-On, Crawler-Detect 552, phpList 415, Shoplift). Shares of
first link only 15 %, single link 20 %, HEAD 25 %, waves 5 %: assumed. Webhooks do not tell the
method, so HEAD shows itself by an empty agent at most."""
FLEETS_BY_NAME = {fleet.name: fleet for fleet in FLEETS}
_OUTLOOK_COM = ("microsoft", "microsoft_head", "bing")
COMPANIES = 120
BEHIND_GATEWAYS = 0.7
"""Of companies. Assumed."""
OUTLOOK_COM_SCANNED = 0.4
"""Of people at Outlook.com: whose mail is scanned at all. Assumed."""


class Client(StrEnum):
    """How someone reads mail."""

    GMAIL = "gmail"
    YAHOO = "yahoo"
    MICROSOFT_WEB = "microsoft_web"
    OUTLOOK = "outlook"
    APPLE = "apple"
    """With Mail Privacy Protection."""
    OTHER_PROXY = "other_proxy"
    DIRECT = "direct"
    """Loads images itself, from its own address."""


_CLIENTS: dict[str, tuple[tuple[float, Client], ...]] = {
    "gmail": ((0.73, Client.GMAIL), (0.97, Client.APPLE), (1.0, Client.DIRECT)),
    "yahoo": ((0.65, Client.YAHOO), (0.95, Client.APPLE), (1.0, Client.DIRECT)),
    "outlook.com": ((0.6, Client.MICROSOFT_WEB), (0.9, Client.APPLE), (1.0, Client.DIRECT)),
    "icloud": ((0.92, Client.APPLE), (1.0, Client.DIRECT)),
    "other": ((0.4, Client.OTHER_PROXY), (0.7, Client.APPLE), (1.0, Client.DIRECT)),
    "google": ((0.7, Client.GMAIL), (0.9, Client.APPLE), (1.0, Client.DIRECT)),
    "microsoft": ((0.5, Client.OUTLOOK), (0.7, Client.MICROSOFT_WEB), (0.9, Client.APPLE),
                  (1.0, Client.DIRECT)),
    "own": ((0.6, Client.OUTLOOK), (0.8, Client.APPLE), (1.0, Client.DIRECT)),
}  # fmt: skip
"""Host of a mailbox -> cumulative shares of clients. Assumed; about a third of all opens through
Apple, between what Litmus and SparkPost measured."""
_CONSUMER_HOSTS = ((0.48, "gmail", "gmail.com"), (0.64, "yahoo", "yahoo.com"),
                   (0.80, "outlook.com", "outlook.com"), (0.97, "icloud", "icloud.com"),
                   (1.0, "other", "fastmail.com"))  # fmt: skip


@dataclass(frozen=True)
class Company:
    """Who shares a domain, lines to the outside, and maybe a gateway."""

    domain: str
    host: str
    egress: tuple[str, ...]
    fleet: Fleet | None
    isolates: bool


@dataclass(frozen=True)
class Person:
    """A recipient.

    Attributes:
        address: where mail is sent.
        click_kind: what the clicks of this person are called.
        home: own address; also the company's.
        shown: images are loaded.
    """

    address: str
    domain: str
    client: Client
    agent: str
    home: str
    click_from: str
    click_kind: Kind
    fleet: Fleet | None
    scanners: tuple[str, ...]
    shown: bool
    view_agent: str = ""

    @property
    def is_gmail(self) -> bool:
        """Whether the mailbox is Gmail's own."""
        return self.domain == "gmail.com"


@dataclass
class World:
    """Fleets' addresses and companies, which all senders meet."""

    seed: int
    companies: list[Company] = field(default_factory=list)
    addresses: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        dice = random.Random(self.seed * 2 + 1)
        for fleet in FLEETS:
            if fleet.where:
                pool = (address_in(fleet.where, dice) for _ in range(fleet.addresses))
                self.addresses[fleet.name] = tuple(pool)
        decks = _deck(round(COMPANIES * BEHIND_GATEWAYS))
        decks += [None] * (COMPANIES - len(decks))
        dice.shuffle(decks)
        served: Counter[str] = Counter()
        for number, behind in enumerate(decks):
            isolates = False
            if behind is not None:
                # evenly among a fleet's companies, which are few
                before, served[behind.name] = served[behind.name], served[behind.name] + 1
                isolates = int((before + 1) * behind.isolates) > int(before * behind.isolates)
            self.companies.append(_company(number, behind, isolates, dice))

    def scanners(self, fleet: Fleet, company: Company | None) -> tuple[str, ...]:
        """Addresses that a fleet scans a mailbox from."""
        if fleet.where or company is None:
            return self.addresses[fleet.name]
        return company.egress


def _deck(size: int) -> list[Fleet | None]:
    """Fleets, each as often as its weight says."""
    out: list[Fleet | None] = []
    reached = 0.0
    for fleet in FLEETS:
        reached += fleet.weight
        out += [fleet] * (round(reached * size) - len(out))
    return out


def _company(number: int, fleet: Fleet | None, isolates: bool, dice: random.Random) -> Company:
    drawn = dice.random()
    host = "microsoft" if drawn < 0.5 else "google" if drawn < 0.7 else "own"
    shared = dice.random() < 0.1
    where = networks.SHARED_EGRESS if shared else networks.COMPANIES
    egress = tuple(address_in(where, dice) for _ in range(dice.choice((1, 2, 2, 4))))
    return Company(f"firm{number}.example", host, egress, fleet, isolates)


def _pick(table: tuple[tuple[float, Client], ...], dice: random.Random) -> Client:
    drawn = dice.random()
    return next(client for reached, client in table if drawn < reached)


def people(world: World, size: int, business: float, dice: random.Random) -> list[Person]:
    """A sender's list.

    Args:
        world: where they live.
        size: how many.
        business: share of addresses at companies.
        dice: what is drawn from.
    """
    return [
        _employee(world, number, dice)
        if dice.random() < business
        else _consumer(world, number, dice)
        for number in range(size)
    ]


def _client(host: str, dice: random.Random) -> Client:
    client = _pick(_CLIENTS[host], dice)
    if client is Client.APPLE and dice.random() >= p.APPLE_OPTED_IN:
        return Client.DIRECT
    return client


def _view_agent(client: Client, agent: str, dice: random.Random) -> str:
    """The agent that loads images when the person looks."""
    if client is Client.OUTLOOK:
        return networks.OUTLOOK.format(dice.choice(("17328", "17928", "18227")))
    if client is Client.MICROSOFT_WEB:
        return dice.choice((networks.MICROSOFT_VIEW, agent))
    if client is Client.OTHER_PROXY:
        return dice.choice((networks.HEY, agent))
    return {
        Client.GMAIL: networks.GMAIL_VIEW, Client.YAHOO: networks.YAHOO_VIEW,
        Client.APPLE: networks.APPLE_FETCH,
    }.get(client, agent)  # fmt: skip


def _consumer(world: World, number: int, dice: random.Random) -> Person:
    drawn = dice.random()
    _, host, domain = next(one for one in _CONSUMER_HOSTS if drawn < one[0])
    client = _client(host, dice)
    agent = networks.browser(dice, apple=client is Client.APPLE)
    home = address_in(networks.HOMES, dice)
    fleet = None
    if host == "outlook.com" and dice.random() < OUTLOOK_COM_SCANNED:
        fleet = FLEETS_BY_NAME[dice.choice(_OUTLOOK_COM)]
    return Person(
        f"reader{number}@{domain}", domain, client, agent, home, home, Kind.CLICK, fleet,
        world.scanners(fleet, None) if fleet else (), True, _view_agent(client, agent, dice),
    )  # fmt: skip


def _employee(world: World, number: int, dice: random.Random) -> Person:
    company = dice.choice(world.companies)
    client = _client(company.host, dice)
    agent = networks.browser(dice, apple=client is Client.APPLE, office=True)
    at_desk = dice.random() < 0.75
    home = dice.choice(company.egress) if at_desk else address_in(networks.HOMES, dice)
    scanners = world.scanners(company.fleet, company) if company.fleet else ()
    click_from, kind = home, Kind.CLICK_EGRESS if at_desk else Kind.CLICK
    if company.isolates and company.fleet is not None:
        click_from, kind = address_in(company.fleet.where, dice), Kind.CLICK_ISOLATED
    elif home in scanners:
        kind = Kind.CLICK_BESIDE_SCANNER
    shown = client is not Client.OUTLOOK or dice.random() < p.IMAGES_SHOWN
    return Person(
        f"reader{number}@{company.domain}", company.domain, client, agent, home, click_from, kind,
        company.fleet, scanners, shown, _view_agent(client, agent, dice),
    )  # fmt: skip
