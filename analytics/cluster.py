"""Rewrites the statements of migrations for a cluster.

Invariants:
1. Pure.
2. Migrations are written for one server. On a cluster a table ``t`` becomes ``t_local``
   (replicated) on every server and ``t`` (Distributed) in front of it; all other statements get
   ``ON CLUSTER``. The names that people and the sink use stay the same. New columns are added to
   both.
3. A table is sharded by the expression in its ``-- shard:`` comment, which must be a function of
   the sorting key, as only rows on the same server can replace each other.
"""

import re

_TABLE = re.compile(r"CREATE TABLE IF NOT EXISTS (\w+)\n")
_ENGINE = re.compile(r"\nENGINE = (\w*MergeTree)(?:\(([^)]*)\))?")
_SHARD = re.compile(r"^-- shard: (.+)$", re.MULTILINE)
_ADDS = re.compile(r"^(ALTER TABLE \w+)\s+ADD COLUMN", re.MULTILINE)
_TARGET = re.compile(
    r"^(CREATE OR REPLACE VIEW \w+|CREATE MATERIALIZED VIEW IF NOT EXISTS \w+"
    r"|ALTER TABLE \w+|ALTER SETTINGS PROFILE \w+|GRANT\b|REVOKE\b"
    r"|CREATE (?:USER|ROLE|QUOTA|SETTINGS PROFILE) (?:IF NOT EXISTS|OR REPLACE) \w+)",
    re.MULTILINE,
)


def for_cluster(statement: str, cluster: str) -> list[str]:
    """The statements to run on a cluster instead of ``statement``.

    Args:
        statement: one statement of a migration.
        cluster: name in the servers' ``remote_servers``; empty: the statement is not changed.

    Raises:
        ValueError: a table without a ``-- shard:`` comment, or whose engine is not a MergeTree.
    """
    if not cluster:
        return [statement]
    table = _TABLE.search(statement)
    altered = _ADDS.search(statement)
    if altered is not None:  # each column must be there before the table in front names it
        local = statement.replace(altered.group(1), f"{altered.group(1)}_local", 1)
        return [_on_cluster(local, cluster), _on_cluster(statement, cluster)]
    if table is None:
        return [_on_cluster(statement, cluster)]
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


def _on_cluster(statement: str, cluster: str) -> str:
    return _TARGET.sub(rf"\1 ON CLUSTER '{cluster}'", statement, count=1)


def table_on_server(name: str, cluster: str) -> str:
    """Name of the table that stores the rows on each server, for ``ALTER TABLE``."""
    return f"{name}_local" if cluster else name
