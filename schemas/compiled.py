"""Python functions made from an Avro schema, as ``compiled_reader`` and ``compiled_writer`` do it.

Invariants:
1. Source text is built of field names, which are checked, and of our own words. Symbols, values and
   whatever else stands in a schema are handed over as objects and never become source.
2. A made function's source is known to ``linecache``: tracebacks and debuggers show its lines.

Source: Avro 1.12 specification, «Names».
"""

import keyword
import linecache
import re
from collections.abc import Callable, Mapping
from itertools import count
from textwrap import indent
from typing import Any, cast

from fastavro.schema import expand_schema

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*", re.ASCII)
_serial = count(1)

Node = Any
"""A type: its name, a union's list of types, or the mapping that defines it."""


class Unusual(Exception):
    """A form that is legal but rare, or broken: fastavro decides which."""


def whole(document: Mapping[str, Any]) -> dict[str, Any]:
    """The schema with each name of a type replaced by the type's definition.

    Raises:
        fastavro.schema.SchemaParseException: it is no schema.
    """
    return cast("dict[str, Any]", expand_schema({**document}))


def kind_of(node: Node) -> tuple[str, Node]:
    """What a type is — ``string``, ``record``, ``union``, … — and its definition.

    A logical type is what it is stored as. A record inside itself is its own name: no kind.
    """
    if isinstance(node, list):
        return "union", node
    if isinstance(node, dict):
        inner = node["type"]
        return kind_of(inner) if isinstance(inner, dict | list) else (inner, node)
    return node, node


def checked(name: str) -> str:
    """A name that may stand in source text.

    It must begin with a letter: those with an underscore are for what made functions use.

    Raises:
        ValueError: it may not.
    """
    if not _NAME.fullmatch(name) or keyword.iskeyword(name):
        raise ValueError(f"a schema with such a name cannot be compiled: {name!r}")
    return name


def define(name: str, parameters: str, body: str, scope: Mapping[str, Any]) -> Callable[..., Any]:
    """The function ``name`` of that body, which refers to what ``scope`` names."""
    text = f"def {checked(name)}({parameters}):\n{indent(body, '    ')}\n"
    filename = f"<{name} {next(_serial)}, compiled from its schema>"
    linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
    names = dict(scope)
    exec(compile(text, filename, "exec"), names)
    made: Callable[..., Any] = names[name]
    return made
