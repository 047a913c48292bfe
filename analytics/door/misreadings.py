"""Statements that run and give a wrong figure: refused, with what to write instead.

Invariants:
1. Pure; over the tokens of a canonical text. It judges meaning, not safety: what it does not
   recognise runs.
2. Each refusal names another way to ask, also for whoever means what was written.
3. A rate stays one whatever it is wrapped in, scaled by or called: ``avg(100 * ifNull(r, 0))`` of
   ``open_rate AS r`` is an average of rates. So does a mean, or a ratio of counts, that is made
   here (``sum(opened) / sum(delivered) AS r``). Multiplied by a count (``sum(open_rate *
   delivered)``) or compared (``countIf(open_rate > 0.2)``) it is none any more.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from itertools import pairwise

from analytics.door.denied import MISREADING, Denied
from analytics.door.lexer import Kind, Token
from analytics.door.readings import check_readings
from analytics.door.selects import Select, selects_of, tokens_of
from schemas.glossary import COUNTER_NAMES, DERIVED_DOCS, RATES

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
_OF_A_TIME = frozenset({"published_minute", "as_of"})
"""Columns of which one value leaves one row of ``campaign_rates_history`` per campaign, window."""
_OPERATORS = frozenset("()[]+-*/,.")
_BEFORE_A_COLUMN = frozenset({"SELECT", "DISTINCT", "WITH", "(", ","})
_QUANTILES = frozenset(
    {"seconds_first_quarter", "seconds_median", "seconds_nine_tenths", "seconds_third_quarter"}
)
"""Columns of ``time_to_open``."""
_COUNTS = frozenset({*COUNTER_NAMES, *DERIVED_DOCS})
_COUNTING = ("count", "sum", "uniq")
_MEANS = ("avg", "median", "quantile")
_ONE_PER_CAMPAIGN = frozenset({"campaign_summary", "campaigns", "time_to_open"})
_OF_A_CAMPAIGN = {
    "campaign_summary": _COUNTS, "campaigns": frozenset({"expected_recipients"}),
}  # fmt: skip
"""Table with one row per campaign -> its columns that can be added up over campaigns."""
_COUNTED = frozenset(
    {"campaign_minutes", "campaign_timeline", "deliverability_by_day", "deliverability_daily",
     "mailbox_providers"}
)  # fmt: skip
"""Tables of counts by campaign, mailbox provider or time: those below have more rows for each."""
_UNCOUNTED = frozenset(
    {"bounce_reasons", "click_url_group", "email_events", "events", "links", "machine_activity",
     "recipients_at_risk", "scoped_suppressions", "suppressions"}
)  # fmt: skip
"""Tables without such columns: one without a prefix is the other table's."""
_TIME = re.compile(
    r"to(?:StartOf|Date|Monday|Year|Month|Week|Hour|DayOf|YYYY|LastDay|Relative|Quarter)"
    r"|date_?[tT]runc|(?:minute|hour|day|week|month|bucket)$"
)


def check_meaning(found: list[Token], settings: Mapping[str, object] | None = None) -> None:
    """Rates, means and quantiles that are added or averaged; counts that are added up over windows,
    over days, or over rows that a JOIN repeats; NULLs that a JOIN does not make.

    Args:
        found: the statement, without its tail.
        settings: those at its end.

    Raises:
        Denied: the figure would be wrong.
    """
    selects = selects_of(found)
    added = _added(found)
    _check_rates(found, added, selects)
    _check_windows(found, added, selects)
    _check_distinct(found, added, selects)
    for one in selects:
        _check_fan_out(found, added, one)
        if str((settings or {}).get("join_use_nulls", "0")) not in ("1", "true"):
            _check_nulls(found, one)
    _check_apply(found)
    check_readings(found, selects, added)


def _check_rates(
    found: list[Token], added: list[tuple[int, list[Token]]], selects: list[Select]
) -> None:
    rates = _named_rates(found)
    for one in reversed(selects):  # those inside first
        for name, expression in one.named.items():
            only = _only_rate(expression, rates)
            if only is not None:
                rates.setdefault(name, rates[only])
    means, counts = _made_here(selects, rates)
    for at, argument in added:
        function, only = found[at].name, _only_rate(argument, rates)
        if only is not None:
            rate = _RATES[rates[only]]
            raise Denied(
                MISREADING,
                f"{function}({only}) counts a small row like a large one: divide the sums,"
                f" sum({rate.numerator}) / sum({rate.denominator}). If each row shall weigh the"
                f" same, write avgWeighted({only}, 1.0)",
            )
        if _is_mean(argument, means, counts):
            text = "".join(token.text for token in argument)
            raise Denied(
                MISREADING,
                f"{function}({text}) counts a small row like a large one, since {text} is a mean, a"
                " quantile or a ratio of each row. Ask for it over all rows at once, or divide"
                " sums, as in sum(cohort_opened) / sum(delivered). If each row shall weigh the"
                f" same, write avgWeighted({text}, 1.0)",
            )


