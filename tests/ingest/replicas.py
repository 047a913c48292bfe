"""Replicas of providers' history APIs, by their documentation: paging, refusals, lateness.

Invariants:
1. They share no code with what they test: an event is written as the API writes it and as the
   webhook sends it, from one ``Happening``.
2. ``answer(request, now)`` is a function of the replica's state; trouble comes from its own dice.
"""

import base64
import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

KEY = "key-of-the-replica"
DOMAIN = "mg.example.com"
WEBHOOK = "4dd369bc-aa82-4ff3-97de-514ae3000ee0"


@dataclass(frozen=True)
class Happening:
    """One event. ``number`` is its identity, ``appears_s`` when the API has it."""

    number: int
    message: int
    kind: str
    at_s: float
    appears_s: float = 0.0
    sent_s: float = 0.0

    @property
    def recipient(self) -> str:
        return f"reader{self.message}@example.com"


@dataclass
class Trouble:
    """How often the API answers otherwise than it should, each 0 to 1; and its clock and waits."""

    busy: float = 0.0
    unauthorized: float = 0.0
    broken: float = 0.0
    forgets: float = 0.0
    skew_s: float = 0.0
    retry_after_s: int = 2


@dataclass
class Replica:
    """An API with its events; subclasses write them."""

    happenings: list[Happening]
    trouble: Trouble = field(default_factory=Trouble)
    dice: random.Random = field(default_factory=lambda: random.Random(1))
    page: int = 7
    asked: int = 0

    def answer(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes, now_s: float
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body."""
        self.asked += 1
        date = datetime.fromtimestamp(now_s + self.trouble.skew_s, UTC)
        said = {"date": format_datetime(date, usegmt=True), "content-type": "application/json"}
        if not self.is_key(headers.get("authorization", "")):
            return 401, said, b"{}"
        roll = self.dice.random
        if roll() < self.trouble.unauthorized:
            return 401, said, b"{}"
        if roll() < self.trouble.busy:
            return 429, {**said, "retry-after": str(self.trouble.retry_after_s)}, b"{}"
        if roll() < self.trouble.broken:
            return self.dice.choice((500, 502, 503)), said, b"<html>"
        there = [one for one in self.happenings if one.appears_s <= now_s]
        status, content = self.content(method, target, body, there)
        return status, said, json.dumps(content).encode()

    def is_key(self, authorization: str) -> bool:
        return authorization == f"Bearer {KEY}"

    def content(
        self, method: str, target: str, body: bytes, there: list[Happening]
    ) -> tuple[int, Any]:
        raise NotImplementedError

    def hook(self, one: Happening) -> tuple[bytes, tuple[tuple[str, str], ...]]:
        """Body and headers of the webhook's request for one event."""
        raise NotImplementedError


def iso(at_s: float) -> str:
    moment = datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=round(at_s * 1000))
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


# --- Mailgun --------------------------------------------------------------------------------------

MAILGUN_KINDS = ("accepted", "delivered", "opened", "clicked", "failed")


class MailgunReplica(Replica):
    """Both APIs; tokens say where a page begins, and are forgotten now and then."""

    has_logs = True

    def is_key(self, authorization: str) -> bool:
        return authorization == "Basic " + base64.b64encode(f"api:{KEY}".encode()).decode()

    def _item(self, one: Happening) -> dict[str, Any]:
        item: dict[str, Any] = {
            "event": one.kind, "id": f"event{one.number:08d}", "recipient": one.recipient,
            "tags": ["spring"], "user-variables": {"team": "news"},
            "message": {"headers": {"message-id": f"{one.message}@{DOMAIN}"}},
        }  # fmt: skip
        if one.kind == "failed":
            item |= {"severity": "permanent", "reason": "bounce",
                     "delivery-status": {"code": 550, "message": "no such user"}}  # fmt: skip
        if one.kind == "clicked":
            item |= {"url": "https://example.com/", "ip": "198.51.100.7"}
        return item

    def hook(self, one: Happening) -> tuple[bytes, tuple[tuple[str, str], ...]]:
        item = {**self._item(one), "timestamp": one.at_s}
        return json.dumps({"signature": {}, "event-data": item}).encode(), ()

    def content(
        self, method: str, target: str, body: bytes, there: list[Happening]
    ) -> tuple[int, Any]:
        if method == "POST":
            return self._logs(json.loads(body), there)
        return self._events(target, there)

    def _logs(self, query: dict[str, Any], there: list[Happening]) -> tuple[int, Any]:
        if not self.has_logs:
            return 403, {"message": "not in your plan"}
        begin, end = (parsedate_to_datetime(query[name]).timestamp() for name in ("start", "end"))
        found = sorted(
            (one for one in there if begin <= one.at_s < end and one.kind in query["events"]),
            key=lambda one: one.at_s,
        )
        paging = query["pagination"]
        assert paging["limit"] <= 100
        at = int(paging.get("token", "0"))
        if at and self.dice.random() < self.trouble.forgets:
            return 400, {"message": "token"}
        items = [
            {**self._item(one), "@timestamp": iso(one.at_s),
             "user-variables": json.dumps({"team": "news"}), "domain": {"name": DOMAIN}}
            for one in found[at : at + self.page]
        ]  # fmt: skip
        following = {"next": str(at + self.page)} if items else {}
        return 200, {"items": items, "pagination": {**following, "total": len(found)}}

    def _events(self, target: str, there: list[Happening]) -> tuple[int, Any]:
        parts = urlsplit(target)
        assert parts.path == f"/v3/{DOMAIN}/events"
        given = {name: values[0] for name, values in parse_qs(parts.query).items()}
        assert given["ascending"] == "yes"
        assert int(given["limit"]) <= 300
        found = sorted(
            (one for one in there if float(given["begin"]) <= one.at_s <= float(given["end"])),
            key=lambda one: one.at_s,
        )
        at = int(given.get("page", "0"))
        items = [{**self._item(one), "timestamp": one.at_s} for one in found[at : at + self.page]]
        more = urlencode({**given, "page": at + self.page})
        following = f"https://api.mailgun.net{parts.path}?{more}"
        return 200, {"items": items, "paging": {"next": following}}


