"""What a capture writes down: renamed throughout, and still the same request."""

import errno
import json
import os
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import example as shown
from hypothesis import given
from hypothesis import strategies as st

from ingest import renaming_bodies
from ingest.capture_files import Files, load
from ingest.capture_keys import SECRETS
from ingest.capture_record import Heard, Recorder, read
from ingest.providers import REGISTRY
from ingest.providers.base import Parsed, Request
from ingest.tryout import check_request
from schemas.errors import BadInput
from schemas.event import Event
from schemas.settings import Settings
from tests.ingest.cases import Case, adopt, all_cases
from tests.ingest.keys import example
from tests.ingest.provider_suite import NOW, RECEIVED_AT, mutations

KEY = b"of this test"
SAME = (
    "event_type", "native_type", "occurred_at", "time_suspect", "bounce_class", "bounce_reason",
    "smtp_code", "enhanced_status", "machine_kind", "provider_first", "unsubscribe_link",
    "geo_country", "dedupe_quality", "campaign_source", "batch_index", "recipient_certain",
)  # fmt: skip
"""Fields that say nothing of people: equal before and after."""
RENAMED = (
    "event_id", "message_id", "rfc_message_id", "recipient", "recipient_identity", "campaign_id",
    "ip", "batch_id", "suppression_scope",
)  # fmt: skip
"""Fields that identify: as many different ones before and after, in the same places."""


def outcome(provider: str, request: Request, source: Any) -> Parsed | str:
    """What parsing gives, or why it gives nothing."""
    try:
        return REGISTRY[provider].parse(request, source, RECEIVED_AT)
    except BadInput as error:
        return error.reason


def request_of(case: Case) -> Request:
    expected = case.expected
    headers = tuple(expected.get("headers", {}).items())
    body = case.path.read_bytes()
    return Request("POST", expected.get("query", ""), headers, body, "192.0.2.1")


def shape(events: list[Event], field: str) -> list[int]:
    """Which events have equal values of a field: numbers by first occurrence; 0 is none."""
    seen: dict[object, int] = {None: 0, "": 0}
    values = [event.get(field) for event in events]
    return [seen.setdefault(value, len(seen)) for value in values]


@pytest.mark.parametrize("case", all_cases(), ids=str)
def test_a_renamed_payload_means_the_same(case: Case) -> None:
    """Every payload of every provider: what is read of it is the same, up to the renaming."""
    one = example(case.provider, **case.expected.get("source", {}))
    request = request_of(case)
    recorder = Recorder(one.source, KEY, NOW, Settings())
    record = recorder.record(Heard(request, NOW, 200, "accepted", True))
    after, keys, _ = read(record.document, record.body)
    ours = outcome(case.provider, request, one.source)
    theirs = outcome(case.provider, after, keys.source)
    if isinstance(ours, str) or isinstance(theirs, str):
        assert ours == theirs
        return
    assert (theirs.note, bool(theirs.confirm)) == (ours.note, bool(ours.confirm))
    assert [r.reason for r in theirs.rejects] == [r.reason for r in ours.rejects]
    assert len(theirs.events) == len(ours.events)
    for before, now in zip(ours.events, theirs.events, strict=True):
        for field in SAME:
            assert now.get(field) == before.get(field), field
    for field in RENAMED:
        assert shape(theirs.events, field) == shape(ours.events, field), field


# --- proofs --------------------------------------------------------------------------------------


