"""Entries of suppression lists: read from files, entered as events, and what they do."""

import csv
import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.privacy import Privacy
from schemas.codec import Codec
from schemas.errors import BadInput
from schemas.event import Event
from streams.cli.suppression_entries import (
    ADDRESS_CHARS_MAX,
    REASONS,
    BadLine,
    Entry,
    Operation,
    event_of,
    problem_of,
    read_entries,
)
from streams.cli.suppressions import import_
from streams.enrich.telling import Addressee
from tests.builders import RECEIVED_AT, event
from tests.streams.folding import Fold, log_of

NOW = RECEIVED_AT
DAY_US = 86_400_000_000
ADA = "ada@example.com"


def entries(text: str, reason: str = "manual") -> list[Entry | BadLine]:
    """What a file has."""
    return [one for _, one in read_entries(text.splitlines(keepends=True), "add", reason, NOW, NOW)]


def test_plain_lists_are_read() -> None:
    """One address per line, with empty lines, spaces and a byte order mark."""
    assert entries("\ufeffada@example.com\n\n  bob@example.com \r\n", "complaint") == [
        Entry(ADA, "complaint", NOW), Entry("bob@example.com", "complaint", NOW),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "email,created,reason\nada@example.com,2026-09-01T00:00:00Z,Unsubscribe\n",
        "Reason,Address,Since,Other\nunsubscribe,ada@example.com,1788220800,x\n",
        '\ufeff"Email Address","reason","timestamp"\n"ada@example.com","unsubscribe","1788220800"',
        "EmailAddress;REASON;created-at\r\nada@example.com;UNSUBSCRIBE;1788220800\r\n",
        "E-Mail\tname\treason\tDate\nada@example.com\tAda, L.\tunsubscribe\t1788220800\n",
    ],
)
def test_exports_of_other_systems_are_read_by_their_columns(text: str) -> None:
    """In any order and case; a line's own reason and time come before the command's."""
    assert entries(text) == [Entry(ADA, "unsubscribe", 1_788_220_800_000_000)]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("ada", "not one address"),
        ("@example.com", "not one address"),
        ("ada@", "not one address"),
        ('"ada@example.com, bob@example.com"', "not one address"),
        ("a" * ADDRESS_CHARS_MAX + "@example.com", "longer than 320"),
        ("ada@example.com;unsubscribe", "not one address: 'ada@example.com;unsubscribe'"),
        ("ada@example.com|unsubscribe", "not one address"),
        ("mailto:ada@example.com", "not one address"),
        ("'ada@example.com'", "not one address"),
        ("ada@exa mple.com", "not one address"),
        ('"ada@example.com', "quotation marks"),
        ('ada"@example.com,x"', "not one address"),
        ("x" * 70_000, "longer than 65,536"),
        ("ada@example.com,bored", "unknown reason 'bored': one of hard_bounce"),
        ("ada@example.com,all", "unknown reason 'all'"),
        ("ada@example.com,manual,yesterday", "not a time: 'yesterday'"),
        ("ada@example.com,manual,2099-01-01", "in the future: '2099-01-01'"),
        ("ada@example.com,manual,,news", "a scope needs its source"),
        ("ada@example.com,manual,,,group:1", "a scope needs its source"),
        ("ada@example.com,manual,,bob@example.com,group:1", "not the name of a source"),
    ],
)
def test_bad_lines_are_told_with_their_number(line: str, problem: str) -> None:
    """And the others are read."""
    text = f"address,reason,at,source,scope\n\n{line}\nbob@example.com\n"
    (number, bad), (_, good) = read_entries(
        text.splitlines(keepends=True), "add", "manual", NOW, NOW
    )
    assert isinstance(bad, BadLine)
    assert (number, bad.number) == (3, 3)
    assert problem in bad.problem
    assert good == Entry("bob@example.com", "manual", NOW)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_columns_without_names_are_not_guessed(delimiter: str) -> None:
    """The reason or time in them would be lost without a word."""
    (line,) = entries(f"ada@example.com{delimiter}complaint\n")
    assert isinstance(line, BadLine)
    assert "does not name them" in line.problem


