"""How topics are created, and which changes are refused: the part that needs no broker."""

import pytest

from analytics.sink.rows import BUILDERS, STATEMENTS
from analytics.sink.sink import Sink
from schemas.groups import topics_by_group
from schemas.settings import Settings
from schemas.topics import BY_NAME, ERASURES, MINUTES, RAW, SUPPRESSIONS, TOPICS, sink_topics
from streams.kafka.admin import TopicState, judge, replication_for, wanted_config

RAW_TOPIC, MINUTES_TOPIC = BY_NAME[RAW], BY_NAME[MINUTES]


def state(name: str, **overrides: object) -> TopicState:
    """A topic as a cluster of one broker has it."""
    values: dict[str, object] = {
        "name": name, "topic_id": "0" * 32, "partitions": 4, "replication": 1, "in_sync": 1,
        "config": {},
    }  # fmt: skip
    return TopicState(**{**values, **overrides})  # type: ignore[arg-type]


def test_fitting_topic_is_left_alone() -> None:
    """Nothing is reported about a topic that mailpulse created."""
    for topic in TOPICS:
        made = state(topic.name, config=wanted_config(topic, 1))
        assert judge(made, topic, 4) == ([], [])


@pytest.mark.parametrize("partitions", [3, 5, 8])
def test_other_number_of_partitions_is_refused(partitions: int) -> None:
    """Keys would move: neither more nor fewer partitions are accepted."""
    harmful, _ = judge(state(RAW, partitions=partitions), RAW_TOPIC, 4)
    assert len(harmful) == 1
    assert "would move keys" in harmful[0]


def test_wrong_cleanup_policy_is_refused_both_ways() -> None:
    """Compacting events loses some; deleting by age loses the newest record of a key."""
    raw, _ = judge(state(RAW, config={"cleanup.policy": "compact"}), RAW_TOPIC, 4)
    minutes, _ = judge(state(MINUTES, config={"cleanup.policy": "delete"}), MINUTES_TOPIC, 4)
    assert "compaction would drop" in raw[0]
    assert "would be deleted" in minutes[0]


def test_shorter_retention_is_noted_and_longer_is_not() -> None:
    """Keeping records longer is harmless; -1 means for ever."""
    for kept, notes in (("3600000", 1), ("-1", 0), (str(10**12), 0)):
        harmful, differing = judge(state(RAW, config={"retention.ms": kept}), RAW_TOPIC, 4)
        assert (len(harmful), len(differing)) == (0, notes)


def test_compaction_without_a_date_is_noted_where_records_name_people() -> None:
    """Kafka's default is the largest number that there is; topics may be older than the setting."""
    for name, config, notes in (
        (SUPPRESSIONS, {"max.compaction.lag.ms": str(2**63 - 1)}, 1),
        (SUPPRESSIONS, {"max.compaction.lag.ms": "1000"}, 0), (SUPPRESSIONS, {}, 0),
        (MINUTES, {"max.compaction.lag.ms": str(2**63 - 1)}, 0),
    ):  # fmt: skip
        assert len(judge(state(name, config=config), BY_NAME[name], 4)[1]) == notes


def test_missing_replicas_are_noted() -> None:
    """An operator who looks at topics sees that a broker is unavailable."""
    assert "offline" in judge(state(RAW, in_sync=0), RAW_TOPIC, 4)[1][0]
    assert "only 2 of 3" in judge(state(RAW, replication=3, in_sync=2), RAW_TOPIC, 4)[1][0]


@pytest.mark.parametrize(
    ("given", "brokers", "replicas"), [(None, 1, 1), (None, 2, 2), (None, 9, 3), (2, 9, 2)]
)
def test_replication_follows_brokers_unless_set(
    given: int | None, brokers: int, replicas: int
) -> None:
    """Three replicas if there are three brokers, or the configured number."""
    assert replication_for(Settings(kafka_replication_factor=given), brokers) == replicas


def test_two_replicas_must_be_in_sync_from_three_on() -> None:
    """With three replicas an acknowledged record survives a broker; with one there is no choice."""
    assert wanted_config(RAW_TOPIC, 3)["min.insync.replicas"] == "2"
    assert "min.insync.replicas" not in wanted_config(RAW_TOPIC, 1)


@pytest.mark.parametrize("reconcile", [True, False])
def test_lag_is_asked_of_what_the_groups_really_read(reconcile: bool) -> None:
    """A group would never catch up with a topic that it does not read."""
    settings = Settings(sink_reconcile=reconcile)
    groups = topics_by_group(settings)
    assert set(groups["mailpulse-sink"]) == set(Sink(settings)._batchers)
    assert (RAW in groups["mailpulse-sink"]) == reconcile
    assert set(groups["mailpulse"]) == {RAW, MINUTES}


def test_the_sink_stores_whatever_lists_it() -> None:
    """And nothing else; erasures change what is stored."""
    assert set(sink_topics(reconcile=True)) == {*STATEMENTS, *BUILDERS, ERASURES}
