"""Which worker reads which partition: evenly per topic, and where the local state already is.

The round robin of Kafka and Faust reassigns all partitions whenever a worker joins or leaves, by
random member ids, and every partition that moves has to be restored elsewhere.

Invariants:
1. Of each topic, every worker that reads it gets the same number of partitions, plus or minus one.
2. Within invariant 1 a partition goes to the worker whose local state reaches furthest: its claim.
   Nothing moves while membership stays the same.
3. Partitions that do not divide evenly go to the workers with the fewest, counted over all topics.
4. The result is a function of members, claims and partitions: no I/O, no clock, no randomness.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from aiokafka.coordinator.assignors.abstract import AbstractPartitionAssignor
from aiokafka.coordinator.protocol import (
    ConsumerProtocolMemberAssignment,
    ConsumerProtocolMemberMetadata,
)

from streams.transport.chunks import TP

__all__ = ["ClaimAssignor", "assign"]

Claims = Mapping[TP, int]
"""Partitions whose state a worker has, each with the offset that the state is as of."""


def assign(
    partitions: Mapping[str, Collection[int]],
    topics_of: Mapping[str, Collection[str]],
    claims_of: Mapping[str, Claims],
) -> dict[str, list[TP]]:
    """Divides partitions among members.

    Args:
        partitions: of each topic.
        topics_of: the topics that each member reads.
        claims_of: of each member; claims on topics that it does not read are ignored.

    Returns:
        The partitions of each member, in order, without topics that no member reads.
    """
    dealt: dict[str, list[TP]] = {member: [] for member in topics_of}
    for topic in sorted(partitions):
        members = sorted(member for member, topics in topics_of.items() if topic in topics)
        if members:
            of_topic = [TP(topic, number) for number in sorted(partitions[topic])]
            _assign_topic(of_topic, members, claims_of, dealt)
    return {member: sorted(tps) for member, tps in dealt.items()}


def _assign_topic(
    partitions: Sequence[TP],
    members: Sequence[str],
    claims_of: Mapping[str, Claims],
    dealt: dict[str, list[TP]],
) -> None:
    kept: dict[str, list[TP]] = {member: [] for member in members}
    for tp in partitions:
        claims = [(claims_of[m][tp], m) for m in members if tp in claims_of.get(m, {})]
        if claims:
            kept[max(claims)[1]].append(tp)
    # Members that keep more than others get the partitions that do not divide evenly; between
    # equals, the ones with less of the other topics.
    base, extra = divmod(len(partitions), len(members))
    order = sorted(members, key=lambda m: (-len(kept[m]), len(dealt[m]), m))
    quota = {member: base + (place < extra) for place, member in enumerate(order)}
    for member in members:
        del kept[member][quota[member] :]
    homeless = sorted(set(partitions).difference(*kept.values()))
    for member in order:
        free = quota[member] - len(kept[member])
        kept[member] += homeless[:free]
        del homeless[:free]
        dealt[member] += kept[member]


class ClaimAssignor(AbstractPartitionAssignor):  # type: ignore[misc]  # aiokafka has no types
    """``assign`` as one of aiokafka's assignors; one object per consumer.

    Attributes:
        claims: sent to the group at the next join; set before each.
    """

    name = "mailpulse-claims"
    version = 0

    def __init__(self) -> None:
        self.claims: Claims = {}

    def metadata(self, topics: Iterable[str]) -> ConsumerProtocolMemberMetadata:
        """What this member sends to the leader."""
        claims = [[tp.topic, tp.partition, offset] for tp, offset in sorted(self.claims.items())]
        return ConsumerProtocolMemberMetadata(
            self.version, sorted(topics), json.dumps(claims).encode()
        )

    def assign(
        self, cluster: Any, members: Mapping[str, ConsumerProtocolMemberMetadata]
    ) -> dict[str, ConsumerProtocolMemberAssignment]:
        """Called on the leader."""
        topics_of = {member: set(meta.subscription) for member, meta in members.items()}
        partitions = {
            topic: cluster.partitions_for_topic(topic) or ()
            for topic in set().union(*topics_of.values())
        }
        claims_of = {member: _claims(meta.user_data) for member, meta in members.items()}
        dealt = assign(partitions, topics_of, claims_of)
        return {
            member: ConsumerProtocolMemberAssignment(self.version, _by_topic(tps), b"")
            for member, tps in dealt.items()
        }

    def on_assignment(self, assignment: ConsumerProtocolMemberAssignment) -> None:
        """Keeps nothing: claims come from the state on disk."""


def _claims(user_data: bytes) -> dict[TP, int]:
    """The claims that a member sent; none if it sent something else."""
    try:
        return {TP(str(t), int(p)): int(offset) for t, p, offset in json.loads(user_data or b"[]")}
    except (TypeError, ValueError):
        return {}


def _by_topic(tps: Iterable[TP]) -> list[tuple[str, list[int]]]:
    topics: dict[str, list[int]] = {}
    for tp in tps:
        topics.setdefault(tp.topic, []).append(tp.partition)
    return sorted(topics.items())