# --- SparkPost ------------------------------------------------------------------------------------

SPARKPOST_KINDS = ("injection", "delivery", "open", "initial_open", "click", "bounce")


class SparkPostReplica(Replica):
    """Newest first; ``from`` and ``to`` by the minute; numbers are texts, times ISO."""

    links_are_a_list = True

    def is_key(self, authorization: str) -> bool:
        return authorization == KEY

    def _item(self, one: Happening) -> dict[str, Any]:
        item: dict[str, Any] = {
            "type": one.kind, "event_id": f"9235{one.number:012d}",
            "transmission_id": f"6583{one.message:012d}", "message_id": f"0004{one.message:016x}",
            "rcpt_to": one.recipient, "raw_rcpt_to": one.recipient.upper(), "campaign_id": "spring",
        }  # fmt: skip
        if one.kind == "bounce":
            item |= {"bounce_class": "10", "error_code": "550", "raw_reason": "550 no such user"}
        return item

    def hook(self, one: Happening) -> tuple[bytes, tuple[tuple[str, str], ...]]:
        inner = {**self._item(one), "timestamp": str(int(one.at_s))}
        return json.dumps([{"msys": {"message_event": inner}}]).encode(), ()

    def content(
        self, method: str, target: str, body: bytes, there: list[Happening]
    ) -> tuple[int, Any]:
        parts = urlsplit(target)
        given = {name: values[0] for name, values in parse_qs(parts.query).items()}
        assert int(given["per_page"]) <= 10_000
        begin, end = (
            datetime.strptime(given[name], "%Y-%m-%dT%H:%M").replace(tzinfo=UTC).timestamp()
            for name in ("from", "to")
        )
        kinds = given["events"].split(",")
        found = sorted(
            (one for one in there if begin <= one.at_s < end and one.kind in kinds),
            key=lambda one: -one.at_s,
        )
        at = 0 if given["cursor"] == "initial" else int(given["cursor"].removeprefix("c="))
        if at and self.dice.random() < self.trouble.forgets:
            return 400, {"errors": [{"message": "cursor"}]}
        page = found[at : at + self.page]
        results = [{**self._item(one), "timestamp": iso(one.at_s)[:-1] + "+00:00"} for one in page]
        links: Any = []
        if at + self.page < len(found):
            more = urlencode({**given, "cursor": f"c={at + self.page}"})
            links = [{"href": f"{parts.path}?{more}", "rel": "next"}]
        if not self.links_are_a_list:
            links = {"next": links[0]["href"]} if links else {}
        return 200, {"results": results, "total_count": len(found), "links": links}


# --- SendGrid -------------------------------------------------------------------------------------

SENDGRID_KINDS = ("processed", "delivered", "open", "click", "bounce")


