"""Statements that run and give a wrong figure: refused, with what to write instead.

Invariants:
1. Pure; over the tokens of a canonical text. It judges meaning, not safety: what it does not
   recognise runs.
2. Each refusal names another way to ask, also for whoever means what was written.
3. A rate stays one whatever it is wrapped in, scaled by or called: ``avg(100 * ifNull(r, 0))`` of
   ``open_rate AS r`` is an average of rates. Multiplied by a count (``sum(open_rate * delivered)``)
   or compared (``countIf(open_rate > 0.2)``) it is none any more.
"""

from analytics.door.denied import MISREADING, Denied
from analytics.door.lexer import Kind, Token
from schemas.glossary import RATES

_RATES = {rate.name: rate for rate in RATES}
_ADD_UP = ("sumkahan", "sumwithoverflow", "sumcount", "sum", "avg")
_COMBINATORS = (
    "array", "distinct", "foreach", "if", "ordefault", "ornull", "resample", "simplestate", "state",
)  # fmt: skip
"""With which a function still adds up its first argument."""
_OF_ARRAYS = frozenset({"arrayavg", "arraysum"})
_WRAPS = frozenset(
    {
        "abs", "assumenotnull", "cast", "ceil", "coalesce", "divide", "floor", "grouparray",
        "ifnull", "minus", "multiply", "negate", "nullif", "plus", "round", "todecimal32",
        "todecimal64", "tofloat32", "tofloat64", "tonullable",
    }
)  # fmt: skip
"""Functions whose result is a rate like their argument, in lower case."""
_OVERLAPPING = frozenset({"campaign_rates", "campaign_rates_history", "campaign_rates_now"})
_OPERATORS = frozenset("()[]+-*/,.")
_BEFORE_A_COLUMN = frozenset({"SELECT", "DISTINCT", "WITH", "(", ","})


def check_meaning(found: list[Token]) -> None:
    """Rates that are added or averaged, and counts that are added up over windows.

    Args:
        found: the statement, without its tail.

    Raises:
        Denied: the figure would be wrong.
    """
    rates = _named_rates(found)
    adds = False
    for at, argument in _added(found):
        adds = adds or found[at].name.lower() not in _OF_ARRAYS
        name = _only_rate(argument, rates)
        if name is not None:
            rate = _RATES[rates[name]]
            raise Denied(
                MISREADING,
                f"{found[at].name}({name}) counts a small row like a large one: divide the sums,"
                f" sum({rate.numerator}) / sum({rate.denominator}). If each row shall weigh the"
                f" same, write avgWeighted({name}, 1)",
            )
    names = {token.name for token in found}
    windows = names & _OVERLAPPING
    if adds and windows and "window" not in names:
        raise Denied(
            MISREADING,
            f"{min(windows)} has a row per window, and windows overlap: choose one, as in"
            " WHERE window = '24h', or take campaign_summary",
        )


def _named_rates(found: list[Token]) -> dict[str, str]:
    """Name -> rate: those of the glossary, and what a statement calls one."""
    rates = {name: name for name in _RATES}
    for at in range(2, len(found) - 1):
        if found[at].text != "AS" or found[at - 1].name not in rates:
            continue
        begin = at - 1
        while begin > 1 and found[begin - 1].text == ".":
            begin -= 2
        if found[begin - 1].text in _BEFORE_A_COLUMN and found[at + 1].name:
            rates.setdefault(found[at + 1].name, rates[found[at - 1].name])
    return rates


def _adds_up(name: str) -> bool:
    """Whether a function adds up or averages its first argument."""
    name = name.lower()
    if name in _OF_ARRAYS:
        return True
    base = next((one for one in _ADD_UP if name.startswith(one)), None)
    if base is None:
        return False
    rest = name.removeprefix(base)
    while rest:
        combinator = next((one for one in _COMBINATORS if rest.startswith(one)), None)
        if combinator is None:
            return False
        rest = rest.removeprefix(combinator)
    return True


def _added(found: list[Token]) -> list[tuple[int, list[Token]]]:
    """Place of each function that adds up or averages, and the tokens of its first argument.

    Linear: a token belongs to the nearest such function around it only.
    """
    added: list[tuple[int, list[Token]]] = []
    around: list[tuple[int, bool]] = []
    """Of each open bracket: the function in ``added`` (or -1), and whether it is its own."""
    for at, token in enumerate(found):
        into = around[-1][0] if around else -1
        if token.text in ("(", "["):
            if token.text == "(" and at and _adds_up(found[at - 1].name):
                added.append((at - 1, []))
                around.append((len(added) - 1, True))
                continue
            around.append((into, False))
        elif token.text in (")", "]") and around:
            if around.pop()[1]:
                continue
        elif token.text == "," and around and around[-1][1]:
            around[-1] = (-1, True)  # what follows is another argument
        if into >= 0:
            added[into][1].append(token)
    return added


def _only_rate(argument: list[Token], rates: dict[str, str]) -> str | None:
    """The rate that an argument is, scaled or wrapped at most; ``None``: it is something else."""
    only = None
    for at, token in enumerate(argument):
        after = argument[at + 1].text if at + 1 < len(argument) else ""
        if token.kind == Kind.SIGN:
            if token.text not in _OPERATORS:
                return None
        elif after == "(":
            if token.name.lower() not in _WRAPS:
                return None
        elif token.name and after != "." and token.keyword not in ("NULL", "DISTINCT"):
            if token.name not in rates:
                return None
            only = only or token.name
    return only
