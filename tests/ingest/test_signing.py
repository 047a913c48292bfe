"""Senders without code: how they prove a request, and how their bodies are read."""

import itertools
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from ingest import verify
from ingest.providers import REGISTRY, shaping, signing
from ingest.providers.base import Parsed, Request, post
from ingest.providers.mapping import read_mapping
from schemas.settings import Source
from schemas.sources import load_sources
from tests.ingest.keys import Example, example
from tests.ingest.provider_suite import (
    NOW,
    RECEIVED_AT,
    accepted,
    mutations,
    proof_headers,
    with_header,
)

GENERIC = REGISTRY["generic"]

SIGNATURES: dict[str, dict[str, str]] = {
    "pairs": {"header": "x-acme", "format": "t={timestamp},v1={signature}"},
    "pairs with blanks": {"format": "t={timestamp}, v1={signature}"},
    "fixed pair": {"format": "ts={timestamp};s={signature};alg=HmacSHA256", "encoding": "base64"},
    "milliseconds": {"format": "t={timestamp},v1={signature}", "timestamp_unit": "ms"},
    "iso": {"timestamp_unit": "iso", "signed": "{timestamp}|{body}"},
    "prefix": {"format": "v1,{signature}", "encoding": "base64"},
    "url-safe base64": {"format": "t={timestamp},s={signature}", "encoding": "base64url"},
    "url-safe base64 of sha512": {"encoding": "base64url", "algorithm": "sha512"},
    "key in base64": {"key": "base64", "encoding": "base64", "signed": "{body}"},
    "key in hexadecimal": {"key": "hex", "signed": "{body}.{timestamp}"},
    "header in it": {"signed": "{header:X-Acme-Id}.{timestamp}.{body}"},
    "url in it": {"signed": "{url}{body}", "algorithm": "sha1"},
    "header parts only": {"signed": "{header:x-acme-id}.{header:x-acme-event}.{timestamp}"},
}


def signed_by(how: dict[str, str], **more: Any) -> Example:
    """A source whose signature is described by ``how``."""
    url = "https://hooks.example.com/hooks/generic"
    return example("generic", mapping={"signature": how}, public_url=url, **more)


def with_token(place: str | None) -> Example:
    """A source with a token at that place."""
    mapping = {} if place is None else {"token": place}
    return example("generic", secret=(), token=("t0ken/+ &",), mapping=mapping)


EXAMPLES = {
    **{name: signed_by(how) for name, how in SIGNATURES.items()},
    **{f"token {place}": with_token(place) for place in
       (None, "bearer", "path", "header:X-Token", "query:key")},
    "basic": example("generic", secret=(), username=("ada",), password=("pass:word",)),
    "all of it": example("generic", token=("t",), username=("u",), password=("p",),
                         mapping={"token": "query:t"}),
}  # fmt: skip


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_proven_request_passes_and_no_part_can_be_left_out(name: str) -> None:
    """Whatever the source has must be proven; a source without keys refuses everything."""
    one = EXAMPLES[name]
    assert GENERIC.check(one.source) == []
    request = GENERIC.sample(one.source, NOW, 1)
    assert accepted(GENERIC, request, one)
    for gone in proof_headers(request):
        optional = gone == "x-webhook-timestamp" and "{timestamp}" not in (
            SIGNATURES.get(name, {}).get("signed", "{timestamp}")
        )
        assert accepted(GENERIC, with_header(request, gone, None), one) is optional
    if request.query:
        assert not accepted(GENERIC, replace(request, query=""), one)
        assert not accepted(
            GENERIC, replace(request, query=f"{request.query}&{request.query}"), one
        )
    if request.path:
        assert not accepted(GENERIC, replace(request, path=""), one)
        assert not accepted(GENERIC, replace(request, path=request.path + "/x"), one)
    bare = {"secret": (), "token": (), "username": (), "password": ()}
    assert not accepted(GENERIC, request, one, **bare)


@pytest.mark.parametrize("name", SIGNATURES)
def test_a_changed_request_is_refused(name: str) -> None:
    """Thousands of changes of a header or the body; what is not signed may change."""
    one, how = EXAMPLES[name], SIGNATURES[name]
    request = GENERIC.sample(one.source, NOW, 1)
    covered = "{body}" in how.get("signed", "{body}")
    timed = "{timestamp}" in how.get("signed", "{timestamp}")
    for changed in mutations(request, 1_500, random.Random(name)):
        same = all(
            changed.header(header) == request.header(header)
            for header in proof_headers(request)
            if timed or header != "x-webhook-timestamp"
        )
        if not (same and (changed.body == request.body or not covered)):
            assert not accepted(GENERIC, changed, one), changed


