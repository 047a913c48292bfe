"""What each role may do in Kafka: one list for operators, documents and tests.

Invariants:
1. Pure. Least privilege: whoever takes over a role can write only to the topics that the role
   writes to, and read only those that it reads.
2. ``tests/live/test_security.py`` applies exactly this list to a broker that denies everything
   else, and runs every role on it.
3. Names of topics and groups come from ``schemas``. Nothing is granted on ``*`` or on the cluster:
   an idempotent producer needs only the right to write (KIP-679).

Source: Apache Kafka documentation, «Authorization and ACLs», operations by protocol.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from schemas.groups import group_by_role, progress_group, topics_by_group
from schemas.settings import Settings
from schemas.topics import READ_AGAIN, TOPICS
from streams.kafka.groups import destination_group

ROLES: dict[str, str] = {
    "ingest": "receives webhooks: writes raw events and dead letters, reads nothing",
    "worker": "reads raw events and minute counts, writes everything derived from them",
    "sink": "reads every topic but engagement and rules, and workers' offsets; writes dead letters"
    " and incidents of sources",
    "deliver": "reads what goes to other systems, orders and erasures; writes dead letters",
    "dashboard": "reads topics' metadata and lag, changes nothing",
    "admin": "creates and checks topics; the commands topics, doctor, lag, tail, dlq, forget",
}
"""Role -> what it does, for the table in ``streams/deploy/README.md``."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One grant.

    Attributes:
        principal: such as ``User:mailpulse-worker``.
        resource: ``topic`` or ``group``.
        name: of the resource, always literal.
        operations: in Kafka's words, sorted.
    """

    role: str
    principal: str
    resource: str
    name: str
    operations: tuple[str, ...]

    def document(self) -> dict[str, object]:
        """For ``--json``."""
        return {"role": self.role, "principal": self.principal, "resource": self.resource,
                "name": self.name, "operations": list(self.operations)}  # fmt: skip


def _grants(
    role: str, settings: Settings, destinations: Iterable[str]
) -> Iterator[tuple[str, str, str]]:
    """``(resource, name, operation)`` of a role."""
    names = [topic.name for topic in TOPICS]
    for topic in TOPICS:
        if role == "admin" or role in topic.groups + topic.readers:
            yield "topic", topic.name, "Read"
        if role == "admin" or role in topic.writers:
            yield "topic", topic.name, "Write"
    groups = group_by_role(settings)
    if role in groups:
        yield "group", groups[role], "Read"
    if role in ("worker", "admin"):
        operation = "Read" if role == "worker" else "Describe"
        yield "group", progress_group(settings.consumer_group), operation
    if role == "worker":
        yield from (("topic", name, "DescribeConfigs") for name in READ_AGAIN)
    if role == "sink":
        yield "group", settings.consumer_group, "Describe"  # how far the workers are
    if role in ("deliver", "admin"):
        for destination in destinations:
            operation = "Read" if role == "deliver" else "Describe"
            yield "group", destination_group(settings, destination), operation
        yield from (("topic", name, "DescribeConfigs") for name in names)  # for how long they keep
    if role in ("dashboard", "admin"):
        yield from (("group", name, "Describe") for name in topics_by_group(settings))
        yield from (("topic", name, "Describe") for name in names)
    if role == "admin":
        yield from (("topic", name, "Create") for name in names)


def rules(
    settings: Settings,
    principal: str = "User:mailpulse-{role}",
    destinations: Iterable[str] = (),
) -> list[Rule]:
    """Every grant, by role and resource.

    Args:
        settings: for the names of groups.
        principal: that a role signs in as; ``{role}`` stands for the role's name.
        destinations: what their consumer groups are named by; of most, the name in
            ``mailpulse.toml``.
    """
    out = []
    named = tuple(destinations)
    for role in ROLES:
        operations: dict[tuple[str, str], set[str]] = {}
        for resource, name, operation in _grants(role, settings, named):
            operations.setdefault((resource, name), set()).add(operation)
        who = principal.replace("{role}", role)
        out += [
            Rule(role, who, resource, name, tuple(sorted(granted)))
            for (resource, name), granted in operations.items()
        ]
    return out


def commands(given: Iterable[Rule], bootstrap: str) -> list[str]:
    """The rules as ``kafka-acls.sh`` commands, one per rule; safe to repeat."""
    lines = []
    for rule in given:
        what = f"--{rule.resource} '{rule.name}'"
        operations = " ".join(f"--operation {operation}" for operation in rule.operations)
        lines.append(
            f'kafka-acls.sh --bootstrap-server "{bootstrap}" --command-config admin.properties'
            f" --add --allow-principal '{rule.principal}' {operations} {what}"
        )
    return lines


def table() -> str:
    """The list as a Markdown table, for ``streams/deploy/README.md``."""
    lines = ["| role | resource | operations |", "|---|---|---|"]
    for role in ROLES:
        by_operations: dict[tuple[str, tuple[str, ...]], list[str]] = {}
        for rule in rules(Settings(), destinations=["NAME"]):
            if rule.role == role:
                by_operations.setdefault((rule.resource, rule.operations), []).append(rule.name)
        for (resource, operations), names in by_operations.items():
            shown = ", ".join(f"`{name}`" for name in sorted(names))
            lines.append(f"| {role} | {resource} {shown} | {', '.join(operations)} |")
    return "\n".join(lines)
