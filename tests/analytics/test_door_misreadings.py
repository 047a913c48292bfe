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
    "sum({r} * delivered) / sum(delivered)", "sum(delivered * s.{r})", "avgWeighted({r}, 1.0)",
    "avgWeighted({r}, toFloat64(delivered))", "countIf({r} > 0.2)", "sum({r} > 0.2)",
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


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT avg(if(delivered = 0, NULL, opened / delivered)) FROM campaign_summary",
        "SELECT avg(o / nullIf(d, 0)) FROM (SELECT sum(opened) AS o, sum(delivered) AS d FROM t)",
        "SELECT max(x), avg(100 * (a.opened / a.delivered)) FROM campaign_summary AS a",
        "SELECT avg(m) FROM (SELECT quantile(0.5)(seconds_since_delivery) AS m FROM email_events)",
        "WITH q AS (SELECT round(avg(x), 1) AS m FROM t) SELECT sum(q.m) FROM q",
        "SELECT sum(u) FROM (SELECT toStartOfInterval(event_time, toIntervalDay(1)) AS d,"
        " uniq(recipient_identity) AS u FROM email_events GROUP BY d)",
        "SELECT sum(t.u) FROM (SELECT count(DISTINCT message_key) AS u FROM email_events"
        " GROUP BY toHour(event_time)) AS t",
        "SELECT sum(c.expected_recipients) FROM campaigns AS c INNER JOIN campaign_minutes AS m"
        " USING (campaign_id)",
        "SELECT sum(delivered) FROM links AS l, campaign_summary AS s WHERE l.campaign_id ="
        " s.campaign_id",
        "SELECT 1 FROM a RIGHT JOIN b ON a.x = b.x WHERE a.x IS NULL",
        "SELECT 1 FROM a FULL OUTER JOIN b ON a.x = b.x WHERE b.x IS NOT NULL",
        "SELECT 1 FROM a ANY LEFT JOIN b ON a.x = b.x WHERE isNull(b.x)",
        "SELECT COLUMNS('rate') APPLY (x -> avg(x)) FROM campaign_summary",
        "SELECT * APPLY sum FROM campaign_summary",
    ],
)  # fmt: skip
def test_what_a_statement_makes_is_judged_too(sql: str) -> None:
    """Ratios, means, distinct counts, and rows that a JOIN repeats or makes."""
    with pytest.raises(Denied):
        check_meaning(tokens(sql))


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT sum(opened) / sum(delivered) AS r FROM campaign_minutes",
        "SELECT avg(d) FROM (SELECT sum(delivered) AS d FROM campaign_minutes GROUP BY minute)",
        "SELECT avg(seconds_since_delivery / 60) FROM email_events",
        "SELECT max(r) FROM (SELECT opened / delivered AS r FROM campaign_summary)",
        "SELECT sum(r * d) / sum(d) FROM (SELECT open_rate AS r, delivered AS d FROM t)",
        "SELECT avgWeighted(opened / delivered, 1.0) FROM campaign_summary",
        "SELECT sum(u) FROM (SELECT campaign_id, uniqExact(message_key) AS u FROM email_events"
        " GROUP BY campaign_id)",
        "SELECT sum(1 * u) FROM (SELECT toDate(event_time) AS d, uniqExact(message_key) AS u FROM"
        " email_events GROUP BY d)",
        "SELECT sum(m.delivered) FROM campaign_minutes AS m INNER JOIN campaigns AS c"
        " USING (campaign_id)",
        "SELECT sum(s.delivered), sum(c.expected_recipients) FROM campaign_summary AS s"
        " INNER JOIN campaigns AS c USING (campaign_id)",
        "SELECT sum(m.delivered), any(s.sent) FROM campaign_minutes AS m INNER JOIN"
        " campaign_summary AS s USING (campaign_id)",
        "SELECT (SELECT sum(delivered) FROM campaign_summary), count() FROM email_events",
        "SELECT 1 FROM a LEFT JOIN b ON a.x = b.x WHERE a.y IS NULL",
        "SELECT 1 FROM a LEFT ANTI JOIN b ON a.x = b.x WHERE b.x IS NULL",
        "SELECT 1 FROM a LEFT JOIN b ON a.x = b.x WHERE b.open_rate IS NULL",
        "SELECT 1 FROM a INNER JOIN b ON a.x = b.x WHERE b.x IS NULL",
        "SELECT * APPLY toString FROM campaign_summary",
        "SELECT avg(delivered) FROM campaign_rates_history WHERE window = '1h'",
    ],
)
def test_what_is_right_runs(sql: str) -> None:
    """Beside each of the traps."""
    check_meaning(tokens(sql))


def test_nulls_can_be_asked_for() -> None:
    """With the setting that makes them."""
    sql = "SELECT 1 FROM a LEFT JOIN b ON a.x = b.x WHERE b.x IS NULL"
    check_meaning(tokens(sql), {"join_use_nulls": "1"})


def test_each_token_is_looked_at_once() -> None:
    """However deep such calls are: arguments hold no more than the statement has."""
    deep = tokens("SELECT " + "avg(" * 5_000 + "1, x" + ")" * 5_000)
    assert sum(len(argument) for _, argument in _added(deep)) <= len(deep)
    check_meaning(deep)
