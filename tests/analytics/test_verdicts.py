"""Why opens and clicks were judged as they were: the command and the page on the real engine."""

import ipaddress
import json
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import accumulate
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.client import reader
from analytics.dashboard import create_app
from analytics.dashboard.asking import ClickHouseQuery
from analytics.verdicts import words
from analytics.verdicts.questions import COUNT_COLUMNS, EXAMPLES_MAX
from schemas.errors import Unavailable
from streams.classify.actor_rules import BY_TIME_REASONS, DEFAULT_RULES, SUSPECTED
from streams.cli.main import main
from tests.spellings import traces
from tests.warehouses import OpenWarehouse, migrated_warehouse

NOW = int(time.time()) // 60 * 60
ADDRESS = "kanarie.b+news{}@b\u00fccher.example"
PROXY = {"actor": "human", "actor_reason": "gmail_proxy", "actor_certainty": "probable"}
PLAIN = {"actor": "human", "actor_reason": "", "actor_certainty": "high"}
APPLE = {"actor": "unknown", "actor_reason": "apple_mpp", "actor_certainty": "high"}
SOON = {"actor": "machine", "actor_reason": "all_links_clicked", "actor_certainty": "probable"}
SCAN = {"actor": "machine", "actor_reason": "links_at_once", "actor_certainty": "certain"}
OPENS = (*[PROXY] * 12, *[PLAIN] * 5, *[APPLE] * 7, SOON, *[SCAN] * 3)
"""Of as many delivered messages, one each."""
DELIVERED = 40
HOSTILE = "\x1b[31m<script>alert(1)</script> Mozilla"


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenWarehouse]:
    """A campaign of which each open was judged in one of five ways, and one of a stranger."""
    with migrated_warehouse(tmp_path_factory.mktemp("verdicts")) as (opened, client):
        rows = [_event("spring", number, "delivered", 0) for number in range(DELIVERED)]
        for number, verdict in enumerate(OPENS):
            rows.append(_event("spring", number, "opened", number + 1, **verdict))
        rows += [_event("spring", 0, "opened", 500, **PROXY)]  # a repeat
        rows += [_event("spring", 90, "opened", 5, **PLAIN)]  # of a message delivered elsewhere
        rows += [_event("spring", 1, "clicked", 9, click_url_group=f"https://a.example/{ADDRESS.format(1)}",
                        **PLAIN)]  # fmt: skip
        rows += [_event("spring", 2, "clicked", 9, unsubscribe_link=True, **PLAIN)]
        rows += [_event("other", number, "opened", 3, **SCAN) for number in range(50, 60)]
        names = sorted({name for row in rows for name in row})
        filled = [[row.get(name, _EMPTY.get(name, "")) for name in names] for row in rows]
        client.insert("events", filled, column_names=names)
        client.command(
            "INSERT INTO campaign_minutes (campaign_id, minute, log_id, offset, events, delivered,"
            " cohort_opened, cohort_opened_or_unknown, cohort_opened_at_most, cohort_opened_any,"
            " cohort_clicked, cohort_clicked_or_unknown, cohort_clicked_at_most,"
            f" cohort_clicked_any) VALUES ('spring', {NOW - 60}, 'log', 1, 70, {DELIVERED},"
            " 17, 24, 25, 28, 1, 1, 1, 1)"
        )
        yield opened


_EMPTY = {"unsubscribe_link": False, "seconds_since_delivery": None}


def _event(campaign: str, number: int, kind: str, after: int, **more: Any) -> dict[str, Any]:
    at = datetime.fromtimestamp(NOW - 3_600 + after, UTC)
    address = ADDRESS.format(number)
    return {
        "campaign_id": campaign, "message_key": uuid.uuid5(uuid.NAMESPACE_URL, address),
        "event_id": uuid.uuid4(), "event_time": at, "occurred_at": at, "received_at": at,
        "event_type": kind, "source": "news", "provider": "sendgrid", "recipient": address,
        "recipient_identity": address, "actor": "none", "actor_certainty": "none",
        "machine_kind": "none", "ip": "198.51.100.77", "user_agent": HOSTILE,
        "seconds_since_delivery": None if kind == "delivered" else float(after), **more,
    }  # fmt: skip


def why(
    warehouse: OpenWarehouse, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    *arguments: str,
) -> tuple[int, str]:  # fmt: skip
    """Exit code and output of ``mailpulse why``, as an analyst."""
    dsn = warehouse.reader_settings.clickhouse_dsn.get_secret_value()
    monkeypatch.setenv("MAILPULSE_CLICKHOUSE_DSN", dsn)
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(["why", *arguments])
    return int(ended.value.code or 0), capsys.readouterr().out


def test_each_verdict_is_told_with_as_many_examples_as_were_asked_for(
    warehouse: OpenWarehouse, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    tmp_path: Any,
) -> None:  # fmt: skip
    """Counted apart by reason and certainty; masked; the same examples when asked again."""
    monkeypatch.chdir(tmp_path)
    asked = ("spring", "--examples", "10", "--json")
    code, out = why(warehouse, monkeypatch, capsys, *asked)
    answer = json.loads(out)
    assert code == 0
    opens = [one for one in answer["verdicts"] if one["event_type"] == "opened"]
    counted = {one["actor_reason"]: (one["messages"], one["events"]) for one in opens}
    expected = Counter(verdict["actor_reason"] for verdict in OPENS)
    assert counted == {
        name: (number + (name == ""), number + (name in ("", "gmail_proxy")))
        for name, number in expected.items()
    }
    for one in answer["verdicts"]:
        assert len(one["examples"]) == min(EXAMPLES_MAX, one["events"])
        assert one["says"] == words.REASONS[one["actor_reason"]]
        for example in one["examples"]:
            assert example["network"] == "198.51.100.0/24"
    assert not traces(out)
    assert "198.51.100.77" not in out
    assert why(warehouse, monkeypatch, capsys, *asked) == (0, out)
    few = json.loads(why(warehouse, monkeypatch, capsys, "spring", "--json")[1])
    assert max(len(one["examples"]) for one in few["verdicts"]) == 3
    shown = why(warehouse, monkeypatch, capsys, "spring")[1]
    assert "\x1b[31m" not in shown
    assert not traces(shown)


