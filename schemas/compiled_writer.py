"""Writers of Avro records, compiled from the schema.

Invariants:
1. Pure. A writer returns exactly the bytes that fastavro writes for the same record, or raises:
   then the caller leaves the record to fastavro.
2. Memory for values that repeat (domains, campaigns, user agents) is bounded.

Source: Avro 1.12 specification, «Binary encoding».
"""

import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from typing import Any

from schemas import primitives
from schemas.compiled import Node, Unusual, checked, define, kind_of, whole
from schemas.primitives import COUNTS, integer, integers, text

KNOWN_MAX = 20_000
KNOWN_BYTES_MAX = 400
INTEGERS_MIN = 8
"""At least so many consecutive integer fields are taken for counts, which are mostly small."""
_NULL, _SOME = b"\x00", b"\x02"

Atom = Mapping[Any, bytes] | Callable[[Any], bytes]
"""Encodes one value, by look-up or by call; raises any exception for others."""


class Known(dict[Any, bytes]):
    """A bounded cache of encoded values; long ones are not kept."""

    def __init__(self, encode: Callable[[Any], bytes]) -> None:
        super().__init__()
        self.encode = encode

    def __missing__(self, value: Any) -> bytes:
        data = self.encode(value)
        if len(data) <= KNOWN_BYTES_MAX:
            if len(self) >= KNOWN_MAX:
                self.clear()
            self[value] = data
        return data


@dataclass(frozen=True, slots=True)
class Usual:
    """Hints about a schema's values, which affect speed only.

    Attributes:
        fresh: texts that rarely repeat, and are not cached.
        moments: times that repeat, and are cached.
        same: integer field -> an earlier one that is mostly the same object.
    """

    fresh: frozenset[str] = frozenset()
    moments: frozenset[str] = frozenset()
    same: Mapping[str, str] = field(default_factory=dict)


# --- encoding single values -----------------------------------------------------------------------


def _unusual(_value: object) -> bytes:
    raise Unusual


def _called(atom: Atom) -> Callable[[Any], bytes]:
    return atom.__getitem__ if isinstance(atom, Mapping) else atom


def _bytes(value: object) -> bytes:
    return COUNTS[len(value)] + value if type(value) is bytes else _unusual(value)


def _fixed(size: int, branch: bytes = b"") -> Atom:
    def fixed(value: object) -> bytes:
        return branch + value if type(value) is bytes and len(value) == size else _unusual(value)

    return fixed


def _some_bytes(value: object) -> bytes:
    return _SOME + _bytes(value)


def _moment(value: object) -> bytes:
    return LONGS[value] if type(value) is int else _unusual(value)  # 1.0 would be found as 1


def _some_text(value: str | None) -> bytes:
    return _NULL if value is None else _SOME + text(value)


def _some_int(value: object) -> bytes:
    fits = type(value) is int and -(2**31) <= value < 2**31
    return _some_long(value) if fits else _unusual(value)


def _some_long(value: object) -> bytes:
    return _SOME + integer(value) if type(value) is int else _unusual(value)


def _some_double(value: object) -> bytes:
    return _BRANCH_DOUBLE.pack(_SOME, value) if type(value) is float else _unusual(value)


def _some_boolean(value: object) -> bytes:
    return _SOME + _BOOLEANS[value] if type(value) is bool else _unusual(value)


def _array(item: Atom) -> Atom:
    write = _called(item)

    def array(items: object) -> bytes:
        if type(items) is not list:
            raise Unusual
        return primitives.array([write(item) for item in items])

    return array


def _known_texts(items: object) -> bytes:
    """An array of texts that repeats as a whole."""
    return _LISTS[tuple(items)] if type(items) is list else _unusual(items)


def _map(item: Atom) -> Atom:
    write = _called(item)

    def entries(values: object) -> bytes:
        if type(values) is not dict:
            raise Unusual
        if not values:
            return _NULL
        parts = [integer(len(values))]
        for key, value in values.items():
            parts += (TEXTS[key], write(value))
        parts.append(_NULL)
        return b"".join(parts)

    return entries


_FLOAT, _DOUBLE, _BRANCH_DOUBLE = (struct.Struct(form) for form in ("<f", "<d", "<cd"))
_BOOLEANS: Mapping[Any, bytes] = {False: b"\x00", True: b"\x01"}
TEXTS, _SOME_TEXTS, LONGS = Known(text), Known(_some_text), Known(integer)
_LISTS = Known(lambda texts: _called(_array(text))([*texts]))
_ATOMS: Mapping[str, Atom] = {
    "null": lambda _: b"", "boolean": _BOOLEANS, "int": integer, "long": integer,
    "float": _FLOAT.pack, "double": _DOUBLE.pack, "bytes": _bytes,
    "boolean?": _some_boolean, "int?": _some_int, "long?": _some_long, "double?": _some_double,
    "bytes?": _some_bytes,
}  # fmt: skip
"""Kind -> its encoder; for an optional kind, of values that are not null.

fastavro checks a value's type in unions only, and so do these.
"""
_SCOPE: Mapping[str, Any] = {
    "_join": b"".join, "_null": _NULL, "_counts": COUNTS, "_integer": integer,
    "_some_counts": tuple(_SOME + size for size in COUNTS), "_integers": integers,
    "_longs": LONGS, "_unusual": _unusual, "_some": _SOME, "_pack": _BRANCH_DOUBLE.pack,
}  # fmt: skip


# --- records --------------------------------------------------------------------------------------


def _kind(node: Node) -> str:
    """``string``, ``record``, …; of a union of null and another, ``string?``, …."""
    kind, branches = kind_of(node)
    if kind == "union" and len(branches) == 2 and branches[0] == "null":
        return f"{kind_of(branches[1])[0]}?"
    return kind


