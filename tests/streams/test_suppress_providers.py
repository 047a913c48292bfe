"""What is written to providers' lists, against replicas in memory: batches, repeats, failures."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.deliver.outcomes import Blame, Outcome
from streams.deliver.suppress.changes import REASONS, Change, Rules, Suppressed, Target, settled
from streams.deliver.suppress.exchange import Answer, Call, Exchange, Unreadable
from streams.deliver.suppress.providers import PROVIDERS, Provider
from tests.streams.provider_replicas import (
    Mailgun,
    Postmark,
    Replica,
    Request,
    SendGrid,
    Ses,
    SparkPost,
)
from tests.streams.replica_server import write_answer

Contents = set[tuple[str, str, str]]
"""List, place and address of every entry."""


def _sendgrid() -> SendGrid:
    replica = SendGrid()
    replica.groups = {"12": {}, "13": {}}
    return replica


REPLICAS: dict[str, Callable[[], Any]] = {
    "sendgrid": _sendgrid,
    "mailgun": lambda: Mailgun("a.example", "b.example"),
    "postmark": lambda: Postmark("outbound", "news"),
    "sparkpost": SparkPost,
    "ses": Ses,
}
PLACES = {
    "sendgrid": ("", "group:12"),
    "mailgun": ("domain:a.example", "domain:b.example"),
    "postmark": ("stream:outbound", "stream:news"),
    "sparkpost": ("", "list:news.example"),
    "ses": ("", "tenant:one"),
}
"""Of the whole address, and of the scope ``tag:news``."""


def contents(replica: Any) -> Contents:
    """Every entry that a replica holds."""
    match replica:
        case SendGrid():
            listed = {"": replica.everyone}
            listed |= {f"group:{group}": one for group, one in replica.groups.items()}
            return {("unsubscribes", place, one) for place in listed for one in listed[place]}
        case Mailgun():
            lists = replica.lists
            return {(key[1], f"domain:{key[0]}", one) for key in lists for one in lists[key]}
        case Postmark():
            streams = replica.streams
            return {
                ("suppressions", f"stream:{key}", one) for key in streams for one in streams[key]
            }
        case SparkPost():
            return {(kind, f"list:{list_id}" if list_id else "", one)
                    for one, kind, list_id in replica.entries}  # fmt: skip
        case Ses():
            return {(row["Reason"], f"tenant:{tenant}" if tenant else "", one)
                    for (one, tenant), row in replica.entries.items()}  # fmt: skip
    raise AssertionError(replica)


def rules(name: str, **changed: Any) -> Rules:
    """Those of a destination that writes everything which the provider can hold."""
    whole, scoped = PLACES[name]
    given: dict[str, Any] = {
        "lists": PROVIDERS[name].defaults, "places": (whole,), "reasons": REASONS, "own": "",
        "scopes": {("other", "tag:news"): scoped}, "lifts": True,
    }  # fmt: skip
    return Rules(**given | changed)


def request_of(call: Call) -> Request:
    """A call as it arrives."""
    return Request(call.method, call.path, call.query, {}, call.body)


def answer_of(replica: Replica, call: Call) -> Answer:
    """What a replica answers, without a socket."""
    written: list[bytes] = []

    class Writer:
        write = written.append

    status, document = replica.route(request_of(call))
    write_answer(Writer(), status, document)  # type: ignore[arg-type]
    return Answer(status, b"".join(written).partition(b"\r\n\r\n")[2])


def run(exchange: Exchange, replica: Replica, faults: Sequence[str] = ()) -> Outcome:
    """Drives a conversation; a fault is ``before`` or ``after`` the effect of one call."""
    pending = list(faults)
    try:
        call = next(exchange)
        while True:
            fault = pending.pop(0) if pending else ""
            answer = Answer(500) if fault == "before" else answer_of(replica, call)
            call = exchange.send(Answer(502) if fault == "after" else answer)
    except StopIteration as end:
        outcome: Outcome = end.value
        return outcome


def write(
    name: str, replica: Replica, changes: Sequence[Change], faults: Sequence[str] = (),
    *, may_remove: bool = True,
) -> Outcome:  # fmt: skip
    """One conversation with all changes."""
    provider = PROVIDERS[name]
    made = settled(changes, provider.entry)
    return run(provider.changes(made, may_remove=may_remove), replica, faults)


RECORDS = st.lists(
    st.builds(
        lambda address, scope, reason: Suppressed(
            address, "other" if scope else "", scope, reason, 1_700_000_000_000_000, "event-1"
        ),
        st.sampled_from(["ada@x.example", "b/c@x.example", "d%40+?#&=é@y.example"]),
        st.sampled_from(["", "tag:news"]),
        st.sampled_from(["", *REASONS]),
    ),
    max_size=12,
)


def expected(name: str, records: Sequence[Suppressed]) -> Contents:
    """Every change by itself, one after the other."""
    found: dict[Any, tuple[str, str, str]] = {}
    for record in records:
        for change in rules(name).of(record).changes:
            key = PROVIDERS[name].entry(change.target), change.address
            found.pop(key, None)
            if change.on:
                found[key] = (change.target.list, change.target.place, change.address)
    return set(found.values())


@pytest.mark.parametrize("name", PROVIDERS)
@given(records=RECORDS, cuts=st.lists(st.integers(1, 5)), data=st.data())
def test_the_list_is_what_the_records_say_however_they_are_cut_and_whatever_fails(
    name: str, records: list[Suppressed], cuts: list[int], data: st.DataObject
) -> None:
    """Against every change made one by one."""
    replica, rest = REPLICAS[name](), records
    while rest:
        size = cuts.pop() if cuts else len(rest)
        batch, rest = rest[:size], rest[size:]
        changes = [one for record in batch for one in rules(name).of(record).changes]
        faults = data.draw(st.lists(st.sampled_from(["", "before", "after"]), max_size=4))
        while not write(name, replica, changes, faults).delivered:
            faults = data.draw(st.lists(st.sampled_from(["", "before", "after"]), max_size=2))
    assert contents(replica) == expected(name, records)


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_repeat_changes_nothing(name: str) -> None:
    """Writing is idempotent."""
    replica = REPLICAS[name]()
    record = Suppressed("ada@x.example", reason="complaint")
    lists = dict.fromkeys(REASONS, PROVIDERS[name].lists[:1])
    changes = rules(name, lists=lists).of(record).changes
    assert write(name, replica, changes).delivered
    once = contents(replica)
    assert once
    assert write(name, replica, changes).delivered
    assert contents(replica) == once


@pytest.mark.parametrize("name", PROVIDERS)
def test_own_entries_only_are_taken_off_unless_all_may_be(name: str) -> None:
    """What the provider put there itself stays."""
    replica, provider = REPLICAS[name](), PROVIDERS[name]
    targets = rules(name).targets
    _as_the_provider_itself(replica, "theirs@x.example")
    theirs = contents(replica)
    written = [Change("ours@x.example", one, True, 1, "manual", "e") for one in targets]
    assert write(name, replica, written).delivered
    off = [Change(address, one, False) for one in targets
           for address in ("theirs@x.example", "ours@x.example")]  # fmt: skip
    assert write(name, replica, off, may_remove=False).delivered
    assert contents(replica) >= theirs
    if provider.shows_own and name != "mailgun":
        assert contents(replica) == theirs
    if name == "mailgun":  # of its three lists, only bounces show it
        assert {one for one, _, address in contents(replica) if address.startswith("ours")} == {
            "complaints", "unsubscribes"}  # fmt: skip
    if not provider.shows_own:
        assert not [write for write in replica.writes if write[0] == "DELETE"]


def _as_the_provider_itself(replica: Any, address: str) -> None:
    match replica:
        case SendGrid():
            replica.everyone[address] = 1
        case Mailgun():
            for listed in replica.lists.values():
                listed[address] = {"address": address, "error": "5.1.1 no such user"}
        case SparkPost():
            key = address, "transactional", ""
            replica.entries[key] = {"recipient": address, "type": "transactional",
                                    "source": "Bounce Rule", "description": "550"}  # fmt: skip
        case Postmark():
            for listed in replica.streams.values():
                listed[address] = {"EmailAddress": address, "SuppressionReason": "HardBounce",
                                   "Origin": "Recipient"}  # fmt: skip
        case Ses():
            replica.entries[address, ""] = {"EmailAddress": address, "Reason": "BOUNCE",
                                            "Attributes": {"MessageId": "m"}}  # fmt: skip


@pytest.mark.parametrize("name", PROVIDERS)
def test_an_address_that_is_refused_blames_the_record(name: str) -> None:
    """So that it is found and parked, and the others go on."""
    replica = REPLICAS[name]()
    replica.refused = {"bad@x.example"}
    target = rules(name).targets[0]
    changes = [Change(one, target, True) for one in ("ada@x.example", "bad@x.example")]
    outcome = write(name, replica, changes)
    assert outcome.blame is Blame.RECORD
    assert outcome.said


@pytest.mark.parametrize("name", PROVIDERS)
def test_too_many_requests_asks_for_a_pause(name: str) -> None:
    """By either header, and without one."""
    changes = [Change("ada@x.example", rules(name).targets[0], True)]

    def outcome(**headers: str) -> Outcome:
        exchange = PROVIDERS[name].changes(changes, may_remove=True)
        next(exchange)
        given = {header.replace("_", "-"): value for header, value in headers.items()}
        try:
            exchange.send(Answer(429, b"", given, 1_000.0))
        except StopIteration as end:
            found: Outcome = end.value
            return found
        raise AssertionError("it goes on")

    assert outcome().hold_s > 0
    assert outcome(retry_after="7").hold_s == 7
    assert outcome(x_ratelimit_reset="1042").hold_s == 42
    assert outcome(x_ratelimit_reset="900").hold_s > 0
    assert outcome(x_ratelimit_reset="soon").hold_s > 0
    assert outcome().blame is Blame.DESTINATION


@pytest.mark.parametrize("name", PROVIDERS)
def test_the_whole_list_is_read_page_by_page(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No page is left out, none leads to another host."""
    module = __import__(f"streams.deliver.suppress.{name}", fromlist=["PAGE"])
    if hasattr(module, "PAGE"):
        monkeypatch.setattr(module, "PAGE", 3)
    replica, provider = REPLICAS[name](), PROVIDERS[name]
    for target in rules(name).targets:
        addresses = [f"user{number}@x.example" for number in range(7)]
        for address in addresses:
            assert write(name, replica, [Change(address, target, True)]).delivered
        assert sorted(_read(provider, target, replica)) == addresses


