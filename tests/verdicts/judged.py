"""The verdicts that the real fold gives at the end of each event's correction window."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from schemas.event import Event
from streams.enrich.derive import LookUps
from tests.streams.folding import LOOK_UPS, Fold, log_of

SLICE = 500
"""Records of a step."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """As the enriched record says: ``actor``, ``actor_reason``, ``actor_certainty``."""

    actor: str
    reason: str
    certainty: str

    @property
    def is_machine(self) -> bool:
        """Of any certainty."""
        return self.actor in ("machine", "scanner")

    @property
    def is_sure_machine(self) -> bool:
        """A machine beyond the doubt that an interval leaves."""
        return self.is_machine and self.certainty in ("certain", "high")

    @property
    def is_human(self) -> bool:
        """Of any certainty."""
        return self.actor == "human"


def verdicts(events: list[Event], look_ups: LookUps = LOOK_UPS) -> dict[str, Verdict]:
    """The last verdict on each open and click, by event id.

    Args:
        events: in order of arrival.
        look_ups: with the rules that judge.
    """
    return last_of(enriched(events, look_ups))


def enriched(events: list[Event], look_ups: LookUps = LOOK_UPS) -> list[tuple[str, dict[str, Any]]]:
    """What the fold adds to each event, with its id; of one that is corrected, each revision."""
    fold = Fold(look_ups)
    records = log_of(events)
    for begin in range(0, len(records), SLICE):
        fold.fold(records[begin : begin + SLICE])
    assert not fold.dead_letters, fold.dead_letters[:1]
    return fold.enriched


def last_of(enriched: Iterable[tuple[str, dict[str, Any]]]) -> dict[str, Verdict]:
    """The newest revision of each open and click."""
    out: dict[str, Verdict] = {}
    for event_id, added in enriched:
        if added["actor"] != "none":
            out[event_id] = Verdict(added["actor"], added["actor_reason"], added["actor_certainty"])
    return out