def recorded(name: str, request: Request, at: float = NOW) -> tuple[Any, Any]:
    """What ingress says of a request of a provider's source, and what is recorded of it."""
    one = example(name)
    verdict = check_request(one.source, request, at, certificates=one.certificates)
    heard = Heard(request, at, verdict.status, verdict.code, verdict.status != 401)
    recorder = Recorder(one.source, KEY, at, Settings())
    return verdict, recorder.record(heard)


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_a_recorded_request_is_verified_by_its_temporary_keys(name: str) -> None:
    """Offline, with nothing but what is written; its old keys are in no file."""
    one = example(name)
    request = REGISTRY[name].sample(one.source, NOW, 1, one.signing_key)
    verdict, record = recorded(name, request)
    assert verdict.accepted
    written = orjson.loads(orjson.dumps(record.document))
    after, keys, at = read(written, record.body)
    again = check_request(keys.source, after, at, certificates=keys.certificates)
    assert (again.accepted, len(again.events)) == (True, 1)
    assert written["checked"] == {"status": 200, "code": "accepted", "same": True}
    old = [value for field in SECRETS for value in one.source.secrets(field)]
    for secret in [*old, *one.source.public_key, *one.source.topic_arns]:
        assert secret.encode() not in orjson.dumps(written) + record.body


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_a_refused_request_is_refused_for_the_same_reason(name: str) -> None:
    """Whatever is wrong with it: the written request is judged as the original was."""
    one = example(name)
    request = REGISTRY[name].sample(one.source, NOW, 1, one.signing_key)
    differ = 0
    for changed in mutations(request, 12, random.Random(name)):
        verdict, record = recorded(name, changed)
        assert (record.document["checked"]["status"] == 401) == (verdict.status == 401)
        differ += not record.document["checked"]["same"]
    assert differ <= 3  # a mutated time or list may be of another kind once it is renamed


@pytest.mark.parametrize("name", sorted(n for n, one in REGISTRY.items() if one.tolerance_s))
def test_a_stale_request_stays_stale(name: str) -> None:
    """Its signature is made anew for the time that it had."""
    one = example(name)
    provider = REGISTRY[name]
    request = provider.sample(one.source, NOW - provider.tolerance_s - 60, 1, one.signing_key)
    verdict, record = recorded(name, request)
    assert verdict.code == "stale_timestamp"
    assert record.document["checked"] == {"status": 401, "code": "stale_timestamp", "same": True}
    if name == "ses":
        return  # its certificate is not at hand
    assert record.document["proof"].startswith("right apart from its age")


# --- canaries ------------------------------------------------------------------------------------

CANARY = "xanthippe"
PLACES = (
    f"{CANARY}@gmail.com", f"{CANARY}.q+tag@kanarie-bird.test", f"Xanthippe <{CANARY}@b.example>",
    f"https://shop.kanarie-bird.test/u/{CANARY}?to={CANARY}%40kanarie-bird.test#{CANARY}",
    f"hello {CANARY} of kanarie-bird", f"550 5.1.1 <{CANARY}@kanarie-bird.test>: User unknown",
    f'{{"inner": "{CANARY}@kanarie-bird.test", "name": "{CANARY}"}}', "hunter2secret-Value",
    "WGFudGhpcHBlQGthbmFyaWUtYmlyZC50ZXN0", f"=?utf-8?Q?{CANARY}?=", f"<{CANARY}.77@kanarie-bird>",
)  # fmt: skip
LEAKS = (CANARY, "kanarie", "hunter2", "xanthippe".upper(), "WGFudGhpcHBl", "hunter2secret")


def planted(value: Any, dice: random.Random) -> Any:
    """A JSON value with canaries in place of some texts, and as names of further members."""
    if isinstance(value, dict):
        made = {name: planted(one, dice) for name, one in value.items()}
        if dice.random() < 0.3:
            made[dice.choice(("first_name", "custom", "subject", f"{CANARY}@b.example"))] = (
                dice.choice(PLACES)
            )
        return made
    if isinstance(value, list):
        return [planted(one, dice) for one in value]
    return dice.choice(PLACES) if isinstance(value, str) and dice.random() < 0.4 else value


