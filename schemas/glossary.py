"""The definitions of all counts and rates.

Invariants:
1. Avro docs, SQL comments, dashboard tool-tips and ``schemas/README.md`` repeat these texts;
   ``tests/schemas/test_glossary.py`` fails when one of them differs.
2. A counter is an integer per campaign, mailbox provider and minute. Counters add up over
   minutes, mailbox providers, input partitions and log incarnations; rates never do.
3. A rate is published with its numerator and denominator; denominator 0 gives ``None``.
4. A counter keeps its position: new ones are appended, so a stored vector that is shorter lacks
   only the newest.
5. A sum of counts is never negative, and a rate that is not named ``flow_`` lies in [0, 1]
   (``test_rate_laws.py`` of ``tests/streams`` and ``tests/analytics``).
"""

from dataclasses import dataclass
from enum import StrEnum

MESSAGE = (
    "one provider message, by its id, for one recipient, however a provider spells the address; "
    "«unique» means once per message, exact, never estimated. SendGrid's asynchronous bounces name "
    "their message by the sender's Message-ID alone: that is the message whose other events have "
    "it too; while there is none, or if there are several to the recipient, it is one by itself. A "
    "message without any event for MAILPULSE_MESSAGE_TTL_HOURS (30 days) is forgotten: what comes "
    "later counts as a new one"
)
ORDER = (
    "a message's events are judged together, whatever their order of arrival. First means the "
    "first that happened; the ids order those of one microsecond. A message belongs to the "
    "campaign that its first event to name one names. Later news corrects what was told for "
    "MAILPULSE_CORRECTION_HOURS (24) after the message's first event, by the log's time. Then it "
    "is settled: it stays as it is, later events only add to it, and are judged together in a "
    "window of their own"
)
SETTLED = (
    "what a settled message lacks a later event still gives: the first open, a late bounce, a "
    "campaign for what comes from then on. A delivery settled without a campaign keeps its cohort "
    "there. A delivery told after its bounce was settled counts beside that. Of more than 64 "
    "events in one window those that arrived first are settled early; of more than 4,096 events of "
    "a message the oldest ids are forgotten, and a repeat of one counts again"
)

BOUNCE = (
    "in-band if the message was never delivered, late at or after its delivery; one before the"
    " delivery does not count, since the retry succeeded. A message counts under its worst bounce"
    " (hard, block, soft, undetermined), among equals under the earliest. What the provider"
    " rejected, or did not attempt for a suppression list, is no bounce, and counts as such even"
    " if the message was delivered"
)

FIRST_ATTEMPT = (
    "the first attempt at a message ends with the first of its delivery, deferrals and bounces. A"
    " message is counted by attempt once it is delivered or bounced in-band, however long that took"
)
STALE = (
    "an event told more than 30 days after it happened is counted in the minute in which it came."
    " Counts named stale say how much of others that is; a message whose first attempt is stale is"
    " in no count by attempt"
)

DOUBT = (
    "a verdict is an actor (human, machine, unknown), a reason and a certainty (certain, high,"
    " probable). open_rate and click_rate count humans alone: that is the lower end of the interval"
    " that the doubt leaves. The upper end, named _at_most, leaves out only what is a machine's"
    " for certain or with high certainty; in between, _with_unknown counts humans and unknown. The"
    " bounds low and high of a published rate are about chance instead"
)