@pytest.mark.parametrize(
    "address",
    [
        "Ada <ada@example.com>",
        '"john doe"@example.com',
        "o'hara+x|y@example.com",
        "用户@例子.广告",
        "ada@[192.0.2.1]",
        "ada@[IPv6:2001:db8::1]",
        "ada@localhost",
        "ada@under_score.example.",
    ],
)
def test_addresses_of_every_kind_are_entries(address: str) -> None:
    """Also with quotation marks of their own, which are not those of CSV."""
    (one,) = entries(f"{address}\n")
    assert one == Entry(address, "manual", NOW)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("ä@example.com\n".encode("latin-1"), "not_utf8"),
        ("ada@example.com\n".encode("utf-16"), "not_utf8"),
        (b"ada@example.com\n" + b"x" * 70_000 + b",bob@example.com\n", "1 lines are bad"),
        (b"email;reason\nada@example.com;bored\n", "1 lines are bad"),
        (None, "not_readable"),
        (b"ada@example.com\nbob@example.com\n", "2 lines have no time.* --at 20"),
        (b"email,at\nada@example.com,\nbob@example.com,2026-01-01\n", "1 lines have no time"),
    ],
)
def test_files_that_are_not_read_are_told(
    content: bytes | None, problem: str, tmp_path: Path
) -> None:
    """And nothing of them is entered; a line that is too long is one line."""
    file = tmp_path / "list.csv"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(BadInput, match=problem):
        import_(file)


def test_a_list_from_stdin_is_offered_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody knows how old it is; whoever copied the present would undo every lift since."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"ada@example.com\n")))
    with pytest.raises(BadInput, match=r"1 lines have no time.* holds, with --at$"):
        import_(Path("-"))


@given(st.text(max_size=200))
def test_any_text_is_entries_or_bad_lines(text: str) -> None:
    """Whatever is in the file; an entry becomes an event that can be written."""
    for one in entries(text):
        if isinstance(one, Entry):
            assert not problem_of(one, "add")
            Codec().encode("raw_event", event_of(one, "add", NOW))


def standing(*events: Event) -> dict[Addressee, str | None]:
    """What was told last of each address and scope."""
    fold = Fold()
    fold.fold(log_of(list(events)))
    return {one.addressee: one.record and one.record["reason"] for one in fold.suppressions}


def entered(operation: Operation, reason: str, at: int, **where: str) -> Event:
    """An entry for Ada as the command writes it."""
    return event_of(Entry("Ada@Example.com", reason, at, **where), operation, NOW)


@pytest.mark.parametrize("reason", [name for name in REASONS if name != "all"])
def test_entered_reasons_are_told_and_lifted(reason: str) -> None:
    """Each as itself; lifted by its own name and by all."""
    whom = Addressee(ADA)
    added = entered("add", reason, NOW - 2 * DAY_US)
    assert standing(added) == {whom: reason}
    for lifted in (reason, "all"):
        assert standing(added, entered("lift", lifted, NOW)) == {whom: None}
        assert standing(added, entered("lift", lifted, NOW - 3 * DAY_US)) == {whom: reason}


def test_old_entries_keep_their_time() -> None:
    """A list of years ago does not overrule what happened since."""
    years_ago = entered("add", "unsubscribe", NOW - 2_000 * DAY_US)
    again = event(
        event_id=f"{9:032x}", event_type="subscribed", message_id=None,
        occurred_at=NOW - DAY_US, received_at=NOW,
    )  # fmt: skip
    assert standing(years_ago) == {Addressee(ADA): "unsubscribe"}
    assert list(standing(again, years_ago).values()) == []
    assert standing(years_ago, again) == {Addressee(ADA): None}


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.none() | st.integers(0, 5)), max_size=4),
    st.integers(0, 5), st.lists(st.integers(0, 9), min_size=1, max_size=3),
    st.randoms(use_true_random=False),
)  # fmt: skip
def test_a_list_that_is_imported_again_undoes_no_lift(
    rows: list[tuple[str, int | None]], at: int, lifts: list[int], order: Any
) -> None:
    """Whatever times its lines have, and however often, before the lift and after it."""

    def us(day: int) -> int:
        return NOW - (9 - day) * DAY_US

    lines = [
        f"{name}@example.com,{'' if day is None else us(day) // 1_000_000}\n" for name, day in rows
    ]
    read = read_entries(["email,at\n", *lines], "add", "manual", us(at), NOW)
    listed = [event_of(one, "add", NOW) for _, one in read if isinstance(one, Entry)]
    lifted = [
        event_of(Entry(f"{name}@example.com", "all", us(day)), "lift", NOW)
        for day in lifts for name in "abc"
    ]  # fmt: skip
    again = [*listed, *listed, *lifted]
    order.shuffle(again)
    suppressed = {whom.identity[0] for whom, reason in standing(*again).items() if reason}
    newest: dict[str, int] = {}
    for name, day in rows:
        newest[name] = max(newest.get(name, 0), at if day is None else day)
    assert suppressed == {name for name, day in newest.items() if day >= max(lifts)}


