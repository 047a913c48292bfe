"""Requests on real sockets: what every kind of receiver makes of them, and where none goes."""

import asyncio
import base64
import ssl
from pathlib import Path

import pytest
from aiohttp.resolver import ThreadedResolver
from standardwebhooks import Webhook

from schemas.errors import ConfigError
from streams.deliver import sender as sending
from streams.deliver.addresses import may_go_to
from streams.deliver.bodies import Body
from streams.deliver.connection import ANSWER_BYTES_MAX, SAID_CHARS_MAX
from streams.deliver.destinations import Destination
from streams.deliver.outcomes import DELIVERED, Blame, Outcome
from streams.deliver.sender import Sender
from tests.live.certificates import Authority
from tests.streams.receiving import Answer, Got, answering, receiver

SECRETS = ["whsec_" + base64.b64encode(bytes([n]) * 32).decode() for n in (1, 2)]
LOCAL = ("127.0.0.0/8",)
BODY = Body("id-1", b'{"id":"id-1","type":"test"}', 0)


def destination(url: str, **options: object) -> Destination:
    """A webhook, allowed to go to this machine unless said otherwise."""
    given = {"topics": "engagement", "allow_networks": LOCAL, "timeout_s": 20.0, "name": "crm"}
    return Destination.model_validate({**given, "url": url, **options})


async def sent(url: str, *bodies: Body, **options: object) -> Outcome:
    """What comes of one request."""
    async with Sender(destination(url, **options)) as one:
        return await one.send(bodies or (BODY,))


def in_pieces(*pieces: bytes, pause_s: float = 0.0, close: bool = True) -> Answer:
    """An answer written piece by piece."""

    async def answer(_got: Got, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause_s)
        if close:
            writer.close()

    return answer


HEAD = b"HTTP/1.1 %d X\r\n"
CASES: dict[str, tuple[Answer, Outcome]] = {
    "200": (answering(200, b"ok"), DELIVERED),
    "410": (answering(410, b"gone"), Outcome("410: gone", Blame.DESTINATION, 0, True, True)),
    "429": (
        answering(429, b"", "Retry-After: 7"), Outcome("429", Blame.DESTINATION, hold_s=7.0)
    ),
    "422": (answering(422, b"no\r\n\x1b[31msuch"), Outcome("422: no [31msuch", Blame.RECORD)),
    "500": (answering(500, b"oops"), Outcome("500: oops", Blame.UNKNOWN)),
    "hang": (
        in_pieces(b"", pause_s=5.0), Outcome("no answer: timeout_s passed", Blame.UNKNOWN)
    ),
    "closed at once": (in_pieces(), Outcome("no answer: ServerDisconnectedError", Blame.UNKNOWN)),
    "head cut": (
        in_pieces(b"HTTP/1.1 200 O"), Outcome("no answer: ServerDisconnectedError", Blame.UNKNOWN)
    ),
    "body cut": (in_pieces(HEAD % 500, b"content-length: 9\r\n\r\nabc"),
                 Outcome("500: abc", Blame.UNKNOWN)),
    "body cut after 200": (in_pieces(HEAD % 200, b"content-length: 9\r\n\r\nabc"), DELIVERED),
    "slow drip of headers": (
        in_pieces(HEAD % 200, *[b"a: b\r\n"] * 50, pause_s=0.1),
        Outcome("no answer: timeout_s passed", Blame.UNKNOWN),
    ),
    "slow drip of a body": (
        in_pieces(HEAD % 400, b"content-length: 99\r\n\r\n", *[b"x"] * 50, pause_s=0.2),
        Outcome("400: xx", Blame.RECORD),
    ),
    "10 MB": (answering(400, b"x" * 10_000_000), Outcome("400: " + "x" * 500, Blame.RECORD)),
    "endless headers": (
        in_pieces(HEAD % 200, *[b"a: " + b"b" * 5_000 + b"\r\n"] * 1_000),
        Outcome("the answer is no HTTP", Blame.DESTINATION),
    ),
    "no HTTP": (in_pieces(b"SSH-2.0-x\r\n"), Outcome("the answer is no HTTP", Blame.DESTINATION)),
    "redirect": (
        answering(307, b"", "Location: http://169.254.169.254/latest/meta-data/"),
        Outcome("307", Blame.DESTINATION, or_record=True),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
async def test_answers(case: str) -> None:
    """Each gives one outcome, in bounded time and memory, and one request."""
    answer, expected = CASES[case]
    async with receiver(answer) as there:
        waits = case.startswith("slow") or "timeout_s" in expected.said
        outcome = await sent(there.url, timeout_s=0.5 if waits else 20.0)
        if case == "slow drip of a body":  # how much arrived in time is not the point
            assert outcome.said.startswith("400: x")
            assert outcome.blame is Blame.RECORD
        else:
            assert outcome == expected
        assert len(there.got) == 1
        assert len(outcome.said) <= SAID_CHARS_MAX + 5


async def test_an_answer_of_any_length_is_read_to_its_limit_only() -> None:
    """What is beyond is neither read nor waited for, and the connection is not used again."""
    async with receiver(answering(400, b"x" * 20 * ANSWER_BYTES_MAX)) as there:
        async with Sender(destination(there.url)) as one:
            for _ in range(2):
                assert (await one.send((BODY,))).blame is Blame.RECORD
        assert there.connections == 2


async def test_a_connection_is_used_again() -> None:
    """A handshake for every record would be most of the work."""
    async with receiver(answering(200, b"x" * 1_000)) as there:
        async with Sender(destination(there.url)) as one:
            for _ in range(5):
                assert (await one.send((BODY,))).delivered
        assert there.connections == 1


async def test_an_answer_after_the_timeout_means_a_second_delivery_with_the_same_id() -> None:
    """The receiver has it; its id says that it is the same."""
    async with receiver(in_pieces(b"", pause_s=3.0)) as there:
        async with Sender(destination(there.url, secret=SECRETS, timeout_s=0.5)) as one:
            assert (await one.send((BODY,))).blame is Blame.UNKNOWN
            there.answer = answering(204)
            assert (await one.send((BODY,))).delivered
    assert [got.headers["webhook-id"] for got in there.got] == ["id-1", "id-1"]
    assert there.got[0].body == there.got[1].body


async def test_what_is_sent() -> None:
    """Signed by every secret, with the token, and asking for no compression."""
    async with receiver() as there:
        assert await sent(there.url, secret=SECRETS, bearer="t0ken") == DELIVERED
    [got] = there.got
    for secret in SECRETS:
        Webhook(secret).verify(got.body, got.headers)
    assert len(got.headers["webhook-signature"].split()) == 2
    assert got.headers["authorization"] == "Bearer t0ken"
    assert got.headers["content-type"] == "application/json"
    assert got.headers["accept-encoding"] == "identity"
    assert got.headers["host"] == f"127.0.0.1:{there.port}"


async def test_the_environments_proxy_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy would connect to an address that nobody judged."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    async with receiver() as there:
        assert (await sent(there.url)).delivered


# --- where no request goes ---


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "localhost", "localhost.", "0.0.0.0",
        "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::]",
    ],
)  # fmt: skip
async def test_this_machine_is_not_reached_by_any_spelling(host: str) -> None:
    """The address that the socket would go to is judged, not the text."""
    async with receiver() as there:
        outcome = await sent(
            f"http://{host}:{there.port}/", allow_networks=("10.0.0.0/8",), connect_timeout_s=1.0
        )
        assert outcome.blame is Blame.DESTINATION
        assert there.connections == 0


