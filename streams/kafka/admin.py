"""Topics, their incarnation and the lag of their consumer groups, over Kafka's admin protocol.

Invariants:
1. Topics are made here and nowhere else; a broker's automatic creation is never relied on, and
   nothing here asks for it.
2. A change that would move keys between partitions or lose records is refused with its reason.
3. ``log_id`` is the broker's own id of the raw topic: a recreated topic has another one.

Sources: Kafka protocol guide, «OffsetFetch», «DescribeConfigs»; Apache Kafka documentation, topic
configuration.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from aiokafka import TopicPartition
from aiokafka.admin import NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import for_code

from schemas.errors import ConfigError, Unavailable
from schemas.groups import topics_by_group
from schemas.settings import Settings
from schemas.topics import BY_NAME, RAW, TOPICS, Topic
from streams.kafka.clients import admin_client, lone_consumer
from streams.kafka.metadata import ClusterRequest

REPLICATION_WISHED = 3
MIN_INSYNC_REPLICAS = 2
"""With three replicas: an acknowledged record survives the loss of one broker."""
_TOPIC_EXISTS = 36  # Kafka error code TOPIC_ALREADY_EXISTS


@dataclass(frozen=True, slots=True)
class TopicState:
    """A topic as the cluster has it.

    Attributes:
        topic_id: the broker's id of this incarnation, as 32 hexadecimal digits.
        replication: replicas of its least replicated partition.
        in_sync: in-sync replicas of the worst partition; 0 when one is offline.
        config: the settings that were set on the topic, as text.
    """

    name: str
    topic_id: str
    partitions: int
    replication: int
    in_sync: int
    config: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Cluster:
    """What the admin commands look at."""

    brokers: int
    topics: dict[str, TopicState]


@dataclass(frozen=True, slots=True)
class TopicsReport:
    """What ``topics_apply`` did.

    Attributes:
        created: topics made now.
        kept: topics that were there and fit.
        warnings: what differs and is left alone, one line each.
    """

    created: tuple[str, ...]
    kept: tuple[str, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Lag:
    """How far a consumer group is behind on one partition. ``committed`` is ``None`` before the
    group's first commit; ``lag`` counts from the start of the partition then."""

    group: str
    topic: str
    partition: int
    committed: int | None
    end: int
    lag: int


async def _describe(client: Any) -> Cluster:
    response = await client._send_request(ClusterRequest())
    document = response.to_object()
    topics = {}
    for item in document["topics"]:
        partitions = item["partitions"]
        if item["error_code"] or not partitions:
            continue
        topics[item["name"]] = TopicState(
            name=item["name"],
            topic_id=item["topic_id"].hex,
            partitions=len(partitions),
            replication=min(len(partition["replicas"]) for partition in partitions),
            in_sync=min(
                0 if partition["leader"] < 0 else len(partition["isr"]) for partition in partitions
            ),
        )
    return Cluster(len(document["brokers"]), topics)


async def configs_of(client: Any, names: Iterable[str]) -> dict[str, dict[str, str]]:
    """Settings of topics as text, defaults too; empty where the right to read them is missing.

    Args:
        client: see ``streams.kafka.clients.admin_client``.
    """
    resources = [ConfigResource(ConfigResourceType.TOPIC, name, None) for name in names]
    if not resources:
        return {}
    found: dict[str, dict[str, str]] = {}
    for response in await client.describe_configs(resources):
        for resource in response.to_object()["resources"]:
            found[resource["resource_name"]] = {
                entry["config_names"]: str(entry["config_value"])
                for entry in resource["config_entries"] or ()
            }
    return found


def wanted_config(topic: Topic, replication: int) -> dict[str, str]:
    """Settings of a new topic."""
    config = (
        {"cleanup.policy": "compact"}
        if topic.compacted
        else {"cleanup.policy": "delete", "retention.ms": str(topic.retention_ms)}
    )
    if topic.compaction_lag_ms is not None:
        config["max.compaction.lag.ms"] = str(topic.compaction_lag_ms)
    if replication >= REPLICATION_WISHED:
        config["min.insync.replicas"] = str(MIN_INSYNC_REPLICAS)
    return config


def replication_for(settings: Settings, brokers: int) -> int:
    """Replicas of a new topic: the setting, else three, or as many as there are brokers."""
    return settings.kafka_replication_factor or min(REPLICATION_WISHED, max(1, brokers))


def judge(state: TopicState, wanted: Topic, partitions: int) -> tuple[list[str], list[str]]:
    """What is harmful (refused) about an existing topic, and what merely differs. Pure."""
    harmful, differing = [], []
    if state.partitions != partitions:
        harmful.append(
            f"{state.name}: has {state.partitions} partitions, MAILPULSE_PARTITIONS says"
            f" {partitions}; changing the number would move keys to other partitions and break"
            " «once per message». Set MAILPULSE_PARTITIONS back, or move to new topics"
        )
    policy = state.config.get("cleanup.policy")
    if policy is not None and ("compact" in policy) != wanted.compacted:
        meant = "compact" if wanted.compacted else "delete"
        harmful.append(
            f"{state.name}: cleanup.policy is {policy}, must be {meant}; "
            + (
                "records that are still the newest of their key would be deleted"
                if wanted.compacted
                else "compaction would drop events of a message that has later ones"
            )
        )
    retention = state.config.get("retention.ms")
    if retention is not None and wanted.retention_ms is not None:
        kept_ms = int(retention)
        if 0 <= kept_ms < wanted.retention_ms:
            differing.append(
                f"{state.name}: keeps records {kept_ms / 86_400_000:.1f} days, mailpulse's own"
                f" choice is {wanted.retention_ms / 86_400_000:.0f}"
            )
    lag = state.config.get("max.compaction.lag.ms")
    if wanted.compaction_lag_ms is not None and int(lag or 0) > wanted.compaction_lag_ms:
        differing.append(
            f"{state.name}: what an erasure replaced there is removed at no certain time; it is"
            f" with max.compaction.lag.ms={wanted.compaction_lag_ms}"
        )
    if state.in_sync == 0:
        differing.append(f"{state.name}: a partition is offline")
    elif state.in_sync < state.replication:
        differing.append(
            f"{state.name}: only {state.in_sync} of {state.replication} replicas in sync"
        )
    return harmful, differing


