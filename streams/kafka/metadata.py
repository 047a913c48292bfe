"""Kafka's Metadata request, version 10: unlike aiokafka's, its response contains topic ids.

Invariants:
1. Only the form of one request and its response. ``streams.kafka.admin`` and
   ``streams.worker.log_watch`` send it.
2. aiokafka 0.14 has Metadata up to version 5, and ids came with version 10. Its request classes are
   internals, so aiokafka is pinned exactly and the live tests ask a real broker.

Source: Kafka protocol guide, «Metadata» (API key 3), version 10; KIP-516, topic identifiers.
"""

from collections.abc import Sequence
from io import BytesIO
from uuid import UUID

from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    AbstractType,
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

_NO_ID = UUID(int=0)
"""In a request: the topic is asked for by name."""


class _Uuid(AbstractType):  # type: ignore[misc]  # aiokafka ships no types
    """Kafka's UUID: 16 bytes, big-endian."""

    @classmethod
    def encode(cls, value: UUID) -> bytes:
        return value.bytes

    @classmethod
    def decode(cls, data: BytesIO) -> UUID:
        return UUID(bytes=data.read(16))

    @classmethod
    def repr(cls, value: UUID) -> str:
        return str(value)


class ClusterResponse(Response):  # type: ignore[misc]
    """Brokers and topics with their ids."""

    API_KEY = 3
    API_VERSION = 10
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString()),
                ("port", Int32),
                ("rack", CompactString()),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString()),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", CompactString()),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_authorized_operations", Int32),
        ("tags", TaggedFields),
    )


class _RequestV10(RequestStruct):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 10
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = ClusterResponse
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(("topic_id", _Uuid), ("name", CompactString()), ("tags", TaggedFields)),
        ),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class ClusterRequest(Request[_RequestV10]):  # type: ignore[misc]
    """Asks for topics with their ids; creates none.

    Args:
        names: of the topics; default: every one.
    """

    API_KEY = 3

    def __init__(self, names: Sequence[str] | None = None) -> None:
        self._topics: list[tuple[UUID, str, dict[int, bytes]]] | None = (
            None if names is None else [(_NO_ID, name, {}) for name in names]
        )

    def build(self, request_struct_class: type[_RequestV10]) -> _RequestV10:
        """The request in the version that the broker and this file share."""
        return request_struct_class(self._topics, False, False, False, {})