def _read(provider: Provider, target: Target, replica: Replica) -> list[str]:
    listing = provider.listed(target)
    try:
        call = next(listing)
        while True:
            assert not call.writes
            call = listing.send(answer_of(replica, call))
    except StopIteration as end:
        return [one.address for one in end.value]


@pytest.mark.parametrize("name", PROVIDERS)
@pytest.mark.parametrize("answer", [Answer(500), Answer(200, b"<html>"), Answer(200, b"null")])
def test_an_unreadable_list_is_an_error_not_an_empty_one(name: str, answer: Answer) -> None:
    """Whatever the answer is."""
    listing = PROVIDERS[name].listed(rules(name).targets[0])
    next(listing)
    with pytest.raises(Unreadable):
        listing.send(answer)


def test_sendgrid_writes_nothing_to_a_group_that_is_not_there() -> None:
    """It would land on the global list."""
    replica = _sendgrid()
    del replica.groups["12"]
    change = Change("ada@x.example", Target("unsubscribes", "group:12"), True)
    outcome = write("sendgrid", replica, [change])
    assert not outcome.delivered
    assert outcome.or_record
    assert "group:12 does not exist" in outcome.said
    assert contents(replica) == set()
    assert replica.writes == []


@pytest.mark.parametrize("body", [b"", b"[]", b'{"id": 13}'])
def test_sendgrid_writes_nothing_to_a_group_that_the_answer_does_not_show(body: bytes) -> None:
    """200 alone is no proof."""
    target = Target("unsubscribes", "group:12")
    exchange = PROVIDERS["sendgrid"].changes(
        [Change("ada@x.example", target, True)], may_remove=True
    )
    assert not next(exchange).writes
    with pytest.raises(StopIteration) as end:
        exchange.send(Answer(200, body))
    assert not end.value.value.delivered


