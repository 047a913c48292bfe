"""Suppressions written over real sockets: to replicas that fail as providers do."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from schemas import topics
from schemas.scopes import scoped_key
from streams.deliver import bodies
from streams.deliver.bodies import Body
from streams.deliver.core import Deliveries, Place
from streams.deliver.destinations import load_destinations
from streams.deliver.outcomes import Blame, Outcome
from streams.deliver.progress import Progress
from streams.deliver.senders import sender_of, try_out
from streams.deliver.suppress.accounts import Account
from streams.deliver.suppress.exchange import SAID_CHARS_MAX, Unreadable
from streams.deliver.suppress.providers import PROVIDERS
from streams.deliver.suppress.writer import Writer
from tests import builders
from tests.streams.provider_replicas import Postmark, Replica, Ses
from tests.streams.replica_server import Fault, ReplicaServer, serving
from tests.streams.test_suppress_providers import PLACES, REPLICAS, contents

ADA, BOB = "ada@x.example", "bob+b/x?#%.@y.example"
FIELDS = {
    "sendgrid": "", "mailgun": 'domains = "a.example"', "postmark": 'streams = "outbound"',
    "sparkpost": "", "ses": f'region = "{Ses.region}"\nkey_id = "env:KEY_ID"',
}  # fmt: skip
LISTS = {
    "sendgrid": 'lists = { hard_bounce = "unsubscribes", complaint = "unsubscribes" }',
    "ses": 'lists = { unsubscribe = "COMPLAINT", manual = "BOUNCE" }',
}
"""So that every reason goes somewhere."""


def account(name: str, url: str, more: str = "dry_run = false") -> Account:
    """A destination that writes everything, and takes everything off."""
    replica = REPLICAS[name]()
    key = replica.secret if isinstance(replica, Ses) else replica.key
    text = f"""
