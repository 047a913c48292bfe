"""Compiles Python functions from an Avro schema, for ``compiled_reader`` and ``compiled_writer``.

Invariants:
1. Source text consists of field names, which are checked, and of our own words. Everything else in
   a schema, such as symbols and values, is passed as objects and never becomes source.
2. A compiled function's source is in ``linecache``: tracebacks and debuggers show its lines.

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
    """Rare or broken data, which is left to fastavro."""


def whole(document: Mapping[str, Any]) -> dict[str, Any]:
    """The schema with each type's name replaced by the type's definition.

    Raises:
        fastavro.schema.SchemaParseException: it is not a schema.
    """
    return cast("dict[str, Any]", expand_schema({**document}))


def kind_of(node: Node) -> tuple[str, Node]:
    """The kind of a type (``string``, ``record``, ``union``, …) and its definition.

    The kind of a logical type is that of its storage. For a record inside itself it is its name.
    """
    if isinstance(node, list):
        return "union", node
    if isinstance(node, dict):
        inner = node["type"]
        return kind_of(inner) if isinstance(inner, dict | list) else (inner, node)
    return node, node


def checked(name: str) -> str:
    """A name that may be used in source text.

    It must begin with a letter: names with an underscore are reserved for the compiled functions.

    Raises:
        ValueError: it may not be used.
    """
    if not _NAME.fullmatch(name) or keyword.iskeyword(name):
        raise ValueError(f"a schema with such a name cannot be compiled: {name!r}")
    return name


def define(name: str, parameters: str, body: str, scope: Mapping[str, Any]) -> Callable[..., Any]:
    """A function with this name and body, which may use the names in ``scope``."""
    text = f"def {checked(name)}({parameters}):\n{indent(body, '    ')}\n"
    filename = f"<{name} {next(_serial)}, compiled from its schema>"
    linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
    names = dict(scope)
    exec(compile(text, filename, "exec"), names)
    made: Callable[..., Any] = names[name]
    return made