def test_sparkpost_keeps_the_entries_of_lists_when_that_of_the_account_is_taken_off() -> None:
    """Its DELETE without list_id would remove them all."""
    replica, address = SparkPost(), "ada@x.example"
    whole = Target("non_transactional")
    of_list = Target("non_transactional", "list:news.example")
    write("sparkpost", replica, [Change(address, one, True) for one in (whole, of_list)])
    assert write("sparkpost", replica, [Change(address, whole, False)]).delivered
    assert contents(replica) == {(of_list.list, of_list.place, address)}


def test_sparkposts_compliance_entries_are_no_error() -> None:
    """Nobody can take them off."""
    replica = SparkPost()
    replica.compliance = {"ada@x.example"}
    change = Change("ada@x.example", Target("transactional"), False)
    assert write("sparkpost", replica, [change]).delivered


def test_postmarks_complaints_stay_and_are_no_error() -> None:
    """Its API can neither take them off nor add them again."""
    replica = Postmark("news")
    entry = {"EmailAddress": "ada@x.example", "SuppressionReason": "SpamComplaint",
             "Origin": "Recipient"}  # fmt: skip
    replica.streams["news"]["ada@x.example"] = entry
    for on in (False, True):
        change = Change("ada@x.example", Target("suppressions", "stream:news"), on)
        assert write("postmark", replica, [change]).delivered
        assert len(contents(replica)) == 1


