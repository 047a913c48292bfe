"""``mailpulse alerts``: over a real warehouse, through the analysts' listener."""

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.glossary import COUNTER_INDEX
from streams.campaigns.incidents import Held, Key, look
from streams.campaigns.lines import Lines
from streams.campaigns.measures import Judged
from streams.campaigns.rehearsal import Arrival, rehearse
from streams.cli import alerts, context
from streams.cli.alerts import _STANDING_OUT
from streams.cli.clickhouse import table_of
from streams.cli.main import main
from streams.enrich.vectors import WIDTH
from tests.warehouses import migrated_warehouse

NOW_S = int(time.time())
MINUTE = NOW_S // 60
Run = Callable[..., Any]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a warehouse with two campaigns and an incident."""
    with migrated_warehouse(tmp_path_factory.mktemp("alerts")) as (warehouse, client):
        _minutes(client)
        _events(client)
        client.insert(
            "incident_changes",
            [
                ["spring", "ab" * 16, sequence, "hard_bounce_rate", level, level, state, 0.1,
                 "24h", 300, 1000, 0.3, at(3600), at(3600 - sequence), at(0), "Stop it."]
                for sequence, state, level in (
                    (1, "opened", "warning"), (2, "escalated", "critical"),
                )
            ],
            column_names=["campaign_id", "incident_id", "sequence", "rate", "level", "worst_level",
                          "state", "line", "window", "numerator", "denominator", "value",
                          "opened_at", "changed_at", "as_of", "advice"],
        )  # fmt: skip
        client.insert(
            "source_incident_changes",
            [
                ["news", kind, identity * 16, sequence, state, "critical", at(9000), 720, 2160,
                 at(7000), at(7000 - sequence), at(7000 - sequence), "Run a test."]
                for kind, identity, sequence, state in (
                    ("", "cd", 1, "opened"), ("opened", "ef", 1, "opened"),
                    ("opened", "ef", 2, "closed"),
                )
            ],
            column_names=["source", "event_type", "incident_id", "sequence", "state", "level",
                          "silent_since", "usual_gap_s", "explained_s", "opened_at", "changed_at",
                          "as_of", "advice"],
        )  # fmt: skip
        yield warehouse.reader_settings.clickhouse_dsn.get_secret_value()


def at(ago_s: int) -> datetime:
    """A time before now."""
    return datetime.fromtimestamp(NOW_S - ago_s, UTC)


def _minutes(client: Client) -> None:
    names = ["campaign_id", "mailbox_provider", "minute", "log_id", "partition", "offset",
             "delivered", "attempt_sent", "attempt_bounced_hard", "delivered_stale"]  # fmt: skip
    rows = [
        [campaign, mailbox, (MINUTE - ago) * 60, "log", 0, 1, delivered, delivered + hard, hard, 0]
        for campaign, mailbox, ago, delivered, hard in (
            ("spring", "gmail", 300, 700, 0), ("spring", "gmail", 290, 0, 300),
            ("news-1", "gmail", 2000, 9_950, 50), ("business", "other", 1500, 900, 0),
        )
    ]  # fmt: skip
    rows.append(["history", "gmail", (MINUTE - 1500) * 60, "log", 0, 1, 1_400, 0, 0, 1_000])
    client.insert("campaign_minutes", rows, column_names=names)


def _events(client: Client) -> None:
    rows: list[list[Any]] = []
    for number in range(60):
        bad = number < 30
        rows.append(
            ["spring", f"{number:032x}", f"{number:032x}", "bounced" if bad else "delivered",
             "hard" if bad else "none", "no_mailbox" if bad else "none",
             "shop" if bad or number < 40 else "news", "gmail", ["bought"] if bad else ["own"],
             at(4000), at(4000), True, None]
        )  # fmt: skip
    rows += [  # complaints of today about the mail of 33 hours ago
        ["news-1", f"{number:032x}", f"{number:032x}", "complained", "none", "none", "shop",
         "gmail", [], at(600), at(600), True, (2000 - 10) * 60.0]
        for number in range(100, 150)
    ]  # fmt: skip
    rows += [  # counts keep those without a name as «other», events keep the domain
        ["business", f"{number:032x}", f"{number:032x}", "complained", "none", "none", "shop",
         f"company-{number}.example", [], at(600), at(600), True, (1500 - 10) * 60.0]
        for number in range(300, 320)
    ]  # fmt: skip
    rows += [  # 7 complaints and 3 repeats, 5 unsubscriptions, 4 bounces after a delivery
        ["mixed", f"{number:032x}", f"{number:032x}", kind, "hard" if kind == "bounced" else "none",
         "none", "shop", "gmail", [], at(600), at(600), first, 60.0]
        for number, (kind, first) in enumerate(
            [("complained", True)] * 7 + [("complained", False)] * 3
            + [("unsubscribed", True)] * 5 + [("bounced", True)] * 4,
            start=200,
        )
    ]  # fmt: skip
    names = ["campaign_id", "event_id", "message_key", "event_type", "bounce_class",
             "bounce_reason", "source", "mailbox_provider", "tags", "event_time", "received_at",
             "first_of_kind", "seconds_since_delivery"]  # fmt: skip
    client.insert("events", rows, column_names=names)
    _history(client)


def _history(client: Client) -> None:
    """Of 1,000 deliveries told 40 days late 40 have complaints, of 400 told at once one has."""
    names = ["campaign_id", "event_id", "message_key", "event_type", "mailbox_provider",
             "occurred_at", "event_time", "received_at", "first_of_kind",
             "seconds_since_delivery"]  # fmt: skip
    told, rows = 1500 * 60, list[list[Any]]()
    for number in range(400, 441):
        happened = told if number == 440 else told + 40 * 86_400
        rows += [
            ["history", f"{number:032x}", f"{number:032x}", "delivered", "gmail", at(happened),
             at(told), at(told), True, None],
            ["history", f"{number + 100:032x}", f"{number:032x}", "complained", "gmail", at(600),
             at(600), at(600), True, told - 600.0],
        ]  # fmt: skip
    client.insert("events", rows, column_names=names)


@pytest.fixture
def run(
    filled: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Runs a command; gives what it printed."""
    monkeypatch.chdir(tmp_path)
    for name in context.environ():
        if name.startswith("MAILPULSE_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("MAILPULSE_CLICKHOUSE_DSN", filled)

    def one(*arguments: str, code: int = 0) -> str:
        with pytest.raises(SystemExit) as ended:
            main(["alerts", *arguments])
        shown = capsys.readouterr()
        assert ended.value.code in (code, None if code == 0 else code), shown.err
        return shown.out if "--json" in arguments else shown.out + shown.err

    return one


def test_ls_gives_one_row_per_incident(run: Run) -> None:
    """As it is now, although it changed once; those of sources come after."""
    row, silent = json.loads(run("ls", "--json"))
    assert (silent["source"], silent["event_type"], silent["state"]) == ("news", "", "opened")
    assert "Silent sources" in run("ls")
    assert len(json.loads(run("ls", "--json", "--all"))) == 3
    assert (row["campaign_id"], row["level"], row["state"]) == ("spring", "critical", "escalated")
    assert json.loads(run("ls", "--json", "--campaign", "other")) == []


def test_show_of_a_silence_says_what_was_usual(run: Run) -> None:
    """By the id that ls prints."""
    shown = json.loads(run("show", "cd" * 16, "--json"))
    assert (shown["source"], shown["usual_gap_s"], shown["advice"]) == ("news", 720, "Run a test.")
    text = run("show", "cd" * 16)
    assert "silence of all events" in text
    assert "Run a test." in text
    assert "silence of opened" in run("show", "ef" * 16)


def test_show_tells_what_stands_out_and_what_to_do(run: Run) -> None:
    """Of the bad messages, compared with all: reason, source, tag."""
    row, _ = json.loads(run("ls", "--json"))
    shown = json.loads(run("show", row["incident_id"], "--json"))
    assert [one["state"] for one in shown["changes"]] == ["opened", "escalated"]
    parts = {(one["kind"], one["name"]): one for one in shown["standing_out"]}
    assert parts["tag", "bought"]["share_of_bad"] == 1
    assert parts["tag", "bought"]["share_of_all"] == 0.5
    assert parts["bounce reason", "no_mailbox"]["bad"] == 30
    assert ("tag", "own") not in parts
    assert "Stop it." in run("show", row["incident_id"])
    assert "no_such_incident" in run("show", "nothing", code=1)
    assert json.loads(run("show", "AB" * 16, "--json")) == shown, "as the topic's records write it"


@pytest.mark.parametrize(
    ("rate", "bad"),
    [
        ("bounce_rate", 30), ("hard_bounce_rate", 30), ("soft_bounce_rate", 0),
        ("late_bounce_rate", 4), ("complaint_rate", 7), ("unsubscribe_rate", 5),
    ],
)  # fmt: skip
def test_show_counts_what_the_rate_counts(run: Run, filled: str, rate: str, bad: int) -> None:
    """Complaints are no bounces, repeated ones no more complaints, and only late bounces late."""
    span = {"campaign": "spring" if rate in ("bounce_rate", "hard_bounce_rate") else "mixed",
            "rate": rate, "from": str(NOW_S - 86_400), "to": str(NOW_S)}  # fmt: skip
    names, rows = table_of(context.settings_of(), _STANDING_OUT, span)
    found = [dict(zip(names, row, strict=True)) for row in rows]
    of_source = [one["bad"] for one in found if one["kind"] == "source"]
    assert sum(of_source) == bad


def test_try_says_when_lines_would_have_fired(run: Run) -> None:
    """Complaints when they arrived; bounces when they happened."""
    tried = json.loads(
        run("try", "--line", "complaint_rate=0.001,0.002,0.5", "--campaign", "news-*", "--json")
    )
    assert [(one["campaign_id"], one["state"], one["level"]) for one in tried] == [
        ("news-1", "opened", "warning")
    ]
    [one] = tried
    assert (one["numerator"], one["denominator"]) == (50, 9_950)
    ago_s = NOW_S - seconds_of(one["opened_at"])
    assert 480 <= ago_s <= 600
    bounces = json.loads(run("try", "--line", "hard_bounce_rate=0.02", "--json"))
    assert [(one["campaign_id"], one["state"]) for one in bounces] == [("spring", "opened")]
    none = json.loads(
        run("try", "--line", "hard_bounce_rate=0.02", "--campaign", "news-?", "--json")
    )
    assert none == []
    mine = json.loads(run("try", "--line", "hard_bounce_rate=0.02", "--mailbox", "yahoo", "--json"))
    assert mine == []
    assert "would have been opened" in run("try", "--since", "30d")


@pytest.mark.parametrize("line", ["complaint_rate=", "open_rate=0.1", "complaint_rate=0.3,0.2,0.1"])
def test_a_line_that_is_none_is_wrong_usage(run: Run, line: str) -> None:
    """With what is expected."""
    assert "--line" in run("try", "--line", line, code=2)


def test_try_knows_the_deliveries_before_its_period(run: Run) -> None:
    """The complaints of the last hour are of mail of yesterday: 50 of 9,950, not 50 of none."""
    line, scope = "complaint_rate=0.001,0.002,0.5", ("--since", "1h", "--campaign", "news-1")
    [one] = json.loads(run("try", "--line", line, *scope, "--json"))
    assert (one["numerator"], one["denominator"]) == (50, 9_950)
    assert json.loads(run("try", "--line", "complaint_rate=0.05", *scope, "--json")) == []
    before = run("try", "--line", "hard_bounce_rate=0.02", "--since", "1h")
    assert "0 incidents would have been opened; 1 would be open now" in before


def test_try_counts_complaints_with_the_mailbox_providers_of_their_deliveries(run: Run) -> None:
    """Complaints from many companies, all of them among «other»."""
    line = ("--line", "complaint_rate=0.001", "--mailbox", "other")
    [one] = json.loads(run("try", *line, "--campaign", "business", "--json"))
    assert [one["mailbox_provider"], one["numerator"], one["denominator"]] == ["other", 20, 900]


def test_try_judges_no_delivery_that_was_told_a_month_late(run: Run) -> None:
    """As workers do: a history that is taken in now is no incident of today."""
    scope = ("--campaign", "history", "--json")
    assert json.loads(run("try", "--line", "complaint_rate=0.001", *scope)) == []
    rows = alerts_history(context.settings_of())
    assert [sum(one.counts.get(name, 0) for one in rows) for name in (
        "delivered", "delivered_stale", "cohort_complained",
    )] == [1_400, 1_000, 1]  # fmt: skip


def alerts_history(of: Any) -> list[Arrival]:
    """What is judged of the campaign ``history``."""
    [(_, arrivals)] = alerts._history(of, NOW_S - 3 * 86_400, "history")
    return arrivals


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--since", "2999-01-01"), "a time before now"),
        (("--since", "0d"), "a time before now"),
        (("--mailbox", "gmail"), "--mailbox"),
        (("--line", "complaint_rate=0.1", "--line", "complaint_rate=0.2"), "at most once"),
        (("--line", "complaint_rate=0"), "above 0 and below 1"),
        (("--line", "complaint_rate=1"), "above 0 and below 1"),
        (("--line", "complaint_rate=-0.1"), "above 0 and below 1"),
        (("--line", "complaint_rate=nan"), "above 0 and below 1"),
        (("--line", "complaint_rate=2%"), "as ratios"),
    ],
)
def test_what_cannot_be_tried_is_wrong_usage(
    run: Run, arguments: tuple[str, ...], expected: str
) -> None:
    """Rather than an answer that says nothing was found."""
    assert expected in " ".join(run("try", *arguments, code=2).replace("│", " ").split())