def test_the_ways_of_counting_go_from_strict_to_loose(
    warehouse: OpenWarehouse, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    tmp_path: Any,
) -> None:  # fmt: skip
    """The strictest counts delivered messages alone, and no unsubscribe link."""
    monkeypatch.chdir(tmp_path)
    answer = json.loads(why(warehouse, monkeypatch, capsys, "spring", "--json")[1])
    of = {
        kind: [way["messages"] for way in answer["ways"] if way["event_type"] == kind]
        for kind in ("opened", "clicked")
    }
    assert of == {"opened": [5, 17, 24, 25, 28], "clicked": [1, 1, 1, 1, 1]}
    assert [way["rate"] for way in answer["ways"]][:2] == [5 / DELIVERED, 17 / DELIVERED]


def test_a_campaign_that_is_not_there_is_an_error(
    warehouse: OpenWarehouse, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    tmp_path: Any,
) -> None:  # fmt: skip
    """And none of another campaign's events are shown."""
    monkeypatch.chdir(tmp_path)
    assert why(warehouse, monkeypatch, capsys, "nowhere' OR 1=1 --") == (1, "")


async def test_the_page_shows_examples_of_one_verdict(warehouse: OpenWarehouse) -> None:
    """Masked unless the setting says otherwise, of the period, at most ten."""
    given = {"campaign": "spring", "period": "24h", "event_type": "opened", **_named(PROXY)}
    for whole in (False, True):
        async with _page(warehouse, dashboard_show_recipients=whole) as http:
            answer = await http.get("/api/examples", params=given)
        examples = answer.json()["examples"]
        assert len(examples) == EXAMPLES_MAX
        assert bool(traces(answer.text)) == whole
        assert {one["network"] for one in examples} == {"198.51.100.0/24"}
    async with _page(warehouse) as http:
        old = {**given, "period": f"{NOW - 90_000}-{NOW - 60_000}"}
        assert (await http.get("/api/examples", params=old)).json() == {"examples": []}
        for name, value in (("reason", "x" * 201), ("campaign", "x" * 2_001), ("period", "soon")):
            answer = await http.get("/api/examples", params={**given, name: value})
            assert answer.status_code == 400, name
        wording = (await http.get("/api/wording")).json()
        assert wording["reasons"] == words.REASONS


async def test_the_page_says_when_the_database_does_not_answer() -> None:
    """503, and no traceback."""

    async def query(_sql: str, _given: Any) -> list[dict[str, Any]]:
        raise Unavailable("ClickHouse does not answer")

    app = create_app(_settings(), query, wall=lambda: NOW)
    async with _http(app) as http:
        answer = await http.get("/api/examples", params={"campaign": "spring"})
    assert (answer.status_code, answer.text) == (503, "ClickHouse does not answer\n")


def _named(verdict: dict[str, str]) -> dict[str, str]:
    return {
        "actor": verdict["actor"], "reason": verdict["actor_reason"],
        "certainty": verdict["actor_certainty"],
    }  # fmt: skip


def _settings(**changed: Any) -> Any:
    from schemas.settings import Settings

    return Settings(**changed)


def _http(app: Any) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, client=("127.0.0.1", 1234))
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1")


def _page(warehouse: OpenWarehouse, **changed: Any) -> httpx.AsyncClient:
    query = ClickHouseQuery(lambda: reader(warehouse.reader_settings))
    return _http(create_app(_settings(**changed), query, wall=lambda: NOW))


def test_every_reason_of_the_shipped_rules_has_words() -> None:
    """Of agents, networks, flags, bursts and time."""
    rules = DEFAULT_RULES
    named = {rule.reason for rule in rules.agents} | {rule.reason for rule in rules.networks}
    named |= {verdict[1] for verdict in rules.flags.values()}
    named |= {burst.verdict[1] for burst in rules.bursts} | set(BY_TIME_REASONS)
    assert {"gmail_proxy", "links_at_once", "soon"} <= named
    assert named - {SUSPECTED} <= set(words.REASONS)
    assert words.reason("our_own_rule") == "our own rule"


@given(st.ip_addresses() | st.text())
def test_a_network_never_names_one_address(ip: Any) -> None:
    """A /24, a /48, or nothing."""
    shown = words.network(str(ip))
    if shown:
        found = ipaddress.ip_network(shown)
        assert found.prefixlen == (24 if found.version == 4 else 48)
        address = ipaddress.ip_address(str(ip))
        mapped = getattr(address, "ipv4_mapped", None) or address
        assert mapped in found


@given(st.lists(st.integers(0, 9), min_size=8, max_size=8), st.integers(0, 20))
def test_no_way_of_counting_gives_more_than_a_looser_one(steps: list[int], sure: int) -> None:
    """Whatever is stored by the time each is read."""
    opened, clicked = list(accumulate(steps[:4])), list(accumulate(steps[4:]))
    names = COUNT_COLUMNS[1:]
    counts = {"delivered": 99, **dict(zip(names, [*opened, *clicked], strict=True))}
    told = words.ways(counts, {"opened": sure, "clicked": sure})
    for kind in ("opened", "clicked"):
        messages = [way["messages"] for way in told if way["event_type"] == kind]
        assert messages == sorted(messages)