def test_scopes_do_not_concern_the_address() -> None:
    """Two lists and the address stand side by side."""
    news = {"source": "news", "scope": "group:1"}
    shop = {"source": "shop", "scope": "group:1"}
    told = standing(
        entered("add", "unsubscribe", NOW - DAY_US, **news),
        entered("add", "unsubscribe", NOW - DAY_US, **shop),
        entered("add", "hard_bounce", NOW - DAY_US),
        entered("lift", "all", NOW, **news),
    )
    assert told == {
        Addressee(ADA, "news", "group:1"): None,
        Addressee(ADA, "shop", "group:1"): "unsubscribe",
        Addressee(ADA): "hard_bounce",
    }


def _put(kept: tuple[str | None, str | None, str]) -> Callable[[Event], None]:
    """Gives an event these identity, scope and source."""

    def put(event: Event) -> None:
        event["recipient_identity"], event["suppression_scope"], event["source"] = kept

    return put


@pytest.mark.parametrize("scope", [(), ("news", f"list:{ADA}")])
def test_the_id_of_an_entry_does_not_tell_who_guesses_the_address(scope: tuple[str, ...]) -> None:
    """With addresses as keyed hashes it depends on the key; entered again it is the same."""
    entry = Entry(ADA, "manual", NOW, *scope)

    def made(*privacy: Privacy) -> Event:
        return event_of(entry, "add", NOW, *(one.apply for one in privacy))

    plain, one, other = made(), made(Privacy("hashed", b"1" * 32)), made(Privacy("hashed", b"2"))
    assert len({each["event_id"] for each in (plain, one, other)}) == 3
    assert made(Privacy("hashed", b"1" * 32)) == one
    assert ADA not in repr(one)
    kept = one["recipient_identity"], one["suppression_scope"], one["source"]
    again = event_of(Entry("x@y.example", "manual", NOW, *scope), "add", NOW, _put(kept))
    assert again["event_id"] == one["event_id"]  # made of what is in the record, nothing else


@given(st.sampled_from(["plain", "hashed"]), st.lists(st.booleans(), min_size=3, max_size=3))
def test_no_part_of_an_entry_keeps_an_address_that_is_hashed(mode: str, where: list[bool]) -> None:
    """Whichever column of a list has one: source and scope too."""
    hashed = Privacy("hashed", b"1" * 32)
    address, source, scope = (
        ADA if planted else other
        for planted, other in zip(where, ("eve@else.example", "news", "list:1"), strict=True)
    )
    entry = Entry(address, "manual", NOW, source, scope)
    if problem_of(entry, "add"):
        assert source == ADA
        return
    made = event_of(entry, "add", NOW, *([hashed.apply] if mode == "hashed" else []))
    assert (ADA in repr(made)) == (mode == "plain" and ADA in (address, scope))


def test_an_entry_is_the_same_event_each_time() -> None:
    """A command that is repeated changes nothing; another time, reason or scope is another."""
    one = entered("add", "manual", NOW)
    assert event_of(Entry(ADA, "manual", NOW), "add", NOW + 5)["event_id"] == one["event_id"]
    others = [
        entered("lift", "manual", NOW), entered("add", "complaint", NOW),
        entered("add", "manual", NOW - 1), entered("add", "manual", NOW, source="a", scope="b"),
    ]  # fmt: skip
    assert len({one["event_id"], *(other["event_id"] for other in others)}) == 5


EXPORTS = [
    (
        "email,created,reason,status\n"
        'ada@example.com,1788220800,"550 5.1.1 <ada@example.com>: no ""such""\nmailbox",5.1.1\n',
        ["reason"], "hard_bounce",
    ),
    (
        "address,code,error,message,created_at\r\n"
        'ada@example.com,550,"No such\r\nuser, at all",,"Tue, 01 Sep 2026 00:00:00 UTC"\r\n',
        [], "hard_bounce",
    ),
    (
        '\ufeff"Email Address","First Name","Last Name",UNSUB_TIME,UNSUB_REASON,LEID\n'
        '"Ada@Example.com",Ada,"L, the ""first""","2026-09-01 00:00:00",NORMAL,"7"\n',
        [], "hard_bounce",
    ),
    (
        "EmailAddress,SuppressionReason,Origin,CreatedAt\n"
        "ada@example.com,SpamComplaint,Recipient,2026-09-01T00:00:00Z\n",
        [], "complaint",
    ),
    (
        "EmailAddress,Reason,LastUpdateTime\nada@example.com,BOUNCE,2026-09-01T00:00:00+00:00\n",
        [], "hard_bounce",
    ),
    (
        "email;group;source;date\nada@example.com;Customers;form;2026-09-01\n",
        ["Group", "Source"], "hard_bounce",
    ),
    ("email\tsource\tdate\nada@example.com\tform\t2026-09-01\n", [], "hard_bounce"),
]  # fmt: skip
"""As SendGrid, Mailgun, Mailchimp, Postmark, Amazon SES and others write them, what is ignored, and
the reason; each of one address on the first of September."""


