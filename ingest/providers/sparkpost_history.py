"""SparkPost's history: the Events API, whose events the webhook's documentation tells to merge by
``event_id``.

Invariants:
1. An item is the content of a webhook's class (no ``msys`` around it), with its time as ISO text;
   that is turned into the epoch text of the webhook.
2. ``initial_open`` and ``amp_initial_open`` are not taken unless named: a source has one kind of
   open, and the history has both.

Sources: SparkPost, «Events» (kept for 10 days, ``from`` and ``to`` by the minute, newest first,
``links``) and «Webhook data streams» (gaps are filled by this API, and repeats known by
``event_id``). Rate limits are not numbered: 429 says to wait. No live account was reachable.
"""

from collections.abc import Mapping
from typing import ClassVar
from urllib.parse import urlencode, urlsplit

from ingest.providers import fields, history, items
from ingest.providers.base import Parsed
from ingest.providers.history import SECOND_US, Account, SlicedHistory, State
from ingest.providers.shapes import member_list, read_object
from ingest.providers.sparkpost import EVENTS, build
from schemas.errors import BadInput
from schemas.history_api import Answer, Ask
from schemas.settings import Source

PATH = "/api/v1/events/message"
PAGE_EVENTS = 1_000
"""Per page; 10,000 are allowed, and would be 15 MB of JSON."""


class SparkPostHistory(SlicedHistory):
    """See the module. The cursor is the path of the next page."""

    name = "sparkpost"
    origins: ClassVar[Mapping[str, str]] = {
        "us": "https://api.sparkpost.com",
        "eu": "https://api.eu.sparkpost.com",
    }
    keeps_s = 10 * 86400
    kinds = frozenset(EVENTS) - {"initial_open", "amp_initial_open"}
    reads = "Events API"
    table = (
        'api_key = "env:SPARKPOST_API_KEY"',
        'region = "us"                  # or "eu"',
        "subaccounts = []               # numbers; default: all",
    )
    grain_us = 60 * SECOND_US

    def problems(self, source: Source) -> list[str]:
        """See ``History.problems``."""
        odd = [one for one in Account(source, "").access.subaccounts if not one.isdigit()]
        return [f"sources.{source.name}.history.subaccounts: not a number: {one!r}" for one in odd]

    def page(self, account: Account, state: State, begin_us: int, until_us: int) -> Ask:
        """See ``SlicedHistory.page``."""
        headers = (("authorization", account.key), ("accept", "application/json"))
        if state["cursor"] is not None:
            return Ask("GET", str(state["cursor"]), headers)
        given = {
            "from": f"{fields.moment(begin_us):%Y-%m-%dT%H:%M}",
            "to": f"{fields.moment(until_us):%Y-%m-%dT%H:%M}",
            "events": ",".join(sorted(history.wanted(account, self.kinds))),
            "per_page": str(PAGE_EVENTS),
            "cursor": "initial",
        }
        if account.access.subaccounts:
            given["subaccounts"] = ",".join(account.access.subaccounts)
        return Ask("GET", f"{PATH}?{urlencode(given)}", headers)

    def read(
        self, account: Account, state: State, answer: Answer
    ) -> tuple[list[object], object | None]:
        """See ``SlicedHistory.read``."""
        content = read_object(answer.body)
        return member_list(content, "results"), _next(content.get("links"))

    def parsed(
        self, account: Account, state: State, page: list[object], received_at: int
    ) -> tuple[Parsed, int]:
        """See ``SlicedHistory.parsed``."""
        choice = self.choice(account, state, received_at)
        taken, left = choice.of(page, "type", "timestamp")
        as_sent = [as_webhook(item) if isinstance(item, dict) else item for item in taken]
        return history.parse(
            as_sent, lambda item: build(item, account.source, received_at, None),
            identity="event_id",
        ), left  # fmt: skip


def as_webhook(item: items.Item) -> items.Item:
    """An item as the content of a webhook's class: its time in seconds since 1970, as text."""
    at = fields.microseconds(item.get("timestamp"))
    if at is None:
        return item
    seconds, rest = divmod(at, SECOND_US)
    return {**item, "timestamp": f"{seconds}.{rest:06d}" if rest else f"{seconds}"}


def _next(links: object) -> str | None:
    """Path and query of the next page, from either documented form of ``links``.

    Raises:
        BadInput: ``other_host``: it is not below the API's origin.
    """
    found = fields.as_dict(links).get("next")
    for link in fields.as_list(links):
        if fields.as_dict(link).get("rel") == "next":
            found = link.get("href")
    if isinstance(found, dict):
        found = found.get("href")
    if not found:
        return None
    parts = urlsplit(str(found))
    if parts.scheme or parts.netloc or not parts.path.startswith("/"):
        raise BadInput("other_host", "the next page is not below the API's own address")
    return f"{parts.path}?{parts.query}"


HISTORY = SparkPostHistory()