async def test_a_name_that_changes_after_it_was_judged_is_judged_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """DNS rebinding: public at the first look, this machine at the next."""
    answers = iter(["127.0.0.2", "127.0.0.1"])

    async def resolve(*_: object, **__: object) -> list[dict[str, object]]:
        return [
            {"hostname": "x.example", "host": next(answers), "port": there.port, "family": 2,
             "proto": 0, "flags": 0}
        ]  # fmt: skip

    monkeypatch.setattr(ThreadedResolver, "resolve", resolve)
    async with receiver() as there:
        url = f"http://x.example:{there.port}/"
        async with Sender(destination(url, allow_networks=("127.0.0.2",))) as one:
            first = await one.send((BODY,))
            assert "not a public" not in first.said
            second = await one.send((BODY,))
            assert second.said == (
                "no connection: 127.0.0.1 is not a public address; see allow_networks"
            )
        assert there.connections == 0


async def test_a_name_that_no_server_answers_is_asked_for_once_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Look-ups take threads that all destinations share; the next moment asks anew."""
    asked, begun, answered = 0, asyncio.Event(), asyncio.Event()

    async def resolve(*_: object, **__: object) -> list[dict[str, object]]:
        nonlocal asked
        asked += 1
        begun.set()
        await answered.wait()
        raise OSError("no server")

    monkeypatch.setattr(ThreadedResolver, "resolve", resolve)
    async with Sender(destination("https://x.example/")) as one:
        many = [asyncio.create_task(one.send((BODY,))) for _ in range(8)]
        await asyncio.wait_for(begun.wait(), 30)
        answered.set()
        for outcome in await asyncio.gather(*many):
            assert outcome.blame is Blame.DESTINATION
        assert asked == 1
        await one.send((BODY,))
        assert asked == 2


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True), ("2606:2800:220:1::1", True), ("8.8.8.8", True),
        ("::ffff:8.8.8.8", True), ("64:ff9b::808:808", True),
        ("10.0.0.1", False), ("172.16.0.1", False), ("192.168.1.1", False),
        ("127.0.0.1", False), ("127.255.255.254", False), ("0.0.0.0", False), ("0.1.2.3", False),
        ("169.254.169.254", False), ("100.64.0.1", False), ("192.0.0.8", False),
        ("192.0.2.1", False), ("198.18.0.1", False), ("198.51.100.1", False),
        ("203.0.113.1", False), ("224.0.0.1", False), ("240.0.0.1", False),
        ("255.255.255.255", False), ("::", False), ("::1", False), ("::ffff:10.0.0.1", False),
        ("::ffff:169.254.169.254", False), ("168.63.129.16", False), ("3fff::1", False),
        ("::ffff:0:7f00:1", False), ("::127.0.0.1", False), ("64:ff9b::a00:1", False),
        ("64:ff9b:1::1", False), ("100::1", False), ("2001:db8::1", False), ("2001::1", False),
        ("2002:a00:1::1", False), ("2002:7f00:1::", False), ("fc00::1", False),
        ("fd00:ec2::254", False), ("fe80::1", False), ("fe80::1%eth0", False),
        ("fec0::1", False), ("ff02::1", False), ("example.com", False), ("", False),
    ],
)  # fmt: skip
def test_public_addresses(address: str, public: bool) -> None:
    """IANA's special-purpose registries, and the IPv4 address inside an IPv6 one."""
    assert may_go_to(address) is public


