"""Sets what consumer groups have committed.

Invariant: a group with members is refused: they would go on from where they are, and commit that.
"""

from aiokafka import TopicPartition
from aiokafka.structs import OffsetAndMetadata

from schemas.errors import BadInput
from schemas.settings import Settings
from streams.backup.manifest import Groups
from streams.kafka.clients import admin_client, answering, offset_keeper


async def refuse_members(settings: Settings, groups: Groups) -> None:
    """Refuses groups that have members.

    Raises:
        BadInput: ``running``: with their names.
        Unavailable: no broker answers.
    """
    busy = []
    async with admin_client(settings) as client:
        there = {group for group, *_ in await client.list_consumer_groups()}
        for group in sorted(there & set(groups)):
            for answer in await client.describe_consumer_groups([group]):
                found = answer.to_object()["groups"]
                busy += [f"{group} ({len(one['members'])})" for one in found if one["members"]]
    if busy:
        raise BadInput(
            "running",
            f"consumer groups have members: {', '.join(busy)}; stop these processes, and wait for"
            " their session to end (MAILPULSE_SESSION_TIMEOUT_MS)",
        )


async def set_places(settings: Settings, groups: Groups) -> None:
    """Commits for every group what it had committed.

    Raises:
        Unavailable: no broker answers.
    """
    for group, topics in groups.items():
        offsets = {
            TopicPartition(topic, number): OffsetAndMetadata(place.offset, place.metadata)
            for topic, places in topics.items()
            for number, place in places.items()
        }
        if offsets:
            async with offset_keeper(settings, group) as keeper:
                keeper.assign(list(offsets))
                with answering(settings):
                    await keeper.commit(offsets)
