"""A slow, plain recount: every counter of every campaign minute from a set of raw events.

It takes all events of a message to lie within one correction window. So their order does not
matter: each message's events are sorted by their time before anything is decided. It shares only
the classification of single events with the streams (``streams.classify.actors`` and
``streams.classify.bounce``, which have tests of their own): no message state, no pending events, no
differences.
"""

from collections import defaultdict

from schemas.event import Event
from schemas.glossary import COUNTER_NAMES
from streams.classify.actors import (
    DEFAULT_RULES,
    Evidence,
    Rules,
    rejudge,
    unsubscribes,
    verdict_alone,
)
from streams.classify.bounce import classify_bounce
from streams.classify.certainty import doubt_of
from streams.classify.mailbox import mailbox_provider
from streams.enrich.derive import text_hash

SEVERITY = ("none", "suppressed", "undetermined", "soft", "block", "hard")
Counts = dict[tuple[str, str, int], dict[str, int]]


def unique_in_order(events: list[Event]) -> list[Event]:
    """The events without repeats of an id, in the given order."""
    first: dict[str, Event] = {}
    for event in events:
        first.setdefault(event["event_id"], event)
    return list(first.values())


def is_identified(event: Event) -> bool:
    """Whether the event says which message to which recipient it is about."""
    if not event["message_id"]:
        return alias(event) is not None
    return event["recipient_certain"]


def alias(event: Event) -> tuple[str, str] | None:
    """The sender's Message-ID and the recipient, where SendGrid may tell nothing else."""
    rfc, recipient = event["rfc_message_id"], (event["recipient"] or "").lower()
    if event["provider"] != "sendgrid" or not (rfc and recipient and event["recipient_certain"]):
        return None
    if not event["message_id"] and event["event_type"] in ("opened", "clicked"):
        return None
    return rfc, recipient


def messages_of_aliases(events: list[Event]) -> dict[tuple[str, str], set[str]]:
    """Alias -> ids of the messages that have events with both."""
    out: dict[tuple[str, str], set[str]] = defaultdict(set)
    for event in events:
        its = alias(event)
        if its is not None and event["message_id"]:
            out[its].add(event["message_id"])
    return out


def by_message(events: list[Event]) -> dict[tuple[str, str, str], list[Event]]:
    """Events of each message to each recipient, ordered by time.

    An event that can't be told per message is alone.
    """
    out: dict[tuple[str, str, str], list[Event]] = defaultdict(list)
    messages = messages_of_aliases(events)
    for event in sorted(events, key=lambda e: (e["occurred_at"], int(e["event_id"], 16))):
        if is_identified(event):
            recipient, message = (event["recipient"] or "").lower(), event["message_id"]
            if not message:
                its = alias(event)
                known = messages[its] if its else set()
                message = next(iter(known)) if len(known) == 1 else f"<{its}>"
            out[event["provider"], message, recipient].append(event)
        else:
            out["", event["event_id"], ""].append(event)
    return out


def seconds(event: Event) -> int:
    """The time an event is counted at."""
    return event["occurred_at"] // 1_000_000


def verdicts(events: list[Event], rules: Rules = DEFAULT_RULES) -> list[tuple[str, str]]:
    """Who opened or clicked and why, once everything is known; ``none`` for other events.

    Args:
        events: of one message, ordered by time.
    """
    delivered_us = next((e["occurred_at"] for e in events if e["event_type"] == "delivered"), None)
    judged = []
    for event in events:
        since = _since(event["occurred_at"], delivered_us) if delivered_us else None
        judged.append(
            verdict_alone(
                event["event_type"],
                event["machine_kind"],
                event["user_agent"],
                event["ip"],
                since,
                rules,
                url=event["click_url"],
            )  # fmt: skip
        )
    open_or_click = [i for i, (actor, _) in enumerate(judged) if actor != "none"]
    evidence = [
        Evidence(
            events[i]["event_type"],
            events[i]["occurred_at"],
            *judged[i],
            text_hash(events[i]["click_url"]),
            text_hash(events[i]["user_agent"]),
        )  # fmt: skip
        for i in open_or_click
    ]
    for index, actor, reason in rejudge(evidence, rules):
        judged[open_or_click[index]] = actor, reason
    return judged


def _since(at_us: int, delivered_us: int) -> tuple[float, float]:
    """Seconds since the delivery, at least and at most: a whole second is an interval."""
    earliest = delivered_us + (0 if delivered_us % 1_000_000 else 1_000_000)
    latest = at_us + (0 if at_us % 1_000_000 else 1_000_000)
    return (at_us - earliest) / 1e6, (latest - delivered_us) / 1e6


