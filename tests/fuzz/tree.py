"""What the engine's own parser says is in a statement, and what of it is not allowed.

A second opinion on ``analytics.door``: it shares the lists with the judge, and none of its reading.
"""

from collections.abc import Iterator
from typing import Any

from analytics.door import lists
from analytics.door.calls import OPERATORS

DATABASES = {"mailpulse", "system", "information_schema", "INFORMATION_SCHEMA"}
TOPS = {"SelectWithUnionQuery", "SelectIntersectExceptQuery", "ExplainQuery", "ShowTablesQuery"}
_OUTPUTS = ("out_file", "into_outfile", "outfile", "compression", "format_ast", "format")
# a lambda is a function to the parser, and so is a keyword where none can stand; no such one exists
_NOTHING = {"lambda"} | OPERATORS


def faults(tree: dict[str, Any], refused: frozenset[str]) -> list[str]:
    """What of a statement's tree must not have come through.

    Args:
        tree: as ``parseQueryToJSON`` gives it.
        refused: functions of the engine that are not allowed, in lower case.
    """
    found = [] if tree["type"] in TOPS else [f"a {tree['type']}"]
    if tree["type"] == "ExplainQuery":
        changed = {each["name"] for each in tree.pop("settings", {}).get("changes", ())}
        found += [f"EXPLAIN {name}" for name in changed - lists.EXPLAIN_SETTINGS]
    found += [f"writes: {name}" for name in _OUTPUTS if tree.get(name)]
    return found + list(_inside(tree, "", refused))


def _inside(node: Any, place: str, refused: frozenset[str]) -> Iterator[str]:
    if isinstance(node, list):
        for each in node:
            yield from _inside(each, place, refused)
    if not isinstance(node, dict):
        return
    kind, name = node.get("type", ""), node.get("name", "")
    if kind == "Function" and not _callable(name, place):
        yield f"function {name} as {place}"
    elif kind == "ColumnsApplyTransformer" and not lists.is_function(
        node.get("func_name") or "max"
    ):
        yield f"APPLY {node['func_name']}"
    elif kind in ("TableIdentifier", "Identifier"):
        yield from _identifier(node, kind, place, refused)
    elif kind == "SetQuery":
        yield f"settings {node.get('changes')}"
    elif kind == "QueryParameter" and "Identifier" in node.get("param_type", ""):
        yield f"parameter {name}"
    for key, value in node.items():
        if key != "value":  # literals
            yield from _inside(value, key if key != "children" else place, refused)


def _callable(name: str, place: str) -> bool:
    database, _, table = name.rpartition(".")
    ours = table in lists.VIEWS and database in ("", "mailpulse")
    if place == "table_function" or (place == "arguments" and not lists.is_function(name)):
        # a table function behind IN stands among the arguments of «in»
        return ours or name.lower() in lists.TABLE_FUNCTIONS or name in _NOTHING
    return lists.is_function(name) or name in _NOTHING


def _identifier(
    node: dict[str, Any], kind: str, place: str, refused: frozenset[str]
) -> Iterator[str]:
    parts = node.get("name_parts") or [node["name"]]
    if not node["name"]:
        yield "a name made of parameters"
    if len(parts) == 1:
        if kind == "Identifier" and parts[0].lower() in refused:
            yield f"a function's name, {parts[0]}"
        if kind == "TableIdentifier" and not parts[0].replace("_", "a").isalnum():
            yield f"table {parts[0]}"
        return
    database, table = parts[0], parts[1]
    if kind == "TableIdentifier" and (database not in DATABASES or len(parts) > 2):
        yield f"table {parts}"
    if database.lower() == "default":
        yield f"name {parts}"
    if database.lower() == "system" and table not in lists.SYSTEM_TABLES:
        yield f"name {parts}"
