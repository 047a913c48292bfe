"""Mailgun's history: the Logs API, and the older Events API of a domain where a plan lacks it.

Invariants:
1. The webhook's ``event-data`` is an event of the Events API. An item of the Logs API has
   ``@timestamp`` (ISO, in milliseconds) in the place of ``timestamp`` and its ``user-variables`` as
   text: both are turned into what the webhook sends.
2. The UTC date of the event is part of its id. Milliseconds and microseconds give the same date,
   unless Mailgun rounds up in the last half millisecond of a day.
3. Pages of the Events API are URLs: one that leads to another host is not followed.

Sources: Mailgun documentation, «Logs», «Events», «Event Polling» (events are inserted into pages
younger than 30 minutes) and «Event Structure» (``id``). Not verified, since no live account was
reachable: that ``id`` of the Logs API is the webhook's; that its items have ``message.headers``;
how long a page's token is valid.
"""

import base64
from collections.abc import Mapping
from email.utils import format_datetime
from typing import Any, ClassVar
from urllib.parse import quote, urlencode, urlsplit

import orjson

from ingest.providers import fields, history, items
from ingest.providers.base import Parsed
from ingest.providers.history import SECOND_US, Account, SlicedHistory, State, Turn, Window
from ingest.providers.mailgun import build
from ingest.providers.shapes import member_list, read_object
from schemas.errors import BadInput
from schemas.history_api import Answer, Ask
from schemas.settings import Source

LOGS_LIMIT, EVENTS_LIMIT = 100, 300
"""Most items of a page, as documented."""


class MailgunHistory(SlicedHistory):
    """See the module; the state also has ``api``, ``logs`` or ``events``, and ``domain``, which of
    the domains the Events API is asked for."""

    name = "mailgun"
    origins: ClassVar[Mapping[str, str]] = {
        "us": "https://api.mailgun.net",
        "eu": "https://api.eu.mailgun.net",
    }
    kinds = frozenset(
        "accepted delivered failed rejected opened clicked complained unsubscribed".split()
    )
    reads = "Logs API, or the Events API of each domain where the plan lacks it"
    table = (
        'api_key = "env:MAILGUN_API_KEY"',
        'region = "us"                  # or "eu"',
        'domains = ["mg.example.com"]   # needed where the plan lacks the Logs API; default: all',
    )

    def problems(self, source: Source) -> list[str]:
        """See ``History.problems``."""
        odd = [name for name in Account(source, "").access.domains if "/" in name or not name]
        return [f"sources.{source.name}.history.domains: not a domain: {name!r}" for name in odd]

    def begin(self, account: Account, window: Window, *, survey: bool) -> State:
        """See ``History.begin``."""
        return {**super().begin(account, window, survey=survey), "api": "logs", "domain": 0}

    def page(self, account: Account, state: State, begin_us: int, until_us: int) -> Ask:
        """See ``SlicedHistory.page``."""
        basic = base64.b64encode(f"api:{account.key}".encode()).decode()
        headers = (("authorization", f"Basic {basic}"), ("accept", "application/json"))
        if state["api"] == "events":
            return Ask("GET", self._events_target(account, state, begin_us, until_us), headers)
        body = orjson.dumps(self._query(account, state, begin_us, until_us))
        return Ask(
            "POST", "/v1/analytics/logs", (*headers, ("content-type", "application/json")), body
        )

    def _query(
        self, account: Account, state: State, begin_us: int, until_us: int
    ) -> dict[str, Any]:
        paging: dict[str, Any] = {"sort": "timestamp:asc", "limit": LOGS_LIMIT}
        if state["cursor"] is not None:
            paging["token"] = state["cursor"]
        query: dict[str, Any] = {
            "start": _mail_date(begin_us),
            "end": _mail_date(until_us),
            "events": sorted(history.wanted(account, self.kinds)),
            "pagination": paging,
        }
        if domains := account.access.domains:
            values = [{"label": name, "value": name} for name in domains]
            only = {"attribute": "domain", "comparator": "=", "values": values}
            query["filter"] = {"AND": [only]}
        return query

    def _events_target(self, account: Account, state: State, begin_us: int, until_us: int) -> str:
        if state["cursor"] is not None:
            return str(state["cursor"])
        given = {"begin": begin_us // SECOND_US, "end": until_us // SECOND_US, "ascending": "yes",
                 "limit": EVENTS_LIMIT}  # fmt: skip
        domain = account.access.domains[state["domain"]]
        return f"/v3/{quote(domain, safe='')}/events?{urlencode(given)}"

    def read(
        self, account: Account, state: State, answer: Answer
    ) -> tuple[list[object], object | None]:
        """See ``SlicedHistory.read``."""
        content = read_object(answer.body)
        page = member_list(content, "items")
        if state["api"] == "logs":
            found = fields.as_dict(content.get("pagination")).get("next")
        else:
            found = fields.as_dict(content.get("paging")).get("next")
        if not page or not found:  # the last page has a next one too, which is empty
            return page, None
        if not isinstance(found, str):
            raise BadInput("no_page", "the next page is no text")
        return page, found if state["api"] == "logs" else self._target_of(account, found)

    def _target_of(self, account: Account, url: str) -> str:
        parts = urlsplit(url)
        # a proxy before the API may keep its URLs, so both origins are Mailgun's
        known = {*self.origins.values(), account.access.url}
        if f"{parts.scheme}://{parts.netloc}" not in known:
            raise BadInput("other_host", "the next page is on another host")
        return f"{parts.path}?{parts.query}"

    def parsed(
        self, account: Account, state: State, page: list[object], received_at: int
    ) -> tuple[Parsed, int]:
        """See ``SlicedHistory.parsed``."""
        choice = self.choice(account, state, received_at)
        as_sent = [as_webhook(item) if isinstance(item, dict) else item for item in page]
        taken, left = choice.of(as_sent, "event", "timestamp")
        return history.parse(
            taken, lambda item: build(item, account.source, received_at), identity="id"
        ), left

    def after_slice(self, account: Account, state: State) -> State:
        """See ``SlicedHistory.after_slice``."""
        further = state["domain"] + 1
        if state["api"] == "events" and further < len(account.access.domains):
            return {**state, **history.FIRST_PAGE, "domain": further}
        return {**super().after_slice(account, state), "domain": 0}

    def refused(self, account: Account, state: State, answer: Answer) -> Turn | None:
        """Without the Logs API, the domains' Events APIs are read, from the slice's beginning."""
        after = super().refused(account, state, answer)
        lacks = answer.status in (402, 403, 404, 405)
        if after is None and state["api"] == "logs" and lacks and account.access.domains:
            return Turn({**state, **history.FIRST_PAGE, "api": "events"})
        return after


def as_webhook(item: items.Item) -> items.Item:
    """An item of either API as the ``event-data`` of a webhook."""
    said = item.get("user-variables")
    if isinstance(said, str):
        try:
            item = {**item, "user-variables": orjson.loads(said)}
        except ValueError:
            item = {**item, "user-variables": {}}
    if "timestamp" in item or "@timestamp" not in item:
        return item
    at = fields.microseconds(item["@timestamp"])
    own = {name: value for name, value in item.items() if name != "@timestamp"}
    return {**own, "timestamp": None if at is None else at / SECOND_US}


def _mail_date(at_us: int) -> str:
    """A time as RFC 2822 writes it, in UTC and whole seconds."""
    return format_datetime(fields.moment(at_us))


HISTORY = MailgunHistory()
