"""How providers report what happened: payloads, their resolution of time, their flags, the order
and repeats of their arrival; read by mailpulse's own parsers into raw events."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from ingest.providers import REGISTRY
from ingest.providers.base import Request
from schemas.event import Event
from schemas.settings import Source
from tests.verdicts import parameters as p
from tests.verdicts.campaign import UNSUBSCRIBE, Act, Plan
from tests.verdicts.population import Person
from tests.verdicts.truth import Kind, Truth

SCANS = frozenset(kind for kind in Kind if kind.startswith("machine_scan"))


@dataclass(frozen=True)
class Report:
    """An act as a provider sees it.

    Attributes:
        number: of the act in its campaign.
        flagged: the provider recognises what did it, if it has a flag for that.
    """

    number: int
    act: Act
    plan: Plan
    person: Person
    flagged: bool

    @property
    def url(self) -> str:
        """Of the clicked link."""
        base = f"https://shop.example/{self.plan.name}"
        if self.act.link == UNSUBSCRIBE:
            return f"{base}/unsubscribe"
        mangled = "?v=qwhqoc" if self.act.mangled else ""
        return f"{base}/offer-{self.act.link}{mangled}"

    @property
    def message(self) -> str:
        """The provider's id of the message."""
        return f"{self.plan.number:06d}-{self.act.message:06d}"

    @property
    def second(self) -> int:
        """When it happened, as a provider of whole seconds tells it."""
        return int(self.act.at_s)

    def iso(self, digits: int) -> str:
        """When it happened, as text with so many digits after the second, at most 6."""
        at = datetime.fromtimestamp(self.act.at_s, UTC)
        return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond:06d}"[: 20 + digits] + "Z"


def _sendgrid(report: Report) -> Any:
    act = report.act
    item = {
        "email": report.person.address, "timestamp": report.second,
        "event": {"delivered": "delivered", "opened": "open", "clicked": "click"}[act.what],
        "category": [report.plan.name], "sg_event_id": f"{report.plan.number}-{report.number}",
        "sg_message_id": f"{report.message}.recvd-5f54b5d587-abcde-1.0",
    }  # fmt: skip
    if act.what != "delivered":
        item |= {"useragent": act.agent, "ip": act.ip}
    if act.what == "opened":
        item["sg_machine_open"] = report.flagged and act.kind in _BY_APPLE
    if act.what == "clicked":
        item["url"] = report.url
    return [item]


_BY_APPLE = (Kind.PREFETCH_APPLE, Kind.VIEW_APPLE)
"""Providers know Apple's fetches by agent and network, so a person's view is flagged too."""


def _mailgun(report: Report) -> Any:
    act = report.act
    bot = "apple" if act.kind in _BY_APPLE else "gmail" if act.kind is Kind.PREFETCH_GMAIL else ""
    if act.kind in SCANS and report.flagged:
        bot = "generic"
    item: dict[str, Any] = {
        "event": act.what, "id": f"{report.plan.number:08d}{report.number:014d}",
        "timestamp": round(act.at_s, 6), "recipient": report.person.address,
        "tags": [report.plan.name], "user-variables": {},
        "message": {"headers": {"message-id": f"{report.message}@mg.example"}},
    }  # fmt: skip
    if act.what != "delivered":
        item |= {"ip": act.ip, "client-info": {"user-agent": act.agent, "bot": bot}}
    if act.what == "clicked":
        item["url"] = report.url
    return {"signature": {}, "event-data": item}


