"""Who a person is, what a certificate says, and what the commands refuse."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.batches import batches
from schemas import topics
from schemas.erasure import digest
from schemas.errors import BadInput, Unavailable
from schemas.recipient_hash import keyed_hash
from schemas.scopes import scoped_key
from streams.cli.export_person import _printable, export_person
from streams.cli.forget import ASKED_CHARS_MAX, PEOPLE_MAX, people_of
from streams.enrich.shard import Shard
from streams.enrich.step import _key_of
from streams.enrich.suppressions import MANUAL, Case, Recipient, pack, unpack
from streams.enrich.telling import Addressee
from streams.erasure.certificate import (
    FOREVER,
    Found,
    Keeping,
    Terms,
    certificate,
    certificate_of,
    obeyed_until,
)
from streams.erasure.person import Person, person_of
from streams.erasure.run import Wanted, is_ended, order, over
from streams.erasure.suppressed import Held, hashed
from tests.builders import record
from tests.streams.folding import CODEC, LOG, Disk

ADA, KEY = "ada@lovelace.example", b"0123456789abcdef"
DAY_MS = 86_400_000
AT = 1_790_000_000_000_000
KEEPING = {
    name: Keeping(topic.retention_ms or FOREVER, 7 * DAY_MS, topic.compaction_lag_ms or FOREVER)
    for name, topic in topics.BY_NAME.items()
}
TERMS = Terms(KEEPING, 720)


@pytest.mark.parametrize(
    "spelling", [ADA, "ADA@LOVELACE.EXAMPLE", '"ada"@lovelace.example', "ada@lovelace.example."]
)
def test_every_spelling_is_one_person(spelling: str) -> None:
    """And the hash of an address is looked for beside it, where there may be any."""
    assert person_of(spelling, b"") == Person((ADA,))
    assert person_of(spelling, KEY) == Person((ADA, keyed_hash(ADA, KEY)))
    assert person_of(spelling, KEY, plain_only=True) == Person((ADA,))
    assert person_of(keyed_hash(ADA, KEY), KEY) == Person((keyed_hash(ADA, KEY),))


def test_keys_of_state_are_those_of_the_fold() -> None:
    """Of the address, and of each list or group."""
    keys = person_of(ADA, b"").state_keys({("news", "group:1"), ("shop", "l:2")})
    whom = [Addressee(ADA), Addressee(ADA, "news", "group:1"), Addressee(ADA, "shop", "l:2")]
    assert keys == [_key_of(one).hex() for one in whom]


def test_a_shard_forgets_evidence_of_before() -> None:
    """What is stored and what is in memory; evidence of later stays, however often it is told."""
    one, later = Recipient(), Recipient()
    one.cases[MANUAL], one.told = Case(at=99), MANUAL
    later.cases[MANUAL], later.told = Case(at=100), MANUAL
    later.soft = {(1, 98), (1, 101)}
    key, other = digest(ADA), digest("b@c.d")
    disk = Disk({b"r" + key: pack(one), b"s" + key: b"1234", b"r" + other: pack(later)})
    shard = Shard(0, disk.get_many)
    shard.begin_log(LOG)
    shard.fetch((), [key])
    for _ in range(2):
        disk.write(list(shard.erase([(100, (key, other))], 7)))
        shard.fetch((), [key])
        assert not shard.recipients[key].cases
        assert sorted(name[:2] for name in disk.values) == [b"!e", b"r" + other[:1]]
        left = unpack(disk.values[b"r" + other])
        assert (left.cases, left.told, left.soft) == (later.cases, MANUAL, {(1, 101)})
    disk.write(shard.writes())
    again = Shard(0, disk.get_many)
    again.load_meta()
    assert again.erased_through == 7


@given(st.integers(0, 9), st.integers(0, 9), st.booleans(), st.booleans())
def test_a_certificate_names_nobody_and_every_topic_that_may_namepeople_of(
    events: int, lists: int, spool: bool, kept: bool
) -> None:
    """Each store with what happens there; what it says follows from its arguments alone."""
    found = Found(events, events, events, lists, lists)
    terms = Terms(KEEPING, 720, spool, kept)
    made = certificate("ab" * 16, AT, found, terms)
    assert made == certificate("ab" * 16, AT, found, terms)
    stores = {one["store"]: one for one in made["stores"]}
    personal = {topics.RAW, topics.ENRICHED, topics.ENGAGEMENT, topics.DEAD_LETTERS,
                topics.SUPPRESSIONS, topics.SCOPED_SUPPRESSIONS, topics.ERASURES,
                topics.HISTORY}  # fmt: skip
    assert {f"Kafka: {name}" for name in personal} <= stores.keys()
    assert stores["ClickHouse: events"]["count"] == events
    assert ("ingest's spool" in stores or "ingress's spool" in stores) == spool
    assert made["suppressions_kept_as_hashes"] == kept
    assert all(one["until"] is None or one["until"] >= made["at"] for one in made["stores"])


def test_dates_are_never_too_early() -> None:
    """One retention and one segment; none where a topic keeps for ever or compacts at will."""
    stores = {one["store"]: one["until"] for one in certificate("a", AT, Found(1), TERMS)["stores"]}
    assert obeyed_until(AT, TERMS) == AT + (32 + 7) * DAY_MS * 1_000
    assert stores[f"Kafka: {topics.RAW}"] < stores[f"Kafka: {topics.ENRICHED}"]
    lasting = Terms({**KEEPING, topics.RAW: Keeping(FOREVER, DAY_MS, FOREVER)}, 720)
    assert obeyed_until(AT, lasting) == 0
    whole = certificate("a", AT, Found(1), lasting)
    assert whole["obeyed_until"] is None
    unbounded = Terms({topics.SUPPRESSIONS: Keeping(FOREVER, DAY_MS, (1 << 63) - 1)}, 720)
    rows = {
        one["store"]: one["until"] for one in certificate("a", AT, Found(1), unbounded)["stores"]
    }
    assert rows[f"Kafka: {topics.SUPPRESSIONS}"] is None


def test_an_order_that_is_over_keeps_its_certificate_alone() -> None:
    """Nothing in it can be tested against an address any more."""
    held = Held({(topics.SCOPED_SUPPRESSIONS, scoped_key(ADA, "news", "g:1").encode()): None})
    wanted = Wanted(person_of(ADA, b""), Found(1), frozenset({("shop", "g:2")}), held)
    made = order(wanted, TERMS, AT)
    assert len(made["state_keys"]) == 3
    assert CODEC.decode(CODEC.encode("erasure", made), "erasure") == made
    assert ADA not in made["certificate"]
    whole = certificate(made["erasure_id"], made["at"], wanted.found, TERMS)
    assert certificate_of(made) == whole
    assert len(CODEC.encode("erasure", made)) < 1_500
    left = over(made)
    assert [left[name] for name in ("digests", "state_keys", "identities")] == [[], [], []]
    assert left["certificate"] == made["certificate"]


def test_a_suppression_that_survives_says_nothing_else() -> None:
    """Neither the event nor the campaign nor what a server said."""
    item = record(
        "suppression", recipient=ADA, reason="complaint", diagnostic=f"<{ADA}>", campaign_id="c",
        evidence_event_id="e", mailbox_provider="lovelace.example",
    )  # fmt: skip
    left = hashed(item, keyed_hash(ADA, KEY))
    assert "lovelace" not in str(left)
    assert left["reason"] == "complaint"


def test_a_file_of_addresses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each person once; blank lines and comments are none; bad lines are named by number."""
    file = tmp_path / "people.txt"
    file.write_text(f"# asked on Monday\n{ADA}\n\n{ADA.upper()}\nb@c.example\n", encoding="utf-8")
    assert [one.names[0] for one in people_of(str(file), b"")] == [ADA, "b@c.example"]
    file.write_text(f"{ADA}\nno address\nb@c.example, d@e.example\n", encoding="utf-8")
    with pytest.raises(BadInput) as refused:
        people_of(str(file), b"")
    assert refused.value.reason == "bad_lines"
    said = capsys.readouterr().err
    assert "line 2:" in said
    assert "line 3:" in said
    assert [one.names[0] for one in people_of(str(file), b"", skip_bad=True)] == [ADA]


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xff\xfe", b"nobody\n"])
def test_a_file_without_anybody_is_refused(tmp_path: Path, content: bytes) -> None:
    """As is one that is no text, and one that is not there."""
    file = tmp_path / "people.txt"
    file.write_bytes(content)
    with pytest.raises(BadInput):
        people_of(str(file), b"", skip_bad=True)
    with pytest.raises(BadInput):
        people_of(str(tmp_path / "none"), b"")


