"""What the streams must tell of a set of events, from the words of the glossary alone.

Written from ``schemas/glossary.py`` and ``schemas/README.md`` without a look at ``streams/enrich``
or at ``tests/streams/reference.py``, so that it is wrong in other places than these, if anywhere.
How a single event is classified (``streams/classify``) is taken as it is; it has tests of its own.

Invariants:
1. The order of the events given does not matter. All events of a message are of one correction
   window, so nothing is settled or forgotten.
2. Slow and plain: a message is looked at as a whole, for each question anew.
3. Where the glossary leaves a case open, a comment that begins with «open:» says what was chosen.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from schemas.event import Event
from streams.classify.actors import Evidence, rejudge, unsubscribes, verdict_alone
from streams.classify.bounce import classify_bounce
from streams.classify.certainty import certainty_of
from streams.classify.mailbox import mailbox_provider

MINUTE_US = 60_000_000
DAY_US = 86_400_000_000
WORST_FIRST = ("hard", "block", "soft", "undetermined")

Identity = tuple[str, str, str]
"""Provider, message id, recipient."""
Row = tuple[str, str, int]
"""Campaign (empty: unattributed), group of the mailbox, minute."""


class Flags(NamedTuple):
    """What is told of one event."""

    campaign: str | None
    actor: str
    first_of_kind: bool
    first_human: bool


class Engaged(NamedTuple):
    """A first human open or click, as it stands."""

    campaign: str | None
    kind: str
    link: str | None


@dataclass
class Told:
    """Everything that is told of a set of events; counts of 0 are left out."""

    minutes: dict[Row, dict[str, int]] = field(default_factory=dict)
    events: dict[str, Flags] = field(default_factory=dict)
    engagement: dict[str, Engaged] = field(default_factory=dict)


def tell(raw: Iterable[Event]) -> Told:
    """Counts, flags and engagement of a set of raw events, repeats among them."""
    kept = {event["event_id"]: event for event in raw}
    messages: dict[Identity, list[Event]] = {}
    told = Told()
    counts: Counter[tuple[Row, str]] = Counter()
    by_senders_id = named_twice(kept.values())
    for event in kept.values():
        identity = identity_of(event) or identity_by_senders_id(event, by_senders_id)
        if identity is None:
            _tell_alone(event, told, counts)
        else:
            messages.setdefault(identity, []).append(event)
    for events in messages.values():
        _tell_message(Message(events), told, counts)
    for (row, name), count in counts.items():
        told.minutes.setdefault(row, {})[name] = count
    return told


def identity_of(event: Event) -> Identity | None:
    """The message: by its provider's id, for one recipient; ``None`` if that can't be told."""
    if not event["message_id"] or not event["recipient_certain"]:
        return None
    # open: whether addresses that differ in case only are one recipient. They share a Kafka key,
    # which «puts all events of each message into one partition», so they are. A recipient that is
    # left out (privacy) is certain, and one for each message id.
    return event["provider"], event["message_id"], (event["recipient"] or "").lower()


SendersId = tuple[str | None, str]
"""The sender's Message-ID, and the recipient."""


def named_twice(events: Iterable[Event]) -> dict[SendersId, set[Identity]]:
    """The messages that SendGrid named by its own id and by the sender's Message-ID."""
    found: dict[SendersId, set[Identity]] = {}
    for event in events:
        identity = identity_of(event)
        if identity is not None and event["provider"] == "sendgrid" and event["rfc_message_id"]:
            found.setdefault((event["rfc_message_id"], identity[2]), set()).add(identity)
    return found


def identity_by_senders_id(event: Event, named: dict[SendersId, set[Identity]]) -> Identity | None:
    """The message that the sender's Message-ID alone names: a known one, or one by itself."""
    rfc, recipient = event["rfc_message_id"], (event["recipient"] or "").lower()
    if event["provider"] != "sendgrid" or event["message_id"] or not rfc or not recipient:
        return None
    if not event["recipient_certain"] or event["event_type"] in ("opened", "clicked"):
        return None
    known = named.get((rfc, recipient), set())
    return next(iter(known)) if len(known) == 1 else ("the sender's Message-ID", rfc, recipient)


def moment(event: Event) -> int:
    """When the event happened, for all purposes: «late events» of the README."""
    late = event["received_at"] - event["occurred_at"] > 30 * DAY_US
    ahead = event["occurred_at"] - event["received_at"] > DAY_US
    return event["received_at"] if late or ahead or event["time_suspect"] else event["occurred_at"]


def is_stale(event: Event) -> bool:
    """Whether an event is told more than 30 days after it happened."""
    return event["received_at"] - event["occurred_at"] > 30 * DAY_US


