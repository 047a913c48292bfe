"""Simulated campaigns: their messages, what happens to each, and when it is reported.

Invariants:
1. Pure. Randomness is a ``Dice``, time an argument; the same dice give the same traffic.
2. It uses no provider module, no classification and no step of mailpulse. What an event is (human
   or machine, which bounce) is decided here, not derived.
3. The expected counts of a message do not depend on the order of its events, so they do not depend
   on how requests were batched, repeated or reordered.
4. Event times are whole seconds, and no two events of one kind and message have the same: providers
   that report whole seconds lose nothing, and (message, type, time) identifies an event.

Proportions are rounded figures of public benchmarks. Events of a message are minutes apart in event
time and seconds apart on the clock.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

PEOPLE = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/131.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/18.1 Safari/605.1.15",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like "
    "Gecko) Version/18.1 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/131.0.0.0 Mobile Safari/537.36",
)
"""User agents of people."""
APPLE_MPP = "Mozilla/5.0"
"""The whole user agent of Apple's Mail Privacy Protection."""
SCANNER = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/119.0.0.0 Safari/537.36"
)
"""A link scanner with a browser's user agent: only its behaviour shows what it is."""
DOMAINS = ("gmail.com", "outlook.com", "yahoo.com", "icloud.com", "example.org", "firma.example")

HUMAN, UNKNOWN, PROBABLY_MACHINE, MACHINE = range(4)
"""Who opened or clicked, from what is a human's to what is surely not."""
HUMAN_DELAY_S_MIN = 75
"""No person opens sooner after delivery, except through a proxy that fetches when they look."""
CLICK_DELAY_S_MIN = 320
"""No person clicks sooner: who clicks in the first minutes, nobody can know."""
BETWEEN_CLICKS_S_MIN = 30
SCANNED_LINKS = 6
"""A scanner clicks this many links, one each second or two (invariant 4), and names itself not."""
VIEW_PROXIES = {
    "gmail.com": "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 "
    "(via ggpht.com GoogleImageProxy)",
    "yahoo.com": "YahooMailProxy; https://help.yahoo.com/kb/yahoo-mail-proxy-SLN28749.html",
}
"""User agents of the proxies through which readers at these domains see images."""
GMAIL_PREFETCH = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/42.0.2311.135 Safari/537.36 Edge/12.246 Mozilla/5.0"
)
PREFETCHED_SHARE = 0.03
"""Of messages to Gmail, fetched at arrival."""
COMPRESSION = 240.0
"""Four minutes between two events become one second on the clock."""
AGE_S_MIN, AGE_S_MAX = 30, 3_600
"""How long ago messages were sent, seconds: so that what is delivered, opened and clicked goes on
until now. What would happen later has not happened yet, and is never reported."""
YOUNGER = 1.5
"""Power of the share of that span: 1 is all ages alike, and then a chart of deliveries falls
towards now for as long as the demo has run."""
FIRST_OPEN_S_MAX = 3_300
"""Longest time from a delivery to its first open, seconds."""
LATE_SHARE = 0.05
"""Share of messages whose delivery is reported seconds late, after opens and clicks."""
LATE_S_MAX = 6.0


class Dice(Protocol):
    """The methods of ``random.Random`` that the simulator uses."""

    def random(self) -> float:
        """A number in [0, 1)."""

    def randint(self, a: int, b: int) -> int:
        """An integer from ``a`` to ``b``, both included."""

    def getrandbits(self, k: int, /) -> int:
        """``k`` random bits."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A campaign and its proportions, as shares.

    Attributes:
        source: hook that its provider posts to.
        weight: of all messages of all campaigns.
        hard, soft, block, suppressed: of its messages; the rest is delivered.
        deferred: of the delivered, deferred once or twice before.
        opened, clicked: of the delivered, of the opened; by people.
        prefetched, scanned: of the delivered; by Apple's prefetch, by link scanners.
        unsubscribed, complained: of the opened, of the delivered.
        late_bounce: of the delivered, bounced afterwards.
        silent: of its messages, those whose first event alone names the campaign.
        unreported: kinds of event that the provider does not report.
    """

    name: str
    source: str
    weight: float
    hard: float = 0.005
    soft: float = 0.005
    block: float = 0.003
    suppressed: float = 0.003
    deferred: float = 0.04
    opened: float = 0.3
    clicked: float = 0.15
    prefetched: float = 0.15
    scanned: float = 0.0
    unsubscribed: float = 0.01
    complained: float = 0.0005
    late_bounce: float = 0.0
    silent: float = 0.0
    unreported: tuple[str, ...] = ()


