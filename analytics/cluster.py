"""Plain single-server statements, rewritten for a cluster.

Invariants:
1. Pure: a statement in, statements out.
2. Migrations are written once, for one server. With a cluster named, a table ``t`` becomes
   ``t_local`` (replicated) on every server and ``t`` (Distributed) in front of it; everything
   else gets ``ON CLUSTER``. Names that people and the sink use stay the same.
3. A table is sharded by the expression in its ``-- shard:`` comment, which must be a function of
   the sorting key: only rows on one server can replace one another.
"""

import re

_TABLE = re.compile(r"CREATE TABLE IF NOT EXISTS (\w+)\n")
_ENGINE = re.compile(r"\nENGINE = (\w*MergeTree)(?:\(([^)]*)\))?")
_SHARD = re.compile(r"^-- shard: (.+)$", re.MULTILINE)
_TARGETS = (
    re.compile(r"(CREATE OR REPLACE VIEW \w+)"),
    re.compile(r"(ALTER TABLE \w+)"),
    re.compile(r"(CREATE (?:USER|ROLE|QUOTA|SETTINGS PROFILE) (?:IF NOT EXISTS|OR REPLACE) \w+)"),
    re.compile(r"(GRANT)(?= )"),
)


def for_cluster(statement: str, cluster: str) -> list[str]:
    """The statements to run on a cluster instead of ``statement``.

    Args:
        statement: one statement of a migration.
        cluster: name in the servers' ``remote_servers``; empty: leave the statement alone.

    Raises:
        ValueError: a table without a ``-- shard:`` comment or with an engine not known here.
    """
    if not cluster:
        return [statement]
    table = _TABLE.search(statement)
    if table is None:
        for target in _TARGETS:
            changed, count = target.subn(rf"\1 ON CLUSTER '{cluster}'", statement, count=1)
            if count:
                return [changed]
        return [statement]
    name = table.group(1)
    shard = _SHARD.search(statement)
    engine = _ENGINE.search(statement)
    if shard is None or engine is None:
        raise ValueError(f"table {name}: needs a MergeTree engine and a '-- shard:' comment")
    arguments = ["'/clickhouse/tables/{shard}/{database}/{table}'", "'{replica}'"]
    if engine.group(2):
        arguments.append(engine.group(2))
    local = (
        statement.replace(
            table.group(), f"CREATE TABLE IF NOT EXISTS {name}_local ON CLUSTER '{cluster}'\n"
        )
        .replace(engine.group(), f"\nENGINE = Replicated{engine.group(1)}({', '.join(arguments)})")
        .replace("non_replicated_deduplication_window", "replicated_deduplication_window")
    )
    front = (
        f"CREATE TABLE IF NOT EXISTS {name} ON CLUSTER '{cluster}' AS {name}_local\n"
        f"ENGINE = Distributed('{cluster}', currentDatabase(), {name}_local, {shard.group(1)})"
    )
    return [local, front]


def table_on_server(name: str, cluster: str) -> str:
    """Name of the table that holds rows on a server, for ``ALTER TABLE``."""
    return f"{name}_local" if cluster else name