class Basis(StrEnum):
    """The minute in which an event is counted."""

    FLOW = "flow"
    """The minute in which the event happened."""
    COHORT = "cohort"
    """The minute in which the event's message was delivered."""
    ATTEMPT = "attempt"
    """The minute in which the first attempt at the event's message ended."""


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
    Counter(
        "unidentified",
        Basis.FLOW,
        "events that can't be told per message: without a message id, or the recipient is not"
        " certain; in no count of messages",
    ),
    Counter("delivered", Basis.FLOW, "messages that a provider said the receiving server took"),
    Counter(
        "bounced_hard",
        Basis.FLOW,
        "messages never delivered that bounced for good: the address does not work",
    ),
    Counter(
        "bounced_soft", Basis.FLOW, "messages never delivered that bounced for a passing reason"
    ),
    Counter(
        "bounced_block",
        Basis.FLOW,
        "messages never delivered that were refused for reputation, policy or content",
    ),
    Counter(
        "bounced_undetermined",
        Basis.FLOW,
        "messages never delivered that bounced without a usable reason",
    ),
    Counter(
        "bounced_late",
        Basis.FLOW,
        "messages that bounced at or after their delivery, whatever the reason",
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
    Counter(
        "machine_clicks",
        Basis.FLOW,
        "click events by machines, scanners above all, repeats included, unsubscribe excluded",
    ),
    Counter(
        "unsubscribe_clicks",
        Basis.FLOW,
        "click events on unsubscribe links, whoever made them: no verdict counts against a person",
    ),
    Counter("complained", Basis.FLOW, "messages reported as spam by their recipient"),
    Counter("unsubscribed", Basis.FLOW, "messages whose recipient unsubscribed"),
    Counter(
        "cohort_bounced_late",
        Basis.COHORT,
        "of the messages delivered here, bounced at or after their delivery",
    ),
    Counter("cohort_opened", Basis.COHORT, "of the messages delivered here, opened by a human"),
    Counter("cohort_opened_any", Basis.COHORT, "of the messages delivered here, opened by anyone"),
    Counter("cohort_clicked", Basis.COHORT, "of the messages delivered here, clicked by a human"),
    Counter(
        "cohort_clicked_any", Basis.COHORT, "of the messages delivered here, clicked by anyone"
    ),
    Counter(
        "cohort_opened_clicked",
        Basis.COHORT,
        "of the messages delivered here, both opened and clicked by a human",
    ),
    Counter("cohort_complained", Basis.COHORT, "of the messages delivered here, reported as spam"),
    Counter("cohort_unsubscribed", Basis.COHORT, "of the messages delivered here, unsubscribed"),
    Counter(
        "attempt_sent",
        Basis.ATTEMPT,
        "of the messages first attempted here, delivered or bounced in-band",
    ),
    Counter(
        "attempt_bounced_hard",
        Basis.ATTEMPT,
        "of the messages first attempted here, never delivered and bounced for good",
    ),
    Counter(
        "attempt_bounced_soft",
        Basis.ATTEMPT,
        "of the messages first attempted here, never delivered and bounced for a passing reason",
    ),
    Counter(
        "attempt_bounced_block",
        Basis.ATTEMPT,
        "of the messages first attempted here, never delivered and refused for reputation, policy"
        " or content",
    ),
    Counter(
        "attempt_bounced_undetermined",
        Basis.ATTEMPT,
        "of the messages first attempted here, never delivered and bounced without a usable reason",
    ),
    Counter(
        "events_stale",
        Basis.FLOW,
        "events told more than 30 days after they happened, counted in the minute in which they"
        " came",
    ),
    Counter("delivered_stale", Basis.FLOW, "messages whose delivery is such a stale event"),
    Counter(
        "cohort_bounced_late_stale",
        Basis.COHORT,
        "of the messages in delivered_stale here, bounced at or after their delivery",
    ),
    Counter(
        "cohort_complained_stale",
        Basis.COHORT,
        "of the messages in delivered_stale here, reported as spam",
    ),
    Counter(
        "cohort_unsubscribed_stale",
        Basis.COHORT,
        "of the messages in delivered_stale here, unsubscribed",
    ),
    Counter(
        "unknown_opens",
        Basis.FLOW,
        "open events of which nobody can know who made them, Apple's prefetch above all, repeats"
        " included",
    ),
    Counter(
        "unknown_clicks",
        Basis.FLOW,
        "click events of which the evidence leaves open who made them, repeats included,"
        " unsubscribe excluded",
    ),
    Counter(
        "opened_or_unknown", Basis.FLOW, "messages with a first open that is a human's or unknown"
    ),
    Counter(
        "opened_at_most",
        Basis.FLOW,
        "messages with a first open that may be a human's: it is, it is unknown, or it is only"
        " probably a machine's",
    ),
    Counter(
        "clicked_or_unknown",
        Basis.FLOW,
        "messages with a first click that is a human's or unknown, unsubscribe links excluded",
    ),
    Counter(
        "clicked_at_most",
        Basis.FLOW,
        "messages with a first click that may be a human's: it is, it is unknown, or it is only"
        " probably a machine's; unsubscribe links excluded",
    ),
    Counter(
        "cohort_opened_or_unknown",
        Basis.COHORT,
        "of the messages delivered here, opened by a human or by an unknown actor",
    ),
    Counter(
        "cohort_opened_at_most",
        Basis.COHORT,
        "of the messages delivered here, opened by an actor that may be human: not surely a"
        " machine",
    ),
    Counter(
        "cohort_clicked_or_unknown",
        Basis.COHORT,
        "of the messages delivered here, clicked by a human or by an unknown actor",
    ),
    Counter(
        "cohort_clicked_at_most",
        Basis.COHORT,
        "of the messages delivered here, clicked by an actor that may be human: not surely a"
        " machine",
    ),
)
COUNTER_NAMES: tuple[str, ...] = tuple(counter.name for counter in COUNTERS)
COUNTER_INDEX: dict[str, int] = {name: index for index, name in enumerate(COUNTER_NAMES)}

DERIVED: dict[str, tuple[tuple[str, int], ...]] = {
    # name: ((counter, sign), ...)
    "bounced": (
        ("bounced_hard", 1), ("bounced_soft", 1), ("bounced_block", 1), ("bounced_undetermined", 1),
    ),
    "sent": (
        ("delivered", 1), ("bounced_hard", 1), ("bounced_soft", 1), ("bounced_block", 1),
        ("bounced_undetermined", 1),
    ),
    # Both count the same messages in the same minute, so the difference is never negative.
    "clicked_unopened": (("cohort_clicked", 1), ("cohort_opened_clicked", -1)),
}  # fmt: skip
DERIVED_DOCS: dict[str, str] = {
    "bounced": "messages bounced in-band: hard + soft + block + undetermined",
    "sent": "recipients attempted: delivered + bounced in-band",
    "clicked_unopened": "of the messages delivered here, clicked but not opened by a human: their"
    " images were not loaded",
}