def among_equals(event: Event) -> int:
    """Which of two events of the same microsecond is taken as the first: the lower one.

    open: any order that the ids alone decide satisfies «whatever their order of arrival». This is
    the one that the fold was seen to have, by asking it.
    """
    number = int(event["event_id"], 16)
    return (number >> 64) ^ (number & (1 << 64) - 1)


def row_of(event: Event, campaign: str | None) -> Row:
    """Where an event is counted."""
    mailbox = mailbox_provider(event["recipient_domain"])
    # open: the glossary says «mailbox provider»; a domain that is no known provider is «other»
    group = "other" if "." in mailbox else mailbox
    return campaign or "", group, moment(event) // MINUTE_US


def bounce_of(event: Event) -> str:
    """Class of a bounce, after classification."""
    return classify_bounce(
        event["event_type"], event["bounce_class"], event["bounce_reason"],
        event["enhanced_status"], event["smtp_code"], event["diagnostic"],
    )[0]  # fmt: skip


class Message:
    """All events of a message, in the order in which they happened."""

    def __init__(self, events: list[Event]) -> None:
        self.events = sorted(events, key=lambda event: (moment(event), among_equals(event)))
        names = (event["campaign_id"] for event in self.events)
        self.campaign = next((name for name in names if name), None)
        self.delivery = self.first("delivered")
        self.verdicts = self._verdicts()

    def first(self, *types: str) -> Event | None:
        """The first event of one of these types."""
        return next((event for event in self.events if event["event_type"] in types), None)

    def first_attempt(self) -> Event | None:
        """What ended the first attempt: a delivery, a deferral, or a bounce."""
        return next(
            (
                event
                for event in self.events
                if event["event_type"] in ("delivered", "deferred")
                or (event["event_type"] == "bounced" and bounce_of(event) != "suppressed")
            ),
            None,
        )

    def _verdicts(self) -> dict[str, tuple[str, str]]:
        """Event id -> who did it and why, by all opens and clicks of the message together."""
        links = {event["click_url"]: number for number, event in enumerate(self.events, 1)}
        agents = {event["user_agent"]: number for number, event in enumerate(self.events, 1)}
        links[None] = links[""] = agents[None] = agents[""] = 0
        evidence = []
        for event in self.events:
            actor, reason = alone(event, since(event, self.delivery))
            link, agent = links[event["click_url"]], agents[event["user_agent"]]
            evidence.append(
                Evidence(event["event_type"], moment(event), actor, reason, link, agent)
            )
        verdicts = [(one.actor, one.reason) for one in evidence]
        for index, actor, reason in rejudge(evidence):
            verdicts[index] = actor, reason
        ids = [event["event_id"] for event in self.events]
        return dict(zip(ids, verdicts, strict=True))

    def opens_and_clicks(self, kind: str, by: str) -> list[Event]:
        """Opens, or clicks without those on unsubscribe links; by whom: see ``may_be``."""
        return [
            event
            for event in self.events
            if event["event_type"] == kind and not unsubscribes(event)
            if may_be(by, *self.verdicts[event["event_id"]])
        ]

    def uniques(self) -> Iterator[tuple[str, Event]]:
        """Each count of messages that this one is in, with the event that counts for it."""
        if self.delivery is not None:
            yield "delivered", self.delivery
        yield from self._bounces()
        for kind in ("opened", "clicked"):
            for by in ("", "_or_unknown", "_at_most", "_any"):
                found = self.opens_and_clicks(kind, by)
                if found:
                    yield f"{kind}{by}", found[0]
        for name, kind in {"complained": "complained", "unsubscribed": "unsubscribed"}.items():
            event = self.first(kind)
            if event is not None:
                yield name, event

    def _bounces(self) -> Iterator[tuple[str, Event]]:
        """What became of the attempt, if it failed, and of the delivery."""
        failures = [e for e in self.events if e["event_type"] in ("bounced", "rejected", "failed")]
        # open: whether a message is «not attempted» or «rejected» although it was delivered; it is
        not_attempted = [event for event in failures if bounce_of(event) == "suppressed"]
        if not_attempted:
            yield "suppressed", not_attempted[0]
        # open: what the provider rejected, with the class of a bounce: it is no bounce
        others = [event for event in failures if bounce_of(event) != "suppressed"]
        rejected = [event for event in others if event["event_type"] != "bounced"]
        if rejected:
            yield "rejected", rejected[0]
        bounced = [event for event in others if event["event_type"] == "bounced"]
        if self.delivery is not None:
            bounced = [event for event in bounced if moment(event) >= moment(self.delivery)]
        if bounced:
            # open: which of several late bounces counts: as in-band the worst, not the first
            worst = min(bounced, key=lambda event: WORST_FIRST.index(bounce_of(event)))
            late = self.delivery is not None
            yield "bounced_late" if late else f"bounced_{bounce_of(worst)}", worst