@pytest.mark.parametrize(("name", "place"), [("mailgun", "domain:z.example"),
                                             ("postmark", "stream:z")])  # fmt: skip
def test_a_place_that_is_not_there_is_an_error(name: str, place: str) -> None:
    """Of adding and of removing: not taken for an absent address."""
    target = Target(PROVIDERS[name].lists[0], place)
    for on in (True, False):
        outcome = write(name, REPLICAS[name](), [Change("ada@x.example", target, on)])
        assert not outcome.delivered


@pytest.mark.parametrize("name", PROVIDERS)
@given(records=RECORDS)
def test_no_call_ends_at_a_list_instead_of_an_address(name: str, records: list[Suppressed]) -> None:
    """A DELETE of a whole list would clear it."""
    changes = [one for record in records for one in rules(name).of(record).changes]
    exchange = PROVIDERS[name].changes(settled(changes, PROVIDERS[name].entry), may_remove=True)
    replica = REPLICAS[name]()
    try:
        call = next(exchange)
        while True:
            if call.method == "DELETE":
                assert "%40" in call.path.rpartition("/")[2]
                assert name != "sparkpost" or "list_id=" in call.query
            call = exchange.send(answer_of(replica, call))
    except StopIteration:
        pass


@pytest.mark.parametrize("name", ["mailgun", "postmark", "sparkpost", "ses"])
@pytest.mark.parametrize("body", [b"<html>", b"[]"])
def test_nothing_is_taken_off_after_an_answer_that_is_not_understood(
    name: str, body: bytes
) -> None:
    """Nor is it taken for done."""
    targets = [Target("bounces", "domain:a.example")] if name == "mailgun" else rules(name).targets
    exchange = PROVIDERS[name].changes([Change("ada@x.example", targets[0], False)],
                                       may_remove=False)  # fmt: skip
    assert not next(exchange).writes
    with pytest.raises(StopIteration) as end:
        exchange.send(Answer(200, body))
    assert end.value.value.blame is Blame.UNKNOWN


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"Suppressions": {}}'])
def test_postmarks_addresses_are_not_blamed_for_an_answer_that_is_not_understood(
    body: bytes,
) -> None:
    """A page of a proxy, in place of what became of each: nothing would be parked for it."""
    target = Target("suppressions", "stream:outbound")
    for on, first in (
        (True, []),
        (False, [Answer(200, b'{"Suppressions": [{"EmailAddress": "ada@x.example"}]}')]),
        (True, [Answer(200, b'{"Suppressions": []}')]),
    ):
        changes = [Change("ada@x.example", target, on)]
        exchange = PROVIDERS["postmark"].changes(changes, may_remove=True)
        next(exchange)
        for answer in first:
            exchange.send(answer)
        with pytest.raises(StopIteration) as end:
            exchange.send(Answer(200, body))
        assert end.value.value.blame is Blame.UNKNOWN


@pytest.mark.parametrize("on", [True, False])
@pytest.mark.parametrize(
    ("kind", "blame", "waits"),
    [
        ("ThrottlingException", Blame.DESTINATION, True),
        ("com.amazonaws.ses#Throttling:http://x/", Blame.DESTINATION, True),
        ("ExpiredTokenException:http://x/", Blame.DESTINATION, False),
        ("IncompleteSignature", Blame.DESTINATION, False),
        ("BadRequestException", Blame.RECORD, False),
        ("", Blame.RECORD, False),
    ],
)
def test_what_ses_says_of_the_account_never_counts_against_an_address(
    kind: str, blame: Blame, waits: bool, on: bool
) -> None:
    """AWS answers 400 for some of it."""
    changes = [Change("ada@x.example", Target("BOUNCE"), on)]
    exchange = PROVIDERS["ses"].changes(changes, may_remove=on)
    next(exchange)
    with pytest.raises(StopIteration) as end:
        exchange.send(Answer(400, b"{}", {"x-amzn-errortype": kind}))
    assert end.value.value.blame is blame
    assert bool(end.value.value.hold_s) == waits
