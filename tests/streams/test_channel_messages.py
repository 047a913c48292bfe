"""What people are told: of every incident, each change once, and nothing that a text injects."""

import json
import re
from email import message_from_bytes
from email.policy import SMTP
from typing import Any
from urllib.parse import quote

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import topics
from schemas.errors import ConfigError
from streams.deliver import bodies
from streams.deliver.channels import pagerduty, slack
from streams.deliver.channels.mail import mail_of
from streams.deliver.channels.messages import Message, filled, is_told, message_of
from streams.deliver.channels.tables import Email
from streams.deliver.destinations import load_tables
from tests import builders

AT = builders.RECEIVED_AT
KEY = "k" * 32
MAIL = {
    "kind": "email", "name": "ops", "server": "mail.example.com",
    "sender": "mailpulse@x.example", "to": ["ops@x.example"],
}  # fmt: skip


def alert(**changed: Any) -> dict[str, Any]:
    """The opening of an incident."""
    given = {
        "incident_id": "a" * 32, "sequence": 1, "state": "opened", "campaign_id": "spring",
        "rate": "complaint_rate", "level": "warning", "worst_level": "warning", "line": 0.003,
        "window": "7d", "numerator": 12, "denominator": 2_000, "value": 0.006,
        "opened_numerator": 10, "opened_denominator": 1_800, "opened_value": 10 / 1_800,
        "opened_at": AT, "changed_at": AT, "as_of": AT, "number": 1, "cause": "everywhere",
        "advice": "No mailbox provider and no time stands out. Stop the send.",
    }  # fmt: skip
    return builders.record("alert", **given | changed)


def told(record: dict[str, Any], dashboard: str = "https://mail.example.com") -> Message:
    """Its message, by way of the body that is sent."""
    body = bodies.of_record(topics.ALERTS, "id-1", record)
    return message_of(orjson.loads(body.json), dashboard)


def test_an_opening_says_what_how_bad_since_when_against_which_line_and_why() -> None:
    """Everything that the issue asks of it."""
    message = told(alert(mailbox_provider="gmail"))
    assert message.title == "warning: complaint rate of spring at gmail is 0.60 %"
    text = "\n".join(message.lines)
    assert "12 of 2,000 messages (delivered in the last 7 days)" in text
    assert "the line for warning is 0.30 %" in text
    assert "Opened 2026-" in text or re.search(r"Opened \d{4}-\d\d-\d\d \d\d:\d\d UTC", text)
    assert "Stop the send." in text
    assert "mailpulse alerts show " + "a" * 32 in text
    assert message.link == "https://mail.example.com/campaign?campaign=spring"


@pytest.mark.parametrize(
    ("state", "begins", "over"),
    [
        ("opened", "warning: ", False), ("escalated", "now warning: ", False),
        ("eased", "eased to warning: ", False), ("closed", "over: ", True),
    ],
)  # fmt: skip
def test_changes_belong_to_one_thread(state: str, begins: str, over: bool) -> None:
    """And a closing is known as one."""
    message = told(alert(state=state))
    assert message.title.startswith(begins)
    assert (message.thread, message.over, message.first) == ("a" * 32, over, state == "opened")


def silence(**changed: Any) -> Message:
    """Of a source that fell silent, by way of the body that is sent."""
    given = {
        "incident_id": "c" * 32, "sequence": 1, "state": "opened", "source": "news",
        "level": "critical", "silent_since": AT, "usual_gap_s": 720, "explained_s": 2_160,
        "opened_at": AT, "changed_at": AT, "as_of": AT, "advice": "Run a test.",
    }  # fmt: skip
    record = builders.record("source_alert", **given | changed)
    assert is_told(record, "watch")
    assert is_told(record, "critical") == (record["level"] == "critical")
    body = bodies.of_record(topics.SOURCE_ALERTS, "id-1", record)
    return message_of(orjson.loads(body.json), "https://mail.example.com")


def test_a_silence_says_of_what_since_when_and_what_was_usual() -> None:
    """And leads to the page of sources; its end says when something came again."""
    opened = silence()
    assert re.fullmatch(
        r"critical: nothing comes from source news since \d{4}-\d\d-\d\d \d\d:\d\d UTC",
        opened.title,
    )
    text = "\n".join(opened.lines)
    assert "12 minutes" in text
    assert "36 minutes" in text
    assert "Run a test." in text
    assert "mailpulse alerts show " + "c" * 32 in text
    assert opened.link == "https://mail.example.com/pipeline"
    assert (opened.thread, opened.first, opened.over) == ("c" * 32, True, False)
    one_kind = silence(event_type="opened", level="warning", usual_gap_s=3 * 86_400)
    assert one_kind.title.startswith("warning: source news reports no «opened» since")
    assert "3 days" in one_kind.lines[0]
    closed = silence(state="closed", sequence=2, resumed_at=AT + 60_000_000, advice="")
    assert (closed.title, closed.over) == ("over: nothing comes from source news", True)
    assert "It came again" in closed.lines[1]
    assert "no rhythm is known" in silence(state="closed", sequence=2).lines[1]


