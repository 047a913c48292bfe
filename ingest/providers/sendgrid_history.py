"""SendGrid's history: Email Logs, which list messages by creation and give one message's events.

Invariants:
1. A list has no pages and 1,000 messages at most: the stretch of time is halved until it has fewer.
   A second with more is read in part, and that is said.
2. An event is the webhook's, but for ``custom_args``, which the webhook has beside its own fields,
   and for what the API says of the message alone (``_OF_MESSAGE``).
3. Email Activity is not read: its events have no ``sg_event_id``.

Sources: twilio/sendgrid-oai, ``tsg_logs_v3.yaml`` (``sg_event_id`` and ``sg_message_id`` of every
event, 100 events of a message, the newest) and «Email Logs» (30 days). Not verified, since no live
account was reachable: that ``sg_event_id`` is the webhook's; the rate limit, for which the headers
``X-RateLimit-*`` are heeded.
"""

from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import quote, urlencode

import orjson

from ingest.providers import fields, history, items
from ingest.providers.base import Parsed
from ingest.providers.history import SECOND_US, Account, State, Turn, Window
from ingest.providers.sendgrid_events import EVENTS, OWN_FIELDS, build
from ingest.providers.shapes import member_list, read_object
from schemas.history_api import Answer, Ask
from schemas.settings import Source

LIST_MAX, EVENTS_MAX = 1_000, 100
"""Most messages of a list, and most events of a message, as documented."""
SPAN_US = 3600 * SECOND_US
"""How long a stretch is at first and at most."""
_OF_MESSAGE = (
    "category", "asm_group_id", "marketing_campaign_id", "marketing_campaign_name",
    "marketing_campaign_split_id", "marketing_campaign_version",
)  # fmt: skip
_NAMES = {"drop": "dropped"}
"""The specification's own table of states calls it so."""


