"""Resend's history: the log of the events that were meant for one webhook.

Invariants:
1. An event of the log has the exact payload that the webhook sends, and its id is the ``svix-id``.
2. The log is of one webhook, so it has the kinds of events that this was subscribed to, and no
   others; a webhook that was deleted or made after the gap has none of the gap's events.
3. The list is read from its newest event back to the window's beginning, since it takes no times.

Sources: Resend, «Headless Webhook API» (September 2026), «List Events», «Retrieve Event» and «Rate
limit» (2 requests a second for a team). Not verified, since no live account was reachable: that an
event's id is the ``svix-id``; how long the log is kept.
"""

from collections.abc import Mapping
from typing import ClassVar
from urllib.parse import quote

from ingest.providers import fields, history, items
from ingest.providers.base import Parsed
from ingest.providers.history import Account, Answer, Ask, State, Turn, Window
from ingest.providers.resend import build
from ingest.providers.shapes import member_list, read_object
from schemas.errors import BadInput
from schemas.event import Event
from schemas.settings import Source

LIST_LIMIT = 100
"""Most events of a page, as documented."""


class ResendHistory(history.History):
    """See the module.

    The state: ``begin``, ``until`` of the window; ``after``: the id that the next page follows;
    ``more``: whether there is one; ``at``: the oldest time seen; ``queue``: ids of events that are
    still to read; ``survey``: they are only counted.
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
        return {"begin": window.begin_us, "until": window.until_us, "after": None, "more": True,
                "at": window.until_us, "queue": [], "survey": survey}  # fmt: skip

    def ask(self, account: Account, state: State) -> Ask | None:
        """See ``History.ask``."""
        headers = (("authorization", f"Bearer {account.key}"), ("accept", "application/json"))
        log = f"/webhooks/{quote(account.access.webhook_id, safe='')}/events"
        if state["queue"]:
            return Ask("GET", f"{log}/{quote(state['queue'][0], safe='')}", headers)
        if not state["more"]:
            return None
        after = f"&after={quote(state['after'], safe='')}" if state["after"] else ""
        return Ask("GET", f"{log}?limit={LIST_LIMIT}{after}", headers)

    def take(self, account: Account, state: State, answer: Answer, received_at: int) -> Turn:
        """See ``History.take``."""
        state = history.settled(state, answer)
        content = read_object(answer.body)
        if not state["queue"]:
            return self._list(account, state, content)
        after = {**state, "queue": state["queue"][1:]}
        return Turn(after, _parsed(account.source, content, received_at))

    def _list(self, account: Account, state: State, content: items.Item) -> Turn:
        page = [one for one in member_list(content, "data") if isinstance(one, dict)]
        times = [fields.microseconds(one.get("created_at")) for one in page]
        known = [at for at in times if at is not None]
        last = fields.identifier(page[-1].get("id")) if page else None
        if page and (last is None or last == state["after"]):
            raise BadInput("same_page", "the API gives a page as its own next one")
        oldest = min([state["at"], *known])
        more = bool(content.get("has_more")) and bool(page) and oldest >= state["begin"]
        kinds = history.wanted(account, self.kinds)
        taken, left = [], 0
        for one, at in zip(page, times, strict=True):
            wanted = not kinds or one.get("type") in kinds
            identity = fields.identifier(one.get("id"))
            if identity and wanted and (at is None or state["begin"] <= at < state["until"]):
                taken.append(identity)
            else:
                left += 1
        after = {**state, "after": last or state["after"], "more": more, "at": oldest}
        if state["survey"]:
            return Turn(after, left_out=left, listed=len(taken))
        return Turn({**after, "queue": taken}, left_out=left)

    def refused(self, account: Account, state: State, answer: Answer) -> State | None:
        """An event that is gone since it was listed has nothing to read; nor has a lost cursor."""
        if answer.status != 404 or not state["queue"]:
            return None
        return {**state, "queue": state["queue"][1:]}

    def share(self, state: State) -> float:
        """See ``History.share``."""
        if not state["more"] and not state["queue"]:
            return 1.0
        return 1.0 - history.portion(state["at"], state["begin"], state["until"])


def _parsed(source: Source, content: items.Item, received_at: int) -> Parsed:
    own = fields.identifier(content.get("id"))

    def built(item: items.Item) -> list[Event]:
        if own is None:
            raise BadInput("no_event_id", "the event has no id")
        return history.pulled(build(item, source, received_at, own))

    return items.parse_items([content.get("payload")], built)


HISTORY = ResendHistory()