def test_refusals_say_since_when_all_were_refused() -> None:
    """A silence that turned out to be refusals, or that was known as such; then its end."""
    given: dict[str, Any] = {
        "cause": "refused", "accepted_until": AT - 60_000_000, "refused_since": AT, "refused": 312,
        "refusal": "unauthorized/bad_signature", "advice": "All 312 requests.",
    }  # fmt: skip
    opened = silence(**given)
    assert opened.title.startswith("critical: all requests to source news are refused since ")
    assert "36 minutes" in opened.lines[0]
    changed = silence(**given, state="changed", sequence=2)
    assert changed.title.startswith("now critical: all requests to source news are refused since ")
    assert (changed.thread, changed.first, changed.over) == (opened.thread, False, False)
    young = silence(**given, usual_gap_s=0, explained_s=0)
    assert young.lines[0] == "All 312 requests."
    unreadable = silence(**given | {"cause": "unreadable"})
    assert "nothing that source news posts can be read since" in unreadable.title
    closed = silence(**given, state="closed", sequence=3, usual_gap_s=0)
    assert closed.title == "over: all requests to source news are refused"
    assert "nothing is posted any more" in closed.lines[1]


def test_without_a_dashboard_the_command_is_named() -> None:
    """A link that leads nowhere would be worse."""
    message = told(alert(), dashboard="")
    assert message.link is None
    assert any("mailpulse alerts show" in line for line in message.lines)


def test_newer_figures_of_a_change_are_not_told_again() -> None:
    """People act once per incident and sequence."""
    assert is_told(alert(), "watch")
    assert not is_told(alert(as_of=AT + 60_000_000), "watch")


@pytest.mark.parametrize("least", ["watch", "warning", "critical"])
def test_an_incident_that_was_told_is_told_to_its_end(least: str) -> None:
    """However its level went: whoever was told of it learns that it is over, nobody else does."""
    course = [("watch", "watch"), ("critical", "critical"), ("watch", "critical")]
    seen = [is_told(alert(level=level, worst_level=worst), least) for level, worst in course]
    begun = seen.index(True)
    assert all(seen[begun:])
    assert is_told(alert(state="closed", level="critical", worst_level="critical"), least)
    never = alert(state="closed", level="watch", worst_level="watch")
    assert is_told(never, least) == (least == "watch")


NASTY = [
    "<!channel> <@U1> <https://evil.example|click>", "a\r\nBcc: all@x.example\r\n\r\nbody",
    "*bold* `code` & < >", "\u202eevil\u0000", "x" * 5_000, "@here @channel", "$title ${x}",
]  # fmt: skip
TEXTS = st.one_of(st.sampled_from(NASTY), st.text(max_size=400))


@given(TEXTS, TEXTS, TEXTS)
def test_no_text_from_outside_injects_anything(campaign: str, mailbox: str, advice: str) -> None:
    """Slack: no mention, no link but ours. Mail: no header but ours. PagerDuty: its limits."""
    record = alert(campaign_id=campaign, mailbox_provider=mailbox, advice=advice)
    message = told(record)
    for line in (message.title, *message.lines):
        assert line == "" or line.isprintable()

    shown = slack.document(message)
    assert not re.search(r"[<>]", shown["text"])
    head, text, *links = shown["blocks"]
    assert len(head["text"]["text"]) <= 150
    assert all(len(block["text"]["text"]) <= 3_000 for block in (text, *links))
    assert {head["text"]["type"], text["text"]["type"]} == {"plain_text"}
    assert links or len(quote(campaign, safe="")) > 2_900, "left out, though there is room for it"
    for link in links:
        address = re.fullmatch(r"<([^<>|]*)\|Open the dashboard>", link["text"]["text"])
        assert address is not None
        assert address[1].startswith("https://mail.example.com/campaign?campaign=")

    event = pagerduty.event(message, KEY)
    assert len(event["payload"]["summary"]) <= 1_024
    assert len(json.dumps(event)) < 512_000

    table = Email.model_validate(MAIL)
    raw = mail_of(message, "id-1", table, 1e9).as_bytes()
    read = message_from_bytes(raw, policy=SMTP)
    assert sorted(read.keys()) == sorted(
        ["From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "Content-Type",
         "Content-Transfer-Encoding", "MIME-Version"]
    )  # fmt: skip
    assert read["To"] == "ops@x.example"


