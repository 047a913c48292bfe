"""``mailpulse rules propose`` on the real engine: who is proposed, what would change, bad input."""

import ipaddress
import json
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from analytics.verdicts import fleet_questions
from schemas.errors import BadInput, Unavailable
from schemas.settings import Settings
from streams.classify.actor_rules import DEFAULT_RULES, FLEET, Rules
from streams.classify.fleet_rules import fleets_in, proposal_of
from streams.classify.fleets import Seen, network_of
from streams.classify.stored_events import judged
from streams.cli import rules as commands
from streams.cli.fleet_effects import _stored
from streams.cli.fleet_rows import _opened, seen_since, touched
from streams.cli.main import main
from streams.enrich.epochs import Epoch, History, Span
from tests.spellings import traces
from tests.warehouses import OpenWarehouse, migrated_warehouse

NOW = int(time.time()) // 86_400 * 86_400 - 3_600
DAY_S = 86_400
BROWSER = "Mozilla/5.0 (Windows NT 10.0) Firefox/140.0"
OLD = "Mozilla/5.0 (Windows NT 6.1) \x1b[31mChrome/79.0"
ADDRESS = "kanarie.b+news{}@b\u00fccher.example"
MAILS = 40
"""Of each campaign. One a day; the last is of codes, which are read at once."""
CAMPAIGNS = ("mon", "tue", "wed", "codes")
GATEWAY, EGRESS, MIXED, CODES, BURSTS = (
    "192.0.2.10", "198.51.100.20", "203.0.113.30", "198.18.7.40", "2001:db8:7::50",
)  # fmt: skip


def events() -> Iterator[dict[str, Any]]:
    """A gateway of lone clicks, one of bursts, a company's line, one with a gateway, and codes."""
    for day, campaign in enumerate(CAMPAIGNS):
        sent = NOW - (len(CAMPAIGNS) - day) * DAY_S
        slow = campaign != "codes"
        for number in range(MAILS):
            message = _of(campaign, number, sent)
            yield message("delivered", 0.001)
            if number < 20:
                yield message("opened", 3_600.5 if slow else 5.5, agent="GoogleImageProxy")
            if number < 3:
                yield message("clicked", 40.5, ip=GATEWAY, agent=OLD)
            elif number < 9:  # people: one in six is quick
                yield message("clicked", 20.5 if number == 3 else 7_000.5, ip=EGRESS)
            elif number < 12:
                yield message("clicked", 61.25, ip=MIXED, agent=OLD)
            elif number < 15:
                yield message("clicked", 9_000.5, ip=MIXED)
            elif number < 17:
                for link in range(3):
                    yield message("clicked", 8_000.125 + link / 10, ip=BURSTS, agent=OLD, link=link)
            elif number < 30 and not slow:
                yield message("clicked", 7.5, ip=CODES)


def _of(campaign: str, number: int, sent: int) -> Callable[..., dict[str, Any]]:
    address = ADDRESS.format(f"{campaign}{number}")

    def event(
        kind: str, after: float, *, ip: str = "", agent: str = BROWSER, link: int = 0
    ) -> dict[str, Any]:
        at = datetime.fromtimestamp(sent + number + after, UTC)
        row: dict[str, Any] = {
            "campaign_id": campaign, "message_key": uuid.uuid5(uuid.NAMESPACE_URL, address),
            "event_id": uuid.uuid4(), "event_time": at, "occurred_at": at, "received_at": at,
            "event_type": kind, "source": "news", "provider": "sendgrid", "recipient": address,
            "recipient_identity": address, "machine_kind": "none", "ip": ip, "actor": "none",
            "actor_reason": "", "actor_certainty": "none", "click_url": "", "click_url_group": "",
            "user_agent": agent if kind != "delivered" else "",
            "seconds_since_delivery": None if kind == "delivered" else after,
        }  # fmt: skip
        if kind == "clicked":
            row["click_url"] = row["click_url_group"] = f"https://shop.example/{link}/{address}"
        return row

    return event


def stored() -> list[dict[str, Any]]:
    """The same as judged by the shipped rules, message by message."""
    rows = list(events())
    by_message: dict[Any, list[dict[str, Any]]] = {}
    for row in rows:
        by_message.setdefault(row["message_key"], []).append(row)
    for some in by_message.values():
        seen = [_stored({**row, "at_ms": row["event_time"].timestamp() * 1_000,
                         "unsubscribe_link": False}) for row in some]  # fmt: skip
        for row, (actor, reason) in zip(some, judged(seen, DEFAULT_RULES), strict=True):
            row["actor"], row["actor_reason"] = actor, reason
            row["actor_certainty"] = "none" if actor == "none" else "high"
    return rows


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenWarehouse]:
    """With those events."""
    with migrated_warehouse(tmp_path_factory.mktemp("propose")) as (opened, client):
        rows = stored()
        names = sorted(rows[0])
        client.insert("events", [[row[name] for name in names] for row in rows], column_names=names)
        for day, campaign in enumerate(CAMPAIGNS):
            minute = NOW - (len(CAMPAIGNS) - day) * DAY_S
            client.command(
                "INSERT INTO campaign_minutes (campaign_id, minute, log_id, offset, events,"
                " delivered, cohort_clicked, cohort_clicked_or_unknown, cohort_clicked_at_most,"
                f" cohort_clicked_any) VALUES ('{campaign}', {minute}, 'log', 1, 90, {MAILS},"
                " 9, 16, 16, 18)"
            )
        yield opened


Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path,
    request: pytest.FixtureRequest,
) -> Command:  # fmt: skip
    """Runs a command in a folder of its own; rules were never changed."""

    async def history(_settings: Any) -> tuple[Rules, list[Any]]:
        return DEFAULT_RULES, []

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(commands, "_history", history)

    def run(*arguments: str, dsn: str = "") -> tuple[int, str, str]:
        if not dsn:
            opened: OpenWarehouse = request.getfixturevalue("warehouse")
            dsn = opened.reader_settings.clickhouse_dsn.get_secret_value()
        monkeypatch.setenv("MAILPULSE_CLICKHOUSE_DSN", dsn)
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(["rules", *arguments])
        return int(ended.value.code or 0), *capsys.readouterr()

    return run


