"""A slow, plain recount: every counter of every campaign minute from a list of raw events.

It shares only the classification of single events with the streams (``streams.classify.actors`` and
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
    is_unsubscribe_link,
    rejudge,
    verdict_alone,
)
from streams.classify.bounce import classify_bounce
from streams.classify.mailbox import mailbox_provider
from streams.enrich.derive import text_hash

SEVERITY = ("none", "suppressed", "undetermined", "soft", "block", "hard")
Counts = dict[tuple[str, str, int], dict[str, int]]


def unique_in_order(events: list[Event]) -> list[Event]:
    """The events without repeats of an id, in log order."""
    first: dict[str, Event] = {}
    for event in events:
        first.setdefault(event["event_id"], event)
    return list(first.values())


def by_message(events: list[Event]) -> dict[tuple[str, str, str], list[Event]]:
    """Events of each message to each recipient."""
    out: dict[tuple[str, str, str], list[Event]] = defaultdict(list)
    for event in events:
        recipient = (event["recipient"] or "").lower() if event["recipient_certain"] else ""
        if event["message_id"] is None:
            out["", event["event_id"], ""].append(event)
        else:
            out[event["provider"], event["message_id"], recipient].append(event)
    return out


def seconds(event: Event) -> int:
    """The time an event is counted at."""
    return event["occurred_at"] // 1_000_000


def verdicts(events: list[Event], rules: Rules = DEFAULT_RULES) -> list[str]:
    """Who opened or clicked, once everything is known; ``none`` for other events."""
    delivered = next((seconds(e) for e in events if e["event_type"] == "delivered"), None)
    judged = []
    for event in events:
        since = event["occurred_at"] / 1e6 - delivered if delivered else None
        judged.append(
            verdict_alone(
                event["event_type"],
                event["machine_kind"],
                event["user_agent"],
                event["ip"],
                since,
                rules,
            )  # fmt: skip
        )
    actors = [actor for actor, _ in judged]
    open_or_click = [i for i, actor in enumerate(actors) if actor != "none"]
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
    for index, actor, _ in rejudge(evidence, rules):
        actors[open_or_click[index]] = actor
    return actors


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
    delivered = next((seconds(e) for e in events if e["event_type"] == "delivered"), None)
    if delivered:
        out.append((delivered, "delivered"))

    def once(at: int | None, flow: str, cohort: str | None) -> None:
        if at is not None:
            out.append((at, flow))
            if cohort and delivered:
                out.append((delivered, cohort))

    bounces, suppressed, rejected = _failures(events)
    once(suppressed, "suppressed", None)
    once(rejected, "rejected", None)
    bounce = _counting_bounce(events, bounces)
    if bounce:
        at, kind = bounce
        if delivered is None or at >= delivered:
            once(at, f"bounced_{kind}", None)
            if delivered:
                once(at, "bounced_late", "cohort_bounced_late")
    for kind in ("complained", "unsubscribed"):
        once(next((seconds(e) for e in events if e["event_type"] == kind), None), kind,
             f"cohort_{kind}")  # fmt: skip
    out += [(seconds(e), "deferred") for e in events if e["event_type"] == "deferred"]
    actors = verdicts(events, rules)
    for kind, stem in (("opened", "opened"), ("clicked", "clicked")):
        mine = [
            (seconds(e), actor, kind == "clicked" and is_unsubscribe_link(e["click_url"]))
            for e, actor in zip(events, actors, strict=True)
            if e["event_type"] == kind
        ]
        links = [(at, actor) for at, actor, unsubscribe in mine if not unsubscribe]
        once(next((at for at, _ in links), None), f"{stem}_any", f"cohort_{stem}_any")
        once(next((at for at, a in links if a == "human"), None), stem, f"cohort_{stem}")
        plural = stem.removesuffix("ed") + "s"
        for at, actor, unsubscribe in mine:
            if actor != "human":
                out.append((at, f"machine_{plural}"))
            else:
                out.append((at, "unsubscribe_clicks" if unsubscribe else plural))
    assert {name for _, name in out} <= set(COUNTER_NAMES)
    return out


def _failures(events: list[Event]) -> tuple[list[tuple[int, str]], int | None, int | None]:
    bounces, suppressed, rejected = [], None, None
    for event in events:
        if event["event_type"] not in ("bounced", "rejected", "failed"):
            continue
        kind, _ = classify_bounce(
            event["event_type"], event["bounce_class"], event["bounce_reason"],
            event["enhanced_status"], event["smtp_code"], event["diagnostic"],
        )  # fmt: skip
        if kind == "suppressed":
            suppressed = seconds(event) if suppressed is None else suppressed
        elif event["event_type"] == "bounced":
            bounces.append((seconds(event), kind))
        else:
            rejected = seconds(event) if rejected is None else rejected
    return bounces, suppressed, rejected


def _counting_bounce(events: list[Event], bounces: list[tuple[int, str]]) -> tuple[int, str] | None:
    """The bounce that a message counts under: the worst, or the next one after a late delivery.

    Decided in log order, as bounces and the delivery arrive.
    """
    delivered: int | None = None
    kept: tuple[int, str] | None = None
    left = list(bounces)
    for event in events:
        if event["event_type"] == "delivered" and delivered is None:
            delivered = seconds(event)
        if event["event_type"] == "bounced" and left and left[0][0] == seconds(event):
            new = left.pop(0)
            overtaken = kept is not None and delivered is not None and kept[0] < delivered
            if kept is None or overtaken or SEVERITY.index(new[1]) > SEVERITY.index(kept[1]):
                kept = new
    return kept
