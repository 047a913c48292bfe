"""Large constants that a function goes through again for each row.

``has((SELECT groupArray(number) FROM numbers(1000000)), number)`` reads a million elements for each
of the 65,409 rows of a block. The engine looks at its limits between blocks only, and the constant
takes memory once, so neither the time limit nor the memory limit ends such a call (tried on 26.9:
a minute a block). Smaller blocks do not help: lambdas, ``ARRAY JOIN`` and outer joins make large
ones whatever ``max_block_size`` says.

Invariants:
1. Pure, over the tokens of a canonical text.
2. Errs towards refusing: an alias counts as large wherever its name stands, if one of its
   definitions may be.
3. Not refused: literals (a query's text is bounded), columns and groups (their copies count as
   memory), and constants that are small by what is written (``range(24)``, ``groupArray(10)(x)``,
   a subquery of which one behind ``FROM`` ends in ``LIMIT 100``).
"""

from collections.abc import Iterator
from itertools import accumulate

from analytics.door import lists
from analytics.door.denied import ACCESS_DENIED, Denied
from analytics.door.lexer import Kind, Token
from analytics.door.places import table_places

SMALL_MAX = 1_000
"""Elements or characters of a constant that any function may go through for each row."""
TEXT_CHARS_MAX = 32_768
"""A literal that is longer counts as large."""
GROWERS_MAX = 3
GROWN_CHARS_MAX = 64
"""Calls of ``lists.GROWERS`` in a statement, and characters written in one, that make no large
text: 20 times as much with each."""
_BEGINS = frozenset(
    {
        "AND", "BY", "DISTINCT", "ELSE", "FROM", "HAVING", "JOIN", "ON", "OR", "PREWHERE",
        "QUALIFY", "SELECT", "THEN", "WHEN", "WHERE", "WITH",
    }
)  # fmt: skip
"""Keywords behind which an expression begins."""
_NO_VALUE = frozenset({"ALL", "AS", "DISTINCT", "EXCEPT", "EXISTS", "IN", "INTERSECT", "UNION"})
"""Keywords in front of a subquery that is no value."""
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
        self._tables = set(table_places(found))
        self._begins = self._beginnings()
        self._definitions = [
            (self._begins[at], at, found[at + 1].name)
            for at, token in enumerate(found[:-1])
            if token.keyword == "AS" and found[at + 1].name
        ]
        # what a lambda binds is no column either
        bound = {name for at, token in enumerate(found) if token.text == "->"
                 for name in self._parameters(at)}  # fmt: skip
        self._defined = bound | {name for _, _, name in self._definitions}
        self._growers = sum(token.name.lower() in lists.GROWERS for token in found)
        self._large = [self._is_large(at) for at in range(len(found))]
        self._spread()
        self._sums = [0, *accumulate(self._large)]

    def check(self) -> None:
        """Raises ``Denied``."""
        for at, begin, end in self._calls():
            if self._sums[end] - self._sums[begin]:
                name = self._found[at].text[:80]
                raise Denied(
                    ACCESS_DENIED,
                    f"{name} would go through a large constant again for each row: write IN"
                    " (SELECT …) or a JOIN, or let the constant be small, as a LIMIT of at most"
                    f" {SMALL_MAX} in its subquery makes it",
                )

    def _calls(self) -> Iterator[tuple[int, int, int]]:
        """Places of the functions in question, each with where its arguments begin and end."""
        found = self._found
        for at, token in enumerate(found):
            if token.keyword in _MATCHES:
                yield at, self._begins[at], self._end(at)
            elif _goes_through(token) and at + 1 < len(found) and found[at + 1].text == "(":
                yield at, at + 2, self._last_bracket(at + 1)

    def _last_bracket(self, opening: int) -> int:
        """The end of a call's arguments, those behind its parameters too."""
        end = self._closing[opening]
        if end + 1 < len(self._found) and self._found[end + 1].text == "(":
            return self._closing[end + 1]
        return end

    def _beginnings(self) -> list[int]:
        """For each place where the expression that it is in begins, in its own brackets."""
        starts, begins = [0], []
        for at, token in enumerate(self._found):
            begins.append(starts[-1])
            if token.text in ("(", "[") and token.kind == Kind.SIGN:
                starts.append(at + 1)
            elif token.text in (")", "]") and token.kind == Kind.SIGN:
                starts.pop()
                begins[-1] = starts[-1]
            elif token.text in (",", "->") or token.keyword in _BEGINS:
                starts[-1] = at + 1
        return begins

    def _end(self, at: int) -> int:
        """Where the expression that a place is in ends."""
        found = self._found
        at += 1
        while at < len(found):
            token = found[at]
            if token.text in (")", "]", ",") or token.keyword in _BEGINS:
                return at
            at = self._closing.get(at, at) + 1
        return at

    def _parameters(self, arrow: int) -> set[str]:
        """Names in front of ``->``."""
        at = arrow - 1
        while (at and self._found[at].text in (")", ",")) or self._found[at - 1].text == ",":
            at -= 1
        return {token.name for token in self._found[at:arrow] if token.name}

    def _is_large(self, at: int) -> bool:
        """Whether a large constant may come of what begins at a place."""
        token = self._found[at]
        if token.kind == Kind.STRING:
            return len(token.text) > TEXT_CHARS_MAX or "fixedstring(" in token.text.lower()
        following = self._found[at + 1].text if at + 1 < len(self._found) else ""
        name = token.name.lower() if following == "(" else ""
        if name in lists.MAKERS:
            return not self._is_bounded(at + 1)
        if name in lists.GROWERS:
            return self._grows(at + 1)
        return token.text == "(" and self._is_scalar(at) and self._collects(at)

    def _is_bounded(self, opening: int) -> bool:
        """Whether every number among a maker's arguments is small, and each is a literal."""
        end = self._closing[opening]
        inside = self._found[opening + 1 : end]
        numbers = [token for token in inside if token.kind == Kind.NUMBER]
        return bool(numbers) and all(
            token.kind == Kind.NUMBER and _is_small(token)
            for token in inside
            if token.text not in (",", "-")
        )

    def _grows(self, opening: int) -> bool:
        """Whether a call that makes long texts of short ones is of constants, and large."""
        inside = self._found[opening + 1 : self._closing[opening]]
        columns = any(
            token.name and token.name not in self._defined and following.text != "("
            for token, following in zip(inside, [*inside[1:], self._found[0]], strict=True)
        )
        chars = sum(len(token.text) for token in inside if token.kind == Kind.STRING)
        return not columns and (self._growers > GROWERS_MAX or chars > GROWN_CHARS_MAX)

    def _is_scalar(self, at: int) -> bool:
        """Whether a subquery stands where a value does."""
        found = self._found
        if at + 1 >= len(found) or found[at + 1].keyword not in ("SELECT", "WITH"):
            return False
        while at and found[at - 1].text == "(" and at not in self._tables:
            at -= 1
        before = found[at - 1].keyword if at else "UNION"
        return at not in self._tables and before not in _NO_VALUE

    def _collects(self, at: int) -> bool:
        """Whether a scalar subquery puts many values into one."""
        end = self._closing[at]
        for place in range(at + 1, end):
            name = self._found[place].name
            opens = self._found[place + 1].text == "("
            if opens and lists.is_collector(name) and not self._is_limited(place, at, end):
                return True
        return False

    def _is_limited(self, place: int, begin: int, end: int) -> bool:
        """Whether an aggregate gets few values: by its parameter, or by the ``LIMIT`` below it."""
        found = self._found
        parameters = self._closing[place + 1]
        if found[parameters + 1].text == "(":
            return self._is_bounded(place + 1)
        at = parameters
        while at < end:
            if found[at].keyword == "FROM" and found[at + 1].text == "(":
                close = self._closing[at + 1]
                return (
                    found[close - 2].keyword == "LIMIT"
                    and _is_small(found[close - 1])
                    and not any(token.keyword == "JOIN" for token in found[close:end])
                )
            at = self._closing.get(at, at) + 1
        return False

    def _spread(self) -> None:
        """Makes every use of a name large that stands for something large."""
        uses: dict[str, list[int]] = {}
        for at, token in enumerate(self._found):
            if token.name:
                uses.setdefault(token.name, []).append(at)
        names: set[str] = set()
        while True:
            sums = [0, *accumulate(self._large)]
            fresh = {
                name
                for begin, end, name in self._definitions
                if name not in names and sums[end] > sums[begin]
            }
            if not fresh:
                return
            names |= fresh
            for name in fresh:
                for at in uses[name]:
                    self._large[at] = True


def _is_small(token: Token) -> bool:
    return token.text.isdecimal() and int(token.text) <= SMALL_MAX
