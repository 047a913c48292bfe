"""Resend's history: the log of the events that were meant for one webhook.

Invariants:
1. An event of the log has the exact payload that the webhook sends, and its id is the ``svix-id``.
2. The log is of one webhook, so it has the kinds of events that this was subscribed to, and no
   others; a webhook that was deleted or made after the gap has none of the gap's events.
3. The list is read from its newest event back to the window's beginning, since it takes no times:
   until a page has nothing of the window or later, as one odd time must not end it.

Sources: Resend, «Headless Webhook API» (September 2026), «List Events», «Retrieve Event» and «Rate
limit» (2 requests a second for a team). Not verified, since no live account was reachable: that an
event's id is the ``svix-id``; how long the log is kept.
"""

from collections.abc import Mapping
from typing import ClassVar
from urllib.parse import quote

from ingest.providers import fields, history, items
from ingest.providers.base import Parsed
from ingest.providers.history import Account, State, Turn, Window
from ingest.providers.resend import build
from ingest.providers.shapes import member_list, read_object
from schemas.errors import BadInput
from schemas.event import Event
from schemas.history_api import Answer, Ask
from schemas.settings import Source

LIST_LIMIT = 100
"""Most events of a page, as documented."""


class ResendHistory(history.History):
    """See the module.

    The state: ``begin``, ``until`` of the window; ``cursor``: the id that the next page follows,
    ``pages`` and ``mark`` as of ``history.next_page``; ``more``: whether there is one; ``at``: how
    far back the list was read; ``queue``: ids of events that are still to read; ``survey``: they
    are only counted.
    """

    name = "resend"
    origins: ClassVar[Mapping[str, str]] = {"us": "https://api.resend.com"}
    gap_s = 0.5
    kinds: ClassVar[frozenset[str]] = frozenset()
    """All (invariant 2)."""
    reads = "the webhook's event log, a request for each event"
    table = (
        'api_key = "env:RESEND_API_KEY"',
        'webhook_id = "…"               # of the webhook that posts to this source',
    )
    lists = "events"

    def problems(self, source: Source) -> list[str]:
        """See ``History.problems``."""
        if not Account(source, "").access.webhook_id:
            return [f"sources.{source.name}.history.webhook_id: missing; the webhook has it"]
        return []

    def begin(self, account: Account, window: Window, *, survey: bool) -> State:
        """See ``History.begin``."""
        return {"begin": window.begin_us, "until": window.until_us, **history.FIRST_PAGE,
                "more": True, "at": window.until_us, "queue": [], "survey": survey}  # fmt: skip

    def ask(self, account: Account, state: State) -> Ask | None:
        """See ``History.ask``."""
        headers = (("authorization", f"Bearer {account.key}"), ("accept", "application/json"))
        log = f"/webhooks/{quote(account.access.webhook_id, safe='')}/events"
        if state["queue"]:
            return Ask("GET", f"{log}/{quote(state['queue'][0], safe='')}", headers)
        if not state["more"]:
            return None
        after = f"&after={quote(state['cursor'], safe='')}" if state["cursor"] else ""
        return Ask("GET", f"{log}?limit={LIST_LIMIT}{after}", headers)

    def take(self, account: Account, state: State, answer: Answer, received_at: int) -> Turn:
        """See ``History.take``."""
        state = history.settled(state, answer, received_at)
        content = read_object(answer.body)
        if not state["queue"]:
            return self._list(account, state, content)
        after = {**state, "queue": state["queue"][1:]}
        return Turn(after, _parsed(account.source, content, received_at))

    def _list(self, account: Account, state: State, content: items.Item) -> Turn:
        page = [fields.as_dict(one) for one in member_list(content, "data")]
        if not page:
            cut = ("the list ends, though the API says that it goes on",)
            return Turn({**state, "more": False}, cut=cut if content.get("has_more") else ())
        times = [fields.microseconds(one.get("created_at")) for one in page]
        newest = max((at for at in times if at is not None), default=state["at"])
        after = {**state, "at": min(state["at"], newest), "more": False}
        if content.get("has_more") and newest >= state["begin"]:
            after = {**history.next_page(after, _last(page)), "more": True}
        return self._chosen(account, after, page, times)

    def _chosen(
        self, account: Account, state: State, page: list[items.Item], times: list[int | None]
    ) -> Turn:
        """The turn of a page, whose events of the window are to be read next."""
        kinds = history.wanted(account, self.kinds)
        taken, left, gone = [], 0, 0
        for one, at in zip(page, times, strict=True):
            identity = fields.identifier(one.get("id"))
            kind = one.get("type")
            if (kinds and isinstance(kind, str) and kind not in kinds) or not (
                at is None or state["begin"] <= at < state["until"]
            ):
                left += 1
            elif identity is None:
                gone += 1
            else:
                taken.append(identity)
        if state["survey"]:
            return Turn(state, left_out=left, listed=len(taken), gone=gone)
        return Turn({**state, "queue": taken}, left_out=left, gone=gone)

    def refused(self, account: Account, state: State, answer: Answer) -> Turn | None:
        """An event that is gone since it was listed has nothing to read; nor has a lost cursor."""
        if answer.status != 404 or not state["queue"]:
            return None
        return Turn({**state, "queue": state["queue"][1:]}, gone=1)

    def share(self, state: State) -> float:
        """See ``History.share``."""
        if not state["more"] and not state["queue"]:
            return 1.0
        return 1.0 - history.portion(state["at"], state["begin"], state["until"])


def _last(page: list[items.Item]) -> str:
    """The id that the next page follows.

    Raises:
        BadInput: ``no_page``: the page's last event has none.
    """
    last = fields.identifier(page[-1].get("id"))
    if last is None:
        raise BadInput("no_page", "the last event of a page has no id")
    return last


def _parsed(source: Source, content: items.Item, received_at: int) -> Parsed:
    own = fields.identifier(content.get("id"))

    def built(item: items.Item) -> list[Event]:
        if own is None:
            raise BadInput("no_event_id", "the event has no id")
        return history.pulled(build(item, source, received_at, own))

    return items.parse_items([content.get("payload")], built)


HISTORY = ResendHistory()
