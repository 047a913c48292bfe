"""Statements that run and give a wrong figure: refused, with what to write instead.

Invariants:
1. Pure; over the tokens of a canonical text. It judges meaning, not safety: what it does not
   recognise runs.
2. Each refusal names another way to ask, also for whoever means what was written.
"""

from analytics.door.denied import MISREADING, Denied
from analytics.door.lexer import Token
from schemas.glossary import RATES

_RATES = {rate.name: rate for rate in RATES}
_ADD_UP = frozenset({"sum", "sumkahan", "sumwithoverflow", "sumif", "avg", "avgif"})
_OVERLAPPING = frozenset({"campaign_rates", "campaign_rates_history", "campaign_rates_now"})


def check_meaning(found: list[Token]) -> None:
    """Rates that are added or averaged, and counts that are added up over windows.

    Args:
        found: the statement, without its tail.

    Raises:
        Denied: the figure would be wrong.
    """
    added = list(_added(found))
    for function, name in added:
        if name in _RATES:
            rate = _RATES[name]
            raise Denied(
                MISREADING,
                f"{function}({name}) counts a small row like a large one: divide the sums,"
                f" sum({rate.numerator}) / sum({rate.denominator}). If each row shall weigh the"
                f" same, write avgWeighted({name}, 1)",
            )
    names = {token.name for token in found}
    windows = names & _OVERLAPPING
    if added and windows and "window" not in names:
        raise Denied(
            MISREADING,
            f"{min(windows)} has a row per window, and windows overlap: choose one, as in"
            " WHERE window = '24h', or take campaign_summary",
        )


def _added(found: list[Token]) -> list[tuple[str, str]]:
    """Pairs of a function that adds or averages, and the column that it is given alone."""
    pairs = []
    for at, token in enumerate(found[:-3]):
        if token.name.lower() not in _ADD_UP or found[at + 1].text != "(":
            continue
        column = at + 2
        if column + 2 < len(found) and found[column + 1].text == ".":
            column += 2
        if found[column].name and found[column + 1].text in (")", ","):
            pairs.append((token.name, found[column].name))
    return pairs