def may_be(by: str, actor: str, reason: str) -> bool:
    """Whether a verdict is that of a human, or may be one, or is any at all.

    Args:
        by: the end of a count's name: empty, «_or_unknown», «_at_most» or «_any».
    """
    probable = certainty_of(actor, reason) == "probable"
    return (
        actor == "human"
        or by == "_any"
        or (by != "" and actor == "unknown")
        or (by == "_at_most" and probable)
    )


COHORT = {
    "bounced_late": "cohort_bounced_late", "complained": "cohort_complained",
    "unsubscribed": "cohort_unsubscribed",
    **{
        f"{kind}{by}": f"cohort_{kind}{by}"
        for kind in ("opened", "clicked") for by in ("", "_or_unknown", "_at_most", "_any")
    },
}  # fmt: skip
"""Count in the minute of the event -> the same in the minute of the delivery."""
WITH_STALE = {"cohort_bounced_late", "cohort_complained", "cohort_unsubscribed"}
IN_BAND = {f"bounced_{name}" for name in WORST_FIRST}


def since(event: Event, delivery: Event | None) -> tuple[float, float] | None:
    """The least and the most seconds since the delivery: whole seconds may be cut off."""
    if delivery is None:
        return None
    begin, end = moment(delivery), moment(event)
    least, most = end - begin, end - begin
    least -= 1_000_000 if begin % 1_000_000 == 0 else 0
    most += 1_000_000 if end % 1_000_000 == 0 else 0
    return least / 1_000_000, most / 1_000_000


def alone(event: Event, since: tuple[float, float] | None) -> tuple[str, str]:
    """Who did it, as far as the event itself and its time since delivery tell."""
    return verdict_alone(
        event["event_type"], event["machine_kind"], event["user_agent"], event["ip"], since,
        url=event["click_url"],
    )  # fmt: skip


def of_every_event(event: Event, actor: str) -> Iterator[str]:
    """The counts of events, repeats of a kind included."""
    yield "events"
    if is_stale(event):
        yield "events_stale"
    by = {"human": "", "unknown": "unknown_"}.get(actor, "machine_")
    match event["event_type"]:
        case "deferred":
            yield "deferred"
        case "opened":
            yield f"{by}opens"
        case "clicked":
            yield "unsubscribe_clicks" if unsubscribes(event) else f"{by}clicks"


def _tell_alone(event: Event, told: Told, counts: Counter[tuple[Row, str]]) -> None:
    """An event that can't be told per message is in counts of events only."""
    actor, _ = alone(event, None)
    campaign = event["campaign_id"] or None
    for name in ("unidentified", *of_every_event(event, actor)):
        counts[row_of(event, campaign), name] += 1
    told.events[event["event_id"]] = Flags(campaign, actor, False, False)


def _tell_attempt(
    message: Message, uniques: dict[str, Event], counts: Counter[tuple[Row, str]]
) -> None:
    attempt = message.first_attempt()
    bounced = [name for name in uniques if name in IN_BAND]
    if attempt is not None and not is_stale(attempt) and ("delivered" in uniques or bounced):
        for name in ("sent", *bounced):
            counts[row_of(attempt, message.campaign), f"attempt_{name}"] += 1


def _tell_message(message: Message, told: Told, counts: Counter[tuple[Row, str]]) -> None:
    uniques = dict(message.uniques())
    cohort = {COHORT[name] for name in uniques if name in COHORT}
    if "opened" in uniques and "clicked" in uniques:
        cohort.add("cohort_opened_clicked")
    if message.delivery is not None:
        for name in cohort:
            counts[row_of(message.delivery, message.campaign), name] += 1
        if is_stale(message.delivery):
            for name in ("delivered_stale", *(f"{one}_stale" for one in cohort & WITH_STALE)):
                counts[row_of(message.delivery, message.campaign), name] += 1
    _tell_attempt(message, uniques, counts)
    for name, event in uniques.items():
        counts[row_of(event, message.campaign), name] += 1
    human = {uniques[name]["event_id"] for name in ("opened", "clicked") if name in uniques}
    of_kind = {
        event["event_id"]
        for name, event in uniques.items()
        if not name.startswith(("opened", "clicked")) or name.endswith("_any")
    }
    for event in message.events:
        key = event["event_id"]
        actor, _ = message.verdicts[key]
        for name in of_every_event(event, actor):
            counts[row_of(event, message.campaign), name] += 1
        told.events[key] = Flags(message.campaign, actor, key in of_kind, key in human)
    for name, kind in {"opened": "open", "clicked": "click"}.items():
        if name in uniques:
            event = uniques[name]
            told.engagement[event["event_id"]] = Engaged(message.campaign, kind, event["click_url"])