def test_pagerduty_opens_changes_and_resolves_one_alert() -> None:
    """The same key and routing key each time; the levels are severities."""
    events = [
        pagerduty.event(told(alert(state=state, level=level)), KEY)
        for state, level in [("opened", "watch"), ("escalated", "critical"), ("closed", "critical")]
    ]
    assert [one["event_action"] for one in events] == ["trigger", "trigger", "resolve"]
    assert {one["dedup_key"] for one in events} == {"a" * 32}
    assert {one["routing_key"] for one in events} == {KEY}
    assert [one["payload"]["severity"] for one in events[:2]] == ["warning", "critical"]


def test_mail_of_an_incident_is_one_thread() -> None:
    """Also where the first was never sent, since its id is made of the incident's."""
    table = Email.model_validate(MAIL)
    first = mail_of(told(alert()), "id-1", table, 1e9)
    again = mail_of(told(alert()), "id-1", table, 2e9)
    later = mail_of(told(alert(state="escalated")), "id-2", table, 1e9)
    assert first["Message-ID"] == again["Message-ID"]
    assert later["In-Reply-To"] == later["References"] == first["Message-ID"]
    assert later["Message-ID"] != first["Message-ID"]


def test_other_records_have_a_message_too() -> None:
    """A click tells who and where; nested records and coordinates are left out."""
    record = builders.record(
        "engagement", kind="click", campaign_id="spring", recipient="ada@x.example", occurred_at=AT
    )
    body = bodies.of_record(topics.ENGAGEMENT, "id-1", record)
    message = message_of(orjson.loads(body.json), "https://m.example")
    assert message.title == "engagement clicked in spring: ada@x.example"
    assert not any("offset" in line for line in message.lines)
    for topic, schema in [(topics.RATES, "campaign_rates"), (topics.SUPPRESSIONS, "suppression")]:
        other = bodies.of_record(topic, "id-1", builders.record(schema, campaign_id="spring"))
        assert message_of(orjson.loads(other.json), "").title
    lifted = bodies.of_lifted("id-1", b"ada@x.example", 0)
    assert message_of(orjson.loads(lifted.json), "").title
    test = bodies.of_test("id-1", AT)
    assert "deliver test" in "".join(message_of(orjson.loads(test.json), "").lines)


def test_a_template_names_fields() -> None:
    """And a name without a value says so, rather than fail."""
    text = filled("$campaign_id: $title ($nothing) $$", told(alert()))
    assert text.startswith("spring: warning: ")
    assert text.endswith("(–) $")


SLACK = {"kind": "slack", "url": "https://hooks.slack.com/services/T/B/x"}


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({**SLACK, "template": "$"}, "destinations.one.template"),
        ({**SLACK, "dashboard_url": "javascript:x"}, "destinations.one.dashboard_url"),
        ({**SLACK, "level": "bad"}, "destinations.one.level"),
        ({**SLACK, "secret": "env:X"}, "destinations.one.secret"),
        ({"kind": "pagerduty"}, "destinations.one.routing_key"),
        ({"kind": "pagerduty", "routing_key": "plain"}, "destinations.one.routing_key"),
        ({"kind": "pagerduty", "routing_key": "env:KEY", "topics": "events"},
         "destinations.one.topics"),
        ({"kind": "teams"}, "destinations.one.kind: must be one of webhook"),
        ({**MAIL, "sender": "a\r\nb@x"}, "destinations.one.sender"),
        ({**MAIL, "to": ["ops@x.example\nBcc: a"]}, "destinations.one.to"),
        ({**MAIL, "encryption": "none"}, "encryption may be none"),
        ({**MAIL, "username": "u"}, "username and password are set together"),
        ({**MAIL, "server": "a b"}, "destinations.one.server"),
    ],
)  # fmt: skip
def test_a_bad_table_is_refused_by_the_name_of_its_setting(
    table: dict[str, Any], said: str
) -> None:
    """And a secret is never in the text."""
    table = {name: value for name, value in table.items() if name != "name"}
    with pytest.raises(ConfigError) as refused:
        load_tables({"one": table}, {"KEY": KEY}, lambda _: "")
    assert said in str(refused.value)
    assert KEY not in str(refused.value)