class SendGridHistory(history.History):
    """See the module.

    The state: ``begin``, ``until`` of the window; ``sent``: since when messages are listed; ``at``
    and ``span``: the stretch that is listed; ``queue``: its messages that are still to read;
    ``survey``: they are only counted.
    """

    name = "sendgrid"
    origins: ClassVar[Mapping[str, str]] = {
        "us": "https://api.sendgrid.com",
        "eu": "https://api.eu.sendgrid.com",
    }
    keeps_s = 30 * 86400
    kinds = frozenset(EVENTS)
    reads = "Email Logs, a request for each message"
    table = (
        'api_key = "env:SENDGRID_API_KEY"',
        'region = "us"                  # or "eu"',
        "subaccounts = []               # one subuser's number; default: the account's own",
    )
    lists = "messages"
    by_message = True

    def problems(self, source: Source) -> list[str]:
        """See ``History.problems``."""
        given = Account(source, "").access.subaccounts
        if len(given) > 1 or not all(one.isdigit() for one in given):
            return [f"sources.{source.name}.history.subaccounts: one subuser's number at most"]
        return []

    def begin(self, account: Account, window: Window, *, survey: bool) -> State:
        """See ``History.begin``."""
        sent = window.sent_us // SECOND_US * SECOND_US
        return {"begin": window.begin_us, "until": window.until_us, "sent": sent, "at": sent,
                "span": SPAN_US, "queue": [], "survey": survey}  # fmt: skip

    def ask(self, account: Account, state: State) -> Ask | None:
        """See ``History.ask``."""
        headers = (("authorization", f"Bearer {account.key}"), ("accept", "application/json"))
        subusers = account.access.subaccounts
        if state["queue"]:
            of = f"?{urlencode({'subuser': subusers[0]})}" if subusers else ""
            message = quote(state["queue"][0], safe="")
            return Ask("GET", f"/v3/logs/{message}{of}", headers)
        if state["at"] >= state["until"]:
            return None
        begin, until = (
            f'sg_message_id_created_at {sign} TIMESTAMP "{fields.moment(at):%Y-%m-%dT%H:%M:%SZ}"'
            for sign, at in ((">=", state["at"]), ("<", self._end(state)))
        )
        query: dict[str, Any] = {"query": f"{begin} AND {until}", "limit": LIST_MAX}
        if subusers:
            query["subusers"] = list(subusers)
        return Ask(
            "POST", "/v3/logs", (*headers, ("content-type", "application/json")),
            orjson.dumps(query),
        )  # fmt: skip

    @staticmethod
    def _end(state: State) -> int:
        return int(state["at"] + state["span"])

    def take(self, account: Account, state: State, answer: Answer, received_at: int) -> Turn:
        """See ``History.take``."""
        state = history.settled(state, answer, received_at)
        content = read_object(answer.body)
        if state["queue"]:
            return self._events(account, state, content, received_at)
        page = member_list(content, "messages")
        found = [
            identity
            for message in page
            if (identity := fields.identifier(fields.as_dict(message).get("sg_message_id")))
        ]
        full = len(page) >= LIST_MAX
        if full and state["span"] > SECOND_US:
            half = max(SECOND_US, state["span"] // 2 // SECOND_US * SECOND_US)
            return Turn({**state, "span": half})
        second = f"{fields.moment(state['at']):%Y-%m-%dT%H:%M:%SZ}"
        cut = (f"more than {LIST_MAX:,} messages of {second}: {LIST_MAX:,} were read",)
        queue = [] if state["survey"] else list(dict.fromkeys(found))
        after = {**state, "queue": queue}
        listed = len(found) if state["survey"] else 0
        return Turn(
            after if queue else _onward(after), listed=listed, gone=len(page) - len(found),
            cut=cut if full else (),
        )  # fmt: skip

    def _events(
        self, account: Account, state: State, message: Mapping[str, Any], received_at: int
    ) -> Turn:
        page = member_list(dict(message), "events")
        kinds = history.wanted(account, self.kinds)
        begin_us = history.believed_since(state["begin"], received_at)
        choice = history.Choice(kinds, begin_us, state["until"])
        as_sent = [as_webhook(one, message) if isinstance(one, dict) else one for one in page]
        taken, left = choice.of(as_sent, "event", "timestamp")
        cut = (f"a message has {EVENTS_MAX} events or more: the newest were read",)
        return Turn(
            _read_one(state), _parsed(account.source, taken, received_at), left,
            cut=cut if len(page) >= EVENTS_MAX else (),
        )  # fmt: skip

    def refused(self, account: Account, state: State, answer: Answer) -> Turn | None:
        """A message that is gone since it was listed has no events to read."""
        is_gone = state["queue"] and answer.status == 404
        return Turn(_read_one(state), gone=1) if is_gone else None

    def share(self, state: State) -> float:
        """See ``History.share``."""
        return history.portion(state["at"], state["sent"], state["until"])


def _read_one(state: State) -> State:
    """The state after the first message of the queue was read."""
    after = {**state, "queue": state["queue"][1:]}
    return after if after["queue"] else _onward(after)


def _onward(state: State) -> State:
    """The state at the next stretch, which may be twice as long."""
    span = state["span"]
    return {**state, "at": state["at"] + span, "span": min(SPAN_US, span * 2)}


def _parsed(source: Source, taken: list[object], received_at: int) -> Parsed:
    identities = items.native_ids("sendgrid", source.account)
    believed = fields.believable_seconds(received_at)
    return history.parse(
        taken, lambda item: build(item, source, received_at, identities, believed),
        identity="sg_event_id",
    )  # fmt: skip


def as_webhook(event: items.Item, message: Mapping[str, Any]) -> items.Item:
    """An event of a message's log as an item of a webhook (invariant 2)."""
    own = {name: value for name, value in event.items() if name in OWN_FIELDS}
    of_message = {name: message[name] for name in _OF_MESSAGE if message.get(name)}
    custom = {
        **fields.as_dict(message.get("custom_args")),
        **fields.as_dict(event.get("custom_args")),
    }
    as_sent = {name: value for name, value in custom.items() if name not in OWN_FIELDS}
    kind = own.get("event")
    if isinstance(kind, str):
        own["event"] = _NAMES.get(kind, kind)
    return {**as_sent, **of_message, **own}


HISTORY = SendGridHistory()
