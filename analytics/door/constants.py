"""Large constants that a function goes through again for each row.

``has((SELECT groupArray(number) FROM numbers(1000000)), number)`` reads a million elements for each
of the 65,409 rows of a block. The engine looks at its limits between blocks only, and the constant
takes memory once, so neither the time limit nor the memory limit ends such a call (tried on 26.9:
a minute a block). Smaller blocks do not help: lambdas, ``ARRAY JOIN`` and outer joins make large
ones whatever ``max_block_size`` says.

Invariants:
1. Pure, over the tokens of a canonical text, and linear in their number.
2. Errs towards refusing: an alias counts as large wherever its name stands, if one of its
   definitions may be.
3. Not refused: literals (a query's text is bounded), columns and groups (their copies count as
   memory), and constants that are small by what is written (``range(24)``, ``groupArray(10)(x)``,
   a subquery of which one behind ``FROM`` ends in ``LIMIT 100``).
"""

import re
from collections.abc import Iterable, Iterator
from itertools import accumulate, pairwise

from analytics.door import lists
from analytics.door.denied import ACCESS_DENIED, Denied
from analytics.door.lexer import Kind, Token
from analytics.door.table_names import table_places

SMALL_MAX = 1_000
"""Elements or characters of a constant that any function may go through for each row."""
TEXT_CHARS_MAX = 32_768
"""A literal that is longer counts as large."""
GROWERS_MAX = 3
GROWN_CHARS_MAX = 64
"""Calls of ``lists.GROWERS`` in a statement, and characters written in one, that make no large
text: 20 times as much with each."""
ROUNDS_MAX = 50
"""Names that refer to one another in a chain; of a longer one every name counts as large."""
_BEGINS = frozenset(
    {
        "AND", "BY", "DISTINCT", "ELSE", "FROM", "HAVING", "JOIN", "ON", "OR", "PREWHERE",
        "QUALIFY", "SELECT", "THEN", "WHEN", "WHERE", "WITH",
    }
)  # fmt: skip
"""Keywords behind which an expression begins."""
_NO_VALUE = frozenset({"ALL", "AS", "DISTINCT", "EXCEPT", "EXISTS", "IN", "INTERSECT", "UNION"})
"""Keywords in front of a subquery that is no value."""
_UNITES = frozenset({"EXCEPT", "INTERSECT", "UNION"})
_PLAIN = re.compile(r"\w+")
_MATCHES = frozenset({"ILIKE", "LIKE", "REGEXP"})
"""Operators that are functions which go through both of their sides."""


def check_constants(found: list[Token], closing: dict[int, int]) -> None:
    """Refuses a function that would go through a large constant for each row.

    Args:
        found: the statement.
        closing: place of each closing bracket, by the place of its opening one.

    Raises:
        Denied: there is one.
    """
    if any(_goes_through(token) for token in found):
        _Constants(found, closing).check()


def _goes_through(token: Token) -> bool:
    return token.keyword in _MATCHES or token.name.lower() in lists.SCANS