@pytest.mark.parametrize("name", [n for n, h in SIGNATURES.items() if "{url}" not in str(h)])
def test_a_signed_time_has_an_age(name: str) -> None:
    """The sender's unit or not, a stale request is refused."""
    one = EXAMPLES[name]
    if "{timestamp}" not in SIGNATURES[name].get("signed", "{timestamp}"):
        return
    for age, good in ((298, True), (302, False), (-298, True), (-302, False)):
        assert accepted(GENERIC, GENERIC.sample(one.source, NOW - age, 1), one) is good, age


def test_pairs_as_a_sender_writes_them() -> None:
    """Made here by hand: any order, further names, and an old signature beside the new one."""
    one = EXAMPLES["pairs"]
    secret = one.source.secrets("secret")[0]
    body = b'{"event": "delivered"}'
    good = verify.hmac_hex(secret, f"{NOW}.".encode() + body)
    for value, fits in (
        (f"t={NOW},v1={good}", True),
        (f"v1={good},t={NOW}", True),
        (f"t={NOW},v0=ab,v1={good}", True),
        (f"t={NOW},v1={'0' * 64},v1={good}", True),
        (f"t={NOW},v1={good.upper()}", True),
        (f"t={NOW},t={NOW},v1={good}", False),
        (f"t={NOW - 1},v1={good}", False),
        (f"t={NOW},v1", False),
        (f"t={NOW},v0={good}", False),
        (f"v1={good}", False),
        (f"t={NOW}," + ",".join([f"v1={good}"] * 17), False),
        (good, False),
    ):
        assert accepted(GENERIC, post(body, ("x-acme", value)), one) is fits, value


@pytest.mark.parametrize(
    ("mapping", "more", "words"),
    [
        ({"signature": {"format": "t={timestamp}"}}, {}, "signature.format: a text with"),
        ({"signature": {"signed": "{boddy}"}}, {}, "signature.signed: a text of {body}"),
        ({"signature": {"signed": "{url}{body}"}}, {}, "{url} needs public_url"),
        ({"signature": {"signed": "{body}"}}, {"tolerance_s": 9}, "tolerance_s can't be kept"),
        ({"signature": {"signed": "{header:x-id}{body}"}}, {}, "between {header:x-id} and {body}"),
        ({"signature": {"signed": "{body}{timestamp}"}}, {}, "between {body} and {timestamp}"),
        ({"signature": {"signed": "{timestamp}{body}"}}, {"tolerance_s": 0}, "nothing stands"),
        ({"signature": {"signed": "{timestamp}{body}", "timestamp_unit": "iso"}}, {}, "nothing"),
        ({"signature": {"key": "hex"}}, {"secret": ("nohex",)}, "is not written in hex"),
        ({"signature": {"timestamp_unit": "h"}}, {}, "timestamp_unit: one of s, ms, iso"),
        ({"token": "cookie:x"}, {}, "token: bearer, path, header:NAME or query:NAME"),
        ({"token": 5}, {}, "token: bearer, path"),
        ({"body": "xml"}, {}, "body: json, form, or form:FIELD"),
        ({"time_zone": "Mars/Olympus"}, {}, "time_zone: a name of the IANA data base"),
        ({"time_format": "dd/mm"}, {}, "time_format: a format as of strptime"),
        ({"answers_get": "yes"}, {}, "answers_get: true or false"),
        ({"handshake": {"event": "x", "answer": {"a": 1}}}, {}, "handshake: a table of event"),
        ({"handshake": []}, {}, "handshake: a table of event"),
    ],
)  # fmt: skip
def test_a_problem_names_its_key_and_what_is_expected(
    mapping: dict[str, Any], more: dict[str, Any], words: str
) -> None:
    """One line, with source and key; and no part of a secret."""
    problems = GENERIC.check(example("generic", mapping=mapping, **more).source)
    assert len(problems) == 1
    assert problems[0].startswith("sources.generic.mapping.")
    assert words in problems[0]
    assert "nohex" not in problems[0]


@pytest.mark.parametrize("unit", ["s", "ms"])
def test_a_template_without_a_separator_that_is_let_in_can_be_split_in_one_way(unit: str) -> None:
    """Every other division of the signed bytes into time and body is refused, by brute force."""
    one = signed_by({"signed": "{timestamp}{body}", "timestamp_unit": unit})
    assert GENERIC.check(one.source) == []
    digits = f"{NOW}000"[: 10 if unit == "s" else 13]
    for body in (b"0123456789", b'1{"a":2}', b"\x00", b"7", digits.encode() * 2):
        request = post(body, ("x-webhook-timestamp", digits), ("x-webhook-signature", "x"))
        request = GENERIC.resigned(request, one.source)
        assert accepted(GENERIC, request, one)
        signed = digits.encode() + body
        for at in range(len(signed) + 1):
            moved = with_header(request, "x-webhook-timestamp", signed[:at].decode("latin-1"))
            moved = replace(moved, body=signed[at:])
            assert accepted(GENERIC, moved, one) is (at == len(digits)), signed[:at]


