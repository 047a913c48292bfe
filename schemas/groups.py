"""Which consumer group reads which topics: for measuring lag."""

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


def topics_by_group(settings: GroupSettings) -> dict[str, tuple[str, ...]]:
    """Consumer group -> topics that it reads."""
    worker = tuple(topic.name for topic in TOPICS if "worker" in topic.groups)
    sink = sink_topics(reconcile=settings.sink_reconcile)
    return {settings.consumer_group: worker, settings.sink_group: sink}
