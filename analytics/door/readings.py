"""Statements whose words mean something else to ClickHouse than to whoever wrote them: refused.

Invariants: as of ``misreadings``: pure; of meaning, not safety; each refusal names another way to
ask, also for whoever means what was written.
"""

from collections.abc import Collection, Iterator
from itertools import pairwise

from analytics.door.denied import MISREADING, Denied
from analytics.door.lexer import Kind, Token
from analytics.door.selects import Select
from schemas.glossary import COUNTER_NAMES, DERIVED_DOCS

_COUNTS = frozenset({*COUNTER_NAMES, *DERIVED_DOCS})
_SUBTOTALS = frozenset({"CUBE", "ROLLUP", "SETS"})
_FLOATS = frozenset({"tofloat32", "tofloat64"})
_OF_WEEKS = frozenset({"tolastdayofweek", "tostartofweek", "toweek", "toyearweek"})
_RESPONSES = frozenset({"'clicked'", "'opened'"})
_MAIL = frozenset({"'delivered'", "'sent'"})
_OF_MESSAGES = ("first_", "message_")
"""How columns begin by which a message counts once."""


def check_readings(
    found: list[Token], selects: list[Select], added: list[tuple[int, list[Token]]]
) -> None:
    """Rows that are repeated by an array, subtotals or a window and then added up; opens and clicks
    as events over messages; functions that round, overflow, or begin weeks on Sunday.

    Args:
        found: the statement, without its tail.
        selects: its SELECTs.
        added: place of each function that adds up, and its first argument.

    Raises:
        Denied: the figure would be wrong.
    """
    _check_functions(found)
    _check_responses(found)
    for one in selects:
        own = {at for places in one.clauses.values() for at in places}
        _check_arrays(found, one, own, added)
        _check_subtotals(found, one, own, added)
        _check_windows(one, own, added)


def _check_functions(found: list[Token]) -> None:
    for at, (token, after) in enumerate(pairwise(found)):
        name = token.name.lower()
        if after.text != "(":
            continue
        if name.startswith("avgweighted"):
            arguments = list(_arguments(found, at + 1))
            weight = arguments[1] if len(arguments) > 1 else []
            if not _is_float(weight):
                value, by = (_text(arguments[0]), _text(weight)) if weight else ("x", "w")
                raise Denied(
                    MISREADING,
                    f"{token.name} rounds values down where the weight is a whole number"
                    f" (ClickHouse's issue 80550): write {token.name}({value}, toFloat64({by}))",
                )
        if name.startswith("sumwithoverflow"):
            raise Denied(
                MISREADING,
                f"{token.name} begins at 0 again behind the largest number of the column's type:"
                " write sum",
            )
        if name in _OF_WEEKS and len(list(_arguments(found, at + 1))) == 1:
            raise Denied(
                MISREADING,
                f"weeks of {token.name} begin on Sunday, those of pages and reports on Monday:"
                f" write {token.name}(…, 1) for Monday, {token.name}(…, 0) for Sunday",
            )


def _is_float(weight: list[Token]) -> bool:
    first = weight[0] if weight else None
    if first is None:
        return False
    return first.name.lower() in _FLOATS or (first.kind == Kind.NUMBER and "." in first.text)


def _check_responses(found: list[Token]) -> None:
    """Events that are opens or clicks, divided by what was delivered or sent."""
    for at, token in enumerate(found):
        if token.text != "/" or not at or found[at - 1].text != ")":
            continue
        begin = _opening(found, at - 1)
        above = found[begin:at]
        below = found[at + 1 : _behind(found, at + 1)]
        counts = found[begin - 1].name.lower().startswith("count") if begin else False
        texts = {one.text for one in above}
        once = any(one.name.startswith(_OF_MESSAGES) for one in above)
        if counts and texts & _RESPONSES and not once and {one.text for one in below} & _MAIL:
            kind = min(texts & _RESPONSES)
            raise Denied(
                MISREADING,
                f"a message can be {kind[1:-1]} many times, also by machines: count it once, as in"
                f" countIf(event_type = {kind} AND first_human); first_of_kind instead counts"
                " whoever it was",
            )


def _check_arrays(
    found: list[Token], one: Select, own: Collection[int], added: list[tuple[int, list[Token]]]
) -> None:
    if any(True for _ in one.clauses.get("GROUP", ())):
        return  # by element each row is there once
    joins = any(found[at].text == "ARRAY" and found[at + 1].text == "JOIN"
                for at in own if at + 1 < len(found))  # fmt: skip
    if joins or any(found[at].name.lower() == "arrayjoin" for at in own):
        for at, argument in added:
            column = next((part.name for part in argument if part.name in _COUNTS), "")
            if at in own and column:
                raise Denied(
                    MISREADING,
                    f"ARRAY JOIN repeats a row for each element, so {found[at].name}({column})"
                    " counts it as often: leave it out, as with has(tags, 'spring'), or group by"
                    " the element",
                )


def _check_subtotals(
    found: list[Token], one: Select, own: Collection[int], added: list[tuple[int, list[Token]]]
) -> None:
    places = (*one.clauses.get("GROUP", ()), *one.clauses.get("WITH", ()))  # GROUP BY x WITH CUBE
    if not any(found[at].keyword in _SUBTOTALS for at in places):
        return
    for at, _ in added:
        if at not in own and at < one.begin:
            raise Denied(
                MISREADING,
                f"WITH ROLLUP, CUBE and GROUPING SETS add rows of totals, which {found[at].name}"
                " around them counts again: leave them out inside",
            )


def _check_windows(one: Select, own: Collection[int], added: list[tuple[int, list[Token]]]) -> None:
    over = {
        name for name, made in one.named.items()
        if any(part.text == "OVER" for part in made)
        and made[0].name.lower().startswith(("sum", "count"))
    }  # fmt: skip
    for at, argument in added:
        names = [part.name for part in argument if part.name]
        if at not in own and len(names) == 1 and names[0] in over:
            raise Denied(
                MISREADING,
                f"{names[0]} has the sum of a window in each of its rows, so adding it up counts"
                f" that once per row: take max({names[0]}), or add up without OVER",
            )


def _arguments(found: list[Token], at: int) -> Iterator[list[Token]]:
    """The arguments of the call whose bracket opens at a place."""
    depth, part = 0, list[Token]()
    for token in found[at:]:
        if token.text in ("(", "["):
            depth += 1
            if depth == 1:
                continue
        elif token.text in (")", "]"):
            depth -= 1
            if not depth:
                break
        elif token.text == "," and depth == 1:
            yield part
            part = []
            continue
        part.append(token)
    if part:
        yield part


def _opening(found: list[Token], at: int) -> int:
    """The place of the bracket that closes at a place."""
    depth = 0
    for place in range(at, -1, -1):
        depth += {")": 1, "(": -1}.get(found[place].text, 0)
        if not depth:
            return place
    return 0


def _behind(found: list[Token], at: int) -> int:
    """The place behind the name, number, or call that begins at a place."""
    depth = 0
    for place in range(at, len(found)):
        depth += {"(": 1, ")": -1}.get(found[place].text, 0)
        if depth < 0:
            return place
        follows = found[place + 1].text if place + 1 < len(found) else ""
        if not depth and follows not in ("(", "."):
            return place + 1
    return len(found)


def _text(argument: list[Token]) -> str:
    return "".join(token.text for token in argument)