def test_a_network_that_is_named_is_allowed_and_no_other() -> None:
    """Also inside an IPv6 address."""
    allowed = destination("https://x.example/", allow_networks=("10.1.0.0/16", "fd00::/8")).networks
    assert may_go_to("10.1.2.3", allowed)
    assert may_go_to("::ffff:10.1.2.3", allowed)
    assert may_go_to("fd12::1", allowed)
    assert not may_go_to("10.2.0.1", allowed)
    assert not may_go_to("169.254.169.254", allowed)


# --- TLS ---


async def test_certificates_are_verified_and_client_certificates_shown(tmp_path: Path) -> None:
    """Both ends know the other; a stranger at either end is refused."""
    ours, theirs = Authority(tmp_path / "ours"), Authority(tmp_path / "theirs")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*ours.issue("server"))
    tls.load_verify_locations(ours.certificate)
    tls.verify_mode = ssl.CERT_REQUIRED
    certificate, key = ours.issue("client")
    mutual = {"ca_file": ours.certificate, "client_cert_file": certificate, "client_key_file": key}
    async with receiver(tls=tls) as there:
        url = f"https://localhost:{there.port}/"
        local = {"allow_networks": ("127.0.0.0/8", "::1"), "timeout_s": 5.0}
        assert await sent(url, **local, **mutual) == DELIVERED
        unknown = await sent(url, **local)
        assert unknown.said.startswith("no connection: certificate: ")
        strange_cert, strange_key = theirs.issue("client")
        strange = mutual | {"client_cert_file": strange_cert, "client_key_file": strange_key}
        assert not (await sent(url, **local, **strange)).delivered
        assert len(there.got) == 1


async def test_a_certificate_of_another_name_is_refused(tmp_path: Path) -> None:
    """Its name must be the URL's, whatever address it is at."""
    authority = Authority(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*authority.issue("server"))
    async with receiver(tls=tls) as there:
        outcome = await sent(
            f"https://localhost.localdomain:{there.port}/", ca_file=authority.certificate,
            allow_networks=("127.0.0.0/8", "::1"), timeout_s=5.0,
        )  # fmt: skip
        assert outcome.blame is Blame.DESTINATION
        assert there.got == []


def test_a_certificate_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """At the start, not at the first request."""
    with pytest.raises(ConfigError, match=r"destinations\.crm: ca_file: No such file"):
        Sender(destination("https://x.example/", ca_file=tmp_path / "none.pem"))


async def test_an_answer_that_repeats_the_request_is_shown_without_its_secrets() -> None:
    """«Cannot POST /services/…» is what Express answers by itself."""

    async def echo(got: Got, writer: asyncio.StreamWriter) -> None:
        text = f"Cannot POST {got.path} {' ' * 3_000}{got.headers['authorization']} {got.path[3:]}"
        await answering(404, text.encode())(got, writer)

    async with receiver(echo) as there:
        url = f"{there.url}/s3cret-path?key=s3cret-key&n=1"
        outcome = await sent(url, bearer="s3cret-token")
    assert outcome.said.startswith("404: Cannot POST [hidden]")
    assert "s3cret-key" not in outcome.said
    assert "s3cret-token" not in outcome.said


async def test_nothing_that_is_said_has_a_secret_in_it() -> None:
    """The URL may be one, as Slack's are."""
    url = "http://127.0.0.1:9/services/T0/B0/s3cret-path?key=s3cret-key"
    one = destination(url, bearer="s3cret-token", secret=SECRETS)
    async with Sender(one) as made:
        said = (await made.send((BODY,))).said
    shown = said + repr(one) + str(one.model_dump()) + str(vars(sending))
    assert said
    for secret in ("s3cret", SECRETS[0][6:]):
        assert secret not in shown
