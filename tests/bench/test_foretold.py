"""What ``rules propose`` foretells is what the fold gives once its rules are accepted."""

from dataclasses import replace
from importlib.resources import files
from typing import Any

from streams.classify.actor_rules import Rules
from streams.classify.fleet_rules import with_fleets
from streams.classify.fleets import NOTHING, Fleet
from streams.classify.stored_events import StoredEvent, judged
from tests.streams.folding import LOOK_UPS
from tests.verdicts.judged import verdicts
from tests.verdicts.season import Size, season

SHIPPED = files("streams.classify.tables").joinpath("machines.toml").read_text("utf-8")


def test_stored_events_are_judged_as_the_fold_judges_them() -> None:
    """Every open and click of a small season, with each tenth clicking address a fleet's."""
    checked = fleets = 0
    for played in season(5, Size(lists=1, rounds=1, messages=60)):
        ips = sorted({event["ip"] for event in played.events if event["ip"]})[::10]
        cidrs = [f"{ip}/32" for ip in ips if ":" not in ip]
        made = with_fleets(SHIPPED, [Fleet((one,), (), NOTHING) for one in cidrs], "2026-11-28")
        rules = Rules.load(made)
        folded = verdicts(played.events, replace(LOOK_UPS, rules=rules))
        messages: dict[Any, dict[str, StoredEvent]] = {}
        for event in played.events:
            key = event["message_id"], event["recipient"]
            messages.setdefault(key, {}).setdefault(event["event_id"], _stored(event))
        for events in messages.values():
            known = list(events.values())
            for event_id, verdict in zip(events, judged(known, rules), strict=True):
                if event_id in folded:
                    assert verdict == (folded[event_id].actor, folded[event_id].reason)
                    checked += 1
                    fleets += verdict[1] == "fleet"
    assert checked > 500
    assert fleets > 5


def _stored(event: Any) -> StoredEvent:
    return StoredEvent(
        event["event_type"], event["occurred_at"] // 1_000, ("none", ""), event["machine_kind"],
        event["user_agent"] or "", event["ip"] or "", event["click_url"] or "",
    )  # fmt: skip