class Writers:
    """Compiles writers of records of a schema, or of parts of them.

    Args:
        document: the schema of a record.
        usual: hints about its values.

    Attributes:
        kinds: field -> its type, in order; ``string?`` is a union of null and ``string``.

    Raises:
        ValueError: a name in it can't be used in source text.
    """

    def __init__(self, document: Mapping[str, Any], usual: Usual = Usual()) -> None:
        document = whole(document)
        self._name = document["name"].rpartition(".")[2]
        self._nodes = {checked(each["name"]): each["type"] for each in document["fields"]}
        self._usual = usual
        self._scope = dict(_SCOPE)
        self.kinds = {name: _kind(node) for name, node in self._nodes.items()}

    def record(self) -> Callable[..., bytes]:
        """``write(record, prefix=b"")`` -> the record after a prefix."""
        values = {name: f"_record[{name!r}]" for name in self.kinds}
        cells = ["_prefix", *self._cells(values)]
        return self._define("", '_record, _prefix=b""', cells)

    def parts(self, *firsts: str) -> list[Callable[..., bytes]]:
        """Writers of the record's parts, each of which begins with one of these fields.

        A part's arguments are the values of its fields, in their order.

        Raises:
            ValueError: these are not fields in order, or the record's first one is missing.
        """
        names = list(self.kinds)
        bounds = [names.index(first) for first in firsts]
        if bounds != sorted({0, *bounds}):
            raise ValueError(f"{self._name} does not come in such parts: {firsts}")
        found = []
        for begin, end in pairwise((*bounds, len(names))):
            values = {name: name for name in names[begin:end]}
            cells = list(self._cells(values))
            found.append(self._define(f"_{names[begin]}", ", ".join(values), cells))
        return found

    def items(self, name: str, usual: Usual = Usual()) -> "Writers":
        """Writers of the records in a field that is an array of them."""
        return Writers(self._nodes[name]["items"], usual)

    def field(self, name: str) -> Callable[[Any], bytes]:
        """The writer of one value of a field."""
        atom = self._atom(name, self._nodes[name])
        if isinstance(atom, Mapping) or not self.kinds[name].endswith("?"):
            return _called(atom)
        return lambda value: _NULL if value is None else atom(value)

    def _define(self, suffix: str, parameters: str, cells: list[str]) -> Callable[..., bytes]:
        body = "return _join((\n    " + ",\n    ".join(cells) + ",\n))"
        return define(f"write_{self._name}{suffix}", parameters, body, self._scope)

    def _cells(self, values: Mapping[str, str]) -> Iterator[str]:
        """Expressions for the bytes of fields, in order.

        Args:
            values: field -> expression of its value.
        """

        def is_number(name: str) -> bool:
            return self.kinds[name] in ("int", "long") and name not in self._usual.moments

        for are_numbers, run in groupby(values, is_number):
            names = list(run)
            if are_numbers and len(names) >= INTEGERS_MIN:
                yield f"_integers(({', '.join(values[name] for name in names)}))"
            else:
                yield from (self._cell(name, values) for name in names)

    def _cell(self, name: str, values: Mapping[str, str]) -> str:
        value, kind, usual = values[name], self.kinds[name], self._usual
        if name in usual.moments and kind == "long":  # 1.0 and True would be found as 1
            return f"_longs[_value] if type(_value := {value}) is int else _unusual(_value)"
        if name in usual.fresh and kind == "string":
            return f"_counts[len(_data := {value}.encode())], _data"
        if name in usual.fresh and kind == "string?":
            data = "_some_counts[len(_data := _value.encode())] + _data"
            return f"_null if (_value := {value}) is None else {data}"
        if name in usual.same.values() and kind in ("int", "long"):
            return f"(_{name}_bytes := _integer({value}))"
        other = usual.same.get(name, "")
        if other in values and kind in ("int", "long"):
            return f"_{other}_bytes if {value} is {values[other]} else _integer({value})"
        if kind == "double?":
            data = "_pack(_some, _value) if type(_value) is float else _unusual(_value)"
            return f"_null if (_value := {value}) is None else {data}"
        atom = self._scope[f"_write_{name}"] = self._atom(name, self._nodes[name])
        if isinstance(atom, Mapping):
            return f"_write_{name}[{value}]"
        if kind.endswith("?"):
            return f"_null if (_value := {value}) is None else _write_{name}(_value)"
        return f"_write_{name}({value})"

    def _atom(self, name: str, node: Node) -> Atom:
        kind, (_, inner) = _kind(node), kind_of(node)
        if kind.endswith("?"):
            _, inner = kind_of(inner[1])
        if kind in ("string", "string?"):
            known = TEXTS if kind == "string" else _SOME_TEXTS
            return known.encode if name in self._usual.fresh else known
        if kind in ("enum", "enum?"):
            branch = _SOME if kind == "enum?" else b""
            table = {one: branch + integer(n) for n, one in enumerate(inner["symbols"])}
            return table if kind == "enum" else {None: _NULL, **table}
        if kind == "long" and name in self._usual.moments:
            return _moment
        if kind == "array":
            item = self._atom(name, inner["items"])
            return _known_texts if item is TEXTS else _array(item)
        if kind == "map":
            item = self._atom(name, inner["values"])
            return _map(text if item is TEXTS else item)
        if kind == "record":
            return Writers(inner, self._usual).record()
        if kind in ("fixed", "fixed?"):
            return _fixed(inner["size"], _SOME if kind == "fixed?" else b"")
        return _ATOMS.get(kind, _unusual)
