"""A random history as Kafka would deliver it, and a plain recount of the expected figures.

The recount is brute force over dictionaries: it uses no ClickHouse, and of the tables only what
they promise.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from schemas import topics
from schemas.codec import AvroRecord, Codec
from schemas.event import event_id
from schemas.glossary import COUNTER_NAMES, DERIVED, RATES, derived
from tests.builders import enrichment, event, record

MINUTE_0 = 1_790_000_040
"""Start of a minute in September 2026, seconds."""
CAMPAIGNS = ("", "spring", "autumn")
MAILBOXES = ("gmail", "yahoo")
URLS = ("https://example.com/a", "https://example.com/b")
CODEC = Codec()


@dataclass(frozen=True, slots=True)
class Sent:
    """A record as a consumer receives it (``analytics.sink.rows.Polled``)."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] = ()


@dataclass
class History:
    """Decoded records by topic, in log order per partition."""

    enriched: list[AvroRecord] = field(default_factory=list)
    minutes: list[AvroRecord] = field(default_factory=list)

    def sent(self) -> list[Sent]:
        """Every record, encoded; offsets are positions in this list."""
        pairs = [(topics.ENRICHED, "enriched_event", item) for item in self.enriched]
        pairs += [(topics.MINUTES, "campaign_minute", item) for item in self.minutes]
        return [
            Sent(topic, 0, offset, MINUTE_0 * 1000, b"k", CODEC.encode(schema, item))
            for offset, (topic, schema, item) in enumerate(pairs)
        ]


KINDS: tuple[dict[str, Any], ...] = (
    {"event_type": "delivered", "first_of_kind": True},
    {"event_type": "bounced", "bounce_class": "hard", "bounce_reason": "no_mailbox"},
    {"event_type": "bounced", "bounce_class": "soft", "bounce_reason": "mailbox_full"},
    {"event_type": "opened", "actor": "human", "first_of_kind": True, "first_human": True},
    {"event_type": "opened", "actor": "machine", "actor_reason": "apple_mpp"},
    {"event_type": "clicked", "actor": "human", "first_human": True},
    {"event_type": "clicked", "actor": "machine", "actor_reason": "too_fast"},
    {"event_type": "clicked", "actor": "human", "unsubscribe_link": True},
)


def first_revision(
    number: int, message: int, kind: dict[str, Any], second: int, mailbox: str, url: str
) -> AvroRecord:
    """Event ``number`` of a message, as first written; ``second`` counts from ``MINUTE_0``."""
    event_type = str(kind["event_type"])
    at = (MINUTE_0 + second) * 1_000_000
    rest = {name: value for name, value in kind.items() if name != "event_type"}
    return {
        "event": event(
            event_id=event_id("test", "", str(number)),
            event_type=event_type,
            occurred_at=at,
            received_at=at + 2_000_000,
            message_id=f"m{message}",
            recipient=f"r{message}@example.com",
            click_url=url if event_type == "clicked" else None,
            campaign_id=None,
        ),
        "enrichment": enrichment(
            event_time=at,
            message_key=event_id("message", "", str(message)),
            mailbox_provider=mailbox,
            click_url_group=url if event_type == "clicked" else "",
            **rest,
        ),
    }


@st.composite
def histories(draw: st.DrawFn) -> History:
    """Events with corrections, in up to two logs of the raw topic, and minute counts."""
    history = History()
    for number in range(draw(st.integers(1, 12))):
        message = draw(st.integers(0, 4))
        base = first_revision(
            number,
            message,
            draw(st.sampled_from(KINDS)),
            draw(st.integers(0, 300)),
            MAILBOXES[message % 2],
            draw(st.sampled_from(URLS)),
        )
        _revise(draw, history, base, number)
    for log_id in ("log-a", "log-b"):
        _count(draw, history, log_id)
    return history