def _sparkpost(report: Report) -> Any:
    act = report.act
    what = {"delivered": "delivery", "opened": "open", "clicked": "click"}[act.what]
    item: dict[str, Any] = {
        "type": what, "event_id": f"{report.plan.number:06d}{report.number:08d}",
        "campaign_id": report.plan.name, "rcpt_to": report.person.address,
        "raw_rcpt_to": report.person.address, "message_id": report.message,
        "transmission_id": report.message, "timestamp": str(report.second),
    }  # fmt: skip
    if act.what != "delivered":
        item |= {"user_agent": act.agent, "ip_address": act.ip}
    if act.what == "opened":
        proxied = act.kind in (Kind.VIEW_GMAIL, Kind.VIEW_YAHOO, *_BY_APPLE)
        family = {Kind.VIEW_GMAIL: "Gmail", Kind.VIEW_YAHOO: "Yahoo"}
        item["user_agent_parsed"] = {
            "agent_family": family.get(act.kind, "Other") if act.kind else "Other",
            "is_proxy": proxied,
            "is_prefetched": act.kind in (*_BY_APPLE, Kind.PREFETCH_GMAIL),
        }
    if act.what == "clicked":
        item["target_link_url"] = report.url
    return [{"msys": {"message_event" if what == "delivery" else "track_event": item}}]


def _postmark(report: Report) -> Any:
    act = report.act
    item: dict[str, Any] = {
        "RecordType": {"delivered": "Delivery", "opened": "Open", "clicked": "Click"}[act.what],
        "MessageID": f"00000000-0000-4000-{report.message[2:6]}-0{report.message[:6]}"
        f"{report.message[8:]}",
        "Recipient": report.person.address, "Tag": report.plan.name, "Metadata": {},
        "MessageStream": "broadcast",
    }  # fmt: skip
    if act.what == "delivered":
        return item | {"DeliveredAt": report.iso(6)}
    item |= {"ReceivedAt": report.iso(6), "UserAgent": act.agent, "Geo": {"IP": act.ip}}
    if act.what == "clicked":
        item |= {"OriginalLink": report.url, "ClickLocation": "HTML"}
    return item


def _ses(report: Report) -> Any:
    act = report.act
    moment = report.iso(3)
    out: dict[str, Any] = {
        "eventType": {"delivered": "Delivery", "opened": "Open", "clicked": "Click"}[act.what],
        "mail": {
            "timestamp": moment, "messageId": report.message,
            "destination": [report.person.address], "tags": {"campaign_id": [report.plan.name]},
        },
    }  # fmt: skip
    client = {"timestamp": moment, "ipAddress": act.ip, "userAgent": act.agent}
    if act.what == "delivered":
        out["delivery"] = {"timestamp": moment, "recipients": [report.person.address]}
    elif act.what == "opened":
        out["open"] = client
    else:
        out["click"] = {**client, "link": report.url}
    return out


def _generic(report: Report) -> Any:
    act = report.act
    item: dict[str, Any] = {
        "event": act.what, "id": f"{report.plan.number}-{report.number}", "time": report.iso(3),
        "message_id": report.message, "recipient": report.person.address,
        "campaign_id": report.plan.name,
    }  # fmt: skip
    if act.what != "delivered":
        item |= {"user_agent": act.agent, "ip": act.ip}
    if act.what == "clicked":
        item["url"] = report.url
    return item


def _brevo(report: Report) -> Any:
    act = report.act
    what = {"delivered": "delivered", "opened": "opened", "clicked": "click"}[act.what]
    item: dict[str, Any] = {
        "id": 814119, "event": "proxy_open" if act.kind in _BY_APPLE and report.flagged else what,
        "email": report.person.address, "message-id": f"<{report.message}@smtp-relay.example>",
        "ts_event": report.second, "ts_epoch": int(act.at_s * 1000), "tags": [report.plan.name],
    }  # fmt: skip
    if act.what != "delivered":
        item |= {"ip": act.ip, "user_agent": act.agent}
    if act.what == "clicked":
        item["link"] = report.url
    return item