@pytest.mark.parametrize("case", all_cases(), ids=str)
def test_no_canary_is_written(case: Case) -> None:
    """Addresses, names and secrets, in every place of every payload and in its headers."""
    one = example(case.provider, **case.expected.get("source", {}))
    request = request_of(case)
    dice = random.Random(str(case))
    try:
        body = orjson.dumps(planted(orjson.loads(request.body), dice))
    except ValueError:
        body = request.body + f"&who={CANARY}%40kanarie-bird.test".encode()
    headers = (*request.headers, ("x-who", PLACES[0]), ("cookie", PLACES[7]),
               ("authorization", f"Basic {PLACES[8]}"), ("x-forwarded-for", PLACES[1]))  # fmt: skip
    changed = replace(request, body=body, headers=headers, query=f"q={CANARY}", path=CANARY)
    source = one.source.model_copy(update={"account": CANARY})
    recorder = Recorder(source, KEY, NOW, Settings())
    recorder.renamer.hide("hunter2secret-Value")
    record = recorder.record(Heard(changed, NOW, 401, "bad_signature", False))
    written = (orjson.dumps(record.document) + record.body).decode("utf-8", "replace")
    for leak in LEAKS:
        assert leak.lower() not in written.lower(), leak


PERSONAL = (
    '{"response":"[93.184.216.34] said 550"}', '{"ip":93.184.216.34,"n":[', "[93.184.216.34]",
    '{"at":[93.184216,184.2163405]}', '{"x":{"lat":93.184216}}', '{"coordinates":[93.1842,1.1]}',
    '{"birthdate":"1984-12-16"}', '{"birth_date":"16/12/1984"}', '{"date_of_birth":"1984-12-16"}',
    '{"client_name":"Wilhelmine Roth"}', '{"device":"Wilhelmines iPhone"}', '{"client":"Roth KG"}',
    '{"text":"dear wilhelmine, the result is in"}', '{"comment":"wilhelmine wants her money"}',
    f'{{"ref":"{"0" * 20}4155551234"}}', f'{{"ref":{"0" * 20}4155551234}}',
    f'{{"ref":"call {"0" * 20}4155551234 back"}}',
)  # fmt: skip
PERSONAL_LEAKS = (
    "184.216", "93.184", "1984", "wilhelmine", "roth", "money", "16/12", "12-16", "4155551234",
)  # fmt: skip


@pytest.mark.parametrize("body", PERSONAL)
def test_what_is_no_address_and_tells_of_people_is_replaced(body: str) -> None:
    """Addresses of the network without quotes, places, dates of birth, names of devices."""
    recorder = Recorder(example("generic").source, KEY, NOW, Settings())
    request = Request("POST", "", (), body.encode(), "192.0.2.1")
    made = recorder.record(Heard(request, NOW, 401, "bad_signature", False)).body.decode().lower()
    assert not [leak for leak in PERSONAL_LEAKS if leak in made], made


@pytest.mark.parametrize(
    "name", ["x-auth", "x-hook-password", "cf-connecting-client", "x-session", "x-vercel-ip-city"]
)
def test_words_that_are_harmless_elsewhere_are_replaced_in_headers_of_secrets(name: str) -> None:
    """A password may be made of a provider's words."""
    recorder = Recorder(example("generic").source, KEY, NOW, Settings())
    request = Request("POST", "", ((name, "delivered open 12"),), b"{}", "192.0.2.1")
    record = recorder.record(Heard(request, NOW, 401, "bad_signature", False))
    [(_, value)] = record.document["headers"]
    assert not {"delivered", "open", "12"} & set(value.split())