def test_gateways_are_proposed_and_people_are_not(command: Command, tmp_path: Path) -> None:
    """Quick readers of codes prove nothing; a shared line's gateway goes by its user agent."""
    code, out, said = command("propose", "--json", "-o", "new.toml")
    assert code == 0, said
    answer = json.loads(out)
    proposed = {tuple(one["networks"]): one["agents"] for one in answer["fleets"]}
    assert proposed == {
        (f"{GATEWAY}/32",): [], (f"{MIXED}/32",): [OLD], (f"{BURSTS}/128",): [],
    }  # fmt: skip
    assert "\x1b" not in out
    made = Rules.load((tmp_path / "new.toml").read_text(encoding="utf-8"))
    assert made.version == DEFAULT_RULES.version + 1
    assert len(fleets_in(made)) == 3
    assert not traces(out)


def test_what_would_change_is_told_by_campaign_with_masked_examples(command: Command) -> None:
    """Six lone clicks a campaign leave «unknown»; they stay within the interval."""
    answer = json.loads(command("propose", "--json", "--examples", "2")[1])
    assert [one["campaign"] for one in answer["campaigns"]] == sorted(CAMPAIGNS)
    for one in answer["campaigns"]:
        assert one["events"] == 6
        before, after = one["clicked"]["before"], one["clicked"]["after"]
        assert {name: after[name] - before[name] for name in ("human", "with_unknown", "at_most",
                                                              "anyone")} == {
            "human": 0, "with_unknown": -6, "at_most": 0, "anyone": 0,
        }  # fmt: skip
        assert after["rate"] == before["rate"] == 9 / MAILS
        assert len(one["examples"]) == 2
        assert {example["after"]["reason"] for example in one["examples"]} == {FLEET}
        assert {example["before"]["reason"] for example in one["examples"]} == {"soon"}
    out = command("propose", "-o", "again.toml")[1]
    assert "mailpulse rules accept again.toml" in out
    assert "\x1b" not in out
    assert not traces(out)


def test_an_accepted_fleet_is_not_proposed_again(warehouse: OpenWarehouse) -> None:
    """And by the new rules the stored events are judged as was told."""
    settings = warehouse.reader_settings
    since, until = NOW - 9 * DAY_S, NOW + DAY_S
    seen = seen_since(settings, since, until).seen
    text = commands.own_text(settings)
    proposal = proposal_of(text, seen, "2026-11-28")
    assert proposal is not None
    assert proposal_of(proposal.text, seen, "2026-11-29") is None
    rows = list(touched(settings, proposal.networks, since, until))
    assert {row["campaign_id"] for row in rows} == set(CAMPAIGNS)
    clicked = {row["message_key"] for row in rows if row["ip"] in (GATEWAY, MIXED, BURSTS)}
    assert {row["message_key"] for row in rows} == clicked