[destinations.to_{name}]
kind = "suppress:{name}"
key = "env:KEY"
url = "{url}"
allow_networks = "127.0.0.1"
source = "own"
lifts = "all"
timeout_s = 1.0
rate_per_s = 1000
scopes.other = {{ "tag:news" = "{PLACES[name][1]}" }}
{FIELDS[name]}
{LISTS.get(name, "")}
{more}
"""
    environ = {"KEY": key, "KEY_ID": Ses.key_id}
    found = load_destinations(text, environ, Path.read_text)[f"to_{name}"]
    assert isinstance(found, Account)
    return found


def suppressed(address: str, reason: str = "complaint", number: int = 1, **fields: Any) -> Body:
    """The body of a record of the topics; without a reason, of a tombstone."""
    scope, source = fields.pop("scope", None), fields.pop("source", "other")
    topic = topics.SCOPED_SUPPRESSIONS if scope else topics.SUPPRESSIONS
    if not reason:
        key = scoped_key(address, source, scope) if scope else address
        return bodies.of_lifted(f"lifted-{number}", key.encode(), 1_700_000_000_000)
    record = builders.record(
        "suppression", recipient=address, reason=reason, scope=scope, source=source,
        since=builders.RECEIVED_AT, evidence_event_id=f"e{number}", **fields,
    )  # fmt: skip
    return bodies.of_record(topic, f"set-{number}", record)


def write(
    name: str,
    batches: Sequence[Sequence[Body]],
    faults: Sequence[Fault | None] = (),
    more: str = "dry_run = false",
    prepare: Callable[[Any], None] = lambda _: None,
) -> tuple[list[Outcome], ReplicaServer, Counter[str]]:
    """Sends batches to a replica, after faults until they are delivered.

    Returns:
        The outcomes, the replica and what was counted.
    """
    counted: Counter[str] = Counter()

    async def run() -> tuple[list[Outcome], ReplicaServer]:
        replica = REPLICAS[name]()
        prepare(replica)
        async with serving(replica) as server:
            server.faults.extend(faults)
            one = account(name, server.url, more)
            async with Writer(one, lambda what, number: counted.update({what: number})) as writer:
                outcomes = []
                for batch in batches:
                    outcomes.append(await writer.send(batch))
                    while faults and not outcomes[-1].delivered:
                        outcomes.append(await writer.send(batch))
                return outcomes, server

    outcomes, server = asyncio.run(run())
    return outcomes, server, counted


@pytest.mark.parametrize("name", PROVIDERS)
def test_what_is_set_is_there_and_what_is_lifted_is_gone(name: str) -> None:
    """Of the whole address and of a scope, each by itself."""
    both = [suppressed(ADA), suppressed(BOB), suppressed(BOB, "unsubscribe", scope="tag:news")]
    outcomes, server, counted = write(name, [both])
    assert [one.said for one in outcomes] == [""]
    assert {(place, one) for _, place, one in contents(server.replica)} == {
        (PLACES[name][0], ADA), (PLACES[name][0], BOB), (PLACES[name][1], BOB)}  # fmt: skip
    assert counted["put"] == len(contents(server.replica))
    lifted = [suppressed(ADA, ""), suppressed(BOB, "", scope="tag:news")]
    outcomes, server, counted = write(name, [both, lifted])
    assert [one.said for one in outcomes] == ["", ""]
    assert {(place, one) for _, place, one in contents(server.replica)} == {(PLACES[name][0], BOB)}
    assert counted["lifted"]


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_dry_run_makes_no_call_and_counts_what_it_would_do(name: str) -> None:
    """Not even one that reads."""
    batch = [suppressed(ADA), suppressed(BOB, ""), suppressed(ADA, "unsubscribe", scope="tag:z")]
    outcomes, server, counted = write(name, [batch], more="")
    assert outcomes[0].delivered
    assert server.calls == []
    assert counted["would_put"]
    assert counted["would_lift"]
    assert counted["not_mapped"] == 1
    assert not counted["put"]


@pytest.mark.parametrize("name", PROVIDERS)
@pytest.mark.parametrize(
    "fault",
    [
        Fault(500), Fault(503), Fault(502, applied=1), Fault(500, applied=None),
        Fault(0, applied=1), Fault(0, applied=None), Fault(429),
        Fault(429, headers=(("retry-after", "1"),)),
        Fault(429, headers=(("x-ratelimit-reset", "99999999999"),)),
    ],
)  # fmt: skip
def test_a_failure_is_no_delivery_and_a_repeat_makes_it_good(name: str, fault: Fault) -> None:
    """Before, half-way through and after the effect, with and without an answer."""
    batch = [suppressed(ADA), suppressed(BOB)]
    # aiohttp itself repeats a PUT once if the connection is closed without an answer
    faults = [fault] if fault.status else [fault, fault]
    outcomes, server, counted = write(name, [batch], faults)
    first, last = outcomes[0], outcomes[-1]
    assert len(outcomes) > 1
    assert first.blame in (Blame.UNKNOWN, Blame.DESTINATION)
    assert bool(first.hold_s) == (fault.status == 429)
    assert last.delivered
    assert {one for _, _, one in contents(server.replica)} == {ADA, BOB}
    assert counted["put"] == len(contents(server.replica))


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_time_out_after_it_took_effect(name: str) -> None:
    """The repeat finds it done."""
    outcomes, server, _ = write(name, [[suppressed(ADA)]], [Fault(hang=True, applied=None)])
    assert outcomes[0].said == "no answer: timeout_s passed"
    assert outcomes[1].delivered
    assert {one for _, _, one in contents(server.replica)} == {ADA}


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_wrong_key_is_about_the_destination_and_is_told_to_nobody(name: str) -> None:
    """Also if the answer repeats it."""

    def prepare(replica: Any) -> None:
        replica.may = lambda _request: False
        replica.error = lambda _text: {
            "message": replica_key(replica), "Message": replica_key(replica),
            "errors": [{"message": f"unknown key\n{replica_key(replica)}"}],
        }  # fmt: skip

    outcomes, server, _ = write(name, [[suppressed(ADA)]], prepare=prepare)
    assert outcomes[0].blame is Blame.DESTINATION
    assert outcomes[0].said.startswith("401")
    assert replica_key(server.replica) not in outcomes[0].said
    assert outcomes[0].said.isprintable()


def _plain(secret: str) -> str:
    return json.dumps(secret)[1:-1]


def _escaped(secret: str) -> str:
    return "".join(f"\\u{ord(one):04x}" for one in secret)


def _slashes(secret: str) -> str:
    return secret.replace("/", "\\/")


async def answered(
    name: str, answers: Sequence[bytes], ask: Callable[[Writer, Account], Any], **changed: Any
) -> tuple[Any, list[bytes]]:
    """What ``ask`` returns, and the heads of all requests.

    Args:
        answers: whole, of one request each; the last of all further ones.
    """
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        answer = answers[min(len(heads), len(answers) - 1)]
        heads.append(head)
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        one = account(name, url).model_copy(update=changed)
        async with Writer(one) as writer:
            return await ask(writer, one), heads


def whole(status: int, body: bytes, *headers: str) -> bytes:
    """An answer, as it is sent."""
    lines = "".join(f"{one}\r\n" for one in (*headers, f"content-length: {len(body)}"))
    return f"HTTP/1.1 {status} X\r\n{lines}\r\n".encode() + body


@pytest.mark.parametrize("name", PROVIDERS)
@pytest.mark.parametrize("coding", [_plain, _escaped, _slashes])
@pytest.mark.parametrize("before", [0, 295])
def test_no_secret_is_told_in_any_coding_or_cut_in_two(
    name: str, coding: Callable[[str], str], before: int
) -> None:
    """Of a change, a test of the destination and a reading of its list."""
    key = SecretStr("k3y/aBcDeFgHiJkLmNoPqRs+tUvWx")
    one = account(name, "http://127.0.0.1").model_copy(update={"key": key})
    for secret in one.hidden:
        said = "x" * before + coding(secret)
        body = f'{{"message":"{said}","Message":"{said}","errors":[{{"message":"{said}"}}]}}'
        answer = whole(403, body.encode(), f"x-amzn-errortype: {secret}")

        async def ask(writer: Writer, made: Account) -> list[str]:
            told = [(await writer.send([suppressed(ADA)])).said, (await writer.probe()).said]
            with pytest.raises(Unreadable) as error:
                await writer.listed(made.rules.targets[0])
            return [*told, str(error.value)]

        told, _ = asyncio.run(answered(name, [answer], ask, key=key))
        for line in told:
            assert "403" in line
            assert secret[:6] not in line
            assert line.isprintable()
            assert len(line) <= SAID_CHARS_MAX


def replica_key(replica: Any) -> str:
    key: str = getattr(replica, "secret", None) or replica.key
    return key


@pytest.mark.parametrize("name", PROVIDERS)
def test_what_is_left_out_is_counted(name: str) -> None:
    """By its reason; nothing is asked of the provider."""
    batch = [
        suppressed(ADA, "complaint", source="own", scope="tag:y"), suppressed(ADA, "soft_bounces"),
        suppressed("h:" + "0" * 64), suppressed(BOB, "unsubscribe", scope="tag:z"),
    ]  # fmt: skip
    outcomes, server, counted = write(name, [batch])
    assert outcomes[0].delivered
    assert server.calls == []
    assert counted == {"own": 1, "reason": 1, "no_address": 1, "not_mapped": 1}


def test_what_a_provider_can_not_hold_is_counted_and_told_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each record is counted, each reason said once in the log."""
    global LISTS
    kept, LISTS = LISTS, {}
    try:
        bounces = [suppressed(ADA, "hard_bounce"), suppressed(BOB, "hard_bounce")]
        _, server, counted = write("sendgrid", [bounces, bounces])
        leaves = [suppressed(ADA, "unsubscribe")]
        _, other, counted_by_ses = write("ses", [leaves])
    finally:
        LISTS = kept
    assert server.calls == other.calls == []
    assert (counted, counted_by_ses) == ({"not_held": 4}, {"not_held": 1})
    told = capsys.readouterr().out
    assert told.count("no list for this reason") == 2


