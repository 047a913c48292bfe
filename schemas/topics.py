"""Topics: names, keys, partition counts, retention, writers and readers.

Invariant: raw, enriched and history have the same number of partitions. A record's enriched copy is
in the partition of the same number, and a recipient's history in that of its live events. The
number of partitions of an existing topic never changes, since
keys would move (``mailpulse topics apply`` refuses).
"""

from dataclasses import dataclass

RAW = "email.events.raw.v1"
ENRICHED = "email.events.enriched.v1"
DEAD_LETTERS = "email.events.dlq.v1"
MINUTES = "email.campaign.minutes.v1"
RATES = "email.campaign.rates.v1"
ALERTS = "email.campaign.alerts.v1"
SOURCE_ALERTS = "email.source.alerts.v1"
SOURCE_REQUESTS = "email.source.requests.v1"
SUPPRESSIONS = "email.suppressions.v1"
SCOPED_SUPPRESSIONS = "email.suppressions.scoped.v1"
ENGAGEMENT = "email.engagement.v1"
CAMPAIGNS = "email.campaigns.v1"
RULES = "email.rules.v1"
DESTINATIONS = "email.destinations.v1"
ERASURES = "email.erasures.v1"
HISTORY = "email.events.history.v1"

_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Topic:
    """Content and retention of a topic.

    Attributes:
        name: topic name.
        schema: schema name in ``schemas.codec.LATEST`` of its values.
        key: description of its records' keys.
        retention_ms: how long records are kept; ``None``: compacted.
        writers: roles that write it.
        groups: roles whose consumer group reads it, for which lag is measured.
        readers: roles that read it otherwise: without a group, to build their state from it, or
            (deliver) by a group for each destination.
        compaction_lag_ms: of a compacted topic whose records name people: after so long Kafka has
            removed what newer records of their keys replaced; ``None``: whenever it comes to it.
    """

    name: str
    schema: str
    key: str
    retention_ms: int | None
    writers: tuple[str, ...]
    groups: tuple[str, ...] = ()
    readers: tuple[str, ...] = ()
    compaction_lag_ms: int | None = None

    @property
    def compacted(self) -> bool:
        """Whether only the newest record of a key is kept."""
        return self.retention_ms is None

    @property
    def compatibility(self) -> str:
        """How its schema may change, in Confluent's words.

        Topics for outside consumers are FULL_TRANSITIVE: readers and writers upgrade in any order,
        and old records stay readable. On the raw topic readers upgrade first.
        """
        return "BACKWARD_TRANSITIVE" if self.name == RAW else "FULL_TRANSITIVE"

    @property
    def subject(self) -> str:
        """Name in a schema registry (TopicNameStrategy)."""
        return f"{self.name}-value"


TOPICS: tuple[Topic, ...] = (
    Topic(
        RAW, "raw_event", "recipient", 10 * _DAY_MS,
        writers=("ingest",), groups=("worker", "sink"),
    ),
    Topic(
        ENRICHED, "enriched_event", "recipient", 32 * _DAY_MS,
        writers=("worker",), groups=("sink",), readers=("worker", "deliver"),
    ),
    Topic(
        DEAD_LETTERS, "dead_letter", "dead letter's identity", 30 * _DAY_MS,
        writers=("ingest", "worker", "sink", "deliver"), groups=("sink",),
    ),
    Topic(
        MINUTES, "campaign_minute", "campaign, mailbox provider, minute, log, partition", None,
        writers=("worker",), groups=("worker", "sink"),
    ),
    Topic(
        RATES, "campaign_rates", "campaign", None,
        writers=("worker",), groups=("sink",), readers=("deliver",),
    ),
    Topic(
        ALERTS, "alert", "campaign", 90 * _DAY_MS,
        writers=("worker",), groups=("sink",), readers=("worker", "deliver"),
    ),
    Topic(
        SOURCE_ALERTS, "source_alert", "source", 90 * _DAY_MS,
        writers=("sink",), groups=("sink",), readers=("deliver",),
    ),
    Topic(
        SOURCE_REQUESTS, "source_requests", "source", 7 * _DAY_MS,
        writers=("ingest",), groups=("sink",),
    ),
    Topic(
        SUPPRESSIONS, "suppression", "recipient", None,
        writers=("worker",), groups=("sink",), readers=("deliver",),
        compaction_lag_ms=7 * _DAY_MS,
    ),
    Topic(
        SCOPED_SUPPRESSIONS, "suppression", "recipient, source and scope", None,
        writers=("worker",), groups=("sink",), readers=("deliver",),
        compaction_lag_ms=7 * _DAY_MS,
    ),
    Topic(
        ENGAGEMENT, "engagement", "recipient", 7 * _DAY_MS,
        writers=("worker",), readers=("worker", "deliver"),
    ),
    Topic(CAMPAIGNS, "campaign", "campaign", None, writers=(), groups=("sink",)),
    Topic(
        RULES, "rules", "epoch and when it was announced, or epoch and partition", None,
        writers=("worker",), readers=("worker",),
    ),
    Topic(DESTINATIONS, "destination", "destination", None, writers=(), readers=("deliver",)),
    Topic(
        ERASURES, "erasure", "erasure", None, writers=(), groups=("sink",),
        readers=("worker", "deliver"), compaction_lag_ms=_DAY_MS,
    ),
    Topic(
        HISTORY, "enriched_event", "recipient", 32 * _DAY_MS,
        writers=(), groups=("sink",), readers=("worker",),
    ),
)  # fmt: skip
"""Operators' commands (role ``admin`` in ``streams.kafka.acl``) read and write them too."""
BY_NAME: dict[str, Topic] = {topic.name: topic for topic in TOPICS}

READ_AGAIN = (RAW, ENRICHED)
"""Topics that workers read a second time, so that their retention bounds settings of workers
(``streams.kafka.retention``)."""
PARTITIONS_DEFAULT = 4
"""Partitions of every topic on one machine; a cluster sets more before its topics are created."""


def sink_topics(*, reconcile: bool) -> tuple[str, ...]:
    """Topics that the sink reads; the raw topic only for comparing counts in and out."""
    return tuple(
        topic.name
        for topic in TOPICS
        if "sink" in topic.groups and (topic.name != RAW or reconcile)
    )