def count(events: list[Event], rules: Rules = DEFAULT_RULES) -> Counts:
    """Every counter that is not 0, by campaign ('' for none), mailbox group and minute."""
    counts: Counts = defaultdict(lambda: defaultdict(int))
    for message in by_message(unique_in_order(events)).values():
        campaign = next((e["campaign_id"] for e in message if e["campaign_id"]), "") or ""
        domain = next((e["recipient_domain"] for e in message if e["recipient_domain"]), "")
        mailbox = mailbox_provider(domain)
        mailbox = "other" if "." in mailbox else mailbox
        for at, name in _of_message(message, rules):
            counts[campaign, mailbox, at // 60][name] += 1
    return {key: {n: v for n, v in row.items() if v} for key, row in counts.items()}


def _of_message(events: list[Event], rules: Rules) -> list[tuple[int, str]]:
    out: list[tuple[int, str]] = [(seconds(event), "events") for event in events]
    out += [(seconds(e), "deferred") for e in events if e["event_type"] == "deferred"]
    judged = verdicts(events, rules)
    out += _repeats(events, judged, rules)
    if is_identified(events[0]):
        out += _uniques(events, judged, rules)
    else:
        out.append((seconds(events[0]), "unidentified"))
    assert {name for _, name in out} <= set(COUNTER_NAMES)
    return out


def _repeats(
    events: list[Event], judged: list[tuple[str, str]], rules: Rules
) -> list[tuple[int, str]]:
    """Opens and clicks, repeats included."""
    out = []
    prefixes = {"human": "", "unknown": "unknown_", "machine": "machine_"}
    for event, (actor, _) in zip(events, judged, strict=True):
        kind = event["event_type"]
        if kind == "opened":
            out.append((seconds(event), f"{prefixes[actor]}opens"))
        elif kind == "clicked":
            unsubscribe = unsubscribes(event, rules.unsubscribe)
            name = "unsubscribe_clicks" if unsubscribe else f"{prefixes[actor]}clicks"
            out.append((seconds(event), name))
    return out


WIDER = {"": (0,), "_or_unknown": (0, 1), "_at_most": (0, 1, 2), "_any": (0, 1, 2, 3)}
"""End of a count's name -> the verdicts that it counts, by how far they are from a human's."""


def _uniques(
    events: list[Event], judged: list[tuple[str, str]], rules: Rules
) -> list[tuple[int, str]]:
    """What counts once per message."""
    out: list[tuple[int, str]] = []
    delivery = next((e for e in events if e["event_type"] == "delivered"), None)
    delivered = None if delivery is None else seconds(delivery)
    if delivered is not None:
        out.append((delivered, "delivered"))

    def once(at: int | None, flow: str, cohort: str | None) -> None:
        if at is not None:
            out.append((at, flow))
            if cohort and delivered is not None:
                out.append((delivered, cohort))

    bounces, suppressed, rejected = _failures(events, delivery)
    once(suppressed, "suppressed", None)
    once(rejected, "rejected", None)
    if bounces:
        # the worst, and of several the first; ``max`` takes the first of equals
        at, kind = max(bounces, key=lambda bounce: SEVERITY.index(bounce[1]))
        if delivered is None:
            once(at, f"bounced_{kind}", None)
            once(_first_attempt(events), f"attempt_bounced_{kind}", None)
        else:
            once(at, "bounced_late", "cohort_bounced_late")
    if bounces or delivered is not None:
        once(_first_attempt(events), "attempt_sent", None)
    for kind in ("complained", "unsubscribed"):
        once(next((seconds(e) for e in events if e["event_type"] == kind), None), kind,
             f"cohort_{kind}")  # fmt: skip
    for name, at in _firsts(events, judged, rules):
        once(at, name, f"cohort_{name}")
    if {name for _, name in out} >= {"opened", "clicked"} and delivered is not None:
        out.append((delivered, "cohort_opened_clicked"))
    return out


def _firsts(
    events: list[Event], judged: list[tuple[str, str]], rules: Rules
) -> list[tuple[str, int]]:
    """First opens and clicks, by a human and by who may be one, each with its count's name."""
    out = []
    for kind in ("opened", "clicked"):
        links = [
            (seconds(e), doubt_of(*verdict))
            for e, verdict in zip(events, judged, strict=True)
            if e["event_type"] == kind and not unsubscribes(e, rules.unsubscribe)
        ]
        for end, doubts in WIDER.items():
            found = [at for at, doubt in links if doubt in doubts]
            out += [(f"{kind}{end}", found[0])] if found else []
    return out


def _first_attempt(events: list[Event]) -> int | None:
    """When the first attempt ended; none of the events is told more than 30 days late."""
    for event in events:
        kind = event["event_type"]
        if kind in ("delivered", "deferred"):
            return seconds(event)
        if kind == "bounced" and _class_of(event) != "suppressed":
            return seconds(event)
    return None


def _class_of(event: Event) -> str:
    return classify_bounce(
        event["event_type"], event["bounce_class"], event["bounce_reason"],
        event["enhanced_status"], event["smtp_code"], event["diagnostic"],
    )[0]  # fmt: skip


def _failures(
    events: list[Event], delivery: Event | None
) -> tuple[list[tuple[int, str]], int | None, int | None]:
    """Bounces, without those before the delivery; first suppression, first rejection."""
    bounces, suppressed, rejected = [], None, None
    for event in events:
        if event["event_type"] not in ("bounced", "rejected", "failed"):
            continue
        kind = _class_of(event)
        if kind == "suppressed":
            suppressed = seconds(event) if suppressed is None else suppressed
        elif event["event_type"] == "bounced":
            if delivery is None or event["occurred_at"] >= delivery["occurred_at"]:
                bounces.append((seconds(event), kind))
        else:
            rejected = seconds(event) if rejected is None else rejected
    return bounces, suppressed, rejected