@dataclass(frozen=True, slots=True)
class Rate:
    """A ratio of two counts, each named by a counter or a derived count.

    A rate lies in [0, 1], because every message above the line is also below it, in the same
    minute. Only a rate named ``flow_`` can exceed 1: the messages above and below are not the same.
    """

    name: str
    basis: Basis
    numerator: str
    denominator: str
    doc: str


RATES: tuple[Rate, ...] = (
    Rate("delivery_rate", Basis.FLOW, "delivered", "sent", "delivered / sent"),
    Rate("bounce_rate", Basis.FLOW, "bounced", "sent",
         "bounced in-band / sent; late bounces and suppressed messages never count"),
    Rate("hard_bounce_rate", Basis.FLOW, "bounced_hard", "sent", "hard bounces in-band / sent"),
    Rate("soft_bounce_rate", Basis.FLOW, "bounced_soft", "sent", "soft bounces in-band / sent"),
    Rate("block_bounce_rate", Basis.FLOW, "bounced_block", "sent", "block bounces in-band / sent"),
    Rate("late_bounce_rate", Basis.COHORT, "cohort_bounced_late", "delivered",
         "messages that bounced at or after their delivery / delivered"),
    Rate("open_rate", Basis.COHORT, "cohort_opened", "delivered",
         "messages opened by a human / delivered"),
    Rate("open_rate_with_machine", Basis.COHORT, "cohort_opened_any", "delivered",
         "messages opened by anyone / delivered"),
    Rate("click_rate", Basis.COHORT, "cohort_clicked", "delivered",
         "messages clicked by a human / delivered"),
    Rate("click_to_open_rate", Basis.COHORT, "cohort_opened_clicked", "cohort_opened",
         "messages both opened and clicked / messages opened, all by humans; never called click"
         " rate"),
    Rate("complaint_rate", Basis.COHORT, "cohort_complained", "delivered",
         "messages reported as spam / delivered"),
    Rate("unsubscribe_rate", Basis.COHORT, "cohort_unsubscribed", "delivered",
         "messages whose recipient unsubscribed / delivered"),
    Rate("flow_open_rate", Basis.FLOW, "opened", "delivered",
         "first human opens that happened in the window / delivered in it; can exceed 1"),
    Rate("flow_click_rate", Basis.FLOW, "clicked", "delivered",
         "first human clicks that happened in the window / delivered in it; can exceed 1"),
    Rate("flow_complaint_rate", Basis.FLOW, "complained", "delivered",
         "complaints that happened in the window / delivered in it; can exceed 1"),
    Rate("open_rate_with_unknown", Basis.COHORT, "cohort_opened_or_unknown", "delivered",
         "messages opened by a human or by an unknown actor / delivered"),
    Rate("open_rate_at_most", Basis.COHORT, "cohort_opened_at_most", "delivered",
         "messages opened by an actor that may be human / delivered: the upper end of open_rate's"
         " interval"),
    Rate("click_rate_with_unknown", Basis.COHORT, "cohort_clicked_or_unknown", "delivered",
         "messages clicked by a human or by an unknown actor / delivered"),
    Rate("click_rate_at_most", Basis.COHORT, "cohort_clicked_at_most", "delivered",
         "messages clicked by an actor that may be human / delivered: the upper end of click_rate's"
         " interval"),
    Rate("flow_open_rate_with_unknown", Basis.FLOW, "opened_or_unknown", "delivered",
         "first opens by a human or by an unknown actor, in the minute they happened / delivered in"
         " the window; can exceed 1"),
    Rate("flow_open_rate_at_most", Basis.FLOW, "opened_at_most", "delivered",
         "first opens by an actor that may be human, in the minute they happened / delivered in the"
         " window; can exceed 1"),
    Rate("flow_click_rate_with_unknown", Basis.FLOW, "clicked_or_unknown", "delivered",
         "first clicks by a human or by an unknown actor, in the minute they happened / delivered"
         " in the window; can exceed 1"),
    Rate("flow_click_rate_at_most", Basis.FLOW, "clicked_at_most", "delivered",
         "first clicks by an actor that may be human, in the minute they happened / delivered in"
         " the window; can exceed 1"),
)  # fmt: skip

WINDOWS_S: dict[str, int | None] = {"5m": 300, "1h": 3600, "24h": 86400, "total": None}
"""Window name -> length in seconds; ``None`` is everything since the campaign's first event."""
WINDOWS_DOC = (
    "5m, 1h and 24h are that many whole minutes that have ended; "
    "total is everything so far, the running minute included"
)


def derived(counts: "tuple[int, ...] | list[int]", name: str) -> int:
    """The value of a counter or derived count in a vector ordered as ``COUNTERS``.

    Raises:
        KeyError: ``name`` is neither a counter nor a derived count.
    """
    if name in COUNTER_INDEX:
        return counts[COUNTER_INDEX[name]]
    return sum(sign * counts[COUNTER_INDEX[counter]] for counter, sign in DERIVED[name])
