"""Slack, PagerDuty and mail on real sockets: what each kind of server makes of a message."""

import asyncio
import ssl
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
import pytest

from schemas import topics
from streams.deliver import bodies
from streams.deliver.bodies import Body
from streams.deliver.channels.smtp import secrets_of_mail
from streams.deliver.channels.tables import Email, PagerDuty, Slack
from streams.deliver.connection import one_line
from streams.deliver.destinations import AnyDestination
from streams.deliver.outcomes import DELIVERED, Blame, Outcome
from streams.deliver.senders import sender_of, try_out
from tests.live.certificates import Authority
from tests.streams.mail_server import mail_server
from tests.streams.receiving import answering, receiver
from tests.streams.test_channel_messages import alert

LOCAL = ("127.0.0.0/8", "::1/128")
KEY = "k" * 32
OPENED = bodies.of_record(topics.ALERTS, "id-1", alert())
CLOSED = bodies.of_record(topics.ALERTS, "id-2", alert(state="closed", sequence=2))


async def sent(table: AnyDestination, *given: Body) -> Outcome:
    """What comes of the last of some messages."""
    outcome = DELIVERED
    async with sender_of(table) as one:
        for body in given or (OPENED,):
            outcome = await one.send((body,))
    return outcome


def slack(url: str, **more: Any) -> Slack:
    return Slack.model_validate(
        {"kind": "slack", "name": "chat", "url": url, "allow_networks": LOCAL, **more}
    )


def pagerduty(url: str) -> PagerDuty:
    return PagerDuty.model_validate(
        {"kind": "pagerduty", "name": "pager", "url": url, "routing_key": KEY,
         "allow_networks": LOCAL}
    )  # fmt: skip


def email(port: int, **more: Any) -> Email:
    given = {
        "kind": "email", "name": "ops", "server": "localhost", "port": port,
        "sender": "mailpulse@x.example", "to": ["ops@x.example", "boss@x.example"],
        "allow_networks": LOCAL, "encryption": "none",
    }  # fmt: skip
    return Email.model_validate({**given, **more})


# --- Slack and PagerDuty ---

ANSWERS = [
    (answering(200, b"ok"), DELIVERED),
    (answering(429, b"", "Retry-After: 3"), Outcome("429", Blame.DESTINATION, hold_s=3.0)),
    (answering(400, b"invalid_payload"), Outcome("400: invalid_payload", Blame.RECORD)),
    (answering(404, b"no_service"), Outcome("404: no_service", Blame.DESTINATION, or_record=True)),
    (answering(410, b"channel_is_archived"),
     Outcome("410: channel_is_archived", Blame.DESTINATION, gone=True, or_record=True)),
    (answering(500, b"rollup_error"), Outcome("500: rollup_error", Blame.UNKNOWN)),
    (answering(302, b"", "Location: http://169.254.169.254/"),
     Outcome("302", Blame.DESTINATION, or_record=True)),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "expected"), ANSWERS)
@pytest.mark.parametrize("kind", ["slack", "pagerduty"])
async def test_answers(kind: str, answer: Any, expected: Outcome) -> None:
    """Each is judged as an answer to a webhook is."""
    async with receiver(answer) as there:
        table = slack(there.url) if kind == "slack" else pagerduty(there.url)
        assert await sent(table) == expected
        assert len(there.got) == 1


@pytest.mark.parametrize("kind", ["slack", "pagerduty"])
async def test_a_secret_that_an_answer_repeats_is_hidden(kind: str) -> None:
    """The URL of Slack is one, and PagerDuty's routing key."""
    async with receiver(answering(400, f"bad /hook or {KEY}".encode())) as there:
        url = there.url
        table = slack(url) if kind == "slack" else pagerduty(url)
        said = (await sent(table)).said
        assert "/hook" not in said
        assert "[hidden]" in said
        assert kind == "slack" or KEY not in said


async def test_a_secret_in_a_query_is_hidden() -> None:
    """Of those that take Slack's format, some have their token there."""
    token = "t0k3n-of-the-query"
    async with receiver(answering(400, f"unknown token {token}".encode())) as there:
        said = (await sent(slack(f"{there.url}?token={token}"))).said
    assert said == "400: unknown token [hidden]"


async def test_a_password_is_hidden_as_it_was_sent() -> None:
    """In base64, as AUTH has it."""
    table = email(25, encryption="tls", username="bot", password="pass word")
    for text in ("pass word", "cGFzcyB3b3Jk", "AGJvdABwYXNzIHdvcmQ="):
        assert one_line(f"got {text}", secrets_of_mail(table), 99) == "got [hidden]"


async def test_slack_gets_a_new_short_message_for_each_change() -> None:
    """An incoming webhook can't change one; the later one names the beginning."""
    later = bodies.of_record(topics.ALERTS, "id-2", alert(state="escalated", sequence=2))
    async with receiver(answering(200, b"ok")) as there:
        assert (await sent(slack(there.url), OPENED, later)).delivered
        first, second = (got.document for got in there.got)
    assert "Opened " in second["blocks"][1]["text"]["text"]
    assert len(str(second)) < len(str(first))