_NOT_AT_POSTMARK = ("queued", "deferred", "rejected")
PLANS: tuple[Plan, ...] = (
    Plan("black-friday-2026", "news", 0.26, opened=0.34, clicked=0.18, silent=0.2),
    Plan("trade-fair-contacts", "news", 0.12, hard=0.085, soft=0.03, block=0.02, suppressed=0.02,
         opened=0.12, clicked=0.08, complained=0.006, prefetched=0.1),
    Plan("winter-collection", "news", 0.2, opened=0.2, clicked=0.2, prefetched=0.72, silent=0.1),
    Plan("password-reset", "transactional", 0.02, opened=0.7, clicked=0.8, prefetched=0.05,
         unsubscribed=0.0, hard=0.01, unreported=_NOT_AT_POSTMARK),
    Plan("order-confirmation", "transactional", 0.03, opened=0.5, clicked=0.12,
         unreported=_NOT_AT_POSTMARK),
    Plan("weekly-newsletter", "crm", 0.2, opened=0.42, clicked=0.3, late_bounce=0.004, silent=0.3),
    Plan("we-miss-you", "crm", 0.13, soft=0.08, hard=0.02, opened=0.1, clicked=0.1, scanned=0.12,
         unsubscribed=0.15, complained=0.002),
    Plan("loyalty-points", "partner", 0.1, opened=0.26, clicked=0.2, prefetched=0.2,
         unreported=("rejected",)),
    Plan("welcome-series", "app", 0.02, block=0.0, opened=0.55, clicked=0.4,
         unreported=("unsubscribed",)),
)  # fmt: skip
"""The demo's campaigns: one sends to addresses collected at a fair, one is mostly opened by Apple's
prefetch."""


@dataclass(frozen=True, slots=True)
class Happening:
    """One simulated event.

    Attributes:
        native_id: the provider's identity of the event; the same in every report of it.
        kind: a normalised event type.
        at_s: when it happened, whole seconds since 1970.
        campaign: the campaign it belongs to; ``told``: whether this event names it.
        bounce: hard, soft, block or suppressed; empty otherwise.
        doubt: who opened or clicked, as far as anybody can know: ``HUMAN``, ``UNKNOWN``,
            ``PROBABLY_MACHINE`` or ``MACHINE``.
        url: clicked link; ``unsubscribe``: whether that link unsubscribes.
    """

    native_id: str
    source: str
    kind: str
    at_s: int
    campaign: str
    told: bool
    message_id: str
    recipient: str
    bounce: str = ""
    doubt: int = HUMAN
    user_agent: str = ""
    ip: str = ""
    url: str = ""
    unsubscribe: bool = False

    @property
    def machine(self) -> bool:
        """Opened or clicked by a machine, probably at least."""
        return self.doubt >= PROBABLY_MACHINE


@dataclass(slots=True)
class _Message:
    """A message while its events are generated."""

    plan: Plan
    campaign: str
    message_id: str
    recipient: str
    sent_s: int
    now_s: int
    silent: bool
    agent: str
    ip: str
    events: list[Happening] = field(default_factory=list)

    def add(self, kind: str, at_s: int, **details: object) -> None:
        told = not self.silent or not self.events
        number = len(self.events)
        while any((one.kind, one.at_s) == (kind, at_s) for one in self.events):
            at_s += 1
        if at_s > self.now_s:
            return
        self.events.append(
            Happening(
                native_id=f"{self.message_id}-{number}",
                source=self.plan.source,
                kind=kind,
                at_s=at_s,
                campaign=self.campaign,
                told=told,
                message_id=self.message_id,
                recipient=self.recipient,
                **details,  # type: ignore[arg-type]  # names are Happening's own
            )
        )


