"""How often incidents are false and how soon real ones are found, over 10,000 simulated campaigns.

Each campaign has its size, length, mailbox providers and disorder: outcomes arrive seconds to a
minute after they happened, bounces before deliveries; some webhooks stall; complaints come hours to
days later. The judgement is the workers' own, with the default lines and hold.

* Healthy: the true rate is the line itself, or anything below. An incident of any place and level
  is false.
* Bad: the true rate is twice the line. Found: an incident by what 50 / line messages alone show,
  their late feedback included, if they are sent within the judged 24 hours.
* To find: messages judged when the line was first crossed, in campaigns of any size from 50 / line
  to 500,000; and the time from then until the incident is opened is the hold.

Seeds are fixed: the figures are the same on every machine. No broker is used.
"""

import heapq
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from schemas.glossary import COUNTER_INDEX
from streams.campaigns.incidents import Held, Key, look
from streams.campaigns.lines import Lines
from streams.campaigns.measures import DELIVERED, SENT, Judged
from streams.enrich.vectors import WIDTH

SIZE_MIN, SIZE_MAX = 200, 500_000
LINES = {"hard_bounce_rate": 0.02, "complaint_rate": 0.001}
"""The lowest default line of each rate."""
MAILBOXES = ("gmail", "microsoft", "yahoo", "apple", "other")
SLICES = 40
LOOK_S = 10
"""Between two looks while something arrives."""
BEGIN_S = 1_790_000_000
MINUTE_US = 60_000_000
DISORDER_S = {"delivered": (3.0, 15.0, 40.0), "bounced_hard": (1.0, 5.0, 20.0)}
"""Delays of most reports, of a third and of a tenth; each is drawn from half to three halves."""
PARTS = (0.6, 0.3, 0.1)
FEEDBACK_MEDIAN_S = 4 * 3600
"""Of complaints, lognormal with sigma 1.5: a twentieth comes after two days."""
QUICK, WHOLE = 300, 10_000
Generator = np.random.Generator


COUNTED_AS = {
    "delivered": ("delivered", "attempt_sent"),
    "bounced_hard": ("bounced_hard", "attempt_sent", "attempt_bounced_hard"),
    "cohort_complained": ("cohort_complained",),
}
"""Outcome of a message at its first attempt, or a complaint -> counters of the glossary."""


class Arrival(NamedTuple):
    """Outcomes that arrive at a second, for a minute."""

    at_s: int
    mailbox: str
    minute: int
    outcome: str
    number: int


@dataclass(frozen=True, slots=True)
class Found:
    """What became of a rate.

    Attributes:
        opened: whether it had an incident.
        messages: judged when the line was first crossed.
        after_s: seconds from the first message until the incident was opened.
    """

    opened: bool
    messages: int = 0
    after_s: int = 0