def test_try_says_when_there_is_no_such_mail(run: Run) -> None:
    """A campaign or a mailbox provider that is misspelt must not look healthy."""
    assert "No campaign that fits 'sprinf'" in run("try", "--campaign", "sprinf")
    line = ("--line", "hard_bounce_rate=0.02")
    assert "No mail to mailbox provider 'Gmail'" in run("try", *line, "--mailbox", "Gmail")


def seconds_of(moment: str) -> int:
    """Seconds since 1970 of a time as printed."""
    return int(datetime.fromisoformat(f"{moment}+00:00").timestamp())


def minute_by_minute(arrivals: list[Arrival], lines: Lines, until: int) -> list[Any]:
    """The changes that a worker tells which looks at each minute."""
    judged, held, found = Judged(), dict[Key, Held](), list[Any]()
    for minute in range(1000, until):
        for one in arrivals:
            if one.arrived == minute:
                vector = [0] * WIDTH
                for name, value in one.counts.items():
                    vector[COUNTER_INDEX[name]] = value
                judged.add(one.mailbox, one.minute, vector)
        records, changed = look("a", judged, held, lines, (minute + 1) * 60_000_000 - 1)
        held.update(changed)
        found += [one for one in records if one["as_of"] == one["changed_at"]]
    return found


def test_a_rehearsal_is_what_workers_tell_minute_by_minute() -> None:
    """The same records as from looking at every minute."""
    arrivals = [
        Arrival(
            1000 + number,
            "gmail",
            1000 + number,
            {"attempt_sent": 90 + hard, "attempt_bounced_hard": hard},
        )  # fmt: skip
        for number, hard in enumerate((0, 2, 30, 30, 0, 0, 0, 0))
    ]
    arrivals.append(Arrival(1100, "gmail", 1100, {"attempt_sent": 50_000}))
    expected = minute_by_minute(arrivals, Lines(), 1200)
    assert [one["state"] for one in expected] == ["opened", "closed"]
    assert rehearse("a", arrivals, Lines(), 1200) == expected


