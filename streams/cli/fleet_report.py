"""What ``mailpulse rules`` shows: fleets, what they would change, and the rules in force.

Invariants:
1. Pure but for what ``say_…`` prints; user agents and recipients are masked.
2. Every list that is cut off says how much is left.
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from schemas.masking import DOTS, masked_field
from streams.classify.actor_rules import Rules
from streams.classify.fleet_rules import fleets_in, recipients
from streams.classify.fleets import Fleet
from streams.classify.network_rules import NetworkRule
from streams.cli.context import put, table
from streams.cli.fleet_effects import KINDS, Effect, figures

if TYPE_CHECKING:
    from streams.enrich.epochs import Epoch

Answer = dict[str, Any]
CAMPAIGNS_MAX, FLEETS_MAX = 20, 40
"""Rows that are shown; with --json all are."""
STALE_DAYS = 90
"""A copy of published networks that was not compared for so long is called stale. Assumed; they
change some times a year."""


def fleet(one: Fleet) -> Answer:
    """A fleet that is proposed."""
    habit = one.habit
    return {
        "networks": list(one.cidrs), "agents": [_agent(agent) for agent in one.agents],
        "messages": habit.clicked, "recipients": recipients(one), "days": len(habit.days),
        "surely": habit.sure, "soon": habit.soon, "later": habit.later,
    }  # fmt: skip


def gone(rule: NetworkRule, objections: Sequence[str]) -> Answer:
    """A fleet that is left out from now on."""
    return {**listed(rule), "because": "; ".join(objections)}


def listed(rule: NetworkRule) -> Answer:
    """A fleet that rules have."""
    return {
        "networks": [str(network) for network in rule.networks],
        "agents": [_agent(agent) for agent in sorted(rule.agents)],
    }


def _agent(agent: str) -> str:
    return masked_field(agent, DOTS)


def campaign(effect: Effect, counts: dict[str, Any]) -> Answer:
    """What would change in a campaign."""
    return {
        "campaign": effect.campaign, "delivered": int(counts["delivered"]),
        "events": effect.events, **figures(effect, counts),
        "examples": [change.shown() for change in effect.examples],
    }  # fmt: skip


def say_proposal(answer: Answer) -> None:
    """Prints what ``rules propose`` found."""
    fleets = answer["fleets"]
    for left_out in (answer["left_out"], answer["campaigns_left_out"]):
        if left_out:
            put(f"Not all: {left_out}.")
    if answer["file"] is None:
        put(f"No new fleet among {answer['addresses']:,} addresses and user agents.")
        return
    rows = [
        (_networks(one), ", ".join(one["agents"]) or "any", one["messages"], one["recipients"],
         one["days"], one["surely"], one["soon"], one["later"])
        for one in fleets[:FLEETS_MAX]
    ]  # fmt: skip
    table(
        f"fleets: {len(fleets):,}, from {answer['days']} days of events; rules: {answer['from']}",
        ("networks", "user agents", "messages", "recipients", "days", "surely machines'", "soon",
         "later"),
        rows,
    )  # fmt: skip
    _left(len(fleets), FLEETS_MAX)
    for one in answer["gone"]:
        put(f"No longer a fleet: {_networks(one)}: {one['because']}")
    _say_campaigns(answer["campaigns"])
    put(f"Written: {answer['file']}. Read it, then: mailpulse rules accept {answer['file']}")


def _say_campaigns(campaigns: Sequence[Answer]) -> None:
    rows = [
        (one["campaign"] or "(none)", kind, one["delivered"], _count(one, kind, "before"),
         _count(one, kind, "after"), _rates(one[kind]["before"]), _rates(one[kind]["after"]))
        for one in campaigns[:CAMPAIGNS_MAX]
        for kind in KINDS
        if one[kind]["before"] != one[kind]["after"]
    ]  # fmt: skip
    table(
        f"campaigns that change: {len(campaigns):,}; messages: humans · with unknown · at most",
        ("campaign", "what", "delivered", "before", "after", "rate before", "rate after"), rows,
    )  # fmt: skip
    _left(len(campaigns), CAMPAIGNS_MAX)
    for one in campaigns[:CAMPAIGNS_MAX]:
        if one["examples"]:
            put(f"{one['campaign'] or '(none)'}: {one['events']:,} opens and clicks, such as")
        for example in one["examples"]:
            put(f"    {_example(example)}")


def _count(one: Answer, kind: str, when: str) -> str:
    counts = one[kind][when]
    return f"{counts['human']:,} · {counts['with_unknown']:,} · {counts['at_most']:,}"


def _rates(counts: Answer) -> str:
    if counts["rate"] is None:
        return "–"
    return f"{counts['rate']:.2%} to {counts['at_most_rate']:.2%}"


def _example(one: Answer) -> str:
    since = one["seconds_since_delivery"]
    before, after = one["before"], one["after"]
    parts = [
        f"{one['event_type']}: {before['actor']} ({before['reason'] or 'nothing against it'})"
        f" → {after['actor']}, {after['certainty']} ({after['reason']})",
        f"{datetime.fromtimestamp(one['at_ms'] / 1000, UTC):%Y-%m-%d %H:%M:%S}",
        "delivery unknown" if since is None else f"{since:+,.1f} s after the delivery",
        one["recipient"] or "recipient not kept", one["network"], one["user_agent"], one["link"],
    ]  # fmt: skip
    return " · ".join(part for part in parts if part)


def _networks(one: Answer) -> str:
    return ", ".join(one["networks"])


def _left(number: int, shown: int) -> None:
    if number > shown:
        put(f"… and {number - shown:,} more: --json shows all")


def own_row(rules: Rules) -> Answer:
    """The rules that workers start with."""
    return {
        "epoch": 0, "rules_version": rules.version, "begun_at": None, "corrected_from": None,
        "fleets": len(fleets_in(rules)),
    }  # fmt: skip


def epoch_row(epoch: "Epoch", rules: Rules) -> Answer:
    """Rules that were accepted."""
    from streams.reprocess.plan import iso

    return {
        "epoch": epoch.number, "rules_version": epoch.version, "begun_at": iso(epoch.begun_at),
        "corrected_from": iso(epoch.from_time) if epoch.from_time else "everything",
        "fleets": len(fleets_in(rules)),
    }  # fmt: skip


def snapshot(rule: NetworkRule, today: date, compared: date | None = None) -> Answer:
    """How old a copy of published networks is.

    Args:
        compared: when it was last seen to be the published one; ``None``: since it was read.
    """
    assert rule.read_on is not None
    newest = max(rule.read_on, compared or rule.read_on)
    days = (today - newest).days
    return {
        "reason": rule.reason, "networks": len(rule.networks), "read_on": newest.isoformat(),
        "days": days, "stale": days > STALE_DAYS,
    }  # fmt: skip


def say_rules(answer: Answer) -> None:
    """Prints what ``rules ls`` found."""
    rows = [
        (one["epoch"], one["rules_version"], one["begun_at"] or "the worker's own",
         one["corrected_from"] or "–", one["fleets"], "yes" if one["in_force"] else "")
        for one in answer["rules"]
    ]  # fmt: skip
    columns = ("epoch", "rules version", "in force since", "corrects from", "fleets", "in force")
    table("rules", columns, rows)
    fleets = answer["fleets"]
    for one in fleets[:FLEETS_MAX]:
        agents = f", only {', '.join(one['agents'])}" if one["agents"] else ""
        put(f"fleet: {_networks(one)}{agents}")
    _left(len(fleets), FLEETS_MAX)
    for one in answer["snapshots"]:
        stale = ": stale, run 'mailpulse rules refresh'" if one["stale"] else ""
        put(
            f"{one['reason']}: {one['networks']} published networks, as of {one['read_on']}"
            f" ({one['days']:,} days){stale}"
        )
