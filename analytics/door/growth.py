"""How large the types of a statement's columns get, as a multiple of those of the tables it reads.

``SELECT (a, a) AS a FROM (SELECT (a, a) AS a FROM …`` doubles the type of ``a`` with each level.
Analysing a query with large types obeys no limit on time and can't be killed (measured on 26.9: 18
levels 1.0 s, 20 levels 7.7 s, 22 were ended by the watchdog).

Invariants:
1. Pure, over the tokens of a canonical text.
2. Over-estimates: a name counts as the largest that it could mean. Only what makes one type out of
   several (tuples, arrays, maps, lambdas) multiplies, so arithmetic and conditions
   over any number of levels come to 1.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field

from analytics.door.calls import OPERATORS
from analytics.door.denied import ACCESS_DENIED, Denied
from analytics.door.lexer import Kind, Token
from analytics.door.table_names import table_places

GROWTH_MAX = 1 << 14
"""A sixteenth of what takes a second."""
_TABLE_COLUMNS = 64
"""What ``tuple(*)`` of a table comes to: more than any of ours has."""
_SUMS = frozenset(
    {
        "array", "arrayzip", "arrayzipunaligned", "concat", "map", "map_from_arrays", "mapconcat",
        "mapfromarrays", "tuple", "tupleconcat",
    }
)  # fmt: skip
"""Functions whose type has those of all arguments in it, in lower case: found by calling every
function of the list with tuples, arrays and maps."""
_CHOOSES = frozenset({"coalesce", "greatest", "if", "ifnull", "least", "multiif"})
"""Functions whose type is a Variant of those of their arguments where these differ."""
_BEGINS = frozenset(
    {
        "BY", "DISTINCT", "FROM", "HAVING", "JOIN", "ON", "PREWHERE", "QUALIFY", "SELECT", "USING",
        "WHERE", "WITH",
    }
)  # fmt: skip
"""Keywords behind which an expression begins."""
_JOINS_QUERIES = frozenset({"ALL", "DISTINCT", "EXCEPT", "INTERSECT", "UNION"})
STEPS_MAX = 1_000_000
"""Tokens that are looked at, again and again where names refer to names: a second of work."""
_Range = tuple[int, int]


def check_growth(found: list[Token], closing: dict[int, int]) -> None:
    """Bounds the types of a statement.

    Args:
        found: the statement.
        closing: place of each closing bracket, by the place of its opening one.

    Raises:
        Denied: one comes to more than ``GROWTH_MAX`` of the tables'.
    """
    try:
        _Growth(found, closing).check()
    except RecursionError:
        raise Denied(ACCESS_DENIED, "This query is nested too deeply to be judged") from None


@dataclass(eq=False, slots=True)
class _Scope:
    """A query, subquery or union: its tokens, and what names mean in it."""

    begin: int
    end: int
    outer: "_Scope | None" = None
    aliases: dict[str, list[_Range]] = field(default_factory=dict)
    named: dict[str, "_Scope"] = field(default_factory=dict)  # of WITH
    inner: dict[int, "_Scope"] = field(default_factory=dict)  # by the place of their bracket
    read: list["_Scope"] = field(default_factory=list)  # where tables stand
    selected: list[_Range] = field(default_factory=list)
    is_read: bool = False  # it stands where a table does, and sees constants of those around it
    below: int = 0  # the largest column of what it reads; 0: not known yet


class _Growth:
    def __init__(self, found: list[Token], closing: dict[int, int]) -> None:
        self._found = found
        self._closing = closing
        self._opening = {close: at for at, close in closing.items()}
        self._tables = set(table_places(found))
        self._scopes: list[_Scope] = []  # inner ones first
        self._steps = self._widest = 0
        self._whole = self._scope(0, len(found), None)
        self._constant = False  # columns of what is read count as 1
        self._sizes: dict[tuple[bool, str, int], int] = {}
        self._under_way: set[object] = set()

    def check(self) -> None:
        """Raises ``Denied``. In an order in which each finds what it needs known already."""
        self._constant = True
        for scope in reversed(self._scopes):
            for name in scope.aliases:
                self._alias(scope, name)
        self._constant = False
        for scope in self._scopes:
            self._given(scope)
            self._largest(scope, self._elements(scope.begin, scope.end), frozenset())

    def _scope(self, begin: int, end: int, outer: _Scope | None) -> _Scope:
        """Reads a scope: each token once."""
        found = self._found
        scope = _Scope(begin, end, outer)
        starts = [begin]
        at = begin
        while at < end:
            token = found[at]
            if token.text in ("(", "[") and token.kind == Kind.SIGN:
                if found[at + 1].keyword in ("SELECT", "WITH"):
                    self._subquery(scope, at)
                    at = self._closing[at]
                else:
                    starts.append(at + 1)
            elif token.text in (")", "]") and len(starts) > 1:
                starts.pop()
            elif token.text == "," or token.keyword in _BEGINS:
                starts[-1] = at + 1
            elif token.keyword == "AS" and at + 1 < end and found[at + 1].name:
                scope.aliases.setdefault(found[at + 1].name, []).append((starts[-1], at))
            at += 1
        scope.selected = list(self._selected(scope))
        self._scopes.append(scope)
        return scope

    def _subquery(self, scope: _Scope, at: int) -> None:
        inner = self._scope(at + 1, self._closing[at], scope)
        scope.inner[at] = inner
        name = at - 2
        if at >= 2 and self._found[at - 1].keyword == "AS":
            if self._found[name].text == ")":  # name (columns) AS (SELECT …
                name = self._opening[name] - 1
            scope.named[self._found[name].name] = inner
            inner.is_read = True
        elif self._is_read(scope, at):
            scope.read.append(inner)
            inner.is_read = True

    def _is_read(self, scope: _Scope, at: int) -> bool:
        """Whether a subquery stands where a table does, or is a part of a union."""
        while at > scope.begin and self._found[at - 1].text == "(" and at not in self._tables:
            at -= 1
        before = self._found[at - 1].keyword if at > scope.begin else "UNION"
        return (at in self._tables and before != "IN") or before in _JOINS_QUERIES

    def _selected(self, scope: _Scope) -> Iterator[_Range]:
        """What the scope's own SELECTs give."""
        begin = -1
        for at in self._own(scope.begin, scope.end):
            word = self._found[at].keyword
            if word == "SELECT":
                begin = at + 1
            elif begin >= 0 and word in ("FROM", "UNION", "EXCEPT", "INTERSECT", "WHERE"):
                yield begin, at
                begin = -1
        if begin >= 0:
            yield begin, scope.end

    def _own(self, at: int, end: int) -> Iterator[int]:
        """Places outside of brackets; of a bracket its first."""
        while at < end:
            yield at
            at = self._closing.get(at, at) + 1

    def _elements(self, begin: int, end: int) -> list[_Range]:
        """What commas part."""
        parts = []
        for at in self._own(begin, end):
            if self._found[at].text == ",":
                parts.append((begin, at))
                begin = at + 1
        return [*parts, (begin, end)]

    def _below(self, scope: _Scope) -> int:
        """The largest column that the scope can read."""
        if self._constant:
            return 1
        if scope.below or scope in self._under_way:
            return max(1, scope.below)
        self._under_way.add(scope)
        sizes = [1]
        sizes += [self._given(inner) for inner in scope.read]
        for at in self._outside_subqueries(scope):
            named = self._named(scope, self._found[at].name)
            if named is not None:
                sizes.append(self._given(named))
        self._under_way.discard(scope)
        scope.below = max(sizes)
        return scope.below

    def _outside_subqueries(self, scope: _Scope) -> Iterator[int]:
        at = scope.begin
        while at < scope.end:
            yield at
            at = (self._closing[at] if at in scope.inner else at) + 1

    def _named(self, scope: _Scope | None, name: str) -> _Scope | None:
        while name and scope is not None:
            self._step()
            if name in scope.named:
                return scope.named[name]
            scope = scope.outer
        return None

    def _given(self, scope: _Scope) -> int:
        """The largest column that the scope gives."""
        key = (self._constant, "", scope.begin)
        if key in self._sizes or key in self._under_way:  # under way: a recursive one
            return self._sizes.get(key, 1)
        self._under_way.add(key)
        parts = [part for one in scope.selected for part in self._elements(*one)]
        united = [self._below(scope)] if not scope.selected or scope.begin in scope.inner else []
        self._sizes[key] = max([self._largest(scope, parts, frozenset()), *united])
        self._under_way.discard(key)
        return self._sizes[key]

    def _step(self) -> None:
        self._steps += 1
        if self._steps > STEPS_MAX:
            raise Denied(ACCESS_DENIED, "This query is nested too deeply to be judged")

    def _columns(self, scope: _Scope) -> int:
        """How many columns ``*`` may stand for."""
        if not self._widest:
            counts = [len(self._elements(*one)) for each in self._scopes for one in each.selected]
            self._widest = max([1, *counts])
        return max(self._widest, 1 if scope.read else _TABLE_COLUMNS)

    def _value(self, scope: _Scope, at: int, bound: frozenset[str]) -> int:
        """The largest that the name at a place may stand for."""
        name = self._found[at].name
        if name in bound:
            return 1
        sizes = [1]
        was_constant = self._constant
        seen: _Scope | None = scope
        while seen is not None:
            self._step()
            sizes.append(self._below(seen))
            defined = seen.aliases.get(name)
            if defined and not _is_in(at, defined):  # else a column of what it reads
                sizes.append(self._alias(seen, name))
            self._constant |= seen.is_read
            seen = seen.outer
        self._constant = was_constant
        return max(sizes)

    def _alias(self, scope: _Scope, name: str) -> int:
        key = (self._constant, name, scope.begin)
        if key in self._sizes or key in self._under_way:
            return self._sizes.get(key, 1)
        self._under_way.add(key)
        self._sizes[key] = self._largest(scope, scope.aliases[name], frozenset())
        self._under_way.discard(key)
        return self._sizes[key]

    def _largest(self, scope: _Scope, parts: list[_Range], bound: frozenset[str]) -> int:
        return max([1, *(self._element(scope, *part, bound) for part in parts)])

    def _element(self, scope: _Scope, begin: int, end: int, bound: frozenset[str]) -> int:
        """The size of one expression; 0 for one of constants."""
        size = 0
        for at in self._own(begin, end):
            self._step()
            token = self._found[at]
            if at in self._closing:
                before = self._found[at - 1] if at > begin else None
                group = self._group(scope, at, before, bound)
                applies = before is not None and before.keyword == "APPLY"
                size = max(1, size) * group if applies else max(size, group)
            elif at > begin and self._found[at - 1].keyword == "AS":
                continue  # the name that is given
            elif token.name and self._found[min(at + 1, end - 1)].text != "(":
                size = max(size, self._value(scope, at, bound))
            elif token.text == "*" or token.keyword == "COLUMNS":
                size = max(size, self._below(scope))
        if size > GROWTH_MAX:
            raise Denied(
                ACCESS_DENIED,
                "The types of this query grow too large: tuples, arrays and maps that stand in one"
                f" another multiply, here to more than {GROWTH_MAX} of the columns they begin with",
            )
        return size

    def _group(self, scope: _Scope, at: int, before: Token | None, bound: frozenset[str]) -> int:
        """The size of what stands in brackets, with the function in front of them."""
        if at in scope.inner:
            return self._given(scope.inner[at])
        parts = self._elements(at + 1, self._closing[at])
        bound = bound | self._parameters(parts)
        sizes = [self._element(scope, *part, bound) for part in parts]
        if self._is_lambda(parts[0]):
            return max(1, sizes[0]) * max([1, *sizes[1:]])
        if self._sums(at, before):
            columns = self._columns(scope) if self._asterisk(parts) else 1
            if sum(sizes) * columns > GROWTH_MAX:
                return GROWTH_MAX + 1
            return sum(sizes) * columns
        return max(sizes)

    def _asterisk(self, parts: list[_Range]) -> bool:
        return any(
            self._found[end - 1].text == "*" or self._found[begin].keyword == "COLUMNS"
            for begin, end in parts
            if end > begin
        )

    def _is_lambda(self, part: _Range) -> bool:
        return any(self._found[at].text == "->" for at in self._own(*part))

    def _parameters(self, parts: list[_Range]) -> frozenset[str]:
        names: set[str] = set()
        for begin, end in parts:
            for at in self._own(begin, end):
                if self._found[at].text == "->":
                    names |= {token.name for token in self._found[begin:at] if token.name}
                    break
        return frozenset(names)

    def _sums(self, at: int, before: Token | None) -> bool:
        """Whether a bracket makes one type out of all that is in it."""
        name = "" if before is None else before.name
        if before is not None and before.keyword in ("IN", "USING"):
            return False
        if self._found[at].text == "[":
            return before is None or not (name or before.text in (")", "]"))
        if not name or (before is not None and before.keyword in OPERATORS):
            return True
        lower = name.lower()
        if lower in _CHOOSES:
            inside = self._found[at + 1 : self._closing[at]]
            return any(token.text in ("(", "[") for token in inside)
        return lower in _SUMS or lower.endswith("state")


def _is_in(at: int, defined: list[_Range]) -> bool:
    """Whether a place is in one of the ranges, which are in the order of the text."""
    before = bisect_right(defined, at, key=lambda one: one[0]) - 1
    return before >= 0 and at <= defined[before][1] + 1