def arrivals(
    rng: Generator, size: int, rate: str, true_rate: float, days_share: float = 0.15
) -> list[Arrival]:
    """A campaign's counts by when they arrive; ``days_share`` of campaigns last days."""
    many_days = rng.random() < days_share
    length_s = 86_400 * rng.uniform(2, 12) if many_days else 60 * 10 ** rng.uniform(0, 2.5)
    weights = rng.dirichlet(np.ones(SLICES) * rng.choice([0.3, 5.0]))  # bursts, or an even flow
    share = rng.dirichlet(np.array([4.5, 2.0, 1.0, 1.0, 1.5]))
    cells = rng.multinomial(size, np.outer(weights, share).ravel()).reshape(SLICES, len(MAILBOXES))
    stall_s = 600.0 if rng.random() < 0.1 else 0.0
    out: list[Arrival] = []
    for number, mailbox in np.ndindex(cells.shape):
        messages = int(cells[number, mailbox])
        if not messages:
            continue
        happened_s = BEGIN_S + length_s * number / SLICES
        bad = int(rng.binomial(messages, true_rate))
        bounced = bad if rate == "hard_bounce_rate" else 0
        late_s = stall_s if 10 <= number < 14 else 0.0
        for outcome, count in (("delivered", messages - bounced), ("bounced_hard", bounced)):
            out += _told(rng, happened_s, late_s, MAILBOXES[mailbox], outcome, count)
        if rate == "complaint_rate" and bad:
            delays = FEEDBACK_MEDIAN_S * np.exp(1.5 * rng.standard_normal(bad))
            out += [
                Arrival(int(happened_s + 60 + delay), MAILBOXES[mailbox], int(happened_s // 60),
                        "cohort_complained", 1)
                for delay in delays
            ]  # fmt: skip
    return out


def _told(
    rng: Generator, happened_s: float, late_s: float, mailbox: str, outcome: str, count: int
) -> Iterator[Arrival]:
    minute = int(happened_s // 60)
    for some, delay_s in zip(rng.multinomial(count, PARTS), DISORDER_S[outcome], strict=True):
        if some:
            at_s = int(happened_s + late_s + delay_s * rng.uniform(0.5, 1.5))
            yield Arrival(at_s, mailbox, minute, outcome, int(some))


def judge(campaign: list[Arrival], rate: str) -> Found:
    """Looks whenever something arrived, and once more after the hold."""
    judged, held, lines = Judged(), dict[Key, Held](), Lines()
    span = SENT if rate == "hard_bounce_rate" else DELIVERED
    key = ("a", rate)
    queue = list(campaign)
    heapq.heapify(queue)
    first_s = queue[0].at_s
    crossed = 0
    while queue:
        at_s = queue[0].at_s + LOOK_S
        while queue and queue[0].at_s <= at_s:
            one = heapq.heappop(queue)
            delta = [0] * WIDTH
            for counter in COUNTED_AS[one.outcome]:
                delta[COUNTER_INDEX[counter]] = one.number
            judged.add(one.mailbox, one.minute, delta)
        looks = [at_s]
        hold_s = lines.hold_us // 1_000_000
        if not queue or queue[0].at_s > at_s + hold_s:
            looks.append(at_s + hold_s)
        for moment_s in looks:
            _, changed = look("a", judged, held, lines, moment_s * 1_000_000)
            held.update(changed)
            now = held.get(key)
            if now and now.pending > 0 and now.pending_us == moment_s * 1_000_000:
                window = judged.window(span, moment_s // 60)
                crossed = sum(sums[0] for sums in window.values())
            if now and now.level:
                return Found(True, crossed, moment_s - first_s)
    return Found(False)


def sizes(rng: Generator, least: int) -> int:
    """A campaign's size: every order of magnitude equally often."""
    return int(np.exp(rng.uniform(np.log(least), np.log(SIZE_MAX))))


def measure(rate: str, number: int) -> dict[str, float]:
    """The figures of one rate."""
    line = LINES[rate]
    rng = np.random.default_rng([7, int(1 / line)])
    wrong = 0
    for index in range(number):
        true_rate = line if index % 2 else line * rng.random()
        wrong += judge(arrivals(rng, sizes(rng, SIZE_MIN), rate, true_rate), rate).opened
    least, tries = round(50 / line), number // 10
    hits = sum(
        judge(arrivals(rng, least, rate, 2 * line, days_share=0), rate).opened for _ in range(tries)
    )
    longer = [judge(arrivals(rng, sizes(rng, least), rate, 2 * line), rate) for _ in range(tries)]
    found = [one for one in longer if one.opened]
    name = rate.removesuffix("_rate")
    out = {
        f"false_incidents_per_1000_{name}": 1000 * wrong / number,
        f"found_at_twice_the_line_{name}": hits / tries,
    }
    for part in (5, 50, 95):
        messages = np.percentile([one.messages for one in found], part)
        waited = np.percentile([one.after_s for one in found], part)
        out[f"messages_to_find_p{part}_{name}"] = float(messages)
        out[f"seconds_to_find_p{part}_{name}"] = float(waited)
    return out


def run(_kafka_bootstrap: str, quick: bool) -> dict[str, float]:
    """The figures by name; each rate in a process of its own."""
    number = QUICK if quick else WHOLE
    with ProcessPoolExecutor() as pool:
        parts = list(pool.map(measure, LINES, [number] * len(LINES)))
    out = {name: value for part in parts for name, value in part.items()}
    names = [rate.removesuffix("_rate") for rate in LINES]
    out["false_incidents_per_1000"] = max(out[f"false_incidents_per_1000_{n}"] for n in names)
    out["found_at_twice_the_line"] = min(out[f"found_at_twice_the_line_{n}"] for n in names)
    out["median_messages_to_find"] = out["messages_to_find_p50_hard_bounce"]
    return out
