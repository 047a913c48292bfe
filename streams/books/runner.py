"""Runs a pull: asks, keeps, notes how far it is, until everything was read.

Invariants:
1. A page is kept (acknowledged by Kafka) before the progress that it makes is saved. So a kill
   anywhere loses nothing: one page is read again, and its events are duplicates, known by their id.
2. Nothing is asked faster than the API allows (``streams.books.pace``).
3. What the shell does is given as ``Effects``; there is no clock and no network in here.
"""

from collections.abc import Sequence
from typing import Protocol

from schemas.errors import BadInput, Unavailable
from schemas.history_api import Answer, Ask
from streams.books.pace import KEY, Means, judge
from streams.books.pull import Page, Progress, Pull, Record


class Unanswered(Exception):
    """A request had no whole answer in time and size; the text says why."""


class Effects(Protocol):
    """What a run does to the world."""

    async def fetch(self, request: Ask) -> Answer:
        """The API's answer.

        Raises:
            Unanswered: there was none.
        """

    async def keep(self, records: Sequence[Record]) -> None:
        """Returns once Kafka has acknowledged all records."""

    async def known(self, page: Page) -> int | None:
        """How many of a page's events are stored already; ``None``: nobody knows."""

    def save(self, progress: Progress) -> None:
        """Notes the progress; it is on the disk when this returns."""

    def tell(self, progress: Progress, share: float) -> None:
        """Shows the progress."""

    async def wait(self, seconds: float, why: str) -> None:
        """Waits before the next request; ``why`` it must be repeated, empty for the usual pace."""

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
    asking = _Asking(pull.gap_s, effects)
    while (request := pull.ask(progress.state)) is not None:
        began = effects.clock()
        answer = await asking.answered(request)
        page = _page(pull, progress, answer, effects)
        known = await effects.known(page)
        await effects.keep(page.records)
        progress = progress.after(page, known, effects.clock() - began)
        effects.save(progress)
        effects.tell(progress, pull.share(progress.state))
    return progress


class _Asking:
    """Asks the API, no faster than it allows.

    Args:
        gap_s: least time from one request to the next.
    """

    def __init__(self, gap_s: float, effects: Effects) -> None:
        self._gap_s = gap_s
        self._effects = effects
        self._next_at = effects.clock()
        self._why = ""

    async def answered(self, request: Ask) -> Answer:
        """A good answer, or one that refuses for good.

        Raises:
            Unavailable: there is none, or the API asks to wait for too long.
        """
        tries = 0
        while True:
            answer, said = await self._fetch(request)
            verdict = judge(answer, tries, self._effects.now(), self._effects.chance())
            why = f"{verdict.why} ({said})" if said else verdict.why
            self._why = why if verdict.means is Means.AGAIN else ""
            self._next_at = max(self._next_at, self._effects.clock() + verdict.wait_s)
            if verdict.means is Means.AGAIN:
                tries += 1
            elif answer is None or verdict.means is Means.STOP:
                raise Unavailable(f"the provider's API: {why}")
            else:
                return answer

    async def _fetch(self, request: Ask) -> tuple[Answer | None, str]:
        """The answer, or why there is none."""
        effects = self._effects
        wait_s = max(0.0, self._next_at - effects.clock())
        await effects.wait(wait_s, self._why)
        self._next_at = effects.clock() + self._gap_s
        try:
            return await effects.fetch(request), ""
        except Unanswered as error:
            return None, str(error)


def _page(pull: Pull, progress: Progress, answer: Answer, effects: Effects) -> Page:
    if 200 <= answer.status < 300:
        return pull.take(progress.state, answer, int(effects.now() * 1_000_000))
    after = pull.refused(progress.state, answer)
    if after is None:
        about = "; is history.api_key right, and may it read?" if answer.status in KEY else ""
        raise BadInput("api_refused", f"the provider's API answers HTTP {answer.status}{about}")
    return after
