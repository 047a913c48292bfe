"""The SELECTs of a canonical statement: what each reads, names and groups by.

Invariants:
1. Pure, and linear in the number of tokens. For judging meaning, never safety: of what it does not
   understand it says nothing.
2. Every SELECT stands for itself: a subquery's tokens are the subquery's, not those around it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from analytics.door.lexer import Kind, Token

_CLAUSES = frozenset(
    {"WITH", "SELECT", "FROM", "JOIN", "ON", "USING", "PREWHERE", "WHERE", "GROUP", "HAVING",
     "QUALIFY", "WINDOW", "ORDER", "LIMIT", "OFFSET", "SETTINGS"}
)  # fmt: skip
_UNITES = frozenset({"UNION", "EXCEPT", "INTERSECT"})
_READS = frozenset({"FROM", "JOIN"})
_NAMES = frozenset({"WITH", "SELECT"})


@dataclass(slots=True)
class Read:
    """A table or view after FROM or JOIN.

    Attributes:
        table: its name without the database; empty: a subquery.
        alias: by which columns name it: its own name, if it has no other.
        may_miss: a row without a match in it is kept, as by the right side of LEFT JOIN.
    """

    table: str
    alias: str
    may_miss: bool


@dataclass(slots=True)
class Select:
    """One SELECT.

    Attributes:
        begin: place of its first token.
        reads: what stands after its FROM and JOINs.
        joins: whether it has a JOIN, or a comma between tables.
        named: what it calls by a name: name -> tokens of the expression.
        clauses: clause -> places of its tokens, in order; those of subqueries left out.
    """

    begin: int
    reads: list[Read] = field(default_factory=list)
    joins: bool = False
    named: dict[str, list[Token]] = field(default_factory=dict)
    clauses: dict[str, list[int]] = field(default_factory=dict)
    clause: str = ""
    missing: bool = False
    subquery: int = -1
    depth: int = 0
    expression: list[Token] = field(default_factory=list)


def selects_of(found: list[Token]) -> list[Select]:
    """Every SELECT of a statement, the outermost ones first to begin."""
    all_of: list[Select] = [Select(0)]
    around: list[Select] = []
    """The SELECTs around a bracket that holds one."""
    brackets: list[bool] = []
    """Of each open bracket: whether it holds a SELECT of its own."""
    now = all_of[0]
    for at, token in enumerate(found):
        text = token.text
        if text in ("(", "["):
            begins = at + 1 < len(found) and found[at + 1].text in _NAMES
            brackets.append(begins)
            if begins:
                now.expression.append(token)
                around.append(now)
                now = Select(at + 1)
                all_of.append(now)
                continue
            now.depth += 1
        elif text in (")", "]") and brackets:
            if brackets.pop():
                now = around.pop()
                now.subquery = at
            else:
                now.depth -= 1
        elif not now.depth and token.kind == Kind.WORD and text in _UNITES:
            now = Select(at + 1)
            all_of.append(now)
            continue
        _take(now, found, at)
    return all_of


def _take(now: Select, found: list[Token], at: int) -> None:
    """Adds one token to the SELECT that it belongs to."""
    token = found[at]
    if not now.depth and token.kind == Kind.WORD and token.text in _CLAUSES:
        now.clause, now.expression = token.text, []
        if token.text in _READS:
            now.joins = now.joins or token.text == "JOIN"
            _read(now, found, at)
        return
    now.clauses.setdefault(now.clause, []).append(at)
    if not now.depth and token.text == ",":
        now.expression = []
        if now.clause in _READS:
            now.joins = True
            _read(now, found, at)
        return
    if not now.depth and token.text == "AS" and at + 1 < len(found) and found[at + 1].name:
        if now.clause in _NAMES:
            now.named.setdefault(found[at + 1].name, now.expression)
            now.expression = []
            return
        if now.clause in _READS and now.subquery == at - 1:
            now.reads.append(Read("", found[at + 1].name, now.missing))
    now.expression.append(token)


def _read(now: Select, found: list[Token], at: int) -> None:
    """Notes the table after FROM, JOIN or a comma, or that a subquery comes."""
    before = (
        {token.text for token in found[max(0, at - 3) : at]} if found[at].text == "JOIN" else ()
    )
    if "RIGHT" in before or "FULL" in before:
        for one in now.reads:
            one.may_miss = True
    now.missing = ("LEFT" in before or "FULL" in before) and "ANTI" not in before
    after, name = at + 1, ""
    while after < len(found) and found[after].name:
        name = found[after].name
        after += 1
        if after >= len(found) or found[after].text != ".":
            break
        after += 1
    if not name:
        return
    if after < len(found) and found[after].text == "(":
        after = _behind(found, after)  # the parameters of a view
    alias = name
    if after + 1 < len(found) and found[after].text == "AS" and found[after + 1].name:
        alias = found[after + 1].name
    now.reads.append(Read(name, alias, now.missing))


def _behind(found: list[Token], at: int) -> int:
    """The place behind the bracket that opens at a place."""
    depth = 0
    for place in range(at, len(found)):
        depth += {"(": 1, ")": -1}.get(found[place].text, 0)
        if not depth:
            return place + 1
    return len(found)


def tokens_of(one: Select, clause: str, found: list[Token]) -> Iterator[Token]:
    """The tokens of a clause, those of subqueries left out."""
    return (found[at] for at in one.clauses.get(clause, ()))
