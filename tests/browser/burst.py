"""A campaign that was sent in ten minutes and is opened for days: its events, and their minutes."""

import random
import uuid
from collections import Counter
from datetime import UTC, datetime
from typing import Any

from schemas.glossary import COUNTER_NAMES
from tests.browser.stage import Stage

MESSAGES = 600
SENT_WITHIN_S = 600
_NOTHING = {
    "actor": "none", "actor_certainty": "none", "bounce_class": "none", "bounce_reason": "none",
    "first_human": False, "seconds_since_delivery": None, "device": "", "country": "",
}  # fmt: skip
BOXES = ("gmail", "microsoft", "yahoo", "apple")


def add_burst(stage: Stage, campaign: str, begun_s: float, now_s: float, opens: float) -> None:
    """Sends the campaign from ``begun_s`` on; people open ``opens`` of it, up to ``now_s``.

    Of four messages one goes to each mailbox provider; one in forty bounces; Apple's prefetch opens
    its own, which nobody can know of. Variants A and B alternate.
    """
    dice = random.Random(campaign)
    events: list[dict[str, Any]] = []
    minutes: dict[tuple[str, int], Counter[str]] = {}
    for number in range(MESSAGES):
        box, at = BOXES[number % 4], begun_s + dice.random() * SENT_WITHIN_S
        base = {
            "campaign_id": campaign, "message_key": uuid.uuid4(), "mailbox_provider": box,
            "metadata": {"variant": "AB"[number // 4 % 2]},
        }  # fmt: skip

        def told(kind: str, when: float, **more: Any) -> None:
            moment = datetime.fromtimestamp(when, UTC)
            ids = {"event_id": uuid.uuid4(), "event_type": kind, "event_time": moment}
            times = {"occurred_at": moment, "received_at": moment}
            events.append({**base, **_NOTHING, **ids, **times, **more})  # noqa: B023 (used at once)

        def count(when: float, *names: str) -> None:
            key = (box, int(when) // 60 * 60)  # noqa: B023 (used at once)
            minutes.setdefault(key, Counter()).update(names)

        if number % 40 == 0:
            told("bounced", at, bounce_class="hard", bounce_reason="no_mailbox")
            count(at, "events", "bounced_hard")
            continue
        told("delivered", at)
        count(at, "events", "delivered")
        seen = [dice.expovariate(1 / 20_000) + 75 if dice.random() < opens else None, None]
        if box == "apple":
            seen[1] = 5.0
        _open(seen, at, now_s, told, count)
    _insert(stage, campaign, events, minutes)


def _open(seen: list[Any], at: float, now_s: float, told: Any, count: Any) -> None:
    """Opens by a person and by Apple's prefetch, with what they count for; a third is clicked."""
    by_person, by_apple = (None if one is None or at + one > now_s else at + one for one in seen)
    if by_apple:
        told("opened", by_apple, actor="unknown", actor_certainty="high",
             seconds_since_delivery=by_apple - at)  # fmt: skip
        count(by_apple, "events", "unknown_opens", "opened_any", "opened_or_unknown",
              "opened_at_most")  # fmt: skip
        count(at, "cohort_opened_any", "cohort_opened_or_unknown", "cohort_opened_at_most")
    if not by_person:
        return
    reader = {"actor": "human", "actor_certainty": "high", "device": "phone", "country": "AT"}
    told("opened", by_person, first_human=True, seconds_since_delivery=by_person - at, **reader)
    count(by_person, "events", "opens", "opened")
    count(at, "cohort_opened")
    if not by_apple:
        count(by_person, "opened_any", "opened_or_unknown", "opened_at_most")
        count(at, "cohort_opened_any", "cohort_opened_or_unknown", "cohort_opened_at_most")
    clicked = by_person + 60
    if int(by_person) % 3 or clicked > now_s:
        return
    told("clicked", clicked, first_human=True, seconds_since_delivery=clicked - at, **reader)
    count(clicked, "events", "clicks", "clicked", "clicked_any", "clicked_or_unknown",
          "clicked_at_most")  # fmt: skip
    count(at, "cohort_clicked", "cohort_clicked_any", "cohort_clicked_or_unknown",
          "cohort_clicked_at_most", "cohort_opened_clicked")  # fmt: skip


def _insert(
    stage: Stage,
    campaign: str,
    events: list[dict[str, Any]],
    minutes: dict[tuple[str, int], Counter[str]],
) -> None:
    names = list(events[0])
    stage.client.insert(
        "events", [[one[name] for name in names] for one in events], column_names=names
    )
    rows = [
        [campaign, box, datetime.fromtimestamp(at, UTC), "log", 0, 1,
         *(counts[name] for name in COUNTER_NAMES)]
        for (box, at), counts in minutes.items()
    ]  # fmt: skip
    head = ["campaign_id", "mailbox_provider", "minute", "log_id", "partition", "offset"]
    stage.client.insert("campaign_minutes", rows, column_names=[*head, *COUNTER_NAMES])