@shown(rb"\ud800@0._", "")
@given(
    st.lists(
        st.one_of(
            st.text(max_size=12).map(lambda text: text.encode("utf-8", "surrogatepass")),
            st.binary(max_size=8),
            st.sampled_from(
                [
                    *rb'{ } [ ] " : , \ \u \ud83d %ff %ud8 & = http://a/ @ 1e400 - ::'.split(),
                    b"a@b.co",
                    b'{"id":' + b"0" * 5_000 + b"7}",
                    b"9" * 5_000,
                ]
            ),
        ),
        max_size=20,
    ).map(b"".join),
    st.text(st.characters(max_codepoint=255), max_size=20),
)
def test_whatever_came_is_recorded(body: bytes, text: str) -> None:
    """What breaks a parser is what one wants to see."""
    recorder = Recorder(example("generic").source, KEY, NOW, Settings())
    headers = (("x-a", text), ("authorization", f"Basic {text}"), ("content-encoding", text))
    for given_headers in (headers, headers[:2]):
        request = Request("POST", text, given_headers, body, "192.0.2.1", text)
        record = recorder.record(Heard(request, NOW, 401, "bad_signature", False))
        document = orjson.loads(json.dumps({"body": "", **record.document}))
        assert read(document, record.body)[0].body == record.body