async def test_slack_takes_a_template() -> None:
    """Its text alone, as plain text."""
    async with receiver(answering(200, b"ok")) as there:
        assert (await sent(slack(there.url, template="look: $campaign_id <!here>"))).delivered
        [block] = there.got[0].document["blocks"]
    assert block["text"] == {"type": "plain_text", "text": "look: spring <!here>", "emoji": False}


async def test_pagerduty_opens_and_resolves_with_one_key() -> None:
    """As the Events API documents them."""
    async with receiver(answering(202)) as there:
        assert (await sent(pagerduty(there.url), OPENED, CLOSED)).delivered
        opened, closed = (got.document for got in there.got)
    assert opened["event_action"], closed["event_action"] == ("trigger", "resolve")
    assert opened["dedup_key"] == closed["dedup_key"] == "a" * 32
    assert opened["routing_key"] == closed["routing_key"] == KEY


async def test_a_test_of_pagerduty_leaves_nothing_open() -> None:
    """It triggers and resolves."""
    async with receiver(answering(202)) as there:
        assert (await try_out(pagerduty(there.url), "test-1", 0)).delivered
        kinds = [got.document["event_action"] for got in there.got]
    assert kinds == ["trigger", "resolve"]


# --- mail ---


def server_tls(authority: Authority, name: str = "server") -> ssl.SSLContext:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*authority.issue(name))
    return tls


async def test_mail_arrives_as_one_thread() -> None:
    """To everybody, and whatever of an incident follows names the first."""
    async with mail_server() as there:
        assert await sent(email(there.port), OPENED, CLOSED) == DELIVERED
        first, second = there.mails
    assert first["To"] == "ops@x.example, boss@x.example"
    assert second["In-Reply-To"] == first["Message-ID"]
    assert "12 of 2,000" in first.get_content()


@pytest.mark.parametrize("encryption", ["starttls", "tls"])
async def test_a_password_goes_over_verified_tls(tmp_path: Path, encryption: str) -> None:
    """By both ways that there are."""
    authority = Authority(tmp_path)
    async with mail_server(server_tls(authority), implicit=encryption == "tls") as there:
        given = {"encryption": encryption, "ca_file": authority.certificate, "username": "me"}
        assert await sent(email(there.port, **given, password="pass word")) == DELIVERED
        assert there.signed_in == ["me"]
        wrong = await sent(email(there.port, **given, password="other word"))
        assert (wrong.blame, wrong.or_record) == (Blame.DESTINATION, True)
        assert wrong.said.startswith("535")
        assert len(there.mails) == 1


@pytest.mark.parametrize("encryption", ["starttls", "tls"])
async def test_another_certificate_is_not_trusted(tmp_path: Path, encryption: str) -> None:
    """Nothing is sent: neither the password nor the mail."""
    ours, theirs = Authority(tmp_path / "ours"), Authority(tmp_path / "theirs")
    async with mail_server(server_tls(theirs), implicit=encryption == "tls") as there:
        outcome = await sent(
            email(there.port, encryption=encryption, ca_file=ours.certificate,
                  username="me", password="pass word")
        )  # fmt: skip
        assert outcome.blame is Blame.DESTINATION
        assert "certificate" in outcome.said
        assert not there.signed_in
        assert not there.mails


async def test_without_starttls_nothing_is_sent_in_the_clear() -> None:
    """A server, or somebody between, that hides STARTTLS gets nothing."""
    async with mail_server() as there:
        outcome = await sent(email(there.port, encryption="starttls"))
        assert outcome.blame is Blame.DESTINATION
        assert not there.mails


@pytest.mark.parametrize(
    ("replies", "expected"),
    [
        (
            {"RCPT": "550 5.1.1 no such"},
            Outcome("550: 5.1.1 no such", Blame.DESTINATION, or_record=True),
        ),
        ({"RCPT": "451 4.7.1 later"}, Outcome("451: 4.7.1 later", Blame.UNKNOWN)),
        ({"DATA": "554 5.7.1 refused"}, Outcome("554: 5.7.1 refused", Blame.RECORD)),
        ({"DATA": "452 4.3.1 full"}, Outcome("452: 4.3.1 full", Blame.UNKNOWN)),
    ],
)
async def test_replies(replies: dict[str, str], expected: Outcome) -> None:
    """5yz is for good, 4yz passes (RFC 5321, 4.2.1)."""
    async with mail_server() as there:
        there.replies.update(replies)
        assert await sent(email(there.port)) == expected