def _made_here(
    selects: list[Select], rates: Mapping[str, str]
) -> tuple[frozenset[str], frozenset[str]]:
    """Names of means, quantiles and ratios; and names of counts."""
    means, counts = {*rates, *_QUANTILES}, set(_COUNTS)
    for one in reversed(selects):
        for name, expression in one.named.items():
            if name in rates:
                continue
            if _is_mean(expression, means, counts):
                means.add(name)
            elif _atoms(expression, means, counts) == ["count"]:
                counts.add(name)
    return frozenset(means), frozenset(counts)


def _is_mean(expression: list[Token], means: Collection[str], counts: Collection[str]) -> bool:
    """Whether it is a mean, a quantile, or a ratio of counts: wrapped and scaled at most."""
    atoms = _atoms(expression, means, counts)
    if not atoms:
        return False
    for before, sign, after in zip(atoms, atoms[1:], atoms[2:], strict=False):
        if sign == "*" and "number" not in (before, after):
            return False
    divided = any(sign == "/" and after == "count" for sign, after in pairwise(atoms))
    return "mean" in atoms or divided


def _atoms(
    expression: list[Token], means: Collection[str], counts: Collection[str]
) -> list[str] | None:
    """What it is made of: signs, ``number``, ``count``, ``mean``; ``None``: something else too."""
    atoms: list[str] = []
    at = 0
    while at < len(expression):
        token = expression[at]
        after = expression[at + 1].text if at + 1 < len(expression) else ""
        name = token.name.lower()
        if token.kind == Kind.SIGN:
            if token.text not in _OPERATORS:
                return None
            if token.text in "+-*/":
                atoms.append(token.text)
        elif token.kind == Kind.NUMBER or token.keyword == "NULL":
            atoms.append("number")
        elif token.name and after == "(" and name == "if":
            at = _behind_condition(expression, at + 1)
            continue
        elif token.name and after == "(" and name not in _WRAPS:
            if not name.startswith((*_COUNTING, *_MEANS)):
                return None
            atoms.append("count" if name.startswith(_COUNTING) else "mean")
            at = _behind_calls(expression, at + 1)
            continue
        elif after not in (".", "("):  # no table's name, no wrap
            kind = _column(token.name, means, counts)
            if not kind:
                return None
            atoms.append(kind)
        at += 1
    return atoms


def _column(name: str, means: Collection[str], counts: Collection[str]) -> str:
    if name in means:
        return "mean"
    return "count" if name in counts else ""


def _behind_calls(expression: list[Token], at: int) -> int:
    """The place behind ``(…)`` or ``(…)(…)``."""
    depth = 0
    for place in range(at, len(expression)):
        depth += {"(": 1, ")": -1}.get(expression[place].text, 0)
        follows = expression[place + 1].text if place + 1 < len(expression) else ""
        if not depth and follows != "(":
            return place + 1
    return len(expression)


def _behind_condition(expression: list[Token], at: int) -> int:
    """The place behind the first comma of the bracket that opens at a place."""
    depth = 0
    for place in range(at, len(expression)):
        depth += {"(": 1, ")": -1}.get(expression[place].text, 0)
        if depth == 1 and expression[place].text == ",":
            return place + 1
    return len(expression)


def _check_windows(
    found: list[Token], added: list[tuple[int, list[Token]]], selects: list[Select]
) -> None:
    functions = [found[at].name.lower() for at, _ in added]
    names = {token.name for token in found}
    windows = names & _OVERLAPPING
    adds = any(name not in _OF_ARRAYS for name in functions)
    if adds and windows and not _chosen(found, selects, {"window"}):
        raise Denied(
            MISREADING,
            f"{min(windows)} has a row per window, and windows overlap: choose one, as in"
            " WHERE window = '24h', or take campaign_summary",
        )
    sums = any(name.startswith("sum") for name in functions)
    if sums and "campaign_rates_history" in names and not _chosen(found, selects, _OF_A_TIME):
        raise Denied(
            MISREADING,
            "campaign_rates_history has a row per minute, each of a whole window, and these"
            " overlap: choose one published_minute or group by it, or take campaign_timeline",
        )


