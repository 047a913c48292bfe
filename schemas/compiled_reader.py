"""Readers of Avro records, compiled from the schema.

Invariants:
1. Pure. A reader returns exactly what fastavro returns for the same bytes, or raises: then the
   caller leaves them to fastavro. So no broken record is accepted.
2. Every byte up to the end of what is read is checked, and every text decoded.

Source: Avro 1.12 specification, «Binary encoding»: zig-zag variable-length integers, texts after
their length, union branches by index, arrays and maps in blocks that end with 0.
"""

import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from textwrap import indent
from typing import Any

from schemas.compiled import Node, Unusual, checked, define, kind_of, whole

Read = Callable[[bytes, int], tuple[dict[str, Any], int]]
"""Bytes and a position -> the record that begins there, and the position after it.

The caller has to check that the record ends there. Raises any exception for data that it does not
read.
"""

_INTEGER_BITS_MAX = 63
"""Bits of the longest integer that is read here, in nine bytes: ten bytes may exceed 64 bits."""
_ENDS_MAX = 65_536
_ONE_BYTE_MAX = 64
"""Symbols of an enum, or branches of a union, that one byte encodes; others are unusual."""


def _integer(value: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while (byte := value[at]) > 127:
        number |= (byte & 127) << shift
        shift += 7
        at += 1
        if shift == _INTEGER_BITS_MAX:
            raise Unusual
    number |= byte << shift
    return number >> 1 ^ -(number & 1), at + 1


def _long_bytes(value: bytes, at: int) -> tuple[bytes, int]:
    """Bytes or a text whose length takes two bytes: 64 to 8191."""
    size, more = value[at], value[at + 1]
    if size & 1 or more > 127:
        raise Unusual
    begin = at + 2
    end = begin + ((size & 127 | more << 7) >> 1)
    return value[begin:end], end


def _long_string(value: bytes, at: int) -> tuple[str, int]:
    data, end = _long_bytes(value, at)
    return data.decode(), end


def _passed(value: bytes, at: int) -> int:
    """Where bytes or a text end whose length takes two bytes."""
    return _long_bytes(value, at)[1]


# A positive integer of 8 bytes, as a time in microseconds is from 1978 to 3026, is the sum of three
# parts that are looked up: two bytes, two bytes, and four bytes (``HHI``).


def _pairs(shift: int) -> list[int | None]:
    """The part that two bytes encode, neither of them the last; ``None`` for all others."""
    parts: list[int | None] = [None] * (1 << 16)
    for bits in range(0, 1 << 14, 1 if shift else 2):
        parts[0x8080 | bits & 127 | bits >> 7 << 8] = bits << shift >> 1
    return parts


class _Ends(dict[int, int]):
    """The part that the last four bytes encode; cached, since it changes every 134 s."""

    def __missing__(self, word: int) -> int:
        if word & 0x80808080 != 0x00808080:
            raise Unusual
        part = sum((word >> 8 * place & 127) << 7 * place for place in range(4)) << 27
        if len(self) >= _ENDS_MAX:
            self.clear()
        self[word] = part
        return part


_SCOPE: Mapping[str, Any] = {
    "_Unusual": Unusual, "_booleans": {0: False, 1: True}, "_integer": _integer,
    "_long_bytes": _long_bytes, "_long_string": _long_string,
    "_three": struct.Struct("<HHI").unpack_from, "_low": _pairs(0), "_middle": _pairs(14),
    "_high": _Ends(),
}  # fmt: skip


def reader(
    document: Mapping[str, Any], *, first: str | None = None, last: str | None = None
) -> Read:
    """A reader of records of a schema, or of some of their fields that follow one another.

    Args:
        first, last: fields to begin and to end with; by default the record's first and last.

    Raises:
        ValueError: a name in the schema can't be used in source text.
    """
    document = whole(document)
    fields = {checked(each["name"]): each["type"] for each in document["fields"]}
    names = list(fields)
    begin = 0 if first is None else names.index(first)
    end = len(names) if last is None else names.index(last) + 1
    source = _Source()
    targets = {name: source.new(name) for name in names[begin:end]}
    for name, target in targets.items():
        source.value(fields[name], target)
    source.add("if at > len(value): raise _Unusual", f"return {_mapping(targets)}, at")
    return define(
        f"read_{document['name'].rpartition('.')[2]}", "value, at", source.text, source.scope
    )


Skim = Callable[[bytes, int], tuple[dict[str, Any], bytes]]
"""Bytes and a position -> some fields of the record that begins there, which must end with the
bytes; and the other fields' bytes, joined. Raises as a ``Read``; texts are not checked."""


def skimmer(document: Mapping[str, Any], *, apart: Mapping[str, bool]) -> Skim:
    """Reads some fields of a record, and leaves the rest as bytes.

    Records whose other fields have the same values give the same bytes, if one encoder wrote them.

    Args:
        apart: fields that are no part of the rest -> whether they are returned.

    Raises:
        ValueError: a name in the schema can't be used in source text.
    """
    document = whole(document)
    source = _Skimming()
    returned: dict[str, str] = {}
    ends: list[str] = []
    for field in document["fields"]:
        name = checked(field["name"])
        target = source.new(name)
        is_rest = name not in apart
        if is_rest != bool(len(ends) % 2):
            ends.append(source.new("end"))
            source.add(f"{ends[-1]} = at")
        if apart.get(name):
            returned[name] = target
            source.in_full(field["type"], target)
        else:
            source.value(field["type"], target)
    source.add("if at != len(value): raise _Unusual")
    if len(ends) % 2:
        ends.append("at")
    pieces = [f"value[{begin}:{end}]" for begin, end in zip(ends[::2], ends[1::2], strict=True)]
    source.add(f"return {_mapping(returned)}, {' + '.join(pieces) or repr(b'')}")
    return define(
        f"skim_{document['name'].rpartition('.')[2]}", "value, at", source.text, source.scope
    )


def _mapping(targets: Mapping[str, str]) -> str:
    return "{" + ", ".join(f"{name!r}: {target}" for name, target in targets.items()) + "}"


def _at(on: int) -> str:
    return f"at + {on}" if on else "at"


class _Source:
    """The body of a reader.

    ``at`` is a position in ``value``. The code for a type begins ``on`` bytes after it, moves
    ``at`` to the end, and assigns what it read to ``target``.
    """

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._depth = 0
        self.scope = dict(_SCOPE)

    @property
    def text(self) -> str:
        """The lines added so far."""
        return "\n".join(self._lines)

    def add(self, *lines: str) -> None:
        """Adds lines to the open block."""
        self._lines += [indent(line, "    " * self._depth) for line in lines]

    @contextmanager
    def _block(self, head: str) -> Iterator[None]:
        self.add(head)
        self._depth += 1
        yield
        self._depth -= 1

    def new(self, word: str, refers_to: Any = None) -> str:
        """A unique name."""
        name = f"_{word}_{len(self.scope)}"
        self.scope[name] = refers_to
        return name

    def value(self, node: Node, target: str, on: int = 0) -> None:
        """Adds the code for a value of a type."""
        kind, inner = kind_of(node)
        read = {
            "null": self._null, "boolean": self._symbol, "int": self._number, "long": self._number,
            "float": self._sized, "double": self._sized, "bytes": self._text, "string": self._text,
            "record": self._record, "enum": self._symbol, "array": self._items, "map": self._items,
            "union": self._union, "fixed": self._sized,
        }.get(kind)  # fmt: skip
        if read is None:
            self.add("raise _Unusual")
        else:
            read(inner, target, on)

    def _null(self, _node: Node, target: str, on: int) -> None:
        self.add(f"at += {on}", f"{target} = None")

    def _union(self, branches: Node, target: str, on: int) -> None:
        word = "if"
        for index, branch in reversed(list(enumerate(branches[:_ONE_BYTE_MAX]))):
            with self._block(f"{word} value[{_at(on)}] == {2 * index}:"):
                self.value(branch, target, on + 1)
            word = "elif"
        self.add("else: raise _Unusual")

    def _table(self, node: Node) -> str:
        """Byte -> value, for a type with few values."""
        kind, inner = kind_of(node)
        if kind == "boolean":
            return "_booleans"
        symbols = enumerate(inner["symbols"][:_ONE_BYTE_MAX])
        return self.new("symbols", {2 * number: symbol for number, symbol in symbols})

    def _symbol(self, node: Node, target: str, on: int) -> None:
        self.add(f"{target} = {self._table(node)}[value[{_at(on)}]]", f"at += {on + 1}")

    def _number(self, node: Node, target: str, on: int) -> None:
        if isinstance(node, dict) and node.get("logicalType") == "timestamp-micros":
            self.add(
                f"_first, _second, _third = _three(value, {_at(on)})",
                f"{target} = _low[_first] + _middle[_second] + _high[_third]",
                f"at += {on + 8}",
            )
            return
        with self._block(f"if (_byte := value[{_at(on)}]) > 127:"):
            self.add(f"{target}, at = _integer(value, {_at(on)})")
        with self._block("else:"):
            self.add(f"{target} = _byte >> 1 ^ -(_byte & 1)", f"at += {on + 1}")

    def _sized(self, node: Node, target: str, on: int) -> None:
        """A ``float``, ``double`` or ``fixed``."""
        kind, inner = kind_of(node)
        form = struct.Struct({"float": "<f", "double": "<d"}.get(kind) or f"{inner['size']}s")
        unpack = self.new("unpack", form.unpack_from)
        self.add(f"[{target}] = {unpack}(value, {_at(on)})", f"at += {on + form.size}")

    def _text(self, node: Node, target: str, on: int) -> None:
        """A ``string`` or ``bytes``."""
        kind, _ = kind_of(node)
        decoded = ".decode()" if kind == "string" else ""
        with self._block(f"if (_size := value[{_at(on)}]) & 129:"):
            self.add(f"{target}, at = _long_{kind}(value, {_at(on)})")
        with self._block("else:"):
            self.add(f"_begin = {_at(on + 1)}", "at = _begin + (_size >> 1)")
            self.add(f"{target} = value[_begin:at]{decoded}")

    def _items(self, node: Node, target: str, on: int) -> None:
        """An ``array`` or ``map``."""
        kind, inner = kind_of(node)
        count, key, item = (self.new(word) for word in ("count", "key", "item"))
        self.add(f"{target} = {'[]' if kind == 'array' else '{}'}")
        self.add(f"{count} = value[{_at(on)}]", f"at += {on + 1}")
        with self._block(f"while {count}:"):
            # a block that tells its size in bytes, or one of over 63 items
            self.add(f"if {count} & 129: raise _Unusual")
            with self._block(f"for _ in range({count} >> 1):"):
                if kind == "map":
                    self.value("string", key)
                self.value(inner["items" if kind == "array" else "values"], item)
                put = f".append({item})" if kind == "array" else f"[{key}] = {item}"
                self.add(f"{target}{put}")
            self.add(f"{count} = value[at]", "at += 1")

    def _record(self, node: Node, target: str, on: int) -> None:
        fields = {checked(each["name"]): each["type"] for each in node["fields"]}
        targets = {name: self.new(name) for name in fields}
        if on:
            self.add(f"at += {on}")
        for name, part in targets.items():
            self.value(fields[name], part)
        self.add(f"{target} = {_mapping(targets)}")


class _Skimming(_Source):
    """The body of a skimmer: it passes over texts, which it neither cuts out nor decodes."""

    def __init__(self) -> None:
        super().__init__()
        self.scope["_passed"] = _passed
        self._is_passing = True

    def in_full(self, node: Node, target: str) -> None:
        """Adds the code for a value that is returned."""
        self._is_passing = False
        self.value(node, target)
        self._is_passing = True

    def _text(self, node: Node, target: str, on: int) -> None:
        if not self._is_passing:
            super()._text(node, target, on)
            return
        with self._block(f"if (_size := value[{_at(on)}]) & 129:"):
            self.add(f"at = _passed(value, {_at(on)})")
        with self._block("else:"):
            self.add(f"at += {on + 1} + (_size >> 1)")
        self.add(f"{target} = None")