async def test_an_address_that_is_put_off_is_tried_again_and_no_other() -> None:
    """One takes it, one asks to come later: nobody is left out, and nobody gets it twice."""
    async with mail_server() as there:
        there.replies["RCPT boss@x.example"] = "451 4.7.1 greylisted"
        async with sender_of(email(there.port)) as one:
            outcome = await one.send((OPENED,))
            assert outcome == Outcome("451: 4.7.1 greylisted", Blame.UNKNOWN)
            del there.replies["RCPT boss@x.example"]
            assert (await one.send((OPENED,))).delivered
        assert there.given == [["ops@x.example"], ["boss@x.example"]]


async def test_an_address_that_is_gone_holds_up_no_other() -> None:
    """For good: the mail is delivered to the rest, once."""
    async with mail_server() as there:
        there.replies["RCPT boss@x.example"] = "550 5.1.1 no such"
        assert (await sent(email(there.port))).delivered
        assert there.given == [["ops@x.example"]]


@pytest.mark.parametrize("hidden", ["a=0D=0ABcc:_x@evil.example", "=0D=0A=0D=0Abody", "a=00"])
async def test_no_campaign_name_becomes_a_header(hidden: str) -> None:
    """An encoded word (RFC 2047) is a text like any other."""
    name = f"x =?utf-8?q?{hidden}?= =?utf-8?b?DQpCY2M6IHhAZXZpbA==?="
    body = bodies.of_record(topics.ALERTS, "id-1", alert(campaign_id=name))
    async with mail_server() as there:
        assert (await sent(email(there.port), body)).delivered
        [mail] = there.mails
    assert {one.lower() for one in mail} <= {
        "from", "to", "subject", "date", "message-id", "auto-submitted", "content-type",
        "content-transfer-encoding", "mime-version",
    }  # fmt: skip
    assert "evil" not in str(mail.get("bcc", ""))
    assert "Subject: [mailpulse]" in mail.as_string()


async def test_where_nobody_listens() -> None:
    """About the destination, so no record counts a try."""
    outcome = await sent(email(9, allow_networks=LOCAL))
    assert outcome.blame is Blame.DESTINATION
    assert outcome.said.startswith("no connection: ")


async def test_no_address_that_is_not_public_is_connected_to() -> None:
    """As for every destination."""
    async with mail_server() as there:
        outcome = await sent(email(there.port, allow_networks=["10.0.0.0/8"]))
        assert "not a public address" in outcome.said
        assert outcome.blame is Blame.DESTINATION


async def scripted(lines: Sequence[bytes], pause_s: float) -> tuple[asyncio.Server, int]:
    """A server that says the lines, whatever it is told."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.CancelledError):
            for line in lines:
                writer.write(line)
                await writer.drain()
                await asyncio.sleep(pause_s)
            await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    return server, server.sockets[0].getsockname()[1]


@pytest.mark.parametrize(
    ("lines", "pause_s", "blame"),
    [
        ([], 0.0, Blame.UNKNOWN),
        ([b"220-x\r\n"] * 500, 0.05, Blame.UNKNOWN),
        ([b"2"] * 500, 0.05, Blame.UNKNOWN),
        ([b"HTTP/1.1 400 Bad\r\n"], 0.0, Blame.DESTINATION),
        ([b"421 busy\r\n"], 0.0, Blame.DESTINATION),
        ([b"220 " + b"x" * 100_000 + b"\r\n"], 0.0, Blame.DESTINATION),
        ([b"220-" + b"x" * 1_000 + b"\r\n"] * 5_000, 0.0, Blame.UNKNOWN),
    ],
    ids=["hang", "drip of lines", "drip of bytes", "no SMTP", "busy", "long line", "many lines"],
)
async def test_a_bad_server_costs_a_bounded_time(
    lines: list[bytes], pause_s: float, blame: Blame
) -> None:
    """The whole conversation has one limit, not each wait of it."""
    server, port = await scripted(lines, pause_s)
    try:
        outcome = await asyncio.wait_for(sent(email(port, timeout_s=1.0)), 30)
        assert outcome.blame is blame, outcome
    finally:
        server.close()


@pytest.mark.parametrize("encryption", ["tls", "starttls"])
async def test_a_handshake_that_drips_costs_a_bounded_time(encryption: str) -> None:
    """One limit holds for the conversation, its TLS handshake included."""
    greeting = [b"220 mail\r\n250-mail\r\n250 STARTTLS\r\n220 go\r\n"]
    handshake = [b"\x16\x03\x03\x40\x00", *[b"x"] * 2_000]
    begun = [] if encryption == "tls" else greeting
    server, port = await scripted([*begun, *handshake], 0.05)
    try:
        outcome = await asyncio.wait_for(
            sent(email(port, timeout_s=1.0, encryption=encryption)), 30
        )
        assert not outcome.delivered
    finally:
        server.close()


async def test_a_message_is_made_of_the_body_alone() -> None:
    """So a dead letter that is sent again says the same."""
    assert orjson.loads(OPENED.json)["type"] == "incident.opened"
