"""People are told by one destination of another: what lasts, once, and that it is over."""

import asyncio
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.deliver import telling
from streams.deliver.bodies import Body
from streams.deliver.channels.messages import message_of
from streams.deliver.channels.tables import Slack
from streams.deliver.destinations import AnyDestination, Destination
from streams.deliver.notices import TELL_AFTER_S, TRIES_MAX, Watch, tellers
from streams.deliver.outcomes import DELIVERED, Blame, Outcome

CRM = Destination.model_validate(
    {"name": "crm", "url": "https://crm.example/s3cret", "topics": "engagement"}
)


def slack(name: str, **more: Any) -> Slack:
    url = "https://hooks.slack.com/services/T/B/x"
    return Slack.model_validate({"kind": "slack", "name": name, "url": url, **more})


@given(st.lists(st.booleans(), max_size=60))
def test_what_lasts_is_told_once_and_its_end(course: list[bool]) -> None:
    """Each failing of ``TELL_AFTER_S`` and more gives two messages, a shorter one none."""
    step, watch = TELL_AFTER_S / 3, Watch()
    told = []
    for number, failing in enumerate([*course, False]):
        body = watch.look(CRM, failing, "500", number * step)
        if body is not None:
            told.append(orjson.loads(body.json)["type"])
    runs = "".join("x" if failing else " " for failing in course).split()
    lasting = sum(len(run) > 3 for run in runs)
    assert told == ["destination.failing", "destination.working"] * lasting


def test_the_message_says_where_since_when_and_why() -> None:
    """And shows no secret."""
    watch = Watch()
    assert watch.look(CRM, True, "500: oops", 1e9) is None
    body = watch.look(CRM, True, "500: oops", 1e9 + TELL_AFTER_S)
    assert body is not None
    message = message_of(orjson.loads(body.json), "")
    assert message.title == "destination crm (crm.example) does not work"
    assert message.lines[0] == "Since 2001-09-09 01:46 UTC; it says: 500: oops"
    assert "s3cret" not in body.json.decode()
    over = watch.look(CRM, False, "", 1e9 + 600)
    assert over is not None
    done = message_of(orjson.loads(over.json), "")
    assert (done.thread, done.over) == (message.thread, True)
    assert watch.look(CRM, False, "", 1e9 + 700) is None


def test_who_tells_whom() -> None:
    """Channels of people, unless they are switched off; none tells of itself."""
    found: dict[str, AnyDestination] = {
        "crm": CRM, "chat": slack("chat"), "ops": slack("ops"),
        "quiet": slack("quiet", troubles=False),
    }  # fmt: skip
    assert tellers(found, "crm") == ["chat", "ops"]
    assert tellers(found, "chat") == ["ops"]


class Sending:
    """A sender that fails so often, then takes."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.sent: list[Body] = []

    async def send(self, bodies: Any) -> Outcome:
        self.sent += bodies
        return Outcome("500", Blame.UNKNOWN) if len(self.sent) <= self.failures else DELIVERED


async def told(monkeypatch: pytest.MonkeyPatch, failures: int) -> list[Body]:
    """What the channel gets of a destination whose breaker has been open for long."""
    monkeypatch.setattr(telling, "LOOK_S", 0.0)
    monkeypatch.setattr(telling, "RETRY_S", 0.0)
    times = iter(range(0, 1_000_000_000, int(TELL_AFTER_S)))
    breaker = SimpleNamespace(is_open=True)
    machine = SimpleNamespace(breaker=breaker, paused=False)
    figures = SimpleNamespace(tries=SimpleNamespace(last_failure="500"))
    runners: Any = {"crm": SimpleNamespace(machine=machine, figures=figures)}
    sender = Sending(failures)
    senders: Any = {"chat": sender}
    work = asyncio.create_task(
        telling.tell_of_troubles(
            {"crm": CRM, "chat": slack("chat")}, runners, senders, lambda: float(next(times))
        )
    )
    for _ in range(200):
        await asyncio.sleep(0)
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    return sender.sent


async def test_a_notice_is_tried_again_with_its_id(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until it is taken."""
    sent = await told(monkeypatch, 2)
    assert len(sent) == 3
    assert len({body.id for body in sent}) == 1


async def test_a_notice_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where that channel does not work either; the log says so."""
    assert len(await told(monkeypatch, 1_000)) == TRIES_MAX
