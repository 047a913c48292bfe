"""Runs a pull: asks, keeps, notes how far it is, until everything was read.

Invariants:
1. A page is kept (acknowledged by Kafka) before the progress that it makes is saved. So a kill
   anywhere costs one page that is read again, whose events are then duplicates.
2. Nothing is asked faster than the API allows (``streams.books.pace``).
3. What the shell does is given as ``Effects``; there is no clock and no network in here.
"""

from collections.abc import Sequence
from typing import Protocol

from schemas.errors import BadInput, Unavailable
from streams.books.pace import KEY, Means, judge
from streams.books.pull import Answer, Page, Progress, Pull, Record, Request


class Unanswered(Exception):
    """A request had no whole answer in time and size; the text says why."""


class Effects(Protocol):
    """What a run does to the world."""

    async def fetch(self, request: Request) -> Answer:
        """The API's answer.

        Raises:
            Unanswered: there was none.
        """

    async def keep(self, records: Sequence[Record]) -> None:
        """Returns once Kafka has acknowledged all records."""

    async def known(self, page: Page) -> int:
        """How many of a page's events were stored before, as far as can be told."""

    def save(self, progress: Progress) -> None:
        """Notes the progress; it is on the disk when this returns."""

    def tell(self, progress: Progress, share: float, waiting: str) -> None:
        """Shows the progress, and what is waited for."""

    async def sleep(self, seconds: float) -> None:
        """Waits."""

    def now(self) -> float:
        """Seconds since 1970."""

    def clock(self) -> float:
        """Monotonic seconds."""

    def chance(self) -> float:
        """A random number between 0 and 1."""


async def run(pull: Pull, progress: Progress, effects: Effects) -> Progress:
    """Reads the rest of a pull; returns its last progress.

    Raises:
        Unavailable: the API or Kafka does not answer; running it again goes on from there.
        BadInput: the API refuses, or answers what it does not document.
    """
    next_at = effects.clock()
    while (request := pull.ask(progress.state)) is not None:
        began = effects.clock()
        await effects.sleep(max(0.0, next_at - began))
        next_at = effects.clock() + pull.gap_s
        answer, wait_s = await _answered(pull, request, progress, effects)
        next_at = max(next_at, effects.clock() + wait_s)
        page = _page(pull, progress, answer, effects)
        known = await effects.known(page)
        await effects.keep(page.records)
        progress = progress.after(page, known, effects.clock() - began)
        effects.save(progress)
        effects.tell(progress, pull.share(progress.state), "")
    return progress


async def _answered(
    pull: Pull, request: Request, progress: Progress, effects: Effects
) -> tuple[Answer, float]:
    """A good answer, or one that refuses for good; and how long the next request waits."""
    tries = 0
    while True:
        answer, said = None, ""
        try:
            answer = await effects.fetch(request)
        except Unanswered as error:
            said = str(error)
        verdict = judge(answer, tries, effects.now(), effects.chance())
        why = f"{verdict.why} ({said})" if said else verdict.why
        if verdict.means is Means.STOP or (answer is None and verdict.means is not Means.AGAIN):
            raise Unavailable(
                f"the provider's API: {why}; run it again later, it goes on from here"
            )
        if answer is not None and verdict.means is not Means.AGAIN:
            return answer, verdict.wait_s
        tries += 1
        effects.tell(progress, pull.share(progress.state), f"{why}: waits {verdict.wait_s:,.0f} s")
        await effects.sleep(max(pull.gap_s, verdict.wait_s))


def _page(pull: Pull, progress: Progress, answer: Answer, effects: Effects) -> Page:
    if 200 <= answer.status < 300:
        return pull.take(progress.state, answer, int(effects.now() * 1_000_000))
    after = pull.refused(progress.state, answer)
    if after is None:
        about = "; is history.api_key right, and may it read?" if answer.status in KEY else ""
        raise BadInput("api_refused", f"the provider's API answers HTTP {answer.status}{about}")
    return Page(after)