_ARRIVALS = st.builds(
    lambda arrived, ago, mailbox, counts: Arrival(arrived, mailbox, arrived - ago, counts),
    st.integers(1000, 2900),
    st.integers(0, 900),
    st.sampled_from(["gmail", "yahoo", "other", ""]),
    st.builds(
        lambda delivered, hard, complained: {
            "delivered": delivered,
            "attempt_sent": delivered + hard,
            "attempt_bounced_hard": hard,
            "cohort_complained": complained,
        },
        st.integers(0, 900),
        st.integers(0, 200) | st.just(0),
        st.integers(0, 20) | st.just(0),
    ),
)


@settings(max_examples=25)
@given(st.lists(_ARRIVALS, max_size=12), st.sampled_from([0, 60, 1500, 9000]), st.randoms())
def test_whatever_arrives_a_rehearsal_is_what_workers_tell(
    arrivals: list[Arrival], hold_s: int, dice: Any
) -> None:
    """Rises and falls, to the minute, though a rehearsal looks at few of them."""
    lines, until = Lines(hold_us=hold_s * 1_000_000), 4000
    expected = minute_by_minute(arrivals, lines, until)
    dice.shuffle(arrivals)
    assert rehearse("a", arrivals, lines, until) == expected


def test_what_falls_by_time_alone_can_rise_again_at_once() -> None:
    """A new incident: the one before ended although nothing arrived."""
    first = Arrival(1000, "gmail", 1000, {"attempt_sent": 57, "attempt_bounced_hard": 57})
    second = Arrival(2643, "gmail", 2643, {"attempt_sent": 116, "attempt_bounced_hard": 116})
    expected = minute_by_minute([first, second], Lines(), 2700)
    assert [one["state"] for one in expected] == ["opened", "closed", "opened"]
    assert rehearse("a", [first, second], Lines(), 2700) == expected