def test_a_user_without_a_password_is_a_problem() -> None:
    """Half a credential proves nothing."""
    source = Source(name="s", provider="generic", username=("u",))
    assert GENERIC.check(source) == ["sources.s: username needs password"]


# --- bodies --------------------------------------------------------------------------------------


def read(
    mapping: dict[str, Any], body: bytes, *headers: tuple[str, str], query: str = ""
) -> Parsed:
    """What a body is by that mapping."""
    source = example("generic", mapping=mapping).source
    assert GENERIC.check(source) == []
    return GENERIC.parse(post(body, *headers, query=query), source, RECEIVED_AT)


def test_a_form_with_brackets() -> None:
    """As Mailchimp and PHP write nested fields."""
    mapping = {
        "body": "form",
        "fields": {"recipient": "data.email", "time": "fired_at"},
        "events": {"unsubscribe": "unsubscribed"},
    }
    body = b"type=unsubscribe&fired_at=2026-11-24+11%3A00%3A00&data%5Bemail%5D=a%40b.example"
    [event] = read(mapping, body).events
    assert (event["event_type"], event["recipient"]) == ("unsubscribed", "a@b.example")
    assert event["occurred_at"] == RECEIVED_AT - 3_600 * 1_000_000


def test_json_in_a_field_of_a_form_and_in_a_text() -> None:
    """Two envelopes that senders put around their events."""
    inner = orjson.dumps([{"event": "opened", "id": "1"}]).decode()
    form = shaping._encoded([{"event": "opened", "id": "1"}], read_mapping({"body": "form:e"})[0])
    first = read({"body": "form:e"}, form[1]).events
    second = read({"items": "text:Message"}, orjson.dumps({"Message": inner})).events
    assert [event["event_id"] for event in first] == [event["event_id"] for event in second]


@pytest.mark.parametrize(
    ("mapping", "written"),
    [
        ({}, "Tue, 24 Nov 2026 12:00:00 +0100"),
        ({"time_zone": "Europe/Paris"}, "2026-11-24 12:00:00"),
        ({"time_format": "%d/%m/%Y %H:%M", "time_zone": "Europe/Paris"}, "24/11/2026 12:00"),
        ({"time_format": "%d/%m/%Y %H:%M %z"}, "24/11/2026 12:00 +0100"),
        ({"time_format": "%d/%m/%Y %H:%M"}, "24/11/2026 11:00"),
        ({"time_format": "%d/%m/%Y"}, "2026-11-24T11:00:00Z"),
        ({"time_unit": "ms"}, 1_795_518_000_000),
    ],
)
def test_times_as_senders_write_them(mapping: dict[str, Any], written: object) -> None:
    """All of them are 11:00 UTC; a text that does not fit the format is read as without one."""
    [event] = read(mapping, orjson.dumps({"event": "opened", "time": written})).events
    assert event["occurred_at"] == RECEIVED_AT - 3_600 * 1_000_000
    assert not event["time_suspect"]


def test_joined_fixed_and_other_places() -> None:
    """``a+b``, ``=text``, ``header:`` and ``query:``; a name is looked up without its last part."""
    fields = {
        "event": ["type+status", "type"], "campaign": "=autumn", "event_id": "header:X-Id",
        "message_id": "query:m", "recipient": "$.to",
    }  # fmt: skip
    mapping = {
        "fields": fields,
        "items": "list",
        "events": {"mail": "sent", "mail.failed": {"type": "bounced", "bounce_class": "hard"}},
    }
    body = {"to": "a@b.example", "list": [
        {"type": "mail", "status": "failed"}, {"type": "mail", "status": "else"},
        {"type": "mail"}, {"type": "other"}, {"status": "failed"},
    ]}  # fmt: skip
    parsed = read(mapping, orjson.dumps(body), ("x-id", "7"), query="m=m1")
    assert [event["event_type"] for event in parsed.events] == [
        "bounced", "sent", "sent", "unknown",
    ]  # fmt: skip
    assert [one.reason for one in parsed.rejects] == ["no_event_type"]
    first = parsed.events[0]
    assert (first["message_id"], first["recipient"]) == ("m1", "a@b.example")
    assert (first["campaign_id"], first["native_type"]) == ("autumn", "mail.failed")


