"""What accepting a rules file would change, by campaign: counts before and after, with examples.

Invariants:
1. Pure: rows of stored events in, figures and masked examples out.
2. «Before» is what is stored, «after» what the rules give the same events. Messages that the rules
   leave alone are in neither difference.
3. Of a campaign's examples, those come first that change most; they are the same each time.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from analytics.verdicts import words
from streams.classify.actor_rules import Rules, Verdict
from streams.classify.certainty import certainty_of, doubt_of
from streams.classify.stored_events import LEVELS, StoredEvent, judged, reach

Row = Mapping[str, Any]
KINDS = ("clicked", "opened")
COUNTED = ("human", "with_unknown", "at_most", "anyone")
"""Names of ``LEVELS``."""


@dataclass(frozen=True, slots=True)
class Change:
    """An open or click whose verdict would change.

    Attributes:
        row: as stored.
        after: the new verdict.
    """

    row: Row
    after: Verdict

    @property
    def size(self) -> int:
        """How far the verdict moves from a human's."""
        return doubt_of(*self.after) - doubt_of(self.row["actor"], self.row["actor_reason"])

    def shown(self) -> dict[str, Any]:
        """As it is shown: masked, of the address only the network."""
        actor, reason = self.after
        before = {
            "actor": self.row["actor"], "reason": self.row["actor_reason"],
            "certainty": self.row["actor_certainty"],
        }  # fmt: skip
        return {
            "event_type": self.row["event_type"], **words.example(self.row), "before": before,
            "after": {"actor": actor, "reason": reason, "certainty": certainty_of(actor, reason)},
        }  # fmt: skip


@dataclass
class Effect:
    """On a campaign.

    Attributes:
        events: opens and clicks whose verdict would change.
        moved: for ``clicked`` and ``opened``, by ``COUNTED``: delivered messages that would count
            more (fewer, if negative).
        examples: some of the changes.
    """

    campaign: str
    events: int = 0
    moved: dict[str, list[int]] = field(
        default_factory=lambda: {kind: [0] * len(LEVELS) for kind in KINDS}
    )
    examples: list[Change] = field(default_factory=list)


def effects(rows: Iterable[Row], rules: Rules, examples: int) -> Iterator[Effect]:
    """What ``rules`` would change, one campaign after another; those without a change are left out.

    Args:
        rows: as ``analytics.verdicts.fleet_questions.TOUCHED`` gives them, in its order.
        examples: of each campaign, at most.
    """
    for campaign, of_campaign in groupby(rows, lambda row: row["campaign_id"]):
        effect = Effect(campaign)
        for _, of_message in groupby(of_campaign, lambda row: row["message_key"]):
            _take(effect, list(of_message), rules, examples)
        if effect.events:
            yield effect


def _take(effect: Effect, rows: Sequence[Row], rules: Rules, examples: int) -> None:
    events = [_stored(row) for row in rows]
    before = [event.verdict for event in events]
    after = judged(events, rules)
    changes = [
        Change(row, new)
        for row, old, new in zip(rows, before, after, strict=True)
        if old[0] != "none" and old != new
    ]
    if not changes:
        return
    effect.events += len(changes)
    effect.examples = sorted([*effect.examples, *changes], key=_rank)[:examples]
    if any(event.event_type == "delivered" for event in events):
        for kind in KINDS:
            moved = zip(reach(events, before, kind), reach(events, after, kind), strict=True)
            for level, (was, will_be) in enumerate(moved):
                effect.moved[kind][level] += will_be - was


def _rank(change: Change) -> tuple[Any, ...]:
    return -change.size, change.row["at_ms"], change.row["message_key"]


def _stored(row: Row) -> StoredEvent:
    return StoredEvent(
        row["event_type"], int(row["at_ms"]), (row["actor"], row["actor_reason"]),
        row["machine_kind"], row["user_agent"], row["ip"], row["click_url"],
        not row["unsubscribe_link"],
    )  # fmt: skip


def figures(effect: Effect, counts: Row) -> dict[str, Any]:
    """Counts and rates of a campaign, before and after.

    Args:
        counts: of the campaign, as ``analytics.verdicts.fleet_questions.COUNTS`` gives them.

    Returns:
        By ``clicked`` and ``opened``: ``before`` and ``after``, each with the counts by
        ``COUNTED`` and the rates ``rate`` and ``at_most_rate``; ``None``: nothing delivered.
    """
    delivered = int(counts["delivered"])
    out: dict[str, Any] = {}
    for kind in KINDS:
        names = (f"cohort_{kind}", *(f"cohort_{kind}_{name}" for name in _SUFFIXES))
        before = [int(counts[name]) for name in names]
        # events are stored seconds before they are counted, so a difference may exceed a count
        after = [max(0, old + moved) for old, moved in zip(before, effect.moved[kind], strict=True)]
        out[kind] = {"before": _told(before, delivered), "after": _told(after, delivered)}
    return out


_SUFFIXES = ("or_unknown", "at_most", "any")


def _told(numbers: Sequence[int], delivered: int) -> dict[str, Any]:
    told: dict[str, Any] = dict(zip(COUNTED, numbers, strict=True))
    told["rate"] = told["human"] / delivered if delivered else None
    told["at_most_rate"] = told["at_most"] / delivered if delivered else None
    return told
