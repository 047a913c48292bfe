"""Ways to get a wrong number, tried as an analyst tries them: at the door, on rows not merged yet.

For each: the right figure comes out, or a refusal or a comment says what to write.
"""

from collections.abc import Iterator

import pytest

from schemas import topics
from schemas.errors import BadInput
from schemas.glossary import RATES
from streams.cli.clickhouse import ask
from tests.analytics.scenario import CODEC, KINDS, MINUTE_0, Sent, first_revision
from tests.builders import record
from tests.contracts.warehouse import Warehouse
from tests.warehouses import OpenWarehouse, migrated_warehouse

DELIVERED, OPENED, MACHINE, CLICKED = KINDS[0], KINDS[3], KINDS[4], KINDS[5]
EPOCH = 4096
"""What a reprocessing adds to the revision of what it writes anew."""
MESSAGES = 40
OPENERS = 10
DAY_S = 86_400


def _events(revision: int, campaign: str, moved: str | None) -> list[dict[str, object]]:
    """40 messages of a campaign delivered over two days; 10 opened twice by people, 40 by machines;
    one with two links: one revision of each event."""
    number, found = 0, []
    for message in range(MESSAGES):
        at = (message % 2) * DAY_S
        kinds = [(DELIVERED, 0, "")]
        kinds += [(MACHINE, 1, "")]
        if message < OPENERS:
            kinds += [(OPENED, 60, ""), ({**OPENED, "first_human": False}, 90, "")]
        if not message:
            kinds += [(CLICKED, 120, "/a"), (CLICKED, 121, "/b")]
        for kind, later, path in kinds:
            item = first_revision(
                number, message, dict(kind), at + later, "gmail", f"https://example.com{path}"
            )
            added = {
                "log_id": "log-a", "offset": number, "version": number, "revision": revision,
                "campaign_id": campaign, "previous_campaign_id": moved,
                "seconds_since_delivery": float(later),
            }  # fmt: skip
            found.append({"event": item["event"], "enrichment": item["enrichment"] | added})
            number += 1
    return found