def test_a_handshake_is_answered_and_is_no_event() -> None:
    """Only short texts go back, and only for the event that is named."""
    mapping = {
        "fields": {"event": "kind"},
        "handshake": {"event": "validate", "answer": {"code": "data.code", "big": "data"}},
    }
    parsed = read(mapping, b'[{"kind": "validate", "data": {"code": "c-1"}}]')
    assert (parsed.count, parsed.note, parsed.answer) == (0, "handshake", b'{"code":"c-1"}')
    odd = read(mapping, b'[{"kind": "validate", "data": {"code": "\\ud800' + b"x" * 999 + b'"}}]')
    assert len(orjson.loads(odd.answer)["code"]) == 512
    assert read(mapping, b'[{"kind": "other", "data": {"code": "c-1"}}]').answer == b""
    request = Request("GET", "", (), b"", "")
    assert GENERIC.probe(request, example("generic", mapping=mapping).source) is None
    assert GENERIC.probe(request, example("generic", mapping={"answers_get": True}).source) == 200


SHAPES = itertools.product(
    ("", "data.events", "text:Message", "a.0.b"),
    ("json", "form", "form:payload"),
    ({}, {"time_unit": "ms"}, {"time_format": "%d.%m.%Y %H:%M:%S", "time_zone": "Asia/Tokyo"},
     {"time_zone": "America/New_York"}),
    ({"event": "type+data.status", "time": "$.at", "event_id": "header:x-id"},
     {"event": "query:e", "recipient": "to.0.email", "time": "meta.when"},
     {"message_id": "mail.id", "recipient": "mail.to"}),
)  # fmt: skip


@pytest.mark.parametrize(("where", "body", "time", "paths"), SHAPES)
def test_a_sample_has_the_shape_of_the_mapping(
    where: str, body: str, time: dict[str, str], paths: dict[str, str]
) -> None:
    """So ``send-test`` shows whether a mapping works."""
    mapping = {"items": where, "body": body, **time, "fields": paths,
               "events": {"mail.ok": "delivered", "mail.bad": "bounced"}}  # fmt: skip
    one = example("generic", mapping=mapping)
    request = GENERIC.sample(one.source, NOW, 3)
    assert accepted(GENERIC, request, one)
    parsed = GENERIC.parse(request, one.source, RECEIVED_AT)
    assert [len(parsed.events), len(parsed.rejects)] == [1, 0]
    event = parsed.events[0]
    assert (event["event_type"], event["recipient"]) == ("delivered", "reader3@example.com")
    assert (event["occurred_at"], event["time_suspect"]) == (RECEIVED_AT, False)
    assert event["message_id"] == "sample-message-3"


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "sha512"])
def test_url_safe_base64_may_have_its_padding_and_only_that(algorithm: str) -> None:
    """Libraries differ in it; the other alphabet is another encoding."""
    one = signed_by({"encoding": "base64url", "algorithm": algorithm, "signed": "{body}"})
    verdicts = set()
    for number in range(40):
        body = b'{"n": %d}' % number
        plain = verify.hmac_base64(one.source.secrets("secret")[0], body, algorithm)
        safe = plain.replace("+", "-").replace("/", "_")
        bare = safe.rstrip("=")
        wrong = {bare + "=" * n for n in range(4)} - {bare, safe}
        wrong |= {plain, plain.rstrip("="), safe.lower()} - {bare, safe}
        for value, right in [(bare, True), (safe, True), *((one, False) for one in wrong)]:
            request = post(body, ("x-webhook-signature", value))
            assert accepted(GENERIC, request, one) is right, value
            verdicts.add(right)
    assert verdicts == {True, False}


def test_the_default_of_each_setting_is_valid() -> None:
    """Every key that a problem can name exists."""
    how, problems = signing.read_signing(dict(signing.DEFAULTS) | {"format": "{signature}",
                                                                  "signed": "{body}"})  # fmt: skip
    assert problems == []
    assert how.header == "x-webhook-signature"


def test_the_pages_example_works_as_written() -> None:
    """A newcomer's first sender: the body, the signature and the source of the page."""
    page = (Path(__file__).parents[2] / "ingest" / "README.md").read_text(encoding="utf-8")
    section = page.split("## A sender of your own")[1]
    body = section.split("```json\n")[1].split("```")[0].encode()
    toml = section.split("```toml\n")[1].split("```")[0]
    source = load_sources(toml, {"ACME_SECRET": "s3cret"}, lambda path: "")["acme"]
    assert GENERIC.check(source) == []
    signature = verify.hmac_hex("s3cret", f"{NOW}.".encode() + body)
    request = post(body, ("x-acme-signature", f"t={NOW},v1={signature}"))
    assert accepted(GENERIC, request, Example(source))
    [event] = GENERIC.parse(request, source, RECEIVED_AT).events
    assert (event["event_type"], event["bounce_class"]) == ("bounced", "hard")
    assert (event["message_id"], event["recipient"]) == ("m4", "dan@example.com")
    assert (event["smtp_code"], event["enhanced_status"]) == (550, "5.1.1")
    assert event["occurred_at"] == RECEIVED_AT - 3_600 * 1_000_000
    assert accepted(GENERIC, GENERIC.sample(source, NOW, 1), Example(source))