async def topics_show(settings: Settings, *, configs: bool = True) -> Cluster:
    """mailpulse's topics as they exist.

    Args:
        configs: with the topics' settings, which takes a second request.

    Raises:
        Unavailable: no broker answers.
    """
    async with admin_client(settings) as client:
        cluster = await _describe(client)
        ours = {name: state for name, state in cluster.topics.items() if name in BY_NAME}
        found = await configs_of(client, ours) if configs else {}
    states = {name: replace(ours[name], config=found.get(name, {})) for name in ours}
    return Cluster(cluster.brokers, states)


async def topics_apply(settings: Settings) -> TopicsReport:
    """Creates missing topics and checks existing ones; safe to repeat.

    Raises:
        ConfigError: an existing topic can't be used as it is, and nothing was created; or the
            broker refuses a new one, and others may have been created.
        Unavailable: no broker answers.
    """
    cluster = await topics_show(settings)
    harmful, differing = [], []
    for name, state in cluster.topics.items():
        bad, other = judge(state, BY_NAME[name], settings.partitions)
        harmful += bad
        differing += other
    if harmful:
        raise ConfigError(harmful)
    replication = replication_for(settings, cluster.brokers)
    missing = [topic for topic in TOPICS if topic.name not in cluster.topics]
    if missing:
        async with admin_client(settings) as client:
            await _create(client, missing, settings.partitions, replication)
            await _until_visible(client, {topic.name for topic in missing})
    if replication < REPLICATION_WISHED and cluster.brokers >= REPLICATION_WISHED:
        differing.append(f"{replication} replicas, though there are {cluster.brokers} brokers")
    return TopicsReport(
        tuple(topic.name for topic in missing), tuple(cluster.topics), tuple(differing)
    )


async def _create(client: Any, topics: list[Topic], partitions: int, replication: int) -> None:
    new = [
        NewTopic(
            topic.name, partitions, replication, topic_configs=wanted_config(topic, replication)
        )
        for topic in topics
    ]
    response = (await client.create_topics(new)).to_object()
    problems = [
        f"{item['topic']}: {item.get('error_message') or for_code(item['error_code']).__name__}"
        for item in response["topic_errors"]
        # another process may create the same topics at the same time, with the same settings
        if item["error_code"] not in (0, _TOPIC_EXISTS)
    ]
    if problems:
        raise ConfigError(problems)


async def _until_visible(client: Any, names: set[str], attempts: int = 100) -> None:
    """Waits for new topics: a controller acknowledges one a moment before all brokers know it."""
    for _ in range(attempts):
        cluster = await _describe(client)
        if all(name in cluster.topics and cluster.topics[name].in_sync for name in names):
            return
        await asyncio.sleep(0.1)
    raise Unavailable(f"topics were created but are not ready: {', '.join(sorted(names))}")


async def log_id(settings: Settings) -> str:
    """Which incarnation of the raw topic this is: the setting, else the broker's topic id.

    Raises:
        ConfigError: the raw topic does not exist.
        Unavailable: no broker answers.
    """
    if settings.log_id:
        return settings.log_id
    async with admin_client(settings) as client:
        cluster = await _describe(client)
    if RAW not in cluster.topics:
        raise ConfigError([f"{RAW}: no such topic; 'mailpulse topics apply' creates it"])
    return cluster.topics[RAW].topic_id


async def lag(settings: Settings, groups: dict[str, tuple[str, ...]] | None = None) -> list[Lag]:
    """How far each group is behind, per topic and partition, in that order.

    Committed offsets and ends are read one after the other, so a figure may be a moment old; it
    is never below the truth at the time of the call, because ends are read last.

    Raises:
        Unavailable: no broker answers.
    """
    wanted = groups if groups is not None else topics_by_group(settings)
    async with admin_client(settings) as client:
        cluster = await _describe(client)
        partitions = {
            group: [
                TopicPartition(name, number)
                for name in topics
                if name in cluster.topics
                for number in range(cluster.topics[name].partitions)
            ]
            for group, topics in wanted.items()
        }
        committed = {
            group: await client.list_consumer_group_offsets(group, partitions=list(tps))
            for group, tps in partitions.items()
            if tps
        }
    starts, ends = await _bounds(settings, {tp for tps in partitions.values() for tp in tps})
    rows = []
    for group, tps in partitions.items():
        for tp in tps:
            found = committed[group].get(tp)
            offset = found.offset if found is not None and found.offset >= 0 else None
            behind = ends[tp] - max(offset if offset is not None else 0, starts[tp])
            rows.append(Lag(group, tp.topic, tp.partition, offset, ends[tp], max(0, behind)))
    return rows


async def _bounds(
    settings: Settings, partitions: set[TopicPartition]
) -> tuple[dict[TopicPartition, int], dict[TopicPartition, int]]:
    """First and next offset of each partition."""
    if not partitions:
        return {}, {}
    async with lone_consumer(settings) as consumer:
        starts = await consumer.beginning_offsets(list(partitions))
        return starts, await consumer.end_offsets(list(partitions))
