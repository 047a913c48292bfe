"""The definitions of all counts and rates.

Invariants:
1. Avro docs, SQL comments, dashboard tool-tips and ``schemas/README.md`` repeat these texts;
   ``tests/schemas/test_glossary.py`` fails when one of them differs.
2. A counter is an integer per campaign, mailbox provider and minute. Counters add up over
   minutes, mailbox providers, input partitions and log incarnations; rates never do.
3. A rate is published with its numerator and denominator; denominator 0 gives ``None``.
"""

from dataclasses import dataclass
from enum import StrEnum

MESSAGE = (
    "one provider message for one recipient; "
    "«unique» means once per message, exact, never estimated"
)


class Basis(StrEnum):
    """The minute in which an event is counted."""

    FLOW = "flow"
    """The minute in which the event happened."""
    COHORT = "cohort"
    """The minute in which the event's message was delivered."""


@dataclass(frozen=True, slots=True)
class Counter:
    """An integer of a campaign minute.

    Attributes:
        name: column and field name everywhere.
        basis: minute in which it is counted.
        doc: definition, one sentence.
    """

    name: str
    basis: Basis
    doc: str


COUNTERS: tuple[Counter, ...] = (
    Counter("events", Basis.FLOW, "events kept, of every type; duplicates are dropped before"),
    Counter("delivered", Basis.FLOW, "messages that a provider said the receiving server took"),
    Counter(
        "bounced_hard", Basis.FLOW, "messages that bounced for good: the address does not work"
    ),
    Counter("bounced_soft", Basis.FLOW, "messages that bounced for a passing reason"),
    Counter("bounced_block", Basis.FLOW, "messages refused for reputation, policy or content"),
    Counter("bounced_undetermined", Basis.FLOW, "messages that bounced without a usable reason"),
    Counter(
        "bounced_late",
        Basis.FLOW,
        "messages of any of the four classes that bounced after they were reported delivered",
    ),
    Counter(
        "suppressed", Basis.FLOW, "messages not attempted: the address is on a suppression list"
    ),
    Counter("deferred", Basis.FLOW, "deferral events: the provider goes on trying"),
    Counter(
        "rejected", Basis.FLOW, "messages that the provider itself rejected or failed to render"
    ),
    Counter("opened", Basis.FLOW, "messages with a first human open"),
    Counter("opened_any", Basis.FLOW, "messages with a first open by anyone, machines included"),
    Counter("clicked", Basis.FLOW, "messages with a first human click, unsubscribe links excluded"),
    Counter(
        "clicked_any",
        Basis.FLOW,
        "messages with a first click by anyone, unsubscribe links excluded",
    ),
    Counter("opens", Basis.FLOW, "open events by humans, repeats included"),
    Counter("clicks", Basis.FLOW, "click events by humans, repeats included, unsubscribe excluded"),
    Counter("machine_opens", Basis.FLOW, "open events by machines, repeats included"),
    Counter("machine_clicks", Basis.FLOW, "click events by scanners, repeats included"),
    Counter("unsubscribe_clicks", Basis.FLOW, "human click events on unsubscribe links"),
    Counter("complained", Basis.FLOW, "messages reported as spam by their recipient"),
    Counter("unsubscribed", Basis.FLOW, "messages whose recipient unsubscribed"),
    Counter("cohort_bounced_late", Basis.COHORT, "of the messages delivered here, bounced later"),
    Counter("cohort_opened", Basis.COHORT, "of the messages delivered here, opened by a human"),
    Counter("cohort_opened_any", Basis.COHORT, "of the messages delivered here, opened by anyone"),
    Counter("cohort_clicked", Basis.COHORT, "of the messages delivered here, clicked by a human"),
    Counter(
        "cohort_clicked_any", Basis.COHORT, "of the messages delivered here, clicked by anyone"
    ),
    Counter("cohort_complained", Basis.COHORT, "of the messages delivered here, reported as spam"),
    Counter("cohort_unsubscribed", Basis.COHORT, "of the messages delivered here, unsubscribed"),
)
COUNTER_NAMES: tuple[str, ...] = tuple(counter.name for counter in COUNTERS)
COUNTER_INDEX: dict[str, int] = {name: index for index, name in enumerate(COUNTER_NAMES)}