class Simulator:
    """Generates messages at a given rate and returns their events when they are due.

    Args:
        run: part of every message id and campaign id; distinguishes runs.
        rate_per_s: average events per second, once the first delays have passed.
        epoch_s: seconds since 1970 at the start of the run.
        dice: source of randomness.
        plain_names: campaigns are called as in ``plans``, without ``run``.

    Attributes:
        behind_s: by how much the time that ``advance`` is told is behind the clock, seconds: less
            traffic is generated then, and what is still happens until now.
    """

    def __init__(
        self,
        run: str,
        rate_per_s: float,
        epoch_s: float,
        dice: Dice,
        plans: Sequence[Plan] = PLANS,
        *,
        plain_names: bool = False,
    ) -> None:
        self.plans = tuple(plans)
        self._run = run
        self._plain_names = plain_names
        self.behind_s = 0.0
        self._rate = rate_per_s
        self._epoch_s = epoch_s
        self._dice = dice
        self._made = 0
        self._messages = 0
        self._due: list[tuple[float, int, Happening]] = []
        self._total_weight = sum(plan.weight for plan in self.plans)

    @property
    def campaigns(self) -> tuple[str, ...]:
        """Campaign ids of this run."""
        return tuple(self.campaign_id(plan) for plan in self.plans)

    def campaign_id(self, plan: Plan) -> str:
        """A plan's campaign id in this run."""
        return plan.name if self._plain_names else f"{plan.name}-{self._run}"

    def advance(self, elapsed_s: float) -> list[Happening]:
        """Events due by ``elapsed_s`` seconds after the start, in order of their reports."""
        while self._made < self._rate * elapsed_s:
            self._begin_message(elapsed_s)
        out = []
        while self._due and self._due[0][0] <= elapsed_s:
            out.append(heapq.heappop(self._due)[2])
        return out

    def finish(self) -> list[Happening]:
        """All outstanding events, in order of their reports; generates no new messages."""
        out = [happening for _due, _number, happening in sorted(self._due, key=lambda one: one[:2])]
        self._due.clear()
        return out

    def _begin_message(self, elapsed_s: float) -> None:
        message = self._message(elapsed_s)
        late = LATE_S_MAX * self._dice.random() if self._dice.random() < LATE_SHARE else 0.0
        scan_jitter, scan_delay = 0.5 * self._dice.random(), None
        for happening in message.events:
            if happening.kind in message.plan.unreported:
                continue
            delay = (happening.at_s - message.sent_s) / COMPRESSION
            if happening.kind in ("delivered", "queued", "deferred"):
                delay += late
            if happening.kind == "bounced" and len(message.events) > 2:
                delay += late + 1.0  # a late bounce is reported after the delivery
            if happening.user_agent == SCANNER:
                # all of a scan is due at once: half of it, when traffic ends, would look human
                scan_delay = delay + scan_jitter if scan_delay is None else scan_delay
                delay = scan_delay
            else:
                delay += 0.5 * self._dice.random()
            self._made += 1
            heapq.heappush(self._due, (elapsed_s + delay, self._made, happening))

    def _message(self, elapsed_s: float) -> _Message:
        dice = self._dice
        plan = self._pick()
        self._messages += 1
        age_s = AGE_S_MIN + int((AGE_S_MAX - AGE_S_MIN) * dice.random() ** YOUNGER)
        now_s = int(self._epoch_s + self.behind_s + elapsed_s)
        message = _Message(
            plan=plan,
            campaign=self.campaign_id(plan),
            message_id=f"m{self._run}{self._messages:07d}.{dice.getrandbits(40):010x}",
            recipient=f"reader{dice.randint(1, 400_000)}@{DOMAINS[dice.randint(0, 5)]}",
            sent_s=now_s - age_s,
            now_s=now_s,
            silent=dice.random() < plan.silent,
            agent=PEOPLE[dice.randint(0, len(PEOPLE) - 1)],
            ip=f"203.0.113.{dice.randint(1, 254)}",
        )
        self._live(message)
        return message

    def _pick(self) -> Plan:
        point = self._dice.random() * self._total_weight
        for plan in self.plans:
            point -= plan.weight
            if point < 0:
                return plan
        return self.plans[-1]

    def _live(self, message: _Message) -> None:
        """From submission to delivery or bounce."""
        dice, plan, sent = self._dice, message.plan, message.sent_s
        fate = dice.random()
        if fate < plan.suppressed:
            message.add("rejected", sent, bounce="suppressed")
            return
        message.add("queued", sent)
        fate -= plan.suppressed
        at = sent + dice.randint(1, 20)
        for bounce in ("hard", "soft", "block"):
            share = getattr(plan, bounce)
            if fate < share:
                message.add("bounced", at, bounce=bounce)
                return
            fate -= share
        if dice.random() < plan.deferred:
            for _ in range(dice.randint(1, 2)):
                message.add("deferred", at)
                at += dice.randint(20, 60)
        message.add("delivered", at)
        if dice.random() < plan.late_bounce:
            message.add("bounced", at + dice.randint(20, 100), bounce="hard")
            return
        self._engage(message, at)

    def _engage(self, message: _Message, delivered: int) -> None:
        """Adds opens and clicks of a delivered message."""
        dice, plan = self._dice, message.plan
        until = delivered + FIRST_OPEN_S_MAX
        self._fetch_ahead(message, delivered)
        if dice.random() < plan.scanned:
            self._scan(message, delivered)
        if dice.random() < plan.complained:
            message.add("complained", self._between(delivered + HUMAN_DELAY_S_MIN, until))
        if dice.random() >= plan.opened:
            return
        proxy = VIEW_PROXIES.get(message.recipient.partition("@")[2])
        at = self._between(delivered + (1 if proxy else HUMAN_DELAY_S_MIN), until)
        person = {"user_agent": message.agent, "ip": message.ip}
        reader = {"user_agent": proxy, "ip": "203.0.113.255"} if proxy else person
        message.add("opened", at, **reader)
        if dice.random() < 0.25:
            message.add("opened", at + dice.randint(60, 600), **reader)
        clicks = dice.randint(1, 2) if dice.random() < plan.clicked else 0
        at = max(at, delivered + CLICK_DELAY_S_MIN)
        for _ in range(clicks):
            at += dice.randint(BETWEEN_CLICKS_S_MIN, BETWEEN_CLICKS_S_MIN + 60)
            url = f"https://shop.example/{plan.name}/{dice.randint(0, 4)}"
            message.add("clicked", at, url=url, **person)
        if dice.random() < plan.unsubscribed:
            at += dice.randint(BETWEEN_CLICKS_S_MIN, BETWEEN_CLICKS_S_MIN + 60)
            url = f"https://shop.example/unsubscribe?m={message.message_id}"
            message.add("clicked", at, url=url, unsubscribe=True, **person)
            message.add("unsubscribed", at + 5)

    def _fetch_ahead(self, message: _Message, delivered: int) -> None:
        """Images that nobody, or nobody that can be known of, asked for."""
        dice = self._dice
        ip = f"198.51.100.{dice.randint(1, 254)}"
        if dice.random() < message.plan.prefetched:
            at = delivered + dice.randint(3, 40)
            message.add("opened", at, doubt=UNKNOWN, user_agent=APPLE_MPP, ip=ip)
        elif message.recipient.endswith("@gmail.com") and dice.random() < PREFETCHED_SHARE:
            at = delivered + dice.randint(1, 3)
            message.add("opened", at, doubt=MACHINE, user_agent=GMAIL_PREFETCH, ip=ip)

    def _scan(self, message: _Message, delivered: int) -> None:
        """A scanner loads the images, and half a minute later checks all links."""
        dice = self._dice
        gap = dice.randint(1, 2)
        at = delivered + dice.randint(3, 20)
        if at + SCANNED_LINKS * gap + 90 > message.now_s:
            return  # it has not ended yet: half of it would look human
        scanner = {"doubt": PROBABLY_MACHINE, "user_agent": SCANNER, "ip": "192.0.2.10"}
        message.add("opened", at, **scanner)
        at += dice.randint(15, 90)
        for number in range(SCANNED_LINKS):
            url = f"https://shop.example/{message.plan.name}/{number}"
            message.add("clicked", at + gap * number, url=url, **scanner)

    def _between(self, low: int, high: int) -> int:
        """A random moment, more likely early than late, like opens."""
        share = self._dice.random() ** 2.5
        return low + int(share * max(1, high - low))
