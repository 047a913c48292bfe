"""Erased events count as before and no longer name the person; which events are erased."""

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.erasure import ERASED_KEY, Erasures, digest, link_without_address
from schemas.event import Event, message_key
from schemas.identity import address_identity
from streams.classify.mailbox import with_rules
from streams.enrich.derive import JUDGED_BOUNCES, LookUps
from streams.enrich.redaction import redact
from streams.enrich.revisions import ConsumedRecord
from streams.enrich.step import _key_of
from streams.enrich.telling import Addressee
from tests.builders import RECEIVED_AT, event
from tests.streams.folding import CODEC, LOOK_UPS, Fold, LogRecord, log_of
from tests.streams.test_step import AGENT, IPS, figures

ADA, BOB = "ada@lovelace.example", "bob@gmail.com"
LATER = RECEIVED_AT + 10 * 86_400_000_000
TEXTS = [
    json.loads(line)["text"]
    for line in (Path(__file__).parent / "diagnostics" / "examples.jsonl").read_text().splitlines()
    if "text" in line
][::7]
KINDS = (
    "delivered", "bounced", "opened", "opened", "clicked", "clicked", "complained", "unsubscribed",
    "deferred", "rejected", "failed", "sent",
)  # fmt: skip
LINKS = (
    "https://shop.example/sale?utm_source=a&email=ada%40lovelace.example",
    "https://shop.example/sale?utm_source=b&email=ada%40lovelace.example",
    "https://shop.example/unsubscribe?who=ada@lovelace.example", "https://app.example/#/cart",
    "mailto:ada@lovelace.example", None,
)  # fmt: skip
CLASSES = ("none", "hard", "soft", "block", "suppressed", "undetermined")
DOMAINS = ("lovelace.example", "gmail.com", "hotmail.fr", "hosted.example", "")
OWN = {"hosted.example": "gmail", "house.example": "house"}
NAMING = ("ada", "lovelace", "secret-id", "rfc-id", "198.51.100")


def erasures_of(*addresses: str, at: int = LATER) -> Erasures:
    """Erasures of these addresses, as of ``at`` in microseconds."""
    out = Erasures()
    for number, address in enumerate(addresses):
        digests = [digest(address_identity(address)).hex()]
        out.put(f"{number}", {"at": at, "digests": digests})
    return out


def course(dice: random.Random) -> list[Event]:
    """Events of two people, with every kind of evidence that a verdict can rest on."""
    out: list[Event] = []
    for number in range(dice.randint(1, 30)):
        kind, message = dice.choice(KINDS), dice.randint(0, 4)
        address = BOB if message == 4 else ADA
        aliased, reads = message == 2, kind in ("opened", "clicked")
        received = RECEIVED_AT + number * dice.choice([100_000, 900_000_000])
        has_id = message != 3 and (not aliased or reads or dice.random() < 0.5)
        out.append(
            event(
                event_id=f"{number:032x}", event_type=kind, received_at=received,
                occurred_at=received - dice.choice([0, 400_000, 70_000_000]),
                provider="sendgrid" if aliased else "generic",
                message_id=f"secret-id-{message}" if has_id else None,
                rfc_message_id="rfc-id" if aliased else None,
                recipient=dice.choice([address, address.upper()]),
                recipient_domain=dice.choice(DOMAINS),
                campaign_id=dice.choice([None, f"c{message}"]),
                user_agent=dice.choice([AGENT, "Mozilla/5.0", None, "curl/8"]),
                ip=dice.choice([None, *IPS]),
                click_url=dice.choice(LINKS) if kind == "clicked" else None,
                metadata={"user": "ada"},
                **(_reply(dice) if kind in JUDGED_BOUNCES else {}),
            )
        )  # fmt: skip
    return out


def _reply(dice: random.Random) -> dict[str, Any]:
    return {
        "bounce_class": dice.choice(CLASSES),
        "bounce_reason": dice.choice(["none", "other", "mailbox_full", "policy"]),
        "smtp_code": dice.choice([None, 550, 421, 250]),
        "enhanced_status": dice.choice([None, "5.1.1", "5.0.0", "4.2.2"]),
        "diagnostic": dice.choice([None, *TEXTS]),
    }


courses = st.integers(0, 2**64 - 1).map(lambda seed: course(random.Random(seed)))
"""By seed: draws of so many fields are slow."""


def as_log(records: Sequence[ConsumedRecord]) -> list[LogRecord]:
    """Records as the fold of the tests takes them."""
    return [LogRecord(one.offset, one.timestamp, one.key, one.value) for one in records]