def test_bad_input_gets_a_clear_error_and_writes_nothing(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ClickHouse or Kafka away, files that are there, or are no rules."""
    code, _, said = command("propose", dsn="http://default:@127.0.0.1:1/mailpulse")
    assert (code, "ClickHouse at" in said) == (4, True)
    code, _, said = command("propose", "-o", str(tmp_path / "nowhere" / "x.toml"))
    assert (code, "not_written" in said) == (1, True)
    (tmp_path / "there.toml").write_text("mine", encoding="utf-8")
    code, _, said = command("propose", "-o", "there.toml")
    assert (code, "exists" in said) == (1, True)
    assert (tmp_path / "there.toml").read_text(encoding="utf-8") == "mine"
    for text, says in (("mine", "no rules file"), ("version = 3", "no rules file")):
        (tmp_path / "there.toml").write_text(text, encoding="utf-8")
        code, _, said = command("accept", "there.toml")
        assert (code, "bad_rules" in said, says in said) == (1, True, True)
    (tmp_path / "binary").write_bytes(b"\xff\xfe\0")
    assert command("accept", "binary")[0] == 1
    assert "No such file" in command("accept", "missing.toml")[2]
    assert command("accept", "there.toml", "--from", "soon")[0] in (1, 2)

    async def away(_settings: Any) -> Any:
        raise Unavailable("Kafka is away")

    monkeypatch.setattr(commands, "_history", away)
    for asked in (("propose",), ("ls",)):
        assert command(*asked)[0] == 4
    newer = Epoch(1, "log", 0, 0, 9, "version = 9", ())

    async def unreadable(_settings: Any) -> tuple[Rules, list[Epoch]]:
        return DEFAULT_RULES, [newer]

    monkeypatch.setattr(commands, "_history", unreadable)
    for asked in (("propose",), ("ls",), ("refresh",)):
        code, _, said = command(*asked)
        assert (code, "bad_rules: epoch 1" in said) == (1, True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["binary", "there.toml"]


def test_what_is_cut_off_makes_no_fleet_and_is_told(
    command: Command, warehouse: OpenWarehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of addresses, the last network is left out; without all people nothing is proposed."""
    settings = warehouse.reader_settings
    whole = seen_since(settings, NOW - 9 * DAY_S, NOW + DAY_S)
    assert not whole.is_cut
    for rows in range(1, sum(not one.habit.opened for one in whole.seen)):
        with monkeypatch.context() as patched:
            limited = fleet_questions.HABITS.replace(
                f"LIMIT {fleet_questions.ROWS_MAX}", f"LIMIT {rows}"
            )
            patched.setattr(fleet_questions, "HABITS", limited)
            patched.setattr(fleet_questions, "ROWS_MAX", rows)
            cut = seen_since(settings, NOW - 9 * DAY_S, NOW + DAY_S)
            assert cut.is_cut
            networks = {network_of(one.address) for one in cut.seen}
            there = by_place(one for one in whole.seen if network_of(one.address) in networks)
            assert by_place(cut.seen) == there, "a part of a network"
    monkeypatch.setattr(fleet_questions, "EVENTS_MAX", 3)
    answer = json.loads(command("propose", "--json", "-o", "1.toml")[1])
    assert "later campaigns" in answer["campaigns_left_out"]
    assert answer["left_out"] is None
    assert "Not all: only" in command("propose", "-o", "2.toml")[1]
    monkeypatch.setattr(fleet_questions, "READERS_MAX", 2)
    readers = [["198.51.100.1", BROWSER, 3], [GATEWAY, BROWSER, 1]]
    with pytest.raises(BadInput, match="fewer --days"):
        list(_opened(readers, set()))


def by_place(seen: Iterable[Seen]) -> dict[Any, Seen]:
    """By address and user agent."""
    return {(one.address, one.agent): one for one in seen}


def test_people_are_looked_for_where_fleets_are_proposed_or_in_force() -> None:
    """Of others there may be millions."""
    rows = [["::ffff:198.51.100.1", "a", 3], [GATEWAY, "b", 1], ["no address", "c", 1]]
    networks = {network_of(ipaddress.ip_address(GATEWAY))}
    assert [(one.agent, one.habit.opened) for one in _opened(rows, networks)] == [("b", 1)]


async def test_rules_of_an_aborted_epoch_are_not_in_force(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither as the start of a proposal nor in the list; those before it are."""
    texts = [_shipped(version) for version in (11, 12, 13)]
    epochs = [
        Epoch(number, "log", number, 0, 10 + number, text, (Span(0, 1),))
        for number, text in enumerate(texts, 1)
    ]
    history = History([epoch.record() for epoch in epochs])
    history.add([epochs[2].aborted()])

    class Book:
        def __init__(self, *_: Any) -> None:
            self.history = history

        async def __aenter__(self) -> "Book":
            return self

        async def __aexit__(self, *_: object) -> None:
            """Nothing is open."""

        async def refresh(self) -> History:
            return history

    monkeypatch.setattr("streams.reprocess.rules_topic.Rulebook", Book)
    assert (await commands._in_force(Settings())).text == texts[1]
    _, listed = await commands._history(Settings())
    assert [epoch.number for epoch in listed] == [1, 2]
    history.add([epochs[1].aborted(), epochs[0].aborted()])
    in_force = await commands._in_force(Settings())
    assert in_force.rules.version == DEFAULT_RULES.version
    assert "no epoch yet" in in_force.says


def _shipped(version: int) -> str:
    """The rules that ship, under another version."""
    text = commands.own_text(Settings())
    return text.replace(f"version = {DEFAULT_RULES.version}", f"version = {version}", 1)


def test_a_period_without_clicks_is_told(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in an empty database."""
    monkeypatch.setattr(commands, "now", lambda: float(NOW + 100 * DAY_S))
    code, out, said = command("propose")
    assert (code, out) == (1, "")
    assert "no network clicked often enough" in said


def test_the_rules_are_listed(command: Command) -> None:
    """With how old copied networks are."""
    answer = json.loads(command("ls", "--json")[1])
    assert answer["rules"] == [
        {"epoch": 0, "rules_version": DEFAULT_RULES.version, "begun_at": None,
         "corrected_from": None, "fleets": 0, "in_force": True}
    ]  # fmt: skip
    assert [one["reason"] for one in answer["snapshots"]] == ["microsoft_network"]