@pytest.mark.parametrize(
    "unit",
    ["a.", "a.co ", "a@b.co,", "a", "1", "ab:", "http://a/", '{"a', "[", "%25", "=?utf-8?", "a=&",
     "word ", "-", "<a@", "\\u0061", "(", "1.1.1.1 "],
)  # fmt: skip
def test_the_work_grows_with_the_length_alone(unit: str) -> None:
    """A hostile body must not keep the command from its other requests, nor from Ctrl-C.

    Work that grew with the square of these lengths would take hours, and end by the time limit of
    the test run.
    """
    for body in (unit * (300_000 // len(unit)), json.dumps({"message": unit * 40_000})):
        renamer = Recorder(example("generic").source, KEY, NOW, Settings()).renamer
        assert renaming_bodies.body(body.encode(), renamer)


JUNK: tuple[Any, ...] = (
    None,
    5,
    -1,
    1e300,
    "",
    "x",
    "\x1b[31m",
    [],
    {},
    [["a"]],
    "../../x",
    "9" * 5_000,
    "\ud800",
)


def spots(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of everything in a JSON value."""
    members = value.items() if isinstance(value, dict) else enumerate(value)
    for name, one in members:
        yield (*path, name)
        if isinstance(one, dict | list):
            yield from spots(one, (*path, name))


@pytest.mark.parametrize("name", ["mailgun", "ses", "sendgrid", "generic", "preset:azure"])
def test_a_stranger_s_document_is_read_or_refused(name: str, tmp_path: Path) -> None:
    """Whatever stands in whichever place of it."""
    one = example(name)
    _, record = recorded(name, REGISTRY[name].sample(one.source, NOW, 1, one.signing_key))
    path = Files(tmp_path / "got", 1_000_000).write(record)
    whole = path.read_text()
    for place in spots(json.loads(whole)):
        for junk in JUNK:
            document = json.loads(whole)
            inner = document
            for step in place[:-1]:
                inner = inner[step]
            inner[place[-1]] = junk
            path.write_text(json.dumps(document))
            try:
                request, keys, at, document = load(path)
            except BadInput:
                continue
            check_request(keys.source, request, at, certificates=keys.certificates)
            assert document["answered"]["code"] is not None


def test_no_file_of_others_is_written_over_or_followed(tmp_path: Path) -> None:
    """The folder may be one that others write to."""
    one = example("generic")
    _, record = recorded("generic", REGISTRY["generic"].sample(one.source, NOW, 1))
    theirs = tmp_path / "theirs"
    theirs.write_text("precious")
    for name in (f"0001.{record.kind}", ".0001.part", "0001.request.json"):
        folder = tmp_path / f"got{name}"
        folder.mkdir()
        (folder / name).symlink_to(theirs)
        with pytest.raises(FileExistsError):
            Files(folder, 1_000_000).write(record)
        assert [file.name for file in folder.iterdir()] == [name]
        assert theirs.read_text() == "precious"
    path = Files(tmp_path / "new", 1_000_000).write(record)
    assert {file.stat().st_mode & 0o077 for file in path.parent.iterdir()} == {0}


@pytest.mark.parametrize("names", ["second names", "none"])
def test_a_file_that_comes_in_at_the_last_moment_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: str
) -> None:
    """Another capture may write the same name to the folder; on no file system is it replaced."""
    one = example("generic")
    _, record = recorded("generic", REGISTRY["generic"].sample(one.source, NOW, 1))
    theirs = tmp_path / "got" / "0001.request.json"
    link = os.link

    def late(source: Path, target: Path, *, follow_symlinks: bool) -> None:
        theirs.write_text("precious")
        if names == "none":
            raise PermissionError(errno.EPERM, "no second names here")
        link(source, target, follow_symlinks=follow_symlinks)

    monkeypatch.setattr(os, "link", late)
    with pytest.raises(FileExistsError):
        Files(tmp_path / "got", 1_000_000).write(record)
    assert theirs.read_text() == "precious"
    assert list((tmp_path / "got").iterdir()) == [theirs]


def test_a_file_system_without_second_names_is_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as FAT: the document gets its name by renaming."""

    def refuse(source: Path, target: Path, *, follow_symlinks: bool) -> None:
        raise PermissionError(errno.EPERM, "no second names here")

    one = example("generic")
    _, record = recorded("generic", REGISTRY["generic"].sample(one.source, NOW, 1))
    monkeypatch.setattr(os, "link", refuse)
    path = Files(tmp_path / "got", 1_000_000).write(record)
    assert json.loads(path.read_text())["body"] == f"0001.{record.kind}"
    assert len(list(path.parent.iterdir())) == 2


def test_the_same_word_has_the_same_stand_in_in_every_request() -> None:
    """So that a reader still sees which requests are about one message."""
    one = example("mailersend")
    recorder = Recorder(one.source, KEY, NOW, Settings())
    records = []
    for number in (1, 1, 2):
        request = REGISTRY["mailersend"].sample(one.source, NOW, number)
        records.append(recorder.record(Heard(request, NOW, 200, "accepted", True)))
    first, again, other = (orjson.loads(record.body)["data"] for record in records)
    assert first == again
    assert first["message_id"] != other["message_id"]
    assert first["recipient"] != other["recipient"]


def test_what_is_broken_stays_broken() -> None:
    """Escapes, order, repeated names, white space and a missing end may be the fault."""
    one = example("postmark")
    recorder = Recorder(one.source, KEY, NOW, Settings())
    body = b'\xef\xbb\xbf{ "RecordType":"Delivery", "RecordType": "Open",\n "Recipient":"'
    body += b'\\u0061da@b.example", "n": [1.50, "x'
    request = Request("POST", "", (), body, "192.0.2.1")
    made = recorder.record(Heard(request, NOW, 200, "accepted", True)).body
    assert made.startswith(
        b'\xef\xbb\xbf{ "RecordType":"Delivery", "RecordType": "Open",\n "Recipient":"'
    )
    assert b"[1.50" in made
    assert b"ada@" not in made


@pytest.mark.parametrize("name", ["mailgun", "generic", "preset:azure", "mandrill"])
def test_a_capture_becomes_a_case_of_these_tests(name: str, tmp_path: Path) -> None:
    """Its body is the payload; headers, query and source are in the expected file."""
    one = example(name)
    request = REGISTRY[name].sample(one.source, NOW, 1, one.signing_key)
    _, record = recorded(name, request)
    path = Files(tmp_path / "got", 1_000_000).write(record)
    case = adopt(path, "captured", tmp_path)
    assert case.path.read_bytes() == record.body
    [event] = case.outcome()["events"]
    assert event["event_type"] in ("delivered", "sent")


def test_a_document_of_another_kind_is_refused() -> None:
    """With a reason, not with a traceback."""
    for document in ({}, {"form": 99}, {"form": 1, "headers": 3}):
        with pytest.raises(BadInput):
            read(document, b"")
