"""Topics: names, schemas and retention fit together."""

import re

from schemas.codec import LATEST
from schemas.groups import group_by_role, topics_by_group
from schemas.settings import Settings, StreamsSettings
from schemas.topics import BY_NAME, ENRICHED, RAW, TOPICS
from streams.kafka.acl import rules

DAY_MS = 86_400_000


def test_names_follow_the_convention() -> None:
    """Dot-separated, lower case, versioned, no underscore (its metric name would clash)."""
    for topic in TOPICS:
        assert re.fullmatch(r"email(\.[a-z]+)+\.v\d+", topic.name)
    assert len(BY_NAME) == len(TOPICS)


def test_every_schema_has_a_topic_and_every_topic_a_schema() -> None:
    """A topic carries one kind of record; suppressions of addresses and of lists have one each, and
    live events and history."""
    twice = ("suppression", "enriched_event")
    assert sorted([topic.schema for topic in TOPICS]) == sorted([*LATEST, *twice])


def test_every_role_that_reads_by_a_group_has_one_with_lag_and_rights() -> None:
    """A reader that ``schemas.groups`` does not know would have no lag and no right to read."""
    settings = Settings()
    groups = group_by_role(settings)
    assert set(groups) == {role for topic in TOPICS for role in topic.groups}
    assert set(topics_by_group(settings)) == set(groups.values())
    for role, group in groups.items():
        [rule] = [rule for rule in rules(settings) if (rule.role, rule.name) == (role, group)]
        assert rule.operations == ("Read",)


def test_compacted_topics_keep_the_newest_of_each_key() -> None:
    """State-like topics are compacted, event-like ones expire."""
    compacted = {topic.name for topic in TOPICS if topic.compacted}
    assert compacted == {
        "email.campaign.minutes.v1",
        "email.campaign.rates.v1",
        "email.suppressions.v1",
        "email.suppressions.scoped.v1",
        "email.campaigns.v1",
        "email.rules.v1",
        "email.destinations.v1",
        "email.erasures.v1",
    }


def test_enriched_outlives_what_state_is_rebuilt_from_it() -> None:
    """A new machine rebuilds dedupe and message state from the enriched topic's tail."""
    settings = StreamsSettings()
    kept_ms = BY_NAME[ENRICHED].retention_ms
    assert kept_ms is not None
    assert kept_ms >= settings.message_ttl_hours * 3_600_000


def test_raw_outlives_every_providers_retries() -> None:
    """A replay from the start of the raw topic still sees the first copy of a retried event."""
    kept_ms = BY_NAME[RAW].retention_ms
    assert kept_ms is not None
    longest_retry_ms = 7 * DAY_MS
    assert kept_ms >= longest_retry_ms + DAY_MS
    assert StreamsSettings().message_ttl_hours * 3_600_000 >= longest_retry_ms + DAY_MS


def test_only_the_raw_topic_may_ask_its_readers_to_upgrade_first() -> None:
    """Whatever others subscribe to can be read by older and newer readers alike."""
    assert {topic.name for topic in TOPICS if topic.compatibility != "FULL_TRANSITIVE"} == {RAW}
