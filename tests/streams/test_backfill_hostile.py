"""A backfill whose API lies, and whose progress is damaged or of something else."""

import asyncio
import gzip
import json
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from ingest.providers import history
from ingest.providers.histories import HISTORIES
from ingest.providers.history import Account, State, Window
from schemas.errors import BadInput
from schemas.history_api import Answer, Ask
from schemas.topics import RAW
from streams.books import client
from streams.books.client import Client
from streams.books.pull import Page, Progress
from streams.books.runner import Unanswered, run
from streams.cli import backfill
from streams.cli.backfill_words import document
from streams.cli.context import settings_of, sources_of
from streams.cli.main import main
from tests.ingest.keys import example
from tests.ingest.replicas import KEY, Trouble, history_table
from tests.streams.test_backfill_run import (
    BEGIN,
    CODEC,
    NOW,
    UNTIL,
    World,
    begun,
    expected,
    ids_of,
    pull_of,
    replica_of,
    until_done,
)

NEXT: dict[str, Callable[[int], dict[str, Any]]] = {
    "mailgun": lambda n: {"items": [{"id": "a"}], "pagination": {"next": str(n)}},
    "sparkpost": lambda n: {"results": [], "links": {"next": f"/api/v1/events/message?cursor={n}"}},
    "resend": lambda n: {"data": [{"id": str(n), "type": "x"}], "has_more": True},
}
"""Provider -> a page whose next one is number n."""


def state_of(provider: str) -> tuple[Account, State]:
    account = Account(example(provider, history=history_table(provider)).source, KEY)
    window = Window(int(BEGIN * 1e6), int(UNTIL * 1e6), int(BEGIN * 1e6))
    return account, HISTORIES[provider].begin(account, window, survey=True)


def pages_until_it_is_noticed(provider: str, number: Callable[[int], int]) -> tuple[int, str]:
    """How many pages are read of an API whose n-th page leads to page ``number(n)``."""
    account, state = state_of(provider)
    for count in range(1000):
        body = json.dumps(NEXT[provider](number(count))).encode()
        try:
            state = HISTORIES[provider].take(account, state, Answer(200, {}, body), 1).state
        except BadInput as error:
            return count, error.reason
    raise AssertionError("it is not noticed")


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("provider", NEXT)
def test_pages_that_go_in_a_circle_are_noticed(provider: str, seed: int) -> None:
    """Of any length, after any number of pages, within a few rounds."""
    dice = random.Random(seed)
    before, length = dice.randrange(50), dice.randrange(1, 50)
    read, reason = pages_until_it_is_noticed(
        provider, lambda n: n if n < before else before + (n - before) % length
    )
    assert reason == "same_page"
    assert read <= 4 * (before + length) + 4