class SendGridReplica(Replica):
    """Messages by creation, ``page`` of them at most for 1,000; events of one message."""

    list_max = 1_000

    def _message(self, number: int) -> str:
        return f"message{number:08d}.recvd-5f54b5d587-0001.{number}"

    def _item(self, one: Happening) -> dict[str, Any]:
        item: dict[str, Any] = {
            "event": one.kind, "email": one.recipient, "timestamp": int(one.at_s),
            "sg_event_id": f"sgevent{one.number:08d}", "sg_message_id": self._message(one.message),
            "category": ["spring"],
        }  # fmt: skip
        if one.kind == "bounce":
            item |= {"reason": "550 5.1.1 unknown", "status": "5.1.1", "type": "bounce"}
        if one.kind == "click":
            item |= {"url": "https://example.com/", "ip": "198.51.100.7"}
        return item

    def hook(self, one: Happening) -> tuple[bytes, tuple[tuple[str, str], ...]]:
        return json.dumps([{**self._item(one), "team": "news"}]).encode(), ()

    def content(
        self, method: str, target: str, body: bytes, there: list[Happening]
    ) -> tuple[int, Any]:
        if method == "GET":
            wanted = unquote(urlsplit(target).path.rpartition("/")[2])
            mine = [one for one in there if self._message(one.message) == wanted]
            if not mine:
                return 404, {"errors": [{"message": "not found"}]}
            events = [{**self._item(one), "custom_args": {"team": "news"}} for one in mine[-100:]]
            return 200, {"sg_message_id": wanted, "to_email": mine[0].recipient, "events": events,
                         "category": ["spring"], "status": "delivered"}  # fmt: skip
        query = json.loads(body)
        assert query["limit"] <= 1_000
        times = [
            datetime.fromisoformat(part.split('"')[1]).timestamp()
            for part in query["query"].split(" AND ")
        ]
        sent = {one.message: one.sent_s for one in there}
        found = [number for number, at in sorted(sent.items()) if times[0] <= at < times[1]]
        return 200, {"messages": [
            {"sg_message_id": self._message(number), "sg_message_id_created_at": iso(sent[number])}
            for number in found[: self.list_max]
        ]}  # fmt: skip


# --- Resend ---------------------------------------------------------------------------------------

RESEND_KINDS = ("email.sent", "email.delivered", "email.opened", "email.clicked", "email.bounced")


class ResendReplica(Replica):
    """A webhook's log, newest first, ``after`` an id; payloads one by one."""

    def _payload(self, one: Happening) -> dict[str, Any]:
        data: dict[str, Any] = {
            "email_id": f"00000000-0000-4000-8000-{one.message:012d}",
            "to": [one.recipient],
            "tags": [{"name": "team", "value": "news"}],
        }
        if one.kind == "email.bounced":
            data["bounce"] = {"type": "Permanent", "subType": "General", "message": "no such user"}
        return {"type": one.kind, "created_at": iso(one.at_s), "data": data}

    def hook(self, one: Happening) -> tuple[bytes, tuple[tuple[str, str], ...]]:
        return json.dumps(self._payload(one)).encode(), (("svix-id", f"msg_{one.number:08d}"),)

    def content(
        self, method: str, target: str, body: bytes, there: list[Happening]
    ) -> tuple[int, Any]:
        parts = urlsplit(target)
        log = f"/webhooks/{WEBHOOK}/events"
        assert parts.path.startswith(log)
        newest_first = sorted(there, key=lambda one: (-one.at_s, one.number))
        if parts.path != log:
            wanted = parts.path.rpartition("/")[2]
            for one in newest_first:
                if f"msg_{one.number:08d}" == wanted:
                    return 200, {"object": "webhook_event", "id": wanted, "status": "failed",
                                 "type": one.kind, "payload": self._payload(one)}  # fmt: skip
            return 404, {}
        given = {name: values[0] for name, values in parse_qs(parts.query).items()}
        names = [f"msg_{one.number:08d}" for one in newest_first]
        at = names.index(given["after"]) + 1 if "after" in given else 0
        count = min(self.page, int(given["limit"]))
        data = [
            {"id": f"msg_{one.number:08d}", "type": one.kind, "created_at": iso(one.at_s)}
            for one in newest_first[at : at + count]
        ]
        return 200, {"object": "list", "has_more": at + count < len(names), "data": data}


REPLICAS: dict[str, tuple[Callable[..., Replica], tuple[str, ...]]] = {
    "mailgun": (MailgunReplica, MAILGUN_KINDS),
    "sparkpost": (SparkPostReplica, SPARKPOST_KINDS),
    "sendgrid": (SendGridReplica, SENDGRID_KINDS),
    "resend": (ResendReplica, RESEND_KINDS),
}
"""Provider -> its replica, and the kinds of events that it has."""


def happened(
    kinds: tuple[str, ...], begin_s: float, end_s: float, count: int, seed: int
) -> list[Happening]:
    """Events at random times, of messages that were sent before them; some appear late."""
    dice = random.Random(seed)
    made = []
    sent: dict[int, float] = {}
    for number in range(count):
        message = dice.randrange(max(1, count // 3))
        at = round(dice.uniform(begin_s, end_s), 3)
        sent[message] = min(sent.get(message, at), at)
        late = dice.uniform(0, 1700) if dice.random() < 0.3 else 0.0
        made.append(Happening(number, message, dice.choice(kinds), at, at + late))
    return [
        Happening(one.number, one.message, one.kind, one.at_s, one.appears_s, sent[one.message])
        for one in made
    ]


def history_table(provider: str, url: str = "") -> dict[str, Any]:
    """The table ``[sources.NAME.history]`` for a replica."""
    table: dict[str, Any] = {"api_key": "env:MAILPULSE_TEST_HISTORY_KEY", "url": url}
    if provider == "mailgun":
        table["domains"] = [DOMAIN]
    if provider == "resend":
        table["webhook_id"] = WEBHOOK
    return table