def _chosen(found: list[Token], selects: list[Select], columns: Collection[str]) -> bool:
    """Whether one value of a column is asked for, or each by itself."""
    values = (Kind.STRING, Kind.PARAMETER)
    for before, sign, after in zip(found, found[1:], found[2:], strict=False):
        if sign.text == "=" and (
            (before.name in columns and (after.kind in values or after.name))
            or (after.name in columns and before.kind in values)
        ):
            return True
    return any(
        token.name in columns or token.text == "ALL"
        for one in selects
        for token in tokens_of(one, "GROUP", found)
    )


def _check_distinct(
    found: list[Token], added: list[tuple[int, list[Token]]], selects: list[Select]
) -> None:
    """Distinct counts of days and the like, which are added up."""
    for one in selects:
        distinct = [name for name, made in one.named.items() if _is_distinct(made)]
        if not distinct or not _groups_by_time(found, one):
            continue
        for at, argument in added:
            words = [token for token in argument if token.name]
            if found[at].name.lower().startswith("sum") and words and (
                words[-1].name in distinct and len(argument) == 2 * len(words) - 1
            ):  # fmt: skip
                raise Denied(
                    MISREADING,
                    f"{found[at].name}({words[-1].name}) counts again in each row what was there in"
                    " one before: count once over all rows with uniqExact, or add up what is in one"
                    " row only, as countIf(first_human). If no two rows can share one,"
                    f" write sum(1 * {words[-1].name})",
                )


def _is_distinct(expression: list[Token]) -> bool:
    names = [token.text.lower() for token in expression[:3]]
    return bool(names) and (names[0].startswith("uniq") or names == ["count", "(", "distinct"])


def _groups_by_time(found: list[Token], one: Select) -> bool:
    grouped: Iterable[Token] = tokens_of(one, "GROUP", found)
    return any(
        _TIME.match(name.name)
        for token in grouped
        for name in (token, *one.named.get(token.name, ()))
        if name.name
    )


def _check_fan_out(found: list[Token], added: list[tuple[int, list[Token]]], one: Select) -> None:
    """Columns of one row per campaign that are added up beside a table with many."""
    many = [read for read in one.reads if read.table and read.table not in _ONE_PER_CAMPAIGN]
    if not one.joins or not many:
        return
    places = {at for part in one.clauses.values() for at in part}
    for read in one.reads:
        columns = _OF_A_CAMPAIGN.get(read.table, frozenset())
        if read.table in _COUNTED and any(other.table in _UNCOUNTED for other in many):
            columns = _COUNTS
        for at, argument in added:
            if at not in places or not columns:
                continue
            for place, token in enumerate(argument):
                if token.name not in columns:
                    continue
                prefix = (
                    argument[place - 2].name
                    if place > 1 and argument[place - 1].text == "."
                    else ""
                )
                if prefix == read.alias or (
                    not prefix and all(o.table in _UNCOUNTED for o in many if o is not read)
                ):
                    other = next(one.table for one in many if one is not read)
                    raise Denied(
                        MISREADING,
                        f"the JOIN repeats each row of {read.table} for every row of"
                        f" {other}, so {found[at].name}({token.name}) counts it as often:"
                        f" aggregate {other} by campaign_id in a subquery, then join that",
                    )


def _check_nulls(found: list[Token], one: Select) -> None:
    """``IS NULL`` on a side of a JOIN whose columns are empty, not NULL, without a match."""
    missing = {read.alias for read in one.reads if read.may_miss}
    if not missing:
        return
    for clause, places in one.clauses.items():
        if clause in ("FROM", "JOIN"):
            continue
        for at in places:
            if found[at].name not in missing or at + 3 >= len(found) or found[at + 1].text != ".":
                continue
            column = found[at + 2].name
            asked = found[at + 3].text == "IS" or found[at - 2].name.lower() in (
                "isnull", "isnotnull",
            )  # fmt: skip
            if asked and column not in _RATES:
                raise Denied(
                    MISREADING,
                    f"without a match {found[at].name}.{column} is empty or 0, not NULL, so this"
                    " finds no row: write LEFT ANTI JOIN for rows without a match, or add"
                    " SETTINGS join_use_nulls = 1",
                )


def _check_apply(found: list[Token]) -> None:
    """A function for many columns at once, whose names are not seen here."""
    for at, token in enumerate(found):
        if token.keyword != "APPLY":
            continue
        after = found[at + 1 : at + 8]
        if after and _adds_up(after[0].name):
            called = after[0].name
        else:
            calls = pairwise(after)
            called = next((one.name for one, sign in calls
                           if sign.text == "(" and _adds_up(one.name)), "")  # fmt: skip
        if called:
            raise Denied(
                MISREADING,
                f"APPLY {called} would add up or average rates like counts: name the columns, as in"
                " sum(delivered), sum(cohort_opened) / sum(delivered)",
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