class _Constants:
    def __init__(self, found: list[Token], closing: dict[int, int]) -> None:
        self._found = found
        self._closing = closing
        self._opening = {close: at for at, close in closing.items()}
        self._tables = set(table_places(found))
        self._calls = [
            bool(token.name) and following.text == "("
            for token, following in pairwise([*found, found[0]])
        ]
        self._begins = self._beginnings()
        self._definitions = [
            (self._begins[at], at, named.name)
            for at, (token, named) in enumerate(pairwise(found))
            if token.keyword == "AS" and named.name
        ]
        self._collected = _sums(self._collectors())
        self._columns = _sums(self._column_places())
        self._chars = _sums(len(one.text) if one.kind == Kind.STRING else 0 for one in found)
        self._growers = sum(token.name.lower() in lists.GROWERS for token in found)
        self._large = [self._is_large(at) for at in range(len(found))]
        if any(self._large):
            self._mark_unnamed()
        self._spread()

    def check(self) -> None:
        """Raises ``Denied``."""
        large = _sums(self._large)
        for at, begin, end in self._ranges():
            if large[end] > large[begin]:
                raise Denied(
                    ACCESS_DENIED,
                    f"{self._found[at].text[:80]} would go through a large constant again for each"
                    " row: write IN (SELECT …) or a JOIN, or let the constant be small, as a LIMIT"
                    f" of at most {SMALL_MAX} behind FROM makes it",
                )

    def _ranges(self) -> Iterator[tuple[int, int, int]]:
        """Places of the functions in question, each with where its arguments begin and end."""
        for at, token in enumerate(self._found):
            if token.keyword in _MATCHES:
                yield at, self._begins[at], self._end(at)
            elif self._calls[at] and _goes_through(token):
                yield at, at + 2, self._closing[at + 1]

    def _beginnings(self) -> list[int]:
        """For each place where the expression that it is in begins, in its own brackets."""
        starts, begins = [0], []
        for at, token in enumerate(self._found):
            if token.text in (")", "]") and token.kind == Kind.SIGN:
                starts.pop()
            begins.append(starts[-1])
            if token.text in ("(", "[") and token.kind == Kind.SIGN:
                starts.append(at + 1)
            elif token.text in (",", "->") or token.keyword in _BEGINS:
                starts[-1] = at + 1
        return begins

    def _end(self, at: int) -> int:
        """Where the operand behind an operator ends."""
        at += 1
        while at < len(self._found):
            token = self._found[at]
            if token.text in (")", "]", ",") or token.keyword in _BEGINS | _MATCHES:
                break
            at = self._closing.get(at, at) + 1
        return at

    def _is_large(self, at: int) -> bool:
        """Whether a large constant may come of what begins at a place."""
        token = self._found[at]
        if token.kind == Kind.STRING:
            return len(token.text) > TEXT_CHARS_MAX or "fixedstring(" in token.text.lower()
        if not self._calls[at]:
            return (
                at in self._closing
                and self._collected[self._closing[at]] > self._collected[at]
                and self._is_scalar(at)
            )
        name = token.name.lower()
        if name in lists.MAKERS:
            return not self._is_bounded(at + 1)
        return name in lists.GROWERS and self._grows(at + 1)

    def _is_bounded(self, opening: int) -> bool:
        """Whether a call's arguments are numbers, written there, and small."""
        at = opening + 1
        while at < self._closing[opening]:
            token = self._found[at]
            if token.text not in (",", "-") and not _is_small(token):
                return False
            at += 1
        return at > opening + 1

    def _grows(self, opening: int) -> bool:
        """Whether a call that makes long texts of short ones is of constants, and large."""
        close = self._closing[opening]
        if self._columns[close] > self._columns[opening]:
            return False
        chars = self._chars[close] - self._chars[opening]
        return self._growers > GROWERS_MAX or chars > GROWN_CHARS_MAX

    def _is_name(self, at: int) -> bool:
        """Whether a token names a column or a table; a keyword is written in capitals."""
        token = self._found[at]
        return bool(token.name) and not self._calls[at] and not token.keyword.isupper()

    def _column_places(self) -> list[bool]:
        """Whether each token names a column: no function, no alias, no lambda's parameter."""
        known = {name for _, _, name in self._definitions}
        for at, token in enumerate(self._found):
            if token.text == "->":
                begin = self._opening.get(at - 1, at - 1)
                known |= {one.name for one in self._found[begin:at]}
        return [
            self._is_name(at) and token.name not in known for at, token in enumerate(self._found)
        ]

    def _is_scalar(self, at: int) -> bool:
        """Whether a bracket is a subquery where a value stands."""
        found = self._found
        if found[at + 1].keyword not in ("SELECT", "WITH"):
            return False
        while at and found[at - 1].text == "(" and at not in self._tables:
            at -= 1
        before = found[at - 1].keyword if at else "UNION"
        return at not in self._tables and before not in _NO_VALUE

    def _collectors(self) -> list[bool]:
        """Whether each token is an aggregate that puts many values into one."""
        queries, limited = [-1], {-1: False}
        given = []
        for at, token in enumerate(self._found):
            if at in self._closing and self._found[at + 1].keyword in ("SELECT", "WITH"):
                queries.append(at)
                limited[at] = self._is_limited(at)
            elif self._opening.get(at) == queries[-1]:
                queries.pop()
            collects = self._calls[at] and lists.is_collector(token.name)
            given.append(collects and not limited[queries[-1]] and not self._takes_few(at))
        return given

    def _takes_few(self, at: int) -> bool:
        """Whether an aggregate has a small number as its parameter: ``groupArray(10)(x)``."""
        close = self._closing[at + 1]
        has_parameters = close + 1 < len(self._found) and self._found[close + 1].text == "("
        return has_parameters and self._is_bounded(at + 1)

    def _is_limited(self, opening: int) -> bool:
        """Whether a query reads one subquery alone, and that ends in a small ``LIMIT``."""
        found, limits = self._found, []
        at, end = opening + 1, self._closing[opening]
        while at < end:
            if found[at].keyword in ("JOIN", "UNION"):
                return False
            if found[at].keyword == "FROM":
                close = self._closing.get(at + 1, at)
                limits.append(found[close - 2].keyword == "LIMIT" and _is_small(found[close - 1]))
            at = self._closing.get(at, at) + 1
        return limits == [True]

    def _mark_unnamed(self) -> None:
        """Marks what may stand for a large column that has no alias.

        ``*``, and names that are expressions; of a union, and of ``WITH name(columns) AS``, whose
        columns go by their places, every column.
        """
        found = self._found
        by_place = any(token.keyword in _UNITES for token in found) or any(
            [one.text for one in found[at : at + 3]] == [")", "AS", "("] for at in self._opening
        )
        for at, token in enumerate(found):
            named = token.kind == Kind.QUOTED and not _PLAIN.fullmatch(token.name)
            stars = token.text == "*" and found[at - 1].text in ("(", ",", ".")
            if named or stars or token.keyword == "COLUMNS" or (by_place and self._is_name(at)):
                self._large[at] = True

    def _spread(self) -> None:
        """Makes every use of a name large that stands for something large."""
        uses: dict[str, list[int]] = {}
        for at, token in enumerate(self._found):
            uses.setdefault(token.name, []).append(at)
        pending = self._definitions
        for round_ in range(ROUNDS_MAX + 1):
            large = _sums(self._large)
            fresh = {
                name
                for begin, end, name in pending
                if large[end] > large[begin] or round_ == ROUNDS_MAX
            }
            if not fresh:
                return
            pending = [each for each in pending if each[2] not in fresh]
            for at in (at for name in fresh for at in uses[name]):
                self._large[at] = True


def _sums(counts: Iterable[int]) -> list[int]:
    """How much there is before each place."""
    return [0, *accumulate(counts)]


def _is_small(token: Token) -> bool:
    return token.text.isdecimal() and int(token.text) <= SMALL_MAX