@pytest.mark.parametrize("provider", NEXT)
def test_pages_without_an_end_are_noticed(provider: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each with a new cursor."""
    monkeypatch.setattr(history, "PAGES_MAX", 300)
    assert pages_until_it_is_noticed(provider, lambda n: n) == (300, "endless")


def test_one_odd_time_does_not_end_the_list() -> None:
    """Resend's list goes on until a page has nothing of the window."""
    account, state = state_of("resend")
    for times, more in (((NOW - 3600, 0), True), ((NOW, 5), True), ((5, BEGIN - 9), False)):
        data = [{"id": f"e{at}", "type": "x", "created_at": at} for at in times]
        body = json.dumps({"data": data, "has_more": True}).encode()
        state = HISTORIES["resend"].take(account, state, Answer(200, {}, body), 1).state
        assert state["more"] is more


def test_a_list_that_breaks_off_is_told() -> None:
    """An empty page that says it is not the last."""
    account, state = state_of("resend")
    turn = HISTORIES["resend"].take(account, state, Answer(200, {}, b'{"data":[],"has_more":1}'), 1)
    assert turn.cut


def test_a_full_list_is_full_whatever_it_holds() -> None:
    """SendGrid's list has no pages: an item without an id must not make it look complete."""
    account, state = state_of("sendgrid")
    messages = [{"sg_message_id": f"m{number}"} for number in range(999)]
    body = json.dumps({"messages": [*messages, {}]}).encode()
    turn = HISTORIES["sendgrid"].take(account, state, Answer(200, {}, body), 1)
    assert turn.state["span"] < state["span"]
    assert turn.state["at"] == state["at"]
    body = json.dumps({"messages": [*messages[:5], {}]}).encode()
    turn = HISTORIES["sendgrid"].take(account, state, Answer(200, {}, body), 1)
    assert (turn.listed, turn.gone) == (5, 1)


@pytest.mark.parametrize("provider", ["mailgun", "sparkpost", "sendgrid", "resend"])
async def test_what_became_too_old_while_it_was_stopped_is_not_counted_today(provider: str) -> None:
    """A run that goes on weeks later: a time of more than 30 days ago is not believed any more, and
    the time of arrival in its place would make it news of today with another id."""
    world = World(replica_of(provider, 6, 60), random.Random(6), at=NOW + 29 * 86_400)
    await run(pull_of(provider), begun(pull_of(provider)), world)
    found = [CODEC.decode(value, "raw_event") for name, _, value in world.kept if name == RAW]
    assert found
    assert all(BEGIN * 1e6 <= one["occurred_at"] < UNTIL * 1e6 for one in found)
    assert not any(one["time_suspect"] for one in found)
    assert {one["event_id"] for one in found} < expected(world.replica, provider)


@pytest.mark.parametrize("time", [None, "", "soon", -1, 1e30, {}])
def test_an_event_without_a_time_is_a_dead_letter(time: object) -> None:
    """Not one of today: Mailgun's ids have the date."""
    account, state = state_of("mailgun")
    item = {"id": "a", "event": "opened", "@timestamp": time, "recipient": "a@b.example",
            "message": {"headers": {"message-id": "m"}}}  # fmt: skip
    body = json.dumps({"items": [item]}).encode()
    turn = HISTORIES["mailgun"].take(account, state, Answer(200, {}, body), int(NOW * 1e6))
    assert turn.parsed.events == []
    assert [one.reason for one in turn.parsed.rejects] == ["no_time"] or turn.left_out == 1


def test_without_the_logs_no_token_of_theirs_is_used() -> None:
    """A plan that ends in the middle of a slice: the Events API reads it from its beginning."""
    account, state = state_of("mailgun")
    state = history.next_page(state, "evil.example/")
    turn = HISTORIES["mailgun"].refused(account, state, Answer(403))
    assert turn is not None
    ask = HISTORIES["mailgun"].ask(account, turn.state)
    assert ask is not None
    assert ask.target.startswith("/v3/")


@pytest.mark.parametrize("provider", ["sendgrid", "resend"])
async def test_what_is_gone_since_it_was_listed_is_told(provider: str) -> None:
    """A key that may list and not read gives 404 for each: that is no complete history."""
    replica = replica_of(provider, 1)
    answer = replica.answer

    def nothing_to_read(method: str, target: str, *rest: Any) -> Any:
        is_list = target in ("/v3/logs",) or target.partition("?")[0].endswith("/events")
        return answer(method, target, *rest) if is_list else (404, {}, b"{}")

    replica.answer = nothing_to_read  # type: ignore[assignment,method-assign]
    done = await until_done(World(replica, random.Random(1)), provider)
    assert done.counts.events == 0
    assert done.counts.gone > 0
    assert any("gone" in line for line in document(done, None)["incomplete"])


async def test_an_end_that_the_apis_clock_moves_is_told() -> None:
    """What was asked for and is not read, is named; a clock that is days behind is an error."""
    replica = replica_of("mailgun", 3, trouble=Trouble(skew_s=-3600))
    done = await until_done(World(replica, random.Random(3)), "mailgun")
    told = document(done, None)
    assert told["to"] < "2026-11-24T11:00:00Z"
    assert any(told["to"] in line for line in told["incomplete"])
    plain = await until_done(World(replica_of("mailgun", 3), random.Random(3)), "mailgun")
    assert document(plain, None)["incomplete"] == []
    replica.trouble.skew_s = -90_000
    with pytest.raises(BadInput, match="clock"):
        await until_done(World(replica, random.Random(3)), "mailgun")


def test_a_damaged_progress_is_none() -> None:
    """Any character that is lost or changed, at any place."""
    text = begun(pull_of("mailgun")).to_json()
    dice = random.Random(1)
    for _ in range(300):
        at = dice.randrange(len(text))
        changed = text[:at] + dice.choice(("", "7", "a")) + text[at + 1 :]
        if "".join(changed.split()) != "".join(text.split()):
            with pytest.raises(BadInput, match="no_progress"):
                Progress.from_json(changed)


def test_a_position_of_another_history_is_not_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Since the run began the source has another provider, region or domain, or the file was
    copied; the key may be another."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MAILPULSE_KAFKA_BOOTSTRAP", "127.0.0.1:1")
    monkeypatch.setenv("HISTORY_KEY", "own")
    config = Path("mailpulse.toml")

    def code(*words: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            main(["backfill", "news", *words])
        return int(ended.value.code or 0), capsys.readouterr().err

    def source(provider: str, *lines: str) -> None:
        table = ["[sources.news.history]", 'api_key = "env:HISTORY_KEY"', *lines]
        config.write_text(
            "\n".join(["[sources.news]", f'provider = "{provider}"', *table]), encoding="utf-8"
        )

    source("mailgun")
    assert code("--from", "1d")[0] == 4  # Kafka is away
    assert not list(tmp_path.glob("*/backfill/news.json"))  # so nothing is begun
    settings = settings_of()
    news = sources_of(settings, keys=False)["news"]
    job = backfill._job(settings, news, {"--from": "1d"})
    job.notes.write(backfill._begun(job, survey=False))
    [file] = tmp_path.glob("*/backfill/news.json")
    begun_run = Progress.from_json(file.read_text(encoding="utf-8"))
    page = Page(begun_run.state)
    file.write_text(begun_run.after(page, None, 1.0).to_json(), encoding="utf-8")
    assert "Goes on" in code()[1]
    source("mailgun", 'region = "us"')
    assert "Goes on" in code()[1]
    for provider, line in (("sparkpost", ""), ("mailgun", 'region = "eu"'),
                           ("mailgun", 'domains = "a.example"')):  # fmt: skip
        source(provider, line)
        ended, said = code()
        assert ended == 1
        assert "--anew" in said
        assert "own" not in said.split()
    monkeypatch.setenv("HISTORY_KEY", "two\nlines")
    ended, said = code("--anew", "--from", "1d")
    assert ended == 3
    assert "api_key" in said
    assert "lines" not in said


# --- the connection -------------------------------------------------------------------------------


@asynccontextmanager
async def api(answer: Callable[[web.Request], Any]) -> AsyncIterator[Client]:
    """A client of an API on this machine."""
    runner = web.AppRunner(app := web.Application())
    app.router.add_route("*", "/{rest:.*}", answer)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        async with Client(f"http://127.0.0.1:{runner.addresses[0][1]}") as made:
            yield made
    finally:
        await runner.cleanup()


async def test_an_answer_is_limited_after_it_is_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small one that becomes large, and one that never ends."""
    monkeypatch.setattr(client, "ANSWER_BYTES_MAX", 1 << 20)
    bomb = gzip.compress(bytes(64 << 20))

    async def packed(_: web.Request) -> web.Response:
        return web.Response(body=bomb, headers={"content-encoding": "gzip"})

    async def endless(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        while True:
            await answer.write(b"[" * 65_536)

    async def broken(_: web.Request) -> web.Response:
        return web.Response(body=bomb[:99] + b"?" * 99, headers={"content-encoding": "gzip"})

    for one in (packed, endless, broken):
        async with api(one) as there:
            with pytest.raises(Unanswered):
                await there.fetch(Ask("GET", "/a"))


@pytest.mark.parametrize("target", [
    "", "evil.example/", "@evil.example/", ".evil.example/a", "https://evil.example/", "/a b",
    "/a\r\nx: y", "/ä",
])  # fmt: skip
async def test_the_key_goes_to_the_api_alone(target: str) -> None:
    """What is no path below the origin is not asked for."""
    async with Client("https://api.invalid") as there:
        with pytest.raises(BadInput, match="other_host"):
            await there.fetch(Ask("GET", target))


async def test_keys_of_the_environment_are_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not those of ``.netrc``; a proxy is, but where it is excepted."""
    (tmp_path / "netrc").write_text("default login other password secret\n", encoding="utf-8")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    seen: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(f"{request.headers.get('authorization')} {request.host}")
        return web.Response()

    request = Ask("GET", "/a", (("authorization", "Bearer own"),))
    async with api(answer) as there:
        await there.fetch(request)
        assert seen.pop().startswith("Bearer own 127.0.0.1:")
        origin = there._origin
        monkeypatch.setenv("http_proxy", origin.replace("//", "//user:word@"))
        async with Client("http://api.invalid") as through:
            await through.fetch(request)
        assert seen.pop() == "Bearer own api.invalid"
        monkeypatch.setenv("no_proxy", "api.invalid")
        async with Client("http://api.invalid") as direct:
            with pytest.raises(Unanswered):
                await direct.fetch(request)
    monkeypatch.setenv("http_proxy", "http://[")
    with pytest.raises(BadInput, match="bad_proxy"):
        async with Client("http://api2.invalid"):
            pass


async def test_a_date_that_is_none_is_not_believed() -> None:
    """Whatever the header holds, nothing raises but the error that names the clock."""
    for date in ("", "yesterday", "Mon, 99 Foo", formatdate(NOW + 9e6, usegmt=True)):
        world = World(replica_of("mailgun", 4, 20), random.Random(4))
        answer = world.replica.answer
        world.replica.answer = lambda *given, told=date, real=answer: (  # type: ignore[method-assign]
            (found := real(*given))[0], {**found[1], "date": told}, found[2])  # fmt: skip
        await run(pull_of("mailgun"), begun(pull_of("mailgun")), world)
        assert set(ids_of(world.kept)) == expected(world.replica, "mailgun")
        await asyncio.sleep(0)