@pytest.mark.parametrize("name", PROVIDERS)
def test_an_answer_that_is_no_json_or_never_ends(name: str) -> None:
    """It is cut off, and no delivery."""

    async def run(answer: bytes) -> Outcome:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(answer)
                while True:
                    writer.write(b"x" * 65_536)
                    await writer.drain()
            except OSError:
                writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            async with Writer(account(name, url)) as writer:
                return await writer.send([suppressed(ADA)])

    endless = b"HTTP/1.1 400 X\r\n\r\n"
    assert "cut off" in asyncio.run(run(endless)).said
    assert not asyncio.run(run(b"SSH-2.0-x\r\n\r\n")).delivered


@pytest.mark.parametrize("name", PROVIDERS)
def test_private_addresses_need_a_name_and_redirects_are_not_followed(name: str) -> None:
    """As for every destination."""

    async def run() -> tuple[Outcome, Outcome, int]:
        replica = REPLICAS[name]()
        async with serving(replica) as server:
            private = account(name, server.url.replace("http:", "https:"))
            closed = private.model_copy(update={"allow_networks": ()})
            async with Writer(closed) as writer:
                refused = await writer.send([suppressed(ADA)])
            calls = len(server.calls)
            where = (("location", "http://169.254.169.254/"),)
            server.faults.extend([Fault(307, headers=where)])
            async with Writer(account(name, server.url)) as writer:
                return refused, await writer.send([suppressed(ADA)]), calls

    refused, redirected, calls = asyncio.run(run())
    assert "not a public address" in refused.said
    assert calls == 0
    assert redirected.said.startswith("307")