def _revise(draw: st.DrawFn, history: History, base: AvroRecord, number: int) -> None:
    """Writes an event and its corrections; a later correction may be in a later, shorter log."""
    campaign = draw(st.sampled_from(CAMPAIGNS))
    version = 1_000 + number * 10
    for revision in range(draw(st.integers(1, 3))):
        moved_to = draw(st.sampled_from(CAMPAIGNS)) if revision else campaign
        # a correction from a recreated log has a smaller offset than the event it corrects
        version = draw(st.integers(0, 5)) if draw(st.booleans()) and revision else version + 1
        changes: AvroRecord = {
            "log_id": "log-a",
            "offset": 1_000 + number * 10,
            "version": version,
            "revision": revision,
            "campaign_id": moved_to or None,
            "previous_campaign_id": campaign if moved_to != campaign else None,
        }
        if revision and base["event"]["event_type"] in ("opened", "clicked"):
            changes["actor"] = draw(st.sampled_from(("human", "machine", "unknown")))
        history.enriched.append(
            {"event": base["event"], "enrichment": {**base["enrichment"], **changes}}
        )
        campaign = moved_to


def _count(draw: st.DrawFn, history: History, log_id: str) -> None:
    """Absolute counts as of rising offsets; in a later log they may be negative."""
    lowest = -3 if log_id == "log-b" else 0
    for offset in range(draw(st.integers(0, 8))):
        history.minutes.append(
            record(
                "campaign_minute",
                campaign_id=draw(st.sampled_from(CAMPAIGNS)),
                mailbox_provider=draw(st.sampled_from(MAILBOXES)),
                minute=(MINUTE_0 + 60 * draw(st.integers(0, 3))) * 1000,
                log_id=log_id,
                partition=draw(st.integers(0, 1)),
                offset=offset,
                events=draw(st.integers(1, 20)),
                **{
                    name: draw(st.integers(lowest, 9))
                    for name in ("delivered", "bounced_hard", "bounced_late", "opened",
                                 "cohort_opened", "cohort_clicked", "clicked")
                },
            )
        )  # fmt: skip


# --- the recount ----------------------------------------------------------------------------------


def final_events(history: History) -> dict[str, AvroRecord]:
    """Event id -> the last revision."""
    last: dict[str, AvroRecord] = {}
    for item in history.enriched:
        identity = item["event"]["event_id"]
        mark = (item["enrichment"]["revision"], item["enrichment"]["version"])
        held = last.get(identity)
        if held is None or mark >= (
            held["enrichment"]["revision"],
            held["enrichment"]["version"],
        ):
            last[identity] = item
    return last


def final_counts(
    history: History, group: Callable[[AvroRecord], Any]
) -> dict[Any, dict[str, float | None]]:
    """Counts, derived counts and rates of the newest partials, added up by ``group``."""
    newest: dict[tuple[Any, ...], AvroRecord] = {}
    for item in history.minutes:
        key = tuple(
            item[name]
            for name in ("campaign_id", "mailbox_provider", "minute", "log_id", "partition")
        )
        if key not in newest or item["offset"] >= newest[key]["offset"]:
            newest[key] = item
    sums: dict[Any, list[int]] = defaultdict(lambda: [0] * len(COUNTER_NAMES))
    for item in newest.values():
        vector = sums[group(item)]
        for index, name in enumerate(COUNTER_NAMES):
            vector[index] += item[name]
    return {key: _figures(vector) for key, vector in sums.items()}


def _figures(vector: list[int]) -> dict[str, float | None]:
    figures: dict[str, float | None] = dict(zip(COUNTER_NAMES, vector, strict=True))
    for name in DERIVED:
        figures[name] = derived(vector, name)
    for rate in RATES:
        below = derived(vector, rate.denominator)
        figures[rate.name] = derived(vector, rate.numerator) / below if below else None
    return figures


def tally(items: Sequence[AvroRecord], key: Callable[[AvroRecord], Any]) -> Counter[Any]:
    """How often each key occurs; ``None`` keys do not count."""
    return Counter(found for found in map(key, items) if found is not None)