DERIVED: dict[str, tuple[tuple[str, int], ...]] = {
    # name: ((counter, sign), ...); sent = delivered in-band + bounced in-band
    "bounced": (
        ("bounced_hard", 1), ("bounced_soft", 1), ("bounced_block", 1), ("bounced_undetermined", 1),
    ),
    "sent": (
        ("delivered", 1), ("bounced_hard", 1), ("bounced_soft", 1), ("bounced_block", 1),
        ("bounced_undetermined", 1), ("bounced_late", -1),
    ),
    "accepted": (("delivered", 1), ("bounced_late", -1)),
    "cohort_accepted": (("delivered", 1), ("cohort_bounced_late", -1)),
}  # fmt: skip
DERIVED_DOCS: dict[str, str] = {
    "bounced": "hard + soft + block + undetermined bounces; suppressed never counts",
    "sent": "recipients attempted: delivered in-band + bounced in-band",
    "accepted": "delivered - later (out-of-band) bounces, both in the minute they happened",
    "cohort_accepted": "of the messages delivered here, those that have not bounced later",
}


@dataclass(frozen=True, slots=True)
class Rate:
    """A ratio of two counts, each named by a counter or a derived count."""

    name: str
    basis: Basis
    numerator: str
    denominator: str
    doc: str


RATES: tuple[Rate, ...] = (
    Rate("delivery_rate", Basis.FLOW, "accepted", "sent", "accepted / sent"),
    Rate("bounce_rate", Basis.FLOW, "bounced", "sent",
         "(hard + soft + block + undetermined bounces) / sent; suppressed never counts"),
    Rate("hard_bounce_rate", Basis.FLOW, "bounced_hard", "sent", "hard bounces / sent"),
    Rate("soft_bounce_rate", Basis.FLOW, "bounced_soft", "sent", "soft bounces / sent"),
    Rate("block_bounce_rate", Basis.FLOW, "bounced_block", "sent", "block bounces / sent"),
    Rate("open_rate", Basis.COHORT, "cohort_opened", "cohort_accepted",
         "messages with a first human open / accepted, of the messages delivered in the window"),
    Rate("open_rate_with_machine", Basis.COHORT, "cohort_opened_any", "cohort_accepted",
         "messages opened by anyone / accepted, of the messages delivered in the window"),
    Rate("click_rate", Basis.COHORT, "cohort_clicked", "cohort_accepted",
         "messages with a first human click / accepted, of the messages delivered in the window"),
    Rate("click_to_open_rate", Basis.COHORT, "cohort_clicked", "cohort_opened",
         "messages clicked / messages opened, both human; never called click rate"),
    Rate("complaint_rate", Basis.COHORT, "cohort_complained", "cohort_accepted",
         "complaints / accepted, of the messages delivered in the window"),
    Rate("unsubscribe_rate", Basis.COHORT, "cohort_unsubscribed", "cohort_accepted",
         "unsubscribes / accepted, of the messages delivered in the window"),
    Rate("flow_open_rate", Basis.FLOW, "opened", "accepted",
         "first human opens that happened in the window / accepted in it; can exceed 1"),
    Rate("flow_click_rate", Basis.FLOW, "clicked", "accepted",
         "first human clicks that happened in the window / accepted in it; can exceed 1"),
    Rate("flow_complaint_rate", Basis.FLOW, "complained", "accepted",
         "complaints that happened in the window / accepted in it; can exceed 1"),
)  # fmt: skip

WINDOWS_S: dict[str, int | None] = {"5m": 300, "1h": 3600, "24h": 86400, "total": None}
"""Window name -> length in seconds; ``None`` is everything since the campaign's first event."""


def derived(counts: "tuple[int, ...] | list[int]", name: str) -> int:
    """The value of a counter or derived count in a vector ordered as ``COUNTERS``.

    Raises:
        KeyError: ``name`` is neither a counter nor a derived count.
    """
    if name in COUNTER_INDEX:
        return counts[COUNTER_INDEX[name]]
    return sum(sign * counts[COUNTER_INDEX[counter]] for counter, sign in DERIVED[name])