@pytest.mark.parametrize("name", PROVIDERS)
def test_the_lists_are_read_as_they_are(name: str) -> None:
    """And a test of the destination changes nothing."""

    async def run() -> tuple[set[tuple[str, str, str]], Outcome, Replica]:
        replica = REPLICAS[name]()
        async with serving(replica) as server:
            async with Writer(one := account(name, server.url)) as writer:
                await writer.send([suppressed(ADA), suppressed(BOB, "hard_bounce")])
                await writer.send([suppressed(BOB, "manual", scope="tag:news")])
                writes = len(replica.writes)
                found = {
                    (target.list, target.place, entry.address)
                    for target in one.rules.targets
                    for entry in await writer.listed(target)
                }
            tried = await try_out(one, "id", 0)
            assert len(replica.writes) == writes
            return found, tried, replica

    found, tried, replica = asyncio.run(run())
    assert found == contents(replica)
    assert tried.delivered, tried.said


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_list_that_can_not_be_read_is_an_error(name: str) -> None:
    """An empty one would look as if all were missing."""

    async def run(fault: Fault) -> None:
        async with serving(REPLICAS[name]()) as server:
            server.faults.extend([fault, fault])
            one = account(name, server.url)
            async with Writer(one) as writer:
                with pytest.raises(Unreadable):
                    await writer.listed(one.rules.targets[0])
            server.faults.extend([fault, fault])
            assert not (await try_out(one, "id", 0)).delivered

    asyncio.run(run(Fault(500)))
    asyncio.run(run(Fault(0)))


@pytest.mark.parametrize("name", PROVIDERS)
def test_with_the_state_machine_a_refused_address_is_found_and_the_others_arrive(
    name: str,
) -> None:
    """Batches, halves, retries and faults, as the role drives them; the clock is the test's."""
    dice = random.Random(5)
    addresses = [f"user{number}@x.example" for number in range(12)]

    async def run() -> tuple[list[str], ReplicaServer]:
        replica = REPLICAS[name]()
        replica.refused = {addresses[3]}
        async with serving(replica) as server:
            one = account(name, server.url, "dry_run = false\ntries = 2\nconcurrency = 3")
            machine = Deliveries(one.limits, dice.random)
            place = Place(topics.SUPPRESSIONS, 0)
            machine.assign(place, Progress(0))
            for offset, address in enumerate(addresses):
                machine.add(place, offset, address, suppressed(address, number=offset), 100)
            faults = [Fault(500), Fault(429), Fault(502, applied=1), Fault(0, applied=None), None]
            server.faults.extend(dice.choices(faults, k=10))
            parked, now = [], 0.0
            async with sender_of(one) as sender:
                while machine.held and now < 1e7:
                    requests = machine.take(now)
                    for request in requests:
                        batch = [item.content for item in request.items]
                        outcome = await sender.send(batch)  # type: ignore[arg-type]
                        for item in machine.answer(request.number, outcome, now):
                            parked.append(item.key)
                            machine.parked(item)
                    now = now if requests else max(machine.wake_at() or now, now + 1)
            return parked, server  # type: ignore[return-value]

    parked, server = asyncio.run(run())
    assert parked == [addresses[3]]
    assert {one for _, _, one in contents(server.replica)} == set(addresses) - {addresses[3]}


def test_postmark_is_sent_fifty_at_a_time() -> None:
    """Its most in one call."""
    batch = [suppressed(f"user{number}@x.example") for number in range(50)]
    outcomes, server, _ = write("postmark", [batch])
    assert outcomes[0].delivered
    assert isinstance(server.replica, Postmark)
    sizes = [len(json.loads(call.body)["Suppressions"]) for call in server.calls]
    assert sizes == [50]
    assert PROVIDERS["postmark"].batch_max == 50


@pytest.mark.parametrize("name", PROVIDERS)
@pytest.mark.parametrize("reason", ["complaint", ""])
def test_a_page_of_a_proxy_is_no_delivery(name: str, reason: str) -> None:
    """It may have come in place of every answer: what was said to be written would be lost."""

    async def ask(writer: Writer, _made: Account) -> Outcome:
        return await writer.send([suppressed(ADA, reason)])

    page = whole(200, b"\n<html>Sign in first</html>", "content-type: text/html")
    outcome, _ = asyncio.run(answered(name, [page], ask))
    assert outcome.blame is Blame.UNKNOWN
