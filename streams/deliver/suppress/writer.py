"""Writes suppressions to the lists of one provider account. **Not tried on a live account.**

Invariants:
1. As of every sender: connections go to judged addresses, redirects are not followed, every wait
   and every answer is bounded, and no error has a secret in it.
2. In a dry run nothing is sent, not even a question; what would be written is counted.
3. An answer is told without secrets, whatever their coding there, and as one line.
4. Reading a list ends: no page is read twice, and at most ``LIST_PAGES_MAX`` are.
5. What is not written is counted by its reason, and said in the log once for each thing that it is
   about.
6. A batch has taken effect when all of its calls have; otherwise all of it is repeated.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Self

import orjson
import structlog

from streams.deliver.bodies import Body
from streams.deliver.connection import Connections, NoAnswer, one_line, tls_context
from streams.deliver.destinations import SECTION
from streams.deliver.outcomes import DELIVERED, Blame, Outcome
from streams.deliver.suppress.accounts import Account
from streams.deliver.suppress.changes import Change, LeftOut, Target, settled, suppressed_of
from streams.deliver.suppress.driver import Pace, drive
from streams.deliver.suppress.exchange import (
    SAID_CHARS_MAX,
    Answer,
    Call,
    Entry,
    Unreadable,
    failure,
    not_understood,
)

log = structlog.get_logger("mailpulse.deliver")

ANSWER_BYTES_MAX = 4 << 20
"""Of an answer to a change."""
LIST_BYTES_MAX = 256 << 20
"""Of one page of a list: Postmark's has no pages."""
LIST_PAGES_MAX = 20_000
"""Of one list: ten million addresses of Twilio SendGrid, whose pages are the smallest."""
TOLD_MAX = 1_000
"""Things left out that the log has been told of; further ones are only counted."""
WHY: Mapping[LeftOut, str] = {
    LeftOut.OWN: "its own source reported it",
    LeftOut.REASON: "its reason is not among those to write",
    LeftOut.NOT_HELD: "the provider has no list for this reason; 'lists' may name another",
    LeftOut.NOT_MAPPED: "this scope is not mapped to a place of the provider; see 'scopes'",
    LeftOut.NO_ADDRESS: "it has no address that a provider would take",
    LeftOut.NOT_LIFTED: "it is not known who put it there, or for whom else; see 'lifts'",
}
_SILENT = frozenset((LeftOut.OWN, LeftOut.REASON))
"""As the file says, so not worth a warning."""
Count = Callable[[str, int], None]


class Writer:
    """The lists of one account. An async context manager.

    Args:
        account: whose.
        count: called with what was done (``put``, ``lifted``, ``would_put``, ``would_lift``, or a
            ``LeftOut``) and how many entries or records that were. What is lifted is taken off if
            it is there, and ``lifts`` allows it.
        clock: seconds since 1970.

    Raises:
        ConfigError: a certificate file can't be read.
    """

    def __init__(
        self, account: Account, count: Count | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self.account = account
        self._count = count or (lambda _what, _number: None)
        self._clock = clock
        self._rules = account.rules
        self._provider = account.provider
        self._pace = Pace(account.calls_per_s)
        self._told: set[tuple[LeftOut, str]] = set()
        self._connections = Connections(
            account.networks, tls_context(f"{SECTION}.{account.name}", account.ca_file),
            account.concurrency, account.connect_timeout_s, account.timeout_s, {},
        )  # fmt: skip

    async def __aenter__(self) -> Self:
        await self._connections.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._connections.__aexit__(*error)

    async def send(self, bodies: Sequence[Body]) -> Outcome:
        """Writes what records say; returns what came of it, whatever that is."""
        changes: list[Change] = []
        left_out: Counter[str] = Counter()
        for body in bodies:
            told = self._rules.of(suppressed_of(orjson.loads(body.json), body.at_us))
            changes += told.changes
            if told.left_out is not None:
                left_out[told.left_out] += 1
                self._tell(told.left_out, told.about)
        entries = settled(changes, self._provider.entry)
        outcome = DELIVERED if self.account.dry_run else await self._write(entries)
        if outcome.delivered:
            self._count_all(entries, left_out)
        return outcome

    async def _write(self, entries: Sequence[Change]) -> Outcome:
        if not entries:
            return DELIVERED
        conversation = self._provider.changes(entries, may_remove=self.account.may_remove)
        try:
            outcome = await drive(conversation, self._call)
        except NoAnswer as error:
            return error.outcome
        return replace(outcome, said=self._line(outcome.said))

    async def listed(self, target: Target) -> list[Entry]:
        """The addresses on one list of the provider.

        Raises:
            Unreadable: it can't be read; the text says why.
        """
        asked: set[tuple[str, str]] = set()

        async def once(call: Call) -> Answer:
            page = call.path, call.query
            if page in asked or len(asked) >= LIST_PAGES_MAX:
                raise Unreadable("its pages do not end")
            asked.add(page)
            return await self._call(call)

        try:
            return await drive(self._provider.listed(target), once)
        except NoAnswer as error:
            raise Unreadable(error.outcome.said) from None
        except Unreadable as error:
            raise Unreadable(self._line(str(error))) from None

    async def probe(self) -> Outcome:
        """Asks for each list that it writes to, and changes nothing."""
        for target in self._rules.targets:
            listing = self._provider.listed(target)
            try:
                answer = await self._call(next(listing))
            except NoAnswer as error:
                return error.outcome
            finally:
                listing.close()
            if not answer.ok:
                said = self._provider.message(answer)
                told = self._line(f"{target}: {answer.status} {said}")
                return replace(failure(answer, said, 0.0), said=told)
        return DELIVERED

    async def _call(self, call: Call) -> Answer:
        """Makes one call, in its turn.

        Raises:
            NoAnswer: there is none.
        """
        await self._pace.turn()
        url = self.account.base_url + call.path + (f"?{call.query}" if call.query else "")
        headers = self.account.headers(call, self._clock())
        if call.body:
            headers["content-type"] = "application/json"
        most = ANSWER_BYTES_MAX if call.writes else LIST_BYTES_MAX
        reply = await self._connections.request(
            call.method, url, call.body, headers, most, encoded=True
        )
        if not reply.whole:
            raise NoAnswer(Outcome(f"{reply.status}: its answer is cut off", Blame.UNKNOWN))
        answer = Answer(reply.status, reply.body, reply.headers, self._clock())
        if call.writes and answer.ok and reply.body.lstrip().startswith(b"<"):
            raise NoAnswer(not_understood(answer))  # a page, as of a proxy: nothing was written
        return answer

    def _line(self, said: str) -> str:
        """What an answer says, whole and decoded, as it may be told."""
        return one_line(said, self.account.hidden, SAID_CHARS_MAX)

    def _count_all(self, entries: Sequence[Change], left_out: Counter[str]) -> None:
        names = ("would_lift", "would_put") if self.account.dry_run else ("lifted", "put")
        done = left_out + Counter(names[change.on] for change in entries)
        for what, number in done.items():
            self._count(what, number)

    def _tell(self, why: LeftOut, about: str) -> None:
        """Once for each thing (invariant 5)."""
        if why in _SILENT or (why, about) in self._told or len(self._told) >= TOLD_MAX:
            return
        self._told.add((why, about))
        log.warning(
            "suppressions are not written", destination=self.account.name, because=WHY[why],
            about=about,
        )  # fmt: skip
