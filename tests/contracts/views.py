"""Every view compared with a plain recount of the records.

The recount is ``tests/analytics/scenario.py``'s, over dictionaries; this file says what each view
promises, in the same terms.
"""

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from schemas.codec import AvroRecord
from schemas.glossary import COUNTER_NAMES, DERIVED, RATES
from tests.analytics.scenario import History, final_counts, final_events, tally

FIGURES = (*COUNTER_NAMES, *DERIVED, *(rate.name for rate in RATES))
RISK_S = 90 * 86_400
"""How far back ``recipients_at_risk`` looks."""
Rows = Callable[[str], list[tuple[Any, ...]]]


def check_views(rows: Rows, history: History) -> None:
    """Compares every view of events or minutes with the recount.

    Args:
        rows: runs a query.
        history: everything that was stored, in log order.

    Raises:
        AssertionError: a view differs.
    """
    _check_events(rows, history)
    _check_event_views(rows, history)
    _check_recipients(rows, history)
    _check_freshness(rows, history)
    _check_counts(rows, history)


def _check_events(rows: Rows, history: History) -> None:
    expected = sorted(
        (
            identity,
            item["enrichment"]["campaign_id"] or "",
            item["enrichment"]["actor"],
            item["enrichment"]["revision"],
        )
        for identity, item in final_events(history).items()
    )
    found = rows(
        "SELECT replaceAll(toString(event_id), '-', ''), campaign_id, actor, revision"
        " FROM email_events"
    )
    assert sorted(found) == expected


def _check_event_views(rows: Rows, history: History) -> None:
    last = list(final_events(history).values())

    def bounce(item: AvroRecord) -> Any:
        kind = item["enrichment"]
        if item["event"]["event_type"] != "bounced":
            return None
        return kind["campaign_id"] or "", kind["mailbox_provider"], kind["bounce_class"]

    def link(item: AvroRecord) -> Any:
        kind = item["enrichment"]
        if item["event"]["event_type"] != "clicked":
            return None
        return (
            kind["campaign_id"] or "",
            item["event"]["click_url"],
            kind["unsubscribe_link"],
            kind["actor"],
        )

    def act(item: AvroRecord) -> Any:
        kind = item["enrichment"]
        if item["event"]["event_type"] not in ("opened", "clicked"):
            return None
        return kind["campaign_id"] or "", item["event"]["event_type"], kind["actor"]

    found = rows(
        "SELECT campaign_id, mailbox_provider, bounce_class, sum(events) FROM bounce_reasons"
        " GROUP BY ALL"
    )
    assert {row[:3]: row[3] for row in found} == tally(last, bounce)
    clicks: dict[tuple[Any, ...], int] = {}
    for *of, human, machine, unknown in rows(
        "SELECT campaign_id, click_url_group, unsubscribe_link, clicks, machine_clicks,"
        " unknown_clicks FROM links"
    ):
        clicks |= {
            (*of, "human"): human, (*of, "machine"): machine, (*of, "unknown"): unknown,
        }  # fmt: skip
    assert {key: value for key, value in clicks.items() if value} == tally(last, link)
    found = rows(
        "SELECT campaign_id, event_type, actor, sum(events) FROM machine_activity GROUP BY ALL"
    )
    assert {row[:3]: row[3] for row in found} == tally(last, act)


def _check_counts(rows: Rows, history: History) -> None:
    names = ", ".join(FIGURES)

    def compare(sql: str, keys: int, group: Callable[[AvroRecord], Any]) -> None:
        expected = {
            key: figures
            for key, figures in final_counts(history, group).items()
            if figures["events"]
        }
        found = {
            row[0] if keys == 1 else row[:keys]: dict(zip(FIGURES, row[keys:], strict=True))
            for row in rows(sql)
        }
        assert set(found) == set(expected)
        for key, figures in expected.items():
            assert found[key] == pytest.approx(figures, nan_ok=False), key

    compare(
        f"SELECT campaign_id, {names} FROM campaign_summary", 1, lambda item: item["campaign_id"]
    )
    compare(
        f"SELECT campaign_id, mailbox_provider, {names} FROM mailbox_providers",
        2,
        lambda item: (item["campaign_id"], item["mailbox_provider"]),
    )
    compare(
        f"SELECT mailbox_provider, {names} FROM deliverability_daily",
        1,
        lambda item: item["mailbox_provider"],
    )
    spring = [item for item in history.minutes if item["campaign_id"] == "spring"]
    found = {
        row[0]: dict(zip(FIGURES, row[1:], strict=True))
        for row in rows(
            f"SELECT toUnixTimestamp(bucket), {names} FROM campaign_timeline(campaign = 'spring',"
            " from = '2026-01-01 00:00:00', to = '2027-01-01 00:00:00', step = 60, zone = 'UTC')"
        )
    }
    expected = final_counts(History(minutes=spring), lambda item: item["minute"] // 1000)
    assert set(found) == set(expected)
    for key, figures in expected.items():
        assert found[key] == pytest.approx(figures), key


def _check_recipients(rows: Rows, history: History) -> None:
    """Who is at risk, and by how much; soft bounces count since the last delivery only."""
    by_recipient: dict[str, list[AvroRecord]] = {}
    for item in final_events(history).values():
        if item["enrichment"]["event_time"] / 1e6 > time.time() - RISK_S:
            by_recipient.setdefault(item["event"]["recipient"], []).append(item)
    expected = {}
    for recipient, items in by_recipient.items():
        delivered = [
            item["enrichment"]["event_time"]
            for item in items
            if item["event"]["event_type"] == "delivered"
        ]
        found: Counter[str] = Counter()
        for item in items:
            kind = item["enrichment"]["bounce_class"]
            late = item["enrichment"]["event_time"] > max(delivered, default=0)
            if item["event"]["event_type"] == "bounced" and (kind == "hard" or late):
                found[kind] += 1
        if found["hard"] or found["soft"] >= 2:
            risk = "hard_bounce" if found["hard"] else "soft_bounces"
            expected[recipient] = (risk, found["hard"], found["soft"])
    told = rows("SELECT recipient, risk, hard_bounces, soft_bounces FROM recipients_at_risk")
    assert {row[0]: row[1:] for row in told} == expected


def _check_freshness(rows: Rows, history: History) -> None:
    """The newest arrival of each source."""
    newest: dict[str, int] = {}
    for item in final_events(history).values():
        source, at = item["event"]["source"], item["event"]["received_at"] // 1000
        newest[source] = max(at, newest.get(source, 0))
    told = rows(
        "SELECT source, toUnixTimestamp64Milli(newest) FROM freshness WHERE part = 'events'"
    )
    assert dict(told) == newest
