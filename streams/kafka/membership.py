"""Takes workers that are gone for good out of their consumer group.

A worker with a ``MAILPULSE_GROUP_INSTANCE_ID`` (a static member, KIP-345) does not leave its group
when it stops: a restart within the session time-out keeps its partitions. When the number of
workers was lowered nobody comes back, and its partitions would stand still until the time-out.

Invariants:
1. Only members that are named are taken out; Kafka divides their partitions at once.
2. One that runs after all joins again: nothing is lost, the group is rebalanced twice.

Sources: Kafka protocol guide, «LeaveGroup» (API key 13), version 3, which names members by their
instance and may be sent by anyone with the right to read the group. aiokafka 0.14 has versions 0
and 1; its request classes are internals, so it is pinned exactly and a live test asks a broker.
"""

from collections.abc import Sequence

from aiokafka.errors import for_code
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Int16, Int32, Schema, String

from schemas.errors import Unavailable
from schemas.settings import Settings
from streams.kafka.clients import admin_client, answering

UNKNOWN_MEMBER = 25
"""Kafka's error code UNKNOWN_MEMBER_ID: no member of that name."""
_MEMBER = (("member_id", String("utf-8")), ("group_instance_id", String("utf-8")))


class LeaveResponse(Response):  # type: ignore[misc]  # aiokafka ships no types
    """What became of each member."""

    API_KEY = 13
    API_VERSION = 3
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("error_code", Int16),
        ("members", Array(*_MEMBER, ("error_code", Int16))),
    )


class _LeaveStruct(RequestStruct):  # type: ignore[misc]
    API_KEY = 13
    API_VERSION = 3
    RESPONSE_TYPE = LeaveResponse
    SCHEMA = Schema(("group", String("utf-8")), ("members", Array(*_MEMBER)))


class LeaveRequest(Request[_LeaveStruct]):  # type: ignore[misc]
    """Takes members out of a group, by their instance ids."""

    API_KEY = 13

    def __init__(self, group: str, instances: Sequence[str]) -> None:
        self._group = group
        self._members = [("", instance) for instance in instances]

    def build(self, request_struct_class: type[_LeaveStruct]) -> _LeaveStruct:
        """As aiokafka asks for it."""
        return request_struct_class(self._group, self._members)


async def take_out(settings: Settings, instances: Sequence[str]) -> dict[str, bool]:
    """Takes workers out of the group ``settings.consumer_group``.

    Args:
        instances: their ``MAILPULSE_GROUP_INSTANCE_ID``.

    Returns:
        Instance -> whether it was a member.

    Raises:
        Unavailable: Kafka does not answer, or refuses.
    """
    group = settings.consumer_group
    async with admin_client(settings) as client:
        with answering(settings):
            node = await client.find_coordinator(group)
            answer = await client._send_request_to_node(node, LeaveRequest(group, instances))
    _check(answer.error_code, group)
    found = {}
    for _, instance, code in answer.members:
        if code != UNKNOWN_MEMBER:
            _check(code, instance)
        found[instance] = code == 0
    return found


def _check(code: int, what: str) -> None:
    if code:
        raise Unavailable(f"Kafka: leaving the group: {what}: {for_code(code).__name__}")