def _klaviyo(report: Report) -> Any:
    act = report.act
    what = {"delivered": "received", "opened": "opened", "clicked": "clicked"}[act.what]
    properties: dict[str, Any] = {
        "$message": f"01HKB{report.plan.number:06d}", "campaign_id": report.plan.name,
        "Recipient Email Address": report.person.address,
    }  # fmt: skip
    if act.what == "opened":
        prefetch = act.kind is Kind.PREFETCH_GMAIL
        properties["machine_open"] = report.flagged and (prefetch or act.kind in _BY_APPLE)
        properties["Apple Privacy Open"] = report.flagged and act.kind in _BY_APPLE
    if act.what == "clicked":
        properties["URL"] = report.url
        properties["Bot Click"] = act.kind in SCANS and report.flagged
    data = {
        "type": "event", "id": f"{report.plan.number}-{report.number}",
        "attributes": {"timestamp": report.second, "event_properties": properties},
        "relationships": {"profile": {"data": {"type": "profile", "id": f"01GD{act.message}"}}},
    }  # fmt: skip
    topic = f"event:klaviyo.{what}_email"
    return {"data": [{"external_id": data["id"], "topic": topic, "payload": {"data": data}}]}


PAYLOADS: dict[str, Callable[[Report], Any]] = {
    "sendgrid": _sendgrid,
    "mailgun": _mailgun,
    "sparkpost": _sparkpost,
    "brevo": _brevo,
    "klaviyo": _klaviyo,
    "postmark": _postmark,
    "ses": _ses,
    "generic": _generic,
}
"""Provider -> one report's payload. With flags: SendGrid (Apple), Mailgun (Apple, Gmail's
prefetch, scanners), SparkPost (prefetch, proxy), Brevo (``proxy_open``, taken to be Apple's),
Klaviyo (Apple, machine opens, bot clicks; neither agent nor address). Whole seconds: SendGrid,
SparkPost, Klaviyo. The meaning of the flags: the providers' documentation."""
_SOURCES = {name: Source(name="news", provider=name) for name in PAYLOADS}


def reported(
    plan: Plan, people: list[Person], happened: list[Act], dice: random.Random
) -> tuple[list[Event], dict[str, Truth]]:
    """Raw events in the order of their arrival, repeats among them, and the truth by event id.

    Of two clicks that a provider's payloads can't tell apart, the first to arrive is the event.
    """
    arrivals: list[tuple[float, int]] = []
    for number, act in enumerate(happened):
        arrived = act.at_s + _on_the_way(dice)
        arrivals.append((arrived, number))
        if dice.random() < p.REPORTED_TWICE:
            arrivals.append((arrived + p.TWICE_DELAY.draw(dice), number))
    flags = [_is_flagged(act, dice) for act in happened]
    arrivals.sort()
    events: list[Event] = []
    truths: dict[str, Truth] = {}
    for arrived, number in arrivals:
        act = happened[number]
        report = Report(number, act, plan, people[act.message], flags[number])
        for event in _read(report, int(arrived * 1_000_000)):
            events.append(event)
            if act.kind is not None:
                truths.setdefault(event["event_id"], _truth(act))
    return events, truths


def _truth(act: Act) -> Truth:
    assert act.kind is not None
    counts = act.link != UNSUBSCRIBE
    return Truth(act.kind, act.what == "clicked", act.message, act.fleet, counts)


def _read(report: Report, received_at: int) -> Iterator[Event]:
    """The event of a payload.

    Raises:
        AssertionError: the parser made something else of it than one event of that type.
    """
    provider = report.plan.provider
    body = orjson.dumps(PAYLOADS[provider](report))
    request = Request("POST", "", (), body, "203.0.113.1")
    parsed = REGISTRY[provider].parse(request, _SOURCES[provider], received_at)
    assert not parsed.rejects, parsed.rejects
    (event,) = parsed.events
    assert event["event_type"] == report.act.what, (event, body)
    yield event


def _on_the_way(dice: random.Random) -> float:
    drawn = dice.random()
    delay = next(delay for reached, delay in p.REPORTED_LATE if drawn < reached)
    return min(delay.draw(dice), p.REPORTED_LATE_MAX_S)


def _is_flagged(act: Act, dice: random.Random) -> bool:
    """Whether a provider with a flag for this recognises it."""
    drawn = dice.random()
    if act.kind in SCANS:
        return drawn < p.SCANNER_FLAGGED
    return drawn >= p.APPLE_FLAG_MISSED
