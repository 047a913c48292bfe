"""A report by mail, on a real mail server: what arrives, who gets it again, and what is said."""

import ssl
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import BadInput, ConfigError, Unavailable
from streams.cli.report_sending import PAUSES_S, Sent, mail_table, send
from streams.deliver.channels.report_mail import report_mail
from streams.deliver.channels.tables import Email
from streams.deliver.destinations import AnyDestination
from tests.live.certificates import Authority
from tests.streams.mail_server import MailServer, mail_server
from tests.streams.test_channel_senders import email, scripted, server_tls, slack

KEY = "week 1-2 UTC"
FORMS = ("Sent: 12\n", "<p>Sent: 12</p>", "<svg></svg><p>Sent: 12</p>")


async def sent(table: Email, folder: Path, key: str = KEY) -> tuple[int, list[float]]:
    """To how many it was sent now, and the pauses between tries."""
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    mail = report_mail(table, key, "Email, one week", FORMS, "week.html", 1e9)
    return await send(table, mail, key, Sent(folder, table.name), pause), pauses


def given(there: MailServer) -> list[list[str]]:
    """The addresses of each mail that arrived."""
    return there.given


async def test_it_has_figures_for_every_reader_over_verified_tls(tmp_path: Path) -> None:
    """Text first, then HTML without pictures, and the whole file; signed in over STARTTLS, the
    default."""
    authority = Authority(tmp_path)
    async with mail_server(server_tls(authority)) as there:
        table = email(there.port, encryption="starttls", ca_file=authority.certificate,
                      username="me", password="pass word")  # fmt: skip
        assert await sent(table, tmp_path) == (2, [])
        assert there.signed_in == ["me"]
        [mail] = there.mails
    assert (mail["Subject"], mail["Auto-Submitted"]) == ("Email, one week", "auto-generated")
    text, shown = mail.get_body(("plain",)), mail.get_body(("html",))
    assert text is not None
    assert "Sent: 12" in text.get_content()
    assert shown is not None
    assert "svg" not in shown.get_content()
    [file] = mail.iter_attachments()
    assert (file.get_filename(), file.get_content().strip()) == ("week.html", FORMS[2])


@pytest.mark.parametrize("reply", [{"RCPT": "451 later"}, {"DATA": "451 later"}])
async def test_what_passes_is_tried_again_and_ends_with_words(
    tmp_path: Path, reply: dict[str, str]
) -> None:
    """Some times, with growing pauses; then another run may."""
    async with mail_server() as there:
        there.replies |= reply
        with pytest.raises(Unavailable, match="451: later"):
            await sent(email(there.port), tmp_path)
        there.replies.clear()
        assert await sent(email(there.port), tmp_path) == (2, [])
    assert len(there.mails) == 1


async def test_nobody_gets_it_twice(tmp_path: Path) -> None:
    """Neither by another try while one address is put off, nor by another run; the report of
    another week goes to all."""
    async with mail_server() as there:
        there.replies["RCPT boss@x.example"] = "450 greylisted"
        with pytest.raises(Unavailable, match="greylisted"):
            await sent(email(there.port), tmp_path)
        assert given(there) == [["ops@x.example"]]
        there.replies.clear()
        assert await sent(email(there.port), tmp_path) == (1, [])
        assert await sent(email(there.port), tmp_path) == (0, [])
        assert given(there)[1:] == [["boss@x.example"]]
        assert await sent(email(there.port), tmp_path, "week 3-4 UTC") == (2, [])
    first, second, other = (str(one["Message-ID"]) for one in there.mails)
    assert first == second != other


@pytest.mark.parametrize("reply", [{"RCPT": "550 no such"}, {"DATA": "554 too large"}])
async def test_what_is_refused_for_good_is_not_tried_again(
    tmp_path: Path, reply: dict[str, str]
) -> None:
    """The server's words are what is said."""
    async with mail_server() as there:
        there.replies |= reply
        with pytest.raises(BadInput, match=next(iter(reply.values()))[4:]):
            await sent(email(there.port), tmp_path)


async def test_an_address_that_is_gone_is_named_and_the_others_have_it(tmp_path: Path) -> None:
    """So that somebody takes it out of the list."""
    async with mail_server() as there:
        there.replies["RCPT boss@x.example"] = "550 gone"
        with pytest.raises(BadInput, match=r"not taken for boss@x.example; others have it"):
            await sent(email(there.port), tmp_path)
    assert given(there) == [["ops@x.example"]]


@pytest.mark.parametrize("problem", ["certificate", "hangs", "no STARTTLS"])
async def test_nothing_goes_out_in_the_clear_or_waits_for_ever(
    tmp_path: Path, problem: str
) -> None:
    """Said as what may pass: another run tries again."""
    ours, theirs = Authority(tmp_path / "ours"), Authority(tmp_path / "theirs")
    tls: ssl.SSLContext | None = server_tls(theirs) if problem == "certificate" else None
    silent, port = await scripted([], 30.0)
    async with mail_server(tls) as there:
        more: dict[str, Any] = {"encryption": "starttls", "ca_file": ours.certificate}
        if problem == "hangs":
            more = {"timeout_s": 0.2}
        place = port if problem == "hangs" else there.port
        with pytest.raises(Unavailable, match=r"certificate|can't do it|no answer"):
            await sent(email(place, **more), tmp_path)
        assert there.mails == []
    silent.close()
    assert sum(PAUSES_S) < 120


async def test_what_can_not_be_noted_is_not_sent(tmp_path: Path) -> None:
    """Else the next run would send it again."""
    (tmp_path / "reports").write_text("a file where a folder should be")
    async with mail_server() as there:
        with pytest.raises(BadInput, match="not_writable"):
            await sent(email(there.port), tmp_path)
    assert there.mails == []


def test_another_destination_is_refused_with_those_that_are_right() -> None:
    """By name."""
    found: dict[str, AnyDestination] = {
        "ops": email(25),
        "chat": slack("https://hooks.slack.com/x"),
    }
    assert mail_table(found, "ops").name == "ops"
    for name in ("chat", "nobody"):
        with pytest.raises(ConfigError, match=r"there are: ops"):
            mail_table(found, name)


def test_a_destination_may_be_for_reports_alone() -> None:
    """Without topics deliver leaves it alone."""
    assert email(25, topics=[]).topic_names == ()
