"""Sums and averages of rates, however they are written; and what looks like one and is none."""

import pytest

from analytics.door.denied import Denied
from analytics.door.lexer import tokens
from analytics.door.misreadings import _added, check_meaning
from schemas.glossary import RATES

WRAPPED = (
    "avg({r})", "AVG({r})", "avg(s.{r})", "avg(mailpulse.campaign_summary.{r})", "avg(`{r}`)",
    "avg(100 * {r})", "avg({r} / 1)", "avg(ifNull({r}, 0))", "avg(coalesce(s.{r}, NULL, 0))",
    "round(avg(toFloat64({r})), 2)", "avg(round(100 * assumeNotNull({r}), 1))", "avgOrNull({r})",
    "avgOrDefaultIf({r}, delivered > 100)", "avgIf(({r}), delivered > 100)", "sumKahan({r})",
    "sum(DISTINCT {r})", "avg(CAST({r}, 'Float64'))", "arrayAvg(groupArray({r}))",
    "avg({r}) OVER (PARTITION BY owner)", "sumCount({r})", "avgState({r})", "avgArray([{r}])",
    "avg({r} - {r})", "max(delivered) + avg({r})",
)  # fmt: skip
RIGHT = (
    "sum({r} * delivered) / sum(delivered)", "sum(delivered * s.{r})", "avgWeighted({r}, 1)",
    "avgWeighted({r}, delivered)", "countIf({r} > 0.2)", "sum({r} > 0.2)",
    "sumIf(delivered, {r} > 0.2)", "avgIf(delivered, {r} > 0.2)", "sum(if({r} > 0.2, 1, 0))",
    "quantile(0.5)({r})", "max({r})", "groupArray({r})", "sum(delivered), {r}", "({r}, sum(sent))",
    "sum(isNull({r}))", "avg(length(toString({r})))", "sumMap(map(name, {r}))",
    "arrayAvg(x -> x, groupArray({r}))", "sum({r} IS NULL)",
)  # fmt: skip


@pytest.mark.parametrize("rate", [RATES[0].name, RATES[-1].name])
@pytest.mark.parametrize("written", WRAPPED)
def test_rates_are_known_in_any_wrapping(written: str, rate: str) -> None:
    """The refusal names the rate and the sums to divide, also of a rate under another name."""
    for sql in (
        f"SELECT {written} FROM campaign_summary AS s",
        f"SELECT {written} FROM (SELECT * FROM campaign_summary) AS s",
    ):
        with pytest.raises(Denied, match="divide the sums") as caught:
            check_meaning(tokens(sql.replace("{r}", rate)))
        assert rate in caught.value.text
    renamed = f"SELECT {written} FROM (SELECT delivered, t.{rate} AS share FROM t)"
    with pytest.raises(Denied, match="divide the sums"):
        check_meaning(tokens(renamed.replace("{r}", "share")))


@pytest.mark.parametrize("written", RIGHT)
def test_what_is_no_sum_of_rates_runs(written: str) -> None:
    """Weighted by messages, compared, counted, or not added at all."""
    check_meaning(tokens(f"SELECT {written} FROM campaign_summary".replace("{r}", "open_rate")))


def test_a_count_made_of_a_rate_is_a_count() -> None:
    """Its name is not the rate's."""
    for made in ("delivered * open_rate AS people", "(open_rate * delivered) AS people"):
        check_meaning(tokens(f"SELECT sum(people) FROM (SELECT {made} FROM campaign_summary)"))


@pytest.mark.parametrize(
    "summed",
    ["sum(delivered)", "sum(delivered + 0)", "sum(t.delivered)", "sumOrNull(ifNull(delivered, 0))",
     "sum(a.b.delivered)", "sumIf(delivered, campaign_id = 'x')"],
)  # fmt: skip
def test_windows_are_not_added_up_in_any_wrapping(summed: str) -> None:
    """A window that is named anywhere is a choice of the caller's."""
    with pytest.raises(Denied, match="windows overlap"):
        check_meaning(tokens(f"SELECT {summed} FROM campaign_rates_now AS t"))
    check_meaning(tokens(f"SELECT {summed} FROM campaign_rates_now AS t WHERE window = '1h'"))


def test_each_token_is_looked_at_once() -> None:
    """However deep such calls are: arguments hold no more than the statement has."""
    deep = tokens("SELECT " + "avg(" * 5_000 + "1, x" + ")" * 5_000)
    assert sum(len(argument) for _, argument in _added(deep)) <= len(deep)
    check_meaning(deep)