def test_a_large_file_is_read_and_asked_about_in_bounded_parts(tmp_path: Path) -> None:
    """A hundred thousand lines; a file beyond the limit is refused."""
    file = tmp_path / "people.txt"
    file.write_text("".join(f"user{n}@example.com\n" for n in range(100_000)), encoding="utf-8")
    people = people_of(str(file), b"")
    assert len(people) == 100_000 < PEOPLE_MAX
    parts = list(batches((one.names[0] for one in people), ASKED_CHARS_MAX, len))
    assert sum(map(len, parts)) == 100_000
    assert max(sum(map(len, part)) for part in parts) <= 6_000


@pytest.mark.parametrize(
    ("line", "name"),
    [
        (f"Ada Lovelace <{ADA}>", ADA), (f"<{ADA.upper()}>", ADA), (f"\ufeff{ADA}\r", ADA),
        ("#1@lovelace.example", "#1@lovelace.example"),
        (keyed_hash(ADA, KEY), keyed_hash(ADA, KEY)),
    ],
)  # fmt: skip
def test_a_line_is_its_address_alone(tmp_path: Path, line: str, name: str) -> None:
    """Without a name beside it, as mail programs write it, and without a file's byte order mark."""
    file = tmp_path / "people.txt"
    file.write_text(f"\ufeff# from the desk\r\n{line}\n", encoding="utf-8")
    assert people_of(str(file), b"") == [Person((name,))]
    assert people_of(line, b"") == [Person((name,))]


