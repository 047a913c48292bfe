"""Which consumer group reads which topics: for lag and for rights in Kafka."""

from typing import Protocol

from schemas.topics import TOPICS, sink_topics


class GroupSettings(Protocol):
    """The settings that decide which group reads which topics."""

    @property
    def consumer_group(self) -> str: ...  # noqa: D102
    @property
    def sink_group(self) -> str: ...  # noqa: D102
    @property
    def sink_reconcile(self) -> bool: ...  # noqa: D102


def group_by_role(settings: GroupSettings) -> dict[str, str]:
    """Role -> its consumer group, for every role in ``Topic.groups``."""
    return {"worker": settings.consumer_group, "sink": settings.sink_group}


def topics_by_group(settings: GroupSettings) -> dict[str, tuple[str, ...]]:
    """Consumer group -> topics that it reads."""
    groups = group_by_role(settings)
    topics = {
        group: tuple(topic.name for topic in TOPICS if role in topic.groups)
        for role, group in groups.items()
    }
    return topics | {groups["sink"]: sink_topics(reconcile=settings.sink_reconcile)}


def progress_group(consumer_group: str) -> str:
    """The group whose offsets say how far the workers' second stores are, by partition of the raw
    topic; the offset's metadata is the number of the epoch. It has no members."""
    return f"{consumer_group}.second"