@pytest.mark.parametrize(("text", "ignored", "reason"), EXPORTS)
def test_lists_of_providers_are_read(text: str, ignored: list[str], reason: str) -> None:
    """Whatever else is in their columns, line ends too; a bad line is told by its own number."""
    lines = text.splitlines(keepends=True)
    found = read_entries([*lines, "nobody\n", *lines[1:]], "add", "hard_bounce", None, NOW, ignored)
    (_, first), (number, bad), (_, again) = found
    assert isinstance(first, Entry)
    assert (first.address.lower(), first.reason, first.at) == (ADA, reason, 1_788_220_800_000_000)
    assert (first.source, first.scope) == ("", "")
    assert again == first
    assert isinstance(bad, BadLine)
    assert (number, bad.number) == (len(lines) + 1, len(lines) + 1)


def test_a_column_that_is_to_be_ignored_has_to_be_there() -> None:
    """A typing error would else give each line another reason than was meant."""
    read = read_entries(["email,reason\n", f"{ADA},spam\n"], "add", "manual", NOW, NOW, ["raeson"])
    (_, bad), (_, one) = read
    assert isinstance(bad, BadLine)
    assert "no column 'raeson'" in bad.problem
    assert one == Entry(ADA, "complaint", NOW)


CELL = st.text(st.sampled_from('x,";\n\r .'), max_size=12)


@given(st.lists(CELL, max_size=6), st.lists(st.integers(0, 5), max_size=2))
def test_no_line_vanishes_in_the_one_before(notes: list[str], broken: list[int]) -> None:
    """Each is an entry or told as bad, wherever quotation marks are missing."""
    rows = [
        f"u{number}@example.com," + ('"x' if number in broken else _quoted(note)) + "\n"
        for number, note in enumerate(notes)
    ]
    text = "email,note\n" + "".join(rows)
    found = [one for _, one in read_entries(io.StringIO(text, None), "add", "manual", NOW, NOW)]
    entered = {one.address for one in found if isinstance(one, Entry)}
    whole = {f"u{number}@example.com" for number in range(len(notes)) if number not in broken}
    assert entered == whole
    assert len(found) - len(entered) >= len(set(broken) & set(range(len(notes))))


def _quoted(cell: str) -> str:
    return '"' + cell.replace('"', '""') + '"'


@pytest.mark.parametrize("wrong", ['x,"a"b"c', 'x,"a"b,c "d" "e', 'x,"y"z'])
def test_line_that_is_wrong_in_itself_costs_no_look_at_others(wrong: str) -> None:
    """Else each line of a wrecked file would be read a hundred times."""
    read = 0

    def lines() -> Iterator[str]:
        nonlocal read
        for line in ["email,note\n", *[f"{wrong}\n"] * 300]:
            read += 1
            yield line

    for number, one in read_entries(lines(), "add", "manual", NOW, NOW):
        assert isinstance(one, BadLine)
        assert read <= number + 1


@given(st.lists(st.text(st.sampled_from('x,";'), max_size=6), min_size=1, max_size=6))
def test_row_ends_where_its_first_lines_are_a_row(pieces: list[str]) -> None:
    """The row that is read is the shortest run of lines that CSV takes as one row."""
    lines = [f"{piece}\n" for piece in [f'{ADA},"{pieces[0]}', *pieces[1:]]]
    found = next((count for count in range(1, len(lines) + 1) if _is_row(lines[:count])), None)
    first = next(one for one in entries("email,note\n" + "".join(lines)))
    assert isinstance(first, Entry) == (found is not None)


def _is_row(lines: list[str]) -> bool:
    try:
        return len(list(csv.reader(lines, strict=True))) == 1
    except csv.Error:
        return False


@pytest.mark.parametrize("at", ["0", "1970-01-01", "1999-12-31T23:59:59Z", "20261120"])
def test_times_that_would_count_by_their_arrival_are_refused(at: str) -> None:
    """Entered again they would undo what was lifted meanwhile."""
    (bad,) = entries(f"email,at\n{ADA},{at}\n")
    assert isinstance(bad, BadLine)
    assert "before 2000" in bad.problem