@pytest.mark.parametrize("who", [f"{ADA};b@c.example", f'"{ADA}', f"{'a' * 500}@c.example"])
def test_a_bad_line_is_told_without_its_address(
    who: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It may hold one; a text that is too long for a file's name is refused as any other."""
    for skip_bad in (False, True):
        with pytest.raises(BadInput) as refused:
            people_of(who, b"", skip_bad=skip_bad)
        said = capsys.readouterr().err + str(refused.value)
        assert "lovelace" not in said
        assert "aaa" not in said


def test_an_erasure_ends_with_the_longest_retention_of_then_and_now() -> None:
    """Of every topic that is read again; dead letters may be resent as long as they are kept."""
    letters = {**KEEPING, topics.DEAD_LETTERS: Keeping(99 * DAY_MS, DAY_MS, FOREVER)}
    longer = Terms(letters, 720)
    assert obeyed_until(AT, longer) == AT + 100 * DAY_MS * 1_000
    then = AT + 39 * DAY_MS * 1_000
    order = record("erasure") | {"at": AT, "until": then, "digests": ["00"], "identities": []}
    assert is_ended(order, TERMS, then + 1)
    assert not is_ended(order, TERMS, then)
    assert not is_ended(order, longer, then + 1)
    assert not is_ended(order | {"until": 0}, TERMS, then + 1)
    assert not is_ended(order | {"identities": [ADA]}, TERMS, then + 1)
    assert not is_ended(order | {"digests": []}, TERMS, then + 1)


def test_an_export_is_one_persons_and_shows_no_terminal_anything(tmp_path: Path) -> None:
    """A file of several is refused; what others wrote into a row is escaped."""
    file = tmp_path / "people.txt"
    file.write_text(f"{ADA}\nb@c.example\n", encoding="utf-8")
    with pytest.raises(BadInput, match="one by one"):
        export_person(str(file), None)
    shown = _printable('{"user_agent": "\u009b31m\u202e\u001b"}'.encode())
    assert shown.isascii()
    assert shown.isprintable()
    with pytest.raises(Unavailable):
        _printable(b"Code: 241. DB::Exception: memory")
