"""What ``forget --verify`` looks for, and what it takes for a person's."""

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rocksdict import Cache

from schemas.erasure import digest
from schemas.recipient_hash import keyed_hash
from streams.enrich.suppressions import MANUAL, Case, Recipient, pack
from streams.erasure.mentions import may_mention, mentions
from streams.erasure.person import Person, person_of
from streams.erasure.verify import _follow, in_snapshots, in_spool, is_kept, promised
from streams.worker.snapshot_manifest import Lineage, Standing
from streams.worker.snapshots import SnapshotFolder, name_at
from streams.worker.store import Store
from tests.builders import record
from tests.streams.folding import CODEC

ADA, BOB, KEY = "ada@lovelace.example", "bob@gmail.com", b"0123456789abcdef"
AT = 1_790_000_000_000_000


def erasure(person: Person, at_us: int) -> dict[str, Mapping[str, Any]]:
    """Digest -> the erasure of a person."""
    made = {"at": at_us, "state_keys": person.state_keys([("news", "group:1")])}
    return dict.fromkeys(person.digests, made)


def test_each_person_is_judged_by_their_own_erasure() -> None:
    """Of a file of people who were erased at different times; who was not erased is counted."""
    ada, bob, eve = (person_of(one, b"") for one in (ADA, BOB, "eve@x.example"))
    earlier = erasure(ada, AT) | erasure(bob, AT + 5_000_000)
    found, without = promised([ada, bob, eve], earlier)
    assert without == 1
    assert found.names == {ADA: AT, BOB: AT + 5_000_000}
    assert found.by_time == {AT: [ADA], AT + 5_000_000: [BOB]}
    assert found.state[digest(BOB)] == AT + 5_000_000
    assert len(found.state) == 4  # of each the address and the group
    held: set[bytes] = set()
    between = CODEC.encode("suppression", record("suppression") | {"since": AT + 1})
    for name in (ADA, BOB, "eve@x.example"):
        _follow(held, SimpleNamespace(key=name.encode(), value=between), found.names, CODEC)
    assert held == {BOB.encode()}


def test_a_hash_that_an_erasure_kept_is_no_fault_of_it() -> None:
    """``--keep-suppression`` promises the address alone."""
    both, kept = person_of(ADA, KEY), person_of(ADA, KEY, plain_only=True)
    assert promised([both], erasure(kept, AT))[0].names == {ADA: AT}
    assert promised([both], erasure(both, AT))[0].names == dict.fromkeys(both.names, AT)


@given(st.integers(-3, 3))
def test_state_of_after_an_erasure_is_no_fault(seconds: int) -> None:
    """Mail that was sent since may suppress."""
    recipient = Recipient()
    recipient.cases[MANUAL], recipient.told = Case(at=AT // 1_000_000 + seconds), MANUAL
    assert is_kept(pack(recipient), AT) == (seconds < 0)
    assert not is_kept(None, AT)


def test_a_snapshot_that_remembers_someone_is_found_and_stays_whole(tmp_path: Path) -> None:
    """Evidence of before the erasure counts; looking changes no byte of it."""
    recipient = Recipient()
    recipient.cases[MANUAL], recipient.told = Case(at=AT // 1_000_000 - 1), MANUAL
    store, folder = Store(tmp_path / "enrich-0", Cache(1 << 20)), SnapshotFolder(tmp_path)
    store.write([(b"r" + b"12345678", pack(recipient))])
    standing = Standing(Lineage("log", 0, 0), 1, 0)
    manifest = folder.seal(folder.link(store, name_at(1.0), standing))
    store.close()
    keys = {b"12345678": AT, b"87654321": AT}
    (seen,) = in_snapshots(tmp_path, keys, "")
    assert (seen.count, seen.promised) == (1, True)
    _, far = in_snapshots(tmp_path, keys, "s3://bucket")
    assert (far.store, far.count) == ("workers' snapshots in s3://bucket", None)
    assert in_snapshots(tmp_path / "none", keys, "") == []
    (tmp_path / "enrich-0").rename(tmp_path / "lost")
    folder.install(manifest)


@pytest.mark.parametrize(
    "text",
    [
        ADA, "ADA@Lovelace.Example", f"to={quote(ADA, safe='')}&x=1", f"<{ADA}>",
        '{"Message": "{\\"mail\\": [\\"ada\\u0040lovelace.example\\"]}"}', f"q={ADA}",
        "YWRhQGxvdmVsYWNlLmV4YW1wbGU=", keyed_hash(ADA, KEY),
    ],
)  # fmt: skip
def test_content_mentions_a_person_in_every_coding(text: str, tmp_path: Path) -> None:
    """As webhooks have addresses: forms, JSON in JSON, base64, other spellings."""
    names = person_of(ADA, KEY).names
    content = f'{{"a": "{text}"}}'.encode()
    assert mentions(content, names)
    assert may_mention(content, names)
    (tmp_path / "1.frames").write_bytes(content)
    seen = in_spool(tmp_path, names)
    assert seen is not None
    assert seen.count == 1


@pytest.mark.parametrize(
    "text",
    ["nada@lovelace.example", "ada@lovelace.example.org", "ada+news@lovelace.example", BOB, ""],
)
def test_content_of_others_is_not_a_persons(text: str) -> None:
    """An export names nobody else's dead letters."""
    assert not mentions(f'{{"a": "{text}"}}'.encode(), person_of(ADA, KEY).names)


def test_a_length_before_an_address_hides_it_not() -> None:
    """Spooled records are Avro: the length of a text of 24 characters reads like a ``0``."""
    long = "ada@lovelace-est.example"
    content = b"\x02" + bytes([2 * len(long)]) + long.encode() + b"Hx"
    assert not mentions(content, {long})
    assert may_mention(content, {long})