def folded(log: list[LogRecord], look_ups: LookUps) -> Fold:
    """A fold of the whole log, published."""
    fold = Fold(look_ups)
    fold.fold(log)
    fold.checkpoint()
    return fold


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(courses, st.sampled_from([None, OWN]))
def test_redacted_events_count_as_before_and_suppress_nobody(
    events: list[Event], own: dict[str, str] | None
) -> None:
    """Counts of all, and verdicts of each; what is told of the others stays as it is."""
    look_ups = replace(LOOK_UPS, mailbox=with_rules(own)) if own else LOOK_UPS
    log = log_of(events)
    left = as_log(redact(log, erasures_of(ADA), look_ups, CODEC))
    before, after = folded(log, look_ups), folded(left, look_ups)
    assert figures(after) == figures(before)
    assert [_without_place(one) for one in after.enriched] == [
        _without_place(one) for one in before.enriched
    ]
    assert after.engagement == [one for one in before.engagement if one[0] == BOB]
    assert [one.addressee for one in after.suppressions] == [
        one.addressee for one in before.suppressions if one.addressee.identity == BOB
    ]


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(courses, st.integers(0, 30))
def test_a_rebuild_counts_as_the_fold_did_that_learned_of_the_erasure_midway(
    events: list[Event], cut: int
) -> None:
    """The enriched topic then has records of before, whole, and redacted ones."""
    erasures, log, lived = erasures_of(ADA), log_of(events), Fold()
    written = list(lived.fold(log[:cut]).enriched)
    left = redact(log[cut:], erasures, LOOK_UPS, CODEC, lived.shard)
    written += lived.fold(as_log(left)).enriched
    lived.checkpoint()
    found = []
    for key, value, timestamp in written:
        _, raw, at = CODEC.split_enriched(value)
        if at.version == at.offset:
            found.append(LogRecord(at.offset, timestamp, key, raw))
    rebuilt = folded(as_log(redact(found, erasures, LOOK_UPS, CODEC)), LOOK_UPS)
    assert figures(rebuilt) == figures(lived)
    assert not [key for key in rebuilt.disk.values if key == b"r" + digest(ADA)]


def _without_place(one: tuple[str, dict[str, Any]]) -> tuple[str, dict[str, Any]]:
    """An enrichment but for mailbox providers that have no name, and addresses in links."""
    name, added = one
    shown, link = added["mailbox_provider"], added["click_url_group"]
    return name, {
        **added, "mailbox_provider": "" if "." in shown else shown,
        "click_url_group": link_without_address(link),
    }  # fmt: skip


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(courses)
def test_nothing_of_a_redacted_record_names_the_person(events: list[Event]) -> None:
    """Neither its bytes nor its key; redacted once more it is the same; others are untouched."""
    log, erasures = log_of(events), erasures_of(ADA)
    once = redact(log, erasures, LOOK_UPS, CODEC)
    for before, after in zip(log, once, strict=True):
        if before.key == BOB.encode():
            assert after is before
            continue
        assert after.key == ERASED_KEY
        text = (after.value or b"").decode("latin-1").lower()
        assert not [name for name in NAMING if name in text]
    assert list(redact(once, erasures, LOOK_UPS, CODEC)) == list(once)


KEPT = {
    "event_id", "campaign_id", "campaign_source", "machine_kind", "user_agent", "event_type",
    "occurred_at", "received_at", "time_suspect", "provider", "source", "received_by",
    "recipient_certain", "suppression_scope", "native_type", "dedupe_quality",
    "provider_first", "batch_index",
}  # fmt: skip
"""Fields of a raw event that an erasure leaves: they tell of the message, not of the person."""


VERDICTS = {"bounce_class", "bounce_reason", "smtp_code", "enhanced_status", "geo_country"}
"""Fields in which what the streams concluded takes the place of what it was concluded from."""


def test_every_field_of_an_event_was_thought_of() -> None:
    """A new field is kept only if it is listed: whoever adds one decides it here."""
    texts = ("rfc_message_id", "diagnostic", "user_agent", "batch_id", "suppression_scope")
    full = event(
        **dict.fromkeys(texts, "text"), event_type="clicked", recipient=ADA, ip="198.51.100.1",
        recipient_domain="lovelace.example", click_url=LINKS[0], metadata={"a": "b"},
        tags=["a", ADA], provider_first=True,
    )  # fmt: skip
    (record,) = redact(log_of([full]), erasures_of(ADA), LOOK_UPS, CODEC)
    left = CODEC.decode(record.value or b"", "raw_event")
    changed = {name for name in left if left[name] != dict(full)[name]}
    assert left.keys() == KEPT | changed | VERDICTS
    assert not KEPT & changed


@pytest.mark.parametrize(
    ("occurred", "received", "erased"),
    [(-1, -1, True), (-1, 5, True), (1, -1, True), (1, 2, False), (0, 0, False)],
)
def test_what_happens_after_the_erasure_is_new(occurred: int, received: int, erased: bool) -> None:
    """A late or repeated event of before is erased; whatever the provider's clock says of one that
    had arrived."""
    one = event(recipient=ADA, occurred_at=LATER + occurred, received_at=LATER + received)
    (record,) = redact(log_of([one]), erasures_of(ADA), LOOK_UPS, CODEC)
    assert (record.key == ERASED_KEY) == erased


