"""A provider's history as ``streams.books`` reads it: ``ingest``'s functions behind its protocol.

Invariant: events go through the ingress's own steps (normalisation, privacy, encoding, keying), and
what can't be kept as an event becomes a dead letter, as there.
"""

from collections import Counter

from ingest.intake import Intake
from ingest.providers import history
from ingest.providers.base import Parsed
from ingest.providers.history import Account, History
from schemas.topics import DEAD_LETTERS, RAW
from streams.books.pull import Answer, Page, Record, Request, State


class ProviderPull:
    """One source's history.

    Args:
        read: the provider's.
        account: the source, and the key of its API.
        intake: encodes; it has the privacy setting.
        remembered_us: events that are older when they are read are left out, microseconds.
    """

    def __init__(self, read: History, account: Account, intake: Intake, remembered_us: int) -> None:
        self._read = read
        self._account = account
        self._intake = intake
        self._remembered_us = remembered_us
        self.gap_s = read.gap_s

    def ask(self, state: State) -> Request | None:
        """See ``Pull.ask``."""
        ask = self._read.ask(self._account, state)
        return None if ask is None else Request(ask.method, ask.target, ask.headers, ask.body)

    def take(self, state: State, answer: Answer, received_at: int) -> Page:
        """See ``Pull.take``."""
        turn = self._read.take(self._account, state, _theirs(answer), received_at)
        oldest = received_at - self._remembered_us
        events = [one for one in turn.parsed.events if one["occurred_at"] >= oldest]
        parcel = self._intake.pulled(
            self._account.source, Parsed(events, turn.parsed.rejects), received_at
        )
        records: list[Record] = [(RAW, key, value) for key, value in parcel.events]
        records += [(DEAD_LETTERS, key, value) for key, value in parcel.dead_letters]
        return Page(
            turn.state, records, Counter(one["event_type"] for one in events),
            [one["event_id"] for one in events], [one["occurred_at"] for one in events],
            rejects=len(parcel.dead_letters),
            left_out=turn.left_out + len(turn.parsed.events) - len(events),
            listed=turn.listed, cut=turn.cut,
        )  # fmt: skip

    def refused(self, state: State, answer: Answer) -> State | None:
        """See ``Pull.refused``."""
        return self._read.refused(self._account, state, _theirs(answer))

    def share(self, state: State) -> float:
        """See ``Pull.share``."""
        return self._read.share(state)


def _theirs(answer: Answer) -> history.Answer:
    return history.Answer(answer.status, answer.headers, answer.body)
