"""A provider's history as ``streams.books`` reads it: ``ingest``'s functions behind its protocol.

Invariants:
1. Events go through ingress's own steps (normalisation, privacy, encoding, keying), and what can't
   be kept as an event becomes a dead letter, as there.
2. An event that is read again by the same process, as when an API forgot a cursor, is in no page:
   the page before was kept. That is for exact figures; repeats are duplicates, as after a kill.
"""

from collections import Counter
from collections.abc import Sequence
from itertools import islice

from ingest.intake import Intake
from ingest.providers.base import Parsed
from ingest.providers.history import Account, History, Window
from schemas.event import Event
from schemas.history_api import Answer, Ask
from schemas.topics import DEAD_LETTERS, RAW
from streams.books.pull import Page, Record, State
from streams.classify.actor_rules import HUMAN, MACHINE, UNKNOWN, Rules
from streams.classify.actors import by_itself

_JUDGED = ("opened", "clicked")
RECENT_MAX = 100_000
"""Events whose ids are remembered for invariant 2: more than an hour's slice; 12 MB."""
_NO_MACHINE = ("none", "human")
"""Words of a provider that ascribe nothing to a machine."""


class ProviderPull:
    """One source's history.

    Args:
        read: the provider's.
        account: the source, and the key of its API.
        intake: encodes; it has the privacy setting.
        rules: that tell machines from people.
        remembered_us: events that are older when they are read are left out, microseconds.
    """

    def __init__(
        self, read: History, account: Account, intake: Intake, rules: Rules, remembered_us: int
    ) -> None:
        self._read = read
        self._account = account
        self._intake = intake
        self._rules = rules
        self._remembered_us = remembered_us
        self._recent: dict[str, None] = {}
        self.gap_s = read.gap_s

    def begin(self, window: Window, *, survey: bool) -> State:
        """See ``History.begin``."""
        return self._read.begin(self._account, window, survey=survey)

    def ask(self, state: State) -> Ask | None:
        """See ``Pull.ask``."""
        return self._read.ask(self._account, state)

    def take(self, state: State, answer: Answer, received_at: int) -> Page:
        """See ``Pull.take``."""
        turn = self._read.take(self._account, state, answer, received_at)
        oldest = received_at - self._remembered_us
        found = [one for one in turn.parsed.events if one["event_id"] not in self._recent]
        recent = [one for one in found if one["occurred_at"] >= oldest]
        self._remember([one["event_id"] for one in recent])
        kept = self._intake.pulled(
            self._account.source, Parsed(recent, turn.parsed.rejects), received_at
        )
        records: list[Record] = [(RAW, key, value) for key, value in kept.parcel.events]
        records += [(DEAD_LETTERS, key, value) for key, value in kept.parcel.dead_letters]
        return Page(
            turn.state, records, Counter(one["event_type"] for one in kept.events),
            [one["event_id"] for one in kept.events], [one["occurred_at"] for one in kept.events],
            refused=len(kept.parcel.dead_letters), left_out=turn.left_out,
            too_old=len(found) - len(recent), listed=turn.listed, gone=turn.gone,
            machines=self._theirs_alone(kept.events), cut=turn.cut,
        )  # fmt: skip

    def _remember(self, ids: Sequence[str]) -> None:
        self._recent.update(dict.fromkeys(ids))
        for one in list(islice(self._recent, max(0, len(self._recent) - RECENT_MAX))):
            del self._recent[one]

    def _theirs_alone(self, events: Sequence[Event]) -> Counter[str]:
        """The opens and clicks that the provider ascribes to a machine and our rules do not."""
        found: Counter[str] = Counter()
        for event in events:
            kind, said = event["event_type"], event["machine_kind"]
            if kind not in _JUDGED or said in _NO_MACHINE:
                continue
            verdict = by_itself(
                kind, said, event["user_agent"], event["ip"], event["click_url"], self._rules
            )
            actor = HUMAN if verdict is None else verdict[0]
            if actor != MACHINE:
                found[f"{kind}, {said}: {'unknown' if actor == UNKNOWN else 'human'}"] += 1
        return found

    def refused(self, state: State, answer: Answer) -> Page | None:
        """See ``Pull.refused``."""
        turn = self._read.refused(self._account, state, answer)
        return None if turn is None else Page(turn.state, gone=turn.gone, cut=turn.cut)

    def share(self, state: State) -> float:
        """See ``Pull.share``."""
        return self._read.share(state)