def reads(fold: Fold, *events: Event) -> list[bool]:
    """Folds events of after an erasure, all at once; which of them were redacted."""
    begin = fold.shard.applied + 1
    log = [replace(one, offset=one.offset + begin) for one in log_of(list(events))]
    left = redact(log, erasures_of(ADA), LOOK_UPS, CODEC, fold.shard)
    fold.fold(as_log(left))
    return [one.key == ERASED_KEY for one in left]


def test_old_mail_that_is_opened_later_brings_nobody_back() -> None:
    """Mail of after the erasure is new; that somebody must not be mailed is, of any mail."""

    def later(number: int, kind: str, message: str, at_s: int = 60) -> Event:
        at = LATER + at_s * 1_000_000
        return event(
            event_id=f"{number:032x}", event_type=kind, message_id=message, recipient=ADA,
            occurred_at=at, received_at=at, user_agent=AGENT,
        )  # fmt: skip

    fold = Fold()
    assert reads(fold, later(1, "delivered", "old", -60)) == [True]
    assert reads(fold, later(2, "opened", "old"), later(3, "complained", "old")) == [True, False]
    assert reads(fold, later(4, "opened", "unknown")) == [True]
    assert reads(fold, later(5, "delivered", "new"), later(6, "opened", "new")) == [False, False]
    assert reads(fold, later(7, "clicked", "new", 90)) == [False]
    assert reads(fold, later(8, "sent", "other", 90)) == [False]
    fold.checkpoint()
    fold.restart()
    assert reads(fold, later(9, "opened", "other", 99)) == [False]
    assert reads(fold, later(10, "clicked", "old", 99)) == [True]
    assert [one.addressee.identity for one in fold.suppressions] == [ADA]
    assert {whose for whose, _ in fold.engagement} == {ADA}


def test_an_event_with_several_possible_recipients_is_erased_too() -> None:
    """Its key is the message, so it has to be looked into."""
    one = event(recipient=ADA, recipient_certain=False)
    assert message_key(one).startswith(b"m:")
    (record,) = redact(log_of([one]), erasures_of(ADA), LOOK_UPS, CODEC)
    assert record.key == ERASED_KEY


@pytest.mark.parametrize(
    ("at_ms", "left"), [(LATER // 1000 - 1, b""), (LATER // 1000, b"\0broken")]
)
def test_an_unreadable_record_of_the_person_leaves_no_bytes(at_ms: int, left: bytes) -> None:
    """Only its key and its arrival say whose and when it is."""
    record = LogRecord(0, at_ms, ADA.encode(), b"\0broken")
    (after,) = redact([record], erasures_of(ADA), LOOK_UPS, CODEC)
    assert after.value == left
    if not left:
        fold = Fold()
        fold.fold(as_log([after]))
        assert fold.dead_letters[0]["content"] == b""


@pytest.mark.parametrize(
    ("link", "left"),
    [
        ("https://s.example/a?b=1", "https://s.example/a?b=1"),
        ("https://s.example/a?who=x%40y.example", "https://s.example/a"),
        ("https://s.example/a?who=x%2540y.example#/p", "https://s.example/a"),
        ("https://s.example/x@y.example/a", "https://s.example"),
        ("https://s.example/a?t=YWRhQGxvdmVsYWNlLmV4YW1wbGU", "https://s.example/a"),
        ("https://s.example/a?t=eyJlIjoiYWRhQGxvdmVsYWNlLmV4YW1wbGUifQ%3D%3D", "https://s.example/a"),
        ("https://s.example/a?t=abcdefghijklmnop", "https://s.example/a?t=abcdefghijklmnop"),
        ("https://s.example/YWRhQGxvdmVsYWNlLmV4YW1wbGU", "https://s.example"),
        ("mailto:x@y.example", ""), ("x@y.example", ""), ("https://[::1@", ""), ("", ""),
    ],
)  # fmt: skip
def test_a_link_keeps_what_holds_no_address(link: str, left: str) -> None:
    """However it is escaped."""
    assert link_without_address(link) == left
    assert link_without_address(left) == left


def test_without_erasures_nothing_is_looked_at() -> None:
    """The records are passed on as they are."""
    log = log_of([event()])
    assert redact(log, Erasures(), LOOK_UPS, CODEC) is log


def test_erasures_end_one_by_one() -> None:
    """The latest of a person holds; one without digests, or a tombstone, is over."""
    erasures, one = Erasures(), digest(ADA).hex()
    erasures.put("a", {"at": 5, "digests": [one]})
    erasures.put("b", {"at": 9, "digests": [one, digest(BOB).hex()]})
    assert erasures.at(ADA.encode()) == 9
    erasures.put("b", {"at": 9, "digests": []})
    assert (erasures.at(ADA.encode()), erasures.at(BOB.encode())) == (5, 0)
    erasures.put("a", None)
    assert not erasures


def test_a_digest_is_the_key_of_the_workers_state() -> None:
    """So the state of an address is found by what an erasure knows."""
    assert digest(ADA) == _key_of(Addressee(ADA))