def _minutes(offset: int, share: int) -> list[dict[str, object]]:
    """The same as absolute counts, as of an offset; a small campaign beside it."""
    rows = [("spring", day, 60, 20, 5) for day in (0, 1)] + [("tiny", 0, 2, 1, 1)]
    return [
        record(
            "campaign_minute", campaign_id=campaign, mailbox_provider="gmail",
            minute=(MINUTE_0 + day * DAY_S) * 1000, log_id="log-a", partition=0, offset=offset,
            events=-(-events // share), delivered=-(-delivered // share),
            opened=-(-opened // share), cohort_opened=-(-opened // share),
        )
        for campaign, day, events, delivered, opened in rows
    ]  # fmt: skip


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenWarehouse]:
    """A warehouse in which nothing is merged: each revision is in an insert of its own."""
    with migrated_warehouse(tmp_path_factory.mktemp("traps")) as (opened, client):
        for table in ("events", "campaign_minutes", "campaigns"):
            client.command(f"SYSTEM STOP MERGES {table}")
        each = Warehouse(opened.reader_settings, client)
        for revision, campaign, moved in (
            (0, "autumn", None), (1, "spring", "autumn"), (EPOCH, "spring", None),
        ):  # fmt: skip
            _load(each, topics.ENRICHED, "enriched_event", _events(revision, campaign, moved))
        for offset, share in enumerate((4, 2, 1)):
            _load(each, topics.MINUTES, "campaign_minute", _minutes(offset, share))
        for name in ("Spring", "Spring sale"):
            client.command(
                "INSERT INTO campaigns (campaign_id, name, updated_at)"
                f" VALUES ('spring', '{name}', now64(6))"
            )
        assert client.query("SELECT count() FROM events").result_rows[0][0] > 3 * MESSAGES
        yield opened


def _load(each: Warehouse, topic: str, schema: str, items: list[dict[str, object]]) -> None:
    values = [CODEC.encode(schema, item) for item in items]
    assert each.load([Sent(topic, 0, at, 0, b"k", value) for at, value in enumerate(values)]) == []


def answer(opened: OpenWarehouse, sql: str, **options: str) -> str:
    """What the door answers, as text."""
    return b"".join(ask(opened.reader_settings, sql, "TSV", options=options).pieces).decode()


def refusal(opened: OpenWarehouse, sql: str, **options: str) -> str:
    """What the door says instead of an answer."""
    with pytest.raises(BadInput) as caught:
        answer(opened, sql, **options)
    return str(caught.value.detail)


@pytest.mark.parametrize(
    ("trap", "sql", "right"),
    [
        ("counts told again as they grew", "SELECT sum(delivered) FROM campaign_minutes", "41"),
        ("the same in a subquery",
         "SELECT sum(d) FROM (SELECT delivered AS d FROM campaign_minutes)", "41"),
        ("events that were corrected",
         "SELECT count() FROM events WHERE event_type = 'delivered'", "40"),
        ("events that moved to another campaign",
         "SELECT count() FROM events WHERE campaign_id = 'autumn'", "0"),
        ("events that a reprocessing wrote anew",
         "SELECT countIf(event_type = 'opened' AND first_human) FROM events", "10"),
        ("facts that were replaced, in a join",
         "SELECT count() FROM campaign_summary AS s JOIN campaigns AS c USING (campaign_id)"
         " WHERE c.campaign_id = 'spring'", "1"),
        ("unique counts added up over days",
         "SELECT sum(opened) FROM campaign_timeline(campaign = 'spring',"
         " from = '2020-01-01 00:00:00', to = '2030-01-01 00:00:00', step = 86400, zone = 'UTC')",
         "10"),
        ("unique counts added up over days and mailbox providers",
         "SELECT sum(delivered) FROM deliverability_daily", "41"),
        ("COUNT(DISTINCT …), which ClickHouse could estimate",
         "SELECT count(DISTINCT message_key) FROM email_events", "40"),
        ("rates of rows of different size, by their sums",
         "SELECT round(sum(cohort_opened) / sum(delivered), 4) FROM campaign_summary", "0.2683"),
        ("days of whoever asks instead of UTC's",
         "SELECT uniqExact(toDate(event_time)) FROM email_events WHERE event_type = 'delivered'"
         " SETTINGS session_timezone = 'Pacific/Auckland'", "2"),
        ("texts without a zone",
         "SELECT count() FROM campaign_minutes WHERE minute = '{at}'"
         " SETTINGS session_timezone = 'Pacific/Auckland'", "2"),
    ],
)  # fmt: skip
def test_the_right_figure_comes_out(opened: OpenWarehouse, trap: str, sql: str, right: str) -> None:
    """Whatever the analyst knows of FINAL, revisions, logs and zones."""
    at = answer(opened, f"SELECT toDateTime({MINUTE_0}, 'UTC')").strip()
    assert answer(opened, sql.replace("{at}", at)).strip() == right, trap


ANY_SETTING = (
    {"limit": "1"}, {"max_result_rows": "1", "result_overflow_mode": "break"},
    {"join_use_nulls": "1"}, {"transform_null_in": "1"}, {"max_block_size": "1"},
    {"session_timezone": "Pacific/Auckland"}, {"count_distinct_implementation": "uniqHLL12"},
    {"cast_string_to_dynamic_use_inference": "1"}, {"date_time_input_format": "best_effort_us"},
)  # fmt: skip


@pytest.mark.parametrize("given", ANY_SETTING, ids=lambda one: ",".join(one))
def test_no_setting_of_the_callers_changes_what_a_view_says(
    opened: OpenWarehouse, given: dict[str, str]
) -> None:
    """They hold inside views too: limits, joins, zones and estimates must not reach their figures.
    The page of queries asks with a limit of its own."""
    period = "from = '2020-01-01 00:00:00', to = '2030-01-01 00:00:00'"
    for sql in (
        "SELECT sum(delivered), sum(cohort_opened), max(name) FROM campaign_summary",
        "SELECT sum(opened), sum(delivered), count() FROM deliverability_daily",
        "SELECT sum(messages), max(seconds_median) FROM time_to_open",
        "SELECT sum(messages), max(clicked), sum(share) FROM click_url_group",
        "SELECT count(), sum(first_human) FROM email_events",
        "SELECT arraySort(groupArray((rate, numerator_a, denominator_a, denominator_b)))"
        " FROM compare(a = 'spring', b = 'tiny')",
        "SELECT sum(delivered), groupArray(toUnixTimestamp(bucket)) FROM (SELECT * FROM"
        f" campaign_timeline(campaign = 'spring', {period}, step = 86400, zone = 'Europe/Vienna')"
        " ORDER BY bucket)",
    ):
        assert answer(opened, sql, **given) == answer(opened, sql), sql


def test_final_cannot_be_switched_off(opened: OpenWarehouse) -> None:
    """Neither behind the statement nor in the address, nor inside a subquery."""
    sql = "SELECT sum(delivered) FROM campaign_minutes"
    assert "'final'" in refusal(opened, f"{sql} SETTINGS final = 0")
    assert "'final'" in refusal(opened, sql, final="0")
    assert "SETTINGS" in refusal(opened, f"SELECT * FROM ({sql} SETTINGS final = 0)")
    assert answer(opened, f"{sql} SETTINGS final = 1").strip() == "41"


@pytest.mark.parametrize("name", [rate.name for rate in RATES])
@pytest.mark.parametrize("function", ["avg", "sum"])
def test_rates_are_not_added_or_averaged(opened: OpenWarehouse, name: str, function: str) -> None:
    """The refusal has the formula, which runs, and a way for whoever means an unweighted mean."""
    told = refusal(opened, f"SELECT {function}(s.{name}) FROM campaign_summary AS s")
    formula = told.split("divide the sums, ")[1].split(". If")[0]
    answer(opened, f"SELECT {formula} FROM campaign_summary")
    unweighted = told.split("write ")[1].split(" (BAD")[0]
    answer(opened, f"SELECT {unweighted} FROM campaign_summary")


@pytest.mark.parametrize(
    "table", ["campaign_rates", "campaign_rates_now", "campaign_rates_history"]
)
def test_windows_that_overlap_are_not_added_up(opened: OpenWarehouse, table: str) -> None:
    """5m, 1h, 24h and total hold the same messages."""
    assert "windows overlap" in refusal(opened, f"SELECT sum(delivered) FROM {table}")
    one = " AND published_minute = now()" if table == "campaign_rates_history" else ""
    answer(opened, f"SELECT sum(delivered) FROM {table} WHERE window = 'total'{one}")


SILENT = (
    ("an average of ratios",
     "SELECT avg(cohort_opened / delivered) FROM campaign_summary",
     "SELECT round(sum(cohort_opened) / sum(delivered), 4) FROM campaign_summary", "0.2683"),
    ("an average of ratios that a subquery makes",
     "SELECT avg(r) FROM (SELECT campaign_id, sum(opened) / sum(delivered) AS r"
     " FROM campaign_minutes GROUP BY campaign_id)",
     "SELECT round(sum(opened) / sum(delivered), 4) FROM campaign_minutes", "0.2683"),
    ("a sum of percentages",
     "SELECT sum(p) FROM (SELECT open_rate * 100 AS p FROM campaign_summary)",
     "SELECT round(100 * sum(cohort_opened) / sum(delivered), 2) FROM campaign_summary", "26.83"),
    ("an average of averages",
     "SELECT avg(a) FROM (SELECT event_type, avg(seconds_since_delivery) AS a FROM email_events"
     " GROUP BY event_type)",
     "SELECT round(avg(seconds_since_delivery), 2) FROM email_events WHERE event_type = 'opened'",
     "25.67"),
    ("an average of medians", "SELECT avg(seconds_median) FROM time_to_open",
     "SELECT quantileExactLow(0.5)(seconds_since_delivery) FROM email_events WHERE first_human"
     " AND event_type = 'opened'", "60"),
    ("distinct messages of days, added up",
     "SELECT sum(u) FROM (SELECT toDate(occurred_at) AS d, uniqExact(message_key) AS u"
     " FROM email_events GROUP BY d)",
     "SELECT uniqExact(message_key) FROM email_events", "40"),
    ("counts beside the events of a JOIN",
     "SELECT sum(s.delivered) FROM campaign_summary AS s JOIN email_events AS e"
     " USING (campaign_id)",
     "SELECT sum(s.delivered) FROM campaign_summary AS s JOIN (SELECT campaign_id, count() AS n"
     " FROM email_events GROUP BY campaign_id) AS e USING (campaign_id)", "40"),
    ("counts beside the links of a JOIN, without a prefix",
     "SELECT sum(delivered) FROM campaign_summary JOIN links USING (campaign_id)",
     "SELECT sum(delivered) FROM campaign_summary WHERE campaign_id IN (SELECT campaign_id FROM"
     " links)", "40"),
    ("rows without a match, by IS NULL",
     "SELECT count() FROM campaign_summary AS s LEFT JOIN links AS l USING (campaign_id)"
     " WHERE l.campaign_id IS NULL",
     "SELECT count() FROM campaign_summary AS s LEFT ANTI JOIN links AS l USING (campaign_id)",
     "1"),
    ("the same of a subquery",
     "SELECT count() FROM campaign_summary AS s LEFT JOIN (SELECT DISTINCT campaign_id AS c FROM"
     " email_events) AS e ON s.campaign_id = e.c WHERE e.c IS NULL",
     "SELECT count() FROM campaign_summary AS s LEFT JOIN (SELECT DISTINCT campaign_id AS c FROM"
     " email_events) AS e ON s.campaign_id = e.c WHERE e.c IS NULL SETTINGS join_use_nulls = 1",
     "1"),
    ("a function for all columns",
     "SELECT * APPLY(avg) FROM (SELECT open_rate FROM campaign_summary)",
     "SELECT count() FROM campaign_summary", "2"),
    ("several windows",
     "SELECT sum(delivered) FROM campaign_rates_now WHERE window IN ('1h', '24h')",
     "SELECT sum(delivered) FROM campaign_rates_now WHERE window = '24h'", "0"),
    ("windows but one",
     "SELECT sum(delivered) FROM campaign_rates_now WHERE window != 'total'",
     "SELECT max(d) FROM (SELECT window, sum(delivered) AS d FROM campaign_rates_now"
     " GROUP BY window)", "0"),
    ("a mean whose values are rounded: ClickHouse's issue 80550",
     "SELECT avgWeighted(open_rate, delivered) FROM campaign_summary",
     "SELECT round(avgWeighted(open_rate, toFloat64(delivered)), 4) FROM campaign_summary",
     "0.2683"),
    ("the same of rows that weigh the same",
     "SELECT avgWeightedIf(open_rate, 1, delivered > 0) FROM campaign_summary",
     "SELECT avgWeighted(open_rate, 1.0) FROM campaign_summary", "0.625"),
    ("a sum that overflows", "SELECT sumWithOverflow(delivered) FROM campaign_minutes",
     "SELECT sum(delivered) FROM campaign_minutes", "41"),
    ("rows repeated by ARRAY JOIN",
     "SELECT sum(delivered) FROM campaign_summary ARRAY JOIN ['a', 'b'] AS tag",
     "SELECT sum(delivered) FROM campaign_summary WHERE has(['spring', 'tiny'], campaign_id)",
     "41"),
    ("rows repeated by arrayJoin",
     "SELECT sum(delivered) AS d, max(arrayJoin(['a', 'b'])) AS tag FROM campaign_summary",
     "SELECT max(d) FROM (SELECT arrayJoin(['a', 'b']) AS tag, sum(delivered) AS d FROM"
     " campaign_summary GROUP BY tag)", "41"),
    ("rows of totals, added up",
     "SELECT sum(d) FROM (SELECT campaign_id, sum(delivered) AS d FROM campaign_minutes"
     " GROUP BY campaign_id WITH ROLLUP)",
     "SELECT sum(d) FROM (SELECT campaign_id, sum(delivered) AS d FROM campaign_minutes"
     " GROUP BY campaign_id)", "41"),
    ("sums of windows, added up",
     "SELECT sum(d) FROM (SELECT sum(delivered) OVER () AS d FROM campaign_summary)",
     "SELECT max(d) FROM (SELECT sum(delivered) OVER () AS d FROM campaign_summary)", "41"),
    ("opens as events, over messages",
     "SELECT countIf(event_type = 'opened') / countIf(event_type = 'delivered') FROM email_events",
     "SELECT countIf(event_type = 'opened' AND first_human) / countIf(event_type = 'delivered')"
     " FROM email_events", "0.25"),
    ("minutes repeated by the events of a JOIN",
     "SELECT sum(m.delivered) FROM campaign_minutes AS m JOIN email_events AS e"
     " USING (campaign_id)",
     "SELECT sum(m.delivered) FROM campaign_minutes AS m JOIN (SELECT DISTINCT campaign_id FROM"
     " email_events) AS e USING (campaign_id)", "40"),
    ("mailbox providers repeated by the links of a JOIN",
     "SELECT sum(delivered) FROM mailbox_providers JOIN links USING (campaign_id)",
     "SELECT sum(delivered) FROM mailbox_providers WHERE campaign_id IN (SELECT campaign_id FROM"
     " links)", "40"),
    ("weeks from Sunday", "SELECT count(DISTINCT toStartOfWeek(event_time)) FROM email_events",
     "SELECT toDayOfWeek(min(toStartOfWeek(event_time, 1))) FROM email_events", "1"),
    ("a rolling window of every minute",
     "SELECT sum(delivered) FROM campaign_rates_history WHERE window = '1h'",
     "SELECT count() FROM (SELECT published_minute, sum(delivered) FROM campaign_rates_history"
     " WHERE window = '1h' GROUP BY published_minute)", "0"),
)  # fmt: skip


@pytest.mark.parametrize(("trap", "wrong", "instead", "right"), SILENT, ids=lambda one: one[:40])
@pytest.mark.parametrize(
    "tool",
    ["{}", "SELECT * FROM ({}) AS virtual_table LIMIT 1000", "WITH q AS ({}) SELECT * FROM q"],
)
def test_what_runs_and_is_wrong_is_refused(
    opened: OpenWarehouse, trap: str, wrong: str, instead: str, right: str, tool: str
) -> None:
    """As an analyst writes it and as a BI tool wraps it; what the advice leads to runs, and gives
    the right figure."""
    if "SETTINGS" in instead and tool != "{}":
        pytest.skip("settings stand at the end of a statement")
    said = refusal(opened, tool.format(wrong))
    assert "BAD_ARGUMENTS" in said, trap
    assert answer(opened, tool.format(instead)).strip() == right, trap


@pytest.mark.parametrize(
    ("trap", "sql", "right"),
    [
        ("a difference below 0", "SELECT min(delivered - 100) FROM campaign_minutes", "-99"),
        ("NOT IN a list with a NULL", "SELECT count() FROM campaign_summary WHERE campaign_id"
         " NOT IN (SELECT arrayJoin(['tiny', NULL]))", "1"),
        ("a share of nothing", "SELECT sum(clicked) / nullIf(sum(sent), 0) FROM campaign_summary"
         " WHERE campaign_id = 'none'", "\\N"),
        ("a share of nothing, as a view has it",
         "SELECT max(open_rate) FROM campaign_summary WHERE campaign_id = 'none'", "\\N"),
        ("an id that differs in case", "SELECT count() FROM campaign_summary WHERE campaign_id"
         " ILIKE 'SPRING'", "1"),
        ("the last day of BETWEEN, by the day's name", "SELECT sum(delivered) FROM"
         " deliverability_daily WHERE day BETWEEN '2026-09-21' AND '2026-09-22'", "41"),
        ("divisions of whole numbers", "SELECT 1 / 4", "0.25"),
        ("large sums of small types", "SELECT sum(delivered * 4000000000) > 160000000000 FROM"
         " campaign_minutes", "1"),
    ],
)  # fmt: skip
def test_other_databases_traps_are_none_here(
    opened: OpenWarehouse, trap: str, sql: str, right: str
) -> None:
    """Types and views give the right figure where others truncate, wrap, or compare with NULL."""
    assert answer(opened, sql).strip() == right, trap


@pytest.mark.parametrize(
    ("view", "words"),
    [
        ("links", "must not be added up over links"),
        ("click_url_group", "must not be added up over links"),
        ("machine_activity", "must not be added up over rows"),
        ("bounce_reasons", "must not be added up over reasons"),
        ("email_events", "Aggregate before a join"),
        ("email_events", "one row per event, not per message"),
        ("time_to_open", "must not be added or averaged"),
        ("campaign_summary", "must not be added or averaged"),
        ("mailbox_providers", "must not be added or averaged"),
        ("deliverability_daily", "must not be added or averaged"),
        ("deliverability_by_day", "must not be added or averaged"),
        ("campaign_timeline", "must not be added or averaged"),
        ("recipient_frequency", "must not be added or averaged"),
        ("campaign_rates_now", "Windows overlap"),
    ],
)  # fmt: skip
def test_what_can_not_be_refused_is_said(opened: OpenWarehouse, view: str, words: str) -> None:
    """In the view's comment, which clients and the page of queries show."""
    sql = f"SELECT comment FROM system.tables WHERE name = '{view}'"
    assert words in answer(opened, sql)


def test_a_message_with_two_links_is_one_clicker(opened: OpenWarehouse) -> None:
    """What is added up over links is not the number of clickers, which stands beside it."""
    rows = answer(opened, "SELECT messages, clicked, share FROM click_url_group").split("\n")
    assert rows[:-1] == ["1\t1\t1", "1\t1\t1"]


def test_no_figure_depends_on_tables_that_are_hidden(opened: OpenWarehouse) -> None:
    """Parts of the pipeline are not among what an analyst may take for figures."""
    assert "privileges" in refusal(opened, "SELECT count() FROM stored")
    shown = answer(opened, "SHOW TABLES").split()
    assert "campaign_summary" in shown
    assert not {"stored", "accepted", "schema_migrations", "dead_letters"} & set(shown)
